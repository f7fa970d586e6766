from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from mephisto.abstractions.blueprint import SharedTaskState
from mephisto.abstractions.database import MephistoDB
from mephisto.data_model.agent import Agent
from mephisto.data_model.requester import Requester
from mephisto.data_model.task_run import TaskRun
from mephisto.data_model.worker import Worker
from omegaconf import DictConfig

@dataclass
class ProviderArgs:
    requester_name: str = ...

class CrowdProvider(ABC):
    PROVIDER_TYPE: str
    RequesterClass: ClassVar[type[Requester]]
    WorkerClass: ClassVar[type[Worker]]
    AgentClass: ClassVar[type[Agent]]
    db: MephistoDB
    datastore: Any

    def __init__(self, db: MephistoDB) -> None: ...
    @classmethod
    def is_sandbox(cls) -> bool: ...
    @abstractmethod
    def setup_resources_for_task_run(
        self, task_run: TaskRun, args: DictConfig, shared_state: SharedTaskState, server_url: str
    ) -> None: ...

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mephisto.abstractions._subcomponents.agent_state import AgentState as AgentState
from mephisto.abstractions._subcomponents.task_builder import TaskBuilder as TaskBuilder
from mephisto.abstractions._subcomponents.task_runner import TaskRunner as TaskRunner
from mephisto.data_model.assignment import InitializationData
from mephisto.data_model.task_run import TaskRun
from mephisto.data_model.unit import Unit
from mephisto.data_model.worker import Worker
from omegaconf import DictConfig

@dataclass
class BlueprintArgs:
    block_qualification: str = ...

@dataclass
class SharedTaskState:
    qualifications: list[Any] = ...
    worker_can_do_unit: Callable[[Worker, Unit], bool] = ...

class BlueprintMixin(ABC): ...

class Blueprint(ABC):
    args: DictConfig
    shared_state: SharedTaskState

    def __init__(self, task_run: TaskRun, args: DictConfig, shared_state: SharedTaskState) -> None: ...
    def get_frontend_args(self) -> dict[str, Any]: ...
    @abstractmethod
    def get_initialization_data(self) -> Iterable[InitializationData]: ...

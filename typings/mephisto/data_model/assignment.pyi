from dataclasses import dataclass
from typing import Any

from mephisto.abstractions.database import MephistoDB
from mephisto.data_model._db_backed_meta import (
    MephistoDataModelComponentMixin,
    MephistoDBBackedMeta,
)
from mephisto.data_model.requester import Requester
from mephisto.data_model.task import Task
from mephisto.data_model.task_run import TaskRun

@dataclass
class InitializationData:
    shared: dict[str, Any]
    unit_data: list[dict[str, Any]]

class Assignment(MephistoDataModelComponentMixin, metaclass=MephistoDBBackedMeta):
    db: MephistoDB
    db_id: str
    task_run_id: str
    sandbox: bool
    task_id: str
    requester_id: str
    task_type: str
    provider_type: str

    def __init__(self, db: MephistoDB, db_id: str) -> None: ...
    def get_data_dir(self) -> str: ...
    def get_assignment_data(self) -> InitializationData: ...
    def write_assignment_data(self, data: InitializationData) -> None: ...
    def get_status(self) -> str: ...
    def get_task_run(self) -> TaskRun: ...
    def get_task(self) -> Task: ...
    def get_requester(self) -> Requester: ...
    @staticmethod
    def new(db: MephistoDB, task_run: TaskRun, assignment_data: dict[str, Any] | None) -> Assignment: ...

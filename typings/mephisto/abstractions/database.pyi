from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from mephisto.data_model.agent import Agent, OnboardingAgent
from mephisto.data_model.qualification import Qualification
from mephisto.data_model.requester import Requester
from mephisto.data_model.task import Task
from mephisto.data_model.task_run import TaskRun
from mephisto.data_model.unit import Unit
from mephisto.data_model.worker import Worker

class MephistoDBException(Exception): ...
class EntryDoesNotExistException(MephistoDBException): ...
class EntryAlreadyExistsException(MephistoDBException): ...

class MephistoDB(ABC):
    db_path: str

    def __init__(self, database_path: str | None = None) -> None: ...
    def get_datastore_for_provider(self, provider_type: str) -> Any: ...
    @abstractmethod
    def shutdown(self) -> None: ...
    def new_task(self, task_name: str, task_type: str, project_id: str | None = None) -> str: ...
    def get_task(self, task_id: str) -> Mapping[str, Any]: ...
    def find_tasks(self, task_name: str | None = None, project_id: str | None = None) -> list[Task]: ...
    def new_task_run(
        self,
        task_id: str,
        requester_id: str,
        init_params: str,
        provider_type: str,
        task_type: str,
        sandbox: bool = True,
    ) -> str: ...
    def get_task_run(self, task_run_id: str) -> Mapping[str, Any]: ...
    def find_task_runs(
        self, task_id: str | None = None, requester_id: str | None = None, is_completed: bool | None = None
    ) -> list[TaskRun]: ...
    def update_task_run(self, task_run_id: str, is_completed: bool) -> None: ...
    def new_assignment(
        self,
        task_id: str,
        task_run_id: str,
        requester_id: str,
        task_type: str,
        provider_type: str,
        sandbox: bool = True,
    ) -> str: ...
    def get_assignment(self, assignment_id: str) -> Mapping[str, Any]: ...
    def new_unit(
        self,
        task_id: str,
        task_run_id: str,
        requester_id: str,
        assignment_id: str,
        unit_index: int,
        pay_amount: float,
        provider_type: str,
        task_type: str,
        sandbox: bool = True,
    ) -> str: ...
    def get_unit(self, unit_id: str) -> Mapping[str, Any]: ...
    def find_units(
        self,
        task_id: str | None = None,
        task_run_id: str | None = None,
        requester_id: str | None = None,
        assignment_id: str | None = None,
        unit_index: int | None = None,
        provider_type: str | None = None,
        task_type: str | None = None,
        agent_id: str | None = None,
        worker_id: str | None = None,
        sandbox: bool | None = None,
        status: str | None = None,
    ) -> list[Unit]: ...
    def new_requester(self, requester_name: str, provider_type: str) -> str: ...
    def get_requester(self, requester_id: str) -> Mapping[str, Any]: ...
    def find_requesters(
        self, requester_name: str | None = None, provider_type: str | None = None
    ) -> list[Requester]: ...
    def new_worker(self, worker_name: str, provider_type: str) -> str: ...
    def get_worker(self, worker_id: str) -> Mapping[str, Any]: ...
    def find_workers(self, worker_name: str | None = None, provider_type: str | None = None) -> list[Worker]: ...
    def new_agent(
        self,
        worker_id: str,
        unit_id: str,
        task_id: str,
        task_run_id: str,
        assignment_id: str,
        task_type: str,
        provider_type: str,
    ) -> str: ...
    def get_agent(self, agent_id: str) -> Mapping[str, Any]: ...
    def update_agent(self, agent_id: str, status: str | None = None) -> None: ...
    def find_agents(
        self,
        status: str | None = None,
        unit_id: str | None = None,
        worker_id: str | None = None,
        task_id: str | None = None,
        task_run_id: str | None = None,
        assignment_id: str | None = None,
        task_type: str | None = None,
        provider_type: str | None = None,
    ) -> list[Agent]: ...
    def get_onboarding_agent(self, onboarding_agent_id: str) -> Mapping[str, Any]: ...
    def find_onboarding_agents(
        self,
        status: str | None = None,
        worker_id: str | None = None,
        task_id: str | None = None,
        task_run_id: str | None = None,
        task_type: str | None = None,
    ) -> list[OnboardingAgent]: ...
    def make_qualification(self, qualification_name: str) -> str: ...
    def find_qualifications(self, qualification_name: str | None = None) -> list[Qualification]: ...
    def grant_qualification(self, qualification_id: str, worker_id: str, value: int = 1) -> None: ...
    def get_granted_qualification(self, qualification_id: str, worker_id: str) -> Mapping[str, Any]: ...
    def revoke_qualification(self, qualification_id: str, worker_id: str) -> None: ...
    @abstractmethod
    def write_text(self, path_key: str, data_string: str) -> None: ...
    @abstractmethod
    def read_text(self, path_key: str) -> str: ...

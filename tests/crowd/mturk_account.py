"""A requester's account on MTurk, at the edge of its API: Mephisto's own MTurk classes, botocore's own checks of every call,
and a list of the answers that MTurk is to give. No call leaves the machine, and one that is not expected is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
from botocore.stub import Stubber
from mephisto.abstractions.databases.local_database import LocalMephistoDB
from mephisto.data_model.assignment import Assignment, InitializationData
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.data_model.task_run import TaskRun
from mephisto.data_model.unit import Unit
from mephisto.operations.registry import get_crowd_provider_from_type
from omegaconf import DictConfig, OmegaConf

from model_chat.model_chat_blueprint import BLUEPRINT_TYPE

SANDBOX_URL = "https://mturk-requester-sandbox.us-east-1.amazonaws.com"
WORKER = "A1B2C3D4E5F6G7"
HIT = "3HITAAAAAAAAAAAAAAAAAAAAAAAAAA"
ASSIGNMENT = "3ASSIGNMENTAAAAAAAAAAAAAAAAAAA"


class Account:
    """One requester with one database.

    Args:
        folder: fresh.
        sandbox: whether it is the sandbox.
        blueprint: flags below ``mephisto.blueprint``.
    """

    def __init__(self, folder: Path, sandbox: bool = True, **blueprint: Any) -> None:
        self.type = "mturk_sandbox" if sandbox else "mturk"
        self.db: Any = LocalMephistoDB(database_path=str(folder / "database.db"))
        self.provider: Any = get_crowd_provider_from_type(self.type)(self.db)
        where = {"endpoint_url": SANDBOX_URL} if sandbox else {}
        self.client = boto3.client(
            "mturk", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none", **where
        )
        self.stub = Stubber(self.client)
        self.stub.activate()
        account = self

        class Session:
            """In place of boto3's, which reads keys from the home folder."""

            def client(self, *args: Any, **kwargs: Any) -> Any:
                return account.client

        self.provider.datastore.session_storage["researcher"] = Session()
        self.requester: Any = get_crowd_provider_from_type(self.type).RequesterClass.new(self.db, "researcher")
        self.args: DictConfig = OmegaConf.create(
            {
                "provider": {"_provider_type": self.type, "requester_name": self.requester.requester_name},
                "architect": {"_architect_type": "ec2"},
                "task": {
                    "task_title": "Chat",
                    "task_description": "Chat with a partner.",
                    "task_tags": "chat,rating",
                    "task_reward": 0.5,
                    "assignment_duration_in_seconds": 1800,
                    "task_lifetime_in_seconds": 3600,
                },
                "blueprint": {"_blueprint_type": BLUEPRINT_TYPE, **blueprint},
            }
        )
        task = self.db.new_task("study", BLUEPRINT_TYPE)
        stored = json.dumps(OmegaConf.to_yaml(self.args))
        self.run: Any = TaskRun.get(
            self.db, self.db.new_task_run(task, self.requester.db_id, stored, self.type, BLUEPRINT_TYPE, sandbox)
        )

    def expect(self, operation: str, answer: dict[str, Any] | None = None, **params: Any) -> None:
        """Let MTurk answer one call, which must have exactly these parameters."""
        self.stub.add_response(operation, answer or {}, params)

    def refuse(self, operation: str, message: str, status: int = 400, code: str = "RequestError") -> None:
        """Let MTurk refuse one call."""
        self.stub.add_client_error(operation, code, message, status)

    def knows(self, name: str, mturk_id: str) -> None:
        """Let the requester have a qualification already."""
        self.provider.datastore.create_qualification_mapping(name, self.requester.db_id, name, mturk_id)

    def worker(self, worker_id: str = WORKER) -> Any:
        """A worker who arrives from MTurk's page."""
        worker_class = get_crowd_provider_from_type(self.type).WorkerClass
        return worker_class.new_from_provider_data(self.db, {"worker_name": worker_id})

    def unit(self) -> Any:
        """A unit that waits for a worker."""
        run = self.run
        ids = (run.task_id, run.db_id, run.requester_id)
        assignment = Assignment.get(self.db, self.db.new_assignment(*ids, run.task_type, self.type))
        assignment.write_assignment_data(InitializationData(shared={}, unit_data=[{}]))
        return Unit.get(self.db, self.db.new_unit(*ids, assignment.db_id, 0, 0.5, self.type, run.task_type))

    def agent(self, worker: Any | None = None) -> Any:
        """A worker's agent on a HIT, as MTurk's page registers it."""
        unit = self.unit()
        unit.set_db_status(AssignmentState.LAUNCHED)
        self.provider.datastore.new_hit(HIT, "link", 1800, self.run.db_id)
        data = {"hit_id": HIT, "assignment_id": ASSIGNMENT}
        agent_class = get_crowd_provider_from_type(self.type).AgentClass
        return agent_class.new_from_provider_data(self.db, worker or self.worker(), unit, data)

"""A task run in a real Mephisto database, without a router: agents whose page is played by a test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mephisto.abstractions.databases.local_database import LocalMephistoDB
from mephisto.data_model.assignment import Assignment, InitializationData
from mephisto.data_model.task_run import TaskRun
from mephisto.data_model.unit import Unit
from mephisto.data_model.worker import Worker
from omegaconf import DictConfig, OmegaConf

from model_chat.mephisto_task.task_runner import ModelChatTaskRunner
from model_chat.model_chat_blueprint import BLUEPRINT_TYPE, ModelChatSharedState

PASSED = "passed-onboarding"


class Run:
    """One task run.

    Args:
        folder: fresh; the database and all data go there.
        task_name: the task's, in full.
    """

    def __init__(self, folder: Path, task_name: str = "study_local") -> None:
        self.db: Any = LocalMephistoDB(database_path=str(folder / "database.db"))
        self.args: DictConfig = OmegaConf.create(
            {
                "provider": {"_provider_type": "mock", "requester_name": "requester"},
                "architect": {"_architect_type": "local"},
                "task": {
                    "task_reward": 0.5,
                    "submission_timeout": 20,
                    "assignment_duration_in_seconds": 60,
                    "maximum_units_per_worker": 0,
                    "allowed_concurrent": 0,
                },
                "blueprint": {
                    "_blueprint_type": BLUEPRINT_TYPE,
                    "onboarding_qualification": PASSED,
                    "block_qualification": "blocked",
                },
            }
        )
        requester = self.db.new_requester("requester", "mock")
        task = self.db.new_task(task_name, BLUEPRINT_TYPE)
        stored = json.dumps(OmegaConf.to_yaml(self.args))  # as Mephisto's operator does
        run = self.db.new_task_run(task, requester, stored, "mock", BLUEPRINT_TYPE)
        self.task_run = TaskRun.get(self.db, run)
        self._workers = 0

    def worker(self) -> Any:
        """A new worker."""
        self._workers += 1
        return Worker.get(self.db, self.db.new_worker(f"worker-{self._workers}", "mock"))

    def unit(self) -> Any:
        """A new unit that waits for a worker."""
        run = self.task_run
        ids = (run.task_id, run.db_id, run.requester_id)
        assignment = Assignment.get(self.db, self.db.new_assignment(*ids, run.task_type, "mock"))
        assignment.write_assignment_data(InitializationData(shared={}, unit_data=[{}]))
        unit = Unit.get(self.db, self.db.new_unit(*ids, assignment.db_id, 0, 0.5, "mock", run.task_type))
        unit.launch("http://localhost")
        return unit

    def agent(self, worker: Any = None) -> Any:
        """A worker's agent on a new unit; a new worker's if none is given."""
        from mephisto.abstractions.providers.mock.mock_agent import MockAgent

        return MockAgent.new(self.db, worker or self.worker(), self.unit())

    def onboarding_agent(self) -> Any:
        """A new worker's onboarding agent."""
        from mephisto.data_model.agent import OnboardingAgent

        return OnboardingAgent.new(self.db, self.worker(), self.task_run)

    def runner(self, shared: ModelChatSharedState) -> ModelChatTaskRunner:
        """The task's runner."""
        self.task_run.get_blueprint(args=OmegaConf.create(self.args), shared_state=shared)
        return ModelChatTaskRunner(self.task_run, self.args, shared)


def arrive(agent: Any, packet: Any) -> None:
    """Let a packet of the page arrive, as Mephisto's socket does."""
    agent.pending_actions.put(packet)
    agent.has_live_update.set()


class Page:
    """A worker's page: calls ``react`` with each update that the agent's state records; ends with the context."""

    def __init__(self, agent: Any, react: Callable[[dict[str, Any]], None]) -> None:
        self.agent = agent
        self._messages = agent.state.messages  # made here, before there are two threads
        self._react = react
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        seen = 0
        while not self._closed.wait(0.002):
            for update in self._messages[seen:]:
                seen += 1
                if "task_data" in update:
                    self._react(update)

    def __enter__(self) -> Page:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closed.set()
        self._thread.join(30)

"""A task whose participants came from a panel, in a real Mephisto database, for the requester's commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mephisto.abstractions.databases.local_database import LocalMephistoDB
from mephisto.data_model.assignment import Assignment, InitializationData
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.data_model.unit import Unit
from mephisto.operations.registry import get_crowd_provider_from_type
from omegaconf import OmegaConf

from model_chat.mephisto_task import panel_providers as panel_providers  # registers them with Mephisto
from model_chat.model_chat_blueprint import BLUEPRINT_TYPE
from model_chat.quality.blocks import find_worker
from model_chat.records.schema import Completion, Conversation, TaskDescription, Utterance
from model_chat.scripts.manage_workers import main
from model_chat.tests.crowd.prolific_server import STUDY

START = 1_760_000_000.0
TASK = "study"


@dataclass
class Said:
    """What a command ended with and printed."""

    code: int
    out: str
    err: str


class PanelTask:
    """One task. ``command`` runs scripts/manage_workers.py on it.

    Args:
        folder: fresh.
        provider: its type.
        capsys: pytest's.
        flags: below ``mephisto.provider``.
    """

    def __init__(self, folder: Path, provider: str, capsys: pytest.CaptureFixture[str], **flags: Any) -> None:
        self.folder, self.provider, self._capsys = folder, provider, capsys
        self.db: Any = LocalMephistoDB(database_path=str(folder / "database.db"))
        args = {
            "provider": {"_provider_type": provider, "requester_name": "lab", **flags},
            "architect": {"_architect_type": "local"},
            "task": {"task_title": "Chat", "task_reward": 1.5},
            "blueprint": {"_blueprint_type": BLUEPRINT_TYPE, "block_qualification": "blocked"},
        }
        requester = get_crowd_provider_from_type(provider).RequesterClass.new(self.db, "lab")
        self._task = self.db.new_task(TASK, BLUEPRINT_TYPE)
        stored = json.dumps(OmegaConf.to_yaml(OmegaConf.create(args)))
        self._ids = (self._task, self.db.new_task_run(self._task, requester.db_id, stored, provider, BLUEPRINT_TYPE))
        self._requester = requester.db_id

    def chat(
        self,
        participant: str,
        session: str | None = None,
        study: str | None = STUDY,
        minutes: float = 6.0,
        complete: bool = True,
        participation: Any = ...,
    ) -> Any:
        """Let a participant have had a conversation and handed it in; return the agent."""
        classes: Any = get_crowd_provider_from_type(self.provider)
        worker = find_worker(self.db, self.provider, participant) or classes.WorkerClass.new(self.db, participant)
        agent = classes.AgentClass.new(self.db, worker, self._unit())
        record = Conversation(
            dialog=[
                Utterance(agent_idx=0, text="Hi!", id="Speaker 1", fake_start=True, timestamp=START),
                Utterance(agent_idx=1, text="Hello.", id="Speaker 2", timestamp=START + minutes * 60),
            ],
            workers=[participant],
            acceptability_violations=[""],
            hit_ids=["1"],
            assignment_ids=["1"],
            task_description=TaskDescription(model_nickname="m"),
            status=Completion.COMPLETE if complete else Completion.INCOMPLETE,
        ).to_dict()
        if participation is ...:
            participation = {"provider": self.provider, "participant": participant, "study": study, "session": session}
        record["participation"] = participation
        agent.state.record_world_data({"custom_data": record})
        agent.update_status("completed")
        return agent

    def _unit(self) -> Any:
        task, run = self._ids
        ids = (task, run, self._requester)
        assignment = Assignment.get(self.db, self.db.new_assignment(*ids, BLUEPRINT_TYPE, self.provider))
        assignment.write_assignment_data(InitializationData(shared={}, unit_data=[{}]))
        unit = Unit.get(self.db, self.db.new_unit(*ids, assignment.db_id, 0, 1.5, self.provider, BLUEPRINT_TYPE))
        unit.set_db_status(AssignmentState.LAUNCHED)
        return unit

    def command(self, *arguments: str) -> Said:
        """Run a command on the task."""
        self._capsys.readouterr()
        code = main([arguments[0], "--task-name", TASK, "--database-path", str(self.folder), *arguments[1:]])
        printed = self._capsys.readouterr()
        return Said(code, printed.out, printed.err)

    def status(self, agent: Any) -> str:
        """The agent's in the database."""
        return str(self.db.get_agent(agent.db_id)["status"])

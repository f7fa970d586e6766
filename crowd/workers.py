"""Information on the workers of a task: their conversations, onboarding, violations, blocks, and pay."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mephisto.abstractions._subcomponents.agent_state import AgentState

from model_chat.configuration.lists import read_ids
from model_chat.crowd.ledger import Ledger
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import block_reasons, canonical_id, find_worker, is_blocked, name_of, platform_id
from model_chat.records.mephisto_database import find_database, list_agents
from model_chat.records.reading import ReadConversation, Source, UnreadableError, read_conversation
from model_chat.records.schema import Completion

FINISHED = (AgentState.STATUS_COMPLETED, AgentState.STATUS_APPROVED)
"""What can be paid; what is only completed can be approved or rejected."""


@dataclass(frozen=True)
class Participation:
    """A panel's ids of one participant's work; None where they are not saved."""

    study: str | None = None
    session: str | None = None


class Task:
    """One task in Mephisto's database.

    Args:
        database: Mephisto's ``database.db``, its folder, or None for the one of Mephisto's own configuration.
        name: in full, with its suffix (``_local``, ``_sandbox``) where there is one.

    Raises:
        ConfigurationError: there is no such database or task, or it has never been launched.
    """

    def __init__(self, database: str | Path | None, name: str) -> None:
        from mephisto.abstractions.databases.local_database import LocalMephistoDB

        self.file = find_database(database)
        self.name = name
        self._sources: dict[str, Source] = {str(source.record_id): source for source in list_agents(self.file, name)}
        self.db: Any = LocalMephistoDB(database_path=str(self.file))
        self.task_id: str = self.db.find_tasks(task_name=name)[0].db_id
        runs = self.db.find_task_runs(task_id=self.task_id)
        if not runs:
            raise ConfigurationError(f"--task-name: '{name}' has never been launched.")
        self.last_run: Any = runs[-1]
        self.requester: Any = self.last_run.get_requester()
        self.provider_type: str = self.last_run.provider_type
        self.ledger = Ledger(self.file.resolve().parent)

    def qualification(self, flag: str) -> str | None:
        """Return the name of a qualification of the last run."""
        return name_of(self.last_run.args.get("blueprint") or {}, flag)

    def find_worker(self, worker_id: str) -> Any | None:
        """Find a worker by the platform's own id."""
        return find_worker(self.db, self.provider_type, worker_id)

    def canonical(self, worker_id: str) -> str:
        """Return a worker's id in the one spelling in which ids are compared."""
        return canonical_id(self.provider_type, worker_id)

    def agents(self, statuses: Iterable[str], worker_ids: Iterable[str] | None = None) -> list[Any]:
        """Return the agents with one of the statuses, of the given workers or of all, oldest first."""
        wanted, ids = frozenset(statuses), None if worker_ids is None else frozenset(map(self.canonical, worker_ids))
        found = [agent for agent in self.db.find_agents(task_id=self.task_id) if agent.db_status in wanted]
        chosen = [agent for agent in found if ids is None or self.canonical(platform_id(agent.get_worker())) in ids]
        return sorted(chosen, key=lambda agent: int(agent.db_id))

    def conversation(self, agent_id: str) -> ReadConversation | None:
        """Return what is saved of an agent's conversation; None when there is nothing, or nothing readable."""
        source = self._sources.get(agent_id)
        try:
            return None if source is None else read_conversation(source)
        except UnreadableError:
            return None

    def participation(self, agent_id: str) -> Participation:
        """Return what a panel calls an agent's work; None for what is not saved."""
        conversation = self.conversation(agent_id)
        saved = None if conversation is None else conversation.raw.get("participation")
        given = saved if isinstance(saved, dict) else {}
        return Participation(
            *(value if isinstance(value := given.get(key), str) and value else None for key in ("study", "session"))
        )

    def seconds(self, agent_id: str) -> float:
        """Return how long an agent's conversation took: from the first thing said to the last; 0 when not known."""
        conversation = self.conversation(agent_id)
        said = [line.timestamp for line in conversation.dialog if line.timestamp] if conversation else []
        length = max(said) - min(said) if said else 0.0
        return length if math.isfinite(length) else 0.0  # the difference of two finite times may be too large


@dataclass
class WorkerSummary:
    """One row of ``manage_workers.py list``."""

    worker_id: str
    statuses: Counter[str] = field(default_factory=Counter)
    complete: int = 0
    incomplete: int = 0
    onboarding: str = ""
    violations: Counter[str] = field(default_factory=Counter)
    attention_failed: int = 0
    blocked: str = ""
    invited: bool = False
    bonus_cents: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        return {**vars(self), "statuses": dict(self.statuses), "violations": dict(self.violations)}


def summarise(task: Task) -> list[WorkerSummary]:
    """Return what is known of every worker of a task, by id."""
    rows: dict[str, WorkerSummary] = {}
    workers: dict[str, Any] = {}
    for worker, agent_id, status in _takers(task):
        worker_id = platform_id(worker)
        workers[worker_id] = worker
        row = rows.setdefault(worker_id, WorkerSummary(worker_id))
        if agent_id is None:
            continue
        row.statuses[status] += 1
        row.bonus_cents += task.ledger.cents_paid(agent_id)
        conversation = task.conversation(agent_id)
        if conversation is None:
            continue
        count_conversation(row, conversation)
    block, onboarding = task.qualification("block_qualification"), task.qualification("onboarding_qualification")
    allowed = task.qualification("allowed_worker_qualification")
    for worker_id, row in rows.items():
        worker = workers[worker_id]
        if block is not None and is_blocked(worker, block):
            row.blocked = ", ".join(block_reasons(worker, block)) or "yes"
        if onboarding is not None:
            row.onboarding = (
                "failed" if worker.is_disqualified(onboarding) else "passed" if worker.is_qualified(onboarding) else ""
            )
        row.invited = allowed is not None and worker.get_granted_qualification(allowed) is not None
    return sorted(rows.values(), key=lambda row: row.worker_id)


def count_conversation(row: WorkerSummary, conversation: ReadConversation) -> None:
    """Add one conversation to its worker's row."""
    if conversation.status is Completion.COMPLETE:
        row.complete += 1
    else:
        row.incomplete += 1
    # "unsafe:3" counts as unsafe, whichever message it was.
    names = filter(None, (conversation.acceptability_violation or "").split(","))
    row.violations.update(name.split(":")[0] for name in names)
    checks = conversation.raw.get("attention_checks")
    row.attention_failed += sum(
        isinstance(check, dict) and check.get("passed") is False
        for check in (checks if isinstance(checks, list) else ())
    )


def _takers(task: Task) -> Iterator[tuple[Any, str | None, str]]:
    """Everybody who came: with each of their agents, and those who never came further than onboarding."""
    for agent in task.db.find_agents(task_id=task.task_id):
        yield agent.get_worker(), agent.db_id, agent.db_status
    for onboarding in task.db.find_onboarding_agents(task_id=task.task_id):
        yield onboarding.get_worker(), None, onboarding.db_status


def chosen_ids(given: Iterable[str], file: str | None) -> list[str]:
    """Return worker ids from the command line and a file, each once.

    Raises:
        ConfigurationError: the file can't be read, or a line is no worker id.
    """
    listed = [] if file is None else read_ids("--file", file, "worker id")
    return list(dict.fromkeys(filter(None, [*given, *listed])))

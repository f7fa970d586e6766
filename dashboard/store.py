"""What is on disk of a study, read bit by bit: whatever has been read is not read again until it changes."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from model_chat.crowd.ledger import FILE as LEDGER_FILE
from model_chat.dashboard.entries import BEFORE_CHAT, GOING_ON, LEFT, Entry, entry_of, utc
from model_chat.dashboard.study import StudyInfo
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import SANDBOX_SUFFIX
from model_chat.records.collected import conversation_digest
from model_chat.records.mephisto_database import list_agents, open_read_only
from model_chat.records.participation import PANELS
from model_chat.records.reading import ReadingReason, Source, UnreadableError, list_files, read_conversation

logger = logging.getLogger(__name__)

ENDED = frozenset(
    {
        "completed",
        "approved",
        "rejected",
        "soft_rejected",
        "disconnect",
        "timeout",
        "partner disconnect",
        "expired",
        "returned",
    }
)
"""Statuses of agents whose part is over."""
REVIEWS = {"completed": "pending", "approved": "approved", "rejected": "rejected", "soft_rejected": "rejected"}
"""Status of an agent -> how far the review of its work is."""
MAX_TEXT_BYTES = 64 * 2**20
"""Of what was said, kept for searching; beyond it only ids are searched."""
LOOK_AGAIN_SECONDS = 10.0
"""How often agents are looked at again that have left without a conversation: it may be saved a moment later."""
PAUSE_EVERY, PAUSE_SECONDS = 50, 0.01
"""Between so many records the reader rests, so that thousands of them don't keep a processor from a run on this machine."""

_AGENTS = """
SELECT a.agent_id, a.status, a.task_run_id, a.creation_date, u.pay_amount, w.worker_name, w.provider_type
FROM agents a JOIN tasks t ON t.task_id = a.task_id
LEFT JOIN units u ON u.unit_id = a.unit_id LEFT JOIN workers w ON w.worker_id = a.worker_id
WHERE t.task_name = ? ORDER BY a.agent_id
"""
_ONBOARDINGS = """
SELECT o.status, COUNT(*) FROM onboarding_agents o JOIN tasks t ON t.task_id = o.task_id WHERE t.task_name = ?
GROUP BY o.status
"""
_BLOCKED = """
SELECT w.worker_name, w.provider_type FROM granted_qualifications g
JOIN qualifications q ON q.qualification_id = g.qualification_id JOIN workers w ON w.worker_id = g.worker_id
WHERE q.qualification_name = ?
"""


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One worker's part, as Mephisto's database has it.

    Attributes:
        arrived: epoch seconds.
        pay: hundredths of the currency for the unit.
    """

    id: str
    status: str
    worker: str
    arrived: float | None
    pay: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A conversation on the page: an entry, and what is known of the agent whose part it was.

    Attributes:
        id: ``a12`` for agent 12, ``f…`` for a conversation that only a file has.
        agent: None for a conversation that only a file has.
        bonus: hundredths of the currency.
    """

    id: str
    entry: Entry
    agent: AgentRow | None
    bonus: int = 0
    blocked: bool = False

    @property
    def review(self) -> str:
        """``pending``, ``approved``, ``rejected`` or ``none``."""
        return "none" if self.agent is None else REVIEWS.get(self.agent.status, "none")

    @property
    def signals(self) -> list[str]:
        """What speaks for a closer look."""
        return [*self.entry.signals, *(["blocked"] if self.blocked else [])]


@dataclass(frozen=True)
class Snapshot:
    """What was on disk at one moment; nothing in it changes.

    Attributes:
        number: rises with each change.
        listed: conversations, those that go on included, oldest first.
        onboarding: status -> workers.
        searchable: whether all texts are kept for searching.
    """

    number: int = 0
    listed: tuple[Listed, ...] = ()
    by_id: dict[str, Listed] = field(default_factory=dict)
    onboarding: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    searchable: bool = True


@dataclass(slots=True)
class _Kept:
    """A record that was read, and what the file was like then."""

    stamp: tuple[int, int]
    digest: str | None
    entry: Entry | None
    names_task: bool


class RecordStore:
    """Reads the records of one study. It has one owner, which calls :meth:`refresh` from one thread at a time.

    Args:
        rest: whether to pause while many records are read.
    """

    def __init__(self, study: StudyInfo, rest: bool = True) -> None:
        self._study, self._rest = study, rest
        self._folders: dict[Path, int] = {}
        self._files: dict[str, _Kept] = {}
        self._states: dict[str, _Kept] = {}
        self._agents: dict[str, AgentRow] = {}
        self._sources: dict[str, Source] = {}
        self._database_stamp: tuple[tuple[int, int], ...] | None = None
        self._ledger_stamp: tuple[int, int] | None = None
        self._bonuses: Counter[str] = Counter()
        self._blocked: frozenset[str] = frozenset()
        self._onboarding: dict[str, int] = {}
        self._looked_again = 0.0
        self._read = 0
        self._text_bytes = 0
        self.snapshot = Snapshot()

    def refresh(self) -> Snapshot:
        """Read what is new or has changed; return what there is. A record that can't be read is counted."""
        changed = self._refresh_files()
        changed |= self._refresh_database()
        changed |= self._refresh_ledger()
        if changed or self.snapshot.number == 0:
            self.snapshot = self._merged()
        return self.snapshot

    # --- files ---

    def _refresh_files(self) -> bool:
        folder = self._study.chat_data_folder
        if not folder.is_dir():
            return False
        try:
            places = [folder, *(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())]
            stamps = {place: place.stat().st_mtime_ns for place in places}
            if stamps == self._folders:
                return False
            sources = list_files([folder]).sources
        except (OSError, ConfigurationError) as error:
            logger.debug("%s can't be listed: %s", folder, error)
            return False
        # A file may be added within the resolution of the folder's time: such a folder is looked at again.
        recent = time.time_ns() - 2 * 10**9
        self._folders = {place: stamp for place, stamp in stamps.items() if stamp < recent}
        changed = False
        for source in sources:
            changed |= self._read_source(self._files, source.path, source)
        gone = self._files.keys() - {source.path for source in sources}
        for path in gone:
            del self._files[path]
        return changed or bool(gone)

    def _read_source(self, kept: dict[str, _Kept], key: str, source: Source) -> bool:
        """Read a record unless it is known as it is now; return whether anything is new."""
        try:
            status = os.stat(source.path)  # noqa: PTH116 (a plain string, thousands of times)
            stamp = status.st_mtime_ns, status.st_size
        except OSError:
            stamp = 0, -1
        known = kept.get(key)
        if known is not None and known.stamp == stamp:
            return False
        self._read += 1
        if self._rest and self._read % PAUSE_EVERY == 0:
            time.sleep(PAUSE_SECONDS)
        try:
            conversation = read_conversation(source)
            raw = conversation.raw if isinstance(conversation.raw, dict) else {}
            name = raw.get("task_name")
            if name not in (None, self._study.task_name):
                kept[key] = _Kept(stamp, None, None, False)
                return known is not None
            entry = entry_of(conversation, source)
            self._text_bytes += len(entry.text)
            if self._text_bytes > MAX_TEXT_BYTES:
                entry.text = ""
            kept[key] = _Kept(stamp, conversation_digest(raw), entry, name is not None)
        except UnreadableError as error:
            is_fault = error.reason is not ReadingReason.NO_CONVERSATION
            kept[key] = _Kept(stamp, "" if is_fault else None, None, is_fault)
        except RecursionError:
            kept[key] = _Kept(stamp, "", None, True)
        return True

    # --- Mephisto's database ---

    def _refresh_database(self) -> bool:
        path = self._study.database
        stamp = tuple(_stamp(path.with_name(path.name + ending)) for ending in ("", "-wal"))
        again = time.monotonic() >= self._looked_again + LOOK_AGAIN_SECONDS
        if not path.is_file() or (stamp == self._database_stamp and not again):
            return False
        before = self._agents, self._onboarding, self._blocked
        if stamp != self._database_stamp:
            try:
                self._query(path)
            except (sqlite3.Error, ConfigurationError) as error:
                logger.debug("%s can't be read: %s", path, error)
                return False
            self._database_stamp = stamp
        changed = before != (self._agents, self._onboarding, self._blocked)
        if again:
            self._looked_again = time.monotonic()
        for agent_id, agent in self._agents.items():
            source = self._sources.get(agent_id)
            if agent.status not in ENDED or source is None:
                continue
            known = self._states.get(agent_id)
            if known is None or again:
                changed |= self._read_source(self._states, agent_id, source)
        return changed

    def _query(self, path: Path) -> None:
        with open_read_only(path) as connection:
            rows = connection.execute(_AGENTS, (self._study.task_name,)).fetchall()
            self._onboarding = dict(connection.execute(_ONBOARDINGS, (self._study.task_name,)).fetchall())
            blocked = connection.execute(_BLOCKED, (self._study.block_qualification,)).fetchall()
        self._agents = {
            str(agent_id): AgentRow(
                str(agent_id), status, _own_id(worker, provider), utc(created), round((pay or 0) * 100), str(run_id)
            )
            for agent_id, status, run_id, created, pay, worker, provider in rows
        }
        self._blocked = frozenset(_own_id(worker, provider) for worker, provider in blocked)
        if self._agents.keys() - self._sources.keys():
            sources = list_agents(path, self._study.task_name, unknown_task_ok=True)
            self._sources = {str(source.record_id): source for source in sources}

    # --- bonuses ---

    def _refresh_ledger(self) -> bool:
        path = self._study.database.parent / LEDGER_FILE
        stamp = _stamp(path)
        if stamp == self._ledger_stamp or not path.is_file():
            return False
        try:
            with open_read_only(path) as connection:
                rows = connection.execute("SELECT agent_id, SUM(cents) FROM bonuses GROUP BY agent_id").fetchall()
        except sqlite3.Error as error:
            logger.debug("%s can't be read: %s", path, error)
            return False
        self._ledger_stamp = stamp
        self._bonuses = Counter({str(agent_id): cents for agent_id, cents in rows})
        return True

    # --- both together ---

    def _merged(self) -> Snapshot:
        """Put both records of each conversation together."""
        of_file = {kept.digest: kept for kept in self._files.values() if kept.entry is not None}
        listed: list[Listed] = []
        seen: set[str] = set()
        for agent_id, agent in self._agents.items():
            kept = self._states.get(agent_id)
            entry = None if kept is None else kept.entry
            if kept is not None and kept.digest:
                seen.add(kept.digest)
                in_file = of_file.get(kept.digest)
                if in_file is not None and entry is not None and in_file.entry is not None:
                    entry.source = in_file.entry.source  # the smaller one
            if entry is None:
                going_on = agent.status not in ENDED
                entry = Entry(
                    self._sources.get(agent_id, Source("")),
                    agent.worker,
                    "",
                    status=GOING_ON if going_on else LEFT,
                    started=agent.arrived,
                    left_at=None if going_on else BEFORE_CHAT,
                )
            blocked = entry.worker in self._blocked
            listed.append(Listed(f"a{agent_id}", entry, agent, self._bonuses[agent_id], blocked))
        for path, kept in self._files.items():
            if kept.entry is None or kept.digest in seen:
                continue
            # The original's files name no task: beside agents of this one they may be another's.
            if self._agents and not kept.names_task:
                continue
            seen.add(kept.digest or "")
            blocked = kept.entry.worker in self._blocked
            listed.append(Listed(f"f{(kept.digest or path)[:24]}", kept.entry, None, 0, blocked))
        listed.sort(key=lambda one: (one.entry.started or 0.0, one.id))
        faulty = sum(kept.digest == "" for kept in (*self._files.values(), *self._states.values()))
        return Snapshot(
            self.snapshot.number + 1,
            tuple(listed),
            {one.id: one for one in listed},
            dict(self._onboarding),
            faulty,
            self._text_bytes <= MAX_TEXT_BYTES,
        )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, -1
    return status.st_mtime_ns, status.st_size


def _own_id(worker: object, provider: object) -> str:
    """The platform's own id of a worker, from Mephisto's name (:func:`model_chat.quality.blocks.platform_id`)."""
    name, provider = str(worker or ""), str(provider or "")
    if provider in PANELS:
        return name.removeprefix(f"{provider}:")
    return name.removesuffix(SANDBOX_SUFFIX) if provider in ("mock", "mturk_sandbox") else name

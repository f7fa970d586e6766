"""The quota where finished conversations are annotated: each is given to so many different people, and nobody twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model_chat.conversation.quota import ModelCount, Outlook, Reservation
from model_chat.records.journal import Journal, read_journal

if TYPE_CHECKING:
    from model_chat.records.conversation_logs import LoggedConversation

GIVEN = "given"
"""The event of ``allocation.jsonl`` that says who was given which finished conversation."""


class AnnotationQuota:
    """Gives out finished conversations (:class:`~model_chat.conversation.quota.Quota`).

    The conversation with the fewest annotations, finished and in flight, comes first, so that all fill evenly; among
    those, the order is drawn once. Who was given a conversation is on disk before it is shown, so that nobody ever gets it
    again, whatever happens to the run: the records alone would not tell who left before they had done anything.

    ``_lock`` guards all counts and the journal: a conversation is chosen, put on disk and counted under it.

    Args:
        annotators: different people wanted for each.
        per_worker: most conversations of one person; 0: no limit.
        path: of ``allocation.jsonl``; nothing is written before the first draw.
        task_name: in full; the file may hold other tasks' events, too.
        kept: ``(worker, sha256, whether it is complete)`` of each annotation in the records.
        seed: of the order in which equally needed conversations are given out.
    """

    def __init__(
        self,
        logs: Sequence[LoggedConversation],
        annotators: int,
        per_worker: int,
        path: Path,
        task_name: str,
        kept: Iterable[tuple[str, str, bool]] = (),
        seed: int = 42,
    ) -> None:
        self._lock = threading.Lock()
        self._logs = list(logs)
        random.Random(seed).shuffle(self._logs)
        self._annotators, self._per_worker = annotators, per_worker
        self._task_name = task_name
        self._journal = Journal(path)
        self._done = {logged.sha256: 0 for logged in logs}
        self._in_flight = dict.fromkeys(self._done, 0)
        self._given: dict[str, set[str]] = {logged.sha256: set() for logged in logs}
        """Conversation -> who can't be given it (any more)."""
        self._of_worker: Counter[str] = Counter()
        """Annotations of each person, finished and in flight."""
        self._finished_by: Counter[str] = Counter()
        for logged in logs:
            if logged.worker_id is not None:  # they would judge their own conversation
                self._given[logged.sha256].add(logged.worker_id)
        for worker, sha256, complete in kept:
            if sha256 in self._given:
                self._given[sha256].add(worker)
                self._done[sha256] += complete
                self._of_worker[worker] += complete
                self._finished_by[worker] += complete
        for entry in read_journal(path):
            if entry.get("task") == self._task_name and entry.get("event") == GIVEN:
                self._given.get(str(entry.get("log")), set()).add(str(entry.get("worker_id")))

    def take(self, worker: str) -> Reservation[LoggedConversation] | None:
        """Give a person the conversation that needs annotations most, of those that are new to them.

        Raises:
            OSError: it could not be put on disk, and does not count.
        """
        with self._lock:
            if self._is_at_limit(worker):
                return None
            logged = min(self._open(worker), key=self._taken, default=None)
            if logged is None:
                return None
            entry = {"task": self._task_name, "event": GIVEN, "worker_id": worker, "log": logged.sha256}
            self._journal.append([entry], durable=True)
            self._given[logged.sha256].add(worker)
            self._in_flight[logged.sha256] += 1
            self._of_worker[worker] += 1
            return Reservation(logged.model_nickname, worker, logged, self._end)

    def _is_at_limit(self, worker: str) -> bool:
        return bool(self._per_worker) and self._of_worker[worker] >= self._per_worker

    def _taken(self, logged: LoggedConversation) -> int:
        return self._done[logged.sha256] + self._in_flight[logged.sha256]

    def _open(self, worker: str) -> list[LoggedConversation]:
        """Conversations that are new to a person and need one more annotation."""
        return [
            logged
            for logged in self._logs
            if self._taken(logged) < self._annotators and worker not in self._given[logged.sha256]
        ]

    def _end(self, reservation: Reservation[LoggedConversation], collected: bool) -> None:
        with self._lock:
            if reservation.is_ended:
                return
            reservation.is_ended = True
            worker, sha256 = reservation.worker, reservation.subject.sha256
            self._in_flight[sha256] -= 1
            self._done[sha256] += collected
            self._finished_by[worker] += collected
            if not collected:
                self._of_worker[worker] -= 1

    def outlook(self, worker: str) -> Outlook:
        """Say what there is for a person; takes nothing."""
        with self._lock:
            if not self._is_at_limit(worker) and self._open(worker):
                return Outlook.WORK
            if self._per_worker and self._finished_by[worker] >= self._per_worker:
                return Outlook.NOTHING
            later = any(
                self._done[logged.sha256] < self._annotators and worker not in self._given[logged.sha256]
                for logged in self._logs
            )
            return Outlook.LATER if later else Outlook.NOTHING

    def counts(self) -> list[ModelCount]:
        """Return how far the conversations with each model are, in annotations."""
        with self._lock:
            done, in_flight, needed = Counter[str](), Counter[str](), Counter[str]()
            for logged in self._logs:
                done[logged.model_nickname] += self._done[logged.sha256]
                in_flight[logged.model_nickname] += self._in_flight[logged.sha256]
                needed[logged.model_nickname] += self._annotators
            return [ModelCount(name, done[name], in_flight[name], needed[name]) for name in sorted(needed)]

    def extend(self, more: int) -> int:
        """Want no more: how many annotate each conversation is said by the study's own flags."""
        del more
        return 0

    def remaining(self) -> int:
        """Return how many annotations are still wanted, those in flight included."""
        with self._lock:
            return sum(max(0, self._annotators - done) for done in self._done.values())

    def wanted(self) -> int:
        """Return how many annotations are wanted in all."""
        return self._annotators * len(self._logs)

    def notes(self) -> list[str]:
        """Return how many conversations have all annotations."""
        with self._lock:
            full = sum(done >= self._annotators for done in self._done.values())
        return [f"conversations with all {self._annotators} annotations: {full} of {len(self._logs)}"]

    def close(self) -> None:
        """Close the journal."""
        with self._lock:
            self._journal.close()

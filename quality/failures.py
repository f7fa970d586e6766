"""Conversations that broke down without the worker's fault: when a study, or one worker, gets no replacements any more."""

from __future__ import annotations

import threading
from collections import Counter

MOST_WORKERS_IN_A_ROW = 10
"""After failures with more workers than these, and no success with any in between, the model is taken for broken."""
MOST_OF_A_WORKER = 3
"""After so many failures in a row with one worker, it is most likely what they send that the model can't take."""


class Failures:
    """The conversations that failed since the last one that was collected, by worker. Thread-safe; ``_lock`` guards all.

    A failed conversation is paid and replaced. What one worker sends can make a model fail again and again: such a worker
    gets no more conversations of the run, and counts once towards the end of replacing, so that they can't end the study.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers_in_a_row: set[str] = set()
        self._of_worker: Counter[str] = Counter()

    def failed(self, worker_id: str) -> None:
        """Count a conversation that broke down."""
        with self._lock:
            self._workers_in_a_row.add(worker_id)
            self._of_worker[worker_id] += 1

    def collected(self, worker_id: str) -> None:
        """Note that a conversation went well."""
        with self._lock:
            self._workers_in_a_row.clear()
            self._of_worker.pop(worker_id, None)

    def too_many(self) -> bool:
        """Whether so many workers' conversations failed in a row that none is to be replaced any more."""
        with self._lock:
            return len(self._workers_in_a_row) > MOST_WORKERS_IN_A_ROW

    def too_many_of(self, worker_id: str) -> bool:
        """Whether a worker's conversations failed so often in a row that they get no more in this run."""
        with self._lock:
            return self._of_worker[worker_id] >= MOST_OF_A_WORKER

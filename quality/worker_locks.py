"""A lock per worker, for checks that are followed by an action."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class WorkerLocks:
    """Locks by worker; one exists only as long as somebody holds it or waits for it. ``_lock`` guards the table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def holding(self, worker_id: str) -> Iterator[None]:
        """Hold the lock of a worker; it can't be taken twice by one thread."""
        with self._lock:
            lock, users = self._in_use.get(worker_id, (threading.Lock(), 0))
            self._in_use[worker_id] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                users = self._in_use[worker_id][1] - 1
                if users:
                    self._in_use[worker_id] = lock, users
                else:
                    del self._in_use[worker_id]

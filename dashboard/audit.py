"""The audit log: who did what on the dashboard, when, and what it was before and after."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson

from model_chat.errors import ConfigurationError
from model_chat.records.append_only_log import AppendOnlyLog
from model_chat.records.journal import AUDIT_NAME, read_journal
from model_chat.records.locks import LockedError, hold

logger = logging.getLogger(__name__)

WAIT_SECONDS, STEP_SECONDS = 20.0, 0.05


class AuditLog:
    """A file of JSON lines beside the conversations (``dashboard_audit.jsonl``), for one study. Its owner locks.

    Args:
        task_name: whose acts are meant; the file may hold other tasks' acts, too.
    """

    def __init__(self, folder: Path, task_name: str) -> None:
        self.path = folder / AUDIT_NAME
        self._task_name = task_name
        self._stamp: tuple[int, int] | None = None
        self._entries: list[dict[str, Any]] = []

    def entries(self) -> list[dict[str, Any]]:
        """Return this task's acts, oldest first; the file is read again only when it has changed."""
        try:
            status = self.path.stat()
            stamp = status.st_mtime_ns, status.st_size
        except OSError:
            return []
        if stamp != self._stamp:
            try:
                lines = read_journal(self.path)
            except OSError as error:
                logger.error("%s can't be read (%s)", self.path, error)
                return self._entries
            merged: dict[str, dict[str, Any]] = {}
            for number, entry in enumerate(lines):
                if entry.get("task") == self._task_name:
                    # An act is written when it begins and when it is over; the second line counts.
                    merged[str(entry.get("key") or number)] = entry
            self._entries, self._stamp = list(merged.values()), stamp
        return self._entries

    def about(self, target: str) -> list[dict[str, Any]]:
        """Return the acts on one conversation, oldest first."""
        return [shown(entry) for entry in self.entries() if entry.get("target") == target]

    def add(self, **entry: Any) -> None:
        """Write an act down; it is on disk when this returns.

        Raises:
            OSError: it can't be written.
        """
        line = orjson.dumps(
            {"task": self._task_name, "when": round(time.time(), 3), **entry}, option=orjson.OPT_APPEND_NEWLINE
        )
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = AppendOnlyLog(self.path)
        try:
            log.append_lines(line, durable=True)
        finally:
            log.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the right to act, which one dashboard has at a time: what is checked stays true until the act is done.

        Raises:
            ConfigurationError: another dashboard does not finish its act.
        """
        end = time.monotonic() + WAIT_SECONDS
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(hold(self.path.with_suffix(".lock"), alone=True))
                    break
                except LockedError:
                    if time.monotonic() > end:
                        raise ConfigurationError("Another dashboard is acting on this study; try again.") from None
                    time.sleep(STEP_SECONDS)
            yield


def shown(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an act as the page gets it."""
    keys = ("when", "who", "role", "act", "target", "before", "after", "reason", "amount", "outcome")
    return {**{key: entry.get(key) for key in keys}, "worker": entry.get("participant")}

"""An append-only journal of one conversation: each line is on disk before anybody is told of it.

A journal is a file of JSON lines. It lies beside the state that Mephisto keeps of an agent and holds what was said since
that state was last written whole; writing a turn costs one append, however long the conversation is.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from model_chat.records.append_only_log import AppendOnlyLog

logger = logging.getLogger(__name__)

JOURNAL_NAME = "journal.jsonl"
ALLOCATION_NAME = "allocation.jsonl"
"""Beside the conversations: who got which condition of a study's design."""
AUDIT_NAME = "dashboard_audit.jsonl"
"""Beside the conversations: who approved, rejected, paid and blocked on the dashboard."""
ATTEMPTS = 4
PAUSE_SECONDS = 0.5
"""Between two attempts: a disk that is full for a moment costs a worker two seconds rather than the conversation."""


class Journal(AppendOnlyLog):
    """Writes one journal. Its owner calls it from one thread at a time (:class:`ModelChatAgentState` under its lock)."""

    def append(self, entries: Iterable[Mapping[str, Any]], durable: bool) -> None:
        """Append entries of JSON types, all or none.

        Args:
            durable: see :meth:`append_lines`; it is tried several times, and each other append once.

        Raises:
            OSError: they can't be written; the journal is as it was before.
        """
        lines = b"".join(map(_line, entries))
        for attempts_left in reversed(range(ATTEMPTS if durable else 1)):
            try:
                self.append_lines(lines, durable)
                return
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    self.close()  # deleted: the next attempt makes it anew
                if not attempts_left:
                    raise
                time.sleep(PAUSE_SECONDS)


def _line(entry: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # half an emoji, which ASCII can hold, or a number of more than 64 bits
        return json.dumps(entry).encode("ascii") + b"\n"


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Read what a journal holds; no journal is an empty one, and half a last line was never acknowledged.

    Raises:
        OSError: the file is there and can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    entries = []
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            logger.warning("%s holds half a line; it was never acknowledged and is left out", path)
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries

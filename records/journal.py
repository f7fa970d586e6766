"""An append-only journal of one conversation: each line is on disk before anybody is told of it.

A journal is a file of JSON lines. It lies beside the state that Mephisto keeps of an agent and holds what was said since
that state was last written whole; writing a turn costs one append, however long the conversation is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from model_chat.records.writing import sync_folder

logger = logging.getLogger(__name__)

JOURNAL_NAME = "journal.jsonl"
ALLOCATION_NAME = "allocation.jsonl"
"""Beside the conversations: who got which condition of a study's design."""
ATTEMPTS = 4
PAUSE_SECONDS = 0.5
"""Between two attempts: a disk that is full for a moment costs a worker two seconds rather than the conversation."""


class Journal:
    """Writes one journal. Its owner calls it from one thread at a time (:class:`ModelChatAgentState` under its lock).

    The file is opened at the first line, and readable by its owner only.

    Args:
        path: of the file; its folder must exist when the first line is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._length = 0
        self._is_named = False
        self._has_tail = False

    def append(self, entries: Iterable[Mapping[str, Any]], durable: bool) -> None:
        """Append lines, all or none.

        Args:
            entries: JSON types only.
            durable: whether they, and everything before them, have to survive a power cut when this returns; a line
                survives the process's death in any case.

        Raises:
            OSError: they can't be written, if ``durable`` after several attempts; the journal is as it was before.
        """
        lines = b"".join(map(_line, entries))
        for attempt in range(ATTEMPTS):
            try:
                self._append(lines, durable)
                return
            except OSError:
                if not durable or attempt == ATTEMPTS - 1:
                    raise
                time.sleep(PAUSE_SECONDS)

    def _append(self, lines: bytes, durable: bool) -> None:
        if self._descriptor is None:
            self._descriptor = self._open()
        if self._has_tail:  # an append failed and could not be taken back: its half line must not precede these
            os.ftruncate(self._descriptor, self._length)
            self._has_tail = False
        try:
            written = 0
            while written < len(lines):  # a disk that fills up takes part of them
                written += os.write(self._descriptor, lines[written:])
            if durable:
                os.fdatasync(self._descriptor)
                if not self._is_named:  # the file's name has to survive, too
                    sync_folder(self.path.parent)
                    self._is_named = True
        except OSError:
            self._has_tail = True
            self._drop_tail()
            raise
        self._length += len(lines)

    def _drop_tail(self) -> None:
        """Take back what a failed append has left; if that fails too, the next append does it, or fails as well."""
        if self._has_tail and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._length)
                self._has_tail = False

    def _open(self) -> int:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._has_tail = False
        try:
            self._length = os.fstat(descriptor).st_size
            if self._length and not _ends_with_newline(self.path):
                self._length += os.write(descriptor, b"\n")  # half a line, left by a power cut, stays a line of its own
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def close(self) -> None:
        """Close the file; another line opens it again."""
        self._drop_tail()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Close and delete the file, since all that it holds has been written elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


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


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

"""The stack's journal: what has changed since ``stack.json`` was last written, one line a batch of changes.

Format (text, append only)::

    <crc32, 8 hex digits> <JSON>\\n

The first line holds a :class:`Header`, each further one a list of changes ``[verb, image, model, worker]`` that were
made durable together. A batch is one line and is written only after the batch before it has been synced, so that a
crash can damage the last line and no other. A change sets a state rather than counting one up: to replay changes that
``stack.json`` already holds gives the same stack, which is why the two files need not change in one step.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from model_chat.errors import ModelChatError
from model_chat.records.append_only_log import AppendOnlyLog

FORMAT = 1
"""Version of the journal's format, in its header."""


class DamagedJournalError(ModelChatError, ValueError):
    """A journal is broken in a way that no crash leaves behind; the message says where."""


class Verb(StrEnum):
    """What can happen to a place."""

    TAKE = "take"
    """The worker has been given the image and the model."""
    FINISH = "finish"
    """The conversation is complete: it keeps its place for good."""
    GIVE_BACK = "give back"
    """The conversation wasn't finished; the worker has seen the image."""
    GIVE_BACK_UNSEEN = "give back unseen"
    """The conversation wasn't finished, and the worker never saw the image."""


class Place(NamedTuple):
    """One worker's conversation about one image with one model."""

    image_idx: int
    model: str
    worker: str


class Change(NamedTuple):
    """One thing that happened to a place."""

    verb: Verb
    place: Place


@dataclass
class Header:
    """What ``stack.json`` has no room for, as of the moment when the journal was started."""

    num_images: int
    models: list[str]
    images_id: str | None = None
    """Says which images these are (see ``ImageStack``), or None."""
    in_flight: list[Place] = field(default_factory=list)
    """Places taken by conversations of which nobody has said yet how they ended."""
    seen: dict[str, list[int]] = field(default_factory=dict)
    """Worker -> images that they saw but hold no place of (any more)."""


def _line(content: Any) -> bytes:
    text = orjson.dumps(content)
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _content(line: bytes) -> Any:
    """Return what a line (without its newline) holds.

    Raises:
        ValueError: the line is damaged.
    """
    checksum, text = line[:8], line[9:]
    if line[8:9] != b" " or int(checksum, 16) != zlib.crc32(text):
        raise ValueError("checksum")
    return orjson.loads(text)


class Journal:
    """The open journal of a stack: appends batches of changes and syncs each. Not thread-safe; its owner locks.

    Args:
        path: the journal's file; a new one is started there, replacing what was there.

    Raises:
        OSError: the file can't be written.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.changes = 0
        """How many changes have been appended."""
        in_flight = [list(place) for place in header.in_flight]
        self._log = AppendOnlyLog.start(path, _line({"format": FORMAT, **vars(header), "in_flight": in_flight}))

    def append(self, changes: Sequence[Change]) -> None:
        """Write the changes as one line; on return they are on disk.

        Raises:
            OSError: they are not; the journal is as it was, and a later call may work.
        """
        self._log.append_lines(_line([[change.verb, *change.place] for change in changes]), durable=True)
        self.changes += len(changes)

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def read_journal(path: Path) -> tuple[Header | None, list[Change]]:
    """Read a journal, leaving out a last line that a crash cut off.

    Returns:
        the header, or None where there is no journal (or nothing of one but a cut-off first line), and the changes.

    Raises:
        DamagedJournalError: a line is damaged though sound ones follow it, or the contents are not a journal's.
        OSError: the file is there but can't be read.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None, []
    contents: list[Any] = []
    lines = raw.split(b"\n")
    whole = lines[:-1]  # the last element has no newline behind it: it is empty, or cut off
    for number, line in enumerate(whole, 1):
        try:
            contents.append(_content(line))
        except ValueError:
            if any(_is_sound(later) for later in whole[number:]):
                raise DamagedJournalError(f"line {number} is damaged, sound ones follow it") from None
            break
    if not contents:
        return None, []
    try:
        header = _header(contents[0])
        changes = [
            Change(Verb(verb), Place(int(image_idx), str(model), str(worker)))
            for batch in contents[1:]
            for verb, image_idx, model, worker in batch
        ]
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedJournalError(f"its contents are not a journal's ({error})") from None
    return header, changes


def _is_sound(line: bytes) -> bool:
    try:
        _content(line)
    except ValueError:
        return False
    return True


def _header(content: dict[str, Any]) -> Header:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}; this version reads format {FORMAT}")
    return Header(
        num_images=int(content["num_images"]),
        models=list(content["models"]),
        images_id=content["images_id"],
        in_flight=[Place(*place) for place in content["in_flight"]],
        seen={worker: list(images) for worker, images in content["seen"].items()},
    )

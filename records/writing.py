"""Write files whole and durably, and finished conversations as files that never replace another."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import orjson

LIVE, SANDBOX = "live", "sandbox"


def save_conversation(chat_data_folder: Path, conversation: Mapping[str, Any], live: bool) -> Path:
    """Save one conversation as ``<folder>/<YYYY_MM_DD>/<YYYYMMDD_HHMMSS>_<unique>_<live|sandbox>.json``.

    Args:
        chat_data_folder: made if it isn't there.
        conversation: JSON types only.
        live: whether real crowd work was paid for.

    Returns:
        the file's path. When this returns, the file is on disk.

    Raises:
        OSError: the file can't be written; nothing is left behind.
        TypeError, ValueError: ``conversation`` is not JSON.
    """
    now = time.localtime()
    folder = chat_data_folder / time.strftime("%Y_%m_%d", now)
    name = f"{time.strftime('%Y%m%d_%H%M%S', now)}_{uuid4().hex}_{LIVE if live else SANDBOX}.json"
    _make_folder(folder)
    return write_new_file(folder / name, _readable(conversation))


def _readable(conversation: Mapping[str, Any]) -> bytes:
    """A conversation as JSON that people can read, too.

    Raises:
        TypeError, ValueError: it is not JSON.
    """
    plain = json.dumps(conversation, allow_nan=False)  # refuses what orjson would write as null
    try:
        return orjson.dumps(conversation, option=orjson.OPT_INDENT_2)
    except orjson.JSONEncodeError:  # half an emoji, which ASCII can hold, or a number of more than 64 bits
        return json.dumps(json.loads(plain), indent=2).encode("ascii")


@contextmanager
def whole_file(path: Path, private: bool = True, durable: bool = True, new: bool = False) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing so that it is there whole or not at all: temporary file, fsync, rename.

    The new name survives a power cut only once the caller has called :func:`sync_folder` after the block.

    Args:
        path: its folder must exist.
        private: whether only its owner may read it; else it gets the permissions of any new file of the user.
        durable: whether the content has to be on disk before the file has its name.
        new: whether the name must be free; else what was there is replaced.

    Raises:
        FileExistsError: ``new``, and the name is taken; what is there is left as it is.
        OSError: it can't be written; what was there is left as it is.
    """
    temporary = path.with_name(f".{uuid4().hex}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if new:
            os.link(temporary, path)  # unlike rename, never replaces a file
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_new_file(path: Path, data: bytes) -> Path:
    """Write a file that is not there yet, readable by its owner only; it is on disk when this returns.

    Raises:
        FileExistsError: ``path`` exists already; it is left as it is.
        OSError: it can't be written; nothing is left behind.
    """
    with whole_file(path, new=True) as file:
        file.write(data)
    try:
        sync_folder(path.parent)
    except OSError:
        path.unlink(missing_ok=True)  # else a file that the caller takes for missing would be counted all the same
        raise
    return path


def replace_file(path: Path, data: bytes, durable: bool = True) -> None:
    """Write ``path`` whole in the place of what was there, readable by its owner only.

    Args:
        path: its folder must exist.
        durable: whether it has to survive a power cut (fsync); it survives the process's death in any case.

    Raises:
        OSError: it can't be written; what was there is left as it is, unless the folder can't be synced.
    """
    with whole_file(path, durable=durable) as file:
        file.write(data)
    if durable:
        sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """Make ``folder``, and those above it, for its owner only and so that each new one survives a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new name in ``folder`` survive a power cut.

    Raises:
        OSError: the folder can't be synced.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

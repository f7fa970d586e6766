"""Write finished conversations as files, atomically; no file ever replaces another."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
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


def write_new_file(path: Path, data: bytes) -> Path:
    """Write ``path`` whole: temporary file, fsync, then a link that fails if the name is taken.

    The file is readable by its owner only: it holds what people wrote.

    Raises:
        FileExistsError: ``path`` exists already; it is left as it is.
        OSError: it can't be written; nothing is left behind.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike rename, never replaces a file
    finally:
        Path(temporary).unlink(missing_ok=True)
    try:
        sync_folder(path.parent)
    except OSError:
        path.unlink(missing_ok=True)  # else a file that the caller takes for missing would be counted all the same
        raise
    return path


def replace_file(path: Path, data: bytes, durable: bool) -> None:
    """Write ``path`` whole in the place of what was there: temporary file, then a rename. Its folder must exist.

    Args:
        path: readable by its owner only afterwards.
        data: the whole new content.
        durable: whether it has to survive a power cut (fsync); it survives the process's death in any case.

    Raises:
        OSError: it can't be written; what was there is left as it is.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
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

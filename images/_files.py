"""Atomic and durable writing of files."""

from __future__ import annotations

import os
from pathlib import Path

from model_chat.records.writing import sync_folder as sync_folder

PARTIAL = ".partial"
"""Suffix of a file that is still being written; what a crash leaves behind under this name is never read."""


def write_whole(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, durably: written beside it, synced, renamed.

    Raises:
        OSError: it could not be written; what was at ``path`` before is still there.
    """
    partial = path.with_name(path.name + PARTIAL)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    put_in_place(partial, path)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a finished and synced file to its final name, and make the renaming itself durable."""
    partial.replace(path)
    sync_folder(path.parent)


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte; ``os.write`` may take only some of them."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]

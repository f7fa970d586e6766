"""An append-only log: lines are added all or none, and are on disk when the caller is told so."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Self

from model_chat.records.writing import sync_folder, whole_file


class AppendOnlyLog:
    """A file of lines that is only ever appended to, readable by its owner only. Not thread-safe; its owner locks.

    * Lines whose append failed are taken back, and never precede later ones.
    * Half a line that a power cut left at the end becomes a line of its own when the file is opened; readers leave it out.
    * A durable append also makes the file's name durable, once.
    * A file that was deleted takes no lines.

    Args:
        path: opened at the first append, and made where it is missing; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._length = 0
        self._is_named = False
        self._has_tail = False

    @classmethod
    def start(cls, path: Path, first: bytes) -> Self:
        """Start a log with its first line in the place of whatever was at ``path``, whole or not at all.

        The line is on disk when this returns; the file's name is from the first durable append on.

        Raises:
            OSError: it can't be written; what was there is left as it is.
        """
        log = cls(path)
        try:
            with whole_file(path) as file:
                file.write(first)
                # Before it has its name: from the rename on this file is the log, and nothing more can fail.
                log._descriptor = os.dup(file.fileno())
        except BaseException:
            log.close()
            raise
        return log

    def append_lines(self, lines: bytes, durable: bool) -> None:
        """Append lines, all or none.

        Args:
            lines: each with its newline.
            durable: whether they, and everything before them, have to survive a power cut when this returns; a line
                survives the process's death in any case.

        Raises:
            FileNotFoundError: the file was deleted after it had been opened.
            OSError: they can't be written; the log is as it was before.
        """
        if self._descriptor is None:
            self._descriptor = self._open()
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "it has been deleted", str(self.path))
        if self._has_tail:  # an append failed and could not be taken back: its half line must not precede these
            os.ftruncate(self._descriptor, self._length)
            self._has_tail = False
        else:
            self._length = status.st_size
        try:
            if durable and not self._is_named:
                sync_folder(self.path.parent)
                self._is_named = True
            write_all(self._descriptor, lines)
            if durable:
                os.fdatasync(self._descriptor)
        except BaseException:  # Ctrl-C, too, must leave no half line
            self._has_tail = True
            self._drop_tail()
            raise

    def _drop_tail(self) -> None:
        """Take back what a failed append has left; if that fails too, the next append does it, or fails as well."""
        if self._has_tail and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._length)
                self._has_tail = False

    def _open(self) -> int:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._has_tail = self._is_named = False
        try:
            length = os.fstat(descriptor).st_size
            if length and os.pread(descriptor, 1, length - 1) != b"\n":
                os.write(descriptor, b"\n")
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def close(self) -> None:
        """Close the file; another append opens it again."""
        self._drop_tail()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte; ``os.write`` may take only some of them, on a disk that fills up."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]

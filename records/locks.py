"""Locks of the operating system: runs share what they write to, and who changes all records needs it alone.

A lock ends with the process that holds it, however that ends. Where the file system has no locks (some network file
systems), there is none to hold, and the caller continues without it, unless it says that it needs the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from model_chat.errors import ConfigurationError, ModelChatError

logger = logging.getLogger(__name__)

LOCKS_FOLDER = "model_chat_locks"
"""In Mephisto's data folder: a file for each task that has run, and :data:`DATA_LOCK`."""
DATA_LOCK = "all_runs.lock"
STACK_LOCK = "stack.lock"
"""In the folder of an image stack, which :mod:`model_chat.images` locks with it."""


_Held = TypeVar("_Held")


class LockedError(ModelChatError):
    """Somebody else holds the lock.

    Attributes:
        holder: what they have noted in the locked file (see :func:`hold`), or ``""``.
    """

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(str(path))
        self.holder = holder


@contextmanager
def hold(path: Path, alone: bool, make: bool = True, required: bool = False, note: str = "") -> Iterator[int]:
    """Lock a file, or a folder itself, until the end of the block; never wait.

    Args:
        alone: whether nobody else may hold it; else it is shared with those who share it, too.
        make: whether to make the file where it is missing; a folder is never made.
        required: whether a file system without locks is an error.
        note: replaces what the file holds, for whoever is refused the lock.

    Yields:
        The descriptor of the open file.

    Raises:
        LockedError: somebody else holds it.
        OSError: it can't be opened, or, if ``required``, not be locked.
    """
    descriptor = _locked(path, alone, make, required)
    try:
        if note:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{note}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def hold_or_refuse(lock: contextlib.AbstractContextManager[_Held], fault: str) -> Iterator[_Held]:
    """Hold a lock until the end of the block.

    Args:
        fault: a sentence for the requester; ``{holder}`` stands for what the holder has noted.

    Raises:
        ConfigurationError: somebody else holds it.
    """
    with contextlib.ExitStack() as held:
        try:
            value = held.enter_context(lock)
        except LockedError as error:
            raise ConfigurationError(fault.replace("{holder}", error.holder or "unknown")) from None
        yield value


def _locked(path: Path, alone: bool, make: bool, required: bool) -> int:
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | (os.O_CREAT if make else 0)
    while True:
        if make:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = b"" if flags == os.O_RDONLY else os.pread(descriptor, 200, 0)
            os.close(descriptor)
            raise LockedError(path, holder.decode("utf-8", "replace").strip()) from None
        except OSError as error:
            if required:
                os.close(descriptor)
                raise
            logger.debug("%s can't be locked: %s", path, error)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # the file was removed meanwhile, by a run whose launch was refused


def hold_alone_from_now(descriptor: int) -> bool:
    """Turn a shared lock into one that nobody else holds; return False, and keep it shared, if somebody does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold_data(data_folder: Path, alone: bool) -> contextlib.AbstractContextManager[int]:
    """Lock Mephisto's data folder: shared by its runs, alone for who changes the records of all tasks.

    Raises:
        LockedError: somebody else holds it.
        OSError: the lock can't be made.
    """
    folder = data_folder / LOCKS_FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return hold(folder / DATA_LOCK, alone)


def runs_going_on(data_folder: Path) -> list[str]:
    """The ids of the processes that run a task with this data folder, as far as they can be told."""
    found = []
    for path in sorted((data_folder / LOCKS_FOLDER).glob("*.lock")):
        if path.name == DATA_LOCK:
            continue
        try:
            with hold(path, alone=False, make=False):
                pass
        except LockedError as error:
            found.append(error.holder)
        except OSError as error:
            logger.debug("%s can't be read: %s", path, error)
    return [holder for holder in found if holder]


@contextmanager
def use_folder(folder: Path) -> Iterator[None]:
    """Share a folder with other runs that save there; it is made first, and removed at the end if nothing was saved.

    Raises:
        LockedError: somebody changes what is saved there.
        OSError: it can't be made or read.
    """
    made = [path for path in (folder, *folder.parents) if not path.is_dir()]
    for path in reversed(made):
        path.mkdir(mode=0o700, exist_ok=True)
    try:
        with hold(folder, alone=False):
            yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # something was saved there
                path.rmdir()

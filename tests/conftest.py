"""Shared by all tests."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

# Before numpy and torch are imported, here or by a command: tests run beside each other, and threads that wait for each
# other's processor take its time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from model_chat import compat as compat  # the patches, before any test imports mephisto or parlai

if TYPE_CHECKING:
    from model_chat.tests.mephisto_run import Run

# The same examples in every run: a search for new ones belongs to whoever changes the code, not to whoever merges it.
hypothesis.settings.register_profile("fixed", max_examples=50, derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")

MEMORY = "/dev/shm"
"""A file system in memory. On a disk the quick tests wait for their databases and journals more than half of their time."""
ROOM = 4 << 30
"""In bytes: several times what all tests write."""
with suppress(OSError):  # not on every system
    _found = os.statvfs(MEMORY)
    if _found.f_bavail * _found.f_frsize > ROOM and not _found.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def pytest_collection_finish() -> None:
    """Keep the modules out of garbage collection: statsmodels asks for a whole one at each of its corrections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a command that a test calls in this process does to the loggers (launch/logs.py)."""
    root, ours = logging.getLogger(), logging.getLogger("model_chat")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def mephisto_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A task run in a database of its own; tests take new workers and units from it."""
    from model_chat.tests.mephisto_run import Run

    return Run(tmp_path_factory.mktemp("mephisto"))

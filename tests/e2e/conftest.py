"""Fixtures of the tests that run the whole task."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from xdist.scheduler import LoadFileScheduling

from model_chat.tests.e2e.browser import LOOK, chromium
from model_chat.tests.e2e.running_task import ROOT, RunningTask, make_fixed_model

SHARED = re.compile(r"""\bbrowser: Browser\b|\bscope=["']module["']""")
"""What a file has whose tests share something that takes time to make."""
APART = ("tests/e2e/", "tests/chaos/", "tests/analysis/")
"""Where the others are; elsewhere a file's own imports take time, such as trl."""


class TaskScheduling(LoadFileScheduling):
    """As ``--dist loadfile``, but of files whose tests share nothing each test goes to the process that is free first.

    All that starts Ray goes to one: Ray gives a node 30 s to start, which several at once may not make.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if re.search(r"test_ray\b|test_ray_serving", nodeid):
            return "ray"
        return file if is_shared(file) else nodeid


@functools.cache
def is_shared(file: str) -> bool:
    """Whether the tests of a file share a browser, another fixture, or an import."""
    return not file.startswith(APART) or SHARED.search((ROOT / file).read_text(encoding="utf-8")) is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TaskScheduling | None:
    """Replace what ``--dist loadfile`` means where these tests are run."""
    return TaskScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder runs the whole task. The others come first: the longest tests are among them."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.is_relative_to(here))
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def scripted() -> Iterator[str]:
    """The address of a run that shows every screen with scripted conversations."""
    with LOOK.scripted_run() as address:
        yield address


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A base model folder with two models, `a` and `b`, that answer at once."""
    folder = tmp_path / "models"
    make_fixed_model(folder / "a", "Reply of the first one.")
    make_fixed_model(folder / "b", "Reply of the second one.")
    return folder


@pytest.fixture
def start_task(tmp_path: Path, models: Path) -> Iterator[Callable[..., RunningTask]]:
    """Start ``run.py`` with the models of :func:`models` and further flags; it is stopped after the test.

    It is forked (:class:`RunningTask`), unless a test of what only a start of Python shows says otherwise.
    """
    with ExitStack() as stack:

        def start(*flags: str, needed: str = "a:1", folder: str = "task", forked: bool = True) -> RunningTask:
            task = RunningTask(
                tmp_path / folder,
                [
                    f"mephisto.blueprint.base_model_folder={models}",
                    f'mephisto.blueprint.conversations_needed_string="{needed}"',
                    *flags,
                ],
                forked=forked,
            )
            return stack.enter_context(task)

        yield start

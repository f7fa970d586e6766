"""Fixtures of the tests that run the whole task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from model_chat.tests.e2e.browser import LOOK, chromium
from model_chat.tests.e2e.running_task import RunningTask, make_fixed_model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder runs the whole task."""
    here = Path(__file__).parent
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

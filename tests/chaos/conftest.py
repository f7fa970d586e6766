"""Fixtures of the chaos suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from model_chat.tests.chaos.figures import FIGURES, LONG
from model_chat.tests.e2e.running_task import RunningTask, make_fixed_model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is chaos; what only `make chaos` runs is left out otherwise."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.chaos)
            if item.get_closest_marker("long_chaos") and not LONG:
                item.add_marker(pytest.mark.skip(reason="make chaos"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures as a table."""
    if FIGURES:
        keys = list(dict.fromkeys(key for _, figures in FIGURES for key in figures))
        terminalreporter.section("chaos: figures")
        terminalreporter.line("| trouble | " + " | ".join(keys) + " |")
        terminalreporter.line("|---" * (len(keys) + 1) + "|")
        for name, figures in FIGURES:
            terminalreporter.line(f"| {name} | " + " | ".join(str(figures.get(key, "")) for key in keys) + " |")


@pytest.fixture
def start_task(tmp_path: Path) -> Iterator[Callable[..., RunningTask]]:
    """Start ``run.py`` on the same data each time; it is stopped after the test."""
    make_fixed_model(tmp_path / "models" / "a", "Reply of the first one.")
    with ExitStack() as stack:

        def start(*flags: str, needed: str = "a:8") -> RunningTask:
            task = RunningTask(
                tmp_path / "task",
                [
                    f"mephisto.blueprint.base_model_folder={tmp_path / 'models'}",
                    f'mephisto.blueprint.conversations_needed_string="{needed}"',
                    "mephisto.blueprint.annotations_config_path=''",
                    *flags,
                ],
            )
            return stack.enter_context(task)

        yield start

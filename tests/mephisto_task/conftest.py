"""Fixtures of the tests inside Mephisto."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.tests.mephisto_run import Run
from model_chat.tests.mephisto_task.stage import Stage


@pytest.fixture
def stage(mephisto_run: Run, tmp_path: Path) -> Callable[..., Stage]:
    """Make a stage, given its model's replies and changed options."""
    return lambda *script, **changes: Stage(mephisto_run, tmp_path / "chats", *script, **changes)


@pytest.fixture
def agent(mephisto_run: Run) -> Any:
    """A new agent that has begun."""
    agent = mephisto_run.agent()
    agent.state.set_init_state({})
    return agent

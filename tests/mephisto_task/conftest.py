"""Fixtures of the tests inside Mephisto."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model_chat.tests.mephisto_run import Run
from model_chat.tests.mephisto_task.stage import Stage


@pytest.fixture
def stage(mephisto_run: Run, tmp_path: Path) -> Callable[..., Stage]:
    return lambda *script, **changes: Stage(mephisto_run, tmp_path / "chats", *script, **changes)

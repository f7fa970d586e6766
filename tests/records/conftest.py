"""What tests of records share."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_chat.tests.mephisto_run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A task run in a database of its own."""
    folder = tmp_path / "mephisto"
    folder.mkdir()
    return Run(folder)

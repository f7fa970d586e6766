"""Mephisto's own commands find the data of our runs, and ask nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from model_chat.tests import preloaded

ROOT = Path(__file__).resolve().parents[2]


def test_before_the_first_run_the_data_folder_is_that_of_the_runs(tmp_path: Path) -> None:
    for _ in range(2):  # made, and then found
        done = preloaded.run(
            [sys.executable, "scripts/mephisto_cli.py", "requesters"],
            cwd=ROOT,
            env={**os.environ, "HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Please enter" not in done.stdout
    assert (tmp_path / ".mephisto/data/database.db").is_file()

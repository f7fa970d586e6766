"""A launch that is refused leaves nothing behind, whatever it was refused for and however far it had come."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from model_chat.configuration.hydra import ROOT
from model_chat.errors import ConfigurationError
from model_chat.launch.recovery import hold_task
from model_chat.launch.task_run import is_of_disk
from model_chat.tests import preloaded

B = "mephisto.blueprint"


@pytest.mark.parametrize(
    ("flag", "cause"),
    [
        (f"{B}.num_turns=0", f"{B}.num_turns: 0 is too small"),
        ("conf=mturk_live", "mephisto.provider.requester_name: is not set"),
        ("mephisto/architect=mock", "mephisto.architect: 'mock' serves no page"),
        # Found when the model is loaded, with the database open.
        (f"{B}.max_batch_size=2", "can't be loaded"),
    ],
)
def test_nothing_is_left(tmp_path: Path, flag: str, cause: str) -> None:
    model = tmp_path / "home/models/a/model.opt"
    model.parent.mkdir(parents=True)
    model.write_text('{"model": "no_such_agent"}', encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    flags = [f"{B}.base_model_folder=~/models", f'{B}.conversations_needed_string="a:1"', "mephisto.architect.port=0"]
    own = [] if flag == "conf=mturk_live" else ["mephisto.architect.port=0"]
    done = preloaded.run(
        [
            sys.executable,
            str(ROOT / "run.py"),
            *flags[:2],
            f"{B}.chat_data_folder=~/new/chats",
            "mephisto.datapath=~/new/mephisto",
            *own,
            flag,
        ],
        env={**os.environ, "HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert cause in done.stderr
    assert done.stderr.endswith("Nothing was launched.\n")
    # Mephisto itself makes its configuration folder on import.
    after = [path for path in tmp_path.rglob("*") if ".mephisto" not in path.parts]
    assert sorted(after) == before


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigurationError), hold_task(tmp_path / "data", "study", [tmp_path / "stack/stack.json"]):
        (tmp_path / "data/database.db").touch()
        (tmp_path / "stack").mkdir()
        (tmp_path / "stack/stack.json").touch()
        (tmp_path / "stack/mine.txt").touch()
        raise ConfigurationError("refused")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "mine.txt",
        "stack",
        "stack/mine.txt",
    ]
    with hold_task(tmp_path / "data", "study"):
        (tmp_path / "data/database.db").touch()
    with pytest.raises(ConfigurationError), hold_task(tmp_path / "data", "study"):
        raise ConfigurationError("refused")
    assert (tmp_path / "data/database.db").exists()


def test_only_a_refusal_removes_anything(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), hold_task(tmp_path / "data", "study"):
        (tmp_path / "data/database.db").touch()
        raise OSError("full")
    assert (tmp_path / "data/database.db").exists()


def test_a_database_that_another_run_uses_by_now_stays(tmp_path: Path) -> None:
    with ExitStack() as other:
        with pytest.raises(ConfigurationError), hold_task(tmp_path / "data", "study"):
            (tmp_path / "data/database.db").touch()
            other.enter_context(hold_task(tmp_path / "data", "another"))
            raise ConfigurationError("refused")
        assert (tmp_path / "data/database.db").exists()
        # Its own lock is as good as before.
        with pytest.raises(ConfigurationError, match="is running already"), hold_task(tmp_path / "data", "another"):
            pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (sqlite3.OperationalError("attempt to write a readonly database"), True),
        (sqlite3.OperationalError("no such column: unit_index"), False),
        (OSError(errno.EADDRINUSE, "Address already in use"), False),
    ],
)
def test_the_disk_is_blamed_for_what_is_its_fault_alone(error: Exception, expected: bool) -> None:
    assert is_of_disk(error) is expected

"""Mephisto's database is quick without losing or hiding anything."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from mephisto.data_model.constants.assignment_state import AssignmentState

from model_chat.mephisto_task import task_database
from model_chat.mephisto_task.task_database import (
    AT_A_TIME,
    is_on_network,
    is_over,
    launched_units,
    open_database,
    open_units,
)
from model_chat.tests import preloaded
from model_chat.tests.mephisto_run import Run

OPEN = "from pathlib import Path; from model_chat.mephisto_task.task_database import open_database; "


@pytest.fixture(params=["local", "singleton"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "database.db"


@pytest.fixture
def database(kind: str, file: Path) -> Iterator[Any]:
    opened, closing_it = open_database(kind, file, "mock")
    with closing_it:
        yield opened


def mode_of(connection: sqlite3.Connection) -> tuple[str, int]:
    """Journal mode, and how SQLite waits for the disk (1: at checkpoints, 2: at each write)."""
    return (
        connection.execute("PRAGMA journal_mode").fetchone()["journal_mode"],
        connection.execute("PRAGMA synchronous").fetchone()["synchronous"],
    )


def test_writes_wait_for_no_disk_in_the_database_and_in_the_mock_providers(database: Any) -> None:
    for store in (database, database.get_datastore_for_provider("mock")):
        with store.table_access_condition:
            assert mode_of(store._get_connection()) == ("wal", 1)


def test_a_crowd_platforms_own_datastore_waits_for_the_disk_at_each_write(kind: str, file: Path) -> None:
    database, closing_it = open_database(kind, file, "mturk_sandbox")
    with closing_it:
        store = database.get_datastore_for_provider("mturk_sandbox")
        with store.table_access_condition:
            assert mode_of(store._get_connection()) == ("delete", 2)


def test_what_was_written_survives_the_death_of_the_process(kind: str, file: Path) -> None:
    code = OPEN + (
        f"db, _ = open_database('{kind}', Path(r'{file}'), 'mock'); db.new_worker('survivor', 'mock'); "
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert preloaded.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    database, closing_it = open_database(kind, file, "mock")
    with closing_it:
        assert [worker.worker_name for worker in database.find_workers()] == ["survivor"]


def test_other_programs_read_what_was_just_written(database: Any, file: Path) -> None:
    database.new_worker("seen", "mock")
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as other:
        assert other.execute("SELECT worker_name FROM workers").fetchall() == [("seen",)]


def test_after_the_run_it_is_one_plain_file_that_can_be_copied_and_read_from_anywhere(
    kind: str, file: Path, tmp_path: Path
) -> None:
    database, closing_it = open_database(kind, file, "mock")
    database.new_worker("kept", "mock")
    closing_it.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["database.db", "mock"]
    copy = tmp_path / "copy.db"
    shutil.copy(file, copy)
    with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert other.execute("SELECT worker_name FROM workers").fetchall() == [("kept",)]


def test_a_thread_that_comes_after_the_end_still_finds_everything(kind: str, file: Path) -> None:
    database, closing_it = open_database(kind, file, "mock")
    database.new_worker("early", "mock")
    closing_it.close()
    database.new_worker("late", "mock")
    assert {worker.worker_name for worker in database.find_workers()} == {"early", "late"}
    database.shutdown()


def test_on_a_network_file_system_each_write_waits_for_the_disk(
    kind: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(file.parent), fstype="nfs4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounted)
    assert is_on_network(file)
    assert not is_on_network(Path("/elsewhere"))
    database, closing_it = open_database(kind, file, "mock")
    with closing_it, database.table_access_condition:
        assert mode_of(database._get_connection()) == ("delete", 2)


def test_a_database_that_somebody_reads_just_now_is_used_as_it_is(
    kind: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_database, "SWITCH_PATIENCE", 0.05)
    _, closing_it = open_database(kind, file, "mock")
    closing_it.close()
    with closing(sqlite3.connect(file)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM workers").fetchall()
        database, closing_it = open_database(kind, file, "mock")
        with database.table_access_condition:
            assert mode_of(database._get_connection()) == ("delete", 2)
        reader.rollback()
        database.new_worker("written", "mock")
        closing_it.close()


def test_the_units_on_offer_come_in_order_and_none_that_is_not(tmp_path: Path) -> None:
    run = Run(tmp_path)
    units = [run.unit() for _ in range(2 * AT_A_TIME + 5)]
    for unit in units[::3]:
        unit.set_db_status(AssignmentState.ASSIGNED)
    (tmp_path / "other").mkdir()
    other = Run(tmp_path / "other")
    other.unit()
    found = list(launched_units(run.db, run.task_run.db_id))
    expected = [unit.db_id for number, unit in enumerate(units) if number % 3]
    assert [unit.db_id for batch in found for unit in batch] == expected
    assert max(map(len, found)) == AT_A_TIME


def test_a_run_is_over_when_nothing_is_on_offer_or_worked_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    db, run_id = run.db, run.task_run.db_id
    waiting, agent = run.unit(), run.agent()
    agent.update_status("in task")
    assert {unit.db_id for unit in open_units(db, run_id)} == {waiting.db_id, agent.unit_id}
    assert not is_over(db, run_id)
    waiting.expire()
    assert not is_over(db, run_id)
    agent.update_status("completed")
    assert [unit.db_id for unit in open_units(db, run_id)] == [agent.unit_id], "Mephisto has not looked yet"
    assert is_over(db, run_id)
    assert open_units(db, run_id) == []
    assert is_over(db, "999"), "a run without units"


def test_a_database_that_somebody_reads_at_the_end_stays_as_it_is_and_whole(kind: str, file: Path) -> None:
    database, closing_it = open_database(kind, file, "mock")
    with closing_it:
        database.new_worker("ann", "mock")
        reader = sqlite3.connect(file, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT COUNT(*) FROM workers").fetchone() == (1,)
    with closing(reader):
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        reader.execute("COMMIT")
    with closing(sqlite3.connect(file)) as later:
        assert later.execute("SELECT worker_name FROM workers").fetchall() == [("ann",)]

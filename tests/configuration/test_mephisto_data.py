"""Where Mephisto's data are, and whether they are Mephisto's: each cause has a sentence of its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from model_chat.configuration import mephisto_data
from model_chat.configuration.mephisto_data import data_folder_fault, database_fault, find_data_folder
from model_chat.errors import ConfigurationError
from model_chat.tests.mephisto_run import Run


def configured(datapath: str | None = None) -> DictConfig:
    return OmegaConf.create({"mephisto": {"datapath": datapath}})


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "config.yml"
    monkeypatch.setattr(mephisto_data, "DEFAULT_CONFIG_FILE", str(file))
    return file


def test_the_flag_goes_before_mephistos_configuration(config_file: Path, tmp_path: Path) -> None:
    config_file.write_text("core: {main_data_directory: /from/the/file}\n", encoding="utf-8")
    assert find_data_folder(configured(str(tmp_path))).path == tmp_path
    assert find_data_folder(configured()).path == Path("/from/the/file")
    config_file.write_text("core: {}\n", encoding="utf-8")
    assert find_data_folder(configured()).path == Path("~/.mephisto/data").expanduser()
    config_file.unlink()
    assert find_data_folder(configured()).is_configured is False


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("core:\n", "has no section 'core' with keys"),
        ("core: [a]\n", "has no section 'core' with keys"),
        ("- a\n", "has no section 'core' with keys"),
        ("core: {main_data_directory: 5}\n", "'5' is no folder"),
        ("core: {main_data_directory: ''}\n", "'' is no folder"),
        ("core: [\n", "can't be read"),
        ("core: 2026-99-99\n", "can't be read"),
    ],
)
def test_what_is_wrong_with_mephistos_configuration_is_said(config_file: Path, text: str, cause: str) -> None:
    config_file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        find_data_folder(configured())
    assert cause in str(error.value)
    assert str(config_file) in str(error.value)
    assert data_folder_fault(configured()) == str(error.value)


def test_a_database_of_mephistos_is_taken_and_left_as_it_is(tmp_path: Path) -> None:
    assert database_fault(tmp_path / "database.db") is None
    Run(tmp_path)
    before = (tmp_path / "database.db").read_bytes()
    assert database_fault(tmp_path / "database.db") is None
    assert (tmp_path / "database.db").read_bytes() == before


@pytest.mark.parametrize(
    "tables", [["songs"], ["workers", "tasks"], ["tasks", "task_runs", "units", "agents", "workers"]]
)
def test_a_database_of_another_program_is_named(tmp_path: Path, tables: list[str]) -> None:
    file = tmp_path / "database.db"
    connection = sqlite3.connect(file)
    for table in tables:
        connection.execute(f"CREATE TABLE {table} (id)")
    connection.close()
    found = database_fault(file)
    assert found is not None
    assert found.startswith(f"mephisto.datapath: '{file}' is a database of another program (its tables: ")


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "database.db").write_bytes(b"no database at all" * 100)
    assert "is no database (file is not a database)" in str(database_fault(tmp_path / "database.db"))
    (tmp_path / "folder.db").mkdir()
    assert "is a folder, where Mephisto keeps its database" in str(database_fault(tmp_path / "folder.db"))
    (tmp_path / "empty.db").touch()  # SQLite's own idea of a new database
    assert database_fault(tmp_path / "empty.db") is None

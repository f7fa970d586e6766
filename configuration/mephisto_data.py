"""Find Mephisto's data folder and check that it is Mephisto's; nothing is created or changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mephisto.operations.config_handler import CORE_SECTION, DATA_STORAGE_KEY, DEFAULT_CONFIG_FILE, add_config_arg

from model_chat.configuration.files import expand
from model_chat.configuration.places import MEPHISTO_DATA
from model_chat.configuration.traces import folder_fault
from model_chat.errors import ConfigurationError
from model_chat.records.mephisto_database import open_read_only

FLAG = "mephisto.datapath"
DATABASE = "database.db"
COLUMNS = {
    "tasks": {"task_id", "task_name"},
    "task_runs": {"task_run_id", "init_params"},
    "units": {"unit_id", "unit_index", "status"},
    "agents": {"agent_id", "status"},
    "workers": {"worker_id", "worker_name", "provider_type"},
    "requesters": {"requester_id", "requester_name"},
}
"""Tables that each database of Mephisto's has, with some of their columns."""


class DataFolder(NamedTuple):
    """Mephisto's data folder.

    Attributes:
        path: it may not exist yet.
        source: the flag or the file that names it, or "the default".
        is_configured: whether a flag or Mephisto's configuration names it.
    """

    path: Path
    source: str
    is_configured: bool


def find_data_folder(cfg: Any) -> DataFolder:
    """Return Mephisto's data folder: the flag, else what Mephisto's own configuration names, else ``~/.mephisto/data``.

    Raises:
        ConfigurationError: Mephisto's configuration can't be read, or the flag is empty.
    """
    path = cfg.mephisto.datapath
    if path is not None:
        if not path.strip():
            raise ConfigurationError(f"{FLAG}: is empty; give a folder, or leave it out for Mephisto's own.")
        return DataFolder(expand(path), FLAG, True)
    source = f"{CORE_SECTION}.{DATA_STORAGE_KEY} in {DEFAULT_CONFIG_FILE}"
    known = _mephisto_config()
    path = known.get(DATA_STORAGE_KEY)
    if path is None:
        return DataFolder(expand(MEPHISTO_DATA), "the default", False)
    if not isinstance(path, str) or not path.strip():
        raise ConfigurationError(f"{source}: '{path}' is no folder; correct it, or give {FLAG}.")
    return DataFolder(expand(path), source, True)


def data_folder_fault(cfg: Any) -> str | None:
    """Say why Mephisto's data folder can't be used, its database included; None if it can."""
    try:
        data = find_data_folder(cfg)
    except ConfigurationError as error:
        return str(error)
    return folder_fault(data.source, str(data.path)) or database_fault(data.path / DATABASE, data.source)


def remember_data_folder(cfg: Any) -> None:
    """Name the data folder in Mephisto's configuration if nothing does, so that its other tools find the same data."""
    data = find_data_folder(cfg)
    if not data.is_configured:
        add_config_arg(CORE_SECTION, DATA_STORAGE_KEY, str(data.path))


def _mephisto_config() -> Mapping[str, Any]:
    """Return the section ``core`` of Mephisto's configuration; empty if there is no such file."""
    file = Path(DEFAULT_CONFIG_FILE)
    if not file.is_file():
        return {}
    remedy = "correct it, or move it away: Mephisto makes it again"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise ConfigurationError(f"{FLAG}: {file} can't be read ({problem}); {remedy}.") from None
    if content is None:
        raise ConfigurationError(f"{FLAG}: {file}, Mephisto's configuration, is empty; {remedy}.")
    core = content.get(CORE_SECTION, {}) if isinstance(content, dict) else None
    if not isinstance(core, dict):
        raise ConfigurationError(
            f"{FLAG}: {file}, Mephisto's configuration, has no section '{CORE_SECTION}' with keys; {remedy}."
        )
    return core


def database_fault(file: Path, source: str = FLAG) -> str | None:
    """Say why a file can't be Mephisto's database; None if it can, or is not there yet."""
    if not file.exists():
        return None
    remedy = f"give another folder with {FLAG}, or move the file away"
    if not file.is_file():
        return f"{source}: '{file}' is a folder, where Mephisto keeps its database; {remedy}."
    try:
        with open_read_only(file) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = {
                table: {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')} for table in COLUMNS
            }
    except sqlite3.OperationalError:  # locked just now, or not readable: said when it is opened
        return None
    except sqlite3.DatabaseError as error:
        return f"{source}: '{file}' is no database ({error}); restore it from a copy, or {remedy}."
    ours = [table for table in tables if not table.startswith("sqlite_")]
    if ours and any(not columns <= found[table] for table, columns in COLUMNS.items()):
        shown = ", ".join(sorted(ours)[:5])
        return f"{source}: '{file}' is a database of another program (its tables: {shown}); {remedy}."
    return None

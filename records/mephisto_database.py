"""Finding conversations in Mephisto's database without starting Mephisto.

Mephisto 1.1's `database.db` is SQLite, and each agent's state is a JSON file below the same folder. The one query here
takes a read lock for as long as it needs to fetch a few columns (a third of a second for 100,000 agents) and lets go of
it before any file is opened, so that a running task is never held up; nothing is ever written.
"""

from __future__ import annotations

import datetime
import difflib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import yaml

from model_chat.errors import ConfigurationError
from model_chat.records.reading import Origin, Source

logger = logging.getLogger(__name__)

DATABASE_NAME = "database.db"
DEFAULT_STATUSES = ("completed", "approved")
AGENT_STATUSES = (
    "none",
    "accepted",
    "onboarding",
    "waiting",
    "in task",
    "completed",
    "disconnect",
    "timeout",
    "partner disconnect",
    "expired",
    "returned",
    "approved",
    "soft_rejected",
    "rejected",
)
"""Every status that Mephisto 1.1 gives to an agent."""

_NEEDED_COLUMNS = {
    "tasks": {"task_id", "task_name", "project_id"},
    "projects": {"project_id", "project_name"},
    "agents": {"agent_id", "worker_id", "task_id", "task_run_id", "assignment_id", "status", "creation_date"},
    "workers": {"worker_id", "worker_name"},
}
_NO_PROJECT = "NO_PROJECT"
_STATE_FILES = ("state.json", "agent_data.json")
_LOCK_PATIENCE = 30.0
"""Seconds to wait while a running task writes."""

_AGENTS_OF_TASK = """
SELECT a.agent_id, a.status, a.assignment_id, a.task_run_id, a.creation_date, w.worker_name, p.project_name
FROM agents a
JOIN tasks t ON t.task_id = a.task_id
LEFT JOIN workers w ON w.worker_id = a.worker_id
LEFT JOIN projects p ON p.project_id = t.project_id
WHERE t.task_name = ?
ORDER BY a.agent_id
"""


def find_database(path: str | Path | None = None, home: Path | None = None) -> Path:
    """The database file to read.

    Args:
        path: what the user named: the file, or the folder that holds `database.db`; None for Mephisto's own.
        home: where the user's Mephisto configuration lies; None for the user's home folder.

    Raises:
        ConfigurationError: there is no such file, or Mephisto was never told where to keep its data.
    """
    if path is not None:
        given = Path(path).expanduser()
        found = given / DATABASE_NAME if given.is_dir() else given
        if not found.is_file():
            raise ConfigurationError(
                f"--database-path is '{path}', where there is no database; give Mephisto's database.db, or its folder."
            )
        return found
    config = (home or Path.home()) / ".mephisto" / "config.yml"
    data_folder = None
    if config.is_file():
        try:
            loaded = yaml.safe_load(config.read_text(encoding="utf-8"))
            data_folder = ((loaded or {}).get("core") or {}).get("main_data_directory")
        except (OSError, yaml.YAMLError, AttributeError, ValueError, RecursionError):
            logger.warning("%s could not be read as Mephisto's configuration", config)
    if not data_folder:
        raise ConfigurationError(
            f"--task-name needs Mephisto's database, and '{config}' does not say where it is; give --database-path."
        )
    return find_database(Path(data_folder) / DATABASE_NAME)


def list_agents(
    database: Path, task_name: str, flag: str = "--database-path", unknown_task_ok: bool = False
) -> list[Source]:
    """Every agent of a task, whatever its status, oldest first.

    Args:
        task_name: the task's name in full, with its suffix (`_local`, `_sandbox`) where there is one.
        unknown_task_ok: whether a task that is not known is one without agents.

    Raises:
        ConfigurationError: the file is no Mephisto database, stays locked, or knows no such task.
    """
    try:
        with open_read_only(database, _LOCK_PATIENCE) as connection:
            _check_schema(connection, database, flag)
            rows = connection.execute(_AGENTS_OF_TASK, (task_name,)).fetchall()
            if not rows and not unknown_task_ok:
                _check_task(connection, task_name, database)
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"{flag}: '{database}' could not be read as Mephisto's database ({error}); give its database.db."
        ) from error
    runs = database.resolve().parent / "data" / "runs"
    sources = []
    for agent_id, status, assignment_id, run_id, created, worker, project in rows:
        place = runs / (project or _NO_PROJECT) / str(run_id) / str(assignment_id) / str(agent_id)
        sources.append(
            Source(
                path=str(_state_file(place)),
                origin=Origin.DATABASE,
                day=_day(created),
                worker_id=worker,
                status=status,
                record_id=str(agent_id),
            )
        )
    return sources


def check_statuses(statuses: Iterable[str]) -> None:
    """Check that Mephisto knows the statuses.

    Raises:
        ConfigurationError: it does not.
    """
    ConfigurationError.raise_if(
        f"--mephisto-statuses names '{status}', which Mephisto does not know; choose from: {', '.join(AGENT_STATUSES)}."
        for status in statuses
        if status not in AGENT_STATUSES
    )


@contextmanager
def open_read_only(database: Path, seconds: float = 5) -> Iterator[sqlite3.Connection]:
    """Open a database that is only read, and close it.

    Args:
        seconds: to wait while another process writes.

    Raises:
        sqlite3.Error: it can't be opened, or is no database.
    """
    uri = f"file:{quote(str(database.resolve()))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=seconds)) as connection:
        yield connection


def _check_schema(connection: sqlite3.Connection, database: Path, flag: str) -> None:
    for table, needed in _NEEDED_COLUMNS.items():
        present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        missing = sorted(needed - present)
        if missing:
            raise ConfigurationError(
                f"{flag}: the table '{table}' of '{database}' has no {', '.join(missing)}; "
                "this is no database of Mephisto 1.1."
            )


def _check_task(connection: sqlite3.Connection, task_name: str, database: Path) -> None:
    names = [name for (name,) in connection.execute("SELECT task_name FROM tasks ORDER BY task_name")]
    if task_name in names:
        return  # a task that nobody has worked on yet
    near = [name for name in names if name.startswith(task_name)] or difflib.get_close_matches(task_name, names, 3)
    known = ", ".join(near or names[:5]) or "none at all"
    raise ConfigurationError(
        f"--task-name is '{task_name}', and '{database}' knows no such task; it knows {known} "
        "(runs on this machine end in _local, runs on MTurk's sandbox in _sandbox)."
    )


def _state_file(place: Path) -> Path:
    for name in _STATE_FILES:
        if (place / name).exists():
            return place / name
    return place / _STATE_FILES[0]


def _day(created: object) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(str(created)[:10])
    except ValueError:
        return None

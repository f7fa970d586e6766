"""Mephisto's database, opened so that many workers can arrive at once.

Mephisto makes some sixteen small transactions for each worker, one after the other under one lock. In SQLite's default mode
each waits for the disk three or four times. Here the database is in write-ahead mode, where a transaction is one append that
nobody waits for: it survives the death of the process (``kill -9`` included) at once, and a power cut from the next
checkpoint on; a power cut never damages it. What costs money doesn't depend on it: conversations and turns have files of
their own that are synced (:mod:`model_chat.records.writing`, :mod:`model_chat.records.journal`), and
:mod:`model_chat.launch.recovery` brings the database up to them.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from mephisto.abstractions.databases.local_database import LocalMephistoDB
from mephisto.abstractions.databases.local_singleton_database import MephistoSingletonDB
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.data_model.unit import Unit

if TYPE_CHECKING:
    from mephisto.abstractions.database import MephistoDB

logger = logging.getLogger(__name__)

LOCK_PATIENCE = 30.0
"""Seconds to wait for another program that writes to the database."""
SWITCH_PATIENCE = 2.0
"""Seconds to wait, at the start, for one that only reads it: without it the run is slower, and that is all."""
_NETWORK = ("nfs", "cifs", "smb", "fuse", "afs", "lustre", "gpfs", "beegfs", "ceph", "gluster", "9p", "ocfs2", "pvfs")
"""How the types of file systems begin on which write-ahead mode isn't safe, for it needs shared memory."""


def is_on_network(path: Path) -> bool:
    """Whether a file lies, or would lie, on a network file system, as far as the system says."""
    real = path.resolve()
    holders = [part for part in psutil.disk_partitions(all=True) if real.is_relative_to(part.mountpoint)]
    if not holders:
        return False
    kind: str = max(holders, key=lambda part: len(part.mountpoint)).fstype
    return kind.lower().startswith(_NETWORK)


class WriteAheadDatabase:
    """Makes the connections quick that a database of Mephisto, or a provider's datastore, opens: one a thread.

    Args:
        store: its ``_get_connection`` is replaced. Its ``table_access_condition``, which Mephisto holds whenever it asks for
            a connection, guards everything here.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._path = Path(store.db_path)
        self._connect = store._get_connection
        self._writes_ahead: bool | None = None
        self._tuned: set[int] = set()
        store._get_connection = self._get_connection
        with store.table_access_condition:
            self._get_connection()

    def _get_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._connect()
        if id(connection) not in self._tuned:  # all live as long as the store, so that no id comes twice
            self._tuned.add(id(connection))
            if self._writes_ahead is None:
                connection.execute(f"PRAGMA busy_timeout = {int(SWITCH_PATIENCE * 1000)}")
                self._writes_ahead = _write_ahead(connection, self._path)
            connection.execute(f"PRAGMA busy_timeout = {int(LOCK_PATIENCE * 1000)}")
            if self._writes_ahead:
                connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def close(self) -> None:
        """Close all connections, and leave one plain file that can be copied and read anywhere.

        A thread that asks afterwards gets a new connection.
        """
        with self._store.table_access_condition:
            for connection in self._store.conn.values():
                with suppress(sqlite3.Error):
                    connection.close()
            self._store.conn.clear()
            self._tuned.clear()
            if self._writes_ahead:
                self._writes_ahead = None
                try:
                    with closing(sqlite3.connect(self._path, timeout=0)) as connection:
                        connection.execute("PRAGMA journal_mode = DELETE")
                except sqlite3.Error as error:  # somebody else reads it
                    logger.debug(
                        "%s stays in write-ahead mode (%s); it is whole, with its -wal file", self._path, error
                    )


def _write_ahead(connection: sqlite3.Connection, path: Path) -> bool:
    """Put a database into write-ahead mode; return whether it is in it."""
    if is_on_network(path):
        logger.info("%s is on a network file system; SQLite waits for it at each write", path)
        return False
    try:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()["journal_mode"]
    except sqlite3.OperationalError as error:  # somebody else reads it just now
        logger.info("%s stays in its journal mode (%s); writes are slower", path, error)
        return False
    return bool(mode == "wal")


def open_database(kind: str, path: Path, provider_type: str) -> tuple[MephistoDB, ExitStack]:
    """Open Mephisto's database; it is made if it isn't there.

    Args:
        kind: ``local`` or ``singleton``.
        provider_type: the crowd provider's. The mock provider's datastore is made quick, too; those of platforms that pay
            wait for the disk at each write.

    Returns:
        the database, and what closes it.
    """
    database: MephistoDB = {"local": LocalMephistoDB, "singleton": MephistoSingletonDB}[kind](database_path=str(path))
    closing_it = ExitStack()
    closing_it.callback(WriteAheadDatabase(database).close)
    if provider_type == "mock":
        closing_it.callback(WriteAheadDatabase(database.get_datastore_for_provider("mock")).close)
    return database, closing_it


def _rows(database: Any, query: str, *values: object) -> list[Any]:
    """Return what a query finds, under Mephisto's lock, which may be held already."""
    with database.table_access_condition:
        found: list[Any] = database._get_connection().execute(query, values).fetchall()
    return found


AT_A_TIME = 16
"""Units fetched with one query: the first is free unless somebody else is just taking it."""


def launched_units(database: Any, task_run_id: str) -> Iterator[list[Unit]]:
    """Find the units of a run that are on offer, oldest first, a few at a time.

    Mephisto's ``find_units`` makes an object of every unit of the run; with many workers at once that is most of the work.
    """
    last = -1
    while True:
        # The plus keeps SQLite from going through the whole run, units that are done included, instead of those on offer.
        rows = _rows(
            database,
            "SELECT unit_id FROM units WHERE +task_run_id = ? AND status = ? AND unit_index >= 0 AND unit_id > ? "
            "ORDER BY unit_id LIMIT ?",
            int(task_run_id),
            AssignmentState.LAUNCHED,
            last,
            AT_A_TIME,
        )
        if rows:
            yield [Unit.get(database, row["unit_id"]) for row in rows]
        if len(rows) < AT_A_TIME:
            return
        last = int(rows[-1]["unit_id"])


def open_units(database: Any, task_run_id: str) -> list[Unit]:
    """Return the units of a run that are not on offer yet, on offer, or worked on, as far as the database knows."""
    return [
        unit
        for status in AssignmentState.incomplete()
        for unit in database.find_units(task_run_id=task_run_id, status=status)
    ]


def worker_counts(database: Any, task_run_id: str) -> dict[tuple[str, str], int]:
    """Return how many workers of a run are in each state: ``("onboarding", status)`` and ``("task", status)`` -> number."""
    counts: dict[tuple[str, str], int] = {}
    with database.table_access_condition:
        for stage, table in (("onboarding", "onboarding_agents"), ("task", "agents")):
            query = f"SELECT status, COUNT(*) AS number FROM {table} WHERE task_run_id = ? GROUP BY status"
            rows = _rows(database, query, int(task_run_id))
            counts.update({(stage, str(row["status"])): int(row["number"]) for row in rows})
    return counts


def is_over(database: Any, task_run_id: str) -> bool:
    """Whether nothing of a run will be on offer, is on offer, or is worked on any more.

    Mephisto's ``get_is_completed`` asks each unit of the run, done or not, every time; here those are asked that are worked
    on, which Mephisto leaves so for a while after their worker has handed in.
    """
    for unit in database.find_units(task_run_id=task_run_id, status=AssignmentState.ASSIGNED):
        unit.get_status()
    open_states = AssignmentState.incomplete()
    query = f"SELECT 1 FROM units WHERE +task_run_id = ? AND status IN ({', '.join('?' * len(open_states))}) LIMIT 1"
    return not _rows(database, query, int(task_run_id), *open_states)

"""What has to last about a panel's participants: the endings that they were told, and who may come with which address.

A SQLite file in Mephisto's data folder. SQLite waits for the disk at each write (its default), so that what a
participant was told is found again whatever happens to the process or the machine.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 30.0
"""Seconds to wait for another program that uses the file."""

_TABLES = """
CREATE TABLE IF NOT EXISTS endings (
    task_name TEXT NOT NULL,
    participant TEXT NOT NULL,
    study TEXT NOT NULL,
    session TEXT NOT NULL,
    kind TEXT NOT NULL,
    code TEXT,
    told REAL NOT NULL,
    PRIMARY KEY (task_name, participant, study, session)
);
CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS links (
    digest TEXT PRIMARY KEY,
    participant TEXT NOT NULL,
    study TEXT NOT NULL,
    session TEXT NOT NULL,
    visitor TEXT NOT NULL,
    seen REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS links_of_visitor ON links (visitor, participant);
"""


@dataclass(frozen=True)
class ToldEnding:
    """An ending that a participant was told; ids that they came without are ""."""

    participant: str
    study: str
    session: str
    kind: str
    code: str | None


class PanelStore:
    """The file of one provider in one data folder. ``_lock`` guards its one connection.

    Args:
        path: made if it isn't there.

    Raises:
        sqlite3.Error: it is no such file, or can't be written; so does every method.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
        with self._changing() as connection:
            connection.executescript(_TABLES)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on disk at the end, or not made."""
        with self._lock, self._connection:
            yield self._connection

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # --- endings ---

    def keep_ending(self, task_name: str, ending: ToldEnding) -> ToldEnding:
        """Keep an ending before it is told. The first one that is kept stays.

        Returns:
            the one that counts.
        """
        with self._changing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO endings VALUES (?, ?, ?, ?, ?, ?, ?)",
                (task_name, ending.participant, ending.study, ending.session, ending.kind, ending.code, time.time()),
            )
            row = connection.execute(
                "SELECT kind, code FROM endings WHERE task_name = ? AND participant = ? AND study = ? AND session = ?",
                (task_name, ending.participant, ending.study, ending.session),
            ).fetchone()
        return ToldEnding(ending.participant, ending.study, ending.session, row[0], row[1])

    def endings(self, task_name: str, participant: str) -> list[ToldEnding]:
        """Return what a participant was told in a task, the latest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT participant, study, session, kind, code FROM endings WHERE task_name = ? AND participant = ? "
                "ORDER BY told DESC, rowid DESC",
                (task_name, participant),
            ).fetchall()
        return [ToldEnding(*row) for row in rows]

    # --- visitors and links ---

    def key(self, name: str) -> bytes:
        """Return a secret of this file, which is made when it is first asked for."""
        with self._changing() as connection:
            connection.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (name, secrets.token_bytes(32)))
            value: bytes = connection.execute("SELECT value FROM keys WHERE name = ?", (name,)).fetchone()[0]
        return value

    def use_link(self, digest: str, participant: str, study: str, session: str, visitor: str) -> bool:
        """Bind a signed link to the browser that comes with it first.

        Args:
            participant, study, session: whom the link names; "" for none.

        Returns:
            whether it is this browser's.
        """
        with self._changing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO links VALUES (?, ?, ?, ?, ?, ?)",
                (digest, participant, study, session, visitor, time.time()),
            )
            row = connection.execute("SELECT visitor FROM links WHERE digest = ?", (digest,)).fetchone()
        return bool(row[0] == visitor)

    def has_used_link(self, participant: str, study: str, session: str, visitor: str) -> bool:
        """Whether a browser has come with a signed link of this participation before."""
        with self._lock:
            row = self._connection.execute(
                "SELECT 1 FROM links WHERE visitor = ? AND participant = ? AND study = ? AND session = ?",
                (visitor, participant, study, session),
            ).fetchone()
        return row is not None


def store_path(data_folder: Path, provider: str) -> Path:
    """Return where a provider's file lies in Mephisto's data folder."""
    return data_folder / provider / f"{provider}.db"

"""The record of bonuses: what was paid to whom for what, written down before money moves, so that nothing is paid twice.

A payment is written as `sending`, then sent, then marked `paid`. Whatever dies in between, the next start finds `sending`,
and sends again with the same token, by which MTurk knows that it is the same payment.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_chat.records.locks import hold, hold_or_refuse

FILE = "model_chat_bonuses.db"
SENDING, PAID = "sending", "paid"
LONGEST_TOKEN = 64
"""MTurk's limit for a UniqueRequestToken."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS bonuses (
    token TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL,
    worker_id TEXT NOT NULL,
    cents INTEGER NOT NULL CHECK (cents > 0),
    reason TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sending', 'paid')),
    time REAL NOT NULL
)
"""


@dataclass(frozen=True)
class Bonus:
    """One payment.

    Attributes:
        token: names the payment; the same payment always has the same.
        agent_id: Mephisto's id of the worker's part in the unit that it is for.
        cents: hundredths of the currency.
    """

    token: str
    agent_id: str
    worker_id: str
    cents: int
    reason: str
    state: str = SENDING

    def insert(self, connection: sqlite3.Connection, or_ignore: bool = False) -> None:
        """Write the payment down as being sent.

        Args:
            or_ignore: whether one that is known already stays as it is.

        Raises:
            sqlite3.IntegrityError: it is known already, and ``or_ignore`` is false.
        """
        connection.execute(
            f"INSERT {'OR IGNORE ' if or_ignore else ''}INTO bonuses VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.token, self.agent_id, self.worker_id, self.cents, self.reason, SENDING, time.time()),
        )


class Ledger:
    """The bonuses of one Mephisto database; while one process pays, a second one is refused.

    The file is the state; SQLite writes each change whole and to the disk.

    Args:
        folder: where Mephisto's ``database.db`` lies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        with self.connect() as connection:
            connection.execute(_SCHEMA)

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction, which an exception takes back."""
        with closing(sqlite3.connect(self.path, timeout=30)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            with connection:
                yield connection

    def paying(self) -> AbstractContextManager[object]:
        """Hold the right to pay.

        Raises:
            ConfigurationError: another process has it.
        """
        return hold_or_refuse(
            hold(self.path.with_suffix(".lock"), alone=True, required=True),
            f"{self.path}: another process is paying bonuses; wait until it is done.",
        )

    def begin(self, bonus: Bonus) -> Bonus:
        """Write a payment down before it is sent; one that is known already comes back as it was written then."""
        with self.connect() as connection:
            bonus.insert(connection, or_ignore=True)
        return next(known for known in self.bonuses() if known.token == bonus.token)

    def paid(self, token: str) -> None:
        """Mark a payment as made."""
        with self.connect() as connection:
            connection.execute("UPDATE bonuses SET state = ? WHERE token = ?", (PAID, token))

    def withdraw(self, token: str) -> None:
        """Strike a payment out that the platform has refused for good, so that it was never made."""
        with self.connect() as connection:
            connection.execute("DELETE FROM bonuses WHERE token = ? AND state = ?", (token, SENDING))

    def bonuses(self, agent_id: str | None = None) -> list[Bonus]:
        """Return the payments, oldest first, of one agent or of all."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT token, agent_id, worker_id, cents, reason, state FROM bonuses WHERE ?1 IS NULL OR agent_id = ?1 "
                "ORDER BY time, rowid",
                (agent_id,),
            ).fetchall()
        return [Bonus(*row) for row in rows]

    def cents_paid(self, agent_id: str) -> int:
        """Return what an agent has been paid in bonuses, those under way included."""
        return sum(bonus.cents for bonus in self.bonuses(agent_id))


def token_of(*parts: object) -> str:
    """Return the token of a payment: the same for the same parts, different for all others."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:LONGEST_TOKEN]

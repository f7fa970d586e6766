"""The record of messages to workers, so that a command that is repeated sends none twice."""

from __future__ import annotations

import time

from model_chat.crowd.ledger import SENDING, Ledger

SENT = "sent"
"""The state of a message that has arrived."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    token TEXT PRIMARY KEY, state TEXT NOT NULL, time REAL NOT NULL
)
"""


class Messages:
    """The messages of one ledger, in the same file. Neither what they say nor to whom is kept, but a hash of it.

    Args:
        ledger: whoever sends holds :meth:`Ledger.paying`.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        with ledger.connect() as connection:
            connection.execute(_SCHEMA)

    def state(self, token: str) -> str | None:
        """Return ``sending`` or ``sent``; None for a message that was never sent."""
        with self._ledger.connect() as connection:
            row = connection.execute("SELECT state FROM messages WHERE token = ?", (token,)).fetchone()
        return None if row is None else str(row[0])

    def begin(self, token: str) -> None:
        """Write a message down before it is sent."""
        with self._ledger.connect() as connection:
            connection.execute("INSERT OR REPLACE INTO messages VALUES (?, ?, ?)", (token, SENDING, time.time()))

    def sent(self, token: str) -> None:
        """Mark a message as arrived."""
        with self._ledger.connect() as connection:
            connection.execute("UPDATE messages SET state = ? WHERE token = ?", (SENT, token))

    def withdraw(self, token: str) -> None:
        """Strike a message out that was refused."""
        with self._ledger.connect() as connection:
            connection.execute("DELETE FROM messages WHERE token = ? AND state = ?", (token, SENDING))

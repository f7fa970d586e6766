"""Bonuses that a platform pays together, recorded beside the ledger so that none is ever sent twice.

A transfer is written as ``set_up``, which has paid nothing. Before it is sent it becomes ``paying`` and its bonuses go into
the ledger, in one transaction. Once the platform has accepted it, it is ``accepted`` and its bonuses are paid. One that is
found ``paying`` later may have been carried out, and is never sent again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from model_chat.crowd.ledger import PAID, SENDING, Bonus, Ledger

_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS transfers (
    transfer_id TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    task TEXT NOT NULL,
    study TEXT NOT NULL,
    total INTEGER NOT NULL,
    currency TEXT NOT NULL,
    state TEXT NOT NULL,
    time REAL NOT NULL
)""",
    """
CREATE TABLE IF NOT EXISTS transfer_lines (
    transfer_id TEXT NOT NULL REFERENCES transfers,
    token TEXT NOT NULL,
    submission TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    worker_id TEXT NOT NULL,
    cents INTEGER NOT NULL,
    reason TEXT NOT NULL,
    shown_before INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    PRIMARY KEY (transfer_id, token)
)""",
)


class TransferState(StrEnum):
    """How far a transfer is."""

    SET_UP = "set_up"
    PAYING = "paying"
    ACCEPTED = "accepted"


@dataclass(frozen=True)
class Line:
    """One bonus of a transfer.

    Attributes:
        submission: the platform's id of the work that it is for.
        shown_before: how many bonuses of this amount the platform showed for the submission before the transfer was sent.
        confirmed: whether the platform has shown this one since.
    """

    bonus: Bonus
    submission: str
    shown_before: int = 0
    confirmed: bool = False


@dataclass(frozen=True)
class Transfer:
    """Bonuses of one study that are paid together.

    Attributes:
        total: pence or cents that it costs, fees included.
        lines: at most one for a submission.
    """

    transfer_id: str
    study: str
    total: int
    currency: str
    lines: tuple[Line, ...]
    state: TransferState = TransferState.SET_UP


class Transfers:
    """The transfers of one task, in the file of its ledger; whoever changes one holds :meth:`Ledger.paying`.

    Args:
        provider: where the task's bonuses are paid; transfers of other platforms are left out.
    """

    def __init__(self, ledger: Ledger, provider: str, task: str) -> None:
        self._ledger, self._provider, self._task = ledger, provider, task
        with ledger.connect() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)

    def add(self, transfer: Transfer) -> None:
        """Write down a transfer that is set up.

        Raises:
            ValueError: there is one with this id.
        """
        with self._ledger.connect() as connection:
            name, of_task = transfer.transfer_id, (self._provider, self._task)
            money = (transfer.study, transfer.total, transfer.currency)
            try:
                connection.execute(
                    "INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (name, *of_task, *money, TransferState.SET_UP, time.time()),
                )
            except sqlite3.IntegrityError as error:
                raise ValueError(f"transfer '{name}' is known already") from error
            for line in transfer.lines:
                bonus = line.bonus
                paid = (bonus.agent_id, bonus.worker_id, bonus.cents, bonus.reason)
                connection.execute(
                    "INSERT INTO transfer_lines VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
                    (name, bonus.token, line.submission, *paid, line.shown_before),
                )

    def with_state(self, *states: TransferState) -> list[Transfer]:
        """Return the transfers in one of the states, oldest first."""
        with self._ledger.connect() as connection:
            rows = connection.execute(
                "SELECT transfer_id, study, total, currency, state FROM transfers WHERE provider = ? AND task = ? "
                "ORDER BY time, rowid",
                (self._provider, self._task),
            ).fetchall()
            return [
                Transfer(row[0], row[1], row[2], row[3], tuple(_lines(connection, row[0])), TransferState(row[4]))
                for row in rows
                if row[4] in states
            ]

    def drop(self, transfers: Iterable[Transfer]) -> None:
        """Forget transfers that are set up and were never sent."""
        with self._ledger.connect() as connection:
            for transfer in transfers:
                forgotten = connection.execute(
                    "DELETE FROM transfers WHERE transfer_id = ? AND state = ?",
                    (transfer.transfer_id, TransferState.SET_UP),
                )
                if forgotten.rowcount:
                    connection.execute("DELETE FROM transfer_lines WHERE transfer_id = ?", (transfer.transfer_id,))

    def begin(self, transfer: Transfer) -> None:
        """Write down, as the last thing before it is sent, that a transfer is being paid.

        Raises:
            RuntimeError: it is not one that is set up, or one of its bonuses is in the ledger already. Nothing is changed.
        """
        with self._changing(transfer, TransferState.SET_UP, TransferState.PAYING) as connection:
            for line in transfer.lines:
                try:
                    line.bonus.insert(connection)
                except sqlite3.IntegrityError as error:
                    raise RuntimeError(f"the bonus '{line.bonus.token}' was begun before") from error
                connection.execute(
                    "UPDATE transfer_lines SET shown_before = ? WHERE transfer_id = ? AND token = ?",
                    (line.shown_before, transfer.transfer_id, line.bonus.token),
                )

    def accepted(self, transfer: Transfer) -> None:
        """Mark a transfer that was sent as accepted, and its bonuses as paid."""
        with self._changing(transfer, TransferState.PAYING, TransferState.ACCEPTED) as connection:
            for line in transfer.lines:
                connection.execute("UPDATE bonuses SET state = ? WHERE token = ?", (PAID, line.bonus.token))

    def refused(self, transfer: Transfer) -> None:
        """Take back a transfer that the platform has refused for certain: none of its bonuses is paid."""
        with self._changing(transfer, TransferState.PAYING, TransferState.SET_UP) as connection:
            for line in transfer.lines:
                connection.execute("DELETE FROM bonuses WHERE token = ? AND state = ?", (line.bonus.token, SENDING))

    def confirm(self, transfer: Transfer, lines: Sequence[Line]) -> None:
        """Mark bonuses as paid that the platform shows, or the requester has seen there."""
        with self._ledger.connect() as connection:
            for line in lines:
                connection.execute("UPDATE bonuses SET state = ? WHERE token = ?", (PAID, line.bonus.token))
                connection.execute(
                    "UPDATE transfer_lines SET confirmed = 1 WHERE transfer_id = ? AND token = ?",
                    (transfer.transfer_id, line.bonus.token),
                )
            _close_if_settled(connection, transfer)

    def strike(self, transfer: Transfer, lines: Sequence[Line]) -> None:
        """Take bonuses out of the ledger of which the requester says that they never arrived; they can be paid anew."""
        with self._ledger.connect() as connection:
            for line in lines:
                connection.execute("DELETE FROM bonuses WHERE token = ?", (line.bonus.token,))
                connection.execute(
                    "DELETE FROM transfer_lines WHERE transfer_id = ? AND token = ?",
                    (transfer.transfer_id, line.bonus.token),
                )
            _close_if_settled(connection, transfer)

    @contextmanager
    def _changing(
        self, transfer: Transfer, before: TransferState, after: TransferState
    ) -> Iterator[sqlite3.Connection]:
        with self._ledger.connect() as connection:
            changed = connection.execute(
                "UPDATE transfers SET state = ? WHERE transfer_id = ? AND state = ?",
                (after, transfer.transfer_id, before),
            )
            if changed.rowcount != 1:
                raise RuntimeError(f"transfer '{transfer.transfer_id}' is not in the state '{before}'")
            yield connection


def _lines(connection: sqlite3.Connection, transfer_id: str) -> Iterator[Line]:
    rows = connection.execute(
        "SELECT l.token, l.agent_id, l.worker_id, l.cents, l.reason, coalesce(b.state, 'sending'), l.submission, "
        "l.shown_before, l.confirmed FROM transfer_lines l LEFT JOIN bonuses b ON b.token = l.token "
        "WHERE l.transfer_id = ? ORDER BY l.rowid",
        (transfer_id,),
    )
    for row in rows.fetchall():
        yield Line(Bonus(*row[:6]), row[6], row[7], bool(row[8]))


def _close_if_settled(connection: sqlite3.Connection, transfer: Transfer) -> None:
    """A transfer of which every line is known needs nobody's attention any more."""
    (open_lines,) = connection.execute(
        "SELECT count(*) FROM transfer_lines WHERE transfer_id = ? AND confirmed = 0", (transfer.transfer_id,)
    ).fetchone()
    if not open_lines:
        connection.execute(
            "UPDATE transfers SET state = ? WHERE transfer_id = ?", (TransferState.ACCEPTED, transfer.transfer_id)
        )


def without_state(line: Line) -> Line:
    """Return a line as it is before anything was sent, for comparing."""
    return replace(line, bonus=replace(line.bonus, state=SENDING), shown_before=0, confirmed=False)

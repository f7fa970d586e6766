"""Columns of a conversation for its authenticity signals."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from model_chat.records.authenticity import totals_of

COLUMNS = (
    ("signal_messages", pa.int32()),
    ("signal_characters", pa.int64()),
    ("pasted_characters", pa.int64()),
    ("times_away", pa.int64()),
    ("keyed_characters", pa.int64()),
    ("keys", pa.int64()),
)
"""Of a conversation: the fields of :class:`model_chat.records.authenticity.SignalTotals`; null where nothing is recorded."""


def columns_of(raw: object) -> tuple[int | None, ...]:
    """Values of :data:`COLUMNS` for one saved conversation."""
    totals = totals_of(raw)
    return (None,) * len(COLUMNS) if totals is None else dataclasses.astuple(totals)

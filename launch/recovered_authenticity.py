"""Counts of how messages were written, put together from what a page was sent, for a conversation that was cut off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from model_chat.records.authenticity import MessageCounts, MessageSignals


def add_authenticity(saved: dict[str, Any], messages: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return a recovered conversation with the counts of its messages, if it records any.

    Args:
        messages: updates of the server, in order; what is damaged in them is left out.
    """
    if saved.get("authenticity") is None:
        return saved
    counts: dict[str, MessageCounts] = {}
    for message in messages:
        data = message.get("task_data")
        if not isinstance(data, dict) or not isinstance(data.get("message_id"), str):
            continue
        found = MessageCounts.of(data.get("authenticity"))
        if found is not None:
            counts[data["message_id"]] = found
    signals = [
        MessageSignals(
            utterance_idx=position,
            characters=len(utterance["text"]),
            **counts[utterance["message_id"]].told(),
        )
        for position, utterance in enumerate(saved["dialog"])
        if utterance.get("message_id") in counts
    ]
    return {**saved, "authenticity": [one.model_dump() for one in signals]}

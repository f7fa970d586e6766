"""Authenticity signals: numbers about how a worker wrote a message, never what they wrote or which keys they pressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MOST = 1_000_000
"""Largest count that is believed: many times what the longest message, or the longest turn, can have."""


class MessageCounts(BaseModel):
    """What a page counted while one message was written; None where it is not known."""

    model_config = ConfigDict(extra="forbid", strict=True)

    pasted_characters: int | None = Field(default=None, ge=0, le=MOST)
    """Characters put into the field by pasting or dropping, without the worker's own that were moved."""
    times_away: int | None = Field(default=None, ge=0, le=MOST)
    """How often the worker left the page, and came back, while it was their turn."""
    keys: int | None = Field(default=None, ge=0, le=MOST)
    """Keys that write or delete. None where an input method, dictation, autocorrect or the like has written, too."""

    @classmethod
    def of(cls, given: object) -> MessageCounts | None:
        """Read what a page or a journal says, which is untrusted.

        Returns:
            the known counts; what is no whole number from 0 to :data:`MOST`, and each unknown key, is left out. None where
            nothing is left: counts never cost a message.
        """
        if not isinstance(given, dict):
            return None
        found = {name: given.get(name) for name in cls.model_fields}
        known = {name: count for name, count in found.items() if type(count) is int and 0 <= count <= MOST}
        return cls(**known) if known else None

    def told(self) -> dict[str, int]:
        """The known counts, as the page is told that they have arrived."""
        return self.model_dump(exclude_none=True)


class MessageSignals(MessageCounts):
    """The counts of one message, as they are saved."""

    utterance_idx: int = Field(ge=0)
    """Which utterance of `dialog` it is."""
    characters: int = Field(ge=0)
    """Length of the message (code points), by the server."""


@dataclass(frozen=True, slots=True)
class SignalTotals:
    """The sums of several messages.

    Attributes:
        messages: those with signals.
        characters: of them.
        pasted_characters: of each message not more than the message has.
        times_away: as in :class:`MessageCounts`.
        keyed_characters: of the messages whose keys are known.
        keys: of those messages.
    """

    messages: int = 0
    characters: int = 0
    pasted_characters: int = 0
    times_away: int = 0
    keyed_characters: int = 0
    keys: int = 0


def totals_of(raw: object) -> SignalTotals | None:
    """Sum the signals of a saved conversation; what is malformed is left out.

    Args:
        raw: the conversation as it was saved, of any JSON type.

    Returns:
        None where nothing was recorded.
    """
    entries = raw.get("authenticity") if isinstance(raw, dict) else None
    found = [entry for entry in map(_read, entries if isinstance(entries, list) else ()) if entry is not None]
    if not found:
        return None
    keyed = [entry for entry in found if entry.keys is not None]
    return SignalTotals(
        messages=len(found),
        characters=sum(entry.characters for entry in found),
        pasted_characters=sum(min(entry.pasted_characters or 0, entry.characters) for entry in found),
        times_away=sum(entry.times_away or 0 for entry in found),
        keyed_characters=sum(entry.characters for entry in keyed),
        keys=sum(entry.keys or 0 for entry in keyed),
    )


def _read(entry: Any) -> MessageSignals | None:
    counts = MessageCounts.of(entry)
    if counts is None:
        return None
    idx, characters = entry.get("utterance_idx"), entry.get("characters")
    if not all(type(number) is int and 0 <= number <= MOST for number in (idx, characters)):
        return None
    return MessageSignals(utterance_idx=idx, characters=characters, **counts.told())

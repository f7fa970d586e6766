"""The time that a reply is held back for its pace."""

from __future__ import annotations

LONG_REPLY = 1500
"""Characters (300 tokens): a long reply, where the time for an assignment is computed."""


def longest_pace(first_seconds: float, chars_per_second: float) -> float:
    """Return the seconds by which the pace of replies makes a long reply later, at most.

    Args:
        first_seconds: to the beginning of a reply.
        chars_per_second: 0 for none.
    """
    return first_seconds + (LONG_REPLY / chars_per_second if chars_per_second > 0 else 0.0)

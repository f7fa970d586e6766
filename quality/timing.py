"""Timing data of a page, kept only where plausible.

The times come from the page's own clock, which may be wrong by years, or be made up. What the server knows is how long it
all took: between its showing a reply and its getting the answer no more time can have gone by on the page than here.
"""

from __future__ import annotations

from model_chat.records.schema import Timing

SLACK_SECONDS = 10.0
"""For a clock that was set in between, and for times that a reloaded page can only estimate."""
DIGITS = 3
"""Milliseconds: all that a browser tells, and no room for anything else to be written into a number."""


def plausible(timing: Timing | None, since_reply: float, since_start: float) -> Timing | None:
    """Return a page's times without those that can't be true.

    Args:
        since_reply: seconds on the server from showing the last reply to getting the answer.
        since_start: seconds on the server from the conversation's beginning to getting the answer. A worker may write
            ahead, so the first key can come before the reply.

    Returns:
        the times, in whole milliseconds. Everything hangs on ``sent``: without it there is none. ``shown`` and
        ``first_key`` are None when they come after it, or so long before that the server knows better.
    """
    if timing is None or timing.sent is None:
        return None
    sent = timing.sent
    return Timing(
        shown=_within(timing.shown, sent, since_reply),
        first_key=_within(timing.first_key, sent, since_start),
        sent=round(sent, DIGITS),
    )


def _within(time: float | None, sent: float, longest: float) -> float | None:
    if time is None or not 0 <= sent - time <= longest + SLACK_SECONDS:
        return None
    return round(time, DIGITS)

"""When a study will be complete, and what it will cost, with the assumption that this rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_chat.dashboard.live import LiveState
from model_chat.dashboard.store import Listed
from model_chat.dashboard.study import StudyInfo

WINDOWS = (3600.0, 6 * 3600.0, 24 * 3600.0)
"""Seconds back that are looked at, the shortest first that has enough."""
FEWEST = 5
"""Conversations that finished within a window, for a rate."""
SHORTEST = 300.0
"""Seconds that a run must have lasted, at least, for a rate."""
MOST_AHEAD = 365 * 24 * 3600.0


def forecast(
    study: StudyInfo,
    finished: Sequence[Listed],
    done: int,
    target: int | None,
    live: LiveState | None,
    now: float,
    spent: float,
) -> dict[str, Any]:
    """Say when the rest will be there.

    Args:
        target: how many are wanted; None where that is not known.
        live: the run; None for a study that does not run.
        now: epoch seconds.
        spent: so far, in whole currency.

    Returns:
        ``done_at`` (epoch seconds) and ``cost`` (whole currency), None where nothing can be said, and ``assumption``.
    """
    if target is None:
        return _said(None, None, "How many conversations are wanted is not known.")
    left = max(0, target - done)
    if not left:
        return _said(None, round(spent, 2), "Everything is collected.")
    cost = round(spent + study.cost(left) / 100, 2)
    if live is None:
        return _said(None, cost, "The study does not run now; the rest costs what a conversation costs now.")
    if not live.accepting:
        return _said(None, cost, "No new workers are taken in now, so it is not known when the rest will be there.")
    ended = [one.entry.ended for one in finished if one.entry.ended is not None and one.entry.ended > live.started]
    for window in WINDOWS:
        begin = max(now - window, live.started)
        count = sum(end > begin for end in ended)
        seconds = now - begin
        if count >= FEWEST and seconds >= SHORTEST:
            rate = count / seconds
            if left / rate > MOST_AHEAD:
                break
            hours = seconds / 3600
            span = (
                f"{round(hours)} hours"
                if hours >= 1.5
                else "hour"
                if hours >= 0.95
                else f"{round(seconds / 60)} minutes"
            )
            said = (
                f"Conversations keep finishing as in the last {span} ({rate * 3600:.1f} an hour), and each of the {left} "
                "that are missing costs what one costs now."
            )
            return _said(now + left / rate, cost, said)
    return _said(
        None, cost, f"Fewer than {FEWEST} conversations have finished lately, too few to say when it will be done."
    )


def _said(done_at: float | None, cost: float | None, assumption: str) -> dict[str, Any]:
    return {"done_at": done_at, "cost": cost, "assumption": assumption}

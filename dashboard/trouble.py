"""Warnings that a requester needs who is not looking at the log."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_chat.dashboard.entries import COMPLETE, FAILED, GOING_ON
from model_chat.dashboard.live import LiveState
from model_chat.dashboard.store import Snapshot
from model_chat.dashboard.study import StudyInfo

FAILING_SHARE, FAILING_COUNT = 0.1, 3
"""A model is failing from so many failures on, if they are such a share of its replies."""
LAST_CONVERSATIONS, LAST_FAILED = 10, 3
QUIET_SECONDS = 30 * 60.0
DROP_OUT_SHARE, DROP_OUT_COUNT = 0.2, 5
SMALLEST_FREE, SMALLEST_FREE_SHARE = 10**9, 0.03
"""Bytes, and share of the disk: below both there is a warning."""
FEWEST_FOR_WAGE = 3


def warnings(
    study: StudyInfo,
    snapshot: Snapshot,
    live: LiveState | None,
    left_at: Counter[str],
    money: dict[str, Any],
    target: int | None,
    done: int,
    now: float,
) -> Iterator[tuple[str, str]]:
    """Find what goes wrong; yields a code and a sentence for each.

    Args:
        live: the run's counters; None where it does not run.
        left_at: where people have left -> how many.
        target: conversations wanted; None where not known.
        now: epoch seconds.
    """
    yield from _failing(snapshot, live)
    begun = sum(one.entry.status != GOING_ON or live is not None for one in snapshot.listed)
    for where, count in left_at.most_common():
        if count >= DROP_OUT_COUNT and count >= DROP_OUT_SHARE * begun:
            yield "drop_outs", f"{count} of {begun} workers have left at the same place: {where}."
    wage, least = money["hourly_wage"], study.min_hourly_wage
    timed = sum(one.entry.status == COMPLETE for one in snapshot.listed)
    if wage is not None and least is not None and wage < least and timed >= FEWEST_FOR_WAGE:
        yield (
            "low_wage",
            f"The work pays {wage:.2f} {study.currency} an hour by its median time, less than min_hourly_wage "
            f"({least:.2f}); pay bonuses, or raise the reward.",
        )
    for name, path in (("chat_data_folder", study.chat_data_folder), ("mephisto.datapath", study.database.parent)):
        free = _free(path)
        if free is not None:
            yield (
                "disk",
                f"The disk of {name} has {free / 10**9:.1f} GB left; make room, or conversations can't be saved.",
            )
            break
    if snapshot.unreadable:
        yield "unreadable", f"{snapshot.unreadable} records can't be read; the analysis names them."
    if live is None:
        return
    if live.models_limit_usd is not None and (live.models_usd or 0.0) >= live.models_limit_usd:
        yield "spend", "The models have cost max_model_spend_usd; no new conversation begins."
    is_missing = target is None or done < target
    last = max((one.agent.arrived or 0.0 for one in snapshot.listed if one.agent is not None), default=0.0)
    quiet = now - max(last, live.started)
    if live.accepting and is_missing and not live.chatting and not live.onboarding and quiet > QUIET_SECONDS:
        yield (
            "no_arrivals",
            f"Nobody has come for {round(quiet / 60)} minutes; look whether the study is open on the panel.",
        )


def _failing(snapshot: Snapshot, live: LiveState | None) -> Iterator[tuple[str, str]]:
    named = set()
    for model in () if live is None else live.replies:
        asked = model.replies + model.failures
        if model.failures >= FAILING_COUNT and model.failures >= FAILING_SHARE * asked:
            named.add(model.name)
            yield "model_failing", f"{model.name} has failed {model.failures} of {asked} times in this run."
    by_model: dict[str, list[str]] = {}
    for one in snapshot.listed:
        if one.entry.model and one.entry.status != GOING_ON:
            by_model.setdefault(one.entry.model, []).append(one.entry.status)
    for name, statuses in by_model.items():
        failed = statuses[-LAST_CONVERSATIONS:].count(FAILED)
        if failed >= LAST_FAILED and name not in named:
            yield "model_failing", f"{name} has failed in {failed} of its last {LAST_CONVERSATIONS} conversations."


def _free(folder: Path) -> int | None:
    """Bytes that are left of a disk, if that is little; else None."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), None)
    try:
        usage = None if place is None else shutil.disk_usage(place)
    except OSError:
        return None
    if usage is None or usage.free >= SMALLEST_FREE or usage.free >= SMALLEST_FREE_SHARE * usage.total:
        return None
    return usage.free

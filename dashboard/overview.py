"""The overview: one object for all who look, made anew only when something has changed."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from model_chat.dashboard.blinding import Names
from model_chat.dashboard.entries import BEFORE_CHAT, COMPLETE, FAILED, GOING_ON, LEFT
from model_chat.dashboard.forecast import forecast
from model_chat.dashboard.live import LiveState, quantile
from model_chat.dashboard.store import Listed, Snapshot
from model_chat.dashboard.study import StudyInfo
from model_chat.dashboard.trouble import warnings

HOUR = 3600
MOST_HOURS = 24 * 14
"""Of the chart of finished conversations; older ones are left out."""
MOST_CHATTING = 500


def counts_for_target(one: Listed) -> bool:
    """Whether a conversation is collected: complete, and not rejected."""
    return one.entry.status == COMPLETE and one.review != "rejected"


def make_overview(
    study: StudyInfo,
    snapshot: Snapshot,
    live: LiveState | None,
    names: Names,
    estimates: Sequence[dict[str, Any]] = (),
    now: float | None = None,
) -> dict[str, Any]:
    """Put the overview together (the interface is in docs/dashboard.md).

    Args:
        live: the run's counters; None for a study that does not run, or not in this process' run.
        estimates: of :func:`model_chat.dashboard.estimates.estimates`; none of a blind study.
        now: epoch seconds.

    Returns:
        JSON types only; what is not known is None.
    """
    now = time.time() if now is None else now
    listed = snapshot.listed
    finished = [one for one in listed if counts_for_target(one)]
    in_flight = [] if live is None else live.chatting
    target = sum(count.needed for count in live.counts) if live is not None and live.counts else study.target
    if study.kind == "image":
        target = study.target
    done = sum(count.done for count in live.counts) if live is not None and live.counts else len(finished)
    minutes = [one.entry.minutes for one in finished if one.entry.minutes is not None]
    money = _money(study, listed, finished, target, len(in_flight), live)
    left_at = _left_at(listed, snapshot, live is not None)
    seen = forecast(study, finished, done, target, live, now, money["spent"])
    return {
        "title": study.title,
        "task_name": study.task_name,
        "kind": study.kind,
        "live": live is not None,
        "blind": study.blind,
        "accepting": live is not None and live.accepting,
        "started": live.started
        if live is not None
        else min((one.entry.started for one in listed if one.entry.started), default=None),
        "target": target,
        "finished": done,
        "models": _models(study, finished, listed, live, names),
        "cells": _cells(study, finished, live, names),
        "workers": _workers(listed, live),
        "now_chatting": [
            {
                "worker": one.worker,
                "model": names.model(one.model) if one.model else None,
                "since": one.since,
                "turn": one.turn,
                "turns": study.num_turns,
            }
            for one in in_flight[:MOST_CHATTING]
        ],
        "left_at": [{"where": where, "count": count} for where, count in left_at.most_common(20)],
        "minutes": {
            "median": _rounded(_percentile(minutes, 50)),
            "p90": _rounded(_percentile(minutes, 90)),
        },
        "money": money,
        "forecast": seen,
        "warnings": [
            {"code": code, "text": names.text(text)}
            for code, text in warnings(study, snapshot, live, left_at, money, target, done, now)
        ],
        "estimates": list(estimates),
        "finished_by_hour": _by_hour(finished),
        "searchable": snapshot.searchable,
    }


def _models(
    study: StudyInfo, finished: Iterable[Listed], listed: Iterable[Listed], live: LiveState | None, names: Names
) -> list[dict[str, Any]]:
    done = Counter(one.entry.model for one in finished)
    failed = Counter(one.entry.model for one in listed if one.entry.status == FAILED)
    seconds: dict[str, list[float]] = defaultdict(list)
    recorded: Counter[str] = Counter()
    for one in listed:
        seconds[one.entry.model] += one.entry.reply_seconds
        recorded[one.entry.model] += one.entry.replies
    wanted = {} if study.by_cell else dict(study.wanted)
    chatting: Counter[str] = Counter()
    replies = {}
    if live is not None:
        chatting = Counter(one.model for one in live.chatting if one.model)
        replies = {one.name: one for one in live.replies}
        if not live.by_cell and live.counts:
            done = Counter({count.name: count.done for count in live.counts})
            wanted = {} if study.kind == "image" else {count.name: count.needed for count in live.counts}
    known = [*wanted, *replies, *done]
    found = []
    for name in dict.fromkeys(name for name in known if name):
        of_run = replies.get(name)
        timed = seconds.get(name, [])
        p50, p95 = (
            quantile(of_run.buckets, percent / 100) if of_run is not None else _percentile(timed, percent)
            for percent in (50, 95)
        )
        found.append(
            {
                "name": names.model(name),
                "finished": done[name],
                "wanted": wanted.get(name),
                "chatting": chatting[name],
                "replies": of_run.replies if of_run is not None else recorded[name],
                "latency_p50": _rounded(p50),
                "latency_p95": _rounded(p95),
                "failures": of_run.failures if of_run is not None else failed[name],
            }
        )
    return sorted(found, key=lambda row: _natural(row["name"])) if names.blind else found


def _cells(study: StudyInfo, finished: Iterable[Listed], live: LiveState | None, names: Names) -> list[dict[str, Any]]:
    if live is not None and live.by_cell:
        rows = [(count.name, count.done, count.needed, count.in_flight) for count in live.counts]
    elif study.by_cell:
        done = Counter(one.entry.cell for one in finished)
        rows = [(name, done[name], wanted, 0) for name, wanted in study.wanted.items()]
    else:
        return []
    found = [
        {"name": names.cell(name), "finished": done_, "wanted": wanted, "chatting": chatting}
        for name, done_, wanted, chatting in rows
    ]
    return sorted(found, key=lambda row: _natural(str(row["name"]))) if names.blind else found


def _natural(name: str) -> tuple[str, int]:
    word, _, number = name.rpartition(" ")
    return word, int(number) if number.isdecimal() else 0


def _workers(listed: Sequence[Listed], live: LiveState | None) -> dict[str, int]:
    statuses = Counter(one.entry.status for one in listed)
    return {
        "chatting": 0 if live is None else len(live.chatting),
        "onboarding": 0 if live is None else live.onboarding,
        "waiting": 0 if live is None else live.waiting,
        "left": statuses[LEFT],
        "finished": statuses[COMPLETE],
    }


def _left_at(listed: Iterable[Listed], snapshot: Snapshot, is_live: bool) -> Counter[str]:
    found = Counter(
        one.entry.left_at or BEFORE_CHAT
        for one in listed
        if one.entry.status == LEFT or (one.entry.status == GOING_ON and not is_live)
    )
    onboarding = sum(snapshot.onboarding.get(status, 0) for status in ("disconnect", "timeout", "returned", "expired"))
    if onboarding:
        found["onboarding"] += onboarding
    return found


def _money(
    study: StudyInfo,
    listed: Iterable[Listed],
    finished: Sequence[Listed],
    target: int | None,
    in_flight: int,
    live: LiveState | None,
) -> dict[str, Any]:
    """Amounts in whole currency; spent is what work that was handed in and not rejected costs, bonuses and fees included."""
    paid = Counter(one.agent.pay for one in listed if one.agent is not None and one.review in ("pending", "approved"))
    paid.update(one.bonus for one in listed)
    spent = sum(study.cost(count, amount) for amount, count in paid.items() if amount)
    timed = [one for one in finished if one.entry.minutes is not None and one.agent is not None]
    hourly = None
    if timed:
        average = statistics.fmean(one.agent.pay + one.bonus for one in timed if one.agent is not None)
        median = statistics.median(one.entry.minutes or 0.0 for one in timed)
        hourly = average * 60 / median
    return {
        "currency": study.currency,
        "spent": spent / 100,
        "committed": study.cost(in_flight) / 100,
        "planned": None if target is None else study.cost(target) / 100,
        "hourly_wage": None if hourly is None or not math.isfinite(hourly) else round(hourly / 100, 2),
        "min_hourly_wage": study.min_hourly_wage,
        "models_usd": None if live is None else live.models_usd,
        "models_limit_usd": None if live is None else live.models_limit_usd,
    }


def _by_hour(finished: Iterable[Listed]) -> list[list[float]]:
    hours = Counter(int(one.entry.ended // HOUR) * HOUR for one in finished if one.entry.ended)
    if not hours:
        return []
    last = max(hours)
    return [[hour, hours[hour]] for hour in sorted(hours) if hour > last - MOST_HOURS * HOUR]


def _percentile(values: Sequence[float], percent: int) -> float | None:
    if len(values) < 2:
        return next(iter(values), None)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 3)

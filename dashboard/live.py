"""What a run tells its dashboard, once a second, and what the dashboard may ask of the run."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

ENDLESS = 1e9
"""Seconds; the upper bound of a histogram's last bucket, for JSON knows no infinity."""


class DashboardMessage(BaseModel):
    """What a run and its dashboard tell each other."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Count(DashboardMessage):
    """How far a model, pair or condition is."""

    name: str
    done: int
    in_flight: int
    needed: int


class Chatting(DashboardMessage):
    """One conversation that goes on."""

    agent_id: str
    worker: str
    model: str | None
    since: float | None
    turn: int


class Replies(DashboardMessage):
    """How a model has replied in this run.

    Attributes:
        buckets: replies that took at most so many seconds (the upper bounds), cumulative.
    """

    name: str
    replies: int
    failures: int
    buckets: list[tuple[float, int]]


class LiveState(DashboardMessage):
    """The run's own counters at one moment.

    Attributes:
        started: when the run began, epoch seconds.
        by_cell: whether ``counts`` are of conditions.
        onboarding: workers who practise now.
        waiting: workers who have arrived and do not chat yet.
        declined: people who chose not to take part.
        models_usd: what the models have cost; None where nobody counts it.
        models_limit_usd: None: no limit.
    """

    accepting: bool
    started: float
    by_cell: bool = False
    counts: list[Count] = []
    chatting: list[Chatting] = []
    replies: list[Replies] = []
    onboarding: int = 0
    waiting: int = 0
    declined: int = 0
    models_usd: float | None = None
    models_limit_usd: float | None = None


RunAct = Literal["stop", "resume", "extend"]


class Run(Protocol):
    """The run, as its dashboard sees it."""

    @property
    def state(self) -> LiveState | None:
        """What it said last; None before it has said anything."""

    def ask(self, act: RunAct, more: int | None) -> str:
        """Let it do something; return "" or, in a sentence, why it did not. Waits for the answer."""


def quantile(buckets: list[tuple[float, int]], share: float) -> float | None:
    """Estimate a quantile from a cumulative histogram, linearly within a bucket, as Prometheus does.

    Args:
        buckets: upper bound -> count, cumulative, rising.
        share: between 0 and 1.
    """
    total = buckets[-1][1] if buckets else 0
    if not total:
        return None
    rank, low, before = share * total, 0.0, 0
    for bound, count in buckets:
        if count >= rank:
            if bound >= ENDLESS:
                return low
            return low + (bound - low) * (rank - before) / max(1, count - before)
        low, before = bound, count
    return low

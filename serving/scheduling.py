"""Scheduling of replies: a queue for each set of weights, and threads that serve the request that has waited longest."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model_chat.serving.batching import Asked
from model_chat.serving.model import ServedModel

logger = logging.getLogger(__name__)


class ServingCount(NamedTuple):
    """What one model has done so far."""

    replies: int
    batches: int
    seconds: float


@dataclass(eq=False)
class _Request:
    model: ServedModel
    asked: Asked
    future: Future[Any]
    since: float
    source: object
    """The same for requests that were submitted together."""


@dataclass(eq=False)
class _Run:
    """Weights at work.

    ``replaced`` once another thread does what this one no longer can; ``is_watched`` once a timer looks at it when it
    will count as hanging.
    """

    started: float
    nicknames: frozenset[str]
    replaced: bool = False
    is_watched: bool = False


@dataclass(eq=False)
class _Lane:
    """The queue of a set of weights, which one model has, or several that differ in prompt or sampling.

    ``alone`` is true where clones may not be batched: each request is run by itself, several at once if the limit allows
    it. Weights that are batched are run by as many threads at a time as the model says, as a rule one. A run that takes
    long does not keep the other models of the same weights waiting:

    - Once it has taken half of ``patience``, only its own models wait for its end.
    - When it hangs (``patience``), a model that was in it alone goes on waiting. If it held several, nobody knows which
      of them it hangs over: they wait no longer, and as long as it hangs each model has batches of its own.
    """

    models: list[ServedModel]
    alone: bool
    most: int
    patience: float
    waiting: list[_Request] = field(default_factory=list)
    runs: set[_Run] = field(default_factory=set)

    def due(self, now: float) -> list[_Request]:
        """Return the requests that would be run together now, oldest first; empty if what runs must end before."""
        self.waiting = [request for request in self.waiting if not request.future.cancelled()]
        if not self.waiting:
            return []
        mixes = not any(len(run.nicknames) > 1 and self._hangs(run, now) for run in self.runs)
        may_begin = {model.nickname: self._may_begin(model.nickname, now) for model in self.models}
        chosen: list[_Request] = []
        first: Hashable = None
        for (_, group), unit in itertools.groupby(
            (request for request in self.waiting if may_begin[request.model.nickname]),
            key=lambda request: (
                request.source,
                (request.model.batch_group, None if mixes else request.model.nickname),
            ),
        ):
            if chosen and group != first:
                continue
            requests = list(unit)
            if chosen and len(chosen) + len(requests) > self.most:
                break  # what was submitted together stays together
            first = group
            chosen += requests[: self.most]
        return chosen

    def _may_begin(self, nickname: str, now: float) -> bool:
        if self.alone:
            return True
        limit = self.models[0].runs_at_once
        recent = sum(now - run.started < self.patience / 2 for run in self.runs)
        own = sum(
            nickname in run.nicknames and (len(run.nicknames) == 1 or not self._hangs(run, now)) for run in self.runs
        )
        return max(recent, own) < limit

    def _hangs(self, run: _Run, now: float) -> bool:
        return now - run.started >= self.patience

    def next_look(self, now: float) -> float:
        """Return in how many seconds a request may be due that is not now: when a run has taken long; else infinite."""
        steps = [run.started + part * self.patience - now for run in self.runs for part in (0.5, 1.0)]
        return min((seconds for seconds in steps if seconds > 0 and self.waiting), default=float("inf"))


class Scheduler:
    """Runs models for conversations, at most ``limit`` at once.

    The one that has waited longest is served first, whatever its model, so that no model's conversations wait longer than
    another's; with it come those, oldest first, that can be answered in the same batch.

    Threads are daemons: Python waits for a :class:`concurrent.futures.ThreadPoolExecutor`'s when it exits, and a model that
    hangs would keep the whole process.

    ``_condition`` guards everything here; no model is called while it is held.

    Args:
        limit: how many may run at once; at least 1.
        max_batch_size: most conversations answered at once; 1 for no batches.
        batch_wait: seconds that a request waits for others to join it, at most.
        patience: seconds after which a model that runs counts as hanging: it keeps its own requests waiting, but its place
            among ``limit`` goes to the other models.
    """

    def __init__(
        self, models: Iterable[ServedModel], limit: int, max_batch_size: int, batch_wait: float, patience: float
    ) -> None:
        self._condition = threading.Condition()
        self._batch_wait = batch_wait
        self._patience = patience
        self._models = {model.nickname: model for model in models}
        self._counts = dict.fromkeys(self._models, ServingCount(0, 0, 0.0))
        sharing: dict[Hashable, list[ServedModel]] = {}
        for model in self._models.values():
            sharing.setdefault(model.weights, []).append(model)
        self._lanes: list[_Lane] = []
        self._lane_of: dict[str, _Lane] = {}
        for members in sharing.values():
            alone = max_batch_size == 1 or not all(model.takes_batches for model in members)
            lane = _Lane(members, alone, 1 if alone else max_batch_size, patience)
            self._lanes.append(lane)
            self._lane_of.update(dict.fromkeys((model.nickname for model in members), lane))
        self._runs: set[_Run] = set()
        self.closed: Future[None] = Future()
        for _ in range(limit):
            self._start_thread()

    def submit(self, requests: Iterable[tuple[str, Asked]]) -> list[Future[Any]]:
        """Queue requests of one conversation, all at the same moment, so that one batch can have them all.

        Returns:
            a future for each, in order; it is cancelled if the scheduler is shut down before its turn comes.

        Raises:
            KeyError: there is no such model.
        """
        now, source = time.monotonic(), object()
        queued = [_Request(self._models[nickname], asked, Future(), now, source) for nickname, asked in requests]
        with self._condition:
            for request in queued:
                if self.closed.done():
                    request.future.cancel()
                else:
                    self._lane_of[request.model.nickname].waiting.append(request)
            self._replace_hanging()
            self._condition.notify_all()
        return [request.future for request in queued]

    def given_up(self) -> None:
        """Tell that somebody has waited in vain: a model may be hanging, or will count as hanging in a moment."""
        with self._condition:
            self._replace_hanging()
            now = time.monotonic()
            for run in self._runs:
                if not run.replaced and not run.is_watched:
                    run.is_watched = True
                    timer = threading.Timer(max(0.0, run.started + self._patience - now), self._look_again)
                    timer.daemon = True
                    timer.start()

    def _look_again(self) -> None:
        with self._condition:
            self._replace_hanging()

    def waiting(self) -> int:
        """Return how many requests wait for their turn."""
        with self._condition:
            return sum(len(lane.waiting) for lane in self._lanes)

    def counts(self) -> dict[str, ServingCount]:
        """Return what each model has done so far."""
        with self._condition:
            return dict(self._counts)

    def shutdown(self) -> None:
        """Cancel what waits; what runs is not waited for."""
        with self._condition:
            if not self.closed.done():
                self.closed.set_result(None)
            for lane in self._lanes:
                while lane.waiting:
                    lane.waiting.pop().future.cancel()
            self._condition.notify_all()

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name="model-reply", daemon=True).start()

    def _replace_hanging(self) -> None:
        now = time.monotonic()
        for run in self._runs:
            if not run.replaced and now - run.started >= self._patience:
                run.replaced = True
                self._start_thread()

    def _work(self) -> None:
        while True:
            with self._condition:
                while (work := self._next()) is None:
                    if self.closed.done():
                        return
                    self._condition.wait(self._until_ready())
                lane, requests = work
                run = _Run(time.monotonic(), frozenset(request.model.nickname for request in requests))
                self._runs.add(run)
                lane.runs.add(run)
            _serve(requests)
            with self._condition:
                lane.runs.discard(run)
                self._count(requests, time.monotonic() - run.started)
                self._runs.discard(run)
                self._condition.notify_all()
                if run.replaced:
                    return

    def _count(self, requests: Sequence[_Request], seconds: float) -> None:
        """Count a run for each model in it; its time is divided by the number of replies."""
        replies = Counter(request.model.nickname for request in requests)
        for nickname, own in replies.items():
            before = self._counts[nickname]
            self._counts[nickname] = ServingCount(
                before.replies + own, before.batches + 1, before.seconds + seconds * own / len(requests)
            )

    def _next(self) -> tuple[_Lane, list[_Request]] | None:
        """Take what is to be run next, or nothing."""
        while True:
            now = time.monotonic()
            ready = [
                (due[0].since, lane, due)
                for lane in self._lanes
                if (due := lane.due(now)) and self._left(lane, due, now) <= 0
            ]
            if not ready:
                return None
            _, lane, due = min(ready, key=lambda each: each[0])
            taken = set(due)
            lane.waiting = [request for request in lane.waiting if request not in taken]
            # A conversation may have given up in this moment.
            requests = [request for request in due if request.future.set_running_or_notify_cancel()]
            if requests:
                return lane, requests

    def _left(self, lane: _Lane, due: Sequence[_Request], now: float) -> float:
        """Seconds until requests are to be run that might be joined by others."""
        return 0.0 if len(due) >= lane.most else due[0].since + self._batch_wait - now

    def _until_ready(self) -> float | None:
        now = time.monotonic()
        left = float("inf")
        for lane in self._lanes:
            due = lane.due(now)
            left = min(left, lane.next_look(now), self._left(lane, due, now) if due else float("inf"))
        return None if left == float("inf") else max(0.0, left)


def _serve(requests: Sequence[_Request]) -> None:
    """Run weights for what was taken from their queue, and settle every future; any of the models has the weights."""
    try:
        outcomes = requests[0].model.answer([request.asked for request in requests])
    except BaseException as error:  # it goes to whoever asked; the queue's thread continues
        outcomes = [error] * len(requests)
    for request, outcome in zip(requests, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)

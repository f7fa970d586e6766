"""Scheduling of replies: one queue per model, and a few threads that serve the request that has waited longest."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model_chat.serving.batching import Asked
from model_chat.serving.model import ServedModel

logger = logging.getLogger(__name__)


class ServingCount(NamedTuple):
    """What one model has done so far.

    Attributes:
        replies: replies asked for that were begun.
        batches: how many times the model was run for them.
        seconds: how long that took in all.
    """

    replies: int
    batches: int
    seconds: float


@dataclass(eq=False)
class _Request:
    asked: Asked
    future: Future[Any]
    since: float


@dataclass(eq=False)
class _Lane:
    """One model's queue.

    ``alone`` is true for a model whose clones may not be batched: each of its requests is run by itself, several at once
    if the limit allows it. A model that is batched is run by as many threads at a time as it says, as a rule one.
    """

    model: ServedModel
    alone: bool
    waiting: deque[_Request] = field(default_factory=deque)
    runs: int = 0
    replies: int = 0
    batches: int = 0
    seconds: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether it has to finish something before it takes more."""
        return not self.alone and self.runs >= self.model.runs_at_once


@dataclass(eq=False)
class _Run:
    """A model at work.

    ``replaced`` once another thread does what this one no longer can; ``is_watched`` once a timer looks at it when it
    will count as hanging.
    """

    started: float
    replaced: bool = False
    is_watched: bool = False


class Scheduler:
    """Runs models for conversations, at most ``limit`` at once.

    The one that has waited longest is served first, whatever its model; with it come those that wait for the same model,
    oldest first, if it takes batches. Threads are daemons: Python waits for a
    :class:`concurrent.futures.ThreadPoolExecutor`'s when it exits, and a model that hangs would keep the whole process.

    ``_condition`` guards everything here; no model is called while it is held.

    Args:
        models: the models.
        limit: how many may run at once; at least 1.
        max_batch_size: most conversations answered at once; 1 for no batches.
        batch_wait: seconds that a request waits for others to join it, at most.
        patience: seconds after which a model that runs counts as hanging: it keeps its own queue waiting, but its place
            among ``limit`` goes to the other models.
    """

    def __init__(
        self, models: Iterable[ServedModel], limit: int, max_batch_size: int, batch_wait: float, patience: float
    ) -> None:
        self._condition = threading.Condition()
        self._max_batch_size = max_batch_size
        self._batch_wait = batch_wait
        self._patience = patience
        self._lanes = {
            model.nickname: _Lane(model, alone=max_batch_size == 1 or not model.takes_batches) for model in models
        }
        self._runs: set[_Run] = set()
        self.closed: Future[None] = Future()
        for _ in range(limit):
            self._start_thread()

    def submit(self, nickname: str, asked: Asked) -> Future[Any]:
        """Queue a request; its future is cancelled if the scheduler is shut down before its turn comes.

        Raises:
            KeyError: there is no such model.
        """
        request = _Request(asked, Future(), time.monotonic())
        with self._condition:
            lane = self._lanes[nickname]
            if self.closed.done():
                request.future.cancel()
            else:
                lane.waiting.append(request)
                self._replace_hanging()
                self._condition.notify_all()
        return request.future

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
            return sum(len(lane.waiting) for lane in self._lanes.values())

    def counts(self) -> dict[str, ServingCount]:
        """Return what each model has done so far."""
        with self._condition:
            return {name: ServingCount(lane.replies, lane.batches, lane.seconds) for name, lane in self._lanes.items()}

    def shutdown(self) -> None:
        """Cancel what waits; what runs is not waited for."""
        with self._condition:
            if not self.closed.done():
                self.closed.set_result(None)
            for lane in self._lanes.values():
                while lane.waiting:
                    lane.waiting.popleft().future.cancel()
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
                run = _Run(time.monotonic())
                self._runs.add(run)
            _serve(lane, requests)
            with self._condition:
                lane.runs -= 1
                lane.replies += len(requests)
                lane.batches += 1
                lane.seconds += time.monotonic() - run.started
                self._runs.discard(run)
                self._condition.notify_all()
                if run.replaced:
                    return

    def _next(self) -> tuple[_Lane, list[_Request]] | None:
        """Take what is to be run next, or nothing."""
        now = time.monotonic()
        ready = [lane for lane in self._lanes.values() if not lane.busy and self._left(lane, now) <= 0]
        while ready:
            lane = min(ready, key=lambda each: each.waiting[0].since)
            most = 1 if lane.alone else self._max_batch_size
            requests: list[_Request] = []
            while lane.waiting and len(requests) < most:
                request = lane.waiting.popleft()
                if request.future.set_running_or_notify_cancel():  # else the conversation has given up
                    requests.append(request)
            if requests:
                lane.runs += 1
                return lane, requests
            ready.remove(lane)
        return None

    def _left(self, lane: _Lane, now: float) -> float:
        """Seconds until a lane's requests are due; infinite for an empty one."""
        if not lane.waiting:
            return float("inf")
        if lane.alone or len(lane.waiting) >= self._max_batch_size:
            return 0.0
        return lane.waiting[0].since + self._batch_wait - now

    def _until_ready(self) -> float | None:
        now = time.monotonic()
        left = min((self._left(lane, now) for lane in self._lanes.values() if not lane.busy), default=float("inf"))
        return None if left == float("inf") else max(0.0, left)


def _serve(lane: _Lane, requests: Sequence[_Request]) -> None:
    """Run the model for what was taken from its queue, and settle every future."""
    try:
        outcomes = lane.model.answer([request.asked for request in requests])
    except BaseException as error:  # it goes to whoever asked; the queue's thread continues
        outcomes = [error] * len(requests)
    for request, outcome in zip(requests, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)

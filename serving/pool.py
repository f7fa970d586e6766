"""The models of a run: concurrency, time limits, and failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from functools import cache
from typing import Any, NamedTuple

from model_chat.records.schema import Generation
from model_chat.records.visible_text import is_blank
from model_chat.serving.batching import Asked
from model_chat.serving.model import ModelFailureError as ModelFailureError
from model_chat.serving.model import ServedModel, StoppedError
from model_chat.serving.opt_export import exportable_opt
from model_chat.serving.reply_meter import ReplyMeter
from model_chat.serving.scheduling import Scheduler, ServingCount

logger = logging.getLogger(__name__)

DEFAULT_MAX_BATCH_SIZE = 16
GIVE_UP_SECONDS = 2.0
"""How much later than its deadline a request that runs beside others is waited for: it ends by itself, with its reason and
with what it has cost."""


class PendingReply(NamedTuple):
    """A reply that was asked for; :meth:`ModelPool.wait_for` waits for it.

    Attributes:
        future: the act that the model's clone will return.
        started: when it was asked for, on :func:`time.monotonic`'s clock.
        seconds: how long it is to be waited for at most.
    """

    nickname: str
    future: Future[Any]
    started: float
    seconds: float


class ModelPool:
    """All models of a run, loaded once; conversations get clones and ask the pool for replies.

    At most ``max_concurrent_responses`` models generate at once, whichever conversations they belong to. Conversations
    that wait for the same model are answered together where the model allows it (:mod:`model_chat.serving.batching`).
    Models behind endpoints are asked beside each other, at once. Thread-safe: ``_lock`` guards what was spent, the scheduler
    guards the rest, and each clone belongs to one conversation.

    Args:
        max_concurrent_responses: how many models generate at once; at least 1.
        response_timeout: seconds a conversation waits for one reply, its time in the queue included.
        max_batch_size: most conversations that a model answers at once.
        batch_wait_ms: milliseconds that a request waits for others to join it. With 0 those are joined that have come
            while the model was busy, which costs nobody any time.
        close: ends what serves the models, where that is more than this process; called once, by :meth:`shutdown`.
    """

    def __init__(
        self,
        models: Iterable[ServedModel],
        max_concurrent_responses: int,
        response_timeout: float,
        max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
        batch_wait_ms: float = 0,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._close = close
        self._models = {model.nickname: model for model in models}
        self.exported_opt = cache(lambda nickname: exportable_opt(self._models[nickname].opt))
        """Nickname -> the model's opt as it is saved with each conversation."""
        self._response_timeout = response_timeout
        self.meter = ReplyMeter(self._models)
        self._lock = threading.Lock()
        self._spent = dict.fromkeys(self._models, 0.0)
        self._scheduler = Scheduler(
            self._models.values(), max_concurrent_responses, max_batch_size, batch_wait_ms / 1000, response_timeout
        )

    def models(self) -> list[ServedModel]:
        """Return all models, in their order."""
        return list(self._models.values())

    def model(self, nickname: str) -> ServedModel:
        """Return a model by nickname."""
        return self._models[nickname]

    def reply(
        self, nickname: str, clone: Any, observations: Sequence[Any], tell: Callable[[str], None] | None = None
    ) -> Any:
        """Let a conversation's clone observe and answer.

        Args:
            clone: what the model's ``clone()`` made; not used by anyone else meanwhile.
            observations: ParlAI messages to observe, in order, before it acts.
            tell: gets the text so far, where the model streams.

        Returns, raises:
            see :meth:`wait_for`.
        """
        (pending,) = self.ask([(nickname, Asked(clone, observations, tell))])
        return self.wait_for(pending)

    def ask(self, requests: Sequence[tuple[str, Asked]]) -> list[PendingReply]:
        """Ask for several replies at the same moment; those that can be made in one batch are.

        Args:
            requests: the nickname of the model and what it is asked, for each reply; each clone at most once.

        Returns:
            for each, in order, what :meth:`wait_for` takes.
        """
        started = time.monotonic()
        deadline = started + self._response_timeout
        beside = [self._begin_beside(nickname, asked, deadline) for nickname, asked in requests]
        queued = iter(
            self._scheduler.submit([request for request, own in zip(requests, beside, strict=True) if own is None])
        )
        return [
            PendingReply(nickname, next(queued), started, self._response_timeout)
            if own is None
            else PendingReply(nickname, own, started, self._response_timeout + GIVE_UP_SECONDS)
            for (nickname, _), own in zip(requests, beside, strict=True)
        ]

    def wait_for(self, pending: PendingReply) -> Any:
        """Wait for a reply.

        Returns:
            the clone's ParlAI act, whose ``text`` is a non-empty string, and whose ``generation`` holds what is known of
            how it was made (:class:`model_chat.records.schema.Generation`).

        Raises:
            ModelFailureError: the model raised, returned no text, or took longer than the time limit.
            StoppedError: the run has ended (:meth:`interrupt`).
        """
        with self.meter.measuring(pending.nickname, pending.started):
            return self._outcome(pending)

    def _outcome(self, pending: PendingReply) -> Any:
        nickname, future, started, seconds = pending
        left = max(0.0, started + seconds - time.monotonic())
        wait({future, self._scheduler.closed}, timeout=left, return_when=FIRST_COMPLETED)
        if not future.done():
            future.cancel()
            self._scheduler.given_up()
            if self._scheduler.closed.done():
                raise StoppedError(f"The run ended while {nickname} was asked for a reply.")
            raise ModelFailureError(
                f"{nickname} gave no reply within {self._response_timeout:g} s "
                "(mephisto.blueprint.max_model_response_time)."
            )
        try:
            error = future.exception()
        except CancelledError:
            raise StoppedError(f"The run ended while {nickname} was asked for a reply.") from None
        if isinstance(error, ModelFailureError):  # of a model that runs elsewhere, and can't be reached there
            self._count_spend(nickname, Generation.of(error.generation).cost_usd)
            raise error
        if error is not None:  # SystemExit among them: a model must not end the thread of the conversation
            logger.error("%s raised an exception while replying", nickname, exc_info=error)
            raise ModelFailureError(f"{nickname} raised {error!r}.") from error
        act = future.result()
        said = act if isinstance(act, Mapping) else {}
        generation = Generation.of(said.get("generation"))
        if generation.seconds is None:
            generation.seconds = time.monotonic() - started
        self._count_spend(nickname, generation.cost_usd)
        text = said.get("text")
        if not isinstance(text, str) or is_blank(text):
            raise ModelFailureError(f"{nickname} returned no text.")
        return {**said, "generation": generation}

    def _begin_beside(self, nickname: str, asked: Asked, deadline: float) -> Future[Any] | None:
        """Ask beside others, where the model can be asked so; None where the request is to be queued."""
        try:
            return self._models[nickname].begin_reply(asked, deadline)
        except Exception as error:  # whatever an agent raises while it observes belongs to this conversation
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    def _count_spend(self, nickname: str, cost: float | None) -> None:
        if cost:
            with self._lock:
                self._spent[nickname] += cost

    def spent_usd(self) -> dict[str, float]:
        """Return what the replies of each model have cost in this run, as far as prices are set; US dollars."""
        with self._lock:
            return dict(self._spent)

    def interrupt(self) -> None:
        """Let no conversation wait any longer: requests that wait are dropped, those that run are not waited for."""
        self._scheduler.shutdown()

    def shutdown(self) -> None:
        """Take no more requests, and end what serves the models."""
        self.interrupt()
        close, self._close = self._close, None
        if close is not None:
            close()

    def counts(self) -> dict[str, ServingCount]:
        """Return how many replies each model that runs here has given, in how many batches, and how long that took."""
        return self._scheduler.counts()

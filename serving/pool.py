"""The models of a run: concurrency, time limits, and failures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from typing import Any

from model_chat.records.visible_text import is_blank
from model_chat.serving.batching import Asked
from model_chat.serving.model import ModelFailureError as ModelFailureError
from model_chat.serving.model import ServedModel, StoppedError
from model_chat.serving.scheduling import Scheduler, ServingCount

logger = logging.getLogger(__name__)

DEFAULT_MAX_BATCH_SIZE = 16


class ModelPool:
    """All models of a run, loaded once; conversations get clones and ask the pool for replies.

    At most ``max_concurrent_responses`` models generate at once, whichever conversations they belong to. Conversations
    that wait for the same model are answered together where the model allows it (:mod:`model_chat.serving.batching`).
    Thread-safe: the scheduler has the only shared state, and each clone belongs to one conversation.

    Args:
        models: the loaded models.
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
        self._response_timeout = response_timeout
        self._scheduler = Scheduler(
            self._models.values(), max_concurrent_responses, max_batch_size, batch_wait_ms / 1000, response_timeout
        )

    def models(self) -> list[ServedModel]:
        """Return all models, in their order."""
        return list(self._models.values())

    def model(self, nickname: str) -> ServedModel:
        """Return a model by nickname."""
        return self._models[nickname]

    def reply(self, nickname: str, clone: Any, observations: Sequence[Any]) -> Any:
        """Let a conversation's clone observe and answer.

        Args:
            nickname: the clone's model, for error messages.
            clone: what the model's ``clone()`` made; not used by anyone else meanwhile.
            observations: ParlAI messages to observe, in order, before it acts.

        Returns:
            the clone's ParlAI act, whose ``text`` is a non-empty string.

        Raises:
            ModelFailureError: the model raised, returned no text, or took longer than the time limit.
            StoppedError: the run has ended (:meth:`interrupt`).
        """
        future = self._scheduler.submit(nickname, Asked(clone, observations))
        wait({future, self._scheduler.closed}, timeout=self._response_timeout, return_when=FIRST_COMPLETED)
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
            raise error
        if error is not None:  # SystemExit among them: a model must not end the thread of the conversation
            logger.error("%s raised an exception while replying", nickname, exc_info=error)
            raise ModelFailureError(f"{nickname} raised {error!r}.") from error
        act = future.result()
        text = act.get("text") if hasattr(act, "get") else None
        if not isinstance(text, str) or is_blank(text):
            raise ModelFailureError(f"{nickname} returned no text.")
        return act

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
        """Return how many replies each model has given, in how many batches, and how long that took."""
        return self._scheduler.counts()

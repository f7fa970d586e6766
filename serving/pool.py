"""The models of a run: who may generate, for how long, and what happens when a model fails."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Any

from model_chat.serving.loading import LoadedModel

logger = logging.getLogger(__name__)


class ModelFailureError(RuntimeError):
    """A model gave no usable reply. The message is for the requester and never goes to a worker."""


class ModelPool:
    """All models of a run, loaded once; conversations get clones and ask the pool for replies.

    At most ``max_concurrent_responses`` models generate at once, whichever conversations they belong to. Thread-safe: the
    queue of requests is the only shared state, and each clone belongs to one conversation.

    Args:
        models: the loaded models.
        max_concurrent_responses: how many replies are generated at once; at least 1.
        response_timeout: seconds a conversation waits for one reply, its time in the queue included.
    """

    def __init__(self, models: Iterable[LoadedModel], max_concurrent_responses: int, response_timeout: float) -> None:
        self._models = {model.nickname: model for model in models}
        self._response_timeout = response_timeout
        self._generators = _Generators(max_concurrent_responses)

    def model(self, nickname: str) -> LoadedModel:
        """Return a model by nickname."""
        return self._models[nickname]

    def reply(self, nickname: str, clone: Any, observations: list[Any]) -> Any:
        """Let a conversation's clone observe and answer.

        Args:
            nickname: the clone's model, for error messages.
            clone: what :meth:`LoadedModel.clone` made; not used by anyone else meanwhile.
            observations: ParlAI messages to observe, in order, before it acts.

        Returns:
            the clone's ParlAI act, whose ``text`` is a non-empty string.

        Raises:
            ModelFailureError: the model raised, returned no text, or took longer than the time limit.
        """

        def observe_and_act() -> Any:
            for observation in observations:
                clone.observe(observation)
            return clone.act()

        future = self._generators.submit(observe_and_act)
        wait({future, self._generators.closed}, timeout=self._response_timeout, return_when=FIRST_COMPLETED)
        if not future.done():
            future.cancel()
            if self._generators.closed.done():
                raise ModelFailureError(f"The run ended while {nickname} was asked for a reply.")
            raise ModelFailureError(
                f"{nickname} gave no reply within {self._response_timeout:g} s "
                "(mephisto.blueprint.max_model_response_time)."
            )
        try:
            error = future.exception()
        except CancelledError:
            raise ModelFailureError(f"The run ended while {nickname} was asked for a reply.") from None
        if error is not None:  # SystemExit among them: a model must not end the thread of the conversation
            logger.error("%s raised an exception while replying", nickname, exc_info=error)
            raise ModelFailureError(f"{nickname} raised {error!r}.") from error
        act = future.result()
        text = act.get("text") if hasattr(act, "get") else None
        if not isinstance(text, str) or not text.strip():
            raise ModelFailureError(f"{nickname} returned no text.")
        return act

    def shutdown(self) -> None:
        """Take no more requests; those that wait are dropped, those that run are not waited for."""
        self._generators.shutdown()


class _Generators:
    """Daemon threads that work off one queue of requests.

    Not a :class:`concurrent.futures.ThreadPoolExecutor`: Python waits for that one's threads when it exits, and a model
    that hangs would keep the whole process.
    """

    def __init__(self, threads: int) -> None:
        self._requests: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self.closed: Future[None] = Future()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"model-reply-{number}", daemon=True).start()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Queue ``call``; the future is cancelled if the generators are shut down before its turn comes."""
        future: Future[Any] = Future()
        self._requests.put((future, call))
        if self.closed.done():
            future.cancel()
        return future

    def shutdown(self) -> None:
        """Cancel what waits; what runs is not waited for."""
        if not self.closed.done():
            self.closed.set_result(None)
        while True:
            try:
                future, _ = self._requests.get_nowait()
            except queue.Empty:
                return
            future.cancel()

    def _work(self) -> None:
        while True:
            future, call = self._requests.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # whatever a model raises belongs to the conversation that asked
                future.set_exception(error)

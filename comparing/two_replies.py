"""Two replies that are made at the same time: neither is shown before the other, and one that fails fails both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol, TypeVar

from model_chat.configuration.comparison import SIDES
from model_chat.records.schema import Generation
from model_chat.serving.pool import ModelFailureError


class _Made(Protocol):
    @property
    def generation(self) -> Generation:
        """How it was made."""


MadeReply = TypeVar("MadeReply", bound=_Made)


class CommonStart:
    """Holds back what either side has of its reply until both have some, so that the faster model does not show.

    Both models' threads call it; ``_lock`` guards what they have told.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Callable[[], None]] = {}
        self._begun: set[str] = set()
        self._both_begun = threading.Event()

    def held(self, side: str, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Return what one side is to tell its text in place of ``tell``, which gets the newest text after the start."""

        def tell_after_start(text: str) -> None:
            with self._lock:
                if not self._both_begun.is_set():
                    self._held[side] = partial(tell, text)
                    self._begin(side)
                    return
            tell(text)

        return tell_after_start

    def begin(self, side: str) -> None:
        """Take note that one side has its whole reply, or has failed."""
        with self._lock:
            self._begin(side)

    def _begin(self, side: str) -> None:
        self._begun.add(side)
        if len(self._begun) == len(SIDES) and not self._both_begun.is_set():
            for release in self._held.values():
                release()
            self._both_begun.set()

    def wait(self) -> None:
        """Wait until both sides have begun; each does, at the latest when its model's time is over."""
        self._both_begun.wait()


def both_of(asked: Sequence[Future[MadeReply]]) -> tuple[MadeReply, MadeReply]:
    """Wait for both replies.

    Raises:
        ModelFailureError: one failed. The first one's reason is given; its generation has the cost of both.
        BaseException: whatever else one ended with.
    """
    errors = [future.exception() for future in asked]
    others = [error for error in errors if error is not None and not isinstance(error, ModelFailureError)]
    if others:  # the run has ended
        raise others[0]
    failed = next((error for error in errors if isinstance(error, ModelFailureError)), None)
    if failed is None:
        first, second = asked
        return first.result(), second.result()
    known = [
        Generation.of(error.generation) if isinstance(error, ModelFailureError) else future.result().generation
        for future, error in zip(asked, errors, strict=True)
    ]
    costs = [generation.cost_usd for generation in known if generation.cost_usd is not None]
    if costs:
        failed.generation = {**(failed.generation or {}), "cost_usd": sum(costs)}
    raise failed

"""How many replies models have given, how long they took, and how many failed: for the run's metrics."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from model_chat.errors import ModelFailureError

SECONDS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120)
"""Upper bounds of the histogram's buckets."""


class ReplyMeter:
    """Metrics of replies by model. Thread-safe, as prometheus_client's metrics are.

    Args:
        nicknames: the models, each of which is there from the beginning with 0.
    """

    def __init__(self, nicknames: Iterable[str]) -> None:
        self.seconds = Histogram(
            "model_chat_reply_seconds",
            "Seconds that conversations waited for replies which came, queue included.",
            ["model"],
            registry=None,
            buckets=SECONDS,
        )
        self.failures = Counter(
            "model_chat_reply_failures", "Replies that did not come: the model failed.", ["model"], registry=None
        )
        for nickname in nicknames:
            self.seconds.labels(nickname)
            self.failures.labels(nickname)

    def register(self, registry: CollectorRegistry) -> None:
        """Let a registry show the metrics."""
        registry.register(self.seconds)
        registry.register(self.failures)


class _HasMeter(Protocol):
    meter: ReplyMeter


S = TypeVar("S", bound=_HasMeter)
P = ParamSpec("P")


def metered(
    reply: Callable[Concatenate[S, str, P], Any],
) -> Callable[Concatenate[S, str, P], Any]:
    """Wrap a method that asks a model, named by its first argument, so that ``self.meter`` counts how that ends.

    A request that the end of the run has cut short (:class:`~model_chat.serving.model.StoppedError`) counts as neither.
    """

    @functools.wraps(reply)
    def ask(self: S, nickname: str, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        started = time.monotonic()
        try:
            act = reply(self, nickname, *args, **kwargs)
        except ModelFailureError:
            self.meter.failures.labels(nickname).inc()
            raise
        self.meter.seconds.labels(nickname).observe(time.monotonic() - started)
        return act

    return ask

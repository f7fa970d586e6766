"""How many replies models have given, how long they took, and how many failed: for the run's metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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

    @contextmanager
    def measuring(self, nickname: str, started: float) -> Iterator[None]:
        """Count how waiting for a reply ends: with the reply, or with the failure of the model.

        What the end of the run has cut short (:class:`~model_chat.serving.model.StoppedError`) counts as neither.

        Args:
            started: when it was asked for, on :func:`time.monotonic`'s clock.
        """
        try:
            yield
        except ModelFailureError:
            self.failures.labels(nickname).inc()
            raise
        self.seconds.labels(nickname).observe(time.monotonic() - started)

    def register(self, registry: CollectorRegistry) -> None:
        """Let a registry show the metrics."""
        registry.register(self.seconds)
        registry.register(self.failures)

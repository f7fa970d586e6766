"""What the metrics of replies count: replies and failures by model, and nothing that the end of a run has cut short."""

from __future__ import annotations

from typing import Any

import pytest
from parlai.core.message import Message
from parlai.core.opt import Opt
from prometheus_client import CollectorRegistry

from model_chat.errors import ModelFailureError
from model_chat.serving.loading import LoadedModel
from model_chat.serving.model import StoppedError
from model_chat.serving.pool import ModelPool
from model_chat.tests.parlai_agents import NO_TEXT, RAISE, ScriptedAgent


def counts(pool: ModelPool, nickname: str) -> tuple[float | None, float | None]:
    """Replies and failures of a model."""
    registry = CollectorRegistry()
    pool.meter.register(registry)
    labels = {"model": nickname}
    return (
        registry.get_sample_value("model_chat_reply_seconds_count", labels),
        registry.get_sample_value("model_chat_reply_failures_total", labels),
    )


def pool_of(**scripts: tuple[str, ...]) -> ModelPool:
    return ModelPool(
        [LoadedModel(name, ScriptedAgent(Opt(script=list(script))), None) for name, script in scripts.items()], 1, 30
    )


def ask(pool: ModelPool, nickname: str, clone: Any) -> None:
    pool.reply(nickname, clone, [Message({"id": "Speaker 1", "text": "Hi!", "episode_done": False})])


def test_each_model_has_its_own_replies_and_failures() -> None:
    pool = pool_of(a=("One.", RAISE, NO_TEXT, "Two."), b=("Three.",))
    clone = pool.model("a").clone()
    ask(pool, "a", clone)
    for _ in range(2):  # an exception, and a reply without a text
        with pytest.raises(ModelFailureError):
            ask(pool, "a", clone)
    ask(pool, "a", clone)
    assert counts(pool, "a") == (2, 2)
    assert counts(pool, "b") == (0, 0)


def test_the_end_of_the_run_is_neither_a_reply_nor_a_failure() -> None:
    pool = pool_of(a=("One.",))
    clone = pool.model("a").clone()
    pool.shutdown()
    with pytest.raises(StoppedError):
        ask(pool, "a", clone)
    assert counts(pool, "a") == (0, 0)

"""Where models run: those behind endpoints stay in this process, and are asked for a reply before anything is launched."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_chat.agents import endpoint
from model_chat.agents._weights import LOADED
from model_chat.errors import ConfigurationError
from model_chat.serving.backend import open_pool
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.model import StoppedError
from model_chat.tests.agents import tiny_models
from model_chat.tests.endpoint_server import EndpointServer, reply, serving, silent, status

ARGS = SimpleNamespace(
    serving="local",
    task_model_parallel=False,
    max_concurrent_responses=1,
    max_model_response_time=20,
    max_batch_size=16,
    batch_wait_ms=0,
)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with serving() as running:
        yield running


def source(nickname: str, server: EndpointServer, **settings: Any) -> ModelSource:
    return ModelSource(nickname, endpoint={"base_url": server.url, "endpoint_model": nickname, **settings})


def opened(*sources: ModelSource, serving: str = "local", stopped: Any = lambda: False) -> Any:
    args = SimpleNamespace(**{**vars(ARGS), "serving": serving})
    return open_pool(args, {each.nickname: each for each in sources}, "flag", lambda _: nullcontext(), stopped)


def test_every_model_is_asked_once_and_all_at_the_same_time(server: EndpointServer) -> None:
    server.default = reply(wait=0.3)
    pool = opened(source("a", server), source("b", server), ModelSource("c", flags="--model fixed_response"))
    assert sorted(exchange.body["model"] for exchange in server.requests) == ["a", "b"]
    assert server.open_at_most == 2
    assert {model.nickname for model in pool.models()} == {"a", "b", "c"}
    pool.shutdown()


def test_all_models_that_cannot_reply_are_named_together(server: EndpointServer) -> None:
    server.default = status(404)
    with pytest.raises(ConfigurationError) as refused:
        opened(source("a", server), source("b", server))
    assert [fault.split(": ")[1] for fault in refused.value.faults] == ["the model 'a'", "the model 'b'"]


def test_all_wrong_settings_are_named_together_and_nothing_is_asked(server: EndpointServer) -> None:
    with pytest.raises(ConfigurationError) as refused:
        opened(source("a", server, temperature=-1), source("b", server, top_p=2), source("c", server))
    assert len(refused.value.faults) == 2
    assert server.requests == []


def test_a_run_that_is_stopped_does_not_wait_for_a_first_reply(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "PROBE_SECONDS", 100.0)
    server.default = silent
    started = time.monotonic()
    with pytest.raises(StoppedError):
        opened(source("a", server), stopped=lambda: bool(server.requests))
    assert time.monotonic() - started < 60, "before its time is up"


def test_with_ray_models_behind_endpoints_need_no_cluster(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "model_chat.serving.ray_serving", None)  # importing it fails
    pool = opened(source("a", server), serving="ray")
    assert pool.reply("a", pool.model("a").clone(), [])["text"] == "Hello there."
    pool.shutdown()


# --- models in this process ---


def characters(tmp_path: Path, **flags: str) -> list[ModelSource]:
    """Nicknames of one tiny chat model, each with flags of its own."""
    folder = tiny_models.save(tmp_path / "tiny")
    agent = "model_chat.agents.hugging_face:HuggingFaceChatAgent"
    return [ModelSource(name, flags=f"--model {agent} --hf-model {folder} {more}") for name, more in flags.items()]


def test_models_of_the_same_weights_are_named_and_answered_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "model_chat")
    sources = characters(
        tmp_path, a="--do-sample False", b="--temperature 2.0", c="--hf-dtype bfloat16", d="--system-prompt 'Be rude.'"
    )
    pool = opened(*sources, ModelSource("e", flags="--model fixed_response"))
    assert [text for text in caplog.messages if "share" in text] == ["a, b, d share one set of weights."]
    assert sum(text.startswith("Loaded ") for text in caplog.messages) == 2, "float32 and bfloat16"
    groups = {model.nickname: (model.weights, model.batch_group) for model in pool.models()}
    assert groups["a"] == groups["b"] == groups["d"]
    assert len({groups["a"], groups["c"], groups["e"]}) == 3
    pool.shutdown()


def test_the_faults_of_all_models_are_said_at_once_and_nothing_stays_loaded(tmp_path: Path) -> None:
    sources = characters(
        tmp_path, a="", b="--temperature 0", c="--max-prompt-tokens 9000", d="--chat-template none.jinja", e="--top-p 1"
    )
    with pytest.raises(ConfigurationError) as refused:
        opened(*sources)
    assert [fault.split("'")[1] for fault in refused.value.faults] == ["b", "c", "d"]
    assert all(
        name in fault
        for name, fault in zip(
            ("--temperature", "--max-prompt-tokens", "--chat-template"), refused.value.faults, strict=True
        )
    )
    del refused
    gc.collect()
    assert not any(str(tmp_path) in repr(identity) for identity in LOADED._known)

"""Models behind the misbehaving endpoint of ``tests/endpoint_server.py``, and conversations of one message with them."""

from __future__ import annotations

from typing import Any

import pytest
from parlai.core.message import Message

from model_chat.errors import ModelFailureError
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import LoadedModel, load_model
from model_chat.serving.pool import ModelPool
from model_chat.tests.endpoint_server import EndpointServer

KEY = "sk-test-0123456789abcdefghij"


def make(server: EndpointServer, **settings: Any) -> LoadedModel:
    given = {"base_url": server.url, "endpoint_model": "asked-model", "api_key_env": "TEST_ENDPOINT_KEY", **settings}
    return load_model(ModelSource("m", endpoint=given), False)


def say(model: LoadedModel, text: str = "Hi!", seconds: float = 20, **more: Any) -> dict[str, Any]:
    pool = ModelPool([model], 1, seconds)
    try:
        act = pool.reply("m", model.clone(), [heard(text)], **more)
        return {**act, "generation": act["generation"].model_dump()}
    finally:
        pool.shutdown()


def heard(text: str, **more: Any) -> Message:
    return Message({"id": "Speaker 1", "text": text, "episode_done": False, **more})


def failure(model: LoadedModel, seconds: float = 20) -> str:
    with pytest.raises(ModelFailureError) as raised:
        say(model, seconds=seconds)
    return str(raised.value)

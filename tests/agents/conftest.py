"""Fixtures of the tests of agents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from model_chat.agents import _endpoint_client, _endpoint_reply
from model_chat.tests.agents.endpoint_models import KEY
from model_chat.tests.endpoint_server import EndpointServer, serving


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are slower with several threads, above all beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointServer]:
    monkeypatch.setattr(_endpoint_client, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("TEST_ENDPOINT_KEY", KEY)
    with serving() as running:
        yield running


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event that brings something new is told, without a pause."""
    monkeypatch.setattr(_endpoint_reply, "SECONDS_BETWEEN_TELLING", 0.0)

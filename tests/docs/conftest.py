"""Fixtures of the tests that type what the pages say."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_chat.tests.agents.tiny_models import save, talkative
from model_chat.tests.docs.place import Walk


@pytest.fixture
def walk(request: pytest.FixtureRequest, tmp_path: Path) -> Walk:
    """The page that the test is about, in a place of its own."""
    return Walk(request.param, tmp_path)


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a model of the demo model's kind, which always has something to say."""
    return save(tmp_path_factory.mktemp("tiny"), talkative())

"""Fixtures of the tests of the router's security: one router for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websockets.sync.client import ClientConnection

from model_chat.tests.router.running_router import router
from model_chat.tests.router.test_local_architect import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with router(tmp_path_factory.mktemp("limits")) as running:
        yield running


@pytest.fixture
def operator(served: Served) -> Iterator[ClientConnection]:
    with served.operator() as connection:
        yield connection

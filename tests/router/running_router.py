"""A running router with limits of a test's own, and what its clients send."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from model_chat.tests.mephisto_run import Run
from model_chat.tests.router.test_local_architect import Served, make_architect

LIVE = "mephisto_bound_live_update"
SAID = "client_bound_live_update"
JSON = {"Content-Type": "application/json"}


@contextmanager
def router(folder: Path, limits: dict[str, Any] | None = None, **flags: Any) -> Iterator[Served]:
    """A running router with some limits of the test's own."""
    folder.mkdir(exist_ok=True)
    architect = make_architect(Run(folder), folder / "build", **flags)
    architect.prepare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_CHAT_ROUTER_LIMITS", json.dumps(limits or {}))
        architect.deploy()
    try:
        yield Served(architect)
    finally:
        architect.shutdown()


def url(served: Served, path: str) -> str:
    return f"http://{served.base}/{path}"


def asks_for_work(worker: str = "w", assignment: str = "1", **provider: Any) -> dict[str, Any]:
    ids = {"worker_name": worker, "agent_registration_id": f"{assignment}-{worker}", "assignment_id": assignment}
    return {"provider_data": {**ids, **provider}}


def live(page_id: str, data: Any = None, **more: Any) -> str:
    return json.dumps(
        {"packet_type": LIVE, "subject_id": page_id, "data": {"text": "x"} if data is None else data, **more}
    )


def hears_from(operator: ClientConnection, agent_id: str, text: str) -> bool:
    """Whether what an agent's page says arrives, whatever else does."""
    while True:
        packet = json.loads(operator.recv(timeout=60))
        if packet["packet_type"] == LIVE and packet["subject_id"] == agent_id and packet["data"] == {"text": text}:
            return True


def close_code(connection: ClientConnection) -> int | None:
    """The code with which the router closes a connection."""
    try:
        while True:
            connection.recv(timeout=60)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None


@contextmanager
def raw(served: Served, host: str | None = None) -> Iterator[socket.socket]:
    name, port = served.base.split(":")
    with socket.create_connection((host or name, int(port)), 60) as connection:
        yield connection


def everything_from(connection: socket.socket) -> bytes:
    """What comes until the other end closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def exchange(served: Served, request: bytes) -> bytes:
    with raw(served) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        return everything_from(connection)

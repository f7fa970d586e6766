"""What tests of the dashboard share: sample studies, and the real server on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_chat.dashboard.access import Access
from model_chat.dashboard.server import make_server
from model_chat.dashboard.settings import Role
from model_chat.dashboard.sockets import bind
from model_chat.dashboard.watch import Watched
from model_chat.tests.dashboard.sample import SampleStudy

PASSWORDS = {f"{role.value}-password": role for role in Role}
TOKEN = "the-token-of-the-link"


class Client:
    """A browser that has logged in, or has not.

    Args:
        base: the page's address, with the slash at its end.
        study: id of the study that it looks at.
    """

    def __init__(self, base: str, study: str) -> None:
        self.base, self.study = base, study
        self.http = httpx.Client(base_url=base, trust_env=False, timeout=60)
        self.headers: dict[str, str] = {"Origin": base.rstrip("/")}

    def log_in(self, role: Role, name: str = "") -> Client:
        """Log in by the password of a role."""
        answer = self.http.post(
            "api/login", json={"password": f"{role.value}-password", "name": name or role.value}, headers=self.headers
        )
        assert answer.status_code == 200, answer.text
        self.headers["X-CSRF-Token"] = answer.json()["csrf"]
        return self

    def get(self, path: str) -> Any:
        """Ask something of the study."""
        answer = self.http.get(f"api/studies/{self.study}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def act(self, act: str, *ids: str, versions: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        """Act on conversations, as they are now unless versions are given."""
        if versions is None:
            versions = {one: self.get(f"conversations/{one}")["version"] for one in ids}
        body = {"act": act, "ids": list(ids), "versions": versions, **more}
        return self.post(f"api/studies/{self.study}/acts", body)

    def post(self, path: str, body: Any) -> httpx.Response:
        """Send something, as the page does."""
        return self.http.post(path, json=body, headers=self.headers)


class Served:
    """A dashboard that is served.

    Attributes:
        base: its address.
        access: who may see it.
    """

    def __init__(self, base: str, access: Access, watched: list[Watched]) -> None:
        self.base, self.access, self.watched = base, access, watched

    def client(self, role: Role | None = None, name: str = "") -> Client:
        """Return a browser, logged in if a role is given."""
        client = Client(self.base, self.watched[0].study.id)
        return client if role is None else client.log_in(role, name)


@contextmanager
def serving(*watched: Watched, clock: Callable[[], float] = time.monotonic) -> Iterator[Served]:
    """Serve studies with the real server, in a thread."""
    access = Access(PASSWORDS, TOKEN, clock=clock)
    with bind("--port", "127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        server = make_server(watched, access, port)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield Served(f"http://127.0.0.1:{port}/", access, list(watched))
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def sample(tmp_path: Path) -> SampleStudy:
    """A study with nothing in it."""
    return SampleStudy(tmp_path / "study")


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serve studies until the end of the test."""
    with ExitStack() as stack:
        yield lambda *watched, **more: stack.enter_context(serving(*watched, **more))

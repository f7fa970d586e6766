"""Pages that follow a study live: what they get, what they cost, and what a flood of them does."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest

from model_chat.dashboard import app as app_module
from model_chat.dashboard import server as server_module
from model_chat.dashboard import watch as watch_module
from model_chat.dashboard.server import MOST_CONNECTIONS
from model_chat.dashboard.settings import Role
from model_chat.dashboard.watch import Watched
from model_chat.tests.dashboard.conftest import Served
from model_chat.tests.dashboard.sample import SampleStudy

Serve = Callable[..., Served]
EVENTS = "api/studies/study_local/events"
WAIT_SECONDS = 90.0


def overviews(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The overviews of a stream, one after the other."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_all_who_look_get_what_is_new_and_it_is_put_together_once(
    sample: SampleStudy, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    make = watch_module.make_overview

    def counted(*args: Any, **more: Any) -> dict[str, Any]:
        made.append(1)
        return make(*args, **more)

    monkeypatch.setattr(watch_module, "make_overview", counted)
    sample.chat("ann")
    served = serve(Watched(sample.info()))
    with ExitStack() as stack:
        streams = [
            overviews(stack.enter_context(served.client(Role.READ).http.stream("GET", EVENTS)).iter_lines())
            for _ in range(5)
        ]
        assert [next(stream)["finished"] for stream in streams] == [1] * 5
        assert len(made) < 5  # one, and another for each minute that has begun meanwhile
        sample.chat("bob")
        for stream in streams:
            # What is written in steps may be seen in steps.
            assert next(seen for seen in stream if seen["finished"] == 2)


def test_a_stream_without_news_says_that_it_is_still_there(
    sample: SampleStudy, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "HEARTBEAT_SECONDS", 0.05)
    with serve(Watched(sample.info())).client(Role.READ).http.stream("GET", EVENTS) as stream:
        assert next(line for line in stream.iter_lines() if line.startswith(":")) == ": still here"


def test_the_streams_of_a_session_end_with_it(
    sample: SampleStudy, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "HEARTBEAT_SECONDS", 0.05)
    client = serve(Watched(sample.info())).client(Role.READ)
    with client.http.stream("GET", EVENTS) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: overview"
        headers = {
            **client.headers,
            "Cookie": "; ".join(f"{name}={value}" for name, value in client.http.cookies.items()),
        }
        told = httpx.post(f"{client.base}api/logout", json={}, headers=headers, trust_env=False, timeout=WAIT_SECONDS)
        assert told.status_code == 200
        for _ in lines:  # ends by itself
            pass


def test_a_flood_of_connections_is_turned_away_and_over_when_they_are_gone(sample: SampleStudy, serve: Serve) -> None:
    served = serve(Watched(sample.info()))
    host, port = served.base.removeprefix("http://").rstrip("/").split(":")

    def status() -> int:
        try:
            return httpx.get(f"{served.base}healthz", trust_env=False, timeout=WAIT_SECONDS).status_code
        except httpx.TransportError:
            return 0

    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS + 1):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=WAIT_SECONDS))
        end = time.monotonic() + WAIT_SECONDS
        while status() != 503:
            assert time.monotonic() < end
    while status() != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


def ended(connection: socket.socket) -> bytes:
    """What the server sends until it closes a connection."""
    found = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            found += part
    return found


def test_a_request_that_does_not_arrive_in_time_or_grows_without_end_is_cut_off_and_a_stream_goes_on(
    sample: SampleStudy, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(app_module, "HEARTBEAT_SECONDS", 0.1)
    served = serve(Watched(sample.info()))
    client = served.client(Role.READ)
    host, port = served.base.removeprefix("http://").rstrip("/").split(":")
    head = f"Host: {host}:{port}\r\nOrigin: {served.base[:-1]}\r\nContent-Type: application/json\r\n"
    half = f"POST /api/login HTTP/1.1\r\n{head}Content-Length: 9\r\n\r\n{{"
    whole = f"GET /healthz HTTP/1.1\r\n{head}\r\n"
    with client.http.stream("GET", EVENTS) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith(":"))
        for before, sent in (
            ("", ""),
            ("", "GET / HTTP/1.1\r\nX-"),
            ("", half),
            (whole, "GET / HT"),
            ("", f"GET /{'a' * 10**6}"),
        ):
            with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as connection:
                if before:
                    connection.sendall(before.encode())
                    assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
                with suppress(ConnectionError):
                    connection.sendall(sent.encode())
                assert b"200 OK" not in ended(connection), sent[:20]
        for _ in range(5):
            assert next(lines) == ": still here"


def test_a_page_that_never_reads_piles_nothing_up_and_then_gets_the_newest(
    sample: SampleStudy, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = 60
    make = watch_module.make_overview
    made: list[int] = []

    def large(*args: Any, **more: Any) -> dict[str, Any]:
        made.append(1)
        return {**make(*args, **more), "number": len(made), "padding": "x" * 2**20}

    monkeypatch.setattr(watch_module, "make_overview", large)
    monkeypatch.setattr(watch_module, "LOOK_SECONDS", 0.01)
    watched = Watched(sample.info())
    served = serve(watched)
    client, other = served.client(Role.READ), served.client(Role.READ)
    cookies = "; ".join(f"{name}={value}" for name, value in client.http.cookies.items())
    host, port = served.base.removeprefix("http://").rstrip("/").split(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(WAIT_SECONDS)
        slow.connect((host, int(port)))
        slow.sendall(f"GET /{EVENTS} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookies}\r\n\r\n".encode())
        # A page that reads gets them one by one, whatever the slow one does.
        with other.http.stream("GET", EVENTS) as stream:
            for seen in overviews(stream.iter_lines()):
                if seen["number"] >= versions:
                    break
                watched._seen = None
        monkeypatch.setattr(watch_module, "make_overview", make)
        sample.chat("ann")
        received = b""
        while b'"finished":1' not in received[-(2**12) :]:
            part = slow.recv(2**20)
            assert part, "the stream has ended"
            received += part
        assert received.count(b"event: overview") < versions / 2


def test_streams_that_are_asked_for_at_the_same_moment_are_counted_before_any_begins(
    sample: SampleStudy, serve: Serve
) -> None:
    client = serve(Watched(sample.info())).client(Role.READ)

    async def open_many() -> list[int]:
        async with httpx.AsyncClient(
            base_url=client.base, cookies=client.http.cookies, trust_env=False, timeout=WAIT_SECONDS
        ) as http:
            sent = [http.send(http.build_request("GET", EVENTS), stream=True) for _ in range(40)]
            answers = await asyncio.gather(*sent)
            for answer in answers:
                await answer.aclose()
            return [answer.status_code for answer in answers]

    codes = asyncio.run(open_many())
    assert codes.count(200) == app_module.STREAMS_OF_SESSION
    assert codes.count(429) == 40 - app_module.STREAMS_OF_SESSION


def test_nobody_looking_is_no_work(sample: SampleStudy, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(sample.info())
    assert watched.is_watched is False
    client = serve(watched).client(Role.READ)
    client.get("overview")
    assert watched.is_watched is True
    monkeypatch.setattr(watch_module, "WATCHED_SECONDS", 0.0)
    assert watched.is_watched is False

"""Attacks on the router by frames and requests that are no proper ones, or too many, or too slow."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from model_chat.tests.router.running_router import (
    asks_for_work,
    close_code,
    everything_from,
    exchange,
    hears_from,
    live,
    raw,
    router,
    url,
)
from model_chat.tests.router.test_local_architect import Served, arrived, packets, settle


def test_binary_frames_and_frames_that_are_no_text_end_the_connection(
    served: Served, operator: ClientConnection
) -> None:
    page_id = served.register(operator, "1")
    for content, code in ((live(page_id).encode(), 1003), (b"\xff\xfe", 1007)):
        with served.page(page_id) as page:
            settle(page)
            if code == 1003:
                page.send(content)
            else:
                page.socket.sendall(Frame(Opcode.TEXT, content).serialize(mask=True))
            assert close_code(page) == code
    assert arrived(operator) == []


def test_a_packet_in_a_few_fragments_is_taken_and_one_in_thousands_ends_the_connection(
    served: Served, operator: ClientConnection
) -> None:
    page_id = served.register(operator, "1")
    with served.page(page_id) as page:
        page.send(iter([live(page_id)[:20], live(page_id)[20:]]))
        assert hears_from(operator, "1", "x")
        with contextlib.suppress(ConnectionClosed):
            page.send(iter(live(page_id, {"text": "x" * 5000})))
        assert close_code(page) in (1008, None), "what is still being sent may cross the close frame, and hide its code"
    assert arrived(operator) == []


def test_compression_is_not_agreed_on(served: Served) -> None:
    with connect(f"ws://{served.base}/", compression="deflate") as page:
        assert page.response is not None
        assert "Sec-WebSocket-Extensions" not in page.response.headers


def handshake(served: Served) -> bytes:
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    return f"GET / HTTP/1.1\r\nHost: {served.base}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n".encode()


CLOSED_AS_TOO_MUCH = b"\x88\x0a\x03\xf0too much"


def test_a_flood_of_pings_ends_the_connection(served: Served) -> None:
    with raw(served) as connection:
        connection.sendall(handshake(served))
        assert b"101 Switching" in connection.recv(1000)
        for _ in range(2000):  # each is waited for: of many at once, ws itself answers few
            connection.sendall(Frame(Opcode.PING, b"x").serialize(mask=True))
            answer = connection.recv(100)
            if answer != b"\x8a\x01x":
                break
    assert answer.removeprefix(b"\x8a\x01x") == CLOSED_AS_TOO_MUCH


def test_a_flood_of_pongs_ends_the_connection(served: Served) -> None:
    with raw(served) as connection:
        connection.sendall(handshake(served))
        assert b"101 Switching" in connection.recv(1000)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(Frame(Opcode.PONG, b"x").serialize(mask=True) * 2000)
        assert everything_from(connection) == CLOSED_AS_TOO_MUCH


def test_who_does_not_answer_a_close_is_cut_off(tmp_path: Path) -> None:
    with router(tmp_path, {"secondsToSayWho": 0.1, "secondsToClose": 0.3}) as served, raw(served) as connection:
        connection.sendall(handshake(served))
        assert b"101 Switching" in everything_from(connection)


def post(served: Served, path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST /{path} HTTP/1.1", f"Host: {served.base}", "Content-Type: application/json", *headers]
    if not any(header.startswith(("Content-Length", "Transfer-Encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_pipelined_requests_end_the_connection_with_the_first_pending_one(
    served: Served, operator: ClientConnection
) -> None:
    request = post(served, "request_agent", json.dumps(asks_for_work()).encode())
    answer = exchange(served, request * 300)
    assert answer.count(b"HTTP/1.1") <= 1
    assert len(packets(operator, "register_agent")) <= 1
    deep = post(served, "submit_task", b"[" * 30_000)
    assert exchange(served, deep * 200).count(b"HTTP/1.1") <= 1
    assert requests.get(url(served, "is_alive"), timeout=60).ok


def test_requests_one_after_the_other_share_a_connection(served: Served) -> None:
    with requests.Session() as session:
        for _ in range(20):
            assert session.get(url(served, "is_alive"), timeout=60).ok
            assert session.post(url(served, "request_agent"), json={}, timeout=60).status_code == 400


def test_a_request_in_a_request_is_refused(served: Served, operator: ClientConnection) -> None:
    inner = post(served, "request_agent", json.dumps(asks_for_work("smuggled")).encode())
    for headers, body in (
        (("Content-Length: 4", "Transfer-Encoding: chunked"), b"0\r\n\r\n" + inner),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), b"0\r\n\r\n" + inner),
        (("Transfer-Encoding: xchunked",), b"0\r\n\r\n" + inner),
        (("Content-Length: 2", "Content-Length: 2000"), b"{}" + inner),
        (("Content-Length: +2",), b"{}" + inner),
        (("Content-Length : 2",), b"{}" + inner),
    ):
        answer = exchange(served, post(served, "submit_task", body, *headers))
        assert answer.startswith(b"HTTP/1.1 400"), (headers, answer)
        assert answer.count(b"HTTP/1.1") == 1
    assert arrived(operator) == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_no_other_method_stands_for_post(served: Served, operator: ClientConnection, method: str) -> None:
    headers = {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"}
    answer = requests.request(
        method, url(served, "request_agent?_method=POST"), json=asks_for_work(), headers=headers, timeout=60
    )
    assert answer.status_code in ((200, 404) if method == "OPTIONS" else (404,))
    assert arrived(operator) == []


def test_large_headers_are_refused(served: Served) -> None:
    head = f"GET /is_alive HTTP/1.1\r\nHost: {served.base}\r\n"
    for headers in (f"X: {'x' * 20_000}\r\n", "".join(f"X{n}: x\r\n" for n in range(5000))):
        assert exchange(served, f"{head}{headers}\r\n".encode()).startswith(b"HTTP/1.1 431")


def test_a_request_that_comes_slowly_is_ended(tmp_path: Path) -> None:
    limits = {"secondsForHeaders": 0.5, "secondsForRequest": 1}
    with router(tmp_path, limits) as served:
        starts = (
            b"",
            b"POST /submit_task HTTP/1.1\r\nHost: x\r\n",
            post(served, "submit_task", b"{", "Content-Length: 99"),
        )
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(raw(served)) for _ in starts]
            for connection, start in zip(slow, starts, strict=True):
                connection.sendall(start)
            for connection in slow:
                answer = everything_from(connection)
                assert not answer or b" 408 " in answer.splitlines()[0]

"""Attacks on the router's resources over the wire: each is refused, and other workers notice nothing of it."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from model_chat.router.addresses import faults_of_addresses
from model_chat.tests.mephisto_run import Run
from model_chat.tests.router.test_local_architect import Served, arrived, make_architect, packets, settle

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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with router(tmp_path_factory.mktemp("limits")) as running:
        yield running


@pytest.fixture
def operator(served: Served) -> Iterator[ClientConnection]:
    with served.operator() as connection:
        yield connection


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


# --- what no page uses ---


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["submit_metadata", "get_timestamp", "upload", "initial_task_data", "operator/"])
def test_what_no_page_uses_is_closed(served: Served, operator: ClientConnection, method: str, path: str) -> None:
    page_id = served.register(operator, "1")
    body = {"USED_AGENT_ID": page_id, "metadata": {"tips": {"header": "h", "text": "t" * 10_000}}}
    answer = requests.request(method, url(served, path), json=body, timeout=60)
    assert answer.status_code == 404
    assert packets(operator, "submit_metadata") == []


@pytest.mark.parametrize("kind", ["log_error", "submit_metadata", "submit_unit", "submit_onboarding", "register_agent"])
def test_a_socket_takes_no_packet_that_pages_do_not_send(served: Served, operator: ClientConnection, kind: str) -> None:
    page_id = served.register(operator, "1")
    with served.page(page_id) as page:
        page.send(json.dumps({"packet_type": kind, "subject_id": page_id, "data": {"tips": {}, "text": "x"}}))
        assert arrived(operator, page) == []


# --- JSON ---


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 30_000, 400),
        (b'{"provider_data":' + b"[" * 16 + b"]" * 16 + b"}", 400),
        (b'{"a":' * 17 + b"1" + b"}" * 17, 400),
        (b"[" + b"1," * 16_000 + b"1]", 400),  # an array
        (b'{"provider_data":[' + b"[],[]," * 5_000 + b"1]}", 400),  # too many values
        (b'{"a": "' + b"x" * 33_000 + b'"}', 413),
        (b'{"worker_name": "\xff\xfe"}', 400),
        (b'{"worker_name": "\xed\xa0\x80"}', 400),  # half a character in UTF-8
        (b"", 400),
        (b"null", 400),
        (b"1e999", 400),
        (b"{}garbage", 400),
    ],
)
def test_a_body_is_checked_before_it_is_parsed(
    served: Served, operator: ClientConnection, body: bytes, status: int
) -> None:
    assert requests.post(url(served, "request_agent"), data=body, headers=JSON, timeout=60).status_code == status
    assert arrived(operator) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json; charset=utf-7"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json, text/plain"},
        {},
    ],
)
def test_only_json_in_utf8_is_read(served: Served, headers: dict[str, str]) -> None:
    answer = requests.post(url(served, "request_agent"), data=b"{}", headers=headers, timeout=60)
    assert answer.status_code == 415


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_compressed_body_is_not_unpacked(served: Served, encoding: str) -> None:
    body = gzip.compress(json.dumps(asks_for_work()).encode())
    headers = {**JSON, "Content-Encoding": encoding}
    assert requests.post(url(served, "request_agent"), data=body, headers=headers, timeout=60).status_code == 415


@pytest.mark.parametrize("key", ["__proto__", "constructor", "prototype", "toString", "request_id", "agent_id", "x"])
@pytest.mark.parametrize("place", ["body", "provider_data"])
def test_unknown_keys_of_a_request_are_refused(
    served: Served, operator: ClientConnection, key: str, place: str
) -> None:
    body = asks_for_work()
    (body if place == "body" else body["provider_data"])[key] = {"status": "admin"}
    assert requests.post(url(served, "request_agent"), json=body, timeout=60).status_code == 400
    assert arrived(operator) == []


@pytest.mark.parametrize("path", ["submit_task", "submit_onboarding", "log_error"])
def test_unknown_keys_of_a_hand_in_are_refused(served: Served, operator: ClientConnection, path: str) -> None:
    page_id = served.register(operator, "1")
    body: dict[str, Any] = {"USED_AGENT_ID": page_id}
    if path == "submit_onboarding":
        body = {"provider_data": dict(body)}
    answer = requests.post(url(served, path), json={**body, "__proto__": {"x": 1}}, timeout=60)
    assert answer.status_code == 400
    assert arrived(operator) == []


def test_onboarding_is_handed_in_without_data(served: Served, operator: ClientConnection) -> None:
    page_id = served.register(operator, "onboarding_1")
    data = {"provider_data": {"USED_AGENT_ID": page_id, "onboarding_data": {"passed": True}}}
    asking = threading.Thread(target=lambda: requests.post(url(served, "submit_onboarding"), json=data, timeout=60))
    asking.start()
    packet = json.loads(operator.recv(timeout=60))
    request_id = packet["data"].pop("request_id")
    assert packet["data"] == {"onboarding_data": {}}
    details = {"request_id": request_id, "agent_id": None}
    operator.send(json.dumps({"packet_type": "agent_details", "subject_id": request_id, "data": details}))
    asking.join(60)
    assert not asking.is_alive()


@pytest.mark.parametrize("provider_type", [1, [], {}, True, "x" * 300, "a\nb", ""])
@pytest.mark.parametrize("key", ["worker_name", "agent_registration_id", "assignment_id", "hit_id", "provider_type"])
def test_ids_of_odd_types_are_refused(served: Served, operator: ClientConnection, key: str, provider_type: Any) -> None:
    body = asks_for_work(**{key: provider_type})
    assert requests.post(url(served, "request_agent"), json=body, timeout=60).status_code == 400
    assert arrived(operator) == []


def test_of_a_key_given_twice_router_and_run_script_see_the_same(served: Served, operator: ClientConnection) -> None:
    mine, other = served.register(operator, "1"), served.register(operator, "2")
    with served.page(mine) as page:
        page.send(f'{{"packet_type":"{LIVE}","subject_id":"{mine}","subject_id":"2","data":{{"text":"forged"}}}}')
        page.send(
            f'{{"packet_type":"{LIVE}","subject_id":"{other[:-1]}","subject_id":"{mine}","data":{{"a":1,"a":2}}}}'
        )
        packet = json.loads(operator.recv(timeout=60))
    assert (packet["subject_id"], packet["data"]) == ("1", {"a": 2})


@pytest.mark.parametrize(
    "data",
    [
        "[" * 17 + "]" * 17,
        '{"a":' * 16 + "1" + "}" * 16,
        '{"text":' + "[" * 60_000 + "]" * 60_000 + "}",
        '{"numbers":[' + "1," * 30_000 + "1]}",
        "[]",
        "1",
        "null",
        '"text"',
        "true",
    ],
)
def test_a_packet_is_checked_before_it_is_parsed(served: Served, operator: ClientConnection, data: str) -> None:
    page_id = served.register(operator, "1")
    with served.page(page_id) as page:
        page.send(f'{{"packet_type": "{LIVE}", "subject_id": "{page_id}", "data": {data}}}')
        page.send(live(page_id, {"text": "after it"}))
        packet = json.loads(operator.recv(timeout=60))
    assert packet["data"] == {"text": "after it"}


@pytest.mark.parametrize("text", ["[" * 1000, '"[[[[' * 50, "\\", '\\"' * 40 + "[" * 40, "{" * 99 + "\\\\"])
def test_brackets_in_a_text_are_no_depth(served: Served, operator: ClientConnection, text: str) -> None:
    page_id = served.register(operator, "1")
    with served.page(page_id) as page:
        page.send(live(page_id, {"text": text}))
        assert hears_from(operator, "1", text)


def test_unknown_keys_of_packets_end_the_connection_in_the_end(served: Served, operator: ClientConnection) -> None:
    page_id = served.register(operator, "1")
    with served.page(page_id) as page:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(25):
                page.send(live(page_id, __proto__={"status": "x"}))
        assert close_code(page) == 1008
    assert packets(operator, LIVE) == []


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5000, "0." + "1" * 5000, "1e-999"])
def test_huge_numbers_harm_nobody(served: Served, operator: ClientConnection, number: str) -> None:
    page_id = served.register(operator, "1")
    with served.page(page_id) as page:
        page.send(f'{{"packet_type": "{LIVE}", "subject_id": "{page_id}", "data": {{"number": {number}}}}}')
        text = operator.recv(timeout=60)
        assert len(text) < 500, "Python refuses integers of more than 4,300 digits"
        page.send(live(page_id, {"text": "still here"}))
        assert hears_from(operator, "1", "still here")


# --- frames ---


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


# --- requests ---


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
    limits = {"secondsForHeaders": 1, "secondsForRequest": 2}
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


# --- how much one address, worker and agent may have ---


def test_one_address_has_few_sockets_that_do_not_say_who_they_are(tmp_path: Path) -> None:
    with router(tmp_path, {"newSocketsOfAddress": 2, "socketsOfAddress": 4}) as served, contextlib.ExitStack() as stack:
        operator = stack.enter_context(served.operator())
        page_id = served.register(operator, "1")
        page = stack.enter_context(served.page(page_id))
        settle(page)
        silent = [stack.enter_context(connect(f"ws://{served.base}/")) for _ in range(2)]
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://{served.base}/")
        assert refused.value.response.status_code == 429
        silent.pop().close()  # a place becomes free
        for _ in range(2):
            other = stack.enter_context(served.page(page_id))
            settle(other)
        with pytest.raises(InvalidStatus):  # all four are taken
            connect(f"ws://{served.base}/")
        page.send(live(page_id, {"text": "still here"}))
        assert hears_from(operator, "1", "still here")


def test_one_address_has_a_limited_number_of_connections(tmp_path: Path) -> None:
    with router(tmp_path, {"connectionsOfAddress": 5}) as served, contextlib.ExitStack() as stack:
        ours = [stack.enter_context(raw(served, "127.0.0.1")) for _ in range(20)]
        open_ones = 0
        for connection in ours:
            with contextlib.suppress(OSError):
                connection.sendall(f"GET /is_alive HTTP/1.1\r\nHost: {served.base}\r\n\r\n".encode())
                open_ones += bool(connection.recv(100))
        assert open_ones == 5


def test_a_trusted_proxy_says_from_where_requests_come_and_nobody_else_does(tmp_path: Path) -> None:
    limits = {"requestsAtOnce": 2, "requestsPerSecond": 0.001, "connectionsOfAddress": 3, "newSocketsOfAddress": 1}

    def status(served: Served, forwarded: str) -> int:
        headers = {"X-Forwarded-For": forwarded}
        return requests.post(url(served, "request_agent"), json={}, headers=headers, timeout=60).status_code

    with router(tmp_path / "untrusted", limits) as served:
        assert [status(served, f"203.0.113.{n}") for n in range(4)] == [400, 400, 429, 429]
    with router(tmp_path / "trusted", limits, trusted_proxies="127.0.0.0/8, ::1, 10.1.2.3") as served:
        assert [status(served, f"203.0.113.{n}") for n in range(4)] == [400] * 4
        # What a client writes itself stands before what the proxies add.
        assert [status(served, f"198.51.100.{n}, 203.0.113.9, 10.1.2.3") for n in range(4)] == [400, 400, 429, 429]
        # An IPv6 network of 64 bits is one subscriber.
        assert [status(served, f"2001:db8:1:2::{n}") for n in range(1, 5)] == [400, 400, 429, 429]
        assert status(served, "2001:db8:1:3::1") == 400
        assert status(served, "no address") == 400
        with contextlib.ExitStack() as stack:
            headers = {"X-Forwarded-For": "203.0.113.77"}
            stack.enter_context(connect(f"ws://{served.base}/", additional_headers=headers))
            with pytest.raises(InvalidStatus):
                connect(f"ws://{served.base}/", additional_headers=headers)
            for n in range(5):  # more than connectionsOfAddress, which is not for proxies
                other = {"X-Forwarded-For": f"203.0.114.{n}"}
                stack.enter_context(connect(f"ws://{served.base}/", additional_headers=other))


def test_one_worker_has_few_requests_for_work_at_the_same_time(served: Served, operator: ClientConnection) -> None:
    codes: list[int] = []

    def ask(worker: str, number: int) -> None:
        answer = requests.post(url(served, "request_agent"), json=asks_for_work(worker, str(number)), timeout=30)
        codes.append(answer.status_code)

    threads = [threading.Thread(target=ask, args=("greedy", number)) for number in range(30)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while len(codes) < 26:
        assert time.monotonic() < end, codes
        time.sleep(0.01)
    got = packets(operator, "register_agent")
    assert len(got) == 4
    other = threading.Thread(target=ask, args=("another", 1))
    other.start()
    got.append(json.loads(operator.recv(timeout=60)))
    assert got[-1]["data"]["provider_data"]["worker_name"] == "another"
    for packet in got:
        details = {"request_id": packet["data"]["request_id"], "agent_id": None}
        operator.send(json.dumps({"packet_type": "agent_details", "subject_id": "", "data": details}))
    for thread in [*threads, other]:
        thread.join(60)
    assert sorted(codes) == [200] * 5 + [429] * 26


def test_one_worker_asks_for_work_a_limited_number_of_times(tmp_path: Path) -> None:
    limits = {"requestsOfWorkerAtOnce": 3, "requestsOfWorkerPerSecond": 0.001, "secondsForWork": 0.05}
    with router(tmp_path, limits) as served:
        bodies = [asks_for_work("greedy", str(number)) for number in range(5)] + [asks_for_work("another")]
        codes = [requests.post(url(served, "request_agent"), json=body, timeout=60).status_code for body in bodies]
    assert codes == [504, 504, 504, 429, 429, 504], "there is no operator to answer"


def test_a_hand_in_is_not_repeated_for_ever(served: Served, operator: ClientConnection) -> None:
    page_id = served.register(operator, "9")
    body = {"USED_AGENT_ID": page_id, "final_data": {}}
    codes = [requests.post(url(served, "submit_task"), json=body, timeout=60).status_code for _ in range(40)]
    assert codes[:10] == [200] * 10
    assert codes.count(429) >= 25
    assert len(packets(operator, "submit_unit")) == codes.count(200)


def test_what_waits_for_the_operator_is_bounded_for_each_agent(tmp_path: Path) -> None:
    with router(tmp_path, {"waitingForOperatorOfAgent": 5}) as served:
        with served.operator() as operator:
            greedy, modest = served.register(operator, "1"), served.register(operator, "2")
        with served.page(greedy) as flooder, served.page(modest) as page:
            for number in range(50):
                flooder.send(live(greedy, {"text": str(number)}))
            page.send(live(modest, {"text": "once"}))
            settle(flooder, page)
            with served.operator() as operator:
                got = packets(operator, LIVE)
    assert [packet["data"]["text"] for packet in got if packet["subject_id"] == "1"] == ["0", "1", "2", "3", "4"]
    assert [packet["data"]["text"] for packet in got if packet["subject_id"] == "2"] == ["once"]


def test_what_waits_for_a_page_is_bounded_in_bytes(tmp_path: Path) -> None:
    with router(tmp_path, {"waitingBytesForAgent": 3000}) as served, served.operator() as operator:
        page_id = served.register(operator, "1")
        for number in range(20):
            data = {"number": number, "text": "x" * 1000}
            operator.send(json.dumps({"packet_type": SAID, "subject_id": "1", "data": data}))
        settle(operator)
        with served.page(page_id) as page:
            numbers = [packet["data"]["number"] for packet in packets(page, SAID)]
    assert numbers == [18, 19], "the newest stay"


def test_a_silent_socket_is_closed_and_one_that_speaks_is_not(tmp_path: Path) -> None:
    with router(tmp_path, {"minutesSilent": 4 / 60, "minutesIdle": 4 / 60}) as served, served.operator() as operator:
        one, two = served.register(operator, "1"), served.register(operator, "2")
        with served.page(one) as silent, served.page(two) as speaking:
            closed = threading.Event()

            def watch() -> None:
                close_code(silent)
                closed.set()

            threading.Thread(target=watch, daemon=True).start()
            while not closed.wait(0.2):
                speaking.send(json.dumps({"packet_type": "alive", "subject_id": two, "data": {}}))
            speaking.send(live(two, {"text": "still here"}))
            assert hears_from(operator, "2", "still here")
        with served.page(one) as back:  # whoever comes back is known by the signature
            back.send(live(one, {"text": "back"}))
            assert hears_from(operator, "1", "back")


# --- which host, which network, which files ---


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    hosts = "study.example.org, .lab.example"
    with router(tmp_path_factory.mktemp("named"), hostname="own.example", allowed_hosts=hosts) as running:
        running.base = f"127.0.0.1:{running.architect.port}"
        yield running


def ask_as(served: Served, host: str) -> int:
    headers = {"Host": host} if host else {}
    status = requests.get(url(served, "is_alive"), headers=headers, timeout=60).status_code
    posted = requests.post(url(served, "request_agent"), json={}, headers=headers, timeout=60).status_code
    assert posted == (400 if status == 200 else status)
    head = (
        f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    )
    with raw(served) as connection:
        connection.sendall(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        line = connection.recv(100).split(b"\r\n")[0]
    assert line.startswith(b"HTTP/1.1 101" if status == 200 else b"HTTP/1.1 421")
    return status


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "study.example.org.evil.example",
        "xlab.example",
        "lab.example",
        "1.2.3.4.evil.io",
    ],
)
def test_another_name_for_this_machine_gets_nothing(named: Served, host: str) -> None:
    assert ask_as(named, host) == 421
    assert ask_as(named, f"{host}:{named.architect.port}") == 421


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1",
        "[::1]:3000",
        "192.0.2.7:99",
        "own.example",
        "study.example.org",
        "Study.Example.org.",
        "a.b.lab.example",
    ],
)
def test_names_that_are_allowed_and_addresses_are_answered(named: Served, host: str) -> None:
    assert ask_as(named, host) == 200


def test_a_request_names_exactly_one_host(named: Served) -> None:
    for hosts in (
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: \r\n",
        "Host: local host\r\n",
        "Host: a@localhost\r\n",
    ):
        answer = exchange(named, f"GET /is_alive HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
        assert answer.split()[1] in (b"400", b"421"), hosts


def test_it_listens_on_this_machine_only_unless_told_otherwise(tmp_path: Path) -> None:
    with router(tmp_path / "one") as served:
        with raw(served, "127.0.0.1"):
            pass
        with pytest.raises(ConnectionRefusedError), raw(served, "127.0.0.2"):
            pass
    with router(tmp_path / "all", bind_address="0.0.0.0") as served, raw(served, "127.0.0.2") as connection:
        connection.sendall(f"GET /is_alive HTTP/1.1\r\nHost: {served.base}\r\nConnection: close\r\n\r\n".encode())
        assert everything_from(connection).startswith(b"HTTP/1.1 200")
        with served.operator() as operator:
            assert served.register(operator, "1")


def test_the_run_script_connects_on_this_machine_whatever_the_hosts_name(named: Served) -> None:
    assert named.architect._get_socket_urls()[0].startswith(f"ws://127.0.0.1:{named.architect.port}/operator/")
    with named.operator() as operator:
        assert named.register(operator, "1")


def test_the_folder_is_the_accounts_alone(named: Served) -> None:
    folder = Path(str(named.architect.running_dir))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_symbolic_links_and_hidden_files_are_not_served(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("private", encoding="utf-8")
    architect = make_architect(Run(tmp_path), tmp_path / "build")
    static = Path(architect.prepare()) / "static"
    (static / "link.txt").symlink_to(secret)
    (static / "folder").symlink_to(tmp_path)
    (static / ".hidden").write_text("private", encoding="utf-8")
    (static / "plain.txt").write_text("public", encoding="utf-8")
    architect.deploy()
    try:
        served = Served(architect)
        for path in (
            "link.txt",
            "folder/secret.txt",
            "folder/",
            ".hidden",
            "%2ehidden",
            "link%2etxt",
            "plain.txt/../link.txt",
        ):
            assert requests.get(url(served, path), timeout=60).status_code == 404, path
        assert requests.get(url(served, "plain.txt"), timeout=60).text == "public"
        assert requests.get(url(served, ""), timeout=60).ok
    finally:
        architect.shutdown()


def test_error_reports_hold_nothing_that_a_terminal_obeys(served: Served, operator: ClientConnection) -> None:
    hostile = "\x9b2J\x1b]0;x\x07\r\n\u202egnp.exe\u2066\u200b"
    assert requests.post(url(served, "log_error"), json={"error_data": {"text": hostile}}, timeout=60).ok
    (packet,) = packets(operator, "log_error")
    assert packet["data"]["text"].isascii()
    assert packet["data"]["text"].isprintable()
    assert json.loads(packet["data"]["text"]) == {"text": hostile}


# --- the flags ---


@pytest.mark.parametrize(
    ("flags", "faults"),
    [
        ({}, []),
        (
            {"bind_address": "0.0.0.0", "allowed_hosts": "a.example,.b.example,*,localhost", "trusted_proxies": "::1"},
            [],
        ),
        ({"trusted_proxies": "10.0.0.0/8, 192.168.1.7"}, []),
        ({"bind_address": "localhost"}, ["bind_address: 'localhost' is not an IP address"]),
        ({"bind_address": "fe80::1%eth0"}, ["bind_address: 'fe80::1%eth0' is not an IP address"]),
        ({"allowed_hosts": "https://a.example"}, ["allowed_hosts: 'https://a.example' is not a host name"]),
        ({"allowed_hosts": "a.example:443"}, ["allowed_hosts: 'a.example:443' is not a host name"]),
        ({"trusted_proxies": "proxy.example"}, ["trusted_proxies: 'proxy.example' is neither"]),
        (
            {"trusted_proxies": "10.0.0.0/33,*"},
            ["trusted_proxies: '10.0.0.0/33' is neither", "trusted_proxies: '*' is"],
        ),
    ],
)
def test_faults_of_addresses_are_all_said(flags: dict[str, str], faults: list[str]) -> None:
    found = faults_of_addresses(flags)  # type: ignore[arg-type]  # a mapping is what it needs
    assert len(found) == len(faults)
    for sentence, beginning in zip(found, faults, strict=True):
        assert sentence.startswith(f"mephisto.architect.{beginning}")

"""Attacks on the router over the wire: nobody hears, says, or hands in anything in a conversation that is not theirs."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from model_chat.tests.mephisto_run import Run
from model_chat.tests.router.running_router import LIVE, SAID
from model_chat.tests.router.test_local_architect import Served, arrived, make_architect, packets, settle

VICTIM = "7"


@pytest.fixture
def victim(served: Served, operator: ClientConnection) -> Iterator[tuple[str, ClientConnection]]:
    """A worker in a conversation: the id of their page, and its connection."""
    page_id = served.register(operator, VICTIM)
    with served.page(page_id) as page:
        arrived(page)
        yield page_id, page


def url(served: Served, path: str = "") -> str:
    return f"http://{served.base}/{path}"


def guesses(page_id: str) -> list[Any]:
    """What an attacker may try in place of a page's id."""
    name, _, signature = page_id.rpartition(".")
    return [
        VICTIM,
        int(VICTIM),
        f"{name}.",
        f"{name}.{signature[:-1]}",
        f"{name}.{'A' * len(signature)}",
        f"8.{signature}",
        f"onboarding_{page_id}",
        f".{signature}",
        f"{page_id} ",
        [page_id],
        {"toString": page_id},
        None,
        "mephisto",
        "__proto__",
    ]


# --- reading ---


def test_a_second_socket_hears_nothing_of_another_workers_conversation(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection]
) -> None:
    page_id, page = victim
    for guess in guesses(page_id):
        with connect(f"ws://{served.base}/") as attacker:
            for kind in ("alive", "heartbeat"):
                attacker.send(json.dumps({"packet_type": kind, "subject_id": guess, "data": {}}))
            settle(attacker)
            operator.send(json.dumps({"packet_type": SAID, "subject_id": VICTIM, "data": {"text": "private"}}))
            assert awaited(page, SAID)["data"] == {"text": "private"}
            assert arrived(attacker) == []


def test_nobody_becomes_the_operator(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection]
) -> None:
    page_id, page = victim
    with connect(f"ws://{served.base}/") as attacker:
        attacker.send(json.dumps({"packet_type": "alive", "subject_id": "mephisto", "data": {}}))
        settle(attacker)
        page.send(json.dumps({"packet_type": LIVE, "subject_id": page_id, "data": {"text": "private"}}))
        assert len(packets(operator, LIVE, page)) == 1
        assert arrived(attacker) == []
    for path in ("operator/", "operator/x", f"operator/{'A' * 32}", "operator/../operator/x"):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://{served.base}/{path}")
        assert refused.value.response.status_code == 403
    (right,) = served.architect._get_socket_urls()
    with pytest.raises(InvalidStatus):  # a page of another site, should it have got hold of the address
        connect(right, origin="http://evil.example")  # type: ignore[arg-type]  # a plain string is what it takes


# --- posting ---


def test_nobody_speaks_for_another_worker(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection]
) -> None:
    page_id, _ = victim
    with served.page(served.register(operator, "8")) as attacker:
        for guess in guesses(page_id):
            attacker.send(json.dumps({"packet_type": LIVE, "subject_id": guess, "data": {"text": "forged"}}))
        assert packets(operator, LIVE, attacker) == []


@pytest.mark.parametrize("kind", [SAID, "update_status", "agent_details", "request_statuses", "return_statuses"])
def test_a_page_has_no_say_in_what_only_the_operator_does(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection], kind: str
) -> None:
    page_id, page = victim
    with served.page(served.register(operator, "8")) as attacker:
        arrived(attacker)
        for subject in (page_id, VICTIM, "mephisto"):
            data = {"status": "completed", "text": "forged", "request_id": "x"}
            attacker.send(json.dumps({"packet_type": kind, "subject_id": subject, "data": data}))
        assert arrived(attacker) == []
    assert packets(page, SAID) == []
    assert arrived(operator) == []


# --- handing in ---


@pytest.mark.parametrize("path", ["submit_task", "submit_onboarding"])
def test_nobody_hands_in_for_another_worker(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection], path: str
) -> None:
    page_id, page = victim
    for guess in guesses(page_id):
        body = {"USED_AGENT_ID": guess, "final_data": {}}
        if path == "submit_onboarding":
            body = {"provider_data": {"USED_AGENT_ID": guess}}
        answer = requests.post(url(served, path), json=body, timeout=60)
        assert answer.status_code == 403, guess
    assert arrived(operator) == []
    operator.send(json.dumps({"packet_type": SAID, "subject_id": VICTIM, "data": {"text": "still there"}}))
    assert awaited(page, SAID)["data"] == {"text": "still there"}


def test_handing_in_names_no_file_for_the_run_script_to_fetch(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection]
) -> None:
    page_id, _ = victim
    final = {"kept": 1, "files": [{"filename": "../../etc/passwd"}]}
    requests.post(url(served, "submit_task"), json={"USED_AGENT_ID": page_id, "final_data": final}, timeout=60)
    assert [packet["data"] for packet in packets(operator, "submit_unit")] == [{"kept": 1}]
    with pytest.raises(ValueError, match="none has uploaded"):
        served.architect.download_file("../../etc/passwd", "/tmp")


# --- other sites ---


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "x"])
def test_a_page_of_another_site_gets_no_socket_and_no_answer(served: Served, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{served.base}/", origin=origin)  # type: ignore[arg-type]  # likewise
    assert refused.value.response.status_code == 403
    answer = requests.post(url(served, "request_agent"), json={}, headers={"Origin": origin}, timeout=60)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_its_own_page_gets_both(served: Served) -> None:
    origin = f"http://{served.base}"
    with connect(f"ws://{served.base}/", origin=origin):  # type: ignore[arg-type]  # likewise
        pass
    answer = requests.post(url(served, "request_agent"), json={}, headers={"Origin": origin}, timeout=60)
    assert answer.status_code == 400, "it is told that something is missing"


def test_a_form_of_another_site_is_not_read(served: Served) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = requests.post(url(served, "submit_task"), data="a=b", headers={"Content-Type": kind}, timeout=60)
        assert answer.status_code == 415


# --- files ---


@pytest.mark.parametrize(
    "path",
    [
        "server.js",
        "router.json",
        "router.log",
        "node_modules/ws/package.json",
        "../server.js",
        "..%2fserver.js",
        "%2e%2e/server.js",
        "static/../../server.js",
        "..%5cserver.js",
        "assets/%2e%2e/%2e%2e/server.js",
        "//etc/passwd",
        "download_file/x",
        "download_file/..%2f..%2fetc%2fpasswd",
        ".env",
        "%00",
    ],
)
def test_no_file_outside_the_page_is_served(served: Served, path: str) -> None:
    host, port = served.base.split(":")
    with socket.create_connection((host, int(port)), 60) as raw:  # no library in between that tidies the path
        raw.sendall(f"GET /{path} HTTP/1.1\r\nHost: {served.base}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := raw.recv(65536):
            answer += chunk
    status = int(answer.split()[1])
    assert status in (400, 403, 404), answer[:200]
    assert b"root:" not in answer
    assert b"createHmac" not in answer


# --- headers ---


@pytest.mark.parametrize("path", ["", "task_config.json", "wrap_crowd_source.js", "nowhere", "is_alive"])
def test_every_answer_has_the_headers_that_keep_browsers_strict(served: Served, path: str) -> None:
    headers = requests.get(url(served, path), timeout=60).headers
    policy = {part.split()[0]: part.split()[1:] for part in headers["Content-Security-Policy"].split(";")}
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == ["'self'"]
    # In one place only: the requester's own texts may have style attributes. No script and no style element may be inline.
    assert [name for name, sources in policy.items() if "'unsafe-inline'" in sources] == ["style-src-attr"]
    assert "https://*.mturk.com" in policy["frame-ancestors"]
    assert "https://workersandbox.mturk.com" in policy["form-action"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "X-Powered-By" not in headers
    assert headers["Cache-Control"] == "no-store"


def test_a_host_header_can_not_add_to_the_policy(served: Served) -> None:
    headers = requests.get(url(served), headers={"Host": "x; script-src *"}, timeout=60).headers
    assert "script-src *" not in headers["Content-Security-Policy"]


# --- floods ---


def awaited(connection: ClientConnection, kind: str) -> Any:
    """The next packet of a kind, however busy the machine is.

    Raises:
        TimeoutError: none comes.
    """
    while True:
        packet = json.loads(connection.recv(timeout=60))
        if packet["packet_type"] == kind:
            return packet


def is_closed(attacker: ClientConnection, code: int) -> bool:
    """Whether the router closes a connection with this code."""
    try:
        while True:
            attacker.recv(timeout=60)
    except ConnectionClosed as closed:
        return closed.rcvd is not None and closed.rcvd.code == code


def still_works(served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection]) -> bool:
    """Whether another worker's conversation continues."""
    page_id, page = victim
    page.send(json.dumps({"packet_type": LIVE, "subject_id": page_id, "data": {"text": "still here"}}))
    while (packet := awaited(operator, LIVE))["subject_id"] != VICTIM:
        pass
    return bool(packet["data"] == {"text": "still here"})


def test_a_flood_of_packets_ends_the_flooder_and_nobody_else(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection]
) -> None:
    own = served.register(operator, "8")
    with served.page(own) as attacker:
        packet = json.dumps({"packet_type": LIVE, "subject_id": own, "data": {"text": "x"}})
        with pytest.raises(ConnectionClosed):
            for _ in range(100_000):
                attacker.send(packet)
        assert is_closed(attacker, 1008)
    assert len([p for p in packets(operator, LIVE) if p["subject_id"] == "8"]) <= 400
    assert still_works(served, operator, victim)


def test_a_packet_that_is_too_large_ends_the_connection_and_never_reaches_the_operator(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection]
) -> None:
    own = served.register(operator, "8")
    with served.page(own) as attacker:
        attacker.send(json.dumps({"packet_type": LIVE, "subject_id": own, "data": {"text": "x" * 900_000}}))
        assert is_closed(attacker, 1009)
    with served.page(own) as attacker:  # small here, large there: more than Python's side would take
        numbers = "[" + ",".join(["1e20"] * 120_000) + "]"
        attacker.send(f'{{"packet_type": "{LIVE}", "subject_id": "{own}", "data": {{"numbers": {numbers}}}}}')
        assert packets(operator, LIVE, attacker) == []
    assert still_works(served, operator, victim)


def test_whoever_guesses_ids_has_to_connect_anew_and_whoever_says_none_is_sent_away(
    served: Served, operator: ClientConnection, mephisto_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(f"ws://{served.base}/") as attacker:
        with contextlib.suppress(ConnectionClosed):  # it may be sent away before it has tried them all
            for number in range(30):
                attacker.send(json.dumps({"packet_type": "alive", "subject_id": str(number), "data": {}}))
        assert is_closed(attacker, 1008)
    monkeypatch.setenv(
        "MODEL_CHAT_ROUTER_LIMITS",
        '{"secondsToSayWho": 0.2, "requestsAtOnce": 3, "requestsPerSecond": 0.1, "sockets": 2}',
    )
    architect = make_architect(mephisto_run, tmp_path / "build")
    architect.prepare()
    architect.deploy()
    try:
        strict = Served(architect)
        with connect(f"ws://{strict.base}/") as silent:
            assert is_closed(silent, 1008)
        codes = [requests.post(url(strict, "request_agent"), json={}, timeout=60).status_code for _ in range(5)]
        assert codes[:3] == [400] * 3
        assert 429 in codes[3:]
        with connect(f"ws://{strict.base}/"), connect(f"ws://{strict.base}/"), pytest.raises(InvalidStatus):
            connect(f"ws://{strict.base}/")
    finally:
        architect.shutdown()


def test_a_body_that_is_too_large_or_broken_is_refused(served: Served) -> None:
    headers = {"Content-Type": "application/json"}
    for body, status in (("x" * 10, 400), ('{"a": "' + "x" * 300_000 + '"}', 413), ("[" * 20_000, 400)):
        answer = requests.post(url(served, "submit_task"), data=body, headers=headers, timeout=60)
        assert answer.status_code == status
        assert "at " not in answer.text, "no stack of calls"


@pytest.mark.parametrize(
    "provider",
    [None, [], {}, {"worker_name": "w"}, {"worker_name": 1}, {"worker_name": "w\n", "agent_registration_id": "r"}],
)
def test_a_request_for_work_without_proper_ids_never_reaches_the_operator(
    served: Served, operator: ClientConnection, provider: Any
) -> None:
    answer = requests.post(url(served, "request_agent"), json={"provider_data": provider}, timeout=60)
    assert answer.status_code == 400
    assert arrived(operator) == []


def test_error_reports_are_few_short_and_hold_no_control_characters(
    served: Served, operator: ClientConnection, victim: tuple[str, ClientConnection]
) -> None:
    report: Callable[[], Any] = lambda: requests.post(  # noqa: E731  # said thirty times
        url(served, "log_error"), json={"error_data": {"text": "\x1b[2J" + "x" * 9000}}, timeout=60
    )
    for _ in range(30):
        report()
    got = packets(operator, "log_error")
    assert 0 < len(got) <= 25
    assert all(len(packet["data"]["text"]) <= 2000 and "\x1b" not in packet["data"]["text"] for packet in got)


def test_a_connection_that_sends_half_a_request_holds_up_nobody(served: Served) -> None:
    host, port = served.base.split(":")
    slow = [socket.create_connection((host, int(port)), 60) for _ in range(50)]
    try:
        for raw in slow:
            raw.sendall(b"POST /submit_task HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        assert requests.get(url(served, "is_alive"), timeout=60).ok
    finally:
        for raw in slow:
            raw.close()

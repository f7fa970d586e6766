"""Requests and packets that no page sends are refused over the wire, and other workers notice nothing of them."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from model_chat.tests.router.running_router import JSON, LIVE, asks_for_work, close_code, hears_from, live, url
from model_chat.tests.router.test_local_architect import Served, arrived, packets


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


def test_error_reports_hold_nothing_that_a_terminal_obeys(served: Served, operator: ClientConnection) -> None:
    hostile = "\x9b2J\x1b]0;x\x07\r\n\u202egnp.exe\u2066\u200b"
    assert requests.post(url(served, "log_error"), json={"error_data": {"text": hostile}}, timeout=60).ok
    (packet,) = packets(operator, "log_error")
    assert packet["data"]["text"].isascii()
    assert packet["data"]["text"].isprintable()
    assert json.loads(packet["data"]["text"]) == {"text": hostile}

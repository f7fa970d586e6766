"""Parts of replies through the real router: a page that can take them gets them, and they are kept for nobody."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.sync.client import ClientConnection, connect

from model_chat.tests.router.running_router import router
from model_chat.tests.router.test_local_architect import Served, packets, settle

SAID = "client_bound_live_update"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with router(tmp_path_factory.mktemp("parts")) as running:
        yield running


def part(operator: ClientConnection, agent_id: str, number: int, text: str = "I like tea.") -> None:
    task_data = {"control": "reply_part", "utterance_idx": 3, "side": None, "part": number, "text": text}
    say(operator, agent_id, {"update_id": f"p{number}", "text": "", "id": "System", "task_data": task_data})


def say(operator: ClientConnection, agent_id: str, data: dict[str, Any]) -> None:
    operator.send(json.dumps({"packet_type": SAID, "subject_id": agent_id, "data": data}))


def numbers(got: list[Any]) -> list[int]:
    """Of the parts, in the order in which they came; 0 stands for a message."""
    return [packet["data"].get("task_data", {}).get("part", 0) for packet in got]


@contextmanager
def slow_page(served: Served, page_id: str) -> Iterator[ClientConnection]:
    """A page that reads only when it is asked to, over a connection with little room."""
    name, port = served.base.split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((name, int(port)))
        with connect(f"ws://{served.base}/", sock=connection, max_queue=1, close_timeout=1) as page:
            page.send(json.dumps({"packet_type": "alive", "subject_id": page_id, "data": {}}))
            yield page


def until(page: ClientConnection, text: str) -> list[Any]:
    """What is said to a page until a message has come, which is the last of it."""
    got: list[Any] = []
    while not got or got[-1]["data"]["text"] != text:
        packet = json.loads(page.recv(timeout=60))
        if packet["packet_type"] == SAID:
            got.append(packet)
    return got


def test_a_page_in_every_tab_gets_the_parts_and_the_message_in_order(served: Served) -> None:
    with served.operator() as operator:
        page_id = served.register(operator, "1")
        with served.page(page_id) as first, served.page(page_id) as second:
            for page in (first, second):
                settle(page)
            for number in range(1, 4):
                part(operator, "1", number, f"茶 😀 {number}")
            say(operator, "1", {"text": "Whole."})
            for page in (first, second):
                got = packets(page, SAID, operator)
                assert numbers(got) == [1, 2, 3, 0]
                assert got[2]["data"]["task_data"]["text"] == "茶 😀 3"
                assert got[0]["subject_id"] == page_id


def test_parts_for_a_page_that_is_away_are_dropped_and_push_out_no_message(served: Served) -> None:
    with served.operator() as operator:
        page_id = served.register(operator, "2")
        for number in range(3):
            say(operator, "2", {"text": f"{number}"})
        for number in range(1, 700):  # more than the packets that are kept for a page
            part(operator, "2", number)
        say(operator, "2", {"text": "3"})
        with served.page(page_id) as page:
            got = packets(page, SAID)
    assert [packet["data"] for packet in got] == [{"text": f"{number}"} for number in range(4)]


def test_parts_for_an_agent_that_nobody_knows_are_dropped(served: Served) -> None:
    with served.operator() as operator:
        part(operator, "999", 1)
        say(operator, "999", {"text": "x"})
        assert requests.get(f"http://{served.base}/is_alive", timeout=60).ok


def test_a_page_that_does_not_read_gets_fewer_parts_and_every_message(served: Served) -> None:
    """Were nothing dropped, 16 MB would wait for it, and the router would end its connection."""
    with served.operator() as operator:
        page_id = served.register(operator, "3")
        with slow_page(served, page_id) as page, served.page(page_id) as other:
            settle(other)
            for number in range(1, 2001):
                part(operator, "3", number, "x" * 8192)
                if number % 500 == 0:
                    say(operator, "3", {"text": f"Message {number}."})
                    # the reading tab has everything so far, so that the router has handled it
                    while "Message" not in json.loads(other.recv(timeout=60))["data"].get("text", ""):
                        pass
            got = until(page, "Message 2000.")
    said = [packet["data"]["text"] for packet in got if packet["data"]["text"]]
    assert said == [f"Message {number}." for number in (500, 1000, 1500, 2000)]
    parts = [number for number in numbers(got) if number]
    assert parts == sorted(set(parts))
    assert 0 < len(parts) < 1000


def test_a_page_that_reads_again_gets_the_next_part_with_all_of_the_text(tmp_path: Path) -> None:
    with router(tmp_path, {"bufferedBytesForParts": 1000}) as served, served.operator() as operator:
        page_id = served.register(operator, "1")
        with slow_page(served, page_id) as page, served.page(page_id) as other:
            settle(other)
            for number in range(1, 1201):
                part(operator, "1", number, "x" * 8000)
            say(operator, "1", {"text": "now"})
            until(other, "now")
            before = until(page, "now")
            part(operator, "1", 1201, "x" * 8000 + "!")
            say(operator, "1", {"text": "after it"})
            last, _ = until(page, "after it")
    assert len(before) < 1201
    assert last["data"]["task_data"]["text"].endswith("x!")

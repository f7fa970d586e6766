"""How much of the router one address, worker and agent may have; other workers notice nothing of who wants more."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from model_chat.tests.router.running_router import (
    LIVE,
    SAID,
    asks_for_work,
    close_code,
    hears_from,
    live,
    raw,
    router,
    url,
)
from model_chat.tests.router.test_local_architect import Served, packets, settle


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

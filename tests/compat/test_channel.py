"""The patches of Mephisto's channel to its router: it writes, knows when it is closed, and drops malformed packets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import socket
import threading
from typing import Any

import pytest


class Router:
    """A websocket server in a thread, in the place of Mephisto's router: keeps what it gets, sends what it is told."""

    def __init__(self) -> None:
        self.received: queue.Queue[Any] = queue.Queue()
        self.connections = 0
        self.port = 0
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self.connected = threading.Event()
        if not self._up.wait(60):
            raise RuntimeError("the server did not start")

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()

        async def handle(connection: Any) -> None:
            self.connections += 1
            self._connection = connection
            self.connected.set()
            async for message in connection:
                self.received.put(json.loads(message))

        async with serve(handle, "127.0.0.1", 0) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._up.set()
            await self._stop.wait()

    def send(self, text: str) -> None:
        assert self.connected.wait(60)
        asyncio.run_coroutine_threadsafe(self._connection.send(text), self._loop).result(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)


@pytest.fixture
def router() -> Any:
    router = Router()
    yield router
    router.stop()


@pytest.fixture
def channel(router: Router) -> Any:
    """Mephisto's own channel, connected; ``channel.packets`` is what it hands on."""
    from mephisto.abstractions.architects.channels.websocket_channel import WebsocketChannel

    opened, packets = threading.Event(), queue.Queue[Any]()
    channel = WebsocketChannel(
        "test",
        lambda _: opened.set(),
        lambda _: None,
        lambda _, packet: packets.put(packet),
        f"ws://127.0.0.1:{router.port}/",
    )
    channel.open()
    assert opened.wait(60)
    channel.packets = packets
    yield channel
    channel.close()
    channel.loop_wrap.loop.close()  # Mephisto leaves it open


def test_mephistos_channel_writes_to_its_connection(channel: Any, router: Router) -> None:
    from mephisto.data_model.packet import Packet
    from websockets.asyncio.client import ClientConnection

    assert not hasattr(ClientConnection, "closed"), "websockets has the property again: the patch can go"
    assert channel.socket.closed is False
    channel.enqueue_send(Packet(packet_type="alive", subject_id="mephisto"))
    assert router.received.get(timeout=60)["packet_type"] == "alive"


def test_packets_of_many_threads_all_arrive_each_threads_own_in_order_and_share_tasks(
    channel: Any, router: Router
) -> None:
    from mephisto.data_model.packet import Packet

    started = 0
    execute = channel.loop_wrap.execute_coro

    def counted(coroutine: Any) -> None:
        nonlocal started
        started += 1
        execute(coroutine)

    channel.loop_wrap.execute_coro = counted
    busy = threading.Event()
    channel.loop_wrap.loop.call_soon_threadsafe(busy.wait, 10)  # so that packets wait together

    def send(name: str) -> None:
        for number in range(50):
            assert channel.enqueue_send(Packet(packet_type="alive", subject_id=name, data={"number": number}))

    threads = [threading.Thread(target=send, args=(f"thread-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    busy.set()
    arrived = [router.received.get(timeout=60) for _ in range(400)]
    assert len({packet["subject_id"] for packet in arrived}) == len(threads)
    for name in {packet["subject_id"] for packet in arrived}:
        assert [packet["data"]["number"] for packet in arrived if packet["subject_id"] == name] == list(range(50))
    assert started < 40
    send("afterwards")
    assert [router.received.get(timeout=60)["data"]["number"] for _ in range(50)] == list(range(50))


def test_a_closed_connection_is_known_to_be_closed(channel: Any) -> None:
    asyncio.run_coroutine_threadsafe(channel.socket.close(), channel.loop_wrap.loop).result(60)
    assert channel.socket.closed is True


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_handshake_that_breaks_off_is_tried_again(router: Router) -> None:
    from mephisto.abstractions.architects.channels.websocket_channel import WebsocketChannel

    answers = [b"", b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 "]
    opened, lost = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
            connection, _ = listener.accept()
            with connection, socket.create_connection(("127.0.0.1", router.port)) as onward:
                upwards = threading.Thread(target=pump, args=(connection, onward), daemon=True)
                upwards.start()
                pump(onward, connection)
                upwards.join(60)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        port = listener.getsockname()[1]
        channel: Any = WebsocketChannel(
            "test", lambda _: opened.set(), lambda _: lost.set(), lambda *_: None, f"ws://127.0.0.1:{port}/"
        )
        channel.open()
        assert opened.wait(60)
        assert not lost.is_set()
        channel.close()
        channel.loop_wrap.loop.close()
        server.join(60)
    assert router.connections == 1


MALFORMED = [
    {},
    [],
    None,
    7,
    "alive",
    {"packet_type": "alive"},
    {"packet_type": "alive", "subject_id": "agent"},
    {"packet_type": "alive", "subject_id": "agent", "data": "text"},
    {"packet_type": "alive", "subject_id": "agent", "data": [1]},
    {"packet_type": "alive", "subject_id": 5, "data": {}},
    {"packet_type": "alive", "subject_id": {}, "data": {}},
    {"packet_type": {}, "subject_id": "agent", "data": {}},
    {"packet_type": None, "subject_id": "agent", "data": {}},
]
GOOD = {"packet_type": "alive", "subject_id": "agent", "data": {"n": 1}}


def test_malformed_packets_become_log_lines_and_the_connection_stays(channel: Any, router: Router) -> None:
    from mephisto.data_model.packet import PACKET_TYPE_ERROR

    for packet in MALFORMED:
        router.send(json.dumps(packet))
    router.send(json.dumps(GOOD))
    got = [channel.packets.get(timeout=60) for _ in range(len(MALFORMED) + 1)]
    assert [packet.type for packet in got] == [PACKET_TYPE_ERROR] * len(MALFORMED) + ["alive"]
    assert (got[-1].subject_id, got[-1].data) == ("agent", {"n": 1})
    assert router.connections == 1

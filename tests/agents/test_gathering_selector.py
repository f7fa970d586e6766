"""The selector that lets streams of replies wait for each other, on real sockets, with a clock that is set by hand."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Iterator

import pytest

from model_chat.agents._gathering_selector import LOOKS, SECONDS_BETWEEN, STILL_LOOKS, GatheringSelector

EVENT = b"x" * 100


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self) -> None:
        """Let the time of the next look come."""
        self.now += 1.01 * SECONDS_BETWEEN


class Rig:
    """A selector with connections whose other ends are held here."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.selector = GatheringSelector(self.clock)
        self._sockets: list[socket.socket] = []

    def connection(self, gathered: bool) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        self._sockets += pair
        self.selector.register(pair[0].fileno(), selectors.EVENT_READ, "data")
        if gathered:
            self.selector.gather(pair[0].fileno(), len(EVENT))
        return pair

    def steady(self, every: int = 1) -> tuple[socket.socket, socket.socket]:
        """A gathered connection that for long has brought an event at every so many looks, and was read at the last one."""
        near, far = self.connection(gathered=True)
        looks, is_read = 0, False
        while looks < 10 * LOOKS or not is_read or looks % every:
            if looks % every == 0:
                far.send(EVENT)
            looks += 1
            is_read = bool(self.look())
            if is_read:
                near.recv(10_000)
        return near, far

    def ready(self) -> set[int]:
        return {key.fd for key, _ in self.selector.select(0)}

    def look(self) -> set[int]:
        self.clock.advance()
        return self.ready()

    def close(self) -> None:
        self.selector.close()
        for each in self._sockets:
            each.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_what_is_not_gathered_is_reported_at_once(rig: Rig) -> None:
    rig.connection(gathered=True)
    near, far = rig.connection(gathered=False)
    rig.look()
    far.send(b"x")
    assert rig.ready() == {near.fileno()}


def test_gathered_sockets_are_reported_together_at_the_next_look(rig: Rig) -> None:
    one, other = (rig.connection(gathered=True) for _ in range(2))
    rig.look()
    for _, far in (one, other):
        far.send(2 * EVENT)
        assert rig.ready() == set()
    assert rig.look() == {one[0].fileno(), other[0].fileno()}


def test_events_that_come_as_usual_wait_for_each_other(rig: Rig) -> None:
    near, far = rig.steady()
    for _ in range(LOOKS - 1):
        far.send(EVENT)
        assert rig.look() == set()
    far.send(EVENT)
    assert rig.look() == {near.fileno()}, "they do not wait for ever"
    assert len(near.recv(10_000)) == LOOKS * len(EVENT)


def test_events_that_come_together_are_not_kept_waiting(rig: Rig) -> None:
    """The end of a reply is the last token, the reason of the end and the usage."""
    near, far = rig.steady()
    far.send(EVENT)
    assert rig.look() == set()
    far.send(2 * EVENT)
    assert rig.look() == {near.fileno()}
    near.recv(10_000)
    far.send(EVENT)
    assert rig.look() == set(), "what was read is not counted again"


def test_what_a_fast_stream_usually_brings_waits_and_its_end_does_not(rig: Rig) -> None:
    near, far = rig.connection(gathered=True)

    def looks_until_read() -> int:
        for number in range(LOOKS):
            far.send(4 * EVENT)
            if rig.look():
                near.recv(100_000)
                return number
        raise AssertionError("it is not read at all")

    for _ in range(LOOKS):
        looks_until_read()
    assert looks_until_read() == LOOKS - 1, "by now it is known how much it brings"
    far.send(4 * EVENT)
    assert rig.look() == set()
    far.send(7 * EVENT)
    assert rig.look() == {near.fileno()}


def test_a_look_that_comes_late_takes_what_has_gathered_for_no_end(rig: Rig) -> None:
    _, far = rig.steady()
    far.send(4 * EVENT)
    rig.clock.now += 3 * SECONDS_BETWEEN
    assert rig.look() == set()


def test_what_nothing_follows_is_read_soon(rig: Rig) -> None:
    """It may be the end of a reply whose server sends one event for all of it."""
    near, far = rig.steady(every=3)
    far.send(EVENT)
    for _ in range(STILL_LOOKS):
        assert rig.look() == set()
    assert rig.look() == {near.fileno()}
    near.recv(10_000)
    far.send(EVENT)
    for _ in range(STILL_LOOKS):
        assert rig.look() == set(), "it waits anew"
        far.send(b"x")


def test_a_stream_that_stops_is_read_at_once(rig: Rig) -> None:
    near, far = rig.steady()
    far.send(EVENT)
    assert rig.look() == set()
    assert rig.look() == {near.fileno()}


def test_the_end_of_a_connection_does_not_wait_for_more(rig: Rig) -> None:
    near, far = rig.connection(gathered=True)
    rig.look()
    far.close()
    assert rig.look() == {near.fileno()}


def test_what_is_to_be_written_does_not_wait_for_more(rig: Rig) -> None:
    near, far = rig.connection(gathered=True)
    rig.look()
    far.send(EVENT)
    rig.selector.modify(near.fileno(), selectors.EVENT_READ | selectors.EVENT_WRITE, "data")
    assert rig.look() == {near.fileno()}


def test_a_socket_that_is_no_longer_gathered_is_reported_at_once_with_its_data(rig: Rig) -> None:
    near, far = rig.connection(gathered=True)
    rig.look()
    far.send(EVENT)
    assert rig.ready() == set()
    rig.selector.gather(near.fileno(), None)
    ((key, events),) = rig.selector.select(0)
    assert (key.fd, key.data, events) == (near.fileno(), "data", selectors.EVENT_READ)
    rig.selector.gather(near.fileno(), None)


def test_a_socket_is_gathered_though_it_is_registered_later(rig: Rig) -> None:
    near, far = rig.connection(gathered=True)
    rig.look()
    rig.selector.unregister(near.fileno())
    assert near.fileno() not in rig.selector.get_map()
    rig.selector.register(near.fileno(), selectors.EVENT_READ, "again")
    assert rig.selector.get_key(near.fileno()).data == "again"
    far.send(2 * EVENT)
    assert rig.ready() == set()
    assert rig.look() == {near.fileno()}


def test_waiting_ends_with_the_next_look(rig: Rig) -> None:
    """The clock that is set by hand stands still: what is waited for is the time until the look."""
    near, far = rig.connection(gathered=True)
    rig.look()
    far.send(2 * EVENT)
    assert rig.selector.select(None) == []
    assert rig.look() == {near.fileno()}


def test_an_event_loop_runs_on_it_whether_its_sockets_are_gathered_or_not() -> None:
    selector = GatheringSelector()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    async def converse() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        descriptor = writer.get_extra_info("socket").fileno()
        for event_bytes in (None, 100, None, 1):
            selector.gather(descriptor, event_bytes)
            for piece in (b"x", b"x" * 5000):
                writer.write(piece)
                assert await reader.readexactly(len(piece)) == piece
        writer.close()
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(converse())

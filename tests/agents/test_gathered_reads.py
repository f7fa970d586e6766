"""Reads of streams that wait for each other, on real sockets, with a clock and looks that are made by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from model_chat.agents._gathered_reads import LOOKS, SECONDS_BETWEEN, STILL_LOOKS, GatheredReads, StreamReads

EVENT = b"x" * 100


class Rig:
    """Reads of connections whose other ends are held here."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sockets: list[socket.socket] = []
        self._streams: dict[int, StreamReads] = {}

    def connection(self) -> tuple[socket.socket, socket.socket]:
        near, far = socket.socketpair()
        self._sockets += [near, far]
        reads = GatheredReads(lambda: self.now)
        self._streams[near.fileno()] = reads.begin(near.fileno(), len(EVENT))
        return near, far

    def steady(self, every: int = 1) -> tuple[socket.socket, socket.socket]:
        """A connection that for long has brought an event at every so many looks, and was read at the last one."""
        near, far = self.connection()
        looks, is_read = 0, False
        while looks < 10 * LOOKS or not is_read or looks % every:
            if looks % every == 0:
                far.send(EVENT)
            looks += 1
            is_read = self.look(near)
            if is_read:
                near.recv(10_000)
        return near, far

    def look(self, near: socket.socket) -> bool:
        """Let the time of the next look come; return whether the connection is read."""
        self.now += 1.01 * SECONDS_BETWEEN
        return self._streams[near.fileno()].is_due(waiting(near), self.now)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def waiting(near: socket.socket) -> int:
    try:
        return len(near.recv(100_000, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return 0


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_events_that_come_as_usual_wait_for_each_other(rig: Rig) -> None:
    near, far = rig.steady()
    for _ in range(LOOKS - 1):
        far.send(EVENT)
        assert not rig.look(near)
    far.send(EVENT)
    assert rig.look(near), "they do not wait for ever"
    assert len(near.recv(10_000)) == LOOKS * len(EVENT)


def test_events_that_come_together_are_not_kept_waiting(rig: Rig) -> None:
    """The end of a reply is the last token, the reason of the end and the usage."""
    near, far = rig.steady()
    far.send(EVENT)
    assert not rig.look(near)
    far.send(2 * EVENT)
    assert rig.look(near)
    near.recv(10_000)
    far.send(EVENT)
    assert not rig.look(near), "what was read is not counted again"


def test_what_a_fast_stream_usually_brings_waits_and_its_end_does_not(rig: Rig) -> None:
    near, far = rig.connection()

    def looks_until_read() -> int:
        for number in range(LOOKS):
            far.send(4 * EVENT)
            if rig.look(near):
                near.recv(100_000)
                return number
        raise AssertionError("it is not read at all")

    for _ in range(LOOKS):
        looks_until_read()
    assert looks_until_read() == LOOKS - 1, "by now it is known how much it brings"
    far.send(4 * EVENT)
    assert not rig.look(near)
    far.send(7 * EVENT)
    assert rig.look(near)


def test_a_look_that_comes_late_takes_what_has_gathered_for_no_end(rig: Rig) -> None:
    near, far = rig.steady()
    far.send(4 * EVENT)
    rig.now += 3 * SECONDS_BETWEEN
    assert not rig.look(near)


def test_what_nothing_follows_is_read_soon(rig: Rig) -> None:
    """It may be the end of a reply whose server sends one event for all of it."""
    near, far = rig.steady(every=3)
    far.send(EVENT)
    for _ in range(STILL_LOOKS):
        assert not rig.look(near)
    assert rig.look(near)
    near.recv(10_000)
    far.send(EVENT)
    for _ in range(STILL_LOOKS):
        assert not rig.look(near), "it waits anew"
        far.send(b"x")


def test_a_stream_that_stops_is_read_at_once(rig: Rig) -> None:
    near, far = rig.steady()
    far.send(EVENT)
    assert not rig.look(near)
    assert rig.look(near)


def test_a_stream_that_brings_nothing_is_read_after_a_while(rig: Rig) -> None:
    """Whether it has ended, nobody knows before."""
    near, _ = rig.steady()
    assert [rig.look(near) for _ in range(LOOKS)] == [False] * (LOOKS - 1) + [True]


def test_those_who_wait_are_woken_when_their_stream_is_due_and_leave_when_they_are_cancelled() -> None:
    async def work() -> None:
        reads = GatheredReads()
        pairs = [socket.socketpair() for _ in range(3)]
        streams = [reads.begin(near.fileno(), 1) for near, _ in pairs]
        tasks = [asyncio.create_task(reads.until_due(stream)) for stream in streams]
        await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        pairs[1][1].send(EVENT)
        await asyncio.wait_for(tasks[1], 60)
        assert not reads._waiting.keys() & {streams[0], streams[1]}
        pairs[2][1].close()
        await asyncio.wait_for(tasks[2], 60)
        pairs[1][1].send(EVENT)
        await asyncio.wait_for(reads.until_due(streams[1]), 60)
        for near, far in pairs:
            near.close()
            far.close()

    asyncio.run(work())

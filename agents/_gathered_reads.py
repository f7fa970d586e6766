"""When the connection of a reply that is being streamed is read: together with others, when it is worth it.

An event loop that wakes for each token of each stream spends most of its time on waking.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
import time
from collections.abc import Callable

SECONDS_BETWEEN = 0.025
"""How often the connections are looked at."""
ENOUGH = 0.9
"""Events more, or less, than a stream usually brings between two looks, from which on a connection is read. An end is the
last token, the reason of the end and, mostly, the usage, at once, and then nothing."""
SECONDS_KNOWN = 0.2
"""After which it is known how much a stream brings."""
STILL_LOOKS = 2
"""After so many at which nothing more has come, what waits is read: it may be an end of fewer events."""
LOOKS = 8
"""After so many, a connection is read in any case: what nothing has come of may be at its end."""


class StreamReads:
    """When one stream is read.

    Args:
        descriptor: of its socket.
        event_bytes: about how long the events are.
        now: seconds.
    """

    def __init__(self, descriptor: int, event_bytes: int, now: float) -> None:
        self.descriptor = descriptor
        self._event_bytes = event_bytes
        self._since = self._seen_at = now
        self._received = 0
        """Bytes that have come."""
        self._waiting = 0
        """Of these, those that waited at the last look."""
        self._looks = self._still_looks = 0
        """Since the last read; those of them since which something has waited, and nothing more has come."""

    def is_due(self, waiting: int, now: float) -> bool:
        """Take note of how many bytes wait at a look; return whether they are to be read now."""
        grown = waiting - self._waiting
        usual = self._received * (now - self._seen_at) / max(self._seen_at - self._since, SECONDS_KNOWN)
        self._received += grown
        self._seen_at = now
        self._looks += 1
        self._still_looks = 0 if grown or not waiting else self._still_looks + 1
        self._waiting = waiting
        is_usual = not waiting or abs(grown - usual) < ENOUGH * self._event_bytes
        if is_usual and self._still_looks < STILL_LOOKS and self._looks < LOOKS:
            return False
        self._waiting = self._looks = self._still_looks = 0
        return True


class GatheredReads:
    """Lets those who read streams wait until it is worth it. One event loop's; its thread owns it.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[StreamReads, asyncio.Future[None]] = {}
        self._next: asyncio.TimerHandle | None = None

    def begin(self, descriptor: int, event_bytes: int) -> StreamReads:
        """Return what :meth:`until_due` takes, for a stream that begins now; see :class:`StreamReads`."""
        return StreamReads(descriptor, event_bytes, self._clock())

    async def until_due(self, stream: StreamReads) -> None:
        """Wait until a stream is to be read; of one that nothing comes of, that is after :data:`LOOKS`."""
        loop = asyncio.get_running_loop()
        due = self._waiting[stream] = loop.create_future()
        if self._next is None:
            self._next = loop.call_later(SECONDS_BETWEEN, self._look)
        try:
            await due
        finally:
            self._waiting.pop(stream, None)

    def _look(self) -> None:
        now = self._clock()
        for stream in [each for each in self._waiting if each.is_due(_bytes_waiting(each.descriptor), now)]:
            due = self._waiting.pop(stream)
            if not due.done():
                due.set_result(None)
        self._next = None
        if self._waiting:
            self._next = asyncio.get_running_loop().call_later(SECONDS_BETWEEN, self._look)


def _bytes_waiting(descriptor: int) -> int:
    """Return how many bytes can be read from a socket; 0 at its end, and where it can't be known."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0

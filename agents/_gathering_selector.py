"""Waiting for sockets: those of replies that are being streamed are read together.

An event loop that wakes for each token of each stream spends most of its time on waking.
"""

from __future__ import annotations

import fcntl
import selectors
import sys
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


class HasFileno(Protocol):
    """A socket or file, as :mod:`selectors` takes them."""

    def fileno(self) -> int:
        """Return its descriptor."""


FileDescriptor = int | HasFileno

SECONDS_BETWEEN = 0.025
"""How often gathered sockets are looked at."""
ENOUGH = 0.9
"""Events more, or less, than a stream usually brings between two looks, from which on a socket is read. An end is the last
token, the reason of the end and, mostly, the usage, at once, and then nothing."""
SECONDS_KNOWN = 0.2
"""After which it is known how much a stream brings."""
STILL_LOOKS = 2
"""After so many at which nothing more has come, what waits is read: it may be an end of fewer events."""
LOOKS = 8
"""After so many, what waits is read in any case."""


@dataclass
class _Gathered:
    """A socket that can wait.

    Attributes:
        event_bytes: about how long the events are.
        since: when it began to be gathered.
        seen_at: when it was last looked at, or began to be gathered.
        received: bytes that have come since.
        waiting: of these, those that waited at the last look.
        looks: for how many something has been waiting.
        still_looks: for how many of them nothing more has come.
    """

    event_bytes: int
    since: float
    seen_at: float
    received: int = 0
    waiting: int = 0
    looks: int = 0
    still_looks: int = 0

    def is_due(self, waiting: int, now: float) -> bool:
        """Take note of how many bytes wait at a look; return whether they are to be read now."""
        grown = waiting - self.waiting
        usual = self.received * (now - self.seen_at) / max(self.seen_at - self.since, SECONDS_KNOWN)
        self.received += grown
        self.seen_at = now
        self.looks += 1
        self.still_looks = 0 if grown else self.still_looks + 1
        self.waiting = waiting
        if (
            waiting
            and abs(grown - usual) < ENOUGH * self.event_bytes
            and self.still_looks < STILL_LOOKS
            and self.looks < LOOKS
        ):
            return False
        self.waiting = self.looks = self.still_looks = 0
        return True


class GatheringSelector(selectors.BaseSelector):
    """A selector that reports most sockets at once, and gathered ones together, when it is worth it.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._prompt = selectors.DefaultSelector()
        # Streams are registered and unregistered at each read, which costs no call of the system here.
        self._gathering = selectors.PollSelector()
        self._gathered: dict[FileDescriptor, _Gathered] = {}
        self._keys: dict[FileDescriptor, selectors.SelectorKey] = {}
        self._next = 0.0

    def gather(self, descriptor: int, event_bytes: int | None) -> None:
        """Report a socket together with others from now on, or at once again.

        Args:
            descriptor: of the socket, which may be registered or not.
            event_bytes: about how long the events are that it brings; None: it can't wait.
        """
        key = self._keys.get(descriptor)
        if key is not None:
            self.unregister(descriptor)
        if event_bytes is None:
            self._gathered.pop(descriptor, None)
        else:
            now = self._clock()
            self._gathered[descriptor] = _Gathered(event_bytes, now, now)
        if key is not None:
            self.register(descriptor, key.events, key.data)

    def _of(self, fileobj: FileDescriptor) -> selectors.BaseSelector:
        return self._gathering if fileobj in self._gathered else self._prompt

    def register(self, fileobj: FileDescriptor, events: int, data: object = None) -> selectors.SelectorKey:
        """See :class:`selectors.BaseSelector`; asyncio gives numbers of files alone."""
        key = self._keys[fileobj] = self._of(fileobj).register(fileobj, events, data)
        return key

    def unregister(self, fileobj: FileDescriptor) -> selectors.SelectorKey:
        """See :class:`selectors.BaseSelector`."""
        del self._keys[fileobj]
        return self._of(fileobj).unregister(fileobj)

    def modify(self, fileobj: FileDescriptor, events: int, data: object = None) -> selectors.SelectorKey:
        """See :class:`selectors.BaseSelector`."""
        key = self._keys[fileobj] = self._of(fileobj).modify(fileobj, events, data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See :class:`selectors.BaseSelector`."""
        if not self._gathering.get_map():
            return self._prompt.select(timeout)
        until_next = max(0.0, self._next - self._clock())
        ready = self._prompt.select(until_next if timeout is None else min(timeout, until_next))
        now = self._clock()
        if now >= self._next:
            self._next = now + SECONDS_BETWEEN
            ready += [(key, events) for key, events in self._gathering.select(0) if self._is_due(key.fd, events, now)]
        return ready

    def _is_due(self, descriptor: int, events: int, now: float) -> bool:
        waiting = _bytes_waiting(descriptor) if events == selectors.EVENT_READ else 0
        return self._gathered[descriptor].is_due(waiting, now)

    def get_key(self, fileobj: FileDescriptor) -> selectors.SelectorKey:
        """See :class:`selectors.BaseSelector`."""
        return self._keys[fileobj]

    def get_map(self) -> Mapping[FileDescriptor, selectors.SelectorKey]:
        """See :class:`selectors.BaseSelector`."""
        return self._keys

    def close(self) -> None:
        """See :class:`selectors.BaseSelector`."""
        self._keys.clear()
        self._prompt.close()
        self._gathering.close()


def _bytes_waiting(descriptor: int) -> int:
    """Return how many bytes can be read from a socket; 0 at its end, and where it can't be known."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0

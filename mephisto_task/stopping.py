"""Ctrl-C and SIGTERM: the first lets conversations finish, the second ends them, the third ends the process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from model_chat.configuration.exit_codes import ExitCode

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
END_SECONDS = 9.0
"""How long a run on this machine may take to end once its conversations are to end."""
END_ON_PLATFORM_SECONDS = 300.0
"""The same where work has to be taken off a crowd platform, or a hosted server shut down: what is left there costs money."""
LOOK_SECONDS = 0.1


class StopRequest:
    """What the requester wants; written by a signal handler, so there is no lock in it, and read by any thread.

    Attributes:
        end_seconds: how long the run may take to end after the second signal, or after :meth:`begin_end`.
    """

    def __init__(self) -> None:
        self.signals = 0
        self.end_seconds = END_SECONDS
        self._end_since: float | None = None

    @property
    def requested(self) -> bool:
        """Whether the run admits no new workers."""
        return self.signals > 0

    @property
    def at_once(self) -> bool:
        """Whether open conversations are to end, too."""
        return self.signals > 1

    def is_requested(self) -> bool:
        """Return :attr:`requested`, for those that take a function."""
        return self.requested

    def begin_end(self) -> None:
        """Say that the run is ending: from now on it has :attr:`end_seconds`."""
        if self._end_since is None:
            self._end_since = time.monotonic()

    @property
    def is_overdue(self) -> bool:
        """Whether the run has had its time to end."""
        return self._end_since is not None and time.monotonic() - self._end_since > self.end_seconds

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """Take note of a signal; called by Python in the main thread."""
        self.signals += 1
        if self.signals > 2:
            os._exit(ExitCode.INTERRUPTED)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn Ctrl-C and SIGTERM into a :class:`StopRequest`; a run that does not end in its time is ended."""
    stop = StopRequest()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if stop.at_once:
                stop.begin_end()
            if stop.is_overdue:
                os._exit(ExitCode.INTERRUPTED)

    before = {signum: signal.signal(signum, stop.receive) for signum in STOP_SIGNALS}
    threading.Thread(target=watch, name="stop watch", daemon=True).start()
    try:
        yield stop
    finally:
        over.set()
        for signum, handler in before.items():
            signal.signal(signum, handler)

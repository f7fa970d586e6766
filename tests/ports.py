"""Ports for tests that run beside each other."""

from __future__ import annotations

import fcntl
import functools
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from model_chat.router.local_architect import free_port

_given: set[int] = set()


@functools.cache
def _reservations() -> BinaryIO:
    """A file of this machine's user, in which a locked byte is a port that is reserved; it stays empty."""
    return (Path(tempfile.gettempdir()) / f"model_chat_test_ports_{os.getuid()}").open("ab")


def own_port() -> int:
    """Return a free TCP port that no other test of this user is given as long as this process lives.

    Between the choice of a port and its use lie seconds.
    """
    while True:
        port = free_port()
        if port in _given:  # a lock does not keep out the process that holds it
            continue
        try:
            fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            continue
        _given.add(port)
        return port

"""Ports for tests that run beside each other."""

from __future__ import annotations

import socket

from model_chat.router.local_architect import free_port

_reserved: list[socket.socket] = []


def own_port() -> int:
    """Return a free TCP port that no other test on this machine is given as long as this process lives.

    Between the choice of a port and its use lie seconds. The UDP port of the same number, which nobody else wants, is held
    meanwhile: it is how the tests' processes tell each other.
    """
    while True:
        port = free_port()
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
        else:
            _reserved.append(reservation)
            return port

"""Serves the dashboard: a socket that is bound beforehand, and a server that lets no flood grow its memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable, Sequence

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from model_chat.dashboard.access import Access
from model_chat.dashboard.app import Dashboard
from model_chat.dashboard.watch import Watched
from model_chat.model_chat_blueprint import FRONTEND_DIST

MOST_CONNECTIONS = 200
"""Beyond, requests are answered by 503."""
MOST_HEAD_BYTES = 16 * 1024
REQUEST_SECONDS = 20.0
"""How long a request may take to arrive."""
MOST_FILES = 1024
NICENESS = 10
GRACE_SECONDS = 2


class TimedProtocol(H11Protocol):
    """HTTP for requests that arrive whole within :data:`REQUEST_SECONDS`; uvicorn by itself waits without end."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Wait for the first request."""
        super().connection_made(transport)
        self._late = self.loop.call_later(REQUEST_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait on for the rest of a request, and no longer once it is there."""
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_waiting()
        elif self._late is None:
            self._late = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def make_server(studies: Sequence[Watched], access: Access, port: int) -> uvicorn.Server:
    """Return a server for ``server.run(sockets=[…])``.

    Args:
        port: names the session's cookie.
    """
    dashboard = Dashboard(studies, access, FRONTEND_DIST, f"model_chat_session_{port}")
    config = uvicorn.Config(
        dashboard.app,
        log_config=None,
        log_level="error",  # whoever sends what is no request can't fill the log of the run
        access_log=False,  # it would hold the link's token
        http=TimedProtocol,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        ws="none",
        lifespan="on",
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def limit_resources() -> None:
    """Lower this process's priority, and the number of files that it may open."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > MOST_FILES:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, hard))


def serve(
    studies: Sequence[Watched], access: Access, listening: socket.socket, begun: Callable[[uvicorn.Server], None]
) -> None:
    """Serve until the server is told to end; call from the main thread, whose signals end it, too."""
    server = make_server(studies, access, listening.getsockname()[1])
    begun(server)
    server.run(sockets=[listening])

"""Serves the dashboard: a socket that is bound beforehand, and a server that lets no flood grow its memory."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Callable, Sequence

import uvicorn

from model_chat.dashboard.access import Access
from model_chat.dashboard.app import Dashboard
from model_chat.dashboard.watch import Watched
from model_chat.model_chat_blueprint import FRONTEND_DIST

MOST_CONNECTIONS = 200
"""Beyond, requests are answered by 503."""
MOST_FILES = 1024
NICENESS = 10
GRACE_SECONDS = 2


def make_server(studies: Sequence[Watched], access: Access, port: int) -> uvicorn.Server:
    """Return a server for ``server.run(sockets=[…])``.

    Args:
        port: names the session's cookie.
    """
    dashboard = Dashboard(studies, access, FRONTEND_DIST, f"model_chat_session_{port}")
    config = uvicorn.Config(
        dashboard.app,
        log_config=None,
        log_level="warning",
        access_log=False,  # it would hold the link's token
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

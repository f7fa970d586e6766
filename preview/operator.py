"""A small operator: speaks with the router as Mephisto's does (mephisto_task/client_io.py), without a database."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from typing import Any, Protocol

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.1


class Agents(Protocol):
    """Whoever has the agents that pages ask for. Called by the operator's thread."""

    def request_agent(self, provider_data: Any) -> dict[str, Any]:
        """Answer a page that wants to take part: ``agent_id`` and more, or ``failure_reason``."""

    def submit_onboarding(self, agent_id: str) -> dict[str, Any]:
        """Answer a page whose worker has passed the onboarding."""

    def deliver(self, agent_id: str, update: Any) -> None:
        """Take a packet of an agent's page; it is untrusted."""


class Operator:
    """The connection to the router, made again whenever it ends. ``_lock`` guards it; any thread may send."""

    def __init__(self, url: str, agents: Agents) -> None:
        self._url, self._agents = url, agents
        self._lock = threading.Lock()
        self._connection: ClientConnection | None = None
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preview operator", daemon=True)
        self._thread.start()

    def send(self, packet_type: str, subject_id: str, data: dict[str, Any]) -> None:
        """Send a packet; without a connection it is dropped, and pages ask for what they missed."""
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(OSError, WebSocketException):
                    self._connection.send(
                        json.dumps({"packet_type": packet_type, "subject_id": subject_id, "data": data})
                    )

    def close(self) -> None:
        """End the connection."""
        self._is_closed.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closed.wait(RECONNECT_SECONDS if self._connection is None else 0):
            with contextlib.suppress(OSError, WebSocketException), connect(self._url, proxy=None) as connection:
                with self._lock:
                    self._connection = connection
                try:
                    for packet in connection:
                        self._handle(json.loads(packet))
                finally:
                    with self._lock:
                        self._connection = None

    def _handle(self, packet: dict[str, Any]) -> None:
        kind, subject_id, data = packet.get("packet_type"), str(packet.get("subject_id")), packet.get("data") or {}
        if kind == "mephisto_bound_live_update":
            self._agents.deliver(subject_id, data)
        elif kind == "log_error":
            logger.error("The page reports an error: %s", f"{data.get('text')!r:.2000}")
        elif kind in ("register_agent", "submit_onboarding"):
            if kind == "register_agent":
                answer = self._agents.request_agent(data.get("provider_data"))
            else:
                answer = self._agents.submit_onboarding(subject_id)
            request_id = data["request_id"]
            self.send("agent_details", request_id, {**answer, "request_id": request_id})

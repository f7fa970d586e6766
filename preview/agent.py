"""The worker's side of a conversation in the preview, without Mephisto's database."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.exceptions import AgentShutdownError, AgentTimeoutError

from model_chat.configuration.worker_texts import Texts
from model_chat.conversation.human_agent import HumanAgent, ServerUpdate, as_update

MOST_WAITING = 100
"""Packets that wait to be read."""
MOST_PACKETS = 5_000
"""Of one conversation."""


class PreviewHuman(HumanAgent):
    """The worker's side in the preview: updates go to the operator, packets come from a queue.

    The world's thread sends and receives, the operator's delivers; ``updates`` is only ever appended to, and everything else
    goes through the queue.

    Args:
        send: sends a packet of a type, of an agent, with data, to the router.
    """

    hit_id = "preview"
    assignment_id = "preview"

    def __init__(
        self, agent_id: str, send: Callable[[str, str, dict[str, Any]], None], texts: Texts | None = None
    ) -> None:
        self.agent_id = agent_id
        self.status = AgentState.STATUS_ONBOARDING if agent_id.startswith("onboarding") else AgentState.STATUS_IN_TASK
        self.updates: list[ServerUpdate] = []
        self._send_packet = send
        self._texts = texts or self._texts
        self._packets: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._delivered: set[str] = set()
        self._gone = threading.Event()

    @property
    def worker_id(self) -> str:
        """A new worker each time, with all tries of the onboarding."""
        return f"preview-{self.agent_id}"

    def _send(self, update: ServerUpdate) -> None:
        update["update_id"] = str(uuid4())
        update["timestamp"] = time.time()
        self.updates.append(update)
        self._tell("client_bound_live_update", update)

    def send_part(self, take: Callable[[], dict[str, Any]]) -> bool:
        """See :meth:`HumanAgent.send_part`."""
        self._tell("client_bound_live_update", as_update(take()))
        return True

    def wait(self, until: float) -> None:
        """Wait, unless the page starts over."""
        self._gone.wait(max(0.0, until - time.monotonic()))

    def set_status(self, status: str) -> None:
        """Change Mephisto's status of the agent, and tell the page."""
        self.status = status
        self._tell("update_status", {"status": status})

    def _tell(self, packet_type: str, data: dict[str, Any]) -> None:
        self._send_packet(packet_type, self.agent_id, data)

    def deliver(self, packet: Any) -> None:
        """Take a packet of the page, once; what is too much is dropped."""
        if self._packets.qsize() >= MOST_WAITING or len(self._delivered) >= MOST_PACKETS:
            return
        update_id = packet.get("update_id") if isinstance(packet, dict) else None
        if isinstance(update_id, str):
            if update_id in self._delivered:
                return
            self._delivered.add(update_id)
        self._packets.put(packet)

    def leave(self) -> None:
        """End the conversation: the page starts over."""
        self._gone.set()
        self._packets.put(None)

    def discard_waiting(self) -> list[Any]:
        """Take whatever the page has sent already, without waiting."""
        waiting = []
        while not self._gone.is_set():
            try:
                waiting.append(self._packets.get_nowait())
            except queue.Empty:
                break
        return waiting

    def receive(self, deadline: float) -> Any:
        """Wait for the next packet.

        Raises:
            AgentTimeoutError: the deadline has passed, as for a worker.
            AgentShutdownError: the page starts over.
        """
        try:
            packet = self._packets.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AgentTimeoutError("the time for this turn", self.agent_id) from None
        if self._gone.is_set():
            raise AgentShutdownError(self.agent_id)
        return packet

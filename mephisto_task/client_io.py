"""Packets from the router: only those that pages may send, limited per agent and worker."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.agent import OnboardingAgent
from mephisto.data_model.packet import (
    PACKET_TYPE_CLIENT_BOUND_LIVE_UPDATE,
    PACKET_TYPE_ERROR,
    PACKET_TYPE_MEPHISTO_BOUND_LIVE_UPDATE,
    PACKET_TYPE_REGISTER_AGENT,
    PACKET_TYPE_RETURN_STATUSES,
    PACKET_TYPE_SUBMIT_ONBOARDING,
    PACKET_TYPE_SUBMIT_UNIT,
    Packet,
)
from mephisto.operations.client_io_handler import PACKET_PROCESSING_LATENCY

from model_chat.conversation.incoming import LONGEST_MESSAGE_ID
from model_chat.mephisto_task.agent_state import state_of
from model_chat.quality.blocks import canonical_id, platform_id
from model_chat.quality.refusals import MOST_WAITING, ExplainingClientIO, Refusal

if TYPE_CHECKING:
    from mephisto.abstractions.database import MephistoDB
    from mephisto.data_model.agent import Agent

    from model_chat.crowd.arrivals import ArrivalChecker
    from model_chat.crowd.endings import Endings
    from model_chat.mephisto_task.live_run import TaskLiveRun

logger = logging.getLogger(__name__)

TAKEN = frozenset(
    {
        PACKET_TYPE_ERROR,
        PACKET_TYPE_MEPHISTO_BOUND_LIVE_UPDATE,
        PACKET_TYPE_REGISTER_AGENT,
        PACKET_TYPE_RETURN_STATUSES,
        PACKET_TYPE_SUBMIT_ONBOARDING,
        PACKET_TYPE_SUBMIT_UNIT,
    }
)
"""Packets from the router that are handled. Mephisto's ``submit_metadata`` is not among them: no page sends it."""
MOST_WAITING_BYTES = 1_048_576
"""JSON characters of an agent's packets that wait to be read."""
MOST_SUBMITTED_BYTES = 16_384
"""JSON characters of what a page hands in at the end; the shipped page hands in nothing."""
MOST_REQUESTS = 8
"""Requests of one worker, or of one agent, that wait for an answer."""
LONGEST_REQUEST = 600.0
"""Seconds after which a request that was never answered is forgotten; the router gives up after 90."""
LONGEST_ID = 256
COMPLAINT_SECONDS = 60.0
"""Between two log lines of the same kind, so that nobody can fill the log."""


class LatePacket(Packet):
    """A packet whose data are made at the moment at which it is sent, however long it has waited for that."""

    def __init__(self, agent_id: str, make: Callable[[], dict[str, Any]]) -> None:
        super().__init__(PACKET_TYPE_CLIENT_BOUND_LIVE_UPDATE, agent_id)
        self._make = make

    def to_sendable_dict(self) -> dict[str, Any]:
        """Return the packet as it is sent; called once."""
        self.data = self._make()
        return super().to_sendable_dict()


class BoundedClientIO(ExplainingClientIO):
    """The connection to the router, which drops what no page sends, and what is more than a page has a reason to send.

    Our router refuses most of it before; this holds with any router. Packets are handled on the event loop, answers come
    from several threads: ``_requests_lock`` guards the pending requests.
    """

    def __init__(self, db: MephistoDB) -> None:
        super().__init__(db)
        self.endings: Endings | None = None
        """What participants of a panel are told at the end; None for providers that are no panel."""
        self.arrivals: ArrivalChecker | None = None
        """Who comes with which address; None likewise."""
        self._requests_lock = threading.Lock()
        self._requests: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Pending request -> who asked, and when."""
        self._requests_of: Counter[str] = Counter()
        self._worker_of_registration: dict[str, str] = {}
        self._waiting_sizes: WeakKeyDictionary[Agent | OnboardingAgent, deque[int]] = WeakKeyDictionary()
        """Sizes of the packets that wait in an agent's queue, perhaps preceded by those of packets that were read."""
        self._complaints: dict[str, float] = {}

    def get_live_run(self) -> TaskLiveRun:
        """Return the run that the connection is registered for."""
        return cast("TaskLiveRun", super().get_live_run())

    def _complain(self, what: str, *details: Any) -> None:
        """Log that a packet is dropped, at most once a minute for each reason."""
        now = time.monotonic()
        if now - self._complaints.get(what, -COMPLAINT_SECONDS) >= COMPLAINT_SECONDS:
            self._complaints[what] = now
            logger.warning(what, *(f"{detail!r:.100}" for detail in details))

    def _on_channel_message(self, channel_id: str, packet: Packet) -> None:
        """Handle a packet on the event loop; one that can't be handled is logged in a line and not in full."""

        async def handle() -> None:
            try:
                self._on_message(packet, channel_id)
            except Exception:  # Mephisto's own handlers assert what a packet holds
                logger.exception("A packet of the type %.40r could not be handled", packet.type)

        self.get_live_run().loop_wrap.execute_coro(handle())

    def _on_message(self, packet: Packet, channel_id: str) -> None:
        """Handle a packet, or drop it."""
        if packet.type not in TAKEN or not isinstance(packet.subject_id, str) or not isinstance(packet.data, dict):
            self._complain("A packet that no page sends was dropped: type %s, of %s", packet.type, packet.subject_id)
        elif packet.type == PACKET_TYPE_MEPHISTO_BOUND_LIVE_UPDATE:
            with PACKET_PROCESSING_LATENCY.labels(packet_type=packet.type).time():
                self._on_update(packet, channel_id)
        elif packet.type != PACKET_TYPE_SUBMIT_UNIT or self._is_first_hand_in(packet):
            super()._on_message(packet, channel_id)

    # --- live updates ---

    def send_part(self, agent_id: str, make: Callable[[], dict[str, Any]]) -> bool:
        """Send a page a part of a reply, in its turn; return whether there is a connection, without which it is not made."""
        channel = self.channels.get(self.agent_id_to_channel_id.get(agent_id, ""))
        return channel is not None and channel.enqueue_send(LatePacket(agent_id, make))

    def _on_update(self, packet: Packet, channel_id: str) -> None:
        """Hand an update to its conversation, once; one that there is no room for now can be sent again."""
        update_id = packet.data.get("update_id")
        if update_id is not None and not (isinstance(update_id, str) and len(update_id) <= LONGEST_MESSAGE_ID):
            self._complain("An update without a proper id was dropped, of agent %s", packet.subject_id)
            return
        seen = (packet.subject_id, update_id)
        if update_id is not None and seen in self.seen_update_ids:
            return
        agent = self.get_live_run().worker_pool.get_agent_for_id(packet.subject_id)
        if agent is None or agent.db_status in AgentState.complete() or not self._has_room(agent, packet.data):
            return
        self._on_live_update(packet, channel_id)
        self.log_metrics_for_packet(packet)
        if update_id is not None:
            self.seen_update_ids.add(seen)

    def _has_room(self, agent: Agent | OnboardingAgent, data: dict[str, Any]) -> bool:
        """Whether another packet may wait until an agent's conversation reads it; if so, it is counted."""
        sizes = self._waiting_sizes.setdefault(agent, deque())
        waiting = agent.pending_actions.qsize()
        while len(sizes) > waiting:
            sizes.popleft()
        size = len(json.dumps(data))
        if waiting >= MOST_WAITING or sum(sizes) + size > MOST_WAITING_BYTES:
            self._complain("Too much waits to be read of agent %s; packets are dropped", agent.get_agent_id())
            return False
        sizes.append(size)
        return True

    # --- handing in ---

    def _is_first_hand_in(self, packet: Packet) -> bool:
        """Whether a unit is handed in for the first time. What is handed in with it is left out if it is too much."""
        agent_id = packet.subject_id
        agent = self.get_live_run().worker_pool.get_agent_for_id(agent_id)
        if agent is None or OnboardingAgent.is_onboarding_id(agent_id):
            self._complain("A hand-in of what is no unit was dropped: %s", agent_id)
            return False
        if agent.did_submit.is_set() or state_of(agent).final_submission is not None:
            return False
        packet.data.pop("files", None)
        if len(json.dumps(packet.data)) > MOST_SUBMITTED_BYTES:
            self._complain(
                "Agent %s handed in more than a page does; the work counts, what came with it is left out", agent_id
            )
            packet.data.clear()
        return True

    # --- requests ---

    def _register_agent(self, packet: Packet, channel_id: str) -> None:
        """Pass on a request for work, unless it is malformed, one too many, or for another worker's conversation."""
        ids = packet.data.get("provider_data")
        if isinstance(ids, dict) and (self.arrivals is not None or "query" in ids):
            self._register_arrival(packet, channel_id, ids)
            return
        names = ("agent_registration_id", "assignment_id")
        if (
            not isinstance(ids, dict)
            or not all(_is_id(ids.get(name)) for name in names)
            or not (ids.get("worker_name") == "" or _is_id(ids.get("worker_name")))  # the pool answers who has no name
        ):
            self._complain("A request for work without proper ids was dropped: %s", ids)
            return
        worker = self._canonical(ids["worker_name"])
        if self._worker_of_registration.get(ids["agent_registration_id"], worker) != worker:
            self._complain("Worker %s asked for the conversation of another worker, and gets no answer", worker)
            return
        if self._enter(packet.data.get("request_id"), f"worker {worker}"):
            super()._register_agent(packet, channel_id)

    def _register_arrival(self, packet: Packet, channel_id: str, ids: dict[str, Any]) -> None:
        """Pass on what the page of a panel's participant says of who they are; the pool finds out."""
        request_id, query, visitor = packet.data.get("request_id"), ids.get("query"), ids.get("visitor")
        # Visitors of one link whom nobody knows yet ask with the same words.
        named = visitor or self.arrivals is None or self.arrivals.names_participants
        who = (
            f"page {hash((query, visitor))}"
            if named and _is_hashable(query, visitor)
            else f"request {request_id!r:.100}"
        )
        if isinstance(request_id, str) and self._enter(request_id, who):
            self.request_id_to_channel_id[request_id] = channel_id
            self.request_id_to_packet[request_id] = packet
            live_run = self.get_live_run()
            live_run.loop_wrap.execute_coro(live_run.worker_pool.register_arrival(packet, request_id))

    def _with_ending(self, request_id: str, details: dict[str, Any]) -> dict[str, Any]:
        endings, refusal = self.endings, details.get("refusal")
        if endings is None or refusal is None or "ending" in details:
            return details
        try:
            packet = self.request_id_to_packet[request_id]
            agent = self.get_live_run().worker_pool.get_agent_for_id(packet.subject_id)
            ids = packet.data.get("provider_data") or {}
            participant = ids.get("worker_name") if agent is None else platform_id(agent.get_worker())
            ending = endings.refused(participant, Refusal(refusal)) if participant else None
            return details if ending is None else {**details, "ending": ending.packet()}
        except Exception:  # the page must get its answer, with an ending or without
            logger.exception("A refusal goes out without its ending")
            return details

    def _canonical(self, worker_name: str) -> str:
        return canonical_id(self.get_live_run().provider.PROVIDER_TYPE, worker_name)

    def _on_submit_onboarding(self, packet: Packet, channel_id: str) -> None:
        """Pass on an onboarding that is handed in, unless it is one request too many."""
        if self._enter(packet.data.get("request_id"), f"agent {packet.subject_id}"):
            super()._on_submit_onboarding(packet, channel_id)

    def _enter(self, request_id: Any, who: str) -> bool:
        """Count a request as pending; return whether it may be. Those that nobody answered are forgotten after a while."""
        if not _is_id(request_id):
            return False
        now = time.monotonic()
        with self._requests_lock:
            while self._requests and now - next(iter(self._requests.values()))[1] > LONGEST_REQUEST:
                self._forget(next(iter(self._requests)))
            if request_id in self._requests or self._requests_of[who] >= MOST_REQUESTS:
                self._complain("Too many requests of %s at the same time; they get no answer", who)
                return False
            self._requests[request_id] = who, now
            self._requests_of[who] += 1
            return True

    def _forget(self, request_id: str) -> None:
        """Count a request as over; its answer, should there be one yet, is not sent."""
        who, _ = self._requests.pop(request_id, (None, 0.0))
        self.request_id_to_channel_id.pop(request_id, None)
        self.request_id_to_packet.pop(request_id, None)
        if who is not None:
            self._requests_of[who] -= 1
            if not self._requests_of[who]:
                del self._requests_of[who]

    def associate_agent_with_registration(self, agent_id: str, request_id: str, registration_id: str) -> None:
        """Remember which agent a registration has led to, and whose it is."""
        ids = self.request_id_to_packet[request_id].data.get("provider_data") or {}
        if "worker_name" in ids:
            self._worker_of_registration.setdefault(registration_id, self._canonical(ids["worker_name"]))
        super().associate_agent_with_registration(agent_id, request_id, registration_id)

    def enqueue_agent_details(self, request_id: str, additional_data: dict[str, Any]) -> None:
        """Answer a page's request."""
        try:
            super().enqueue_agent_details(request_id, additional_data)
        finally:
            with self._requests_lock:
                self._forget(request_id)


def _is_hashable(*values: Any) -> bool:
    return all(value is None or isinstance(value, str) for value in values)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID

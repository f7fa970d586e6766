"""Telling a worker why there is no work for them: each reason has its own code, for the page, and its own sentence.

Mephisto decides who gets work and answers everybody else with one of two general sentences. Here the answer on its way out
is given the reason, found by the same rules from the same database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, cast

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions.blueprints.mixins.onboarding_required import OnboardingRequired
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.operations.client_io_handler import ClientIOHandler
from mephisto.operations.datatypes import WorkerFailureReasons

from model_chat.configuration.worker_texts import Texts, worker_text
from model_chat.quality.blocks import (
    BlockReason,
    block_reasons,
    find_worker,
    has_no_more_work,
    is_blocked,
    name_of,
    platform_id,
)

if TYPE_CHECKING:
    from mephisto.abstractions._subcomponents.channel import Channel
    from mephisto.abstractions.blueprint import Blueprint
    from mephisto.abstractions.database import MephistoDB
    from mephisto.data_model.packet import Packet
    from mephisto.data_model.task_run import TaskRun
    from mephisto.data_model.unit import Unit
    from mephisto.data_model.worker import Worker

    from model_chat.quality.failures import Failures

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 30.0
"""How long the router may take to answer."""


class Refusal(StrEnum):
    """Why a worker gets no work now. The value is `refusal` on the wire (docs/protocol.md)."""

    ACCEPTABILITY = "acceptability"
    ATTENTION = "attention"
    BLOCKED = "blocked"
    NOT_INVITED = "not_invited"
    ONBOARDING = "onboarding"
    NOTHING_NEW = "nothing_new"
    SIMULATED = "simulated"
    MAXIMUM = "maximum"
    CONCURRENT = "concurrent"
    TROUBLE = "trouble"
    ALL_TAKEN = "all_taken"
    ALL_DONE = "all_done"
    PAUSED = "paused"
    STOPPED = "stopped"
    PRACTISING = "practising"
    NO_ID = "no_id"
    UNFILLED_ID = "unfilled_id"
    DOUBLED_ID = "doubled_id"
    INVALID_ID = "invalid_id"
    LINK_INVALID = "link_invalid"
    LINK_EXPIRED = "link_expired"
    LINK_USED = "link_used"
    ENDED = "ended"
    TECHNICAL = "technical"


TEXTS = {refusal: worker_text(f"refusals.{refusal}") for refusal in Refusal}
"""The sentences that workers read."""

_OF_BLOCKS = {BlockReason.ACCEPTABILITY: Refusal.ACCEPTABILITY, BlockReason.ATTENTION: Refusal.ATTENTION}


MOST_WAITING = 100
"""Packets of one page that wait to be read, while a model replies say; a page sends one and waits for the answer."""
SEEN = 5_000
"""Packets of pages of which is remembered that they have come: a repeat comes within moments."""


class RecentIds(OrderedDict[object, None]):
    """The last :data:`SEEN` ids, as a set; Mephisto's own keeps those of the whole run. Of the event loop alone."""

    def add(self, update_id: object) -> None:
        """Take in an id; the oldest goes."""
        self[update_id] = None
        if len(self) > SEEN:
            self.popitem(last=False)


class _Pool(Protocol):
    """What is asked of the run's worker pool (:class:`model_chat.mephisto_task.worker_pool.TaskWorkerPool`)."""

    def hand_in_again(self, onboarding_id: str, request_id: str) -> Coroutine[Any, Any, None]: ...


class _Runner(Protocol):
    """What is asked of the run's task runner (:class:`model_chat.mephisto_task.task_runner.ModelChatTaskRunner`)."""

    failures: Failures


class ExplainingClientIO(ClientIOHandler):
    """Mephisto's connection to the router; a refusal sent through it carries its reason.

    ``_lock`` guards the queue of answers: workers are let in by several threads.
    """

    def __init__(self, db: MephistoDB) -> None:
        super().__init__(db)
        self._lock = threading.Lock()
        self.seen_update_ids = RecentIds()
        self.texts = Texts()
        """In which refusals are said."""

    def _register_channel(self, channel: Channel) -> str:
        """Connect to the router, and return as soon as that is done, where Mephisto sleeps for a third of a second.

        Raises:
            ConnectionRefusedError: the router takes no connection.
        """
        channel_id = channel.channel_id
        self.channels[channel_id] = channel
        channel.open()  # says hello by itself
        end = time.monotonic() + CONNECT_SECONDS
        while not channel.is_alive():
            if time.monotonic() > end:
                channel.close()
                raise ConnectionRefusedError(f"The router takes no connection within {CONNECT_SECONDS:g} s.")
            time.sleep(0.01)
        return channel_id

    def _on_live_update(self, packet: Packet, channel_id: str) -> None:
        """Hand a page's packet to its conversation; what nobody will read, or a flood, is dropped instead of piled up."""
        agent = self.get_live_run().worker_pool.get_agent_for_id(packet.subject_id)
        if agent is None or agent.db_status in AgentState.complete() or agent.pending_actions.qsize() >= MOST_WAITING:
            return
        super()._on_live_update(packet, channel_id)

    def _on_submit_onboarding(self, packet: Packet, channel_id: str) -> None:
        """Take an onboarding that a page hands in; one that is handed in a second time gets the answer of its worker."""
        pool = self.get_live_run().worker_pool
        agent = pool.onboarding_agents.get(packet.subject_id)
        if agent is not None and not agent.did_submit.is_set():
            super()._on_submit_onboarding(packet, channel_id)
            return
        request_id = packet.data["request_id"]
        self.request_id_to_channel_id[request_id] = channel_id
        self.request_id_to_packet[request_id] = packet
        self.get_live_run().loop_wrap.execute_coro(cast("_Pool", pool).hand_in_again(packet.subject_id, request_id))

    def enqueue_agent_details(self, request_id: str, additional_data: dict[str, Any]) -> None:
        """Answer a page's request for work, refusals with `refusal` and the reason in plain words."""
        if additional_data.get("failure_reason") is not None and "refusal" not in additional_data:
            try:
                additional_data = {
                    **additional_data,
                    **self._explanation(request_id, additional_data["failure_reason"]),
                }
            except Exception:  # the page must get its answer, with a reason or without
                logger.exception("A refusal goes out without its reason")
        additional_data = self.texts.told(self._with_ending(request_id, additional_data))
        with self._lock:
            super().enqueue_agent_details(request_id, additional_data)

    def _with_ending(self, request_id: str, details: dict[str, Any]) -> dict[str, Any]:
        """An answer with the ending that its participant is told, where there is one."""
        return details

    def _explanation(self, request_id: str, mephisto_reason: str) -> dict[str, str]:
        live_run = self.get_live_run()
        if mephisto_reason == WorkerFailureReasons.TASK_MISSING:
            return {}
        if getattr(live_run.worker_pool, "is_closed", False):
            return {"refusal": Refusal.STOPPED.value, "failure_reason": TEXTS[Refusal.STOPPED]}
        worker = self._asking_worker(request_id)
        if worker is None:
            return {}
        failures = cast("_Runner", live_run.task_runner).failures
        refusal = why_no_work(worker, live_run.task_run, live_run.blueprint, failures)
        return {"refusal": refusal.value, "failure_reason": TEXTS[refusal]}

    def _asking_worker(self, request_id: str) -> Worker | None:
        packet = self.request_id_to_packet[request_id]
        pool = self.get_live_run().worker_pool
        agent = pool.get_agent_for_id(packet.subject_id)  # who hands in the onboarding
        if agent is not None:
            return agent.get_worker()
        provider_data = packet.data.get("provider_data") or {}
        return find_worker(self.db, self.get_live_run().provider.PROVIDER_TYPE, str(provider_data.get("worker_name")))


def why_no_work(worker: Worker, task_run: TaskRun, blueprint: Blueprint, failures: Failures | None = None) -> Refusal:
    """Find the reason for which a worker has been given no work in a run; what lasts comes before what may pass."""
    args = blueprint.args.blueprint
    block = name_of(args, "block_qualification")
    if block is not None and is_blocked(worker, block):
        return next(
            (_OF_BLOCKS[reason] for reason in block_reasons(worker, block) if reason in _OF_BLOCKS), Refusal.BLOCKED
        )
    allowed = name_of(args, "allowed_worker_qualification")
    if allowed is not None and worker.get_granted_qualification(allowed) is None:
        return Refusal.NOT_INVITED
    onboarding = name_of(args, "onboarding_qualification")
    if onboarding is not None and (
        worker.is_disqualified(onboarding) or is_blocked(worker, OnboardingRequired.get_failed_qual(onboarding))
    ):
        return Refusal.ONBOARDING
    if has_no_more_work(worker, block):
        return Refusal.NOTHING_NEW
    task_args = task_run.get_task_args()
    active, done = units_of(worker, task_run)
    most = task_args.maximum_units_per_worker
    if most and done >= most:
        return Refusal.MAXIMUM
    if active and ((most and active + done >= most) or 0 < task_args.allowed_concurrent <= active):
        return Refusal.CONCURRENT
    if failures is not None and failures.too_many_of(platform_id(worker)):
        return Refusal.TROUBLE
    taken = task_run.db.find_units(task_run_id=task_run.db_id, status=AssignmentState.ASSIGNED)
    return Refusal.ALL_TAKEN if any(map(_is_worked_on, taken)) else Refusal.ALL_DONE


def units_of(worker: Worker, task_run: TaskRun) -> tuple[int, int]:
    """Count how many units of a run a worker works on now, and how many of its task they have worked on to the end."""
    of_task = worker.db.find_units(task_id=task_run.task_id, worker_id=worker.db_id)
    active = [unit for unit in of_task if unit.task_run_id == task_run.db_id and _is_worked_on(unit)]
    return len(active), sum(unit.db_status in _WORKED for unit in of_task if unit not in active)


_WORKED = frozenset({*AssignmentState.completed(), AssignmentState.ASSIGNED})


def _is_worked_on(unit: Unit) -> bool:
    """Whether somebody works on a unit; Mephisto leaves it `assigned` for a while after its agent has handed in."""
    if unit.db_status != AssignmentState.ASSIGNED:
        return False
    agent = unit.get_assigned_agent()
    return agent is None or agent.db_status not in AgentState.complete()

"""The worker's side of a conversation: what a world sends to, and gets from, the worker's page (docs/protocol.md)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.agent import OnboardingAgent
from mephisto.data_model.exceptions import AgentTimeoutError as AgentTimeoutError

from model_chat.configuration.worker_texts import Texts
from model_chat.crowd.endings import Ending, Endings
from model_chat.quality.blocks import platform_id
from model_chat.records.participation import EndingKind

if TYPE_CHECKING:
    from mephisto.data_model.agent import Agent
    from mephisto.data_model.unit import Unit

SHORTEST_WAIT = 0.01
"""Seconds; Mephisto takes a wait of 0 for "don't wait"."""
ONBOARDING_PASSED, ONBOARDING_FAILED = "onboarding_passed", "onboarding_failed"
LONGEST_WAIT = 0.5
"""Seconds between two looks at whether the worker is still there; a packet wakes at once."""
LONGEST_PAUSE = 1.0
"""The same while a reply is held back; one who leaves or hands in wakes at once."""


COMPARISON, COMPARISON_DONE = "comparison", "comparison_done"
"""The controls of the update that shows two replies, or that two chats are to be compared, and of the one that says the
judgement back."""
CHAT_DONE = "chat_done"
"""The control of the update that says that the worker has closed one of two chats."""
ANNOTATED = "annotated"
"""The control of the update that says an annotation back where finished conversations are annotated."""
TAKEN = ("page_done", "rating_done", COMPARISON_DONE, CHAT_DONE, ANNOTATED)
"""Control updates that say that what a worker sent has been taken; they are on disk first."""


class ServerUpdate(dict[str, Any]):
    """A live update that the server made.

    The type is how :class:`~model_chat.mephisto_task.agent_state.ModelChatAgentState` tells it from what a worker's page
    sent: only the server's own updates are recorded, so that nothing unchecked is ever saved or shown again.

    Attributes:
        generation: how a model's reply was made, JSON types only; recorded beside the update, and no part of what the page
            gets.
    """

    generation: dict[str, Any] | None = None

    @property
    def acknowledges(self) -> bool:
        """Whether it tells the page that something of the worker's has arrived: a message, or a judgement of two replies."""
        task_data = self.get("task_data") or {}
        return task_data.get("message_id") is not None and task_data.get("control") in (None, *TAKEN)


class HumanAgent:
    """Sends updates to a worker's page and receives what the page sends.

    Args:
        endings: what participants of a panel are told at the end; None for providers that are no panel.
    """

    _endings: Endings | None = None
    _texts = Texts()
    keep_onboarding_result: Callable[[bool], None] | None = None
    """Called with whether the worker has passed onboarding before their page is told: it may come back at once."""

    def __init__(
        self, agent: Agent | OnboardingAgent, endings: Endings | None = None, texts: Texts | None = None
    ) -> None:
        self.mephisto_agent = agent
        self._endings = endings
        self._texts = texts or self._texts

    @property
    def worker_id(self) -> str:
        """The crowd platform's own id of the worker where there is one, else the name that they came with."""
        return platform_id(self.mephisto_agent.get_worker())

    @property
    def hit_id(self) -> str:
        """The crowd platform's HIT id where there is one, else Mephisto's id of the unit."""
        unit = self._unit()
        platform_id = getattr(unit, "get_mturk_hit_id", None)
        return str((platform_id() if callable(platform_id) else None) or unit.db_id)

    @property
    def assignment_id(self) -> str:
        """The crowd platform's assignment id where there is one, else Mephisto's id of the assignment."""
        unit = self._unit()
        platform_id = getattr(unit, "get_mturk_assignment_id", None)
        return str((platform_id() if callable(platform_id) else None) or unit.assignment_id)

    def _unit(self) -> Unit:
        """The worker's unit.

        Raises:
            TypeError: it is an onboarding, which has none.
        """
        if isinstance(self.mephisto_agent, OnboardingAgent):
            raise TypeError("An onboarding has no unit.")
        return self.mephisto_agent.get_unit()

    def say(
        self,
        speaker: str,
        text: str,
        fake_start: bool = False,
        generation: dict[str, Any] | None = None,
        **task_data: Any,
    ) -> None:
        """Show an utterance of the conversation on the page.

        Args:
            speaker: `Speaker 1` or `Speaker 2`.
        """
        update = ServerUpdate(id=speaker, text=text, episode_done=False, task_data=task_data)
        if fake_start:
            update["fake_start"] = True
        update.generation = generation
        self._send(update)

    def control(self, control: str, **task_data: Any) -> None:
        """Send a control update (section 2 of docs/protocol.md).

        Who has failed onboarding (`onboarding_failed`) is told an ending with it, unless ``ending`` is given.
        """
        if control == ONBOARDING_FAILED and "ending" not in task_data:
            self.conclude(control, EndingKind.SCREENED_OUT, **task_data)
            return
        if self.keep_onboarding_result is not None and control in (ONBOARDING_PASSED, ONBOARDING_FAILED):
            self.keep_onboarding_result(control == ONBOARDING_PASSED)
        if task_data.get("ending", True) is None:  # told as no key
            del task_data["ending"]
        told = self._texts.told(task_data)
        self._send(ServerUpdate(id="System", text="", episode_done=False, task_data={"control": control, **told}))

    def ending(self, kind: EndingKind | None) -> Ending:
        """Return how the worker's part ends, for the record and for :meth:`conclude`.

        Args:
            kind: None for a part that has not ended yet.
        """
        if self._endings is None:
            return Ending(kind, self.mephisto_agent.get_worker().provider_type, self.worker_id)
        return self._endings.decide(self.worker_id, kind)

    def conclude(self, control: str, kind: EndingKind, **task_data: Any) -> None:
        """Send the last update of the worker's part. What a panel's participant is told is on disk before.

        Args:
            control: ``ended`` or ``onboarding_failed``.
        """
        packet = None if self._endings is None else self._endings.keep(self.ending(kind)).packet()
        self.control(control, **task_data, ending=packet)

    def _send(self, update: ServerUpdate) -> None:
        update["update_id"] = str(uuid4())
        update["timestamp"] = time.time()
        self.mephisto_agent.observe(update)

    def show_compared(self, generation: dict[str, Any], **task_data: Any) -> None:
        """Show two replies, or the questions about two chats, that are to be compared.

        Args:
            generation: whose they are, and how replies were made; recorded, and the page does not get it.
        """
        update = ServerUpdate(as_update({"control": COMPARISON, **task_data}))
        update.generation = generation
        self._send(update)

    def send_part(self, take: Callable[[], dict[str, Any]]) -> bool:
        """Send a part of a reply that is being made; it is recorded nowhere, and dropped where the page can't take it now.

        Args:
            take: gives the ``task_data`` of the part when it is sent.

        Returns:
            whether it will be taken.
        """
        agent = self.mephisto_agent
        if not agent.agent_in_active_run():
            return False
        # Not by the agent, which would keep it.
        client_io: Any = agent.get_live_run().client_io
        return bool(client_io.send_part(agent.get_agent_id(), lambda: as_update(take())))

    def wait(self, until: float) -> None:
        """Wait, as long as the worker is there and the run goes on.

        Args:
            until: on the clock of :func:`time.monotonic`, seconds.
        """
        leaving = self.mephisto_agent.did_submit  # set by whatever ends a worker's part, and by handing in
        while (left := until - time.monotonic()) > 0 and not self._is_gone():
            if leaving.wait(min(left, LONGEST_PAUSE)):
                return

    def discard_waiting(self) -> list[Any]:
        """Take whatever the page has sent already, without waiting."""
        waiting = []
        while (act := self.mephisto_agent.get_live_update()) is not None:
            waiting.append(act)
        return waiting

    def receive(self, deadline: float) -> Any:
        """Wait for the next thing that the page sends. It is untrusted and can be of any JSON type.

        Args:
            deadline: on the clock of :func:`time.monotonic`, seconds.

        Raises:
            AgentTimeoutError: nothing came; unlike Mephisto's own, it leaves the agent's status as it is, for a worker who
                runs out of time may have something to hand in.
            AbsentAgentError: Mephisto's exceptions for a worker who left or gave the work back, or when the run is stopped.
        """
        if not self._await_packet(deadline):
            raise AgentTimeoutError(None, self.mephisto_agent.db_id)
        # There is a packet, or it is Mephisto's turn to say why none will come.
        return self.mephisto_agent.get_live_update(timeout=SHORTEST_WAIT)

    def _await_packet(self, deadline: float) -> bool:
        """Return True when there is a packet, or will be none, and False at the deadline.

        Mephisto puts a packet into the queue and sets the event afterwards. When the packet is taken in between, the event
        stays set with nothing in the queue, and ``get_live_update`` would take that for a worker who timed out.
        """
        agent = self.mephisto_agent
        while agent.pending_actions.empty() and not self._is_gone():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # In slices, for the event may be cleared below at the very moment at which it is set for a good reason.
            if agent.has_live_update.wait(min(left, LONGEST_WAIT)) and agent.pending_actions.empty():
                if self._is_gone():
                    return True
                agent.has_live_update.clear()
        return True

    def _is_gone(self) -> bool:
        """Whether Mephisto has ended the worker's part (left, timed out, given back), or the run is being stopped."""
        return self.mephisto_agent.is_shutdown or self.mephisto_agent.db_status in AgentState.complete()


def as_update(task_data: dict[str, Any]) -> dict[str, Any]:
    """Return a live update that is not recorded, in the form of one that is."""
    return {"update_id": str(uuid4()), "id": "System", "text": "", "episode_done": False, "task_data": task_data}

"""Asking a worker for something until something comes that can be taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from model_chat.configuration.worker_texts import worker_text
from model_chat.conversation.human_agent import AgentTimeoutError, HumanAgent
from model_chat.conversation.incoming import RefusedError, asks_more_time, message_id_of

if TYPE_CHECKING:
    from model_chat.conversation.study_flow import StudyFlowRun

Answered = TypeVar("Answered")


class WorkerTurns:
    """The turns of one worker.

    Args:
        time_extensions: how many times they may ask for more time, in each turn.

    Attributes:
        taken: ids of what was taken from the page; the caller adds that of each answer.
    """

    def __init__(self, human: HumanAgent, time_extensions: int) -> None:
        self._human = human
        self._time_extensions = time_extensions
        self.taken: set[str] = set()

    def await_answer(
        self, check: Callable[[Any], Answered | None], turn_idx: int, seconds: int, **told: Any
    ) -> Answered:
        """Tell the worker that it is their turn, and wait until something comes that can be taken.

        Args:
            check: returns what is taken of a packet, None for a repeat, and raises RefusedError.
            turn_idx: which turn it is, for packets that name one.
            seconds: for the turn, and again with each extension.
            told: further keys of `your_turn`.
        """
        for early in self._human.discard_waiting():
            if message_id_of(early) not in self.taken:
                self._refuse(RefusedError("not_your_turn", worker_text("messages.wait"), message_id_of(early)))
        deadline = time.monotonic() + seconds
        extensions_left = self._time_extensions
        self._human.control(
            "your_turn",
            **told,
            turn_idx=turn_idx,
            seconds=seconds,
            extensions_left=extensions_left,
            live_update_requested=True,
        )
        while True:
            packet = self._human.receive(deadline)
            if asks_more_time(packet, turn_idx):
                if extensions_left and message_id_of(packet) not in self.taken:
                    extensions_left -= 1
                    deadline += seconds
                    self._give_more_time(packet, turn_idx, deadline, extensions_left)
                continue
            try:
                accepted = check(packet)
            except RefusedError as refused:
                self._refuse(refused)
                continue
            if accepted is not None:
                return accepted

    def take_page(self, flow: StudyFlowRun, after_chat: bool, may_skip: bool) -> None:
        """Show the page of a study flow that comes now, if there is one, and take its answers.

        Args:
            may_skip: whether a worker who takes too long leaves out the rest, which is only to be read.

        Raises:
            AgentTimeoutError: the worker took too long.
        """
        page = flow.next_page(after_chat)
        if page is None:
            return
        try:
            accepted = self.await_answer(
                lambda packet: flow.check(page, packet, self.taken),
                flow.page_idx,
                flow.options.max_page_time,
                ask="page",
                **flow.told(page),
            )
        except AgentTimeoutError:
            if not may_skip:
                raise
            flow.skip_rest()
            return
        self.taken.add(accepted.message_id)
        flow.take(page, accepted)
        if not accepted.is_decline:
            complete = {"complete": True} if after_chat and flow.only_texts_left else {}
            self._human.control(
                "page_done", page=page.id, message_id=accepted.message_id, answers=accepted.answers, **complete
            )

    def _give_more_time(self, packet: Any, turn_idx: int, deadline: float, extensions_left: int) -> None:
        """Tell the page until when the worker has now; a request that is sent again is not granted again."""
        message_id = message_id_of(packet)
        if message_id is not None:
            self.taken.add(message_id)
        self._human.control(
            "more_time",
            turn_idx=turn_idx,
            seconds=round(deadline - time.monotonic(), 1),
            extensions_left=extensions_left,
        )

    def _refuse(self, refused: RefusedError) -> None:
        self._human.control("refused", message_id=refused.message_id, code=refused.code, reason=refused.reason)

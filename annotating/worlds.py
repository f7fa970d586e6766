"""The annotation of one finished conversation: a worker reads it reply by reply, ticks the boxes of each, and rates it.

Subclass :class:`AnnotationWorld` as :mod:`model_chat.worlds` says; ``mephisto.blueprint.world_file`` names the file.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from model_chat.bot_agent import BotAgent
from model_chat.conversation.annotation_quota import AnnotationQuota
from model_chat.conversation.human_agent import ANNOTATED, HumanAgent
from model_chat.conversation.incoming import Accepted
from model_chat.conversation.quota import Reservation
from model_chat.quality.attention import AttentionCheck
from model_chat.records.conversation_logs import LoggedConversation, LogLine
from model_chat.records.schema import HUMAN_ID, HUMAN_IDX, MODEL_ID, MODEL_IDX, JudgedConversation, Utterance
from model_chat.worlds import ChatOptions, ModelChatOnboardWorld, ModelChatWorld, NoReservationLeftError, State
from model_chat.worlds import get_world_params as get_world_params  # the same as in text chat, and so are these:
from model_chat.worlds import make_onboarding_world as make_onboarding_world
from model_chat.worlds import validate_onboarding as validate_onboarding

__all__ = [
    "AnnotationOptions",
    "AnnotationWorld",
    "ModelChatOnboardWorld",
    "get_world_params",
    "make_onboarding_world",
    "make_world",
    "validate_onboarding",
]

ANNOTATION = "annotation"
"""What is asked of the worker at each reply but the last, which is annotated with the final rating."""


@dataclass(frozen=True, kw_only=True)
class AnnotationOptions(ChatOptions):
    """What all annotations of a run share. Made once, at launch.

    Attributes:
        quota: gives out the finished conversations.
    """

    quota: AnnotationQuota


class LoggedBot(BotAgent):
    """The model of a finished conversation: it generates no new replies, and none of its weights are loaded.

    Args:
        logged: the conversation.
    """

    def __init__(self, logged: LoggedConversation) -> None:
        self.nickname = logged.model_nickname
        self._opt = dict(logged.model_opt)

    @property
    def model_file(self) -> str | None:
        """Not known."""
        return None

    @property
    def exported_opt(self) -> dict[str, Any]:
        """The model's options, where the record of the conversation has them."""
        return self._opt


class AnnotationWorld(ModelChatWorld):
    """One finished conversation: it grows reply by reply, as it did for whoever talked with the model.

    An *exchange* is a reply with what came before it. ``options.num_turns`` is the number of replies but one, since the last
    reply is annotated together with the final rating, as in a chat.

    Args:
        options: see :class:`AnnotationOptions`; of this conversation.
        human: the annotator's side.
        bot: names the model.
        reservation: says which conversation it is.
    """

    options: AnnotationOptions
    reservation: Reservation[LoggedConversation]

    def __init__(
        self,
        options: AnnotationOptions,
        human: HumanAgent,
        bot: BotAgent,
        reservation: Reservation[LoggedConversation],
    ) -> None:
        super().__init__(options, human, bot, reservation)
        self._lines_left = list(reservation.subject.dialog)

    def additional_record(self) -> dict[str, Any]:
        """Which conversation it is, and what its record knew of its context."""
        logged = self.reservation.subject
        judged = JudgedConversation(id=logged.id, sha256=logged.sha256)
        return {"judged_conversation": judged, **logged.context}

    def acceptability_violations(self) -> str | None:
        """None: an annotator writes no messages."""
        return None

    def begin(self) -> None:
        """Show the conversation up to its first reply that is judged."""
        personas = self.reservation.subject.context.get("personas") or [[]]
        self._start_page(personas[0])
        self._show_to_reply()

    def _begin_chat(self) -> None:
        super()._begin_chat()
        if self.state is State.HUMAN_TURN and self.options.num_turns == 0:  # its only reply is rated at once
            self.state = State.FINAL_RATING

    def _take_message(self) -> None:
        """Take the annotation of the last reply, in place of a message."""
        accepted = self._receive(ANNOTATION)
        self._annotate(accepted)
        self._tell_annotated(accepted)

    def _check_attention(self, check: AttentionCheck) -> None:
        """Show a check instead of a reply, and take the boxes that are ticked."""
        page_idx = self._dialogue.page_idx
        self.human.say(MODEL_ID, check.text, utterance_idx=page_idx, agent_idx=MODEL_IDX, attention_check=True)
        accepted = self._receive(ANNOTATION, self.options.annotations)
        self._tell_annotated(accepted, page_idx)
        self.attention_results.append(check.result("", accepted.problem_data))

    def _reply_check(self) -> Callable[[Any], dict[str, Any]] | None:
        """None as well where the last reply has been answered, and an attention check follows it."""
        return None if self.dialog and self.dialog[-1].message_id is not None else super()._reply_check()

    def _tell_annotated(self, accepted: Accepted, page_idx: int | None = None) -> None:
        """Say an annotation of the last reply, or of what the page knows as ``page_idx``, back; it is on disk first."""
        told = self._dialogue.told_of_reply(accepted, page_idx)
        self.human.control(ANNOTATED, turn_idx=self.exchanges_done, message_id=accepted.message_id, **told)

    def _let_model_reply(self) -> None:
        self._show_to_reply()

    def _show_to_reply(self) -> None:
        """Show the conversation up to its next reply that is judged."""
        while self._lines_left:
            line = self._lines_left.pop(0)
            self._show(line)
            if line.is_judged:
                return

    def _show(self, line: LogLine) -> None:
        is_human = line.agent_idx == HUMAN_IDX
        shown = Utterance(
            agent_idx=line.agent_idx,
            text=line.text,
            id=HUMAN_ID if is_human else MODEL_ID,
            timestamp=time.time(),
            # To the annotator all that the person said is shown as said; so it counts as nobody's words again.
            fake_start=True if is_human or line.fake_start else None,
            episode_done=False if is_human or line.fake_start else None,
        )
        page_idx = self._dialogue.page_idx
        self.dialog.append(shown)
        self.human.say(shown.id, line.text, line.fake_start, utterance_idx=page_idx, agent_idx=line.agent_idx)

    def _annotate(self, accepted: Accepted) -> None:
        super()._annotate(accepted)
        reply = self.dialog[-1]
        reply.message_id = accepted.message_id
        reply.timing = self._dialogue.plausible_timing(accepted, time.time())

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the annotator has ticked or answered anything."""
        if self.keeps_nothing:
            return False
        return (self.flow is not None and self.flow.has_answers) or any(
            line.problem_data is not None for line in self.dialog
        )


def make_world(
    opt: AnnotationOptions,
    agents: Sequence[HumanAgent],
    initialization_data: Any = None,
    world_class: Callable[..., AnnotationWorld] = AnnotationWorld,
) -> AnnotationWorld:
    """Make the world in which a worker annotates the next conversation that is new to them.

    Args:
        opt: what all annotations share.
        agents: the annotator's side, alone in a list.
        initialization_data: Mephisto's, empty.
        world_class: the class to make; world files of the user's own name theirs.

    Raises:
        NoReservationLeftError: there is nothing for this worker.
    """
    human = agents[0]
    reservation = opt.quota.take(human.worker_id)
    if reservation is None:
        raise NoReservationLeftError("There is no finished conversation for this worker.")
    with reservation:  # released where the world raises
        logged = reservation.subject
        own = dataclasses.replace(opt, num_turns=logged.replies - 1)
        return world_class(own, human, LoggedBot(logged), reservation)

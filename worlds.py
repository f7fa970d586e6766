"""One conversation between a worker and a model.

A researcher changes the conversation by subclassing :class:`ModelChatWorld` in a file of their own that is named by
``mephisto.blueprint.world_file`` and has ``make_world`` and ``get_world_params`` (docs/worlds.md). The onboarding before it
(:mod:`model_chat.conversation.onboarding_world`) is imported from here, too.

A world does one step at a time, as ParlAI's worlds do: the task runner calls :meth:`parley` until :meth:`episode_done`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from model_chat.bot_agent import BotAgent
from model_chat.comparing.pair import make_side
from model_chat.comparing.paired import ChatComparison, PairedBots
from model_chat.comparing.per_turn import ComparedBots, ReplyComparison
from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.comparison import BOTH
from model_chat.configuration.redaction import redacted
from model_chat.configuration.worker_texts import worker_text
from model_chat.conversation.asking import WorkerTurns
from model_chat.conversation.chat_options import ChatOptions as ChatOptions
from model_chat.conversation.chat_options import State as State
from model_chat.conversation.conditions import conditions_of, is_admitted, with_conditions
from model_chat.conversation.contexts import HI, Context, context_record
from model_chat.conversation.dialogue import Dialogue
from model_chat.conversation.growing_reply import GrowingReply
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.incoming import Accepted, Expected, check_packet
from model_chat.conversation.onboarding_world import ModelChatOnboardWorld as ModelChatOnboardWorld
from model_chat.conversation.onboarding_world import OnboardingOptions as OnboardingOptions
from model_chat.conversation.onboarding_world import make_onboarding_world as make_onboarding_world
from model_chat.conversation.onboarding_world import validate_onboarding as validate_onboarding
from model_chat.conversation.quota import NoReservationLeftError as NoReservationLeftError
from model_chat.conversation.quota import Reservation
from model_chat.quality.attention import AttentionCheck
from model_chat.quality.blocks import BlockReason, conduct_reasons
from model_chat.records.participation import EndingKind
from model_chat.records.schema import (
    HUMAN_ID,
    HUMAN_IDX,
    MODEL_IDX,
    RATING_SEPARATOR,
    AttentionResult,
    Comparison,
    Completion,
    Conversation,
    Generation,
    TaskDescription,
    Utterance,
)
from model_chat.serving.pool import ModelFailureError

if TYPE_CHECKING:
    from model_chat.conversation.study_flow import StudyFlowRun

logger = logging.getLogger(__name__)


class ModelChatWorld:
    """One conversation: opening, ``num_turns`` exchanges, final ratings.

    Where whole chats are compared, it has two openings, twice as many exchanges, and the comparison instead of the ratings.
    """

    head_version = 0
    """Grows when what a recovery needs beside the messages has changed."""

    ending_kind: EndingKind | None = None
    """How a panel's participant is told that it ended, where it is not plain from the outcome."""

    def __init__(self, options: ChatOptions, human: HumanAgent, bot: BotAgent, reservation: Reservation[Any]) -> None:
        self.options = options
        self.human = human
        self.bot = bot
        self.reservation = reservation
        self.state = State.START
        self.completion = Completion.INCOMPLETE
        self.reason: str | None = None
        """Why the conversation is incomplete."""
        self.context: Context | None = None
        self.exchanges_done = 0
        """Of both chats, where there are two."""
        self.failed_generation: Generation | None = None
        """What is known of the reply that the model could not give."""
        self.flow: StudyFlowRun | None = None
        if options.study_flow is not None:
            from model_chat.conversation.study_flow import StudyFlowRun

            self.flow = StudyFlowRun(options.study_flow, human.worker_id)
        self._turns = WorkerTurns(human, options.time_extensions)
        self._dialogue = Dialogue(human, options.annotations, self.flow, options.record_authenticity)
        self._comparing: ChatComparison | ReplyComparison | None = None
        if isinstance(bot, PairedBots):
            self._comparing = ChatComparison(bot, human, self._dialogue, options.final_rating_questions)
        elif isinstance(bot, ComparedBots):
            self._comparing = ReplyComparison(bot, human, self._dialogue, options.delivery)

    @property
    def comparisons(self) -> list[Comparison] | None:
        """The judgements of two models so far; None where there is one model."""
        return None if self._comparing is None else self._comparing.judgements

    @property
    def dialog(self) -> list[Utterance]:
        """What was said so far."""
        return self._dialogue.utterances

    @property
    def attention_results(self) -> list[AttentionResult]:
        """How the attention checks so far were answered."""
        return self._dialogue.attention_results

    # --- what subclasses change ---

    def additional_start_data(self) -> dict[str, Any]:
        """Further keys of the ``start`` update to the page."""
        return {}

    def additional_record(self) -> dict[str, Any]:
        """Further keys of :class:`Conversation` to be saved."""
        return {}

    @property
    def begins_midway(self) -> bool:
        """Whether something stood there before the worker came, so that a first message should not greet."""
        return self.options.start_mode != HI

    def acceptability_violations(self) -> str | None:
        """Comma-separated names of the checks that the worker's messages failed, "" for none, None when not checked."""
        if self.options.acceptability is None or self.completion is not Completion.COMPLETE:
            return None
        return self.options.acceptability.violations_of_chats(self._dialogue.own_texts(), self.begins_midway)

    def block_reasons(self) -> list[tuple[BlockReason, str]]:
        """Why the worker is to get no further conversations, each with a detail for the log; asked once, at the end.

        Only a complete conversation speaks against a worker.
        """
        if self.completion is not Completion.COMPLETE:
            return []
        return conduct_reasons(self.acceptability_violations(), self.options.attention, self.attention_results)

    def begin(self) -> None:
        """Tell the page what there is before the chat, and open it."""
        if self.options.contexts is not None:
            self.context = self.options.contexts.next()
        self._start_page(self.context.human_persona if self.context and self.options.include_persona else [])
        self.open_chat()

    def open_chat(self) -> None:
        """Say what counts as already said, and let the model answer the greeting in the start mode ``hi``.

        It comes twice where whole chats are compared: each begins with the same opening.
        """
        options = self.options
        if self.context is not None and options.include_persona:
            self.bot.observe_persona(self.context.lines_for_model())
        if options.start_mode == HI:
            self._dialogue.add(HUMAN_IDX, options.greeting, fake_start=True)
            self.bot.observe({"id": HUMAN_ID, "text": options.greeting})
            self._let_model_reply()
        elif self.context is not None:
            self._dialogue.add(HUMAN_IDX, self.context.human_seed, fake_start=True)
            self._dialogue.add(MODEL_IDX, self.context.model_seed, fake_start=True)
            self.bot.observe({"id": HUMAN_ID, "text": self.context.human_seed})
            self.bot.has_said(self.context.model_seed)

    def _start_page(self, persona: Sequence[str]) -> None:
        self.human.control(
            "start",
            agent_display_name=HUMAN_ID,
            personas=list(persona),
            num_turns=self.options.num_turns,
            **({"num_chats": 2} if isinstance(self._comparing, ChatComparison) else {}),
            **self.additional_start_data(),
        )

    # --- the conversation ---

    def parley(self) -> None:
        """Do one step: open, take one message and answer it, or take the final ratings.

        Raises:
            AbsentAgentError: Mephisto's exceptions for a worker who left or took too long, or when the run is stopped.
            StoppedError: the run was stopped while the model was asked for a reply.
        """
        try:
            if self.state is State.START and self._next_page(after_chat=False):
                self.state = State.PAGES_BEFORE
            elif self.state is State.START:
                self._begin_chat()
            elif self.state is State.PAGES_BEFORE:
                if not self._take_page(after_chat=False):
                    self._begin_chat()
            elif self.state is State.HUMAN_TURN:
                self._take_message()
                self.state = State.MODEL_TURN if self._due_check is None else State.ATTENTION_CHECK
            elif self.state is State.ATTENTION_CHECK and (check := self._due_check) is not None:
                self._check_attention(check)
                self.state = State.MODEL_TURN
            elif self.state is State.MODEL_TURN and isinstance(self._comparing, ReplyComparison):
                self._comparing.show_replies(self.exchanges_done)
                self.state = State.COMPARISON
            elif self.state is State.COMPARISON and isinstance(self._comparing, ReplyComparison):
                self._comparing.judge(self.exchanges_done, self._receive("comparison"))
                self._end_exchange()
            elif self.state is State.END_OF_CHAT and isinstance(self._comparing, ChatComparison):
                if self._comparing.end_chat(self._receive("chat_done")):
                    self.open_chat()
                    self.state = State.HUMAN_TURN
                else:
                    self.state = State.COMPARISON
            elif self.state is State.COMPARISON and isinstance(self._comparing, ChatComparison):
                self._comparing.judge(self._receive("comparison"), self.flow is None or self.flow.only_texts_left)
                self._go_on_after_chat()
            elif self.state is State.MODEL_TURN:
                self._let_model_reply()
                self._end_exchange()
            elif self.state is State.FINAL_RATING:
                self._take_final_rating()
                self._go_on_after_chat()
            elif self.state is State.PAGES_AFTER:
                self._take_page(after_chat=True)
                self._go_on_after_chat()
        except ModelFailureError as failure:
            logger.error("A conversation ends since its model failed: %s", failure)
            if failure.generation:
                self.failed_generation = Generation.of(failure.generation)
            self.ending_kind = EndingKind.MODEL_FAILED
            self.abandon(f"model failed: {failure}")
            self.human.control("model_failed", reason=worker_text("chat.model_failed"))

    def _begin_chat(self) -> None:
        if self.state is State.ENDED:  # the worker has declined
            return
        if not is_admitted(self.reservation, {} if self.flow is None else self.flow.known):
            self.ending_kind = EndingKind.SCREENED_OUT
            self.abandon("screened out: the study has enough people who gave this answer")
            return
        if self.flow is not None:
            self.human.control("reply_items", **self.flow.reply_questions)
        self.begin()
        self.head_version += 1
        self.state = State.HUMAN_TURN

    # --- the study flow ---

    def _next_page(self, after_chat: bool) -> bool:
        """Whether a page of the flow comes now."""
        return self.flow is not None and self.flow.next_page(after_chat) is not None

    def _take_page(self, after_chat: bool) -> bool:
        """Show the page that comes now and take its answers; return whether another one follows.

        Raises:
            AgentTimeoutError: the worker took too long, and something is left that only they can answer.
        """
        if self.flow is None:
            return False
        self._turns.take_page(self.flow, after_chat, may_skip=self.completion is Completion.COMPLETE)
        if self.flow.has_declined:
            self.ending_kind = EndingKind.DECLINED
            self.abandon(f"{EndingKind.DECLINED}: the worker declined to take part")
            return False
        return self._next_page(after_chat)

    def _go_on_after_chat(self) -> None:
        """Go to the pages after the chat, or end; what is only to be read keeps no conversation from being complete."""
        if self.state is State.ENDED:  # the worker has declined
            return
        if self.flow is None or self.flow.only_texts_left:
            self.completion = Completion.COMPLETE
        if not self._next_page(after_chat=True):
            self.state = State.ENDED
        else:
            self.state = State.PAGES_AFTER

    @property
    def _is_last_reply(self) -> bool:
        """Whether the exchanges of the chat that goes on are done."""
        return self.exchanges_done >= self.options.num_turns * (1 + (self._dialogue.chat_idx or 0))

    def _end_exchange(self) -> None:
        self.exchanges_done += 1
        if not self._is_last_reply:
            self.state = State.HUMAN_TURN
        else:
            self.state = State.END_OF_CHAT if isinstance(self._comparing, ChatComparison) else State.FINAL_RATING

    # --- one exchange ---

    def _take_message(self) -> None:
        accepted = self._receive("message", takes_text=self.bot.takes_text)
        self._annotate(accepted)
        self._dialogue.add(HUMAN_IDX, accepted.text, accepted)
        self.bot.observe({"id": HUMAN_ID, "text": accepted.text})

    @property
    def _due_check(self) -> AttentionCheck | None:
        """The attention check of this turn."""
        attention = self.options.attention
        return None if attention is None else attention.due(self.exchanges_done + 1)

    def _check_attention(self, check: AttentionCheck) -> None:
        """Show a check where the model's reply is awaited, and take the answer. Neither enters the dialogue."""
        ticks_wanted = self._dialogue.show_check(check)
        self._dialogue.take_check(check, self._receive("message", ticks_wanted))

    def _take_final_rating(self) -> None:
        accepted = self._receive("final_rating")
        self._annotate(accepted)
        last = next(utterance for utterance in reversed(self.dialog) if utterance.agent_idx == MODEL_IDX)
        last.final_rating = RATING_SEPARATOR.join(str(rating) for rating in accepted.final_ratings or ())
        if self.flow is not None and self._next_page(after_chat=True):
            self.human.control(
                "rating_done",
                message_id=accepted.message_id,
                final_rating=accepted.final_ratings,
                **self._dialogue.told_of_reply(accepted),
                **({"complete": True} if self.flow.only_texts_left else {}),
            )

    def _annotate(self, accepted: Accepted) -> None:
        """Keep the boxes and answers about the model's last reply."""
        self._dialogue.annotate(accepted, self._is_last_reply)

    def _reply_check(self) -> Callable[[Any], dict[str, Any]] | None:
        """What checks the answers about the model's last reply; None where nothing is asked of it."""
        return self._dialogue.reply_check(self._is_last_reply)

    def _receive(
        self,
        ask: str,
        annotations: AnnotationsConfig | None = None,
        takes_text: Callable[[str], bool] | None = None,
    ) -> Accepted:
        """Ask the worker for a message or the final ratings until something that can be taken comes.

        Args:
            annotations: boxes to tick although the last thing said is no reply that is to be annotated.
            takes_text: whether the model can be shown a message; None where it isn't shown any.
        """
        comparison = self.options.comparison if ask == "comparison" else None
        questions = self.options.final_rating_questions
        compared_chats = questions if comparison is not None and comparison.is_paired else ()
        expected = Expected(
            annotations=self.options.annotations if self._dialogue.reply_to_annotate is not None else annotations,
            rating_questions=len(questions) if ask == "final_rating" else 0,
            max_message_length=self.options.max_message_length,
            turn_idx=self.exchanges_done,
            takes_text=takes_text,
            check_reply=None if compared_chats else self._reply_check(),
            comparison=comparison,
            boxes_of_both=None if comparison is None or comparison.boxes != BOTH else self.options.annotations,
            wants_text=ask != "annotation",
            compared_chats=len(compared_chats),
            closes_chat=ask == "chat_done",
        )
        accepted = self._turns.await_answer(
            lambda packet: check_packet(packet, expected, self._turns.taken),
            self.exchanges_done,
            self.options.max_resp_time,
            ask=ask,
            num_turns=self.options.num_turns,
            **({} if comparison is None else comparison.for_page()),
            **({"questions": list(compared_chats)} if compared_chats else {}),
        )
        self._turns.taken.add(accepted.message_id)
        return accepted

    def _let_model_reply(self) -> None:
        with GrowingReply(
            self.human, self.options.delivery, self._dialogue.page_idx, presentable=self.bot.so_far
        ) as growing:
            reply = self.bot.act(growing.tell)
            growing.hold_back(reply.text)
        reply.generation.paced = growing.paced
        self._dialogue.add(MODEL_IDX, reply.text, generation=reply.generation, model_nickname=reply.model_nickname)

    # --- the end ---

    def episode_done(self) -> bool:
        """Whether the conversation is over."""
        return self.state is State.ENDED

    def abandon(self, reason: str) -> None:
        """End the conversation as incomplete; nothing happens if it has ended already.

        Args:
            reason: for the record; workers never see it.
        """
        if self.state is not State.ENDED:
            if self.completion is not Completion.COMPLETE or self.ending_kind is EndingKind.DECLINED:
                self.completion = Completion.INCOMPLETE
                self.reason = redacted(reason)
            if self._comparing is not None and (cost := self._comparing.unjudged_cost_usd()):
                self.failed_generation = Generation(cost_usd=cost)
            self.state = State.ENDED

    @property
    def keeps_nothing(self) -> bool:
        """Whether nothing that the worker did may be kept: they declined, or have not yet given their consent."""
        return self.flow is not None and not self.flow.has_consent

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the worker has said or answered anything, or the model's replies have cost something that counts."""
        if self.keeps_nothing:
            return False
        has_answers = self.flow is not None and self.flow.has_answers
        return has_answers or self.failed_generation is not None or self._dialogue.is_worth_keeping

    def get_custom_task_data(self) -> dict[str, Any]:
        """Return the conversation as it is saved, in both places."""
        record: dict[str, Any] = {
            "dialog": self.dialog,
            "workers": [self.human.worker_id],
            "acceptability_violations": [self.acceptability_violations()],
            "hit_ids": [self.human.hit_id],
            "assignment_ids": [self.human.assignment_id],
            "task_description": TaskDescription(
                annotations_config=self.options.annotations_text,
                model_nickname=self.bot.nickname,
                model_file=self.bot.model_file,
                model_opt=self.bot.exported_opt,
                final_rating_question=RATING_SEPARATOR.join(self.options.final_rating_questions),
                study_flow=None if self.flow is None else self.flow.flow.text,
            ),
            **context_record(self.context),
            "attention_checks": None if self.options.attention is None else self.attention_results,
            "authenticity": self._dialogue.signals if self.options.record_authenticity else None,
            "answers": None if self.flow is None else self.flow.answers,
            "study_orders": None if self.flow is None else self.flow.orders,
            "status": self.completion,
            "reason": self.reason,
            "failed_generation": self.failed_generation,
            "conditions": conditions_of(self.reservation),
            "comparisons": self.comparisons,
            **self.additional_record(),
        }
        return Conversation(**record).to_dict()

    def prep_save_data(self, agents: Sequence[Any]) -> dict[str, Any]:
        """What Mephisto's database keeps of the conversation."""
        return {"custom_data": self.get_custom_task_data()}

    def settle(self, collected: bool) -> None:
        """Count the conversation as collected, or release its reservation; once."""
        if collected:
            self.reservation.complete()
        else:
            self.reservation.release()

    def shutdown(self) -> None:
        """Release the reservation if the conversation was not counted."""
        self.reservation.release()


def make_world(
    opt: ChatOptions,
    agents: Sequence[HumanAgent],
    initialization_data: Any = None,
    world_class: type[ModelChatWorld] = ModelChatWorld,
) -> ModelChatWorld:
    """Make the world of one conversation, with the model that needs conversations most.

    Args:
        world_class: the class to make; world files of the user's own name theirs.

    Raises:
        NoReservationLeftError: no model needs a conversation, or the models have cost what they may.
    """
    if opt.spend is not None and opt.spend.is_reached():
        raise NoReservationLeftError("The models have cost mephisto.blueprint.max_model_spend_usd.")
    reservation = opt.quota.take(agents[0].worker_id)
    if reservation is None:
        raise NoReservationLeftError("Every model has all the conversations it needs.")
    with reservation:  # released where anything below raises
        options = with_conditions(opt, reservation)
        bot = make_side(options, agents[0], reservation, partial(BotAgent, opt.models), (PairedBots, ComparedBots))
        return world_class(options, agents[0], bot, reservation)


def get_world_params() -> dict[str, Any]:
    """What Mephisto needs to know: one worker a conversation."""
    return {"agent_count": 1}

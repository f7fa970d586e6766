"""One conversation between a worker and a model.

A researcher changes the conversation by subclassing :class:`ModelChatWorld` in a file of their own that is named by
``mephisto.blueprint.world_file`` and has ``make_world`` and ``get_world_params`` (docs/worlds.md). The onboarding before it
(:mod:`model_chat.conversation.onboarding_world`) is imported from here, too.

A world does one step at a time, as ParlAI's worlds do: the task runner calls :meth:`parley` until :meth:`episode_done`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from model_chat.bot_agent import BotAgent, ComparedBots, ComparedReplies
from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.comparison import ComparisonSettings
from model_chat.configuration.redaction import redacted
from model_chat.configuration.worker_texts import ENGLISH_SENTENCES, worker_text
from model_chat.conversation.conditions import conditions_of, is_admitted, prompt_of, with_conditions
from model_chat.conversation.contexts import HI, Context, ContextSource
from model_chat.conversation.growing_reply import GrowingReply
from model_chat.conversation.human_agent import COMPARISON_DONE, AgentTimeoutError, HumanAgent
from model_chat.conversation.incoming import (
    Accepted,
    Expected,
    RefusedError,
    asks_more_time,
    check_packet,
    message_id_of,
)
from model_chat.conversation.onboarding_world import ModelChatOnboardWorld as ModelChatOnboardWorld
from model_chat.conversation.onboarding_world import OnboardingOptions as OnboardingOptions
from model_chat.conversation.onboarding_world import make_onboarding_world as make_onboarding_world
from model_chat.conversation.onboarding_world import validate_onboarding as validate_onboarding
from model_chat.conversation.pacing import AS_IT_COMES, ReplyDelivery
from model_chat.conversation.quota import Quota, Reservation
from model_chat.conversation.study_flow import DECLINED, FlowOptions, StudyFlowRun
from model_chat.errors import ModelChatError
from model_chat.quality.acceptability import AcceptabilityChecker
from model_chat.quality.attention import AttentionConfig
from model_chat.quality.blocks import BlockReason
from model_chat.quality.timing import plausible
from model_chat.records.participation import EndingKind
from model_chat.records.schema import (
    HUMAN_ID,
    HUMAN_IDX,
    MODEL_ID,
    MODEL_IDX,
    RATING_SEPARATOR,
    AttentionResult,
    Comparison,
    Completion,
    Conversation,
    Generation,
    TaskDescription,
    Timing,
    Utterance,
)
from model_chat.serving.pool import ModelFailureError, ModelPool
from model_chat.serving.spend import ModelSpend

logger = logging.getLogger(__name__)

Answered = TypeVar("Answered")

GREETING = ENGLISH_SENTENCES["defaults.greeting"]
"""What the worker is shown to have said in the start mode ``hi``."""


class State(StrEnum):
    """Where a conversation is. It goes START → HUMAN_TURN ⇄ MODEL_TURN → FINAL_RATING → ENDED, or to ENDED at any time.

    With an attention check, ATTENTION_CHECK comes between HUMAN_TURN and MODEL_TURN; where replies are compared, COMPARISON
    comes after MODEL_TURN. With a study flow, PAGES_BEFORE comes after START, and PAGES_AFTER before ENDED.
    """

    START = "start"
    PAGES_BEFORE = "pages before the chat"
    HUMAN_TURN = "human turn"
    ATTENTION_CHECK = "attention check"
    MODEL_TURN = "model turn"
    COMPARISON = "comparison"
    FINAL_RATING = "final rating"
    PAGES_AFTER = "pages after the chat"
    ENDED = "ended"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.START: frozenset({State.PAGES_BEFORE, State.HUMAN_TURN, State.ENDED}),
    State.PAGES_BEFORE: frozenset({State.HUMAN_TURN, State.ENDED}),
    State.HUMAN_TURN: frozenset({State.ATTENTION_CHECK, State.MODEL_TURN, State.ENDED}),
    State.ATTENTION_CHECK: frozenset({State.MODEL_TURN, State.ENDED}),
    State.MODEL_TURN: frozenset({State.COMPARISON, State.HUMAN_TURN, State.FINAL_RATING, State.ENDED}),
    State.COMPARISON: frozenset({State.HUMAN_TURN, State.FINAL_RATING, State.ENDED}),
    State.FINAL_RATING: frozenset({State.PAGES_AFTER, State.ENDED}),
    State.PAGES_AFTER: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}


@dataclass(frozen=True)
class ChatOptions:
    """What all conversations of a run share. Made once, at launch.

    Attributes:
        models: the run's models.
        quota: how many conversations each model still needs.
        num_turns: exchanges before the final rating.
        max_resp_time: seconds a worker has for a turn.
        time_extensions: how many times a worker may ask for as many seconds again, in each turn.
        max_message_length: characters.
        annotations: the buckets, or None when responses are not annotated.
        annotations_text: the text of the annotation configuration file, saved with each conversation.
        final_rating_questions: at least one.
        start_mode: ``hi`` or the name of a task.
        contexts: where contexts come from, or None when conversations have none.
        include_persona: whether model and worker are told a persona.
        acceptability: checks what the worker wrote, or None.
        attention: the attention checks, or None.
        spend: what the models may cost, or None.
        delivery: whether replies grow on the page, and at which pace.
        study_flow: the pages before and after the chat, and the questions about replies, or None.
        comparison: how the replies of two models are compared, or None where there is one reply.
        greeting: what the worker is shown to have said, with `hi`.
    """

    models: ModelPool
    quota: Quota
    num_turns: int
    max_resp_time: int
    max_message_length: int
    annotations: AnnotationsConfig | None
    annotations_text: str | None
    final_rating_questions: tuple[str, ...]
    start_mode: str = HI
    contexts: ContextSource | None = None
    include_persona: bool = False
    acceptability: AcceptabilityChecker | None = None
    attention: AttentionConfig | None = None
    time_extensions: int = 0
    spend: ModelSpend | None = None
    delivery: ReplyDelivery = AS_IT_COMES
    study_flow: FlowOptions | None = None
    comparison: ComparisonSettings | None = None
    greeting: str = GREETING


class ModelChatWorld:
    """One conversation: opening, ``num_turns`` exchanges, final ratings.

    Args:
        options: see :class:`ChatOptions`.
        human: the worker's side of the conversation.
        bot: the model's side, or that of both models where replies are compared.
        place: the conversation's place in the model's quota.
    """

    ending: str | None = None
    """`declined` when the worker has declined to take part; None for every other ending."""
    head_version = 0
    """Grows when what a recovery needs beside the messages has changed."""

    ending_kind: EndingKind | None = None
    """How a panel's participant is told that it ended, where it is not plain from the outcome."""

    def __init__(self, options: ChatOptions, human: HumanAgent, bot: BotAgent, place: Reservation) -> None:
        self.options = options
        self.human = human
        self.bot = bot
        self.place = place
        self.state = State.START
        self.completion = Completion.INCOMPLETE
        self.reason: str | None = None
        """Why the conversation is incomplete."""
        self.dialog: list[Utterance] = []
        self.context: Context | None = None
        self.exchanges_done = 0
        self._started = time.time()
        self.attention_results: list[AttentionResult] = []
        self.failed_generation: Generation | None = None
        """What is known of the reply that the model could not give."""
        self.comparisons: list[Comparison] = []
        self._to_compare: ComparedReplies | None = None
        self._taken: set[str] = set()
        self.flow: StudyFlowRun | None = None
        """The worker's way through the study flow."""
        if options.study_flow is not None:
            self.flow = StudyFlowRun(options.study_flow, human.worker_id)

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
        own = [line.text for line in self.dialog if line.agent_idx == HUMAN_IDX and not line.fake_start]
        return self.options.acceptability.violations(own, self.begins_midway)

    def block_reasons(self) -> list[tuple[BlockReason, str]]:
        """Why the worker is to get no further conversations, each with a detail for the log; asked once, at the end.

        Only a complete conversation speaks against a worker.
        """
        if self.completion is not Completion.COMPLETE:
            return []
        violations, attention = self.acceptability_violations(), self.options.attention
        reasons = [(BlockReason.ACCEPTABILITY, violations)] if violations else []
        if attention is not None and attention.too_many_failed(self.attention_results):
            reasons.append(
                (BlockReason.ATTENTION, f"{sum(not check.passed for check in self.attention_results)} failed")
            )
        return reasons

    def begin(self) -> None:
        """Say what counts as already said, and let the model answer the greeting in the start mode ``hi``."""
        options = self.options
        if options.contexts is not None:
            self.context = options.contexts.next()
        persona = list(self.context.human_persona) if self.context is not None and options.include_persona else []
        self.human.control(
            "start",
            agent_display_name=HUMAN_ID,
            personas=persona,
            num_turns=options.num_turns,
            **self.additional_start_data(),
        )
        if self.context is not None and options.include_persona:
            self.bot.observe_persona(self.context.lines_for_model())
        if options.start_mode == HI:
            self._add_utterance(HUMAN_IDX, options.greeting, fake_start=True)
            self.bot.observe({"id": HUMAN_ID, "text": options.greeting})
            self._let_model_reply()
        elif self.context is not None:
            self._add_utterance(HUMAN_IDX, self.context.human_seed, fake_start=True)
            self._add_utterance(MODEL_IDX, self.context.model_seed, fake_start=True)
            self.bot.observe({"id": HUMAN_ID, "text": self.context.human_seed})
            self.bot.has_said(self.context.model_seed)

    # --- the conversation ---

    def parley(self) -> None:
        """Do one step: open, take one message and answer it, or take the final ratings.

        Raises:
            AbsentAgentError: Mephisto's exceptions for a worker who left or took too long, or when the run is stopped.
            StoppedError: the run was stopped while the model was asked for a reply.
        """
        try:
            if self.state is State.START and self._next_page(after_chat=False):
                self._go(State.PAGES_BEFORE)
            elif self.state is State.START:
                self._begin_chat()
            elif self.state is State.PAGES_BEFORE:
                if not self._take_page(after_chat=False):
                    self._begin_chat()
            elif self.state is State.HUMAN_TURN:
                self._take_message()
                self._go(State.ATTENTION_CHECK if self._attention_check_due() else State.MODEL_TURN)
            elif self.state is State.ATTENTION_CHECK:
                self._check_attention()
                self._go(State.MODEL_TURN)
            elif self.state is State.MODEL_TURN and isinstance(self.bot, ComparedBots):
                self._show_replies(self.bot)
                self._go(State.COMPARISON)
            elif self.state is State.COMPARISON and isinstance(self.bot, ComparedBots):
                self._take_judgement(self.bot)
                self._end_exchange()
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
            self.human.control(
                "model_failed",
                reason=worker_text("chat.model_failed"),
            )

    def _begin_chat(self) -> None:
        if self.state is State.ENDED:  # the worker has declined
            return
        if not is_admitted(self.place, {} if self.flow is None else self.flow.known):
            self.ending_kind = EndingKind.SCREENED_OUT
            self.abandon("screened out: the study has enough people who gave this answer")
            return
        if self.flow is not None:
            self.human.control("reply_items", **self.flow.reply_questions)
        self.begin()
        self.head_version += 1
        self._go(State.HUMAN_TURN)

    # --- the study flow ---

    def _next_page(self, after_chat: bool) -> bool:
        """Whether a page of the flow comes now."""
        return self.flow is not None and self.flow.next_page(after_chat) is not None

    def _take_page(self, after_chat: bool) -> bool:
        """Show the page that comes now and take its answers; return whether another one follows.

        Raises:
            AgentTimeoutError: the worker took too long, and something is left that only they can answer.
        """
        flow, page = self.flow, None if self.flow is None else self.flow.next_page(after_chat)
        if flow is None or page is None:
            return False
        try:
            accepted = self._await_answer(
                lambda packet: flow.check(page, packet, self._taken),
                flow.page_idx,
                flow.options.max_page_time,
                ask="page",
                **flow.told(page),
            )
        except AgentTimeoutError:
            if self.completion is Completion.COMPLETE:  # it was only to be read
                flow.skip_rest()
                return False
            raise
        self._taken.add(accepted.message_id)
        flow.take(page, accepted)
        if accepted.is_decline:
            self.ending_kind = EndingKind.DECLINED
            self.abandon(f"{DECLINED}: the worker declined to take part")
            return False
        complete = {"complete": True} if after_chat and flow.only_texts_left else {}
        self.human.control(
            "page_done", page=page.id, message_id=accepted.message_id, answers=accepted.answers, **complete
        )
        return self._next_page(after_chat)

    def _go_on_after_chat(self) -> None:
        """Go to the pages after the chat, or end; what is only to be read keeps no conversation from being complete."""
        if self.state is State.ENDED:  # the worker has declined
            return
        if self.flow is None or self.flow.only_texts_left:
            self.completion = Completion.COMPLETE
        if not self._next_page(after_chat=True):
            self._go(State.ENDED)
        elif self.state is not State.PAGES_AFTER:
            self._go(State.PAGES_AFTER)

    def _go(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"A conversation can't go from '{self.state}' to '{state}'.")
        self.state = state

    def _end_exchange(self) -> None:
        self.exchanges_done += 1
        over = self.exchanges_done >= self.options.num_turns
        self._go(State.FINAL_RATING if over else State.HUMAN_TURN)

    def _show_replies(self, bots: ComparedBots) -> None:
        """Let both models answer, and show both replies at once."""
        self._to_compare = replies = bots.answer(self.human, self.options.delivery, self._page_idx())
        told = {"turn_idx": self.exchanges_done, "utterance_idx": self._page_idx(), **replies.for_page()}
        self.human.show_replies(bots.recorded(replies), **told)

    def _take_judgement(self, bots: ComparedBots) -> None:
        """Take the worker's judgement of the two replies, and go on with one of them."""
        accepted = self._receive("comparison")
        replies = self._to_compare
        if replies is None or accepted.judgement is None:
            raise RuntimeError("There is nothing to judge.")
        judged = bots.judge(self.exchanges_done, replies, accepted.judgement, time.time())
        self.human.control(
            COMPARISON_DONE,
            turn_idx=self.exchanges_done,
            utterance_idx=self._page_idx(),
            **judged.model_dump(mode="json", include={"pick", "strength", "reason", "continued_with"}),
            message_id=accepted.message_id,
        )
        self.comparisons.append(judged)
        self._to_compare = None
        side = judged.continued_with or "left"
        reply = bots.reply_on(side, replies)
        self._add_utterance(MODEL_IDX, reply.text, generation=reply.generation, model_nickname=reply.model_nickname)
        bots.continue_with(side, replies)

    def _take_message(self) -> None:
        accepted = self._receive("message", takes_text=self.bot.takes_text)
        self._annotate(accepted)
        self._add_utterance(HUMAN_IDX, accepted.text, accepted)
        self.bot.observe({"id": HUMAN_ID, "text": accepted.text})

    def _attention_check_due(self) -> bool:
        attention = self.options.attention
        return attention is not None and attention.due(self.exchanges_done + 1) is not None

    def _check_attention(self) -> None:
        """Show a check where the model's reply is awaited, and take the answer. Neither enters the dialogue."""
        attention = self.options.attention
        check = None if attention is None else attention.due(self.exchanges_done + 1)
        if check is None:
            raise RuntimeError("There is no attention check at this turn.")
        ticks_wanted = self.options.annotations if check.bucket is not None else None
        idx = self._page_idx()
        told: dict[str, Any] = {"utterance_idx": idx, "agent_idx": MODEL_IDX, "attention_check": True}
        if ticks_wanted is None:
            told["annotate"] = False
        self.human.say(MODEL_ID, check.text, **told)
        accepted = self._receive("message", ticks_wanted)
        self.attention_results.append(check.result(accepted.text, accepted.problem_data))
        said: dict[str, Any] = {"utterance_idx": idx + 1, "agent_idx": HUMAN_IDX, "message_id": accepted.message_id}
        if accepted.problem_data is not None:
            said.update(problem_data=accepted.problem_data, annotated_utterance_idx=idx)
        self.human.say(HUMAN_ID, accepted.text, **said, attention_check=True)

    def _page_idx(self) -> int:
        """The index under which the page knows the next utterance: it counts attention checks and their answers, too."""
        return len(self.dialog) + 2 * len(self.attention_results)

    def _take_final_rating(self) -> None:
        accepted = self._receive("final_rating")
        self._annotate(accepted)
        last = next(utterance for utterance in reversed(self.dialog) if utterance.agent_idx == MODEL_IDX)
        last.final_rating = RATING_SEPARATOR.join(str(rating) for rating in accepted.final_ratings or ())
        if self.flow is not None and self.flow.next_page(after_chat=True) is not None:
            self.human.control(
                "rating_done",
                message_id=accepted.message_id,
                final_rating=accepted.final_ratings,
                **self._told_of_reply(accepted, self._page_idx() - 1),
                **({"complete": True} if self.flow.only_texts_left else {}),
            )

    def _receive(
        self,
        ask: str,
        annotations: AnnotationsConfig | None = None,
        takes_text: Callable[[str], bool] | None = None,
    ) -> Accepted:
        """Ask the worker for a message or the final ratings until something that can be taken comes.

        Args:
            ask: ``message``, ``comparison``, ``annotation`` or ``final_rating``.
            annotations: boxes to tick although the last thing said is no reply that is to be annotated.
            takes_text: whether the model can be shown a message; None where it isn't shown any.
        """
        comparison = self.options.comparison if ask == "comparison" else None
        expected = Expected(
            annotations=self.options.annotations if self._utterance_to_annotate() is not None else annotations,
            rating_questions=len(self.options.final_rating_questions) if ask == "final_rating" else 0,
            max_message_length=self.options.max_message_length,
            turn_idx=self.exchanges_done,
            takes_text=takes_text,
            check_reply=self._reply_check(),
            comparison=comparison,
            wants_text=ask != "annotation",
        )
        accepted = self._await_answer(
            lambda packet: check_packet(packet, expected, self._taken),
            self.exchanges_done,
            self.options.max_resp_time,
            ask=ask,
            num_turns=self.options.num_turns,
            **({} if comparison is None else comparison.for_page()),
        )
        self._taken.add(accepted.message_id)
        return accepted

    def _await_answer(
        self, check: Callable[[Any], Answered | None], turn_idx: int, seconds: int, **told: Any
    ) -> Answered:
        """Tell the worker that it is their turn, and wait until something comes that can be taken.

        Args:
            check: returns what is taken of a packet, None for a repeat, and raises RefusedError.
            turn_idx: which turn it is, for packets that name one.
            seconds: for the turn, and again with each extension.
            told: further keys of `your_turn`.
        """
        for early in self.human.discard_waiting():
            if message_id_of(early) not in self._taken:
                self._refuse(RefusedError("not_your_turn", worker_text("messages.wait"), message_id_of(early)))
        deadline = time.monotonic() + seconds
        extensions_left = self.options.time_extensions
        self.human.control(
            "your_turn",
            **told,
            turn_idx=turn_idx,
            seconds=seconds,
            extensions_left=extensions_left,
            live_update_requested=True,
        )
        while True:
            packet = self.human.receive(deadline)
            if asks_more_time(packet, turn_idx):
                if extensions_left and message_id_of(packet) not in self._taken:
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

    def _give_more_time(self, packet: Any, turn_idx: int, deadline: float, extensions_left: int) -> None:
        """Tell the page until when the worker has now; a request that is sent again is not granted again."""
        message_id = message_id_of(packet)
        if message_id is not None:
            self._taken.add(message_id)
        self.human.control(
            "more_time",
            turn_idx=turn_idx,
            seconds=round(deadline - time.monotonic(), 1),
            extensions_left=extensions_left,
        )

    def _refuse(self, refused: RefusedError) -> None:
        self.human.control("refused", message_id=refused.message_id, code=refused.code, reason=refused.reason)

    def _utterance_to_annotate(self) -> int | None:
        """Index of the model's last reply if it is to be annotated and isn't yet, else None."""
        if self.options.annotations is None or not self.dialog:
            return None
        last = self.dialog[-1]
        if last.agent_idx != MODEL_IDX or last.fake_start or last.problem_data is not None:
            return None
        return len(self.dialog) - 1

    def _reply_check(self) -> Callable[[Any], dict[str, Any]] | None:
        """What checks the answers about the model's last reply; None where nothing is asked of it."""
        flow, last = self.flow, self.dialog[-1] if self.dialog else None
        is_last = self.exchanges_done >= self.options.num_turns
        if flow is None or last is None or last.agent_idx != MODEL_IDX or last.fake_start:
            return None
        if not flow.has_reply_items(is_last):
            return None
        return lambda given: flow.check_reply(given, last.text, is_last)

    def _annotate(self, accepted: Accepted) -> None:
        annotated = self._utterance_to_annotate()
        if annotated is not None:
            self.dialog[annotated].problem_data = accepted.problem_data
        if self.flow is not None and accepted.reply_answers:
            is_last = self.exchanges_done >= self.options.num_turns
            self.flow.take_reply(accepted.reply_answers, len(self.dialog) - 1, is_last)

    def _told_of_reply(self, accepted: Accepted, page_idx: int) -> dict[str, Any]:
        """What the page is told of its boxes and answers about the reply that it knows as ``page_idx``."""
        told: dict[str, Any] = {}
        if accepted.problem_data is not None:
            told.update(problem_data=accepted.problem_data, annotated_utterance_idx=page_idx)
        if self.flow is not None and accepted.reply_answers:
            told.update(
                reply_answers=accepted.reply_answers, answered_utterance_idx=page_idx, chat_page=self.flow.flow.chat.id
            )
        return told

    def _let_model_reply(self) -> None:
        with GrowingReply(self.human, self.options.delivery, self._page_idx(), presentable=self.bot.so_far) as growing:
            reply = self.bot.act(growing.tell)
            growing.hold_back(reply.text)
        generation = reply.generation.model_copy(update={"paced": growing.paced})
        self._add_utterance(MODEL_IDX, reply.text, generation=generation, model_nickname=reply.model_nickname)

    def _add_utterance(
        self,
        agent_idx: int,
        text: str,
        accepted: Accepted | None = None,
        fake_start: bool = False,
        generation: Generation | None = None,
        model_nickname: str | None = None,
    ) -> None:
        now, page_idx = time.time(), self._page_idx()
        utterance = Utterance(
            agent_idx=agent_idx,
            text=text,
            id=HUMAN_ID if agent_idx == HUMAN_IDX else MODEL_ID,
            timestamp=now,
            fake_start=True if fake_start else None,
            episode_done=False if fake_start else None,
            message_id=accepted.message_id if accepted is not None else None,
            timing=None if accepted is None else self._plausible_timing(accepted, now),
            generation=generation,
            model_nickname=model_nickname,
        )
        task_data: dict[str, Any] = {"utterance_idx": page_idx, "agent_idx": agent_idx}
        if accepted is not None:
            task_data |= {"message_id": accepted.message_id, **self._told_of_reply(accepted, page_idx - 1)}
        self.dialog.append(utterance)
        recorded = None if generation is None else generation.saved()
        if recorded is not None and model_nickname is not None:
            recorded["model_nickname"] = model_nickname
        self.human.say(utterance.id, text, fake_start, recorded, **task_data)

    def _plausible_timing(self, accepted: Accepted, now: float) -> Timing | None:
        """The page's times of a message, as far as they can be true."""
        shown = [utterance.timestamp for utterance in self.dialog if utterance.timestamp is not None]
        # Without anything said before, the time of the turn bounds it.
        start = self._started
        return plausible(accepted.timing, now - (shown[-1] if shown else start), now - start)

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
            if self._to_compare is not None and (cost := self._to_compare.cost_usd()):
                self.failed_generation = Generation(cost_usd=cost)
            self._go(State.ENDED)

    @property
    def keeps_nothing(self) -> bool:
        """Whether nothing that the worker did may be kept: they declined, or have not yet given their consent."""
        return self.flow is not None and not self.flow.has_consent

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the worker has said or answered anything, or the model's replies have cost something that counts."""
        if self.keeps_nothing:
            return False
        if self.flow is not None and self.flow.has_answers:
            return True
        if self.failed_generation is not None:
            return True
        return any(
            (utterance.agent_idx == HUMAN_IDX and not utterance.fake_start)
            or (utterance.generation is not None and utterance.generation.cost_usd)
            for utterance in self.dialog
        )

    def get_custom_task_data(self) -> dict[str, Any]:
        """Return the conversation as it is saved, in both places."""
        context = self.context
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
            "personas": None if context is None else [list(context.human_persona), list(context.model_persona)],
            "context_dataset": None if context is None else context.dataset,
            "person1_seed_utterance": None if context is None else context.human_seed,
            "person2_seed_utterance": None if context is None else context.model_seed,
            "additional_context": None if context is None else context.additional_context,
            "attention_checks": None if self.options.attention is None else self.attention_results,
            "answers": None if self.flow is None else self.flow.answers,
            "study_orders": None if self.flow is None else self.flow.orders,
            "status": self.completion,
            "reason": self.reason,
            "failed_generation": self.failed_generation,
            "conditions": conditions_of(self.place),
            "comparisons": self.comparisons if isinstance(self.bot, ComparedBots) else None,
            **self.additional_record(),
        }
        return Conversation(**record).to_dict()

    def prep_save_data(self, agents: Sequence[Any]) -> dict[str, Any]:
        """What Mephisto's database keeps of the conversation."""
        return {"custom_data": self.get_custom_task_data()}

    def settle(self, collected: bool) -> None:
        """Count the conversation as collected, or give its place back; once."""
        if collected:
            self.place.complete()
        else:
            self.place.give_back()

    def shutdown(self) -> None:
        """Give the place back if the conversation was not counted."""
        self.place.give_back()


class NoReservationLeftError(ModelChatError, RuntimeError):
    """Every model has all the conversations it needs, or the models have cost what they may."""


def make_world(
    opt: ChatOptions,
    agents: Sequence[HumanAgent],
    initialization_data: Any = None,
    world_class: type[ModelChatWorld] = ModelChatWorld,
) -> ModelChatWorld:
    """Make the world of one conversation, with the model that needs conversations most.

    Args:
        opt: what all conversations share.
        agents: the worker's side of the conversation, alone in a list.
        initialization_data: Mephisto's, empty.
        world_class: the class to make; world files of the user's own name theirs.

    Raises:
        NoReservationLeftError: no model needs a conversation, or the models have cost what they may.
    """
    if opt.spend is not None and opt.spend.is_reached():
        raise NoReservationLeftError("The models have cost mephisto.blueprint.max_model_spend_usd.")
    place = opt.quota.take(agents[0].worker_id)
    if place is None:
        raise NoReservationLeftError("Every model has all the conversations it needs.")
    try:
        bot: BotAgent
        if opt.comparison is None:
            bot = BotAgent(opt.models, place.nickname)
        else:
            bot = ComparedBots(
                place.nickname,
                lambda nickname: BotAgent(opt.models, nickname),
                opt.comparison,
                opt.comparison.seed_of(agents[0].assignment_id),
            )
        prompt = prompt_of(place)
        if prompt is not None:
            bot.observe_prompt(prompt)
        return world_class(with_conditions(opt, place), agents[0], bot, place)
    except BaseException:
        place.give_back()
        raise


def get_world_params() -> dict[str, Any]:
    """What Mephisto needs to know: one worker a conversation."""
    return {"agent_count": 1}

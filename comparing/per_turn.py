"""Comparisons within a chat: both models of a pair answer each message, and it goes on with one of the two replies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from model_chat.bot_agent import BotAgent, Reply, ask_at_once
from model_chat.comparing.pair import BotPair
from model_chat.comparing.two_replies import CommonStart, both_of
from model_chat.configuration.comparison import SIDES, ComparisonSettings
from model_chat.conversation.dialogue import Dialogue
from model_chat.conversation.growing_reply import GrowingReply
from model_chat.conversation.human_agent import COMPARISON_DONE, HumanAgent
from model_chat.conversation.incoming import Accepted, Judgement
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.records.schema import MODEL_IDX, ComparedReply, Comparison
from model_chat.serving.pool import ModelFailureError


@dataclass(frozen=True)
class ComparedReplies:
    """Two replies to one message, in the order in which the worker sees them.

    Attributes:
        speakers: which model of the pair is on the left, and which on the right: 0 and 1, or 1 and 0.
        replies: theirs.
    """

    speakers: tuple[int, int]
    replies: tuple[Reply, Reply]

    def for_page(self) -> dict[str, dict[str, str]]:
        """What the page is told: the texts, and nothing about the models."""
        return {side: {"text": reply.text} for side, reply in zip(SIDES, self.replies, strict=True)}

    def cost_usd(self) -> float:
        """What both have cost, as far as it is known; US dollars."""
        return sum(reply.generation.cost_usd or 0.0 for reply in self.replies)


class ComparedBots(BotPair):
    """Both models of a pair answer each message: what happens to the side happens to both.

    :meth:`answer` waits for the models in a thread each; the seed draws sides, the opening, and what the chat goes on with.
    """

    def __init__(
        self, nickname: str, make: Callable[[str], BotAgent], settings: ComparisonSettings, seed: str | int
    ) -> None:
        super().__init__(nickname, make, settings, seed)
        self._opener = self._rng.randrange(2)
        self._history: list[Callable[[BotAgent], None]] = []

    def observe_persona(self, lines: Sequence[str]) -> None:
        """Let both models know their persona before the conversation starts."""
        self.tell_both(lambda bot: bot.observe_persona(lines))

    def observe_prompt(self, text: str) -> None:
        """Add a text to both models' system prompts before the conversation starts."""
        self.tell_both(lambda bot: bot.observe_prompt(text))

    def observe(self, message: dict[str, Any]) -> None:
        """Let both models see a message."""
        self.tell_both(lambda bot: bot.observe(message))

    def has_said(self, text: str) -> None:
        """Put into both models' histories that they said a text.

        Raises:
            ModelFailureError: a model raised.
        """
        self.tell_both(lambda bot: bot.has_said(text))

    def takes_text(self, text: str) -> bool:
        """Whether both models can be shown a message whole."""
        return all(bot.takes_text(text) for bot in self._bots)

    def tell_both(self, step: Callable[[BotAgent], None]) -> None:
        """Let something happen to both models, and again to whoever takes the place of one."""
        self._history.append(step)
        for bot in self._bots:
            step(bot)

    def act(self, tell: Callable[[str], None] | None = None) -> Reply:
        """Return the reply that opens the conversation: one of the models gives it, and both have said it.

        Args:
            tell: gets the text so far; see :meth:`BotAgent.act`.

        Raises:
            ModelFailureError: the model failed, or the other one raised on the reply.
        """
        reply = self._bots[self._opener].act(tell)
        try:
            self._go_on(self._opener, reply.text)
        except ModelFailureError as error:
            error.generation = reply.generation.saved()  # what the reply has cost is counted
            raise
        return reply._replace(model_nickname=self._models[self._opener])

    def so_far(self, text: str) -> str:
        """Return what may be shown of an opening that still grows; see :meth:`BotAgent.so_far`."""
        return self._bots[self._opener].so_far(text)

    def answer(self, human: HumanAgent, delivery: ReplyDelivery, utterance_idx: int) -> ComparedReplies:
        """Let both models reply at the same time, each side drawn anew; return when both replies may be shown.

        Args:
            human: the worker, whose page may be shown parts.
            delivery: see :class:`GrowingReply`; the same for both.
            utterance_idx: of the message that one of the replies will be, as the page counts.

        Raises:
            ModelFailureError: one of them failed; what the other's reply has cost is in its ``generation``.
            StoppedError: the run has ended.
        """
        left = self._rng.randrange(2)
        speakers = (left, 1 - left)
        # A reply that is whole stays open until the other one is, so that its last part is shown, too.
        with ExitStack() as open_replies, ThreadPoolExecutor(2, "compared-reply") as threads:
            start = CommonStart()
            growing = [
                open_replies.enter_context(
                    GrowingReply(human, delivery, utterance_idx, side=side, presentable=self._bots[speaker].so_far)
                )
                for side, speaker in zip(SIDES, speakers, strict=True)
            ]
            asked = ask_at_once(
                [
                    (self._bots[speaker], None if each.tell is None else start.held(side, each.tell))
                    for side, speaker, each in zip(SIDES, speakers, growing, strict=True)
                ]
            )
            first, second = both_of(
                [
                    threads.submit(_reply, wait, each, side, start)
                    for side, each, wait in zip(SIDES, growing, asked, strict=True)
                ]
            )
        return ComparedReplies(speakers, (first, second))

    def recorded(self, replies: ComparedReplies) -> dict[str, Any]:
        """Return what is recorded beside the update that shows two replies, JSON types only; no page gets it."""
        return {
            side: {"model_nickname": self._models[speaker], "generation": reply.generation.saved()}
            for side, speaker, reply in zip(SIDES, replies.speakers, replies.replies, strict=True)
        }

    def judge(
        self,
        turn_idx: int,
        replies: ComparedReplies,
        judgement: Judgement,
        timestamp: float,
        ticks: Mapping[str, dict[str, bool]] | None = None,
    ) -> Comparison:
        """Make the record of a judgement, and draw what the conversation goes on with where the pick does not decide it.

        Args:
            turn_idx: the exchange, 0-based.
            replies: what was compared.
            judgement: what the worker said.
            timestamp: epoch seconds.
            ticks: side -> bucket -> ticked, where boxes are ticked for both replies.
        """
        drawn = SIDES[self._rng.randrange(2)]
        decides = self.settings.continue_with == "pick" and judgement.pick in SIDES
        left, right = (
            ComparedReply(
                model_nickname=self._models[speaker],
                text=reply.text,
                generation=reply.generation,
                problem_data=None if ticks is None else ticks[side],
            )
            for side, speaker, reply in zip(SIDES, replies.speakers, replies.replies, strict=True)
        )
        return Comparison(
            turn_idx=turn_idx,
            left=left,
            right=right,
            pick=judgement.pick,
            strength=judgement.strength,
            reason=judgement.reason,
            continued_with="left" if (judgement.pick if decides else drawn) == "left" else "right",
            timestamp=timestamp,
        )

    def reply_on(self, side: str, replies: ComparedReplies) -> Reply:
        """Return the reply on one side, with its model's nickname."""
        at = SIDES.index(side)
        return replies.replies[at]._replace(model_nickname=self._models[replies.speakers[at]])

    def continue_with(self, side: str, replies: ComparedReplies) -> None:
        """Let the conversation go on, for both models, with the reply on one side.

        Raises:
            ModelFailureError: the other model raised on the reply.
        """
        at = SIDES.index(side)
        self._go_on(replies.speakers[at], replies.replies[at].text)

    def _go_on(self, speaker: int, text: str) -> None:
        """Give the other model a history in which it has said what the speaker said, and nothing of its own.

        An agent can't be made to forget its reply; a new clone is told the conversation from its beginning.
        """
        self._history.append(lambda bot: bot.has_said(text))
        other = 1 - speaker
        bot = self._make(self._models[other])
        for step in self._history:
            step(bot)
        self._bots[other] = bot


def _reply(wait: Callable[[], Reply], growing: GrowingReply, side: str, start: CommonStart) -> Reply:
    try:
        reply = wait()
    finally:
        start.begin(side)
    if growing.tell is not None:  # else both are shown when both are whole, in any case
        start.wait()
    growing.hold_back(reply.text)
    reply.generation.paced = growing.paced
    return reply


class ReplyComparison:
    """The steps of a conversation in which replies are compared.

    Args:
        bots: both models.
        human: the worker.
        dialogue: gets the replies with which it goes on.
        delivery: how replies reach the page.

    Attributes:
        judgements: so far.
    """

    def __init__(self, bots: ComparedBots, human: HumanAgent, dialogue: Dialogue, delivery: ReplyDelivery) -> None:
        self._bots = bots
        self._human = human
        self._dialogue = dialogue
        self._delivery = delivery
        self.judgements: list[Comparison] = []
        self._shown: ComparedReplies | None = None

    def show_replies(self, turn_idx: int) -> None:
        """Let both models answer, and show both replies at once.

        Args:
            turn_idx: the exchange, 0-based.

        Raises:
            ModelFailureError: one of the models failed.
            StoppedError: the run has ended.
        """
        page_idx = self._dialogue.page_idx
        self._shown = replies = self._bots.answer(self._human, self._delivery, page_idx)
        told = {"turn_idx": turn_idx, "utterance_idx": page_idx, **replies.for_page()}
        self._human.show_compared(self._bots.recorded(replies), **told)

    def judge(self, turn_idx: int, accepted: Accepted) -> None:
        """Take the worker's judgement of the two replies, and go on with one of them.

        Raises:
            ModelFailureError: the model whose reply was not taken raised on the other's.
        """
        bots, replies = self._bots, self._shown
        if replies is None:
            raise RuntimeError("There is nothing to judge.")
        (judgement,) = accepted.judgements
        ticks = accepted.problem_data_of_replies
        judged = bots.judge(turn_idx, replies, judgement, time.time(), ticks)
        self._human.control(
            COMPARISON_DONE,
            turn_idx=turn_idx,
            utterance_idx=self._dialogue.page_idx,
            **judged.model_dump(mode="json", include={"pick", "strength", "reason", "continued_with"}),
            message_id=accepted.message_id,
            **({} if ticks is None else {"problem_data_of_replies": ticks}),
        )
        self.judgements.append(judged)
        self._shown = None
        side = judged.continued_with or "left"
        reply = bots.reply_on(side, replies)
        self._dialogue.add(
            MODEL_IDX,
            reply.text,
            generation=reply.generation,
            model_nickname=reply.model_nickname,
            problem_data=None if ticks is None else ticks[side],
        )
        bots.continue_with(side, replies)

    def unjudged_cost_usd(self) -> float:
        """What two replies have cost that were shown and not judged; US dollars."""
        return 0.0 if self._shown is None else self._shown.cost_usd()

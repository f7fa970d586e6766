"""Comparisons of whole chats: one with each model of a pair, one after the other, and then questions about both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from model_chat.bot_agent import BotAgent, Reply
from model_chat.comparing.pair import BotPair
from model_chat.configuration.comparison import SIDES, ComparisonSettings
from model_chat.conversation.dialogue import Dialogue
from model_chat.conversation.human_agent import CHAT_DONE, COMPARISON_DONE, HumanAgent
from model_chat.conversation.incoming import Accepted, Judgement
from model_chat.records.schema import ComparedReply, Comparison


class PairedBots(BotPair):
    """A chat with one model of a pair, and then one with the other; which comes first is drawn.

    Attributes:
        chat_idx: 0 in the first chat, 1 in the second.
    """

    def __init__(
        self, nickname: str, make: Callable[[str], BotAgent], settings: ComparisonSettings, seed: str | int
    ) -> None:
        super().__init__(nickname, make, settings, seed)
        first = self._rng.randrange(2)
        self._speakers = (first, 1 - first)
        self.chat_idx: Literal[0, 1] = 0

    @property
    def speaker(self) -> BotAgent:
        """The model of the chat that goes on."""
        return self._bots[self._speakers[self.chat_idx]]

    def next_chat(self) -> None:
        """Begin the second chat, with the other model."""
        self.chat_idx = 1

    def observe_persona(self, lines: Sequence[str]) -> None:
        """Let the model of this chat know its persona."""
        self.speaker.observe_persona(lines)

    def observe_prompt(self, text: str) -> None:
        """Add a text to both models' system prompts before the conversation starts."""
        for bot in self._bots:
            bot.observe_prompt(text)

    def observe(self, message: dict[str, Any]) -> None:
        """Let the model of this chat see a message."""
        self.speaker.observe(message)

    def takes_text(self, text: str) -> bool:
        """Whether the model of this chat can be shown a message whole."""
        return self.speaker.takes_text(text)

    def has_said(self, text: str) -> None:
        """Put into the history of this chat's model that it said a text.

        Raises:
            ModelFailureError: the model raised.
        """
        self.speaker.has_said(text)

    def act(self, tell: Callable[[str], None] | None = None) -> Reply:
        """Return the reply of this chat's model, with its nickname; see :meth:`BotAgent.act`."""
        return self.speaker.act(tell)._replace(model_nickname=self.speaker.nickname)

    def so_far(self, text: str) -> str:
        """Return what may be shown of a reply that still grows; see :meth:`BotAgent.so_far`."""
        return self.speaker.so_far(text)

    def recorded(self) -> dict[str, Any]:
        """Return whose chats are compared, for the record; the first one is on the left. No page gets it."""
        return {
            side: {"model_nickname": self._models[speaker]} for side, speaker in zip(SIDES, self._speakers, strict=True)
        }

    def judge(self, questions: Sequence[str], judgements: Sequence[Judgement], timestamp: float) -> list[Comparison]:
        """Make the records of the judgements of both chats.

        Args:
            questions: what was asked.
            judgements: what the worker said, one a question.
            timestamp: epoch seconds.
        """
        left, right = (ComparedReply(model_nickname=self._models[speaker]) for speaker in self._speakers)
        return [
            Comparison(
                question=question,
                left=left,
                right=right,
                pick=judgement.pick,
                strength=judgement.strength,
                reason=judgement.reason,
                timestamp=timestamp,
            )
            for question, judgement in zip(questions, judgements, strict=True)
        ]


class ChatComparison:
    """The steps of a conversation in which two chats are compared.

    Args:
        bots: both models.
        human: the worker.
        dialogue: of both chats.
        questions: asked about both chats at the end.

    Attributes:
        judgements: one a question, once the worker has answered.
    """

    def __init__(self, bots: PairedBots, human: HumanAgent, dialogue: Dialogue, questions: Sequence[str]) -> None:
        self._bots = bots
        self._human = human
        self._dialogue = dialogue
        self._questions = questions
        self.judgements: list[Comparison] = []
        dialogue.chat_idx = bots.chat_idx

    def end_chat(self, accepted: Accepted) -> bool:
        """Take what the worker says of the last reply of a chat; return whether the other chat comes now."""
        bots = self._bots
        self._dialogue.annotate(accepted, is_last=True)
        told = {"chat_idx": bots.chat_idx, "message_id": accepted.message_id}
        self._human.control(CHAT_DONE, **told, **self._dialogue.told_of_reply(accepted))
        if bots.chat_idx:
            self._human.show_compared(bots.recorded(), questions=list(self._questions))
            return False
        bots.next_chat()
        self._dialogue.chat_idx = bots.chat_idx
        return True

    def judge(self, accepted: Accepted, is_complete: bool) -> None:
        """Take the worker's judgement of the two chats.

        Args:
            accepted: a judgement for each question.
            is_complete: whether nothing that counts is asked after it.
        """
        self.judgements = self._bots.judge(self._questions, accepted.judgements, time.time())
        self._human.control(
            COMPARISON_DONE,
            judgements=[
                judged.model_dump(mode="json", include={"question", "pick", "strength", "reason"})
                for judged in self.judgements
            ],
            message_id=accepted.message_id,
            **({"complete": True} if is_complete else {}),
        )

    def unjudged_cost_usd(self) -> float:
        """What replies have cost that are in no record: none."""
        return 0.0

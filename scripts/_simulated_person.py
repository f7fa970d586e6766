"""What a simulated worker is like, what they answer, and what became of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from model_chat.errors import ModelChatError
from model_chat.scripts._simulated_answers import judgement, valid_answers

LINES = (
    "Hello there, how are you doing today?",
    "I like long walks in the hills. What do you like?",
    "That sounds interesting, please tell me more about it.",
    "I had soup for lunch and it was very good.",
    "Do you think it will rain tomorrow?",
    "My sister plays the violin in an orchestra.",
    "I have never been to the sea, have you?",
    "What kind of music do you listen to?",
)


@dataclass
class Behaviour:
    """What a simulated worker does.

    Attributes:
        think_time: mean seconds before each message (exponentially distributed); 0 for none.
        leave_after: leaves without a word after so many messages; None stays to the end.
        lines: what the worker says, in order and then from the beginning; None draws from :data:`LINES`.
        onboarding_answers: the content of ``onboard_task_data.json``, to pass onboarding with; None ticks the first box of
            each reply and so mostly fails.
        stay_silent: accepts and never writes.
        asks_more_time: asks for more time at the beginning of each turn, as often as it is offered.
        sends_invalid: sends answers that have to be refused before each page of a study flow, and before each message that
            goes with answers about a reply.
        rating: answered to every question; None is drawn at random.
        prefers_longer: picks the longer of two replies, a tie where they are equally long; else any answer.
        step_timeout: seconds to wait for anything from the server before giving up.
    """

    think_time: float = 0.0
    leave_after: int | None = None
    lines: Sequence[str] | None = None
    onboarding_answers: dict[str, Any] | None = None
    stay_silent: bool = False
    asks_more_time: bool = False
    declines: bool = False
    sends_invalid: bool = False
    rating: int | None = None
    prefers_longer: bool = False
    step_timeout: float = 120.0


@dataclass
class Outcome:
    """What became of one simulated worker.

    Attributes:
        result: ``complete``, ``incomplete``, ``declined``, ``stopped``, ``time is up``, ``left``, ``no work: <why>``,
            ``told: <ending>`` for a panel's participant who gets no chat, ``onboarding failed``, or ``error: <what>``.
        turns: seconds from sending each message to the model's reply.
        replied_at: when each of these replies came, on the clock of :func:`time.monotonic`, seconds.
        first_message: seconds from arriving to the model's first reply, or None.
        doubles: messages of the conversation that arrived twice under different update ids.
        cause: why the conversation ended before its end (docs/protocol.md), or None.
        ending: what a panel's participant was told at the end (docs/protocol.md), or None.
        packets: everything that the server sent, decoded (for tests).
    """

    worker: str
    result: str = "error: never started"
    turns: list[float] = field(default_factory=list)
    replied_at: list[float] = field(default_factory=list)
    first_message: float | None = None
    doubles: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    cause: str | None = None
    extensions: int = 0
    ending: dict[str, Any] | None = None
    packets: list[dict[str, Any]] = field(default_factory=list)


class PersonFailedError(ModelChatError):
    """Whoever plays a worker can't go on."""


class Person:
    """Answers at random, as :class:`Behaviour` says. A subclass may take its time, and remember what was said."""

    def __init__(self, behaviour: Behaviour, rng: random.Random) -> None:
        self.behaviour = behaviour
        self.rng = rng

    mark: str | None = None
    """What the server is told where a model plays the worker."""

    def heard(self, agent_idx: int, text: str, fake_start: bool = False) -> None:
        """Take note of an utterance of the conversation, also of the worker's own."""

    async def line(self, said: int) -> str:
        """Return what the worker says."""
        lines = self.behaviour.lines
        return self.rng.choice(LINES) if lines is None else lines[said % len(lines)]

    async def ticks(self, buckets: Sequence[dict[str, Any]]) -> dict[str, bool]:
        """Return the boxes of the last reply: exactly one is ticked."""
        values = [bucket["value"] for bucket in buckets]
        ticked = self.rng.choice(values)
        return {value: value == ticked for value in values}

    async def ratings(self, questions: Sequence[str]) -> list[int]:
        """Return the final ratings, 1 to 5."""
        return [self.behaviour.rating or self.rng.randint(1, 5) for _ in questions]

    def page_answers(self, page: dict[str, Any]) -> dict[str, Any]:
        """Return the answers to a page of a study flow."""
        if page["kind"] == "consent":
            return {"consent": "decline" if self.behaviour.declines else "accept"}
        return valid_answers(page["items"], self.rng)

    def judgement(self, asked: dict[str, Any], left: int, right: int) -> dict[str, Any]:
        """Return which of two replies, or chats, is better, by their characters."""
        return judgement(asked, left, right, self.behaviour.prefers_longer, self.rng)

"""The model's side of a conversation, and that of a pair of models whose replies the worker compares.

Of a pair both models answer each message of the worker's. One of the two replies becomes part of the conversation, for the
worker and for both models; the other one is in neither model's history.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from model_chat.agents._chat_history import PROMPT_ID
from model_chat.configuration.comparison import ComparisonSettings, models_of
from model_chat.configuration.redaction import without_known, without_known_so_far
from model_chat.conversation.growing_reply import GrowingReply
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.records.schema import MODEL_ID, ComparedReply, Comparison, Generation
from model_chat.serving.batching import Asked
from model_chat.serving.opt_export import exportable_opt
from model_chat.serving.pool import ModelFailureError, ModelPool, PendingReply

if TYPE_CHECKING:
    from model_chat.conversation.human_agent import HumanAgent
    from model_chat.conversation.incoming import Judgement

logger = logging.getLogger(__name__)

SIDES = ("left", "right")

Tell = Callable[[str], None]
"""Gets a reply's text so far."""


class Reply(NamedTuple):
    """What a model said.

    Attributes:
        text: as the worker is to read it.
        generation: how it was made.
        model_nickname: of the model, where several speak in the conversation.
    """

    text: str
    generation: Generation
    model_nickname: str | None = None


class BotAgent:
    """A clone of one of the run's models, speaking in one conversation.

    Args:
        pool: the run's models.
        nickname: which of them.

    Attributes:
        agent_id: the speaker's name in the conversation; it reveals nothing about the model.
        nickname: the model's nickname, which workers never see.
    """

    agent_id = MODEL_ID

    def __init__(self, pool: ModelPool, nickname: str) -> None:
        self.nickname = nickname
        self._pool = pool
        self._model = pool.model(nickname)
        self._clone = self._model.clone()
        self._unseen: list[Any] = []
        self._normalize = self._model.opt.get("dict_lower", True) is not False

    @property
    def model_file(self) -> str | None:
        """ParlAI's `model_file`, or None."""
        return self._model.model_file

    @cached_property
    def exported_opt(self) -> dict[str, Any]:
        """The model's whole opt, JSON-safe, without secrets."""
        return exportable_opt(self._model.opt)

    def observe_persona(self, lines: Sequence[str]) -> None:
        """Let the model know its persona before the conversation starts; this is no turn.

        Args:
            lines: ``your persona: …`` lines and, with a topic, the topic.
        """
        if lines:
            self.observe({"id": "persona", "text": "\n".join(lines)})

    def observe_prompt(self, text: str) -> None:
        """Add a text to the model's system prompt before the conversation starts; only chat models have one."""
        self.observe({"id": PROMPT_ID, "text": text})

    def observe(self, message: dict[str, Any]) -> None:
        """Let the model see a message; it reaches the model together with the request for its next reply."""
        from parlai.core.message import Message

        self._unseen.append(Message({"episode_done": False, **message}))

    def takes_text(self, text: str) -> bool:
        """Whether the model can be shown a message whole.

        Agents decide by a method ``takes_text``; without one, and for a model that runs elsewhere, any message is accepted.
        """
        asked = getattr(self._clone, "takes_text", None)
        if asked is None:
            return True
        try:
            return bool(asked(text))
        except Exception:  # an agent's own code: whether the model fails on the message is seen when it replies
            logger.exception("%s could not say whether it takes a message of %d characters", self.nickname, len(text))
            return True

    def has_said(self, text: str) -> None:
        """Put into the model's history that it answered what it saw with ``text`` (seeded conversations).

        Raises:
            ModelFailureError: the model raised.
        """
        from parlai.core.message import Message

        unseen, self._unseen = self._unseen, []
        try:
            for message in unseen:
                self._clone.observe(message)
            if hasattr(self._clone, "self_observe"):  # agents without it keep no history of what they said
                self._clone.self_observe(Message({"id": self.agent_id, "text": text, "episode_done": False}))
        except Exception as error:  # an agent's own code may raise anything
            raise ModelFailureError(f"{self.nickname} raised {error!r} on a seed utterance.") from error

    def act(self, tell: Callable[[str], None] | None = None) -> Reply:
        """Return the model's reply to what it has seen since it last spoke.

        The text passes through ParlAI's ``normalize_reply`` unless the model's opt says ``dict_lower: False``.

        Args:
            tell: gets the model's text so far, from another thread, where the model streams; :meth:`so_far` makes it
                presentable.

        Raises:
            ModelFailureError: the model raised, returned no text, or took too long.
        """
        (wait,) = ask_at_once([(self, tell)])
        return wait()

    def _reply(self, pending: PendingReply) -> Reply:
        act = self._pool.wait_for(pending)
        text: str = act["text"]
        if self._normalize:
            from parlai.utils.strings import normalize_reply

            text = normalize_reply(text)
        # A hosted model's error, passed on as a reply, may quote the key.
        return Reply(without_known(text), _without_secrets(act["generation"]))

    def so_far(self, text: str) -> str:
        """Return what may be shown of a reply that still grows: if possible, a beginning of what :meth:`act` returns.

        An end that could become something else is left out: half a character, the beginning of a known secret and, where
        replies are normalised, the last word.
        """
        text = without_known_so_far(text.rstrip("\ufffd"))
        if self._normalize:
            from parlai.utils.strings import normalize_reply

            text = normalize_reply(text[: text.rfind(" ") + 1])
        return text.strip()


def ask_at_once(asked: Sequence[tuple[BotAgent, Tell | None]]) -> list[Callable[[], Reply]]:
    """Ask models for replies at the same moment, so that models that share weights can reply in one batch.

    Args:
        asked: sides of conversations over one pool, at least one, each at most once, and what :meth:`BotAgent.act` gets.

    Returns:
        for each, in order, what waits for the reply; it returns and raises what :meth:`BotAgent.act` does.
    """
    requests = []
    for bot, tell in asked:
        unseen, bot._unseen = bot._unseen, []
        requests.append((bot.nickname, Asked(bot._clone, unseen, tell)))
    pool = asked[0][0]._pool
    return [partial(bot._reply, pending) for (bot, _), pending in zip(asked, pool.ask(requests), strict=True)]


def _without_secrets(generation: Generation) -> Generation:
    """Return what is known of a reply without the secrets that its texts may quote."""
    texts = {name: without_known(value) for name, value in generation if isinstance(value, str)}
    return generation.model_copy(update=texts)


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


class ComparedBots(BotAgent):
    """Both models of a pair in one conversation, as one side of it: what happens to the side happens to both.

    The conversation's thread calls it; :meth:`answer` asks the models from a thread each.

    Args:
        nickname: of the pair, ``a|b``.
        make: makes the model's side of a conversation by the model's nickname.
        settings: how replies are compared.
        seed: of this conversation's draws: sides, opening, and what it goes on with.

    Attributes:
        nickname: of the pair.
        settings: how replies are compared.
    """

    def __init__(
        self, nickname: str, make: Callable[[str], BotAgent], settings: ComparisonSettings, seed: str | int
    ) -> None:
        self.nickname = nickname  # and nothing of a single model: each of the two has its own
        self.settings = settings
        self._make = make
        self._models = models_of(nickname)
        self._bots = [make(model) for model in self._models]
        self._rng = random.Random(seed)
        self._opener = self._rng.randrange(2)
        self._history: list[Callable[[BotAgent], None]] = []

    @property
    def bots(self) -> Sequence[BotAgent]:
        """The two models' sides, in the order of the pair."""
        return self._bots

    @property
    def model_file(self) -> str | None:
        """None: a pair has no single one; :attr:`exported_opt` has both."""
        return None

    @cached_property
    def exported_opt(self) -> dict[str, Any]:
        """The whole opts of both models, by nickname, JSON-safe, without secrets."""
        return {bot.nickname: bot.exported_opt for bot in self._bots}

    def observe_persona(self, lines: Sequence[str]) -> None:
        """Let both models know their persona before the conversation starts."""
        self.tell_both(lambda bot: bot.observe_persona(lines))

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
            start = _CommonStart()
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
            first, second = _both(
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

    def judge(self, turn_idx: int, replies: ComparedReplies, judgement: Judgement, timestamp: float) -> Comparison:
        """Make the record of a judgement, and draw what the conversation goes on with where the pick does not decide it.

        Args:
            turn_idx: the exchange, 0-based.
            replies: what was compared.
            judgement: what the worker said.
            timestamp: epoch seconds.
        """
        drawn = SIDES[self._rng.randrange(2)]
        decides = self.settings.continue_with == "pick" and judgement.pick in SIDES
        left, right = (
            ComparedReply(model_nickname=self._models[speaker], text=reply.text, generation=reply.generation)
            for speaker, reply in zip(replies.speakers, replies.replies, strict=True)
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


class _CommonStart:
    """Holds back what either side has of its reply until both have some, so that the faster model does not show.

    Both models' threads call it; ``_lock`` guards what they have told.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Callable[[], None]] = {}
        self._begun: set[str] = set()
        self._both_begun = threading.Event()

    def held(self, side: str, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Return what one side is to tell its text in place of ``tell``, which gets the newest text after the start."""

        def tell_after_start(text: str) -> None:
            with self._lock:
                if not self._both_begun.is_set():
                    self._held[side] = partial(tell, text)
                    self._begin(side)
                    return
            tell(text)

        return tell_after_start

    def begin(self, side: str) -> None:
        """Take note that one side has its whole reply, or has failed."""
        with self._lock:
            self._begin(side)

    def _begin(self, side: str) -> None:
        self._begun.add(side)
        if len(self._begun) == len(SIDES) and not self._both_begun.is_set():
            for release in self._held.values():
                release()
            self._both_begun.set()

    def wait(self) -> None:
        """Wait until both sides have begun; each does, at the latest when its model's time is over."""
        self._both_begun.wait()


def _reply(wait: Callable[[], Reply], growing: GrowingReply, side: str, start: _CommonStart) -> Reply:
    try:
        reply = wait()
    finally:
        start.begin(side)
    if growing.tell is not None:  # else both are shown when both are whole, in any case
        start.wait()
    growing.hold_back(reply.text)
    return reply._replace(generation=reply.generation.model_copy(update={"paced": growing.paced}))


def _both(asked: Sequence[Future[Reply]]) -> tuple[Reply, Reply]:
    """Wait for both replies.

    Raises:
        ModelFailureError: one failed. The first one's reason is given; its generation has the cost of both.
        BaseException: whatever else one ended with.
    """
    errors = [future.exception() for future in asked]
    others = [error for error in errors if error is not None and not isinstance(error, ModelFailureError)]
    if others:  # the run has ended
        raise others[0]
    failed = next((error for error in errors if isinstance(error, ModelFailureError)), None)
    if failed is None:
        first, second = asked
        return first.result(), second.result()
    known = [
        Generation.of(error.generation) if isinstance(error, ModelFailureError) else future.result().generation
        for future, error in zip(asked, errors, strict=True)
    ]
    costs = [generation.cost_usd for generation in known if generation.cost_usd is not None]
    if costs:
        failed.generation = {**(failed.generation or {}), "cost_usd": sum(costs)}
    raise failed

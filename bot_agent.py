"""The model's side of a conversation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from model_chat.agents._chat_history import PROMPT_ID as PROMPT_ID
from model_chat.configuration.redaction import without_known, without_known_so_far
from model_chat.records.schema import MODEL_ID, Generation
from model_chat.serving.batching import Asked
from model_chat.serving.pool import ModelFailureError, ModelPool, PendingReply

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Gets a reply's text so far."""


class Reply(NamedTuple):
    """What a model said."""

    text: str
    generation: Generation
    model_nickname: str | None = None


class BotAgent:
    """A clone of one of the run's models, speaking in one conversation.

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

    @property
    def exported_opt(self) -> dict[str, Any]:
        """The model's whole opt, JSON-safe, without secrets; one for all conversations, not to be changed."""
        return self._pool.exported_opt(self.nickname)

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
        generation: Generation = act["generation"]
        for name, value in generation:
            if isinstance(value, str):
                setattr(generation, name, without_known(value))
        return Reply(without_known(text), generation)

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

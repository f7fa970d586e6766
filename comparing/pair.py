"""A pair of models as one side of a conversation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from model_chat.bot_agent import BotAgent
from model_chat.configuration.comparison import ComparisonSettings, models_of
from model_chat.conversation.chat_options import ChatOptions
from model_chat.conversation.conditions import prompt_of
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.quota import Reservation

Side = TypeVar("Side", bound=BotAgent)


class BotPair(BotAgent):
    """Both models of a pair in one conversation, as one side of it; the conversation's thread calls it.

    Args:
        nickname: of the pair, ``a|b``.
        make: makes the model's side of a conversation by the model's nickname.
        settings: how the models are compared.
        seed: of this conversation's draws.

    Attributes:
        nickname: of the pair.
        settings: how the models are compared.
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


def make_side(
    options: ChatOptions,
    human: HumanAgent,
    reservation: Reservation[Any],
    make: Callable[[str], Side],
    pairs: tuple[Callable[..., Side], Callable[..., Side]],
) -> Side:
    """Make the model's side of a conversation, with the prompt of its condition.

    Args:
        make: makes the side of one model, by its nickname.
        pairs: make the side of two models whose whole chats are compared, and of two whose replies are.
    """
    comparison = options.comparison
    if comparison is None:
        side = make(reservation.nickname)
    else:
        kind = pairs[0] if comparison.is_paired else pairs[1]
        side = kind(reservation.nickname, make, comparison, comparison.seed_of(human.assignment_id))
    prompt = prompt_of(reservation)
    if prompt is not None:
        side.observe_prompt(prompt)
    return side

"""Whole conversations between a scripted worker and a scripted model."""

from __future__ import annotations

from typing import Any

from model_chat.tests.scripted_human import ScriptedHuman, chat_options, message, play, rating
from model_chat.worlds import ModelChatWorld, make_world

NO_TICKS = {"bucket_0": False, "bucket_1": False, "none_all_good": False}


class Contexts:
    """A ParlAI ``ContextGenerator`` that knows one context."""

    def __init__(self, **changes: Any) -> None:
        self.context = {
            "context_dataset": "wizard_of_wikipedia",
            "persona_1_strings": ["your persona: I am the human.", "I like tea."],
            "persona_2_strings": ["I am the model.", "your persona: I like milk."],
            "person1_seed_utterance": "What is tea?",
            "person2_seed_utterance": "A drink.",
            "additional_context": "Tea",
            **changes,
        }

    def get_context(self) -> dict[str, Any]:
        return self.context


def begin(human: ScriptedHuman, *script: str, **changes: Any) -> ModelChatWorld:
    return make_world(chat_options(list(script), **changes), [human])


def chat(*sent: Any, model: tuple[str, ...] = (), **changes: Any) -> tuple[ModelChatWorld, ScriptedHuman]:
    """Hold a conversation to its end."""
    human = ScriptedHuman(*sent)
    world = begin(human, *model, **changes)
    play(world)
    return world, human


WHOLE = (message("One.", "bucket_0"), message("Two.", "bucket_1"), rating(4, ticks="none_all_good"))

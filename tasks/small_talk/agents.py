"""Contexts for conversations: ``mephisto.blueprint.conversation_start_mode=model_chat.tasks.small_talk``.

Use it to try out personas and seeded conversations without a download, and as a pattern for contexts of your own: any
ParlAI task module with a class ``ContextGenerator`` whose ``get_context`` returns the keys below can be named as the start
mode.
"""

from __future__ import annotations

import random
from typing import Any

DATASET = "small_talk"

PERSONAS: tuple[tuple[str, str], ...] = (
    ("I work as a nurse on night shifts.", "I collect old postcards."),
    ("I have two dogs and a parrot.", "I am learning to play the cello."),
    ("I grew up on a small island.", "I bake bread every Sunday."),
    ("I drive a bus in a big city.", "I have run three marathons."),
    ("I am studying to become a teacher.", "I can't stand coriander."),
    ("I retired last spring.", "I am building a boat in my garage."),
    ("I have four brothers.", "I paint landscapes when it rains."),
    ("I moved to a new country a year ago.", "I love cooking for many people."),
)

SEEDS: tuple[tuple[str, str], ...] = (
    ("What did you do last weekend?", "Not much, I stayed at home and read. How about you?"),
    ("Is it as cold where you are as it is here?", "It is! I have been wearing two jumpers all day."),
    ("I am trying to find a new hobby.", "Oh, nice! Would you like something outdoors or something quiet?"),
    ("I can never decide what to cook for dinner.", "I know the feeling. What do you have in the kitchen?"),
    ("Have you been on a trip lately?", "Only a short one, to see my cousins by the lake."),
    ("I just finished a really good book.", "Which one? I am always looking for something to read."),
)


class ContextGenerator:
    """Draws a persona for each speaker and two opening lines.

    Args:
        datatype: train, valid or test draw from the same few contexts.
        seed: of the draws; None for different ones each time.
    """

    def __init__(self, opt: dict[str, Any], datatype: str = "test", seed: int | None = None) -> None:
        self.rng = random.Random(seed)

    def get_context(self) -> dict[str, Any]:
        """Return one context.

        Returns:
            ``context_dataset``, ``persona_1_strings`` (the human's) and ``persona_2_strings`` (the model's), two lines
            each, ``additional_context`` (None), ``person1_seed_utterance`` and ``person2_seed_utterance``.
        """
        human, model = self.rng.sample(PERSONAS, 2)
        human_seed, model_seed = self.rng.choice(SEEDS)
        return {
            "context_dataset": DATASET,
            "persona_1_strings": list(human),
            "persona_2_strings": list(model),
            "additional_context": None,
            "person1_seed_utterance": human_seed,
            "person2_seed_utterance": model_seed,
        }

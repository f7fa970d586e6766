from __future__ import annotations

from model_chat.conversation.contexts import load_context_source, start_mode_fault
from model_chat.tasks.small_talk.agents import PERSONAS, SEEDS, ContextGenerator

FLAG = "mephisto.blueprint.conversation_start_mode"


def test_the_task_is_a_start_mode_under_its_short_name() -> None:
    assert start_mode_fault(FLAG, "model_chat.tasks.small_talk") is None
    context = load_context_source(FLAG, "model_chat.tasks.small_talk", {}, seed=1).next()
    assert context.dataset == "small_talk"
    assert (context.human_seed, context.model_seed) in SEEDS
    assert context.human_persona in PERSONAS
    assert context.lines_for_model() == [f"your persona: {line}" for line in context.model_persona]


def test_the_two_speakers_never_get_the_same_persona() -> None:
    generator = ContextGenerator({}, seed=3)
    for _ in range(200):
        context = generator.get_context()
        assert not set(context["persona_1_strings"]) & set(context["persona_2_strings"])


def test_one_seed_gives_one_sequence() -> None:
    first, second, other = ContextGenerator({}, seed=5), ContextGenerator({}, seed=5), ContextGenerator({}, seed=6)
    sequence = [first.get_context() for _ in range(20)]
    assert sequence == [second.get_context() for _ in range(20)]
    assert sequence != [other.get_context() for _ in range(20)]

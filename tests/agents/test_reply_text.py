"""From what a model wrote to what is said."""

from __future__ import annotations

import pytest

from model_chat.agents._reply_text import (
    opens_thoughts,
    split_thoughts,
    up_to_last_sentence,
    without_open_thoughts,
    without_thoughts,
)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Hello! I like dogs. They are so", "Hello! I like dogs."),
        ("Is it far? Perhaps", "Is it far?"),
        ('She said "Come in!" and then', 'She said "Come in!"'),
        ("All done.", "All done."),
        ("no sentence at all", "no sentence at all"),
        ("I met Mr. Brown and", "I met Mr. Brown and"),
        ("It costs 3.50 in all. But", "It costs 3.50 in all."),
        ("We need:\n1. Flour\n2. Eggs\n3. Mi", "We need:\n1. Flour\n2. Eggs"),
        ("Here is a list:\n1. Fl", "Here is a list:\n1. Fl"),
        ("你好。我很喜欢狗！它们", "你好。我很喜欢狗！"),
        ("", ""),
    ],
)
def test_a_broken_off_reply_ends_with_its_last_whole_sentence(written: str, said: str) -> None:
    assert up_to_last_sentence(written) == said


@pytest.mark.parametrize(
    ("written", "begun_inside", "said"),
    [
        ("<think>A greeting.</think>Hello!", False, "Hello!"),
        ("A greeting.\n</think>\n\nHello!", True, "\n\nHello!"),
        ("stray </think>Hello!", False, "Hello!"),
        ("<think>So many thoughts", False, ""),
        ("so many thoughts", True, ""),
        ("2 < 3 and I think so.", False, "2 < 3 and I think so."),
    ],
)
def test_thoughts_are_not_said(written: str, begun_inside: bool, said: str) -> None:
    assert without_thoughts(written, begun_inside) == said


@pytest.mark.parametrize(
    "thoughts",
    [
        "<think>Ponder.</think>",
        "<Thought>Ponder.</Thought>",
        "<seed:think>Ponder.</seed:think>",
        "[THINK]Ponder.[/THINK]",
        "◁think▷Ponder.◁/think▷",
        "<|START_THINKING|>Ponder.<|END_THINKING|>",
        "<|channel|>analysis<|message|>Ponder.<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|channel|>analysis<|message|>Pon<|end|><|start|>assistant<|channel|>commentary to=x<|message|>der.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>",
    ],
)
def test_thoughts_are_not_said_however_a_model_marks_them(thoughts: str) -> None:
    written = f"{thoughts}Take [1] or a <b>, 2 < 3."
    said, thought = split_thoughts(written)
    assert (said, thought.replace("\n", "")) == ("Take [1] or a <b>, 2 < 3.", "Ponder.")
    grown = [without_open_thoughts(written[:length]) for length in range(len(written) + 1)]
    assert grown[-1] == said
    assert all(said.startswith(text) for text in grown), "nothing is shown that does not stay"


def test_only_a_prompt_that_ends_by_opening_thoughts_has_begun_them() -> None:
    assert opens_thoughts("<|user|>Hi<|assistant|><think>\n")
    assert opens_thoughts("[INST]Hi[/INST][THINK]")
    assert not opens_thoughts("<|user|>What is <think>?<|assistant|>")
    assert not opens_thoughts("<|assistant|><think>\n\n</think>\n\n")

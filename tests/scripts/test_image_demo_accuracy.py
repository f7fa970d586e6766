"""The arithmetic of the benchmark that says how much the demo's models see."""

from __future__ import annotations

from collections import Counter

from model_chat.benchmarks.image_demo_accuracy import kind, named, share_right, truth
from model_chat.tasks.shapes.scenes import caption, dialogue, make_scene


def test_a_true_caption_names_exactly_what_is_there() -> None:
    for number in range(150):
        scene = make_scene("test", number)
        assert named(caption(scene)) == truth(scene)


def test_counts_belong_to_what_follows() -> None:
    colours, shapes, things = named("i see two red stars , a blue cross and a heart .")
    assert colours == {"red": 2, "blue": 1}
    assert shapes == {"star": 2, "cross": 1, "heart": 1}
    assert things == {("red", "star"): 2, ("blue", "cross"): 1}


def test_what_is_missing_and_what_is_too_much_both_cost() -> None:
    there = Counter(red=1, blue=1)
    assert share_right(Counter(red=1, blue=1), there) == 1
    assert share_right(Counter(red=1), there) == 1 / 2  # one of two
    assert share_right(Counter(red=1, blue=1, green=2), there) == 2 / 4  # two of four said
    assert share_right(Counter(), there) == 0


def test_each_question_is_of_one_kind() -> None:
    kinds = Counter(kind(turn.text) for n in range(100) for turn in dialogue(make_scene("test", n))[1:])
    assert set(kinds) == {"number", "place", "colour", "shape", "is there …?", "small talk"}
    assert kind("How many stars do you see?") == "number"
    assert kind("What is at the top?") == "place"
    assert kind("And the star?") == "colour"
    assert kind("Do you like it?") == "small talk"

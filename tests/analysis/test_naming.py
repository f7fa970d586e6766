"""Names of boxes, questions and tasks are taken from the records as far as they hold them, whatever else stands there."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.analysis import naming
from model_chat.analysis.naming import Description, Names, describe, merge, names_of


def config_of(**names: str) -> str:
    return json.dumps({"config": {key: {"name": name} for key, name in names.items()}})


def test_what_a_record_says_of_its_task() -> None:
    task = {"annotations_config": "text", "final_rating_question": "Good?", "model_nickname": "m"}
    assert describe({"task_name": "study", "task_description": task}) == Description("study", "text", "Good?")


@pytest.mark.parametrize("raw", [None, [], {}, {"task_description": 3}, {"task_name": 3}, {"task_name": " "}])
def test_what_a_record_does_not_say_is_none(raw: Any) -> None:
    assert describe(raw) == Description(None, None, None)


def test_where_records_differ_most_of_them_count() -> None:
    counts = Counter(
        {
            Description("b", config_of(rude="Rude", odd="Odd one"), "Good?|Again?"): 2,
            Description("a", config_of(rude="Impolite"), "Fine?|More?"): 3,
            Description(None, config_of(rude="Rude"), "Three?|Are?|Asked?"): 2,
        }
    )
    names = names_of(counts, questions=2)
    assert names.tasks == ["a", "b"]
    assert names.buckets == {"rude": "Rude", "odd": "Odd one"}
    assert names.questions == ("Fine?", "More?")


def test_a_draw_is_the_same_whatever_the_order_of_the_files() -> None:
    one, other = Description("x", config_of(k="N"), "A?"), Description("y", config_of(k="M"), "B?")
    forth, back = names_of({one: 1, other: 1}, 1), names_of({other: 1, one: 1}, 1)
    assert forth == back
    assert (forth.tasks, forth.buckets, forth.questions) == (["x", "y"], {"k": "M"}, ("A?",))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"config": [{"value": "k", "name": "N"}, {"value": 3, "name": "M"}, 7]}', {"k": "N"}),
        ('[{"value": "k", "name": "N"}]', {"k": "N"}),
        ('{"config": {"k": {"name": "  two\\n lines "}}}', {"k": "two lines"}),
        ('{"config": {"k": {"name": " "}, "l": {"name": 3}, "m": 3}}', {}),
        ('{"config": {"k": {"name": "half \\ud83d"}}}', {"k": "half ?"}),
        ('{"config": 3}', {}),
        ("3", {}),
        ("{", {}),
        ("[" * 100_000, {}),
        ("", {}),
    ],
)
def test_boxes_are_read_in_either_form_and_nothing_else_is(text: str, names: dict[str, str]) -> None:
    assert names_of({Description(None, text or None, None): 1}, 1).buckets == names


def test_what_metrics_are_called() -> None:
    names = Names(buckets={"rude": "Is rude"}, questions=("First?", "Second?"))
    assert [names.metric(name) for name in ("rude", "not_named", "clean_conversation")] == [
        "Is rude", "Not named", "Clean conversation",
    ]  # fmt: skip
    assert [names.metric(f"final_rating_{number}") for number in (1, 2, 3, 0)] == [
        "First?", "Second?", "Final rating 3", "Final rating 0",
    ]  # fmt: skip
    assert names.metric("final_rating") == "Final rating", "one column, two questions"
    assert Names(questions=("Only?",)).metric("final_rating") == "Only?"
    assert Names().metric("final_rating_1") == "Final rating 1"
    assert Names().metric("final_rating_x") == "Final rating x"


@pytest.mark.parametrize(
    ("tasks", "title"),
    [((), "folder"), (("a",), "a"), (("a", "b", "c"), "a, b, c"), (tuple("abcd"), "a, b, c and 1 more")],
)
def test_titles(tasks: tuple[str, ...], title: str) -> None:
    assert Names(tasks=tasks).title("folder") == title


def test_no_more_than_a_bounded_number_of_descriptions_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "MOST_DESCRIPTIONS", 2)
    counts: Counter[Description] = Counter()
    for name in ("a", "b", "c", "a"):
        merge(counts, {Description(name, None, None): 2})
    assert {description.task_name: count for description, count in counts.items()} == {"a": 4, "b": 2}


@given(
    st.text(max_size=30) | st.recursive(st.none() | st.text(max_size=4), lambda inner: st.lists(inner)).map(json.dumps)
)
def test_no_text_makes_it_fail(text: str) -> None:
    names_of({Description(text, text, text): 1}, 1)

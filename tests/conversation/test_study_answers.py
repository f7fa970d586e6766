"""What is taken of answers to items, and what is refused: a page may send anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model_chat.configuration.study_items import KINDS, Item
from model_chat.configuration.text_files import load_texts
from model_chat.conversation.study_answers import check_answers, is_shown
from model_chat.errors import RefusedError

REPLY = "I like tea. 茶も好き 🍵!"


def item(kind: str, **settings: Any) -> Item:
    return KINDS[kind].model_validate({"id": "x", "kind": kind, "question": "X?", **settings})


OPTIONS = ["tone", "facts", "speed"]
SCALE = item("scale", points=7, not_applicable=True)
CHOICE = item("choice", options=OPTIONS, other=True)
MANY = item("choice", options=OPTIONS, many=True, other=True)
TEXT = item("text", min_chars=3, max_chars=10)
NUMBER = item("number", min=18, max=99)
SLIDER = item("slider")
RANKING = item("ranking", options=OPTIONS)
BEST_WORST = item("best_worst", options=OPTIONS)
MATRIX = item("matrix", rows=["a", "b"], points=5)
HIGHLIGHT = item("highlight")

GOOD = [
    (SCALE, 1, 1),
    (SCALE, 7, 7),
    (SCALE, "not_applicable", "not_applicable"),
    (CHOICE, "facts", "facts"),
    (CHOICE, {"other": " wit "}, {"other": "wit"}),
    (MANY, ["speed", "tone", {"other": "wit"}], ["tone", "speed", {"other": "wit"}]),
    (TEXT, "  abc \x00", "abc"),
    (TEXT, "0123456789", "0123456789"),
    (NUMBER, 18, 18),
    (NUMBER, 98.5, 98.5),
    (SLIDER, 0, 0),
    (SLIDER, 100, 100),
    (RANKING, ["speed", "tone", "facts"], ["speed", "tone", "facts"]),
    (BEST_WORST, {"best": "tone", "worst": "facts"}, {"best": "tone", "worst": "facts"}),
    (MATRIX, {"b": 1, "a": 5}, {"a": 5, "b": 1}),
    (
        HIGHLIGHT,
        [{"start": 7, "end": 10}, {"start": 0, "end": 1}],
        [{"start": 0, "end": 1, "text": "I"}, {"start": 7, "end": 10, "text": "tea"}],
    ),
    (HIGHLIGHT, [{"start": 17, "end": 18, "text": "nonsense"}], [{"start": 17, "end": 18, "text": "🍵"}]),
]


@pytest.mark.parametrize(("asked", "given", "saved"), GOOD)
def test_a_good_answer_is_taken(asked: Item, given: Any, saved: Any) -> None:
    assert check_answers([asked], {"x": given}, {}, REPLY) == {"x": saved}


JUNK: list[Any] = [
    True,
    False,
    float("nan"),
    float("inf"),
    -(10**400),
    10**400,
    1e308,
    "\ud800",
    "x" * 200_000,
    [],
    {},
    [[[[[]]]]],
    {"other": None},
    {"other": {"other": {}}},
    {"best": "tone"},
    {"best": [], "worst": {}},
    {"best": "tone", "worst": "tone"},
    {"a": 1, "c": 1},
    {"a": True, "b": 1},
    {"a": "1", "b": 1},
    {"a": 6, "b": 1},
    ["tone", "tone", "facts"],
    ["tone", "facts"],
    [{"start": 0, "end": 0}],
    [{"start": 1, "end": 2}],
    [{"start": 3, "end": 1}],
    [{"start": -1, "end": 2}],
    [{"start": 0, "end": 10**9}],
    [{"start": 0, "end": 3}, {"start": 2, "end": 4}],
    [{"start": 0.0, "end": 3}],
    [{"start": 0, "end": 3, "colour": 1}],
    [{"other": "x"}, {"other": "y"}],
    [{"start": 0, "end": 1}] * 300,
    ["not an option"],
    "not an option",
    0,
    8,
    2.5,
    17.999,
]


@pytest.mark.parametrize(
    "asked",
    [SCALE, CHOICE, MANY, TEXT, NUMBER, SLIDER, RANKING, BEST_WORST, MATRIX, HIGHLIGHT],
    ids=lambda one: one.kind,
)
@pytest.mark.parametrize("given", JUNK, ids=lambda one: repr(one)[:30])
def test_junk_is_refused_with_a_sentence_and_never_raises_otherwise(asked: Item, given: Any) -> None:
    try:
        taken = check_answers([asked], {"x": given}, {}, REPLY)
    except RefusedError as refused:
        assert refused.code in ("answer_invalid", "answer_missing")
        assert refused.reason.startswith("“X?” ")
        assert refused.reason.endswith(".")
        assert len(refused.reason) < 200
    else:
        assert (asked.kind, repr(given)) in {
            ("slider", "0"),
            ("slider", "8"),
            ("choice", repr(["tone", "facts"])),
        }
        json.dumps(taken, allow_nan=False)


@pytest.mark.parametrize("given", [None, [], 7, "x", {"y": 1}, {"x": 1, "y": 1}])
def test_what_is_no_mapping_of_the_items_is_refused(given: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        check_answers([SLIDER], given, {})
    expected = {"x": "answer_missing", "y": "answer_unexpected"}
    assert refused.value.code in {*expected.values(), "malformed"}


def test_required_and_optional_items() -> None:
    optional = item("text", required=False)
    for nothing in ({}, {"x": None}, {"x": "  \n"}):
        assert check_answers([optional], nothing, {}) == {}
    for nothing in ({}, {"x": None}, {"x": "  \n"}):
        with pytest.raises(RefusedError) as refused:
            check_answers([TEXT], nothing, {})
        assert refused.value.code == "answer_missing"


def test_a_required_matrix_needs_every_row_and_an_optional_one_does_not() -> None:
    with pytest.raises(RefusedError) as refused:
        check_answers([MATRIX], {"x": {"a": 1}}, {})
    assert refused.value.code == "answer_missing"
    optional = item("matrix", rows=["a", "b"], required=False)
    assert check_answers([optional], {"x": {"a": 1, "b": None}}, {}) == {"x": {"a": 1}}


def test_an_item_that_is_not_shown_is_neither_required_nor_taken() -> None:
    first = item("choice", options=["yes", "no"])
    second = item("number").model_copy(update={"id": "y", "show_if": {"x": ["yes"]}})
    assert check_answers([first, second], {"x": "no"}, {}) == {"x": "no"}
    assert check_answers([first, second], {"x": "yes", "y": 3}, {}) == {"x": "yes", "y": 3}
    for given, code in (({"x": "no", "y": 3}, "answer_unexpected"), ({"x": "yes"}, "answer_missing")):
        with pytest.raises(RefusedError) as refused:
            check_answers([first, second], given, {})
        assert refused.value.code == code


def test_conditions_look_at_earlier_answers_each_of_many_and_other() -> None:
    condition = {"uses": ["phone"], "age": [1, 2]}
    assert is_shown(condition, {"uses": ["laptop", "phone"], "age": 2})
    assert not is_shown(condition, {"uses": ["laptop"], "age": 2})
    assert not is_shown(condition, {"uses": ["phone"], "age": 3})
    assert not is_shown(condition, {"uses": ["phone"]})
    assert is_shown({"uses": ["other"]}, {"uses": {"other": "watch"}})
    assert is_shown(None, {})


def test_a_long_question_is_named_in_short() -> None:
    with pytest.raises(RefusedError, match="…”"):
        check_answers([item("slider", question="How " + "very " * 100 + "warm?")], {"x": 101}, {})


@pytest.mark.parametrize(
    ("asked", "given", "said"),
    [
        (item("number"), "7", "Please give a number."),
        (item("number", min=2), 1, "Please give a number of at least 2."),
        (item("number", max=9), 10, "Please give a number of at most 9."),
        (NUMBER, 17, "Please give a number from 18 to 99."),
        (TEXT, "ab", "Your text is too short (2 of at least 3 characters). Please write more."),
        (CHOICE, {"other": " "}, "Please write what else it is."),
        (MANY, ["tone", {"other": ""}], "Please write what else it is."),
    ],
)
def test_a_refusal_says_what_would_be_taken(asked: Item, given: Any, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_answers([asked], {"x": given}, {})
    assert load_texts("en", None).told(refused.value.reason).endswith(said)


def test_a_page_that_sends_no_answers_lacks_those_that_are_required() -> None:
    assert check_answers([], None, {}) == {}
    assert check_answers([item("text", required=False)], None, {}) == {}
    with pytest.raises(RefusedError) as refused:
        check_answers([TEXT], None, {})
    assert refused.value.code == "answer_missing"

"""How a worker judges two replies, or chats: what a page may send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.comparison import ComparisonSettings
from model_chat.conversation.incoming import (
    Expected,
    RefusedError,
    check_packet,
)
from model_chat.tests.conversation.test_incoming import CODES, FIRST_MESSAGE, LIMIT, RATING

COMPARISON = Expected(
    annotations=None, rating_questions=0, max_message_length=LIMIT, comparison=ComparisonSettings(points=5, reason=True)
)
TWO_POINTS = Expected(
    annotations=None, rating_questions=0, max_message_length=LIMIT, comparison=ComparisonSettings(ties="none")
)


def judged(answer: Any) -> dict[str, Any]:
    return {"text": "", "task_data": {"message_id": "m1", "comparison": answer}}


@pytest.mark.parametrize(
    ("expected", "answer", "taken"),
    [
        (COMPARISON, {"pick": "left", "strength": 1}, ("left", 1, None)),
        (COMPARISON, {"pick": "right", "strength": 2, "reason": " Kind.\x00 "}, ("right", 2, "Kind.")),
        (COMPARISON, {"pick": "tie", "strength": None, "reason": "\u200b"}, ("tie", None, None)),
        (COMPARISON, {"pick": "both_bad"}, ("both_bad", None, None)),
        (TWO_POINTS, {"pick": "right", "strength": None, "reason": ""}, ("right", None, None)),
    ],
)
def test_a_judgement_is_taken(expected: Expected, answer: Any, taken: tuple[Any, ...]) -> None:
    accepted = check_packet(judged(answer), expected, set())
    assert accepted is not None
    (judgement,) = accepted.judgements
    assert (judgement.pick, judgement.strength, judgement.reason) == taken
    assert accepted.text == ""


@pytest.mark.parametrize(
    ("expected", "answer", "code"),
    [
        (COMPARISON, None, "comparison_missing"),
        (COMPARISON, {}, "comparison_invalid"),
        (COMPARISON, "left", "comparison_invalid"),
        (COMPARISON, ["left"], "comparison_invalid"),
        (COMPARISON, {"pick": ["left"], "strength": 1}, "comparison_invalid"),
        (COMPARISON, {"pick": "middle", "strength": 1}, "comparison_invalid"),
        (COMPARISON, {"pick": "left"}, "comparison_invalid"),
        (COMPARISON, {"pick": "left", "strength": 0}, "comparison_invalid"),
        (COMPARISON, {"pick": "left", "strength": 3}, "comparison_invalid"),
        (COMPARISON, {"pick": "left", "strength": True}, "comparison_invalid"),
        (COMPARISON, {"pick": "left", "strength": 1.0}, "comparison_invalid"),
        (COMPARISON, {"pick": "tie", "strength": 1}, "comparison_invalid"),
        (COMPARISON, {"pick": "left", "strength": 1, "reason": 7}, "comparison_invalid"),
        (COMPARISON, {"pick": "left", "strength": 1, "reason": "x" * (LIMIT + 1)}, "too_long"),
        (TWO_POINTS, {"pick": "left", "strength": 1}, "comparison_invalid"),
        (TWO_POINTS, {"pick": "tie"}, "comparison_invalid"),
        (TWO_POINTS, {"pick": "both_bad"}, "comparison_invalid"),
        (TWO_POINTS, {"pick": "left", "reason": "Kind."}, "comparison_invalid"),
        (FIRST_MESSAGE, {"pick": "left"}, "not_your_turn"),
        (RATING, {"pick": "left"}, "not_your_turn"),
    ],
)
def test_a_judgement_that_is_none_is_refused(expected: Expected, answer: Any, code: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_packet(judged(answer), expected, set())
    assert (refused.value.code, refused.value.message_id) == (code, "m1")
    assert code in CODES


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["pick", "strength", "reason"]), inner),
    )
)
@settings(max_examples=50, deadline=None)
def test_whatever_a_page_sends_as_a_judgement_is_taken_or_refused(answer: Any) -> None:
    try:
        check_packet(judged(answer), COMPARISON, set())
    except RefusedError as refused:
        assert refused.code in CODES


BUCKETS = AnnotationsConfig.model_validate(
    {"config": [{"value": value, "name": value} for value in ("rude", "none_all_good")]}
)
BOXES_OF_BOTH = Expected(
    annotations=None,
    rating_questions=0,
    max_message_length=LIMIT,
    comparison=ComparisonSettings(boxes="both"),
    boxes_of_both=BUCKETS,
)
RUDE = {"rude": True}


def with_boxes(ticks: Any, **more: Any) -> dict[str, Any]:
    packet = judged({"pick": "left"})
    packet["task_data"].update(problem_data_of_replies=ticks, **more)
    return packet


def test_boxes_of_both_replies_are_taken_with_every_box_named() -> None:
    accepted = check_packet(with_boxes({"left": RUDE, "right": {"none_all_good": True}}), BOXES_OF_BOTH, set())
    assert accepted is not None
    assert accepted.problem_data_of_replies == {
        "left": {"rude": True, "none_all_good": False},
        "right": {"rude": False, "none_all_good": True},
    }
    assert accepted.problem_data is None


@pytest.mark.parametrize(
    ("expected", "ticks", "code"),
    [
        (BOXES_OF_BOTH, None, "annotation_missing"),
        (BOXES_OF_BOTH, {}, "annotation_missing"),
        (BOXES_OF_BOTH, {"left": RUDE}, "annotation_missing"),
        (BOXES_OF_BOTH, {"left": RUDE, "right": None}, "annotation_missing"),
        (BOXES_OF_BOTH, {"left": RUDE, "right": {}}, "annotation_missing"),
        (BOXES_OF_BOTH, {"left": {"rude": False}, "right": RUDE}, "annotation_missing"),
        (BOXES_OF_BOTH, {"left": RUDE, "right": RUDE, "middle": RUDE}, "malformed"),
        (BOXES_OF_BOTH, [RUDE, RUDE], "malformed"),
        (BOXES_OF_BOTH, {"left": RUDE, "right": "rude"}, "malformed"),
        (BOXES_OF_BOTH, {"left": RUDE, "right": {"rude": 1}}, "malformed"),
        (BOXES_OF_BOTH, {"left": RUDE, "right": {"kind": True}}, "annotation_unknown"),
        (BOXES_OF_BOTH, {"left": {**RUDE, "none_all_good": True}, "right": RUDE}, "annotation_conflict"),
        (TWO_POINTS, {"left": RUDE, "right": RUDE}, "annotation_unexpected"),
        (TWO_POINTS, {}, "annotation_unexpected"),
    ],
)
def test_boxes_of_both_replies_that_are_none_are_refused(expected: Expected, ticks: Any, code: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_packet(with_boxes(ticks), expected, set())
    assert (refused.value.code, refused.value.message_id) == (code, "m1")
    assert code in CODES


def test_the_boxes_of_a_single_reply_are_no_answer_where_those_of_both_are_asked_for() -> None:
    both = {"left": RUDE, "right": RUDE}
    with pytest.raises(RefusedError) as refused:
        check_packet(with_boxes(both, problem_data_for_prior_message=RUDE), BOXES_OF_BOTH, set())
    assert refused.value.code == "annotation_unexpected"

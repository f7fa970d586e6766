"""What a worker's page may send: everything else is refused with a code, and nothing raises anything else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.conversation.incoming import (
    LONGEST_MESSAGE_ID,
    Accepted,
    Expected,
    RefusedError,
    asks_more_time,
    check_packet,
    check_text,
    message_id_of,
    read_timing,
)

CODES = {
    "not_your_turn",
    "malformed",
    "empty",
    "too_long",
    "annotation_missing",
    "annotation_unknown",
    "annotation_conflict",
    "annotation_unexpected",
    "rating_early",
    "rating_missing",
    "rating_count",
    "rating_range",
    "comparison_missing",
    "comparison_invalid",
}
BUCKETS = AnnotationsConfig.model_validate(
    {"config": [{"value": value, "name": value.title()} for value in ("bucket_0", "bucket_1", "none_all_good")]}
)
LIMIT = 100
MESSAGE = Expected(annotations=BUCKETS, rating_questions=0, max_message_length=LIMIT)
FIRST_MESSAGE = Expected(annotations=None, rating_questions=0, max_message_length=LIMIT)
RATING = Expected(annotations=BUCKETS, rating_questions=2, max_message_length=LIMIT)

MISSING = object()
"""Stands for a key that is left out."""

NOT_TEXT: list[Any] = [None, MISSING, 0, 1, -1, 1.5, math.nan, math.inf, True, False, [], ["hi"], {}, {"text": "hi"}]
NOT_DICT: list[Any] = [None, 0, 1, -3, 1.5, math.nan, math.inf, True, False, "", "text", [], [1], [{}], ["a", "b"]]
INVISIBLE = [
    "",
    " ",
    "\t\r\n ",
    "\u00a0\u2003\u3000",
    "\u200b",
    "\u200b\u200c\u200d\ufeff",
    "\u2060\u00ad",
    "\x00",
    "\x00\x01\x02\x1f\x7f",
    "\u202e\u202d",
    "\x85\u2028\u2029",
    " \u200b\x00 ",
    "\ufe0f",
    "\u034f\u0301",
    "\u3164",
    "\u115f\u1160",
    "\uffa0",
    "\u2800",
    "\u17b4\u17b5",
    "\U000e0061\U000e007f",
    "\ue000",
]
BAD_IDS: list[Any] = [
    MISSING,
    None,
    "",
    0,
    7,
    1.5,
    True,
    [],
    {},
    ["id"],
    "x" * (LONGEST_MESSAGE_ID + 1),
    "x" * 100_000,
    "a\nb",
    "a\x00b",
    "\u200b",
    "\ud800",
    "\u202eid",
]
BAD_TICKS: list[tuple[Any, str]] = [
    (MISSING, "annotation_missing"),
    (None, "annotation_missing"),
    ({}, "annotation_missing"),
    ({"bucket_0": False}, "annotation_missing"),
    ({"bucket_0": False, "bucket_1": False, "none_all_good": False}, "annotation_missing"),
    *[(value, "malformed") for value in (0, 1, 1.5, math.nan, True, False, "", "bucket_0", [], ["bucket_0"], [{}])],
    *[
        ({"bucket_0": value}, "malformed")
        for value in (None, 0, 1, 1.0, math.nan, "", "true", "on", [], [True], {}, {"bucket_0": True})
    ],
    ({"bucket_0": True, "bucket_1": None}, "malformed"),
    ({"bucket_0": True, "bucket_1": 1}, "malformed"),
    ({"bucket_9": True}, "annotation_unknown"),
    ({"": True}, "annotation_unknown"),
    ({"bucket_0": True, "bucket_9": False}, "annotation_unknown"),
    ({"BUCKET_0": True}, "annotation_unknown"),
    ({"bucket_0 ": True}, "annotation_unknown"),
    ({"bucket_0\x00": True}, "annotation_unknown"),
    ({"\ud800": True}, "annotation_unknown"),
    ({"__proto__": True}, "annotation_unknown"),
    ({"final_rating": True}, "annotation_unknown"),
    ({"x" * 10_000: True}, "annotation_unknown"),
    ({f"bucket_{number}": True for number in range(1000)}, "annotation_unknown"),
    ({"bucket_0": True, "none_all_good": True}, "annotation_conflict"),
    ({"bucket_0": True, "bucket_1": True, "none_all_good": True}, "annotation_conflict"),
    ({"bucket_0": False, "bucket_1": True, "none_all_good": True}, "annotation_conflict"),
]
BAD_RATINGS: list[tuple[Any, str]] = [
    (MISSING, "rating_missing"),
    (None, "rating_missing"),
    *[
        (value, "malformed")
        for value in (0, 3, 3.0, math.nan, math.inf, True, "", "3", "3|4", {}, {"0": 3, "1": 4}, {"rating": [3, 4]})
    ],
    *[
        ([3, value], "malformed")
        for value in (None, True, False, 4.0, 4.5, math.nan, math.inf, -math.inf, "4", "", [], [4], {})
    ],
    ([True, True], "malformed"),
    ([[3, 4]], "malformed"),
    ([], "rating_count"),
    ([3], "rating_count"),
    ([3, 4, 5], "rating_count"),
    ([3] * 10_000, "rating_count"),
    *[([3, value], "rating_range") for value in (0, 6, -1, -3, 100, 10**30, -(10**30))],
    ([0, 0], "rating_range"),
]
EARLY_RATINGS: list[Any] = [[3], [3, 4], [], 0, 3, "3", {}, False, True, math.nan]


def packet(text: Any = "I like tea.", ticks: Any = MISSING, rating: Any = MISSING, message_id: Any = "m1") -> Any:
    task_data = {"message_id": message_id, "problem_data_for_prior_message": ticks, "final_rating": rating}
    whole = {"text": text, "id": "Speaker 1", "episode_done": False}
    return {
        **{key: value for key, value in whole.items() if value is not MISSING},
        "task_data": {key: value for key, value in task_data.items() if value is not MISSING},
    }


ONE_TICK = {"bucket_1": True}

HOSTILE: list[tuple[Expected, Any, str]] = [
    # no packet at all, or without its parts
    *[(MESSAGE, value, "malformed") for value in NOT_DICT],
    (MESSAGE, {}, "malformed"),
    (MESSAGE, {"text": "hi"}, "malformed"),
    *[(MESSAGE, {"text": "hi", "task_data": value}, "malformed") for value in NOT_DICT],
    *[(MESSAGE, packet(ticks=ONE_TICK, message_id=value), "malformed") for value in BAD_IDS],
    *[(RATING, packet("", ONE_TICK, [1, 2], message_id=value), "malformed") for value in BAD_IDS],
    # text
    *[(MESSAGE, packet(value, ONE_TICK), "malformed") for value in NOT_TEXT],
    *[(MESSAGE, packet(value, ONE_TICK), "empty") for value in INVISIBLE],
    (MESSAGE, packet("x" * (LIMIT + 1), ONE_TICK), "too_long"),
    (MESSAGE, packet("x" * 3_000_000, ONE_TICK), "too_long"),
    (MESSAGE, packet(" " * (LIMIT + 1), ONE_TICK), "too_long"),
    (MESSAGE, packet("\U0001f600" * (LIMIT + 1), ONE_TICK), "too_long"),
    (MESSAGE, packet("\ud800" * (LIMIT + 1), ONE_TICK), "too_long"),
    # annotation
    *[(MESSAGE, packet(ticks=ticks), code) for ticks, code in BAD_TICKS],
    *[(RATING, packet("", ticks, [1, 2]), code) for ticks, code in BAD_TICKS],
    *[
        (FIRST_MESSAGE, packet(ticks=ticks), "annotation_unexpected")
        for ticks in ({"bucket_0": True}, {"x": 1}, [], [1], "", "bucket_0", 0, 1, False, True, math.nan)
    ],
    # ratings
    *[(RATING, packet("", ONE_TICK, rating), code) for rating, code in BAD_RATINGS],
    *[(MESSAGE, packet(ticks=ONE_TICK, rating=rating), "rating_early") for rating in EARLY_RATINGS],
    *[(FIRST_MESSAGE, packet(rating=rating), "rating_early") for rating in EARLY_RATINGS],
    *[
        (RATING, packet(text, ONE_TICK, [3, 4]), "malformed")
        for text in ("one more thing", " ", 0, 1, True, False, [], {}, math.nan)
    ],
]


def test_the_table_is_long_enough() -> None:
    assert len(HOSTILE) >= 200


@pytest.mark.parametrize(
    ("expected", "sent", "code"), HOSTILE, ids=[f"{number}-{hostile[2]}" for number, hostile in enumerate(HOSTILE)]
)
def test_a_hostile_packet_is_refused_with_its_code(expected: Expected, sent: Any, code: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_packet(sent, expected, set())
    assert refused.value.code == code
    assert refused.value.code in CODES
    assert refused.value.reason.endswith((".", "?"))
    assert refused.value.message_id == message_id_of(sent)


@pytest.mark.parametrize(
    ("expected", "sent", "accepted"),
    [
        (FIRST_MESSAGE, packet("Hello."), Accepted("m1", "Hello.", None, None, None)),
        (FIRST_MESSAGE, packet("Hello.", ticks=None, rating=None), Accepted("m1", "Hello.", None, None, None)),
        (FIRST_MESSAGE, packet("Hello.", ticks={}), Accepted("m1", "Hello.", None, None, None)),
        (
            MESSAGE,
            packet("Hello.", {"bucket_1": True}),
            Accepted("m1", "Hello.", {"bucket_0": False, "bucket_1": True, "none_all_good": False}, None, None),
        ),
        (
            MESSAGE,
            packet("Hello.", {"none_all_good": True, "bucket_1": False}),
            Accepted("m1", "Hello.", {"bucket_0": False, "bucket_1": False, "none_all_good": True}, None, None),
        ),
        (
            RATING,
            packet("", {"bucket_0": True, "bucket_1": True}, [1, 5]),
            Accepted("m1", "", {"bucket_0": True, "bucket_1": True, "none_all_good": False}, [1, 5], None),
        ),
        (
            RATING,
            packet(None, ONE_TICK, [2, 2]),
            Accepted("m1", "", {"bucket_0": False, "bucket_1": True, "none_all_good": False}, [2, 2], None),
        ),
    ],
)
def test_a_proper_packet_is_taken(expected: Expected, sent: Any, accepted: Accepted) -> None:
    assert check_packet(sent, expected, set()) == accepted


def test_unknown_keys_are_ignored() -> None:
    sent = packet("Hello.")
    sent["workers"], sent["task_data"]["problem_data"] = ["somebody else"], {"bucket_0": True}
    assert check_packet(sent, FIRST_MESSAGE, set()) == Accepted("m1", "Hello.", None, None, None)


def test_a_repeat_is_no_second_message_whatever_it_holds() -> None:
    assert check_packet(packet("Hello."), FIRST_MESSAGE, {"m1"}) is None
    assert check_packet(packet("", rating=[9]), MESSAGE, {"m1"}) is None


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  Hello.\n", "Hello."),
        ("one\ntwo\tthree", "one\ntwo\tthree"),
        ("a\x00b\x07c", "abc"),
        ("half an emoji \ud83d", "half an emoji"),
        ("你好", "你好"),
        ("नमस्ते", "नमस्ते"),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
        ("!", "!"),
        ("123", "123"),
        ("x" * LIMIT, "x" * LIMIT),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_text_is_saved_without_what_no_file_can_hold(text: str, clean: str) -> None:
    assert check_text(text, LIMIT) == clean


def test_a_too_long_message_is_told_by_how_much() -> None:
    with pytest.raises(RefusedError) as refused:
        check_text("x" * 2345, 2000)
    assert refused.value.reason == "Your message is too long (2,345 of 2,000 characters). Please shorten it."


@pytest.mark.parametrize("text", ["Hello.", "\ud800 half", "a\x00b", "e\u0301", "\u200bHello"])
def test_accepted_text_is_utf8_and_json(text: str) -> None:
    clean = check_text(text, LIMIT)
    assert clean.encode("utf-8").decode("utf-8") == clean
    assert json.loads(json.dumps(clean)) == clean


@pytest.mark.parametrize(
    "timing",
    [
        None,
        0,
        True,
        "1",
        [],
        {},
        {"shown": None},
        {"shown": "1.7e9"},
        {"shown": True},
        {"shown": math.nan},
        {"shown": math.inf},
        {"shown": -1},
        {"shown": 0},
        {"shown": 10**400},
        {"shown": 1e300},
        {"shown": []},
        {"elsewhere": 1.0},
    ],
)
def test_implausible_times_cost_no_message(timing: Any) -> None:
    assert read_timing(timing) is None
    sent = packet("Hello.")
    sent["task_data"]["timing"] = timing
    assert check_packet(sent, FIRST_MESSAGE, set()) == Accepted("m1", "Hello.", None, None, None)


def test_plausible_times_are_kept_each_by_itself() -> None:
    timing = read_timing({"shown": 1.7e9, "first_key": math.nan, "sent": 1_700_000_001})
    assert timing is not None
    assert timing.model_dump() == {"shown": 1.7e9, "first_key": None, "sent": 1_700_000_001.0}


# --- any JSON value ---

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(), max_size=LIMIT + 20)  # surrogates among them
    | st.sampled_from(["", "m1", "\ud800", "\u200b", "bucket_0", "none_all_good"])
)
keys = st.sampled_from(
    ["text", "task_data", "message_id", "problem_data_for_prior_message", "final_rating", "timing", "shown", "bucket_0"]
) | st.text(st.characters(), max_size=5)
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=15
)
near_packets = st.fixed_dictionaries(
    {
        "text": json_values,
        "task_data": st.fixed_dictionaries(
            {"message_id": st.sampled_from(["m1", "m2", ""]) | json_values},
            optional={
                "problem_data_for_prior_message": st.dictionaries(
                    st.sampled_from(BUCKETS.values) | keys, st.booleans() | json_values, max_size=4
                )
                | json_values,
                "final_rating": st.lists(st.integers(-1, 7) | json_values, max_size=4) | json_values,
                "timing": json_values,
            },
        ),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sent=json_values | near_packets, expected=st.sampled_from([MESSAGE, FIRST_MESSAGE, RATING]))
def test_no_json_value_raises_anything_but_a_refusal(sent: Any, expected: Expected) -> None:
    try:
        accepted = check_packet(sent, expected, {"m2"})
    except RefusedError as refused:
        assert refused.code in CODES
        return
    if accepted is None:
        assert message_id_of(sent) == "m2"
        return
    accepted.text.encode("utf-8")
    assert len(accepted.text) <= LIMIT
    assert (accepted.text == "") == bool(expected.rating_questions)
    if expected.annotations is not None:
        assert accepted.problem_data is not None
        assert any(accepted.problem_data.values())
        assert list(accepted.problem_data) == list(BUCKETS.values)
    if expected.rating_questions:
        assert accepted.final_ratings is not None
        assert len(accepted.final_ratings) == expected.rating_questions
        assert all(type(rating) is int and 1 <= rating <= 5 for rating in accepted.final_ratings)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=st.text(st.characters(), max_size=LIMIT + 30))
def test_text_that_is_taken_can_be_saved_and_seen(text: str) -> None:
    try:
        clean = check_text(text, LIMIT)
    except RefusedError as refused:
        assert refused.code in ("empty", "too_long")
        assert refused.code == "empty" or len(text) > LIMIT
        return
    clean.encode("utf-8")
    assert 0 < len(clean) <= LIMIT
    assert clean == clean.strip()
    assert check_text(clean, LIMIT) == clean


@pytest.mark.parametrize(
    ("turn_idx", "code"),
    [(None, None), (2, None), (1, "not_your_turn"), (3, "not_your_turn"), (True, "malformed"), ("2", "malformed")],
)
def test_a_packet_that_was_meant_for_another_turn_is_refused(turn_idx: Any, code: str | None) -> None:
    expected = Expected(annotations=None, rating_questions=0, max_message_length=LIMIT, turn_idx=2)
    packet = {"text": "Hello.", "task_data": {"message_id": "m", "turn_idx": turn_idx}}
    if code is None:
        assert check_packet(packet, expected, ()) is not None
    else:
        with pytest.raises(RefusedError) as refused:
            check_packet(packet, expected, ())
        assert refused.value.code == code


@pytest.mark.parametrize(("length", "is_usable"), [(0, False), (1, True), (64, True), (65, False)])
def test_the_longest_and_the_shortest_id_of_a_message(length: int, is_usable: bool) -> None:
    message_id = "m" * length
    assert message_id_of({"task_data": {"message_id": message_id}}) == (message_id if is_usable else None)


@pytest.mark.parametrize(
    ("seconds", "is_possible"), [(0, False), (0.001, True), (0.5, True), (1e11 - 1, True), (1e11, False), (-0.5, False)]
)
def test_times_are_believed_between_the_epoch_and_the_year_5000(seconds: float, is_possible: bool) -> None:
    timing = read_timing({"sent": seconds})
    assert (timing is not None) is is_possible


def test_a_page_need_not_name_the_turn_and_a_server_need_not_ask_for_it() -> None:
    packet: dict[str, Any] = {"text": "Hello.", "task_data": {"message_id": "m", "turn_idx": 7}}
    assert check_packet(packet, FIRST_MESSAGE, ()) is not None
    del packet["task_data"]["turn_idx"]
    expected = Expected(annotations=None, rating_questions=0, max_message_length=LIMIT, turn_idx=2)
    assert check_packet(packet, expected, ()) is not None


def test_a_refusal_knows_the_message_that_it_is_given() -> None:
    refused = RefusedError("empty", "Please write.", "m")
    assert (refused.code, refused.reason, refused.message_id, str(refused)) == (
        "empty",
        "Please write.",
        "m",
        "Please write.",
    )


@pytest.mark.parametrize(
    ("changes", "asks"),
    [
        ({}, True),
        ({"turn_idx": 3}, False),
        ({"turn_idx": 2.0}, False),
        ({"turn_idx": "2"}, False),
        ({"turn_idx": None}, False),
        ({"control": "typing"}, False),
        ({"control": None}, False),
        ({"message_id": ""}, False),
        ({"message_id": 5}, False),
    ],
)
def test_more_time_is_asked_for_one_turn_under_an_id(changes: dict[str, Any], asks: bool) -> None:
    task_data = {"message_id": "m", "control": "more_time", "turn_idx": 2, **changes}
    assert asks_more_time({"text": "", "task_data": task_data}, 2) is asks


def test_true_is_no_number_of_a_turn() -> None:
    task_data = {"message_id": "m", "control": "more_time", "turn_idx": True}
    assert asks_more_time({"text": "", "task_data": task_data}, 1) is False
    for packet in (None, [], {}, {"task_data": None}, {"task_data": []}):
        assert asks_more_time(packet, 1) is False


def test_a_message_that_the_model_can_not_be_shown_whole_is_too_long() -> None:
    seen: list[str] = []

    def takes(text: str) -> bool:
        seen.append(text)
        return text != "No."

    expected = Expected(None, 0, LIMIT, takes_text=takes)
    accepted = check_packet({"text": " Yes. ", "task_data": {"message_id": "m"}}, expected, ())
    assert accepted is not None
    assert accepted.text == "Yes."
    with pytest.raises(RefusedError, match="too long for your chat partner") as raised:
        check_packet({"text": "No.", "task_data": {"message_id": "n"}}, expected, ())
    assert (raised.value.code, raised.value.message_id) == ("too_long", "n")
    ratings = Expected(None, 1, LIMIT, takes_text=takes)
    assert check_packet({"text": "", "task_data": {"message_id": "r", "final_rating": [3]}}, ratings, ()) is not None
    assert seen == ["Yes.", "No."], "a rating is not shown to the model"

"""The pace of replies, by arithmetic alone: when what may be shown, when the whole may be sent, and what was too late."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from model_chat.conversation.pacing import ReplyDelivery, ReplyFlow, delivery_faults

B = "mephisto.blueprint"


def flow(stream: bool = True, first: float = 2.0, rate: float = 10.0, asked_at: float = 100.0) -> ReplyFlow:
    return ReplyFlow(ReplyDelivery(stream, first, rate), asked_at)


def test_without_a_pace_everything_is_shown_as_it_comes() -> None:
    each = flow(first=0, rate=0)
    assert each.visible(100.0) == 0
    each.grow(7, 100.5)
    assert each.visible(100.5) == 7
    assert each.finish(20, 101.0) == 101.0
    assert each.paced is None


def test_a_reply_starts_at_its_time_and_flows_at_the_pace() -> None:
    each = flow()
    each.grow(50, 100.2)
    assert [each.visible(at) for at in (101.99, 102.0, 102.05, 102.1, 102.55, 150.0)] == [0, 1, 1, 2, 6, 50]
    assert each.finish(50, 100.3) == 107.0
    assert each.paced is True


def test_a_model_of_a_fifth_of_a_second_and_one_of_three_look_the_same() -> None:
    fast, slow = flow(first=4.0), flow(first=4.0)
    fast.grow(30, 100.2)
    slow.grow(30, 103.0)
    times = [100 + tenth / 10 for tenth in range(90)]
    assert [fast.visible(at) for at in times] == [slow.visible(at) for at in times]
    assert fast.finish(30, 100.2) == slow.finish(30, 103.0) == 107.0
    assert (fast.paced, slow.paced) == (True, True)


def test_a_reply_that_begins_late_flows_from_then_on_and_says_so() -> None:
    each = flow()
    each.grow(5, 103.0)
    assert each.visible(103.0) == 1
    assert each.finish(20, 103.2) == 105.0
    assert each.paced is False


@pytest.mark.parametrize(("late", "paced"), [(0.09, True), (0.11, False)])
def test_a_hair_too_late_counts_as_paced(late: float, paced: bool) -> None:
    each = flow()
    each.grow(20, 102.0 + late)
    each.finish(20, 102.0 + late)
    assert each.paced is paced


def test_a_reply_that_runs_dry_goes_on_at_the_pace_and_never_catches_up() -> None:
    each = flow()
    each.grow(10, 101.0)
    assert each.visible(103.5) == 10, "dry since 103.0"
    each.grow(40, 104.0)
    assert [each.visible(at) for at in (104.0, 104.1, 105.0)] == [11, 12, 21]
    assert each.finish(40, 104.5) == 107.0
    assert each.paced is False


def test_growing_in_time_is_not_running_dry() -> None:
    each = flow()
    for piece in range(1, 9):
        each.grow(5 * piece, 101.8 + 0.5 * (piece - 1))
    assert each.finish(40, 105.4) == 106.0
    assert each.paced is True


def test_an_end_that_comes_late_is_late() -> None:
    each = flow()
    each.grow(10, 101.0)
    assert each.finish(10, 104.0) == 104.0
    assert each.paced is False


def test_without_a_first_time_a_streamed_reply_begins_when_it_comes() -> None:
    each = flow(first=0)
    each.grow(10, 109.0)
    assert [each.visible(at) for at in (109.0, 109.1)] == [1, 2]
    assert each.finish(10, 109.5) == 110.0
    assert each.paced is True, "there is no time by which it had to begin"


def test_without_a_rate_a_reply_starts_at_its_time_and_comes_as_it_is() -> None:
    each = flow(rate=0)
    each.grow(10, 101.0)
    assert (each.visible(101.9), each.visible(102.0)) == (0, 10)
    assert each.finish(50, 103.0) == 103.0
    assert each.paced is True
    late = flow(rate=0)
    late.grow(10, 103.0)
    assert (late.finish(10, 103.0), late.paced) == (103.0, False)


def test_a_reply_that_is_not_streamed_is_due_when_it_would_have_been_complete() -> None:
    each = flow(stream=False)
    assert each.finish(30, 104.0) == 105.0, "2 s and 30 characters at 10 a second"
    assert each.paced is True, "it was whole before it had to be"
    late = flow(stream=False)
    assert late.finish(30, 106.0) == 106.0
    assert late.paced is False


def test_a_reply_that_is_not_streamed_waits_for_its_first_time_alone() -> None:
    each = flow(stream=False, rate=0)
    assert (each.finish(30, 100.5), each.paced) == (102.0, True)
    late = flow(stream=False, rate=0)
    assert (late.finish(30, 103.0), late.paced) == (103.0, False)
    flowing = flow(stream=False, first=0)
    assert (flowing.finish(30, 100.5), flowing.paced) == (103.0, True)


def test_a_reply_that_begins_anew_flows_again_from_where_the_two_differ() -> None:
    each = flow()
    each.grow(40, 101.0)
    assert each.visible(104.0) == 21
    each.grow(12, 104.0, kept=5)
    assert [each.visible(at) for at in (104.0, 104.3, 110.0)] == [6, 9, 12]
    assert each.finish(12, 104.5) == pytest.approx(104.7)
    assert each.paced is False


def test_what_was_not_shown_yet_may_change_without_a_trace() -> None:
    each = flow()
    each.grow(40, 101.0)
    each.grow(30, 102.5, kept=20)
    assert each.visible(103.0) == 11
    assert each.finish(30, 102.6) == 105.0
    assert each.paced is True


def test_a_text_without_characters_does_not_begin_a_reply() -> None:
    each = flow()
    each.grow(0, 101.0)
    assert each.visible(103.0) == 0
    each.grow(10, 104.0)
    assert each.paced is False


def args(**flags: Any) -> Any:
    given = {"stream_replies": False, "reply_first_seconds": 0.0, "reply_chars_per_second": 0.0}
    return OmegaConf.create({**given, "max_model_response_time": 120, **flags})


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"reply_first_seconds": 60},
        {"reply_chars_per_second": 1},
        {"reply_chars_per_second": 1000.0},
        {"reply_first_seconds": 0.5, "reply_chars_per_second": 30.0},
        {"max_model_response_time": 0},  # which is said by another check
        {"reply_first_seconds": float("nan"), "reply_chars_per_second": float("inf")},  # likewise
        {"reply_first_seconds": float("inf"), "reply_chars_per_second": float("nan")},
    ],
)
def test_flags_in_order_have_no_fault(flags: dict[str, Any]) -> None:
    assert delivery_faults(B, args(**flags)) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            {"reply_first_seconds": -1},
            "reply_first_seconds: -1 is out of range; give seconds from 0 (as it comes) to 60.",
        ),
        ({"reply_first_seconds": 60.5}, "reply_first_seconds: 60.5 is out of range"),
        (
            {"reply_chars_per_second": -5},
            "reply_chars_per_second: -5 is out of range; give 0 (as it comes), or 1 to 1000.",
        ),
        ({"reply_chars_per_second": 0.5}, "reply_chars_per_second: 0.5 is out of range"),
        ({"reply_chars_per_second": 1001}, "reply_chars_per_second: 1001 is out of range"),
        (
            {"reply_first_seconds": 30, "max_model_response_time": 30},
            "reply_first_seconds: 30 s is not less than mephisto.blueprint.max_model_response_time (30 s)",
        ),
    ],
)
def test_flags_that_make_no_sense_are_said(flags: dict[str, Any], said: str) -> None:
    (fault,) = delivery_faults(B, args(**flags))
    assert fault.startswith(f"{B}.{said}")


def test_both_flags_are_said_at_once() -> None:
    assert len(delivery_faults(B, args(reply_first_seconds=-1, reply_chars_per_second=-1))) == 2


def test_the_flags_are_read() -> None:
    given = args(stream_replies=True, reply_first_seconds=2, reply_chars_per_second=30)
    assert ReplyDelivery.of(given) == ReplyDelivery(True, 2.0, 30.0)
    assert not ReplyDelivery.of(args(stream_replies=True)).has_pace
    assert ReplyDelivery(first_seconds=1).has_pace
    assert ReplyDelivery(chars_per_second=1).has_pace

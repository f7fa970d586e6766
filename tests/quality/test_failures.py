"""When failures stop the replacing of conversations, and for whom."""

from __future__ import annotations

import pytest

from model_chat.quality.failures import MOST_OF_A_WORKER, MOST_WORKERS_IN_A_ROW, Failures


def failed(*workers: str) -> Failures:
    made = Failures()
    for worker in workers:
        made.failed(worker)
    return made


MANY = [f"w{number}" for number in range(MOST_WORKERS_IN_A_ROW + 1)]


def test_the_study_stops_replacing_after_failures_with_more_than_ten_workers() -> None:
    assert not failed(*MANY[:-1]).too_many()
    assert failed(*MANY).too_many()


def test_one_worker_counts_once_however_often_their_conversations_fail() -> None:
    assert not failed(*["w0"] * 50, *["w1"] * 50).too_many()


def test_a_success_with_anybody_starts_the_row_anew() -> None:
    made = failed(*MANY[:-1])
    made.collected("another")
    made.failed(MANY[-1])
    assert not made.too_many()
    for worker in MANY:
        made.failed(worker)
    assert made.too_many()


@pytest.mark.parametrize("number", range(MOST_OF_A_WORKER + 2))
def test_a_worker_gets_no_more_after_three_failures(number: int) -> None:
    made = failed(*["w"] * number, "another")
    assert made.too_many_of("w") is (number >= 3)
    assert not made.too_many_of("another")


def test_only_a_success_of_their_own_lets_a_worker_go_on() -> None:
    made = failed("w", "w", "v", "v")
    made.collected("v")
    made.failed("w")
    made.failed("v")
    assert made.too_many_of("w")
    assert not made.too_many_of("v")

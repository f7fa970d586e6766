"""Grading the onboarding form, and the counts of a run."""

from __future__ import annotations

import threading

import pytest

from model_chat.quality.onboarding import OnboardingOutcome, OnboardingStatistics, OnboardingTries, grade

RIGHT = [[None, ["a", "b"], None, ["c"]], [["a"]], [None, ["b"]]]


@pytest.mark.parametrize(
    ("answers", "correct"),
    [
        (RIGHT, 3),
        ([[None, ["b", "a"], None, ["c"]], [["a"]], [None, ["b"]]], 3),  # the order of boxes says nothing
        ([[None, ["a", "a", "b"], None, ["c"]], [["a"]], [None, ["b"]]], 3),
        ([[None, ["a"], None, ["c"]], [["a"]], [None, ["b"]]], 2),  # a box too few
        ([[None, ["a", "b", "c"], None, ["c"]], [["a"]], [None, ["b"]]], 2),  # a box too many
        ([[None, ["a", "b"], None, ["a"]], [["b"]], [None, ["b"]]], 1),  # each reply of a dialogue must be right
        ([[None, [], None, []], [[]], [None, []]], 0),
        ([[None, None, None, None], [None], [None, None]], 0),
        ([[["a"], ["a", "b"], ["x"], ["c"]], [["a"]], [["y"], ["b"]]], 3),  # nothing is asked about a human's line
    ],
)
def test_a_dialogue_is_right_when_every_reply_has_exactly_its_boxes(
    answers: list[list[list[str] | None]], correct: int
) -> None:
    assert grade(answers, RIGHT) == (correct, 3 - correct)


def test_answers_of_another_shape_are_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="zip"):
        grade(RIGHT[:2], RIGHT)
    with pytest.raises(ValueError, match="zip"):
        grade([[["a"]], *RIGHT[1:]], RIGHT)


def test_statistics_count_every_outcome() -> None:
    statistics = OnboardingStatistics()
    assert statistics.counts() == {"started": 0, "passed": 0, "failed": 0, "left": 0}
    for outcome in (OnboardingOutcome.PASSED, OnboardingOutcome.PASSED, OnboardingOutcome.LEFT):
        statistics.started()
        statistics.ended(outcome)
    statistics.started()
    assert statistics.counts() == {"started": 4, "passed": 2, "failed": 0, "left": 1}


def test_tries_are_counted_for_each_worker() -> None:
    tries = OnboardingTries(2)
    assert tries.left("a") == 2
    assert [tries.use("a"), tries.use("a"), tries.use("a")] == [1, 0, None]
    assert (tries.left("a"), tries.left("b")) == (0, 2)


def test_tabs_that_send_at_once_share_the_tries() -> None:
    tries, start, used = OnboardingTries(5), threading.Barrier(32), []

    def send() -> None:
        start.wait(30)
        used.append(tries.use("a"))

    threads = [threading.Thread(target=send) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(left for left in used if left is not None) == [0, 1, 2, 3, 4]
    assert used.count(None) == 27

"""Grading the onboarding form, and the counts of a run."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from model_chat.quality.onboarding import (
    OnboardingOutcome,
    OnboardingStatistics,
    OnboardingTries,
    grade,
    keep_result,
)
from model_chat.quality.worker_locks import WorkerLocks
from model_chat.tests.mephisto_run import Run

RIGHT: Any = [[None, ["a", "b"], None, ["c"]], [["a"]], [None, ["b"]]]


@pytest.mark.parametrize(
    ("answers", "correct"),
    [
        (RIGHT, 3),
        ([[None, ["b", "a"], None, ["c"]], [["a"]], [None, ["b"]]], 3),  # the order of boxes has no meaning
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
    assert [tries.take("a", lambda: False) for _ in range(3)] == [(False, 1), (False, 0), (False, 0)]
    assert (tries.left("a"), tries.left("b")) == (0, 2)


def test_a_try_that_is_not_left_is_not_graded() -> None:
    tries = OnboardingTries(1)
    tries.take("a", lambda: False)
    assert tries.take("a", lambda: True) == (False, 0)
    assert not tries.has_passed("a")


def test_who_has_passed_has_passed_whatever_they_send_afterwards() -> None:
    tries = OnboardingTries(3)
    assert tries.take("a", lambda: True) == (True, 2)
    assert [tries.take("a", lambda: False) for _ in range(4)] == [(True, 2)] * 4
    assert (tries.has_passed("a"), tries.has_passed("b")) == (True, False)


def test_tabs_that_send_at_once_share_the_tries() -> None:
    tries, start = OnboardingTries(5), threading.Barrier(32)
    graded: list[int] = []

    def passes() -> bool:
        graded.append(1)
        return False

    def send() -> None:
        start.wait(30)
        tries.take("a", passes)

    threads = [threading.Thread(target=send) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(graded) == 5
    assert tries.left("a") == 0


def test_a_last_try_that_is_being_graded_is_waited_for_by_the_other_tab() -> None:
    tries, grading, go_on = OnboardingTries(1), threading.Event(), threading.Event()

    def passes() -> bool:
        grading.set()
        return go_on.wait(30)

    first = threading.Thread(target=tries.take, args=("a", passes))
    first.start()
    assert grading.wait(30)
    others: list[Any] = []
    waiting = [
        threading.Thread(target=lambda: others.append(tries.take("a", lambda: False))),
        threading.Thread(target=lambda: others.append(tries.has_passed("a"))),
    ]
    for thread in waiting:
        thread.start()
    assert tries.take("b", lambda: True) == (True, 0), "another worker waits for nobody"
    go_on.set()
    for thread in (first, *waiting):
        thread.join(30)
    assert sorted(others, key=str) == [(True, 0), True]


# --- what is kept of it ---


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    run = Run(tmp_path)
    for name in ("passed", "failed"):
        run.db.make_qualification(name)
    return run.worker()


def kept(worker: Any) -> tuple[Any, ...]:
    found = [worker.get_granted_qualification(name) for name in ("passed", "failed")]
    return tuple(None if granted is None else granted.value for granted in found)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([True], (1, None)),
        ([False], (0, 0)),
        ([True, False], (1, None)),
        ([False, True], (1, None)),
        ([True, False, False, True], (1, None)),
        ([False, False], (0, 0)),
    ],
)
def test_passing_is_final_in_every_order(worker: Any, results: list[bool], expected: tuple[Any, Any]) -> None:
    for passed in results:
        keep_result(worker, "passed", "failed", passed)
    assert kept(worker) == expected


def test_passing_and_failing_at_once_is_passing(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Barrier(2)
    check = type(worker).is_qualified

    def slowly(self: Any, name: str) -> bool:
        found: bool = check(self, name)
        with contextlib.suppress(threading.BrokenBarrierError):  # both would have looked before either has written
            looked.wait(0.3)
        return found

    monkeypatch.setattr(type(worker), "is_qualified", slowly)
    threads = [
        threading.Thread(target=keep_result, args=(worker, "passed", "failed", passed)) for passed in (True, False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    monkeypatch.undo()
    assert kept(worker) == (1, None)


def test_locks_of_workers_are_let_go_of() -> None:
    locks = WorkerLocks()
    with locks.holding("a"), locks.holding("b"):
        assert set(locks._in_use) == {"a", "b"}
    assert locks._in_use == {}

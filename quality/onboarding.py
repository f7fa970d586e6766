"""Grading of the onboarding form. What a page sends is untrusted; the answers stay on the server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from model_chat.configuration.annotations import NONE_ALL_GOOD, AnnotationsConfig
from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.configuration.worker_texts import worker_text
from model_chat.errors import RefusedError
from model_chat.quality.worker_locks import WorkerLocks
from model_chat.records.schema import MODEL_IDX

Answers = list[list[list[str] | None]]
"""One list a dialogue, one entry an utterance: bucket names, None for a human's utterance."""


class OnboardingOutcome(StrEnum):
    """How an onboarding ended."""

    PASSED = "passed"
    FAILED = "failed"
    LEFT = "left"


class OnboardingStatistics:
    """Counts of a run's onboardings; ``_lock`` guards them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def started(self) -> None:
        """Count one onboarding that began."""
        with self._lock:
            self._counts["started"] += 1

    def ended(self, outcome: OnboardingOutcome) -> None:
        """Count one onboarding that ended."""
        with self._lock:
            self._counts[outcome.value] += 1

    def counts(self) -> dict[str, int]:
        """Return `started`, `passed`, `failed` and `left`."""
        with self._lock:
            return {key: self._counts[key] for key in ("started", *(outcome.value for outcome in OnboardingOutcome))}


class OnboardingTries:
    """The tries of each worker in this run, over all their tabs and connections, and who has passed.

    A try is taken and graded under one lock per worker, so that passing is final: whatever else the worker has open sees
    it. ``_lock`` guards the counts and who has passed.
    """

    def __init__(self, tries: int) -> None:
        self._lock = threading.Lock()
        self._tries = tries
        self._used: Counter[str] = Counter()
        self._passed: set[str] = set()
        self._grading = WorkerLocks()

    def left(self, worker_id: str) -> int:
        """Return how many tries a worker has left."""
        with self._lock:
            return max(0, self._tries - self._used[worker_id])

    def has_passed(self, worker_id: str) -> bool:
        """Whether a worker has passed in this run; waits for a try that is being graded."""
        with self._grading.holding(worker_id), self._lock:
            return worker_id in self._passed

    def take(self, worker_id: str, passes: Callable[[], bool]) -> tuple[bool, int]:
        """Use up one try, unless the worker has passed already.

        Args:
            passes: grades the try; asked only if there is one left.

        Returns:
            whether the worker has passed, now or before, and how many tries are left.
        """
        with self._grading.holding(worker_id):
            with self._lock:
                used = self._used[worker_id]
                if worker_id in self._passed or used >= self._tries:
                    return worker_id in self._passed, max(0, self._tries - used)
                self._used[worker_id] = used + 1
            passed = bool(passes())
            with self._lock:
                if passed:
                    self._passed.add(worker_id)
            return passed, self._tries - used - 1


_keeping = WorkerLocks()
"""For the check and the writing of :func:`keep_result`, which two threads may do for one worker."""


def keep_result(worker: Any, qualification: str, failed_qualification: str, passed: bool) -> None:
    """Write down how a worker's onboarding ended. Passing is final: no failure takes it back, and it takes back a failure.

    Args:
        qualification: its value says whether the worker passed.
        failed_qualification: keeps a worker who failed out, on the crowd platform too.
    """
    with _keeping.holding(worker.db_id):
        has_passed = worker.is_qualified(qualification)
        if passed and not has_passed:
            worker.grant_qualification(qualification, 1)
        if passed and worker.get_granted_qualification(failed_qualification) is not None:
            worker.revoke_qualification(failed_qualification)
        if not passed and not has_passed:
            worker.grant_qualification(qualification, 0)
            worker.grant_qualification(failed_qualification, 0)


def grade(worker_answers: Sequence[Sequence[Sequence[str] | None]], right: Answers) -> tuple[int, int]:
    """Compare answers with the right ones.

    Args:
        worker_answers: one list a dialogue, one entry an utterance; same shape as ``right``.

    Returns:
        how many dialogues are exactly right (the right set of boxes on each of their model utterances), how many are not.
    """
    incorrect = len({dialog_idx for dialog_idx, _ in wrong_replies(worker_answers, right)})
    return len(right) - incorrect, incorrect


def wrong_replies(worker_answers: Sequence[Sequence[Sequence[str] | None]], right: Answers) -> list[tuple[int, int]]:
    """Find the model utterances that have another set of boxes than the right one.

    Args:
        worker_answers: one list a dialogue, one entry an utterance; same shape as ``right``.

    Returns:
        dialogue and utterance index of each, in their order.
    """
    return [
        (dialog_idx, utterance_idx)
        for dialog_idx, (given_dialogue, right_dialogue) in enumerate(zip(worker_answers, right, strict=True))
        for utterance_idx, (given, expected) in enumerate(zip(given_dialogue, right_dialogue, strict=True))
        if expected is not None and set(given or ()) != set(expected)
    ]


def read_answers(packet: Any, config: OnboardingConfig, annotations: AnnotationsConfig) -> Answers:
    """Check the form that a page sent.

    Raises:
        RefusedError: not a filled-in form of these dialogues.
    """
    damaged = RefusedError("malformed", worker_text("answers.damaged"))
    task_data = packet.get("task_data") if isinstance(packet, dict) else None
    form = task_data.get("onboarding_answers") if isinstance(task_data, dict) else None
    if not isinstance(form, list) or len(form) != len(config.dialog):
        raise damaged
    answers: Answers = []
    for given, dialogue in zip(form, config.dialog, strict=True):
        if not isinstance(given, list) or len(given) != len(dialogue):
            raise damaged
        answers.append(
            [
                _read_ticks(ticks, annotations, damaged) if utterance.agent_idx == MODEL_IDX else None
                for ticks, utterance in zip(given, dialogue, strict=True)
            ]
        )
    return answers


def _read_ticks(ticks: Any, annotations: AnnotationsConfig, damaged: RefusedError) -> list[str]:
    if not isinstance(ticks, list) or not all(isinstance(tick, str) for tick in ticks):
        raise damaged
    if not set(ticks) <= set(annotations.values):
        raise RefusedError("annotation_unknown", worker_text("boxes.unknown"))
    if not ticks:
        raise RefusedError("annotation_missing", worker_text("boxes.missing_in_practice"))
    if NONE_ALL_GOOD in ticks and len(set(ticks)) > 1:
        name = next(bucket.name for bucket in annotations.buckets if bucket.value == NONE_ALL_GOOD)
        raise RefusedError("annotation_conflict", worker_text("boxes.conflict", name=name))
    return sorted(set(ticks), key=annotations.values.index)

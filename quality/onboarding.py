"""Grading the onboarding form. What a page sends is untrusted; the answers stay on the server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from model_chat.configuration.annotations import NONE_ALL_GOOD, AnnotationsConfig
from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.incoming import RefusedError
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
    """How many tries each worker has used in this run, over all their tabs and connections; ``_lock`` guards the counts.

    Args:
        tries: that a worker has in all.
    """

    def __init__(self, tries: int) -> None:
        self._lock = threading.Lock()
        self._tries = tries
        self._used: Counter[str] = Counter()

    def left(self, worker_id: str) -> int:
        """Return how many tries a worker has left."""
        with self._lock:
            return max(0, self._tries - self._used[worker_id])

    def use(self, worker_id: str) -> int | None:
        """Use up one try; return how many are left, or None when there was none to use."""
        with self._lock:
            if self._used[worker_id] >= self._tries:
                return None
            self._used[worker_id] += 1
            return max(0, self._tries - self._used[worker_id])


def grade(worker_answers: Sequence[Sequence[Sequence[str] | None]], right: Answers) -> tuple[int, int]:
    """Compare answers with the right ones.

    Args:
        worker_answers: one list a dialogue, one entry an utterance; same shape as ``right``.
        right: the right buckets.

    Returns:
        how many dialogues are exactly right (the right set of boxes on each of their model utterances), how many are not.
    """
    incorrect = len({dialog_idx for dialog_idx, _ in wrong_replies(worker_answers, right)})
    return len(right) - incorrect, incorrect


def wrong_replies(worker_answers: Sequence[Sequence[Sequence[str] | None]], right: Answers) -> list[tuple[int, int]]:
    """Find the model utterances that have another set of boxes than the right one.

    Args:
        worker_answers: one list a dialogue, one entry an utterance; same shape as ``right``.
        right: the right buckets.

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

    Args:
        packet: of any JSON type.
        config: the dialogues.
        annotations: the buckets.

    Raises:
        RefusedError: not a filled-in form of these dialogues.
    """
    damaged = RefusedError("malformed", "Your answers arrived damaged. Please send them again.")
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
        raise RefusedError("annotation_unknown", "The boxes don't belong to this task. Please reload the page.")
    if not ticks:
        raise RefusedError("annotation_missing", "Please tick at least one box for every reply.")
    if NONE_ALL_GOOD in ticks and len(set(ticks)) > 1:
        raise RefusedError("annotation_conflict", "“None, all good” can't be ticked together with other boxes.")
    return sorted(set(ticks), key=annotations.values.index)

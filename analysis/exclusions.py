"""Conversations that are excluded, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ExclusionReason(StrEnum):
    """Why a conversation was left out, in the order in which the rules are asked; the first that fits is named."""

    BEFORE_START_DATE = "before_start_date"
    OTHER_RUN_TYPE = "other_run_type"
    MEPHISTO_STATUS = "mephisto_status"
    UNREADABLE = "unreadable"
    MALFORMED = "malformed"
    NO_CONVERSATION = "no_conversation"
    SIMULATED = "simulated"
    FORGOTTEN = "forgotten"
    INCOMPLETE = "incomplete"
    BLOCKED_HIT = "blocked_hit"
    BLOCKED_WORKER = "blocked_worker"
    OWN_RULE = "own_rule"
    ACCEPTABILITY = "acceptability_violation"
    TOO_SHORT = "too_short"
    UNIFORM_LABELS = "uniform_labels"
    TOO_FAST = "too_fast"
    DUPLICATE = "duplicate"
    OVER_WORKER_LIMIT = "over_worker_limit"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One conversation that was left out, and why."""

    source: str
    reason: ExclusionReason
    detail: str = ""
    worker_id: str | None = None
    hit_id: str | None = None
    model_nickname: str | None = None

"""What the condition of a conversation says: to its world, to its model, and to its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from model_chat.configuration.study_design import COMPARISON_FLAGS, PACE_FLAGS
from model_chat.conversation.contexts import HI
from model_chat.conversation.quota import Reservation

Options = TypeVar("Options")
_COMPARISON_FIELDS = {
    "comparison_points": "points",
    "comparison_ties": "ties",
    "comparison_continue": "continue_with",
    "comparison_reason": "reason",
    "comparison_boxes": "boxes",
}
"""Flag -> field of ``ComparisonSettings``."""


def with_conditions(options: Options, reservation: Reservation[Any]) -> Options:
    """Return the options of one conversation: those of the run, but for the flags that its condition sets.

    Args:
        reservation: the conversation's; without a design the options are returned as they are.
    """
    flags = {} if reservation.condition is None else reservation.condition.flags
    if not flags:
        return options
    pace = {name.removeprefix("reply_"): float(flags.pop(name)) for name in PACE_FLAGS if name in flags}
    comparing = {_COMPARISON_FIELDS[name]: flags.pop(name) for name in COMPARISON_FLAGS if name in flags}
    changed: Any = dataclasses.replace(options, **flags)  # type: ignore[type-var]  # a dataclass, which a layer above makes
    if pace:
        changed = dataclasses.replace(changed, delivery=dataclasses.replace(changed.delivery, **pace))
    if comparing:
        changed = dataclasses.replace(changed, comparison=dataclasses.replace(changed.comparison, **comparing))
    if changed.start_mode == HI and not changed.include_persona:  # others of the run may have contexts
        changed = dataclasses.replace(changed, contexts=None)
    result: Options = changed
    return result


def prompt_of(reservation: Reservation[Any]) -> str | None:
    """Return what is added to the model's system prompt, or None."""
    return None if reservation.condition is None else reservation.condition.prompt


def is_admitted(reservation: Reservation[Any], answers: Mapping[str, Any]) -> bool:
    """Count a conversation for the stratum of its worker; False when the stratum is full, or not wanted.

    To be called once, after what is asked before the chat; where it is False, the conversation ends as
    :data:`~model_chat.conversation.allocation.SCREENED_OUT`.

    Args:
        answers: item -> answer.

    Raises:
        OSError: it could not be put on disk.
    """
    quota = None if reservation.condition is None else reservation.condition.quota
    if quota is None or quota.design.strata is None:
        return True
    return quota.enter_stratum(reservation, str(answers.get(quota.design.strata.item)))


def conditions_of(reservation: Reservation[Any]) -> dict[str, str] | None:
    """Return factor -> level, as it is saved; None without a design."""
    return None if reservation.condition is None else dict(reservation.condition.cell.conditions)

"""Judgements of two replies or chats, put together again from what a page was sent and what was recorded beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from model_chat.configuration.comparison import SIDES
from model_chat.conversation.human_agent import COMPARISON, COMPARISON_DONE
from model_chat.records.schema import Comparison, Generation

logger = logging.getLogger(__name__)


def comparisons_of(messages: Iterable[dict[str, Any]], generations: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the judgements of a conversation as they are saved; what is damaged is left out.

    Args:
        generations: what is known of replies, and whose they are, by the ids of their updates.
    """
    found: list[dict[str, Any]] = []
    shown: dict[str, dict[str, Any]] = {}
    for message in messages:
        data = message.get("task_data")
        if not isinstance(data, dict):
            continue
        turn = str(data.get("turn_idx"))  # of any JSON type, in a damaged journal
        if data.get("control") == COMPARISON:
            shown[turn] = message
        elif data.get("control") == COMPARISON_DONE and (earlier := shown.pop(turn, None)) is not None:
            try:
                found += _judgements(earlier, data, message.get("timestamp"), generations)
            except (ValidationError, KeyError, TypeError, AttributeError) as error:
                logger.warning("A damaged comparison is left out of a conversation that is recovered: %s", error)
    return found


def cost_of_unjudged(messages: Iterable[dict[str, Any]], generations: Mapping[str, Any]) -> float:
    """Return what two replies have cost that were shown and never judged; US dollars."""
    last: dict[str, Any] = {}
    for message in messages:
        data = message.get("task_data")
        control = data.get("control") if isinstance(data, dict) else None
        if control in (COMPARISON, COMPARISON_DONE):
            last = message if control == COMPARISON else {}
    made = generations.get(str(last.get("update_id")), {})
    sides = [made.get(side) for side in SIDES] if isinstance(made, Mapping) else []
    return sum(Generation.of(side.get("generation")).cost_usd or 0.0 for side in sides if isinstance(side, Mapping))


def is_judged_to_the_end(messages: Iterable[dict[str, Any]]) -> bool:
    """Whether two chats were compared, and nothing that counts was to come."""
    return any(
        data.get("control") == COMPARISON_DONE and data.get("complete") is True
        for message in messages
        if isinstance(data := message.get("task_data"), dict)
    )


def _judgements(
    shown: dict[str, Any], done: dict[str, Any], timestamp: Any, generations: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Put the judgement of two replies together, or those of two chats, one a question.

    Raises:
        ValidationError, KeyError, TypeError: it is damaged.
    """
    made = generations[shown["update_id"]]
    is_paired = "judgements" in done
    sides = {side: _side(made[side], None if is_paired else shown["task_data"][side]) for side in SIDES}
    for side, ticks in (done.get("problem_data_of_replies") or {}).items():
        sides[side]["problem_data"] = ticks
    found = [
        {
            "turn_idx": None if is_paired else done["turn_idx"],
            "question": judged.get("question"),
            **sides,
            **{key: judged.get(key) for key in ("pick", "strength", "reason", "continued_with")},
            "timestamp": timestamp,
        }
        for judged in (done["judgements"] if is_paired else [done])
    ]
    for entry in found:
        Comparison.model_validate(entry)
    return found


def _side(made: dict[str, Any], shown: dict[str, Any] | None) -> dict[str, Any]:
    """One side: whose it is, and of a reply the text and how it was made."""
    return {
        "model_nickname": made["model_nickname"],
        "text": None if shown is None else shown["text"],
        "generation": None if shown is None else Generation.of(made.get("generation")).saved(),
    }

"""The list of conversations, filtered, sorted and cut into pages, and one conversation in full."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_chat.analysis.naming import boxes_of
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.dashboard.blinding import Names
from model_chat.dashboard.entries import FAILED, questions_of
from model_chat.dashboard.store import Listed, Snapshot
from model_chat.errors import ConfigurationError
from model_chat.records.authenticity import totals_of
from model_chat.records.reading import (
    ReadComparison,
    ReadConversation,
    ReadUtterance,
    UnreadableError,
    read_conversation,
)
from model_chat.records.schema import HUMAN_IDX, Pick

MOST_PER_PAGE = 200
FACETS: dict[str, Callable[[Listed, Names], list[str]]] = {
    "model": lambda one, names: [names.model(one.entry.model)] if one.entry.model else [],
    "cell": lambda one, names: [cell] if (cell := names.cell(one.entry.cell)) is not None else [],
    "status": lambda one, names: [one.entry.status],
    "review": lambda one, names: [one.review],
    "signal": lambda one, names: one.signals,
}
SORTS: dict[str, Callable[[Listed], Any]] = {
    "started": lambda one: one.entry.started or 0.0,
    "minutes": lambda one: one.entry.minutes or 0.0,
    "turns": lambda one: one.entry.turns,
    "worker": lambda one: one.entry.worker,
    "rating": lambda one: sum(one.entry.ratings.values()) / len(one.entry.ratings) if one.entry.ratings else 0.0,
}
CHAT_PICKS = {Pick.LEFT: "first chat", Pick.RIGHT: "second chat", Pick.TIE: "tie", Pick.BOTH_BAD: "both bad"}


@dataclass(frozen=True)
class Query:
    """What is asked of the list.

    Attributes:
        filters: facet, or ``worker`` -> value.
        q: a part of an id, or of what was said.
        sort: a key of :data:`SORTS`, with ``-`` before it for the greatest first.
    """

    offset: int = 0
    limit: int = 50
    filters: Mapping[str, str] = field(default_factory=dict)
    q: str = ""
    sort: str = "-started"


def list_conversations(snapshot: Snapshot, names: Names, query: Query) -> dict[str, Any]:
    """Return a page of conversations, and for each facet how many there are of which value under the other filters."""
    rows = [(one, {facet: of(one, names) for facet, of in FACETS.items()}) for one in snapshot.listed]
    worker, needle = query.filters.get("worker", ""), query.q.strip().lower()
    if worker:
        rows = [row for row in rows if row[0].entry.worker == worker]
    if needle:
        rows = [row for row in rows if _matches(row[0], row[1], needle)]
    wanted = {facet: query.filters[facet] for facet in FACETS if query.filters.get(facet)}
    facets: dict[str, dict[str, int]] = {}
    for facet in FACETS:
        others = [(name, value) for name, value in wanted.items() if name != facet]
        counts = Counter(
            value
            for _, values in rows
            if all(other in values[name] for name, other in others)
            for value in values[facet]
        )
        facets[facet] = dict(sorted(counts.items()))
    found = [one for one, values in rows if all(value in values[facet] for facet, value in wanted.items())]
    key = SORTS.get(query.sort.lstrip("-"), SORTS["started"])
    found.sort(key=key, reverse=query.sort.startswith("-"))
    page = found[query.offset : query.offset + query.limit]
    return {
        "total": len(found),
        "offset": query.offset,
        "items": [item_of(one, names) for one in page],
        "facets": facets,
        "searchable": snapshot.searchable,
    }


def _matches(one: Listed, values: Mapping[str, list[str]], needle: str) -> bool:
    entry = one.entry
    return (
        needle in entry.text
        or needle in entry.worker.lower()
        or needle == one.id
        or any(needle in value.lower() for value in values["model"])
    )


def item_of(one: Listed, names: Names) -> dict[str, Any]:
    """Return a conversation as the list shows it."""
    entry = one.entry
    return {
        "id": one.id,
        "worker": entry.worker,
        "model": names.model(entry.model) or None,
        "cell": names.cell(entry.cell),
        "status": entry.status,
        "reason": _reason(one, names),
        "started": entry.started,
        "minutes": None if entry.minutes is None else round(entry.minutes, 2),
        "turns": entry.turns,
        "review": one.review,
        "reviewable": one.agent is not None,
        "blocked": one.blocked,
        "bonus": one.bonus / 100,
        "pay": None if one.agent is None else one.agent.pay / 100,
        "signals": one.signals,
        "ratings": entry.ratings,
        "version": version_of(one),
    }


def _reason(one: Listed, names: Names) -> str | None:
    """Why it ended early; in a blind study without the details of a failure, which may name the endpoint and its model."""
    reason = names.text(one.entry.reason)
    return reason.partition(":")[0] if reason and names.blind and one.entry.status == FAILED else reason


def version_of(one: Listed) -> str:
    """Return what changes whenever somebody reviews, pays or blocks."""
    state = [one.agent.status if one.agent else None, one.bonus, one.blocked]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]


def read_whole(one: Listed, names: Names, acts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one conversation in full; without its turns, if nothing was saved of it.

    Args:
        acts: of the audit log, about it.
    """
    found: dict[str, Any] = {
        **item_of(one, names),
        "turns": [],
        "num_turns": one.entry.turns,
        "answers": [],
        "personas": None,
        "timing": {"started": one.entry.started, "ended": one.entry.ended},
        "boxes": {},
        "acts": acts,
    }
    if not one.entry.source.path:
        return found
    try:
        conversation = read_conversation(one.entry.source)
    except UnreadableError:
        return found
    raw = conversation.raw if isinstance(conversation.raw, dict) else {}
    task = raw.get("task_description")
    texts = task if isinstance(task, dict) else {}
    found["boxes"] = dict(boxes_of(texts.get("annotations_config")))
    found["personas"] = conversation.personas
    found["turns"] = _turns(conversation, names)
    found["answers"] = _answers(raw, texts, conversation.ratings or [], conversation.comparisons or ())
    found["attention_checks"] = raw.get("attention_checks") if isinstance(raw.get("attention_checks"), list) else []
    found["acceptability"] = conversation.acceptability_violation
    counted = totals_of(raw)
    found["authenticity"] = None if counted is None else dataclasses.asdict(counted)
    return found


def _turns(conversation: ReadConversation, names: Names) -> list[dict[str, Any]]:
    """What was said, with boxes, times, and replies that were compared."""
    judged = {one.turn_idx: one for one in conversation.comparisons or () if one.turn_idx is not None}
    turns: list[dict[str, Any]] = []
    exchanges = conversation.exchanges()
    for number, line in enumerate(conversation.dialog):
        is_human = line.agent_idx == HUMAN_IDX
        turn: dict[str, Any] = {
            "idx": number,
            "who": "worker" if is_human else "model",
            "model": names.model(line.model_nickname) if line.model_nickname else None,
            "chat": line.chat_idx,
            "text": line.text,
            "said_before": line.fake_start,
            "at": line.timestamp,
            "seconds": _seconds(line),
            "annotations": {} if is_human else dict(line.problem_data or {}),
        }
        comparison = judged.get(exchanges.get(number, -1))
        if comparison is not None:
            turn["side"] = comparison.continued_with
            turn["picked"] = comparison.pick.value
            turn["strength"] = comparison.strength
            turn["pick_reason"] = comparison.reason
            turn["replies"] = [
                {
                    "side": side,
                    "text": reply.text,
                    "model": names.model(reply.model_nickname),
                    "annotations": dict(reply.problem_data or {}),
                }
                for side, reply in (("left", comparison.left), ("right", comparison.right))
            ]
        turns.append(turn)
    return turns


def _seconds(line: ReadUtterance) -> float | None:
    """How long a reply took, or how long the worker took from seeing the last one."""
    if line.generation is not None and line.generation.seconds is not None:
        return round(line.generation.seconds, 3)
    timing = line.timing
    if timing is None or timing.sent is None or timing.shown is None:
        return None
    return round(timing.sent - timing.shown, 3)


def _answers(
    raw: dict[str, Any], task: dict[str, Any], ratings: list[int], comparisons: Sequence[ReadComparison]
) -> list[dict[str, Any]]:
    """Answers to the final questions, to the items of the study flow, and to the questions about two chats."""
    asked = _questions_of_flow(task.get("study_flow"))
    rows: list[tuple[str, str, str, Any, Any]] = [
        ("final rating", f"final_rating_{number}", question, rating, None)
        for number, (question, rating) in enumerate(zip(questions_of(raw, len(ratings)), ratings, strict=True), 1)
    ]
    saved = raw.get("answers")
    for answer in saved if isinstance(saved, list) else ():
        if isinstance(answer, dict):
            item = str(answer.get("item"))
            said = answer.get("value"), answer.get("utterance_idx")
            rows.append((str(answer.get("page")), item, asked.get(item, item), *said))
    for number, judged in enumerate(comparisons, 1):
        if judged.turn_idx is None:
            told = {"preferred": CHAT_PICKS[judged.pick], "strength": judged.strength, "reason": judged.reason}
            known = {name: value for name, value in told.items() if value is not None}
            rows.append(("comparison", f"comparison_{number}", judged.question or "", known, None))
    return [dict(zip(("page", "id", "question", "answer", "turn"), row, strict=True)) for row in rows]


def _questions_of_flow(text: object) -> dict[str, str]:
    """The questions of a study flow as it was saved with the record; empty where it is none that can be read."""
    if not isinstance(text, str):
        return {}
    try:
        flow = parse_study_flow("study_flow", "of a conversation", text)
    except ConfigurationError:
        return {}
    return {item.id: item.question for _, item in flow.items()}

"""One conversation as the dashboard lists it: what of a record is kept in memory."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from model_chat.records.authenticity import totals_of
from model_chat.records.reading import ReadConversation, Source
from model_chat.records.schema import HUMAN_IDX, MODEL_IDX, RATING_SEPARATOR, Completion

COMPLETE, LEFT, FAILED, DECLINED, SCREENED_OUT, STOPPED, GOING_ON, INCOMPLETE = (
    "complete",
    "left",
    "failed",
    "declined",
    "screened_out",
    "stopped",
    "going_on",
    "incomplete",
)
"""Statuses of a conversation on the page."""
_STATUS_OF_REASON = {
    "timeout": LEFT,
    "disconnected": LEFT,
    "returned": LEFT,
    "left": LEFT,
    "model failed": FAILED,
    "error": FAILED,
    "stopped": STOPPED,
    "run died": STOPPED,
    "declined": DECLINED,
    "screened out": SCREENED_OUT,
}
FAST_SECONDS = 2.0
"""Between a reply's being shown and the answer's being sent: nobody reads and writes as fast."""
LATEST = 1e11
"""Epoch seconds; what is beyond is no time."""
BEFORE_CHAT = "before the chat"


@dataclass(slots=True)
class Entry:
    """One conversation.

    Attributes:
        worker: the crowd platform's own id.
        model: nickname, or pair of them.
        cell: its conditions, as a design calls them; None without a design.
        status: see :data:`COMPLETE` and those beside it.
        started, ended: epoch seconds; None where not known.
        turns: messages of the worker.
        ratings: question -> answer.
        marks: box -> model utterances that have it.
        marked: model utterances that were looked at.
        marks_of: the same of each model that replied: how many annotated messages, and their boxes; of two that are
            compared, each has its own.
        signals: what speaks for a closer look, keys.
        left_at: where somebody left; None for others.
        replies: messages of the model.
        reply_seconds: of each of the model's replies whose time is known.
        text: all that was said, in lower case, for searching.
    """

    source: Source
    worker: str
    model: str
    cell: str | None = None
    status: str = COMPLETE
    reason: str | None = None
    started: float | None = None
    ended: float | None = None
    turns: int = 0
    ratings: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    marked: int = 0
    marks_of: dict[str, tuple[int, dict[str, int]]] = field(default_factory=dict)
    signals: tuple[str, ...] = ()
    left_at: str | None = None
    replies: int = 0
    reply_seconds: tuple[float, ...] = ()
    text: str = ""

    @property
    def minutes(self) -> float | None:
        """How long it took; None where not known."""
        if self.started is None or self.ended is None or self.ended <= self.started:
            return None
        return (self.ended - self.started) / 60


def entry_of(conversation: ReadConversation, source: Source) -> Entry:
    """Take what is listed out of a conversation."""
    raw = conversation.raw if isinstance(conversation.raw, dict) else {}
    said = [line for line in conversation.dialog if not line.fake_start]
    times = [line.timestamp for line in conversation.dialog if line.timestamp and 0 < line.timestamp < LATEST]
    human = [line for line in said if line.agent_idx == HUMAN_IDX]
    others = [one.not_taken for one in conversation.comparisons or () if one.not_taken is not None]
    marked = [line for line in said if line.agent_idx == MODEL_IDX and line.problem_data]
    marked_others = [other for other in others if other.problem_data]
    marks: dict[str, int] = {}
    marks_of: dict[str, tuple[int, dict[str, int]]] = {}
    judged = [(line.model_nickname, line.problem_data) for line in marked]
    judged += [(other.model_nickname, other.problem_data) for other in marked_others]
    for nickname, ticks in judged:
        speaker = nickname or conversation.model_nickname
        count, own = marks_of.get(speaker, (0, {}))
        for name, value in (ticks or {}).items():
            marks[name] = marks.get(name, 0) + (value is True)
            own[name] = own.get(name, 0) + (value is True)
        marks_of[speaker] = (count + 1, own)
    status = status_of(conversation)
    return Entry(
        source=source,
        worker=conversation.worker_id,
        model=conversation.model_nickname,
        cell=label_of(conversation.conditions),
        status=status,
        reason=conversation.reason,
        started=min(times, default=None),
        ended=max(times, default=None),
        turns=len(human),
        ratings=dict(zip(questions_of(raw, len(conversation.ratings or ())), conversation.ratings or (), strict=False)),
        marks=marks,
        marked=len(judged),
        marks_of=marks_of,
        signals=tuple(dict.fromkeys(_signals(conversation, raw))),
        left_at=_left_at(raw, len(human)) if status == LEFT else None,
        replies=sum(line.agent_idx == MODEL_IDX for line in said),
        reply_seconds=tuple(
            line.generation.seconds for line in said if line.generation and line.generation.seconds is not None
        ),
        text="\n".join(line.text for line in said).lower(),
    )


def status_of(conversation: ReadConversation) -> str:
    """Return how a conversation ended, as the page calls it."""
    if conversation.status is Completion.COMPLETE:
        return COMPLETE
    return _STATUS_OF_REASON.get((conversation.reason or "").partition(":")[0], INCOMPLETE)


def label_of(conditions: dict[str, str] | None) -> str | None:
    """Return conditions as the design's cells are called."""
    return None if conditions is None else ", ".join(f"{factor}={level}" for factor, level in conditions.items())


def questions_of(raw: dict[str, Any], number: int) -> list[str]:
    """Return the final rating questions of a record; numbers where it does not say them."""
    task = raw.get("task_description")
    asked = task.get("final_rating_question") if isinstance(task, dict) else None
    texts = [text.strip() for text in asked.split(RATING_SEPARATOR)] if isinstance(asked, str) else []
    if len(texts) == number and len(set(texts)) == number:
        return texts
    return ["final rating"] if number == 1 else [f"final rating {one}" for one in range(1, number + 1)]


def _signals(conversation: ReadConversation, raw: dict[str, Any]) -> Iterator[str]:
    """What speaks for a closer look at somebody's work."""
    if conversation.simulated:
        yield "simulated"
    for name in filter(None, (conversation.acceptability_violation or "").split(",")):
        yield name.split(":")[0].strip()
    checks = raw.get("attention_checks")
    for check in checks if isinstance(checks, list) else ():
        if isinstance(check, dict) and check.get("passed") is False:
            yield "attention_failed"
    waited = [
        line.timing.sent - line.timing.shown
        for line in conversation.dialog
        if line.timing is not None and line.timing.sent is not None and line.timing.shown is not None
    ]
    if len(waited) >= 2 and statistics.median(waited) < FAST_SECONDS:
        yield "fast"
    counted = totals_of(raw)
    if counted is not None and counted.pasted_characters:
        yield "pasted"


def _left_at(raw: dict[str, Any], turns: int) -> str:
    """Where somebody left: in which turn, or on which page of the study flow."""
    saved = raw.get("answers")
    pages = [answer.get("page") for answer in (saved if isinstance(saved, list) else ()) if isinstance(answer, dict)]
    if not turns:
        return f"page after {pages[-1]}" if pages and isinstance(pages[-1], str) else "turn 1"
    return f"turn {turns + 1}"


def utc(text: object) -> float | None:
    """Return a time as SQLite writes it (UTC) in epoch seconds; None where it is none."""
    try:
        return datetime.datetime.fromisoformat(str(text)).replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return None

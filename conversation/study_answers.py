"""Validation of answers to the items of a study flow. All of it is untrusted input, of any JSON type and size."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from model_chat.configuration.study_items import (
    NOT_APPLICABLE,
    OTHER,
    BestWorstItem,
    ChoiceItem,
    HighlightItem,
    Item,
    MatrixItem,
    NumberItem,
    RankingItem,
    ScaleItem,
    SliderItem,
    TextItem,
)
from model_chat.configuration.worker_texts import Value, WorkerText, worker_text
from model_chat.errors import RefusedError
from model_chat.records.visible_text import is_blank, saveable

MISSING, INVALID, UNEXPECTED = "answer_missing", "answer_invalid", "answer_unexpected"
LONGEST_OTHER = 500
"""Characters of the text beside ``other``."""
MOST_SPANS = 200
_SHOWN = 80
"""Characters of a question that a refusal names."""


def is_shown(condition: Mapping[str, Sequence[Any]] | None, answers: Mapping[str, Any]) -> bool:
    """Whether something with this ``show_if`` is shown after these answers: every item has one of the values it names.

    An answer of several options (``many``), or with a text of the worker's own (``other``), has each of them as its value.
    """
    if condition is None:
        return True
    return all(
        item in answers and any(value in values for value in _values_of(answers[item]))
        for item, values in condition.items()
    )


def _values_of(answer: Any) -> list[Any]:
    entries = answer if isinstance(answer, list) else [answer]
    return [OTHER if isinstance(entry, dict) else entry for entry in entries]


def check_answers(
    items: Sequence[Item], given: object, earlier: Mapping[str, Any], reply: str | None = None
) -> dict[str, Any]:
    """Check what a worker's page sent as the answers to some items.

    Args:
        items: those that were asked, in the order in which they are shown.
        given: untrusted; should be item -> answer.
        reply: the text of the model's reply that the items are about, if they are.

    Returns:
        item -> answer as it is saved, of the items that are shown and answered.

    Raises:
        RefusedError: an answer is missing, can't be, or is to an item that was not asked.
    """
    if given is None and not items:
        return {}
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise RefusedError("malformed", worker_text("answers.damaged"))
    known = {item.id for item in items}
    if not given.keys() <= known:
        raise RefusedError(UNEXPECTED, worker_text("answers.other_questions"))
    answers: dict[str, Any] = {}
    for item in items:
        value = given.get(item.id)
        if not is_shown(item.show_if, {**earlier, **answers}):
            if value is not None:
                raise RefusedError(UNEXPECTED, _about(item, worker_text("answers.not_asked")))
            continue
        answer = None if value is None else _checked(item, value, reply)
        if answer is not None:
            answers[item.id] = answer
        elif item.required:
            raise RefusedError(MISSING, _about(item, worker_text("answers.missing")))
    return answers


def _about(item: Item, remedy: WorkerText) -> WorkerText:
    question = item.question if len(item.question) <= _SHOWN else f"{item.question[:_SHOWN].rstrip()}…"
    return worker_text("answers.about", question=question, remedy=remedy)


def _refuse(item: Item, remedy: str, **values: Value) -> RefusedError:
    return RefusedError(INVALID, _about(item, worker_text(f"answers.{remedy}", **values)))


def _checked(item: Item, value: Any, reply: str | None) -> Any:
    """Return an answer as it is saved; None for an empty one."""
    match item:
        case ScaleItem():
            return _point(item, value, item.points, item.not_applicable)
        case ChoiceItem():
            return _choice(item, value)
        case TextItem():
            return _text(item, value, item.min_chars, item.max_chars)
        case NumberItem():
            return _number(item, value)
        case SliderItem():
            return _point(item, value, 100, False, least=0)
        case RankingItem():
            if not isinstance(value, list) or not _are_options(value, item.options) or len(value) != len(item.options):
                raise _refuse(item, "order")
            return value
        case BestWorstItem():
            return _best_worst(item, value)
        case MatrixItem():
            return _matrix(item, value)
        case HighlightItem():
            return _spans(item, value, reply or "")
        case _:
            raise TypeError(f"there is no check of answers to items of the kind '{item.kind}'")


def _are_options(values: list[Any], options: Sequence[str]) -> bool:
    """Whether all values are options, each at most once."""
    if len(values) > len(options) or not all(isinstance(value, str) for value in values):
        return False
    return len(set(values)) == len(values) and set(values) <= set(options)


def _point(item: Item, value: Any, points: int, not_applicable: bool, least: int = 1) -> Any:
    if not_applicable and value == NOT_APPLICABLE:
        return value
    if type(value) is not int or not least <= value <= points:
        raise _refuse(item, "point", least=least, most=points)
    return value


def _text(item: Item, value: Any, least: int, most: int) -> str | None:
    if not isinstance(value, str):
        raise _refuse(item, "text_damaged")
    if len(value) > most + 1000:  # space at the ends is not counted, but nobody sends pages of it
        raise _refuse(item, "text_far_too_long", most=most)
    clean = saveable(value).strip()
    if is_blank(clean):
        return None
    if len(clean) > most:
        raise _refuse(item, "text_too_long", length=len(clean), most=most)
    if len(clean) < least:
        raise _refuse(item, "text_too_short", length=len(clean), least=least)
    return clean


def _number(item: NumberItem, value: Any) -> Any:
    least, most = item.bounds
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:  # the bounds are finite, so that NaN and infinity are outside
        if item.min is not None and item.max is not None:
            raise _refuse(item, "number_between", least=float(item.min), most=float(item.max))
        if item.min is not None:
            raise _refuse(item, "number_at_least", least=float(item.min))
        if item.max is not None:
            raise _refuse(item, "number_at_most", most=float(item.max))
        raise _refuse(item, "number")
    return value


def _choice(item: ChoiceItem, value: Any) -> Any:
    entries = value if item.many and isinstance(value, list) else [value]
    if item.many and not isinstance(value, list):
        raise _refuse(item, "choose_again")
    if len(entries) > len(item.options) + 1:
        raise _refuse(item, "choose_again")
    chosen = [entry for entry in entries if not isinstance(entry, dict)]
    own = [entry for entry in entries if isinstance(entry, dict)]
    if not _are_options(chosen, item.options) or len(own) > (1 if item.other else 0):
        raise _refuse(item, "choose_option")
    # In the order of the file, whatever the order in which they were ticked.
    saved: list[Any] = [option for option in item.options if option in chosen]
    for entry in own:
        if entry.keys() != {OTHER}:
            raise _refuse(item, "choose_option")
        text = _text(item, entry[OTHER], 0, LONGEST_OTHER)
        if text is None:
            raise _refuse(item, "other_missing")
        saved.append({OTHER: text})
    if item.many:
        return saved or None
    return saved[0]


def _best_worst(item: BestWorstItem, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or value.keys() != {"best", "worst"}:
        raise _refuse(item, "best_and_worst")
    if not _are_options([value["best"], value["worst"]], item.options):
        raise _refuse(item, "best_is_worst")
    return {"best": value["best"], "worst": value["worst"]}


def _matrix(item: MatrixItem, value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict) or not value.keys() <= set(item.rows):
        raise _refuse(item, "row")
    answers = {
        row: _point(item, value[row], item.points, item.not_applicable)
        for row in item.rows
        if value.get(row) is not None
    }
    if item.required and len(answers) < len(item.rows):
        raise RefusedError(MISSING, _about(item, worker_text("answers.every_row")))
    return answers or None


def _spans(item: HighlightItem, value: Any, reply: str) -> list[dict[str, Any]] | None:
    """Spans of the reply: ``start`` and ``end`` in characters (code points), and the text between, in order.

    Spans that overlap are refused, and so are empty ones and those of nothing but space.
    """
    if not isinstance(value, list) or len(value) > MOST_SPANS:
        raise _refuse(item, "passages")
    spans: list[tuple[int, int]] = []
    for entry in value:
        if not isinstance(entry, dict) or not {"start", "end"} <= entry.keys() <= {"start", "end", "text"}:
            raise _refuse(item, "passages")
        start, end = entry["start"], entry["end"]
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(reply):
            raise _refuse(item, "passages")
        if is_blank(reply[start:end]):
            raise _refuse(item, "blank_passages")
        spans.append((start, end))
    spans.sort()
    if any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans)):
        raise _refuse(item, "passage_twice")
    return [{"start": start, "end": end, "text": reply[start:end]} for start, end in spans] or None

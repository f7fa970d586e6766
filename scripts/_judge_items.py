"""Items of a study flow as a judge is asked them: how each is described, the schema of its answer, and how it is read.

An answer has the form in which a person's is saved (docs/study-flow.md), but for `highlight`: models can't count
characters, so they quote the passages, and these are found in the reply.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from model_chat.configuration import study_items as kinds
from model_chat.configuration.study_items import NOT_APPLICABLE, OTHER, Item
from model_chat.conversation.study_answers import check_answers
from model_chat.errors import RefusedError

_LONGEST_TEXT = 400
"""Characters of a text that a judge writes, for estimates."""

Schema = dict[str, Any]


def askable(items: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    """Split items into those that can be asked together, and those that depend on answers to others."""
    asked: list[Item] = []
    left_out: list[Item] = []
    for item in items:
        known = {other.id for other in asked}
        (asked if known.issuperset(item.show_if or ()) else left_out).append(item)
    return asked, left_out


def described(item: Item) -> str:
    """One line of JSON that tells the judge what is asked, and what an answer is."""
    told: dict[str, Any] = {"key": item.id, "question": item.question, "answer": _answer(item)}
    for name in ("low", "high", "options", "rows"):
        if getattr(item, name, None) is not None:
            told[name] = getattr(item, name)
    if item.show_if is not None:
        told["only if"] = item.show_if
    if _may_be_null(item):
        told["null"] = "where it is not asked" if item.required else "where you have no answer"
    return json.dumps(told, ensure_ascii=False)


def _may_be_null(item: Item) -> bool:
    return not item.required or item.show_if is not None


def _answer(item: Item) -> str:
    match item:
        case kinds.ScaleItem():
            return _point(1, item.points, item.not_applicable)
        case kinds.ChoiceItem():
            other = f', or {{"{OTHER}": "a text of your own"}}' if item.other else ""
            return f"a list of those options that apply{other}" if item.many else f"one of the options{other}"
        case kinds.TextItem():
            return f"a text of {item.min_chars} to {item.max_chars} characters"
        case kinds.NumberItem():
            return f"a number{_bounds(item)}"
        case kinds.SliderItem():
            return _point(0, 100, False)
        case kinds.RankingItem():
            return "a list of all options, the best first"
        case kinds.BestWorstItem():
            return 'an object with "best" and "worst", two different options'
        case kinds.MatrixItem():
            return f"an object with every row: {_point(1, item.points, item.not_applicable)}"
        case kinds.HighlightItem():
            return "a list of passages of the reply, each copied from it word for word"
        case _:
            raise TypeError(f"no judge can be asked an item of the kind '{item.kind}'")


def _point(least: int, most: int, not_applicable: bool) -> str:
    beside = f' or "{NOT_APPLICABLE}"' if not_applicable else ""
    return f"a whole number from {least} (low) to {most} (high){beside}"


def _bounds(item: kinds.NumberItem) -> str:
    least = "" if item.min is None else f" from {item.min:g}"
    return least + ("" if item.max is None else f" up to {item.max:g}")


def schema_of(items: Iterable[Item]) -> Schema:
    """The JSON schema of an object with an answer to each item, in the subset that strict schemas allow."""
    properties = {item.id: _nullable(_schema(item)) if _may_be_null(item) else _schema(item) for item in items}
    return closed_object(properties)


def closed_object(properties: Mapping[str, Schema]) -> Schema:
    """The schema of an object with exactly these keys."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def points(least: int, most: int) -> Schema:
    """The schema of a whole number of a range."""
    return {"type": "integer", "enum": list(range(least, most + 1))}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _options(options: Sequence[str]) -> Schema:
    return {"type": "string", "enum": list(options)}


def _scale(most: int, not_applicable: bool) -> Schema:
    scale = points(1, most)
    return {"anyOf": [scale, _options([NOT_APPLICABLE])]} if not_applicable else scale


def _schema(item: Item) -> Schema:
    match item:
        case kinds.ScaleItem():
            return _scale(item.points, item.not_applicable)
        case kinds.ChoiceItem():
            own = closed_object({OTHER: {"type": "string"}})
            one = {"anyOf": [_options(item.options), own]} if item.other else _options(item.options)
            return {"type": "array", "items": one} if item.many else one
        case kinds.NumberItem():
            return {"type": "number"}
        case kinds.SliderItem():
            return {"type": "integer"}
        case kinds.RankingItem():
            return {"type": "array", "items": _options(item.options)}
        case kinds.BestWorstItem():
            return closed_object({"best": _options(item.options), "worst": _options(item.options)})
        case kinds.MatrixItem():
            return closed_object(dict.fromkeys(item.rows, _scale(item.points, item.not_applicable)))
        case kinds.HighlightItem():
            return {"type": "array", "items": {"type": "string"}}
        case _:
            return {"type": "string"}


def read_answers(items: Sequence[Item], given: Mapping[str, Any], reply: str) -> dict[str, Any]:
    """Check a judge's answers as those of a page are checked.

    Args:
        given: untrusted.
        reply: the text of the reply that they are about.

    Returns:
        item -> answer as a person's is saved.

    Raises:
        RefusedError: an answer is missing, is none, or is to an item that was not asked.
    """
    highlights = {item.id for item in items if isinstance(item, kinds.HighlightItem)}
    return check_answers(
        items, {key: _as_sent(key, value, highlights, reply) for key, value in given.items()}, {}, reply
    )


def _as_sent(key: str, value: Any, highlights: Collection[str], reply: str) -> Any:
    """An answer as a page sends it: passages that are quoted become spans of the reply."""
    if key not in highlights or not isinstance(value, list):
        return value
    spans: list[dict[str, int]] = []
    for quote in value:
        start = _free_place(reply, quote, spans) if isinstance(quote, str) and quote.strip() else -1
        if start < 0:
            raise RefusedError("answer_invalid", f'"{key}" quotes what is not in the reply: {json.dumps(quote)[:200]}')
        spans.append({"start": start, "end": start + len(quote)})
    return spans


def _free_place(reply: str, quote: str, spans: Sequence[Mapping[str, int]]) -> int:
    """Where a quote is in the reply, outside all spans so far; -1 where it is not."""
    start = reply.find(quote)
    while start >= 0 and any(start < span["end"] and span["start"] < start + len(quote) for span in spans):
        start = reply.find(quote, start + 1)
    return start


def estimated_characters(items: Iterable[Item]) -> int:
    """About how many characters the answers have, as JSON."""
    count = 0
    for item in items:
        count += len(item.id) + 8
        match item:
            case kinds.TextItem() | kinds.HighlightItem():
                count += min(getattr(item, "max_chars", _LONGEST_TEXT), _LONGEST_TEXT)
            case kinds.RankingItem():
                count += sum(len(option) + 4 for option in item.options)
            case kinds.MatrixItem():
                count += sum(len(row) + 6 for row in item.rows)
            case kinds.ChoiceItem() | kinds.BestWorstItem():
                count += 2 * max(map(len, item.options)) + 20
            case _:
                count += 4
    return count

"""Display names of a study, its boxes and its questions, from the records; files keep the keys."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model_chat.records.legacy import described
from model_chat.records.schema import RATING_SEPARATOR

MOST_DESCRIPTIONS = 100
"""Different descriptions of the task that are looked at; a study has one, or a few when it was changed."""
_MOST_TASKS = 3


class Description(NamedTuple):
    """What one record says of its task; None for what it does not say."""

    task_name: str | None
    annotations_config: str | None
    final_rating_question: str | None


def describe(raw: object) -> Description:
    """Take the description out of a record as it was saved, whatever it contains."""
    name = raw.get("task_name") if isinstance(raw, dict) else None
    texts = name, described(raw, "annotations_config"), described(raw, "final_rating_question")
    return Description(*(text if isinstance(text, str) and text.strip() else None for text in texts))


def merge(counts: Counter[Description], more: Mapping[Description, int]) -> None:
    """Add counts, as long as there are not too many different ones."""
    for description, count in more.items():
        if description in counts or len(counts) < MOST_DESCRIPTIONS:
            counts[description] += count


@dataclass(frozen=True)
class Names:
    """What keys are called.

    Attributes:
        tasks: names of the tasks, the one with the most conversations first.
        buckets: key -> name of the box, for those that have one.
        questions: the final rating questions, in order; empty where the records hold none.
    """

    tasks: Sequence[str] = ()
    buckets: Mapping[str, str] = field(default_factory=dict)
    questions: Sequence[str] = ()

    def title(self, otherwise: str) -> str:
        """The tasks' names, or ``otherwise``."""
        shown = list(self.tasks[:_MOST_TASKS])
        more = len(self.tasks) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "") if shown else otherwise

    def metric(self, name: str) -> str:
        """What a bucket, a rating's column or another metric is called."""
        if name in self.buckets:
            return self.buckets[name]
        if name == "final_rating" and len(self.questions) == 1:
            return self.questions[0]
        number = name.removeprefix("final_rating_")
        if number.isdecimal() and 1 <= int(number) <= len(self.questions):
            return self.questions[int(number) - 1]
        plain = name.replace("_", " ")
        return plain[:1].upper() + plain[1:]


def names_of(descriptions: Mapping[Description, int], questions: int) -> Names:
    """Put together what the records of a corpus say; where they differ, what most of them say.

    Args:
        questions: how many final ratings a conversation has; a description that asks another number is not used.
    """
    tasks: Counter[str] = Counter()
    boxes: dict[str, Counter[str]] = {}
    asked: Counter[tuple[str, ...]] = Counter()
    for description, count in descriptions.items():
        if description.task_name is not None:
            tasks[description.task_name] += count
        for key, name in boxes_of(description.annotations_config):
            boxes.setdefault(key, Counter())[name] += count
        texts = [text.strip() for text in (description.final_rating_question or "").split(RATING_SEPARATOR)]
        if all(texts) and len(texts) == questions:
            asked[tuple(texts)] += count
    return Names(
        tasks=_by_count(tasks),
        buckets={key: _by_count(found)[0] for key, found in boxes.items()},
        questions=_by_count(asked)[0] if asked else (),
    )


def _by_count(counts: Counter[Any]) -> list[Any]:
    """Most first; the same whatever the order of the files."""
    return sorted(counts, key=lambda entry: (-counts[entry], entry))


def boxes_of(text: str | None) -> Iterator[tuple[str, str]]:
    """The boxes of an annotation configuration, in either form; nothing where it is none."""
    try:
        config = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return
    entries = config.get("config") if isinstance(config, dict) else config
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(entries, dict):
        pairs = entries.items()
    elif isinstance(entries, list):
        pairs = ((entry.get("value"), entry) for entry in entries if isinstance(entry, dict))
    for key, entry in pairs:
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(key, str) and isinstance(name, str) and name.strip():
            # The text of a file inside a file may hold half an emoji, which no table can.
            yield key, " ".join(name.encode("utf-8", "replace").decode().split())

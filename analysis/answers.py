"""Answers to the items of study flows, as they are read from saved conversations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from model_chat.analysis.frames import columns
from model_chat.analysis.parts import WHOLE
from model_chat.errors import ConfigurationError
from model_chat.records.legacy import described

if TYPE_CHECKING:  # what reads study flows takes long to import, and is imported where there is one
    from model_chat.configuration.study_flow import StudyFlow
    from model_chat.configuration.study_items import Item

MOST_LEVELS = 50
"""Values of an item that results are split by; a number that everybody answers otherwise is nothing to split by."""
ITEM_COLUMNS = columns("page item kind question aspect measure model_nickname value se low high answers workers")
ANSWER_COLUMNS = columns("conversation_idx worker_id model_nickname page item utterance_idx value")
SPLIT_COLUMNS = columns("by level model_nickname metric aspect measure value se low high total conversations workers")


class Given(NamedTuple):
    """One answer.

    Attributes:
        utterance_idx: of the reply that it is about, or None.
        part: number of the part of the conversation that the reply belongs to, -1 for the whole
            (:mod:`model_chat.analysis.parts`).
    """

    conversation: int
    page: str
    item: str
    utterance_idx: int | None
    value: Any
    part: int = WHOLE


def flow_text_of(raw: object) -> str | None:
    """The study flow's text in a saved conversation, None without one."""
    text = described(raw, "study_flow")
    return text if isinstance(text, str) else None


def answers_in(raw: object, conversation: int, row_parts: Sequence[int] = ()) -> list[Given]:
    """The answers in a saved conversation; what is malformed is left out.

    Args:
        row_parts: of each utterance, the number of its part.
    """
    entries = raw.get("answers") if isinstance(raw, Mapping) else None
    given = []
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping) or entry.get("value") is None:
            continue
        page, item, utterance = entry.get("page"), entry.get("item"), entry.get("utterance_idx")
        if isinstance(page, str) and isinstance(item, str):
            about = utterance if type(utterance) is int and 0 <= utterance < 2**31 else None
            part = row_parts[about] if about is not None and about < len(row_parts) else WHOLE
            given.append(Given(conversation, page, item, about, entry["value"], part))
    return given


def value_text(value: Any) -> str:
    """An answer for a table: text as it is, ``many`` options joined by ``; ``, anything else as JSON."""
    from model_chat.configuration.study_items import OTHER

    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and value.keys() == {OTHER}:
        return f"{OTHER}: {value[OTHER]}"
    if isinstance(value, list) and all(
        isinstance(entry, str) or (isinstance(entry, Mapping) and entry.keys() == {OTHER}) for entry in value
    ):
        return "; ".join(map(value_text, value))
    return json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=64)
def _parsed(text: str) -> StudyFlow | None:
    from model_chat.configuration.study_flow import parse_study_flow

    try:
        return parse_study_flow("study_flow", "of a conversation", text)
    except ConfigurationError:
        return None  # of another version; the answers stay in the table of answers


@dataclass
class Asked:
    """One item, as the flows of the conversations have it.

    Attributes:
        item: the item; of several versions of it, the one that most conversations have.
        of_reply: `every_reply`, `last_reply`, or None where it is about no reply.
    """

    page: str
    item: Item
    is_before: bool
    of_reply: str | None


@dataclass
class Answers:
    """All answers of the conversations that count."""

    given: list[Given] = field(default_factory=list)
    flows: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.flows)

    def asked(self) -> list[Asked]:
        """The items, in the order of the flow that most conversations have; those of other flows follow."""
        found: dict[tuple[str, str], Asked] = {}
        for text, _ in self.flows.most_common():
            flow = _parsed(text)
            if flow is None:
                continue
            every = {item.id for item in flow.chat.every_reply}
            for index, page in enumerate(flow.pages):
                for item in page.all_items:
                    of_reply = None
                    if page is flow.chat:
                        of_reply = "every_reply" if item.id in every else "last_reply"
                    found.setdefault((page.id, item.id), Asked(page.id, item, index < flow.chat_idx, of_reply))
        return list(found.values())

    @cached_property
    def _by_item(self) -> dict[tuple[str, str], list[Given]]:
        found: dict[tuple[str, str], list[Given]] = {}
        for given in self.given:
            found.setdefault((given.page, given.item), []).append(given)
        return found

    def of(self, page: str, item: str) -> list[Given]:
        """The answers to one item. Asked once everything has been added."""
        return self._by_item.get((page, item), [])

    def column(self, item: str, conversations: int) -> list[str | None] | None:
        """The answer of each conversation to an item from before the chat, as text.

        Returns:
            None where no flow asks it before the chat.
        """
        asked = next((asked for asked in self.asked() if asked.item.id == item and asked.is_before), None)
        if asked is None:
            return None
        column: list[str | None] = [None] * conversations
        for given in self.of(asked.page, item):
            column[given.conversation] = value_text(given.value)
        return column

    def columns(self) -> list[str]:
        """The items from before the chat."""
        from model_chat.configuration.study_flow import CONSENT

        return [asked.item.id for asked in self.asked() if asked.is_before and asked.item.id != CONSENT]

    def add(self, given: Iterable[Given], flows: Mapping[str, int], numbers: Sequence[int]) -> None:
        """Add those of a chunk.

        Args:
            given: with the conversations' positions in the chunk.
            numbers: by position, the conversation's number among all that count; negative: it does not.
        """
        self.given += [
            one._replace(conversation=int(numbers[one.conversation])) for one in given if numbers[one.conversation] >= 0
        ]
        self.flows.update(flows)

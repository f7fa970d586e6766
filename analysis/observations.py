"""What people answered about the same reply or conversation: the final ratings, and the items of a study flow.

An answer about a reply is known by the reply with everything that was said before it, one about a conversation by the whole
dialogue, as in :mod:`model_chat.analysis.agreement`. Items from before the chat are left out, for they are about the person,
and so are free texts, which no number compares.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_chat.analysis.answers import Asked
from model_chat.analysis.arrays import Data
from model_chat.analysis.chunks import CONTEXT_TURN
from model_chat.analysis.estimates import Floats
from model_chat.analysis.items import RATE, Aspect, aspects_of
from model_chat.analysis.majority import annotated_replies
from model_chat.configuration.study_items import HighlightItem, TextItem
from model_chat.records.schema import MODEL_IDX

ITEM, RATING = "item", "rating"


@dataclass(frozen=True)
class Observations:
    """One quantity that people judged.

    Attributes:
        name: the rating, or the item with its aspect.
        kind: :data:`RATING` or :data:`ITEM`.
        is_ordered: whether values have an order; without, they are 0 and 1.
        asked, aspect: of an item.
        values, items, records: an answer each: its number, what it is about, and the record that has it.
        length: characters of the reply, or of all replies of the conversation.
        position: of the reply, from 1; all 1 for conversations.
    """

    name: str
    kind: str
    is_ordered: bool
    of_reply: bool
    values: Floats
    items: NDArray[np.int64]
    records: NDArray[np.int64]
    length: Floats
    position: Floats
    asked: Asked | None = None
    aspect: Aspect | None = None
    question: int = 0

    def value_of(self, answers: Mapping[str, Any]) -> float | None:
        """The number that answers to items stand for; None where this one is not answered."""
        if self.asked is None or self.aspect is None:
            return None
        return value_of(self.asked, self.aspect, answers.get(self.asked.item.id))


def value_of(asked: Asked, aspect: Aspect, answer: Any) -> float | None:
    """The number that an answer stands for; whoever marks nothing has answered, too."""
    if answer is None:
        return 0.0 if isinstance(asked.item, HighlightItem) else None
    return aspect.of(answer)


@dataclass(frozen=True, slots=True)
class _Reply:
    item: int
    length: int
    position: int


def rating_observations(data: Data) -> Iterator[Observations]:
    """The final ratings, a question each."""
    if not data.ratings.shape[1]:
        return
    dialogs = _dialogs(data)
    lengths = _reply_characters(data)
    for question in range(data.ratings.shape[1]):
        rows = np.flatnonzero(np.isfinite(data.ratings[:, question]))
        yield Observations(
            name=data.rating_names[question],
            kind=RATING,
            is_ordered=True,
            of_reply=False,
            values=data.ratings[rows, question],
            items=dialogs[rows],
            records=rows,
            length=lengths[rows],
            position=np.ones(len(rows)),
            question=question,
        )


def item_observations(data: Data) -> Iterator[Observations]:
    """The items, an aspect each, in the order of the flow."""
    answers = data.corpus.answers
    asked_items = [asked for asked in answers.asked() if not asked.is_before and not isinstance(asked.item, TextItem)]
    if not asked_items:
        return
    dialogs, lengths = _dialogs(data), _reply_characters(data)
    given: dict[int, dict[tuple[int, int], Any]] = {}
    """Which item -> record, reply -> answer; the reply is -1 for an answer about the conversation."""
    places: set[tuple[int, int]] = set()
    for number, asked in enumerate(asked_items):
        of_reply = asked.of_reply is not None
        given[number] = {
            (one.conversation, one.utterance_idx if of_reply and one.utterance_idx is not None else -1): one.value
            for one in answers.of(asked.page, asked.item.id)
            if not of_reply or one.utterance_idx is not None
        }
        if asked.of_reply is not None:
            places |= given[number].keys()
    looked_at = places | set(annotated_replies(data))
    replies = _replies(data, looked_at)
    for number, asked in enumerate(asked_items):
        keys = list(given[number])
        if isinstance(asked.item, HighlightItem):
            records = {record for record, _ in places}
            keys = sorted({*keys, *(key for key in looked_at if key[0] in records and asked.of_reply == "every_reply")})
        if asked.of_reply is not None:
            keys = [key for key in keys if key in replies]
        rows = np.array([record for record, _ in keys], dtype=np.int64)
        if asked.of_reply is None:
            items, length, position = dialogs[rows], lengths[rows], np.ones(len(rows))
        else:
            found = [replies[key] for key in keys]
            items = np.array([reply.item for reply in found], dtype=np.int64)
            length = np.array([reply.length for reply in found], dtype=np.float64)
            position = np.array([reply.position for reply in found], dtype=np.float64)
        for aspect in aspects_of(asked.item):
            values = [value_of(asked, aspect, given[number].get(key)) for key in keys]
            known = np.array([value is not None for value in values], dtype=bool)
            yield Observations(
                name=asked.item.id + (f": {aspect.name}" if aspect.name else ""),
                kind=ITEM,
                is_ordered=aspect.measure != RATE,
                of_reply=asked.of_reply is not None,
                values=np.array([value for value in values if value is not None], dtype=np.float64),
                items=items[known],
                records=rows[known],
                length=length[known],
                position=position[known],
                asked=asked,
                aspect=aspect,
            )


def _dialogs(data: Data) -> NDArray[np.int64]:
    return np.asarray(data.corpus.conversations["dialog_hash"].to_numpy(), dtype=np.int64)


def _reply_characters(data: Data) -> Floats:
    """Characters of all that the model said, a number a record."""
    found = np.zeros(data.count)
    for batch in data.corpus.utterances():
        turns = batch["turn_idx"].to_numpy()
        own = (batch["agent_idx"].to_numpy() == MODEL_IDX) & (turns != CONTEXT_TURN)
        texts = batch["text"].filter(own).to_pylist()
        np.add.at(found, batch["conversation"].to_numpy()[own], [len(text) for text in texts])
    return found


def _replies(data: Data, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], _Reply]:
    """What is known of replies, each given by record and position in its dialogue."""
    of_record: dict[int, set[int]] = defaultdict(set)
    for record, place in wanted:
        of_record[record].add(place)
    if not of_record:
        return {}
    names = data.corpus.conversations["model_nickname"].to_pylist()
    chosen = np.zeros(data.count, dtype=bool)
    chosen[list(of_record)] = True
    found: dict[tuple[int, int], _Reply] = {}
    history, position = hashlib.blake2b(digest_size=8), 0
    for batch in data.corpus.utterances():
        for row in batch.filter(chosen[batch["conversation"].to_numpy()]).to_pylist():
            record, place, text = row["conversation"], row["turn_idx"], row["text"]
            if place == CONTEXT_TURN:  # as model_chat.analysis.measures does
                history, position = hashlib.blake2b(f"{names[record]}\0{text}\0".encode(), digest_size=8), 0
                continue
            history.update(f"{row['agent_idx']}{text}\0".encode())
            position += row["agent_idx"] == MODEL_IDX
            if place in of_record[record]:
                item = int.from_bytes(history.digest(), "big", signed=True)
                found[record, place] = _Reply(item, len(text), position)
    return found

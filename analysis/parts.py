"""What belongs to each model in a conversation in which two were compared: its replies, or its chat.

Such a conversation has the nickname of the pair, ``a|b``. Where replies were compared (`per_turn`), each model's part is
what it said in the dialogue; the worker wrote to both, so the worker's messages and the final ratings belong to the pair.
Where whole chats were compared (`paired`), each model's part is its chat, the worker's messages included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from model_chat.configuration.comparison import models_of
from model_chat.records.reading import ReadConversation
from model_chat.records.schema import MODEL_IDX

WHOLE = -1
"""In place of the number of a part: what belongs to the conversation as a whole."""
PART_COUNTS = ("human_utterances", "human_words", "human_questions", "model_utterances")
"""Counts of a part that are also counted of the conversation."""
PART_SCHEMA = pa.schema(
    [
        ("conversation", pa.int32()),
        ("model_nickname", pa.string()),
        ("is_chat", pa.bool_()),
        *((name, pa.int32()) for name in PART_COUNTS),
        ("last_replies", pa.int32()),
    ]
)
"""A row a part; `conversation` is the position of the conversation."""


@dataclass(slots=True)
class Part:
    """One model's part of a conversation.

    Attributes:
        model_nickname: whose it is.
        is_chat: whether it is a chat, with the worker's messages; else the model's replies alone.
        human_utterances, human_words, human_questions, model_utterances: counted as in the conversation.
        last_replies: 1 if the last reply of the conversation, or of the chat, is in it.
    """

    model_nickname: str
    is_chat: bool
    human_utterances: int = 0
    human_words: int = 0
    human_questions: int = 0
    model_utterances: int = 0
    last_replies: int = 0


def parts_of(conversation: ReadConversation) -> tuple[list[Part], list[int]]:
    """Divide a conversation between the models that were compared in it.

    Returns:
        the parts, nothing counted yet, and for each utterance the number of its part, or :data:`WHOLE`. There are no parts
        where one model talked.
    """
    dialog = conversation.dialog
    if conversation.comparisons is None:
        return [], [WHOLE] * len(dialog)
    pair = models_of(conversation.model_nickname)
    chats = sorted({line.chat_idx for line in dialog if line.chat_idx is not None})
    if chats:
        parts = [Part(_speaker_of_chat(conversation, chat, pair), is_chat=True) for chat in chats]
        return parts, [WHOLE if line.chat_idx is None else chats.index(line.chat_idx) for line in dialog]
    named = [line.model_nickname if line.agent_idx == MODEL_IDX else None for line in dialog]
    models = list(dict.fromkeys([*(pair if len(pair) > 1 else ()), *filter(None, named)]))
    numbers = {model: number for number, model in enumerate(models)}
    return [Part(model, is_chat=False) for model in models], [numbers.get(name or "", WHOLE) for name in named]


def _speaker_of_chat(conversation: ReadConversation, chat: int, pair: Sequence[str]) -> str:
    """The model of a chat; in an incomplete one it may have said nothing."""
    speakers: dict[int, str] = {}
    for line in conversation.dialog:
        if line.agent_idx == MODEL_IDX and line.chat_idx is not None and line.model_nickname is not None:
            speakers.setdefault(line.chat_idx, line.model_nickname)
    if chat in speakers:
        return speakers[chat]
    for judged in conversation.comparisons or ():
        if judged.turn_idx is None:  # the first chat is on the left
            return (judged.left if chat == 0 else judged.right).model_nickname
    others = [model for model in pair if model not in speakers.values()]
    return others[0] if len(others) == 1 else conversation.model_nickname


class PartRows:
    """Fills the columns of :data:`PART_SCHEMA`."""

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []

    def add(self, position: int, parts: Sequence[Part]) -> None:
        """Add the parts of a conversation; ``position`` is its number."""
        for part in parts:
            counts = (getattr(part, name) for name in PART_COUNTS)
            self._rows.append((position, part.model_nickname, part.is_chat, *counts, part.last_replies))

    def batch(self) -> pa.RecordBatch:
        """Return what has been added."""
        return batch_of(self._rows, PART_SCHEMA)


def batch_of(rows: Sequence[Sequence[object]], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as a batch of a schema's columns."""
    by_column = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(list(values), kind.type) for values, kind in zip(by_column, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

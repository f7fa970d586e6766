"""Judgements of two replies, out of the records: a row a judgement."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from model_chat.analysis.parts import batch_of
from model_chat.records.reading import ReadConversation

JUDGEMENT_SCHEMA = pa.schema(
    [
        ("conversation", pa.int32()),
        ("turn_idx", pa.int32()),
        ("utterance_idx", pa.int32()),
        ("question", pa.string()),
        ("left", pa.string()),
        ("right", pa.string()),
        ("pick", pa.string()),
        ("strength", pa.int8()),
        ("reason", pa.string()),
        ("left_characters", pa.int32()),
        ("right_characters", pa.int32()),
        ("left_marks", pa.int32()),
        ("right_marks", pa.int32()),
        ("continued_with", pa.string()),
        ("left_text", pa.string()),
        ("right_text", pa.string()),
        ("left_ticked", pa.list_(pa.string())),
        ("right_ticked", pa.list_(pa.string())),
    ]
)
"""`conversation` is the position of the conversation; `turn_idx` is null, as are characters, marks and texts, where whole
conversations were compared; `utterance_idx` is the place in the dialogue of the reply of that exchange, null where there is
none; `question` is null where replies were; `marks` are counted by :func:`count_marks`;
`left_ticked` and `right_ticked` are the boxes of each reply, null where boxes were not ticked for both."""

_MARK = re.compile(
    r"^\s{0,3}#{1,6}\s"  # a heading
    r"|^\s*(?:[-*+]|\d{1,9}[.)])\s"  # an entry of a list
    r"|^\s*(?:```|~~~)"  # a line that begins or ends a block of code
    r"|(?<![\w*])\*\*(?=[^\s*])",  # the beginning of strong emphasis
    re.MULTILINE,
)


def count_marks(text: str) -> int:
    """Count the Markdown marks of a reply: headings, entries of lists, strong emphasis, fences of code.

    The idea, and the first three kinds, are those of the style control of Chatbot Arena (Li, Angelopoulos & Chiang 2024,
    "Does style matter? Disentangling style and substance in Chatbot Arena", LMSYS blog).
    """
    return sum(1 for _ in _MARK.finditer(text))


def _ticked(data: dict[str, Any] | None) -> list[str] | None:
    return None if data is None else [bucket for bucket, value in data.items() if value is True]


class JudgementRows:
    """Fills the columns of :data:`JUDGEMENT_SCHEMA`."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def add(self, position: int, conversation: ReadConversation) -> None:
        """Add the judgements of a conversation that passed; ``position`` is its number."""
        if not conversation.comparisons:
            return
        places = {exchange: place for place, exchange in conversation.exchanges().items()}
        for judged in conversation.comparisons:
            texts = judged.left.text, judged.right.text
            self._rows.append(
                (
                    position,
                    judged.turn_idx,
                    None if judged.turn_idx is None else places.get(judged.turn_idx),
                    judged.question,
                    judged.left.model_nickname,
                    judged.right.model_nickname,
                    judged.pick.value,
                    judged.strength,
                    judged.reason,
                    *(None if text is None else len(text) for text in texts),
                    *(None if text is None else count_marks(text) for text in texts),
                    judged.continued_with,
                    *texts,
                    *(_ticked(reply.problem_data) for reply in (judged.left, judged.right)),
                )
            )

    def batch(self) -> pa.RecordBatch:
        """Return what has been added."""
        return batch_of(self._rows, JUDGEMENT_SCHEMA)

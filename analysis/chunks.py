"""Column builders for a chunk of conversations."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from model_chat.analysis.answers import Given, answers_in, flow_text_of
from model_chat.analysis.exclusions import Exclusion
from model_chat.analysis.generations import ConversationGenerations
from model_chat.analysis.judgements import JudgementRows
from model_chat.analysis.measures import Measures, context_text
from model_chat.analysis.naming import Description, describe, merge
from model_chat.analysis.parts import WHOLE, PartRows, batch_of
from model_chat.analysis.settings import Settings
from model_chat.analysis.signals import COLUMNS, columns_of
from model_chat.records.reading import ReadConversation, Source
from model_chat.records.schema import MODEL_IDX

CONTEXT_TURN = -1
"""`turn_idx` of the row with the model's persona and context."""
_ARROW_TYPES: Mapping[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


@dataclass(slots=True)
class Chunk:
    """What a chunk of sources became.

    Attributes:
        utterances: a row an utterance, the context row first; `conversation` is the position in ``conversations``.
        conversations: a row a conversation that passed.
        turns: a row an annotated model message: `conversation`, `exchange` (0-based), `history` (what was judged),
            `offers_good` (whether there was a box `none_all_good`), `part` (the number of its part of the conversation, -1
            where there are none), `turn_idx` (that of its row in ``utterances``; `NOT_SAID` for a reply without one, see
            :class:`~model_chat.analysis.measures.Measures`).
        labels: ticks of those messages, one column a bucket.
        candidates: the conversations that the rules about several conversations are applied to, in order: the content of
            each, for telling duplicates, and its exclusion if a later rule has already left it out
            (:meth:`ChunkBuilder.add_excluded`).
        generations: what is known of the replies of every conversation that could be read, those in ``excluded`` included.
        judgements: a row a judgement of two replies; `conversation` is the position in ``conversations``.
        parts: a row a part of a conversation of two compared models (:mod:`model_chat.analysis.parts`); the same.
        answers: to the items of study flows, with positions in ``conversations``.
    """

    utterances: pa.RecordBatch
    conversations: pa.RecordBatch
    turns: np.ndarray
    labels: np.ndarray
    excluded: list[Exclusion]
    unknown_labels: dict[str, int]
    candidates: list[tuple[bytes, Exclusion | None]]
    generations: list[ConversationGenerations]
    descriptions: Counter[Description]
    judgements: pa.RecordBatch
    parts: pa.RecordBatch
    answers: list[Given]
    flows: Counter[str]


TURN_DTYPE = np.dtype(
    [
        ("conversation", np.int32),
        ("part", np.int32),
        ("exchange", np.int32),
        ("history", np.int64),
        ("offers_good", np.bool_),
        ("turn_idx", np.int32),
    ]
)


def utterance_schema(settings: Settings, extra_columns: Mapping[str, type]) -> pa.Schema:
    """Columns of :attr:`Chunk.utterances`."""
    return pa.schema(
        [
            ("conversation", pa.int32()),
            ("turn_idx", pa.int32()),
            ("agent_idx", pa.int8()),
            ("text", pa.string()),
            ("rated", pa.bool_()),
            ("part", pa.int32()),
            *((bucket, pa.bool_()) for bucket in settings.problem_buckets),
            *((name, _ARROW_TYPES[kind]) for name, kind in extra_columns.items()),
        ]
    )


CONVERSATION_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("folder", pa.string()),
        ("worker_id", pa.string()),
        ("hit_id", pa.string()),
        ("model_nickname", pa.string()),
        ("ratings", pa.list_(pa.int8())),
        ("human_utterances", pa.int32()),
        ("human_words", pa.int32()),
        ("human_questions", pa.int32()),
        ("model_utterances", pa.int32()),
        ("annotated_utterances", pa.int32()),
        ("median_seconds", pa.float64()),
        ("violation", pa.string()),
        ("ending", pa.string()),
        ("day", pa.date32()),
        ("dialog_hash", pa.int64()),
        ("conditions", pa.string()),
        ("judged", pa.string()),
        *COLUMNS,
        ("reply_hash", pa.int64()),
    ]
)


class ChunkBuilder:
    """Fills the columns of a :class:`Chunk`."""

    def __init__(self, settings: Settings, extra_columns: Mapping[str, type]) -> None:
        self.excluded: list[Exclusion] = []
        self.generations: list[ConversationGenerations] = []
        self.unknown_labels: dict[str, int] = {}
        self._buckets = settings.problem_buckets
        self._extra = tuple(extra_columns)
        self._schema = utterance_schema(settings, extra_columns)
        self._candidates: list[tuple[bytes, Exclusion | None]] = []
        self._descriptions: Counter[Description] = Counter()
        self._answers: list[Given] = []
        self._flows: Counter[str] = Counter()
        self._conversations: list[tuple[Any, ...]] = []
        self._judgements = JudgementRows()
        self._parts = PartRows()
        self._row_conversation, self._row_turn, self._row_agent = array("i"), array("i"), array("b")
        self._row_text: list[str] = []
        self._row_rated: list[bool] = []
        self._row_part = array("i")
        self._row_ticks: list[tuple[bool, ...] | None] = []
        self._row_extra: dict[str, list[Any]] = {name: [] for name in self._extra}
        self._turn_conversation, self._turn_part, self._turn_exchange = array("i"), array("i"), array("i")
        self._turn_row = array("i")
        self._turn_history: list[bytes] = []
        self._turn_offers_good: list[bool] = []
        self._turn_ticks: list[tuple[bool, ...]] = []

    def add(
        self,
        source: Source,
        conversation: ReadConversation,
        measures: Measures,
        extras: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Add a conversation that passed.

        Args:
            extras: values of the extra columns, a row each, that of the context first; none without such columns.
        """
        position = len(self._conversations)
        self._conversations.append(
            (
                source.name,
                source.folder,
                conversation.worker_id,
                conversation.hit_id,
                conversation.model_nickname,
                conversation.ratings,
                measures.human_utterances,
                measures.human_words,
                measures.human_questions,
                measures.model_utterances,
                len(measures.ticks),
                measures.median_seconds,
                conversation.acceptability_violation,
                conversation.ending,
                source.day,
                int.from_bytes(measures.dialog_hash, "big", signed=True),
                None if conversation.conditions is None else orjson.dumps(conversation.conditions).decode(),
                None if conversation.judged_conversation is None else conversation.judged_conversation.sha256,
                *columns_of(conversation.raw),
                int.from_bytes(measures.reply_hash, "big", signed=True),
            )
        )
        self._candidates.append((measures.digest, None))
        merge(self._descriptions, {describe(conversation.raw): 1})
        self._judgements.add(position, conversation)
        self._parts.add(position, measures.parts)
        flow = flow_text_of(conversation.raw)
        if flow is not None:
            self._flows[flow] += 1
            self._answers += answers_in(conversation.raw, position, measures.row_parts)
        rows = len(conversation.dialog) + 1
        self._row_conversation.extend([position] * rows)
        self._row_turn.extend(range(CONTEXT_TURN, rows - 1))
        self._row_agent.append(MODEL_IDX)
        self._row_text.append(context_text(conversation))
        for utterance in conversation.dialog:
            self._row_agent.append(utterance.agent_idx)
            self._row_text.append(utterance.text)
        rated = [False] * rows
        rated[measures.last_model_row + 1] = True
        self._row_rated += rated
        self._row_part.append(WHOLE)
        self._row_part.extend(measures.row_parts)
        self._row_ticks.append(None)
        self._row_ticks += measures.rows
        for values in extras:
            for name in self._extra:
                self._row_extra[name].append(values.get(name))
        self._turn_conversation.extend([position] * len(measures.ticks))
        self._turn_part.extend(measures.turn_parts)
        self._turn_row.extend(measures.turn_rows)
        self._turn_exchange.extend(measures.exchanges)
        self._turn_history += measures.histories
        self._turn_offers_good += measures.offers_good
        self._turn_ticks += measures.ticks

    def add_excluded(self, exclusion: Exclusion, digest: bytes) -> None:
        """Add a conversation that did not pass but counts against the limit of its worker (`--as-original`)."""
        self._candidates.append((digest, exclusion))

    def chunk(self) -> Chunk:
        """Return what has been added."""
        return Chunk(
            utterances=self._utterances(),
            conversations=batch_of(self._conversations, CONVERSATION_SCHEMA),
            turns=self._turns(),
            labels=np.array(self._turn_ticks, dtype=bool).reshape(len(self._turn_ticks), len(self._buckets)),
            excluded=self.excluded,
            unknown_labels=self.unknown_labels,
            candidates=self._candidates,
            generations=self.generations,
            descriptions=self._descriptions,
            judgements=self._judgements.batch(),
            parts=self._parts.batch(),
            answers=self._answers,
            flows=self._flows,
        )

    def _utterances(self) -> pa.RecordBatch:
        columns: list[pa.Array] = [
            pa.array(np.frombuffer(self._row_conversation, np.int32) if self._row_conversation else [], pa.int32()),
            pa.array(np.frombuffer(self._row_turn, np.int32) if self._row_turn else [], pa.int32()),
            pa.array(np.frombuffer(self._row_agent, np.int8) if self._row_agent else [], pa.int8()),
            pa.array(self._row_text, pa.string()),
            pa.array(self._row_rated, pa.bool_()),
            pa.array(np.frombuffer(self._row_part, np.int32) if self._row_part else [], pa.int32()),
        ]
        absent = np.array([ticks is None for ticks in self._row_ticks], dtype=bool)
        blank = (False,) * len(self._buckets)
        ticked = np.array([blank if ticks is None else ticks for ticks in self._row_ticks], dtype=bool)
        ticked = ticked.reshape(len(self._row_ticks), len(self._buckets))
        columns += [pa.array(ticked[:, i], pa.bool_(), mask=absent) for i in range(len(self._buckets))]
        columns += [pa.array(self._row_extra[name], self._schema.field(name).type) for name in self._extra]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _turns(self) -> np.ndarray:
        turns = np.zeros(len(self._turn_ticks), TURN_DTYPE)
        if self._turn_ticks:
            turns["conversation"] = np.frombuffer(self._turn_conversation, np.int32)
            turns["part"] = np.frombuffer(self._turn_part, np.int32)
            turns["exchange"] = np.frombuffer(self._turn_exchange, np.int32)
            turns["history"] = np.frombuffer(b"".join(self._turn_history), ">i8")
            turns["offers_good"] = self._turn_offers_good
            turns["turn_idx"] = np.frombuffer(self._turn_row, np.int32)
        return turns

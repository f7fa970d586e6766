"""From one conversation to rows: what runs once a conversation, on any process or machine.

A :class:`RowBuilder` takes a chunk of sources and gives back a :class:`Chunk`: columns for the conversations that pass
every rule which looks at one conversation alone, and an :class:`Exclusion` for each that does not. Rules that need to
know the others (duplicates, the worker limit) are in :mod:`model_chat.analysis.collect`.
"""

from __future__ import annotations

import hashlib
import re
import statistics
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from model_chat.analysis.settings import Settings
from model_chat.records.reading import (
    ReadConversation,
    ReadingReason,
    ReadUtterance,
    Source,
    UnreadableError,
    read_conversation,
)
from model_chat.records.schema import HUMAN_IDX, MODEL_IDX, NONE_ALL_GOOD, Completion

CONTEXT_TURN = -1
"""`turn_idx` of the row with the model's persona and context."""
_QUESTION = re.compile(r"[?？؟]+")
_ARROW_TYPES: Mapping[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
_MIN_TURNS_TO_BE_UNIFORM = 2
_TICKS = frozenset({bool, type(None)})


class ExclusionReason(StrEnum):
    """Why a conversation was left out, in the order in which the rules are asked; the first that fits is named."""

    BEFORE_START_DATE = "before_start_date"
    OTHER_RUN_TYPE = "other_run_type"
    MEPHISTO_STATUS = "mephisto_status"
    UNREADABLE = "unreadable"
    MALFORMED = "malformed"
    NO_CONVERSATION = "no_conversation"
    INCOMPLETE = "incomplete"
    BLOCKED_HIT = "blocked_hit"
    BLOCKED_WORKER = "blocked_worker"
    OWN_RULE = "own_rule"
    ACCEPTABILITY = "acceptability_violation"
    TOO_SHORT = "too_short"
    UNIFORM_LABELS = "uniform_labels"
    TOO_FAST = "too_fast"
    DUPLICATE = "duplicate"
    OVER_WORKER_LIMIT = "over_worker_limit"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One conversation that was left out, and why."""

    source: str
    reason: ExclusionReason
    detail: str = ""
    worker_id: str | None = None
    hit_id: str | None = None
    model_nickname: str | None = None


class Hooks(Protocol):
    """What a subclass of the compiler adds (see :class:`model_chat.analysis.compiler.ModelChatResultsCompiler`)."""

    extra_columns: Mapping[str, type]

    def reject(self, conversation: ReadConversation) -> str | None:
        """Say why a conversation does not count, or None."""

    def row_columns(
        self, conversation: ReadConversation, utterance: ReadUtterance | None, turn_idx: int
    ) -> Mapping[str, Any]:
        """Give the values of :attr:`extra_columns` for one row."""


@dataclass(slots=True)
class Chunk:
    """What a chunk of sources became.

    Attributes:
        utterances: a row an utterance, the context row first; `conversation` is the position in ``conversations``.
        conversations: a row a conversation that passed.
        turns: a row an annotated model message: `conversation`, `exchange` (0-based), `history` (what was judged).
        labels: ticks of those messages, one column a bucket.
        excluded: the rest.
        unknown_labels: ticks of buckets that nobody asked for, by name.
        digests: content of each conversation and of those excluded by Mephisto's status, for telling duplicates.
    """

    utterances: pa.RecordBatch
    conversations: pa.RecordBatch
    turns: np.ndarray
    labels: np.ndarray
    excluded: list[Exclusion]
    unknown_labels: dict[str, int]
    digests: list[bytes]


TURN_DTYPE = np.dtype([("conversation", np.int32), ("exchange", np.int32), ("history", np.int64)])


def utterance_schema(settings: Settings, extra_columns: Mapping[str, type]) -> pa.Schema:
    """Columns of :attr:`Chunk.utterances`."""
    return pa.schema(
        [
            ("conversation", pa.int32()),
            ("turn_idx", pa.int32()),
            ("agent_idx", pa.int8()),
            ("text", pa.string()),
            ("rated", pa.bool_()),
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
        ("day", pa.date32()),
        ("dialog_hash", pa.int64()),
    ]
)


@dataclass(slots=True)
class _Measures:
    """What is counted while walking through one dialogue."""

    human_utterances: int = 0
    human_words: int = 0
    human_questions: int = 0
    model_utterances: int = 0
    seconds: list[float] = field(default_factory=list)
    ticks: list[tuple[bool, ...]] = field(default_factory=list)
    exchanges: list[int] = field(default_factory=list)
    histories: list[bytes] = field(default_factory=list)
    rows: list[tuple[bool, ...] | None] = field(default_factory=list)
    last_model_row: int = -1
    digest: bytes = b""
    dialog_hash: bytes = b""

    @property
    def mean_words(self) -> float:
        return self.human_words / self.human_utterances if self.human_utterances else 0.0

    @property
    def median_seconds(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None


def is_own(utterance: ReadUtterance) -> bool:
    """Whether the speaker really wrote it (it was not only shown as already said)."""
    return not utterance.fake_start


def context_text(conversation: ReadConversation) -> str:
    """The text of the context row: the model's persona lines, the topic or further context, the image's number."""
    lines: list[str] = []
    if conversation.personas:
        for line in conversation.personas[-1]:
            lines.append(line if line.startswith("your persona:") else f"your persona: {line}")
    if conversation.additional_context:
        lines.append(conversation.additional_context)
    if conversation.image_idx is not None:
        lines.append(f"image: {conversation.image_idx}")
    return "\n".join(lines)


class RowBuilder:
    """Turns chunks of sources into columns; picklable as far as its hooks are.

    Args:
        settings: the run's settings.
        hooks: the compiler, for its own columns and rules.
    """

    def __init__(self, settings: Settings, hooks: Hooks) -> None:
        self.settings = settings
        self.hooks = hooks
        self._problems = tuple(i for i, bucket in enumerate(settings.problem_buckets) if bucket != NONE_ALL_GOOD)
        self._known = frozenset(settings.problem_buckets)

    def __call__(self, sources: Sequence[Source]) -> Chunk:
        """Read and convert ``sources``. One bad file never stops the others."""
        settings = self.settings
        buckets = settings.problem_buckets
        extra = tuple(self.hooks.extra_columns)
        excluded: list[Exclusion] = []
        unknown: dict[str, int] = {}
        digests: list[bytes] = []
        conversations: list[tuple[Any, ...]] = []
        row_conversation, row_turn, row_agent = array("i"), array("i"), array("b")
        row_text: list[str] = []
        row_rated: list[bool] = []
        row_ticks: list[tuple[bool, ...] | None] = []
        row_extra: dict[str, list[Any]] = {name: [] for name in extra}
        turn_conversation, turn_exchange = array("i"), array("i")
        turn_history: list[bytes] = []
        turn_ticks: list[tuple[bool, ...]] = []

        for source in sources:
            try:
                conversation = read_conversation(source)
                measures = self._measure(conversation, unknown)
            except UnreadableError as error:
                excluded.append(
                    Exclusion(source.name, ExclusionReason(error.reason.value), error.detail, source.worker_id)
                )
                continue
            except Exception as error:  # whatever a file manages to break must not cost the other files
                detail = f"reading failed with {type(error).__name__}: {error}"
                excluded.append(Exclusion(source.name, ExclusionReason.MALFORMED, detail, source.worker_id))
                continue
            reason, detail = self._rejection(conversation, measures)
            if reason is not None:
                excluded.append(_excluded(source, conversation, reason, detail))
                continue
            try:
                extras = self._extras(conversation) if extra else ()
            except _HookError as error:
                excluded.append(_excluded(source, conversation, ExclusionReason.OWN_RULE, str(error)))
                continue
            position = len(conversations)
            conversations.append(
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
                    source.day,
                    int.from_bytes(measures.dialog_hash, "big", signed=True),
                )
            )
            digests.append(measures.digest)
            rows = len(conversation.dialog) + 1
            row_conversation.extend([position] * rows)
            row_turn.extend(range(CONTEXT_TURN, rows - 1))
            row_agent.append(MODEL_IDX)
            row_text.append(context_text(conversation))
            for utterance in conversation.dialog:
                row_agent.append(utterance.agent_idx)
                row_text.append(utterance.text)
            rated = [False] * rows
            rated[measures.last_model_row + 1] = True
            row_rated += rated
            row_ticks.append(None)
            row_ticks += measures.rows
            for values in extras:
                for name in extra:
                    row_extra[name].append(values.get(name))
            turn_conversation.extend([position] * len(measures.ticks))
            turn_exchange.extend(measures.exchanges)
            turn_history += measures.histories
            turn_ticks += measures.ticks

        schema = utterance_schema(settings, self.hooks.extra_columns)
        columns: list[pa.Array] = [
            pa.array(np.frombuffer(row_conversation, np.int32) if row_conversation else [], pa.int32()),
            pa.array(np.frombuffer(row_turn, np.int32) if row_turn else [], pa.int32()),
            pa.array(np.frombuffer(row_agent, np.int8) if row_agent else [], pa.int8()),
            pa.array(row_text, pa.string()),
            pa.array(row_rated, pa.bool_()),
        ]
        absent = np.array([ticks is None for ticks in row_ticks], dtype=bool)
        blank = (False,) * len(buckets)
        ticked = np.array([blank if ticks is None else ticks for ticks in row_ticks], dtype=bool)
        ticked = ticked.reshape(len(row_ticks), len(buckets))
        columns += [pa.array(ticked[:, i], pa.bool_(), mask=absent) for i in range(len(buckets))]
        columns += [pa.array(row_extra[name], schema.field(name).type) for name in extra]
        turns = np.zeros(len(turn_ticks), TURN_DTYPE)
        if turn_ticks:
            turns["conversation"] = np.frombuffer(turn_conversation, np.int32)
            turns["exchange"] = np.frombuffer(turn_exchange, np.int32)
            turns["history"] = np.frombuffer(b"".join(turn_history), ">i8")
        by_column = zip(*conversations, strict=True) if conversations else [()] * len(CONVERSATION_SCHEMA)
        return Chunk(
            utterances=pa.RecordBatch.from_arrays(columns, schema=schema),
            conversations=pa.RecordBatch.from_arrays(
                [
                    pa.array(list(values), kind.type)
                    for values, kind in zip(by_column, CONVERSATION_SCHEMA, strict=True)
                ],
                schema=CONVERSATION_SCHEMA,
            ),
            turns=turns,
            labels=np.array(turn_ticks, dtype=bool).reshape(len(turn_ticks), len(buckets)),
            excluded=excluded,
            unknown_labels=unknown,
            digests=digests,
        )

    def digest(self, source: Source) -> bytes | None:
        """The content of one conversation as a hash that tells duplicates; None when it can't be read."""
        try:
            return self._measure(read_conversation(source), {}).digest
        except UnreadableError:
            return None

    def _measure(self, conversation: ReadConversation, unknown: dict[str, int]) -> _Measures:
        """Walk through the dialogue once."""
        measures = _Measures()
        buckets = self.settings.problem_buckets
        known = self._known
        history = hashlib.blake2b(digest_size=8)
        history.update(f"{conversation.model_nickname}\0{context_text(conversation)}\0".encode())
        times: list[float | None] = []
        for position, utterance in enumerate(conversation.dialog):
            history.update(f"{utterance.agent_idx}{utterance.text}\0".encode())
            times.append(utterance.timestamp)
            ticks: tuple[bool, ...] | None = None
            if utterance.agent_idx == HUMAN_IDX:
                if not utterance.fake_start:
                    measures.human_utterances += 1
                    measures.human_words += len(utterance.text.split())
                    if "?" in utterance.text or not utterance.text.isascii():
                        measures.human_questions += len(_QUESTION.findall(utterance.text))
                    timing = utterance.timing
                    if timing is not None and timing.shown is not None and timing.sent is not None:
                        taken = timing.sent - timing.shown
                        if taken >= 0:  # a page's clock may be set back between the two
                            measures.seconds.append(taken)
            else:
                measures.last_model_row = position
                if not utterance.fake_start:
                    data = utterance.problem_data
                    if data and buckets:
                        values = [data.get(bucket) for bucket in buckets]
                        ticks = tuple([value is True for value in values])
                        if not _TICKS.issuperset(map(type, values)):
                            raise _no_tick(position, buckets, values)
                        if not data.keys() <= known:
                            for name, value in data.items():
                                if value is True and name not in known:
                                    unknown[name] = unknown.get(name, 0) + 1
                        measures.ticks.append(ticks)
                        measures.exchanges.append(measures.model_utterances)
                        measures.histories.append(history.digest())
                    measures.model_utterances += 1
            measures.rows.append(ticks)
        if measures.last_model_row < 0:
            measures.last_model_row = len(conversation.dialog) - 1
        measures.dialog_hash = history.digest()
        content = hashlib.blake2b(measures.dialog_hash, digest_size=16)
        content.update(
            repr(
                (conversation.worker_id, conversation.hit_id, conversation.assignment_id, conversation.ratings, times)
            ).encode()
        )
        measures.digest = content.digest()
        return measures

    def _rejection(
        self, conversation: ReadConversation, measures: _Measures
    ) -> tuple[ExclusionReason, str] | tuple[None, str]:
        """The first rule of :class:`ExclusionReason` that a single conversation breaks."""
        settings = self.settings
        if conversation.status is Completion.INCOMPLETE and not settings.include_incomplete:
            return ExclusionReason.INCOMPLETE, conversation.reason or ""
        if conversation.hit_id is not None and conversation.hit_id in settings.hit_block_list:
            return ExclusionReason.BLOCKED_HIT, conversation.hit_id
        if conversation.worker_id in settings.worker_block_list:
            return ExclusionReason.BLOCKED_WORKER, conversation.worker_id
        own = _guarded(self.hooks.reject, conversation)
        if own is not None:
            return ExclusionReason.OWN_RULE, own
        if settings.exclude_violations and conversation.acceptability_violation:
            return ExclusionReason.ACCEPTABILITY, conversation.acceptability_violation
        if measures.mean_words < settings.min_word_count:
            return ExclusionReason.TOO_SHORT, f"{measures.mean_words:.2f} words a message"
        if settings.filter_uniform_hits and _is_uniform(measures.ticks):
            return ExclusionReason.UNIFORM_LABELS, f"{len(measures.ticks)} messages with the same labels"
        seconds = measures.median_seconds
        if seconds is not None and seconds < settings.min_seconds_per_message:
            return ExclusionReason.TOO_FAST, f"{seconds:.2f} s a message"
        return None, ""

    def _extras(self, conversation: ReadConversation) -> list[Mapping[str, Any]]:
        turns: list[ReadUtterance | None] = [None, *conversation.dialog]
        try:
            return [
                self._typed(self.hooks.row_columns(conversation, utterance, turn_idx))
                for turn_idx, utterance in enumerate(turns, CONTEXT_TURN)
            ]
        except Exception as error:
            # A hook is somebody else's code: its failure on one conversation must not cost the others.
            raise _HookError(f"row_columns failed with {type(error).__name__}: {error}") from error

    def _typed(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        declared = self.hooks.extra_columns
        undeclared = sorted(set(values) - set(declared))
        if undeclared:
            raise KeyError(f"{', '.join(undeclared)} not declared in extra_columns")
        return {name: None if value is None else declared[name](value) for name, value in values.items()}


def _no_tick(position: int, buckets: Sequence[str], values: Sequence[object]) -> UnreadableError:
    bucket, value = next(
        (bucket, value) for bucket, value in zip(buckets, values, strict=True) if type(value) not in _TICKS
    )
    shown = repr(value)[:40]
    return UnreadableError(
        ReadingReason.MALFORMED, f"`problem_data.{bucket}` of utterance {position} is no tick: {shown}"
    )


class _HookError(Exception):
    """A hook failed on one conversation."""


def _guarded(reject: Callable[[ReadConversation], str | None], conversation: ReadConversation) -> str | None:
    try:
        return reject(conversation)
    except Exception as error:
        # As for row_columns: excluded, counted and named rather than a run that stops.
        return f"reject failed with {type(error).__name__}: {error}"


def _is_uniform(ticks: Sequence[tuple[bool, ...]]) -> bool:
    return len(ticks) >= _MIN_TURNS_TO_BE_UNIFORM and all(entry == ticks[0] for entry in ticks)


def _excluded(source: Source, conversation: ReadConversation, reason: ExclusionReason, detail: str) -> Exclusion:
    return Exclusion(
        source=source.name,
        reason=reason,
        detail=detail,
        worker_id=conversation.worker_id,
        hit_id=conversation.hit_id,
        model_nickname=conversation.model_nickname,
    )

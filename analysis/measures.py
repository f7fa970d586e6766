"""Counts of one conversation, from a single pass over its dialogue."""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_chat.quality.words import count_words
from model_chat.records.legacy import as_bool
from model_chat.records.reading import ReadConversation, ReadingReason, UnreadableError
from model_chat.records.schema import HUMAN_IDX, NONE_ALL_GOOD

_QUESTION = re.compile(r"[?？؟]+")
_MIN_TURNS_TO_BE_UNIFORM = 2
_TICKS = frozenset({bool, type(None)})


@dataclass(slots=True)
class Measures:
    """What is counted while walking through one dialogue.

    `ticks`, `exchanges`, `histories` and `offers_good` have an entry for each annotated model message; the last says
    whether the annotation had a box `none_all_good`.
    """

    human_utterances: int = 0
    human_words: int = 0
    human_questions: int = 0
    model_utterances: int = 0
    seconds: list[float] = field(default_factory=list)
    ticks: list[tuple[bool, ...]] = field(default_factory=list)
    exchanges: list[int] = field(default_factory=list)
    histories: list[bytes] = field(default_factory=list)
    offers_good: list[bool] = field(default_factory=list)
    rows: list[tuple[bool, ...] | None] = field(default_factory=list)
    last_model_row: int = -1
    digest: bytes = b""
    dialog_hash: bytes = b""
    reply_hash: bytes = b""
    """Of the dialogue up to the last reply that the model gave itself: the same in a chat and in an annotation of it."""

    @property
    def mean_words(self) -> float:
        """Words a message of the worker's; 0 for none."""
        return self.human_words / self.human_utterances if self.human_utterances else 0.0

    @property
    def median_seconds(self) -> float | None:
        """Seconds a message of the worker's took; None where no time is known."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def is_uniform(self) -> bool:
        """Whether several messages were annotated, all with the same labels."""
        return len(self.ticks) >= _MIN_TURNS_TO_BE_UNIFORM and all(entry == self.ticks[0] for entry in self.ticks)


def context_text(conversation: ReadConversation) -> str:
    """The text of the context row: the model's persona lines, the topic or further context, the image's number or id."""
    lines: list[str] = []
    if conversation.personas:
        for line in conversation.personas[-1]:
            lines.append(line if line.startswith("your persona:") else f"your persona: {line}")
    if conversation.additional_context:
        lines.append(conversation.additional_context)
    image = conversation.image_id if conversation.image_idx is None else conversation.image_idx
    if image is not None:
        lines.append(f"image: {image}")
    return "\n".join(lines)


def measure(
    conversation: ReadConversation,
    buckets: Sequence[str],
    known: frozenset[str],
    unknown: dict[str, int],
    as_original: bool = False,
) -> Measures:
    """Walk through the dialogue once.

    Args:
        conversation: as it was read.
        buckets: those that are asked about, in the order of the columns.
        known: the same as a set.
        unknown: counts ticks of other buckets, by name; added to.
        as_original: count what was only shown as said, too, and words by the spaces between them alone.

    Raises:
        UnreadableError: a value that is no tick is where a tick should be.
    """
    measures = Measures()
    history = _history_of(conversation)
    times: list[float | None] = []
    for position, utterance in enumerate(conversation.dialog):
        history.update(f"{utterance.agent_idx}{utterance.text}\0".encode())
        times.append(utterance.timestamp)
        ticks: tuple[bool, ...] | None = None
        if utterance.agent_idx == HUMAN_IDX:
            if as_original or not utterance.fake_start:
                measures.human_utterances += 1
                measures.human_words += len(utterance.text.split()) if as_original else count_words(utterance.text)
                if "?" in utterance.text or not utterance.text.isascii():
                    measures.human_questions += len(_QUESTION.findall(utterance.text))
                timing = utterance.timing
                if timing is not None and timing.shown is not None and timing.sent is not None:
                    taken = timing.sent - timing.shown
                    if 0 <= taken < math.inf:  # a page's clock may be set back between the two
                        measures.seconds.append(taken)
        else:
            measures.last_model_row = position
            if not utterance.fake_start:
                measures.reply_hash = history.digest()
            if as_original or not utterance.fake_start:
                data = utterance.problem_data
                if data and buckets and (data.keys() <= known or _holds_tick(data, known)):
                    values = [data.get(bucket) for bucket in buckets]
                    if not _TICKS.issuperset(map(type, values)):
                        values = _ticks_of(values, position, buckets)
                    ticks = tuple([value is True for value in values])
                    if not data.keys() <= known:
                        for name, value in data.items():
                            if value is True and name not in known:
                                unknown[name] = unknown.get(name, 0) + 1
                    measures.ticks.append(ticks)
                    measures.offers_good.append(NONE_ALL_GOOD in data)
                    measures.exchanges.append(measures.model_utterances)
                    measures.histories.append(history.digest())
                measures.model_utterances += 1
        measures.rows.append(ticks)
    if measures.last_model_row < 0:
        measures.last_model_row = len(conversation.dialog) - 1
    measures.dialog_hash = history.digest()
    measures.reply_hash = measures.reply_hash or measures.dialog_hash
    content = hashlib.blake2b(measures.dialog_hash, digest_size=16)
    content.update(
        repr(
            (conversation.worker_id, conversation.hit_id, conversation.assignment_id, conversation.ratings, times)
        ).encode()
    )
    measures.digest = content.digest()
    return measures


def _history_of(conversation: ReadConversation) -> hashlib.blake2b:
    """The hash of what a conversation begins with; each utterance is added to it."""
    history = hashlib.blake2b(digest_size=8)
    history.update(f"{conversation.model_nickname}\0{context_text(conversation)}\0".encode())
    return history


def item_digests(conversation: ReadConversation) -> list[bytes]:
    """A hash for each utterance of it with everything said before: the `histories` of :func:`measure`, 8 bytes each.

    That of the last utterance is the hash of the whole dialogue.
    """
    history = _history_of(conversation)
    digests = []
    for utterance in conversation.dialog:
        history.update(f"{utterance.agent_idx}{utterance.text}\0".encode())
        digests.append(history.digest())
    return digests


def _holds_tick(data: Mapping[str, Any], known: frozenset[str]) -> bool:
    """Whether anything in `problem_data` is an annotation; numbers of other keys (`turn_idx`) are none."""
    return any(isinstance(value, bool) or name in known for name, value in data.items())


def _ticks_of(values: Sequence[object], position: int, buckets: Sequence[str]) -> list[bool | None]:
    """Ticks of buckets that may be written as 0 and 1.

    Raises:
        UnreadableError: a value is no tick.
    """
    ticks: list[bool | None] = []
    for bucket, value in zip(buckets, values, strict=True):
        tick = as_bool(value)
        if tick is None and value is not None:
            shown = repr(value)[:40]
            raise UnreadableError(
                ReadingReason.MALFORMED, f"`problem_data.{bucket}` of utterance {position} is no tick: {shown}"
            )
        ticks.append(tick)
    return ticks

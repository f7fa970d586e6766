"""Counts of one conversation, from a single pass over its dialogue."""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_chat.analysis.parts import WHOLE, Part, parts_of
from model_chat.quality.words import count_words
from model_chat.records.legacy import as_bool
from model_chat.records.reading import (
    ReadComparedReply,
    ReadConversation,
    ReadingReason,
    ReadUtterance,
    UnreadableError,
)
from model_chat.records.schema import HUMAN_IDX, MODEL_IDX, NONE_ALL_GOOD

_QUESTION = re.compile(r"[?？؟]+")
_MIN_TURNS_TO_BE_UNIFORM = 2
NOT_SAID = -1
"""In place of the position in the dialogue: of a compared reply with which the conversation did not go on."""
_TICKS = frozenset({bool, type(None)})


@dataclass(slots=True)
class Measures:
    """What is counted while walking through one dialogue.

    `ticks`, `exchanges`, `histories`, `offers_good`, `turn_parts` and `turn_rows` have an entry for each annotated reply;
    `offers_good` says whether the annotation had a box `none_all_good`. Exchanges are counted in each chat by itself.
    `turn_rows` is the reply's position in the dialogue; :data:`NOT_SAID` for one of two compared replies with which the
    conversation did not go on, which has an entry where boxes were ticked for both.
    `parts` are those of the models that were compared, and `row_parts` and `turn_parts` their numbers.
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
    turn_parts: list[int] = field(default_factory=list)
    turn_rows: list[int] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    row_parts: list[int] = field(default_factory=list)
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
        buckets: those that are asked about, in the order of the columns.
        unknown: counts ticks of other buckets, by name; added to.
        as_original: count what was only shown as said, too, and words by the spaces between them alone.

    Raises:
        UnreadableError: a value that is no tick is where a tick should be.
    """
    measures = Measures()
    histories = _Histories(conversation)
    parts, row_parts = measures.parts, measures.row_parts = histories.parts, histories.row_parts
    times: list[float | None] = []
    others = {} if as_original else _annotated_others(conversation)
    exchanges = conversation.exchanges() if others else {}

    def take_ticks(data: dict[str, Any] | None, row: int, number: int, history: bytes) -> tuple[bool, ...] | None:
        """Take the boxes of a reply, which belongs to the part ``number``; None where they are none."""
        ticks = _ticks_in(data, buckets, known, unknown, row)
        if ticks is not None:
            said_in = parts[number] if number != WHOLE and parts[number].is_chat else measures
            measures.ticks.append(ticks)
            measures.offers_good.append(NONE_ALL_GOOD in (data or ()))
            measures.exchanges.append(said_in.model_utterances)
            measures.histories.append(history)
            measures.turn_parts.append(number)
            measures.turn_rows.append(row)
        return ticks

    for position, utterance in enumerate(conversation.dialog):
        other = others.pop(exchanges.get(position, -1), None)
        if other is not None:
            number = next((i for i, one in enumerate(parts) if one.model_nickname == other.model_nickname), WHOLE)
            take_ticks(other.problem_data, NOT_SAID, number, histories.with_reply(number, other.text or ""))
        histories.add(utterance, row_parts[position])
        part = parts[row_parts[position]] if row_parts[position] != WHOLE else None
        times.append(utterance.timestamp)
        ticks: tuple[bool, ...] | None = None
        if utterance.agent_idx == HUMAN_IDX:
            if as_original or not utterance.fake_start:
                words = len(utterance.text.split()) if as_original else count_words(utterance.text)
                questions = 0
                if "?" in utterance.text or not utterance.text.isascii():
                    questions = len(_QUESTION.findall(utterance.text))
                measures.human_utterances += 1
                measures.human_words += words
                measures.human_questions += questions
                if part is not None:
                    part.human_utterances += 1
                    part.human_words += words
                    part.human_questions += questions
                timing = utterance.timing
                if timing is not None and timing.shown is not None and timing.sent is not None:
                    taken = timing.sent - timing.shown
                    if 0 <= taken < math.inf:  # a page's clock may be set back between the two
                        measures.seconds.append(taken)
        else:
            measures.last_model_row = position
            if not utterance.fake_start:
                measures.reply_hash = histories.dialog.digest()
            if as_original or not utterance.fake_start:
                number = row_parts[position]
                ticks = take_ticks(utterance.problem_data, position, number, histories.digest(number))
                measures.model_utterances += 1
                if part is not None:
                    part.model_utterances += 1
        measures.rows.append(ticks)
    if measures.last_model_row < 0:
        measures.last_model_row = len(conversation.dialog) - 1
    else:
        last_part = row_parts[measures.last_model_row]
        for number, one in enumerate(parts):
            one.last_replies = int(one.model_utterances > 0 if one.is_chat else number == last_part)
    measures.dialog_hash = histories.dialog.digest()
    measures.reply_hash = measures.reply_hash or measures.dialog_hash
    content = hashlib.blake2b(measures.dialog_hash, digest_size=16)
    content.update(
        repr(
            (conversation.worker_id, conversation.hit_id, conversation.assignment_id, conversation.ratings, times)
        ).encode()
    )
    measures.digest = content.digest()
    return measures


class _Histories:
    """Hashes of utterances with everything that was said before them.

    Where two models were compared, the hash of a reply names the model that gave it, and in one of two chats the history is
    that of the chat: the model knew nothing of the other.

    Attributes:
        dialog: of the whole dialogue so far, with the nickname of the model, or of the pair.
        parts, row_parts: as :func:`model_chat.analysis.parts.parts_of` divides the conversation.
    """

    def __init__(self, conversation: ReadConversation) -> None:
        self.parts, self.row_parts = parts_of(conversation)
        context = context_text(conversation)
        self.dialog = _begun(conversation.model_nickname, context)
        self._of_parts = [_begun(part.model_nickname, context) for part in self.parts]

    def add(self, utterance: ReadUtterance, part: int) -> None:
        said = f"{utterance.agent_idx}{utterance.text}\0".encode()
        self.dialog.update(said)
        for number, history in enumerate(self._of_parts):
            if number == part or not self.parts[number].is_chat:
                history.update(said)

    def with_reply(self, part: int, text: str) -> bytes:
        """Of a reply that was not added, with everything that was said before it."""
        history = (self.dialog if part == WHOLE else self._of_parts[part]).copy()
        history.update(f"{MODEL_IDX}{text}\0".encode())
        return history.digest()

    def digest(self, part: int) -> bytes:
        """Of the utterance that was added last, which belongs to a part."""
        return self.dialog.digest() if part == WHOLE else self._of_parts[part].digest()


def _begun(model_nickname: str, context: str) -> hashlib.blake2b:
    history = hashlib.blake2b(digest_size=8)
    history.update(f"{model_nickname}\0{context}\0".encode())
    return history


def item_digests(conversation: ReadConversation) -> list[bytes]:
    """A hash for each utterance of it with everything said before: the `histories` of :func:`measure`, 8 bytes each."""
    histories = _Histories(conversation)
    digests = []
    for utterance, part in zip(conversation.dialog, histories.row_parts, strict=True):
        histories.add(utterance, part)
        digests.append(histories.digest(part))
    return digests


def dialog_digest(conversation: ReadConversation) -> bytes:
    """The hash of the whole dialogue, 8 bytes."""
    histories = _Histories(conversation)
    for utterance, part in zip(conversation.dialog, histories.row_parts, strict=True):
        histories.add(utterance, part)
    return histories.dialog.digest()


def _annotated_others(conversation: ReadConversation) -> dict[int, ReadComparedReply]:
    """The replies with which a conversation did not go on, by their exchange, where boxes were ticked for both."""
    others = ((judged.turn_idx, judged.not_taken) for judged in conversation.comparisons or ())
    return {
        turn: other
        for turn, other in others
        if turn is not None and other is not None and other.problem_data is not None
    }


def _ticks_in(
    data: dict[str, Any] | None, buckets: Sequence[str], known: frozenset[str], unknown: dict[str, int], position: int
) -> tuple[bool, ...] | None:
    """The ticks of `problem_data`, one a bucket; None where it holds no annotation. ``unknown`` is added to.

    Raises:
        UnreadableError: a value is no tick.
    """
    if not data or not buckets or not (data.keys() <= known or _holds_tick(data, known)):
        return None
    values = [data.get(bucket) for bucket in buckets]
    if not _TICKS.issuperset(map(type, values)):
        values = _ticks_of(values, position, buckets)
    if not data.keys() <= known:
        for name, value in data.items():
            if value is True and name not in known:
                unknown[name] = unknown.get(name, 0) + 1
    return tuple([value is True for value in values])


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

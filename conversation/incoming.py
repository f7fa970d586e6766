"""Validation of packets from a worker's page, and the reasons for refusing them. All of it is untrusted input."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from model_chat.configuration.annotations import AnnotationsConfig, check_ticks
from model_chat.configuration.comparison import SIDES, ComparisonSettings
from model_chat.configuration.worker_texts import worker_text
from model_chat.errors import RefusedError as RefusedError
from model_chat.records.authenticity import MessageCounts
from model_chat.records.schema import Pick, Timing
from model_chat.records.visible_text import is_blank, saveable

LOWEST_RATING, HIGHEST_RATING = 1, 5
LONGEST_MESSAGE_ID = 64
LATEST_TIMESTAMP = 1e11
"""Epoch seconds; a page's clock beyond the year 5000 is not believed."""
MALFORMED = worker_text("messages.damaged")


@dataclass(frozen=True)
class Expected:
    """What the server waits for.

    Attributes:
        annotations: the task's buckets when the last reply of the model is to be annotated, else None.
        rating_questions: number of final ratings when these are asked for, else 0 (then a message is).
        max_message_length: characters.
        turn_idx: the exchange that is waited for; a packet that names another one was meant for another turn.
        takes_text: whether the model can be shown a message whole; None: any.
        check_reply: checks the answers to the items of the last reply; None where nothing is asked of it.
        wants_text: whether a message is written; an annotation of a finished conversation has none.
        boxes_of_both: the task's buckets when they are to be ticked for both of two replies that are compared, else None.
        compared_chats: number of questions about two whole chats that are compared; 0: two replies are.
        closes_chat: the worker is to say that they have read the last reply of a chat.
    """

    annotations: AnnotationsConfig | None
    rating_questions: int
    max_message_length: int
    turn_idx: int | None = None
    takes_text: Callable[[str], bool] | None = None
    check_reply: Callable[[Any], dict[str, Any]] | None = None
    comparison: ComparisonSettings | None = None
    boxes_of_both: AnnotationsConfig | None = None
    wants_text: bool = True
    compared_chats: int = 0
    closes_chat: bool = False


@dataclass(frozen=True)
class Judgement:
    """Which of two replies, or chats, a worker finds better.

    Attributes:
        pick: the better one, or that there is none.
        strength: how much better it is, from 1 up; None without degrees, and without a better one.
        reason: in the worker's words, or None.
    """

    pick: Pick
    strength: int | None
    reason: str | None


@dataclass(frozen=True)
class Accepted:
    """A packet that the server has taken.

    Attributes:
        text: what the worker said; "" with final ratings.
        problem_data: bucket -> ticked for the last reply of the model, or None when it is not to be annotated.
        final_ratings: one a question, or None.
        reply_answers: item -> answer about the last reply of the model, or None when nothing is asked of it.
        judgements: of two replies: one; of two chats: one a question; else none.
        problem_data_of_replies: side -> bucket -> ticked for two replies that are compared, or None when that is not asked.
        counts: what the page counted while the message was written, as far as it can be true; None without any.
    """

    message_id: str
    text: str
    problem_data: dict[str, bool] | None
    final_ratings: list[int] | None
    timing: Timing | None
    reply_answers: dict[str, Any] | None = None
    judgements: tuple[Judgement, ...] = ()
    problem_data_of_replies: dict[str, dict[str, bool]] | None = None
    counts: MessageCounts | None = None


def message_id_of(packet: Any) -> str | None:
    """Return the page's id of a packet, or None where there is no usable one."""
    task_data = packet.get("task_data") if isinstance(packet, dict) else None
    message_id = task_data.get("message_id") if isinstance(task_data, dict) else None
    if isinstance(message_id, str) and 0 < len(message_id) <= LONGEST_MESSAGE_ID and message_id.isprintable():
        return message_id
    return None


MORE_TIME = "more_time"
"""The `control` of a packet in which a worker asks for more time."""


def asks_more_time(packet: Any, turn_idx: int) -> bool:
    """Whether a packet asks for more time for a turn."""
    if message_id_of(packet) is None:
        return False
    task_data = packet["task_data"]
    asked = task_data.get("turn_idx")
    return bool(task_data.get("control") == MORE_TIME and type(asked) is int and asked == turn_idx)


def check_packet(packet: Any, expected: Expected, taken: Collection[str]) -> Accepted | None:
    """Check what a page sent while it was its turn.

    Args:
        packet: of any JSON type.

    Returns:
        what is taken of it; None for a repeat of a message that the conversation has already.

    Raises:
        RefusedError: the packet can't be taken.
    """
    message_id = message_id_of(packet)
    if message_id is None:
        raise RefusedError("malformed", MALFORMED)
    if message_id in taken:
        return None
    task_data = packet["task_data"]
    try:
        _check_turn(task_data, expected.turn_idx)
        judgements: tuple[Judgement, ...] = ()
        if expected.comparison is not None:
            text, ratings = "", None
            judgements = _check_judgements(task_data.get("comparison"), expected, expected.comparison)
        elif task_data.get("comparison") is not None:
            raise RefusedError("not_your_turn", worker_text("comparison.no_replies"))
        elif expected.closes_chat:
            if task_data.get("chat_done") is not True:
                raise RefusedError("chat_over", worker_text("comparison.chat_over"))
            text, ratings = _no_text(packet), None
        elif task_data.get("chat_done") is not None:
            raise RefusedError("not_your_turn", worker_text("comparison.chat_not_over"))
        elif expected.rating_questions:
            text, ratings = _no_text(packet), _check_ratings(task_data.get("final_rating"), expected.rating_questions)
        else:
            if task_data.get("final_rating") is not None:
                raise RefusedError("rating_early", worker_text("rating.early"))
            if expected.wants_text:
                text, ratings = check_text(packet.get("text"), expected.max_message_length), None
            else:
                text, ratings = _no_text(packet, worker_text("rating.nothing_to_write")), None
        ticks = _check_annotation(task_data.get("problem_data_for_prior_message"), expected.annotations)
        ticks_of_both = _check_boxes_of_both(task_data.get("problem_data_of_replies"), expected.boxes_of_both)
        reply_answers = _check_reply(task_data.get("reply_answers"), expected)
        if text and expected.takes_text is not None and not expected.takes_text(text):
            raise RefusedError("too_long", worker_text("messages.too_long_for_partner"))
    except RefusedError as refused:
        refused.message_id = message_id
        raise
    timing = read_timing(task_data.get("timing"))
    counts = MessageCounts.of(task_data.get("authenticity"))
    return Accepted(message_id, text, ticks, ratings, timing, reply_answers, judgements, ticks_of_both, counts)


def _check_reply(given: Any, expected: Expected) -> dict[str, Any] | None:
    if expected.check_reply is not None:
        return expected.check_reply(given)
    if given is not None and given != {}:
        raise RefusedError("answer_unexpected", worker_text("answers.no_reply"))
    return None


def _check_turn(task_data: dict[str, Any], expected: int | None) -> None:
    """Refuse what was held back, in another tab say, while its turn went by. Pages need not name the turn."""
    if task_data.get("page") is not None:
        raise RefusedError("not_your_turn", worker_text("messages.page_answered"))
    turn_idx = task_data.get("turn_idx")
    if turn_idx is None or expected is None:
        return
    if type(turn_idx) is not int:
        raise RefusedError("malformed", MALFORMED)
    if turn_idx != expected:
        raise RefusedError("not_your_turn", worker_text("messages.turn_answered"))


def check_text(text: Any, max_length: int) -> str:
    """Return a worker's text as it is saved: without control characters, half emoji, and space around it.

    Raises:
        RefusedError: no text, empty, or longer than ``max_length`` characters.
    """
    if not isinstance(text, str):
        raise RefusedError("malformed", MALFORMED)
    if len(text) > max_length:
        raise RefusedError("too_long", worker_text("messages.too_long", length=len(text), most=max_length))
    clean = saveable(text).strip()
    if is_blank(clean):
        raise RefusedError("empty", worker_text("messages.empty"))
    return clean


def _check_judgements(answer: Any, expected: Expected, settings: ComparisonSettings) -> tuple[Judgement, ...]:
    if not expected.compared_chats:
        return (check_judgement(answer, settings, expected.max_message_length),)
    if answer is not None and not isinstance(answer, list):
        raise RefusedError("comparison_invalid", worker_text("comparison.damaged_choices"))
    if not answer or None in answer or len(answer) != expected.compared_chats:
        raise RefusedError("comparison_missing", worker_text("comparison.chats_missing"))
    return tuple(check_judgement(each, settings, expected.max_message_length) for each in answer)


def check_judgement(answer: Any, settings: ComparisonSettings, max_length: int) -> Judgement:
    """Return how a worker judges two replies, or chats.

    Args:
        answer: of any JSON type.
        max_length: of the reason, characters.

    Raises:
        RefusedError: there is no answer, or none of those that there are.
    """
    if answer is None:
        raise RefusedError("comparison_missing", worker_text("comparison.missing"))
    damaged = RefusedError("comparison_invalid", worker_text("comparison.damaged"))
    if not isinstance(answer, dict) or answer.get("pick") not in list(Pick):
        raise damaged
    pick, strength, reason = Pick(answer["pick"]), answer.get("strength"), answer.get("reason")
    if (pick is Pick.TIE and not settings.allows_tie) or (pick is Pick.BOTH_BAD and not settings.allows_both_bad):
        raise RefusedError("comparison_invalid", worker_text("comparison.pick"))
    if pick in (Pick.TIE, Pick.BOTH_BAD) or not settings.levels:
        if strength is not None:
            raise damaged
    elif type(strength) is not int or not 1 <= strength <= settings.levels:
        raise RefusedError("comparison_invalid", worker_text("comparison.strength"))
    if reason in (None, ""):
        return Judgement(pick, strength, None)
    if not settings.reason or not isinstance(reason, str):
        raise damaged
    if len(reason) > max_length:
        raise RefusedError("too_long", worker_text("comparison.reason_too_long", length=len(reason), most=max_length))
    clean = saveable(reason).strip()
    return Judgement(pick, strength, None if is_blank(clean) else clean)


def _no_text(packet: dict[str, Any], reason: str | None = None) -> str:
    if packet.get("text") not in ("", None):
        raise RefusedError("malformed", worker_text("rating.chat_over") if reason is None else reason)
    return ""


def _check_ratings(ratings: Any, questions: int) -> list[int]:
    if ratings is None:
        raise RefusedError("rating_missing", worker_text("rating.chat_over"))
    if not isinstance(ratings, list) or not all(type(rating) is int for rating in ratings):
        raise RefusedError("malformed", worker_text("rating.damaged"))
    if len(ratings) != questions:
        raise RefusedError("rating_count", worker_text("rating.count", given=len(ratings), all=questions))
    if not all(LOWEST_RATING <= rating <= HIGHEST_RATING for rating in ratings):
        raise RefusedError("rating_range", worker_text("rating.range", least=LOWEST_RATING, most=HIGHEST_RATING))
    return ratings


def _check_annotation(ticks: Any, config: AnnotationsConfig | None) -> dict[str, bool] | None:
    if config is None:
        if ticks is not None and ticks != {}:
            raise RefusedError("annotation_unexpected", worker_text("boxes.no_reply"))
        return None
    return check_ticks(config, ticks)


def _check_boxes_of_both(ticks: Any, config: AnnotationsConfig | None) -> dict[str, dict[str, bool]] | None:
    if config is None:
        if ticks is not None:
            raise RefusedError("annotation_unexpected", worker_text("boxes.no_reply"))
        return None
    if ticks is None:
        raise RefusedError("annotation_missing", worker_text("boxes.missing_for_two"))
    if not isinstance(ticks, dict) or not ticks.keys() <= set(SIDES):
        raise RefusedError("malformed", worker_text("boxes.damaged"))
    checked = {}
    for side in SIDES:
        of_one = ticks.get(side)
        if of_one is None or (isinstance(of_one, dict) and True not in of_one.values()):
            raise RefusedError("annotation_missing", worker_text("boxes.missing_for_two"))
        checked[side] = check_ticks(config, of_one)
    return checked


def read_timing(timing: Any) -> Timing | None:
    """Return the timing data of a packet; what is not a plausible time becomes None, for timing never costs a message."""
    if not isinstance(timing, dict):
        return None
    times = {key: _read_time(timing.get(key)) for key in Timing.model_fields}
    return Timing(**times) if any(time is not None for time in times.values()) else None


def _read_time(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and 0 < seconds < LATEST_TIMESTAMP else None

"""Answers to the study flow, put together from what a page was sent, for a conversation that was cut off."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from model_chat.errors import ConfigurationError
from model_chat.records.schema import MODEL_IDX, RATING_SEPARATOR, Answer, Completion

if TYPE_CHECKING:
    from model_chat.configuration.study_flow import StudyFlow

logger = logging.getLogger(__name__)


def flow_of(head: dict[str, Any] | None) -> StudyFlow | None:
    """Return the study flow of a conversation, or None without one.

    Args:
        head: the conversation as it would be saved, without utterances.
    """
    description = (head or {}).get("task_description")
    text = description.get("study_flow") if isinstance(description, dict) else None
    if not isinstance(text, str):
        return None
    from model_chat.configuration.study_flow import parse_study_flow

    try:
        return parse_study_flow("study_flow", "of an earlier run", text)
    except ConfigurationError as error:  # a head that is damaged, or of another version
        logger.warning("The study flow of a conversation that is recovered can't be read: %s", error)
        return None


def answers_of(messages: Iterable[dict[str, Any]]) -> list[Answer]:
    """Return the answers that were taken, in order, each with the utterance that it is about."""
    answers: list[Answer] = []
    checks = 0
    for message in messages:
        data = message.get("task_data")
        if not isinstance(data, dict):
            continue
        if data.get("attention_check"):
            checks += 1
        page, utterance_idx = data.get("page"), None
        given = data.get("answers") if data.get("control") == "page_done" else None
        if isinstance(data.get("reply_answers"), dict):
            page, given = data.get("chat_page"), data["reply_answers"]
            # The page counts attention checks and their answers, too, which are no part of the saved dialogue.
            page_idx = data.get("answered_utterance_idx")
            utterance_idx = page_idx - checks if isinstance(page_idx, int) else None
        for item, value in given.items() if isinstance(given, dict) else ():
            try:
                answers.append(
                    Answer.model_validate(
                        {
                            "page": page,
                            "item": item,
                            "value": value,
                            "utterance_idx": utterance_idx,
                            "timestamp": message.get("timestamp"),
                        }
                    )
                )
            except ValidationError as error:
                logger.warning("A damaged answer is left out of a conversation that is recovered: %s", error)
    return answers


def add_answers(saved: dict[str, Any], flow: StudyFlow | None, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a recovered conversation with its answers and, where pages follow the chat, its final ratings.

    It is complete if only pages were left that are to be read.
    """
    if flow is None:
        return saved
    saved = {**saved, "answers": [answer.model_dump(mode="json") for answer in answers_of(messages)]}
    for message in messages:
        data = message.get("task_data")
        if not isinstance(data, dict) or data.get("control") not in ("page_done", "rating_done"):
            continue
        if data["control"] == "rating_done":
            _add_rating(saved["dialog"], data)
        if data.get("complete") is True:
            saved.update(status=Completion.COMPLETE.value, reason=None)
    return saved


def _add_rating(dialog: list[dict[str, Any]], data: dict[str, Any]) -> None:
    replies = [utterance for utterance in dialog if utterance["agent_idx"] == MODEL_IDX]
    ratings, ticks = data.get("final_rating"), data.get("problem_data")
    if not replies or not isinstance(ratings, list) or not all(type(rating) is int for rating in ratings):
        return
    replies[-1]["final_rating"] = RATING_SEPARATOR.join(map(str, ratings))
    if isinstance(ticks, dict):
        replies[-1]["problem_data"] = ticks


def may_keep(flow: StudyFlow | None, messages: Iterable[dict[str, Any]]) -> tuple[bool, bool]:
    """Return whether a worker's consent lets anything be kept, and whether there are answers that are worth keeping."""
    if flow is None:
        return True, False
    from model_chat.conversation.study_flow import has_answers, has_consent

    answers = answers_of(messages)
    return has_consent(flow, answers), has_answers(flow, answers)

"""Recovery where finished conversations were annotated: what the journal of one that was cut off holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from model_chat.conversation.human_agent import ANNOTATED
from model_chat.records.schema import HUMAN_IDX, Utterance


def judged_of(head: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the sha256 of the finished conversation that was annotated, and who annotated it; None for a chat."""
    judged, workers = head.get("judged_conversation"), head.get("workers")
    sha256 = judged.get("sha256") if isinstance(judged, dict) else None
    worker = workers[0] if isinstance(workers, list) and workers else None
    return (sha256, worker) if isinstance(sha256, str) and isinstance(worker, str) else None


def annotated_in(data: Mapping[str, Any], shown: Mapping[int, Utterance]) -> Utterance | None:
    """Return the reply that an update is about; None for none, and where the update is damaged."""
    position = data.get("annotated_utterance_idx")
    return shown.get(position) if isinstance(position, int) else None


def annotation_of(data: object, shown: Mapping[int, Utterance]) -> None:
    """Put an annotation that was said back to the page at the reply that it is about.

    Args:
        data: the ``task_data`` of an update, of any kind.
        shown: utterances by the index that the page knows them by.
    """
    if not isinstance(data, dict) or data.get("control") != ANNOTATED:
        return
    reply = annotated_in(data, shown)
    if reply is None:
        return
    try:
        given = Utterance(
            agent_idx=reply.agent_idx,
            text="",
            id="",
            problem_data=data.get("problem_data"),
            message_id=data.get("message_id"),
        )
    except ValidationError:  # a damaged file: the reply itself is kept
        return
    reply.problem_data, reply.message_id = given.problem_data, given.message_id


def shown_as_said(dialog: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark what the person of the finished conversation said, as the record of a whole annotation has it."""
    return [
        {**line, "fake_start": True, "episode_done": False} if line["agent_idx"] == HUMAN_IDX else line
        for line in dialog
    ]

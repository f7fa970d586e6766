"""A conversation as messages of roles, with what is known of it beside them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_chat.exports.identities import Identities
from model_chat.exports.selection import Selected
from model_chat.records.legacy import as_bool
from model_chat.records.reading import ReadComparison, ReadConversation, ReadUtterance
from model_chat.records.schema import HUMAN_IDX, MODEL_IDX, RATING_SEPARATOR

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
_PERSONA = "your persona:"

Message = dict[str, str]
"""`{"role", "content"}`."""


@dataclass(frozen=True, slots=True)
class ExportedConversation:
    """One conversation in the shape that all formats are made of.

    Attributes:
        messages: the model's context as the system's message, if there is any, then the dialogue.
        metadata: JSON types only; always the same keys (docs/exports.md).
        selected: what it was made of.
        first_turn: how many of ``messages`` come before the dialogue: 0 or 1.
    """

    messages: list[Message]
    metadata: dict[str, Any]
    selected: Selected
    first_turn: int

    @property
    def dialog(self) -> list[ReadUtterance]:
        """The utterances as they were read; number ``i`` is message ``first_turn + i``."""
        return self.selected.conversation.dialog

    @property
    def has_image(self) -> bool:
        """Whether people and model saw an image, which is in no format."""
        conversation = self.selected.conversation
        return conversation.image_idx is not None or conversation.image_id is not None


def exported(selected: Selected, identities: Identities | None) -> ExportedConversation:
    """Bring a conversation into the shape of the export.

    Args:
        selected: what was read.
        identities: that replace workers' ids; None to keep them.
    """
    conversation = selected.conversation
    messages: list[Message] = []
    context = system_text(conversation)
    if context:
        messages.append({"role": SYSTEM, "content": context})
    first_turn = len(messages)
    messages += [
        {"role": USER if utterance.agent_idx == HUMAN_IDX else ASSISTANT, "content": utterance.text}
        for utterance in conversation.dialog
    ]
    metadata = _metadata(selected, first_turn)
    if identities is not None:
        messages = identities.in_texts(messages)
        metadata = _deidentified(metadata, selected, identities)
    return ExportedConversation(messages, metadata, selected, first_turn)


def system_text(conversation: ReadConversation) -> str:
    """What the model was told before the conversation: its system prompt, its persona lines, and the further context.

    The human's persona is not part of it, for the model never saw it.
    """
    parts: list[str] = []
    prompt = _task(conversation, "model_opt").get("system_prompt")
    if isinstance(prompt, str) and prompt.strip():
        parts.append(prompt.strip())
    lines = conversation.personas[-1] if conversation.personas else []
    about = [line if line.startswith(_PERSONA) else f"{_PERSONA} {line}" for line in lines if line.strip()]
    if conversation.additional_context:
        about.append(conversation.additional_context)
    if about:
        parts.append("\n".join(about))
    return "\n\n".join(parts)


def ticks_of(utterance: ReadUtterance) -> dict[str, bool]:
    """Bucket -> whether it is ticked, of an annotated model's reply; nothing for any other utterance."""
    data = utterance.problem_data
    if not data or utterance.agent_idx != MODEL_IDX or utterance.fake_start:
        return {}
    if not any(isinstance(value, bool) for value in data.values()):
        return {}  # numbers alone, as in files of January 2021
    return {str(name): tick for name, value in data.items() if (tick := as_bool(value)) is not None}


def _task(conversation: ReadConversation, key: str) -> Mapping[str, Any]:
    """A dictionary of the record's description of its task; empty where there is none."""
    task = conversation.raw.get("task_description")
    value = task.get(key) if isinstance(task, dict) else None
    return value if isinstance(value, dict) else {}


def _metadata(selected: Selected, first_turn: int) -> dict[str, Any]:
    conversation = selected.conversation
    annotations = [
        {"message": first_turn + position, "offered": list(ticks), "ticked": [name for name in ticks if ticks[name]]}
        for position, utterance in enumerate(conversation.dialog)
        if (ticks := ticks_of(utterance))
    ]
    served = {utterance.generation.served_model for utterance in conversation.dialog if utterance.generation}
    return {
        "id": selected.digest.hex(),
        "model": conversation.model_nickname,
        "served_models": sorted(name for name in served if name),
        "worker": conversation.worker_id,
        "hit_id": conversation.hit_id,
        "assignment_id": conversation.assignment_id,
        "task_name": _text(conversation.raw.get("task_name")),
        "day": day_of(selected),
        "consent": selected.consent.value,
        "ratings": conversation.ratings or [],
        "rating_questions": _questions(conversation),
        "annotations": annotations,
        "comparisons": [_comparison(judged) for judged in conversation.comparisons or []],
        "shown_as_said": [
            first_turn + position for position, utterance in enumerate(conversation.dialog) if utterance.fake_start
        ],
        "conditions": _conditions(conversation.raw.get("conditions")),
        "acceptability_violation": conversation.acceptability_violation,
        "context_dataset": conversation.context_dataset,
        "image_idx": conversation.image_idx,
        "image_id": conversation.image_id,
    }


def day_of(selected: Selected) -> str | None:
    """The day of a conversation, `YYYY-MM-DD`: of its first message in UTC, else the one of its folder or file."""
    for utterance in selected.conversation.dialog:
        if utterance.timestamp is not None:
            try:
                return datetime.datetime.fromtimestamp(utterance.timestamp, datetime.UTC).date().isoformat()
            except (ValueError, OverflowError, OSError):
                break  # no time of this calendar
    return selected.source.day.isoformat() if selected.source.day else None


def _questions(conversation: ReadConversation) -> list[str]:
    task = conversation.raw.get("task_description")
    text = task.get("final_rating_question") if isinstance(task, dict) else None
    return text.split(RATING_SEPARATOR) if isinstance(text, str) and text else []


def _comparison(judged: ReadComparison) -> dict[str, Any]:
    return {
        "turn_idx": judged.turn_idx,
        "question": judged.question,
        "left_model": judged.left.model_nickname,
        "left_text": judged.left.text,
        "right_model": judged.right.model_nickname,
        "right_text": judged.right.text,
        "pick": judged.pick.value,
        "strength": judged.strength,
        "reason": judged.reason,
        "continued_with": judged.continued_with,
    }


def _conditions(value: object) -> list[dict[str, str]]:
    """`{factor: level}` as a list, since the factors differ from study to study and a table's columns must not."""
    if not isinstance(value, dict):
        return []
    return [{"factor": str(factor), "level": str(level)} for factor, level in sorted(value.items())]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_SAID_IN_COMPARISONS = ("left_text", "right_text", "reason")
_NAMES_OF_THE_STUDY = ("id", "model", "served_models", "day", "consent", "annotations", "comparisons")
"""Values that hold no worker's id: a worker may be called like a model or a box."""


def _deidentified(metadata: dict[str, Any], selected: Selected, identities: Identities) -> dict[str, Any]:
    kept = {name: metadata[name] for name in _NAMES_OF_THE_STUDY}
    kept["comparisons"] = [
        {**judged, **{name: identities.in_texts(judged[name]) for name in _SAID_IN_COMPARISONS}}
        for judged in metadata["comparisons"]
    ]
    changed = {
        **identities.in_metadata({name: value for name, value in metadata.items() if name not in kept}),
        **kept,
        "id": identities.conversation_id(selected.digest),
        "worker": identities.pseudonym(selected.conversation.worker_id),
        "hit_id": None,
        "assignment_id": None,
    }
    return {name: changed[name] for name in metadata}

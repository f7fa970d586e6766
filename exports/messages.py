"""A conversation as messages of roles, with what is known of it beside them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_chat.exports.identities import Identities
from model_chat.exports.selection import Selected
from model_chat.records.legacy import as_bool, described
from model_chat.records.reading import ReadComparison, ReadConversation, ReadUtterance
from model_chat.records.schema import HUMAN_IDX, MODEL_IDX, RATING_SEPARATOR

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
COMPARED_SEPARATOR = "|"
"""Joins the nicknames of two models whose replies were compared."""
_PERSONA = "your persona:"

Message = dict[str, str]
"""`{"role", "content"}`."""


@dataclass(frozen=True, slots=True)
class ExportedConversation:
    """One conversation in the shape that all formats are made of.

    Attributes:
        messages: the model's context as the system's message, if there is any, then the dialogue.
        metadata: JSON types only; always the same keys (docs/exports.md).
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


def exported(selected: Selected, identities: Identities | None, persona: bool = True) -> ExportedConversation:
    """Bring a conversation into the shape of the export.

    Args:
        identities: that replace workers' ids; None to keep them.
        persona: whether the model's persona and the further context are in the system's message.
    """
    conversation = selected.conversation
    messages: list[Message] = []
    context = system_text(conversation, persona)
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


def system_text(conversation: ReadConversation, persona: bool) -> str:
    """What the model was told before the conversation: its system prompt, its persona lines, and the further context.

    The human's persona is not part of it. Without ``persona`` it is the system prompt alone: a record holds the persona of
    its context even where nobody was told.
    """
    parts: list[str] = []
    prompts = {_prompt(opt) for opt in _options(conversation)}
    if len(prompts) == 1:  # two models that are compared may have different ones
        parts += filter(None, prompts)
    lines = conversation.personas[-1] if persona and conversation.personas else []
    about = [line if line.startswith(_PERSONA) else f"{_PERSONA} {line}" for line in lines if line.strip()]
    if persona and conversation.additional_context:
        about.append(conversation.additional_context)
    if about:
        parts.append("\n".join(about))
    return "\n\n".join(parts)


def ticks_of(utterance: ReadUtterance) -> dict[str, bool]:
    """Bucket -> whether it is ticked, of an annotated model's reply; nothing for any other utterance."""
    if utterance.agent_idx != MODEL_IDX or utterance.fake_start:
        return {}
    return ticks_in(utterance.problem_data)


def ticks_in(data: Mapping[str, Any] | None) -> dict[str, bool]:
    """Bucket -> whether it is ticked; nothing where no reply was annotated."""
    if not data or not any(isinstance(value, bool) for value in data.values()):
        return {}  # numbers alone, as in files of January 2021
    return {str(name): tick for name, value in data.items() if (tick := as_bool(value)) is not None}


def _options(conversation: ReadConversation) -> list[Mapping[str, Any]]:
    """The options of the conversation's model, or of each of the two whose replies were compared."""
    options = described(conversation.raw, "model_opt")
    if not isinstance(options, dict):
        return []
    of_each = [options.get(name) for name in conversation.model_nickname.split(COMPARED_SEPARATOR)]
    return [entry for entry in of_each if isinstance(entry, dict)] or [options]


def _prompt(options: Mapping[str, Any]) -> str:
    prompt = options.get("system_prompt")
    return prompt.strip() if isinstance(prompt, str) else ""


def _speakers(conversation: ReadConversation, first_turn: int) -> list[dict[str, Any]]:
    """Which model said a message, where the record names it for each: replies of two models were compared."""
    dialog = conversation.raw.get("dialog")
    if not isinstance(dialog, list) or len(dialog) != len(conversation.dialog):
        return []
    return [
        {"message": first_turn + position, "model": name}
        for position, entry in enumerate(dialog)
        if isinstance(entry, dict) and isinstance(name := entry.get("model_nickname"), str)
    ]


def _metadata(selected: Selected, first_turn: int) -> dict[str, Any]:
    conversation = selected.conversation
    annotations = [
        {"message": first_turn + position, **_listed(ticks)}
        for position, utterance in enumerate(conversation.dialog)
        if (ticks := ticks_of(utterance))
    ]
    served = {utterance.generation.served_model for utterance in conversation.dialog if utterance.generation}
    return {
        "id": selected.digest.hex(),
        "model": conversation.model_nickname,
        "message_models": _speakers(conversation, first_turn),
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
    text = described(conversation.raw, "final_rating_question")
    return text.split(RATING_SEPARATOR) if isinstance(text, str) and text else []


def _listed(ticks: Mapping[str, bool], side: str = "") -> dict[str, list[str]]:
    return {f"{side}offered": list(ticks), f"{side}ticked": [name for name in ticks if ticks[name]]}


def _comparison(judged: ReadComparison) -> dict[str, Any]:
    return {
        "turn_idx": judged.turn_idx,
        "question": judged.question,
        "left_model": judged.left.model_nickname,
        "left_text": judged.left.text,
        **_listed(ticks_in(judged.left.problem_data), "left_"),
        "right_model": judged.right.model_nickname,
        "right_text": judged.right.text,
        **_listed(ticks_in(judged.right.problem_data), "right_"),
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
_NAMES_OF_THE_STUDY = ("id", "model", "message_models", "served_models", "day", "consent", "annotations", "comparisons")
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

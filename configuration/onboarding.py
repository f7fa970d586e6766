"""Onboarding: the dialogues a worker annotates before the task, the right answers, and what counts as passing.

The answers never leave the server: :meth:`OnboardingConfig.for_page` is all that the page gets.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.extra_keys import is_harmless
from model_chat.configuration.files import parse_json, read_text, validation_faults
from model_chat.configuration.json_lines import JsonLines
from model_chat.errors import ConfigurationError
from model_chat.records.schema import HUMAN_IDX, MODEL_IDX, NONE_ALL_GOOD

logger = logging.getLogger(__name__)

CRITERIA_OF_2021 = {"min_correct": 4, "max_incorrect": 3, "max_failures_allowed": 3}
"""What the original's first version had in its code, where its file had none of the three."""


class OnboardingUtterance(BaseModel):
    """One line of an onboarding dialogue; a model's line lists the buckets that are right for it."""

    model_config = ConfigDict(extra="forbid")

    text: str
    agent_idx: int = Field(ge=HUMAN_IDX, le=MODEL_IDX)
    id: Any = None
    """The speaker's name in the original's file; workers see the same names as in the task."""
    episode_done: Any = None
    """ParlAI's, in the original's file; nothing depends on it."""
    answers: list[str] | None = None
    explanation: str | None = None
    """Why these answers are right; shown after a failed try when ``show_explanations`` is set."""

    @model_validator(mode="after")
    def _answers_on_model_lines_only(self) -> OnboardingUtterance:
        if self.agent_idx == MODEL_IDX and not self.answers:
            raise ValueError("a model's line (agent_idx 1) needs 'answers', a list of at least one bucket")
        if self.agent_idx == HUMAN_IDX and (self.answers or self.explanation):
            raise ValueError("a human's line (agent_idx 0) can't have 'answers' or an 'explanation'")
        return self


class OnboardingConfig(BaseModel):
    """The whole of ``onboard_task_data.json``."""

    model_config = ConfigDict(extra="forbid")

    min_correct: int = Field(ge=0)
    """Dialogues that must be annotated exactly right."""
    max_incorrect: int = Field(ge=0)
    """Dialogues that may be annotated otherwise."""
    max_failures_allowed: int = Field(ge=0)
    """Tries after the first one."""
    show_explanations: bool = False
    dialog: list[list[OnboardingUtterance]] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_passed(self) -> OnboardingConfig:
        if self.min_correct > len(self.dialog):
            raise ValueError(
                f"min_correct is {self.min_correct}, but there are only {len(self.dialog)} dialogues: nobody could pass"
            )
        for number, dialogue in enumerate(self.dialog):
            if not any(utterance.agent_idx == MODEL_IDX for utterance in dialogue):
                raise ValueError(f"dialogue {number} has no model line (agent_idx 1) to annotate")
        return self

    @property
    def tries(self) -> int:
        """Tries a worker has in all."""
        return self.max_failures_allowed + 1

    def right_answers(self) -> list[list[list[str] | None]]:
        """The right buckets, one list a dialogue, one entry an utterance (None for a human's). For the server only."""
        return [[utterance.answers for utterance in dialogue] for dialogue in self.dialog]

    def explanations(self) -> list[dict[str, Any]]:
        """What is shown after a failed try (`explanations` in docs/protocol.md); empty unless switched on."""
        if not self.show_explanations:
            return []
        return [
            {"dialog_idx": dialog_idx, "utterance_idx": utterance_idx, "text": utterance.explanation}
            for dialog_idx, dialogue in enumerate(self.dialog)
            for utterance_idx, utterance in enumerate(dialogue)
            if utterance.explanation
        ]

    def for_page(self) -> list[list[dict[str, Any]]]:
        """The dialogues without answers and explanations."""
        return [
            [utterance.model_dump(include={"agent_idx", "text"}) for utterance in dialogue] for dialogue in self.dialog
        ]


def load_onboarding(flag: str, path: str, annotations: AnnotationsConfig) -> OnboardingConfig:
    """Read and check an onboarding file against the task's buckets.

    Raises:
        ConfigurationError: not JSON, wrong keys or types, answers that are no bucket of the task, or criteria that
            nobody could meet: one sentence for each.
    """
    text = read_text(flag, path)
    data, notes = _as_of_today(parse_json(flag, path, text))
    try:
        config = OnboardingConfig.model_validate(data)
    except ValidationError as error:
        said = (f"{flag}: '{path}': {note}" for note in notes)
        raise ConfigurationError(*validation_faults(flag, path, text, error), *said) from None
    for note in notes:
        logger.warning("%s: '%s': %s", flag, path, note)
    lines = JsonLines.of(text)
    faults = []
    unknown: set[str] = set()
    for dialog_idx, dialogue in enumerate(config.dialog):
        for utterance_idx, utterance in enumerate(dialogue):
            answers = utterance.answers or []
            place = ("dialog", dialog_idx, utterance_idx, "answers")
            for answer_idx, answer in enumerate(answers):
                if answer not in annotations.values and answer not in unknown:
                    unknown.add(answer)
                    _, line = lines.resolve((*place, answer_idx))
                    faults.append(
                        f"{flag}: '{path}', line {line}: the answer '{answer}' is no bucket of "
                        f"mephisto.blueprint.annotations_config_path; use one of {', '.join(annotations.values)}."
                    )
            if NONE_ALL_GOOD in answers and len(set(answers)) > 1:
                _, line = lines.resolve(place)
                faults.append(
                    f"{flag}: '{path}', line {line}: '{NONE_ALL_GOOD}' stands beside other answers, and no worker can tick "
                    "them together; remove one."
                )
    ConfigurationError.raise_if(faults)
    return config


def _as_of_today(data: Any) -> tuple[Any, list[str]]:
    """Read a file of an earlier version or of a fork.

    Returns:
        the data without keys that can be ignored and with what files of 2021 left to the code; a sentence for each of
        these, for the requester.
    """
    if not isinstance(data, dict):
        return data, []
    ignored: dict[str, None] = {}  # in the file's order
    data = _without_harmless(data, OnboardingConfig, ignored)
    if isinstance(data.get("dialog"), list):
        data["dialog"] = [
            [_without_harmless(line, OnboardingUtterance, ignored) for line in dialogue]
            if isinstance(dialogue, list)
            else dialogue
            for dialogue in data["dialog"]
        ]
    notes = []
    if ignored:
        keys = ", ".join(f"'{key}'" for key in ignored)
        notes.append(f"nothing here reads {keys}; ignored.")
    if CRITERIA_OF_2021.keys().isdisjoint(data):
        assumed = ", ".join(f"{key} {value}" for key, value in CRITERIA_OF_2021.items())
        notes.append(
            f"a file of 2021 that doesn't say what passes; assumed, as then: {assumed}. Add them to change that."
        )
        data = {**CRITERIA_OF_2021, **data}
    return data, notes


def _without_harmless(entry: Any, model: type[BaseModel], ignored: dict[str, None]) -> Any:
    """Leave out of an object what ``model`` doesn't know and what is harmless; note these keys."""
    if not isinstance(entry, Mapping):
        return entry
    missing = model.model_fields.keys() - entry.keys()
    harmless = [key for key in entry if key not in model.model_fields and is_harmless(key, missing)]
    ignored.update(dict.fromkeys(harmless))
    return {key: value for key, value in entry.items() if key not in harmless}

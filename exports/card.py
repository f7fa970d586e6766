"""The data card: what the exported conversations are, how they were collected, and what they are not good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from model_chat.exports.messages import ExportedConversation
from model_chat.exports.selection import Consent
from model_chat.exports.settings import HF_DATASET, HF_FILE, ExportSettings
from model_chat.records.authenticity import totals_of
from model_chat.records.schema import HUMAN_IDX

NOT_STATED = "not stated"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"
_ESCAPES = str.maketrans(
    {"|": "\\|", "\n": " ", "\r": " ", "<": "&lt;", ">": "&gt;", "`": "\\`", "*": "\\*", "_": "\\_"}
)


@dataclass
class CardFacts:
    """What is counted over the exported conversations, one at a time."""

    conversations: int = 0
    human_messages: int = 0
    model_messages: int = 0
    annotated: int = 0
    rated: int = 0
    judgements: int = 0
    with_image: int = 0
    with_signals: int = 0
    first_day: str | None = None
    last_day: str | None = None
    workers: set[str] = field(default_factory=set)
    models: Counter[str] = field(default_factory=Counter)
    served: dict[str, set[str]] = field(default_factory=dict)
    consent: Counter[str] = field(default_factory=Counter)
    boxes: set[str] = field(default_factory=set)
    questions: set[str] = field(default_factory=set)

    def add(self, exported: ExportedConversation) -> None:
        """Count one conversation."""
        metadata = exported.metadata
        self.conversations += 1
        for utterance in exported.dialog:
            if utterance.agent_idx == HUMAN_IDX:
                self.human_messages += 1
            else:
                self.model_messages += 1
        self.annotated += len(metadata["annotations"])
        self.rated += bool(metadata["ratings"])
        self.judgements += len(metadata["comparisons"])
        self.with_image += exported.has_image
        self.with_signals += totals_of(exported.selected.conversation.raw) is not None
        self.workers.add(metadata["worker"])
        self.models[metadata["model"]] += 1
        self.served.setdefault(metadata["model"], set()).update(metadata["served_models"])
        self.consent[metadata["consent"]] += 1
        self.questions.update(metadata["rating_questions"])
        for entry in metadata["annotations"]:
            self.boxes.update(entry["offered"])
        day = metadata["day"]
        if day is not None:
            self.first_day = min(self.first_day or day, day)
            self.last_day = max(self.last_day or day, day)


def card(facts: CardFacts, left_out: Mapping[str, int], settings: ExportSettings) -> str:
    """The card as Markdown; for `hf-dataset` with the metadata block that the Hugging Face Hub reads.

    It holds nothing that differs between formats but this block, and no time of writing.
    """
    head = _metadata_block(facts, settings) if settings.format == HF_DATASET else ""
    return head + "\n\n".join(
        (
            "# Conversations of people with models",
            "People wrote with models and judged what the models said; collected with model-chat.",
            "## Counts",
            _table(("what", "number"), _counts(facts)),
            f"Dates: {_dates(facts)}.",
            "Left out of what was collected: " + (_listed(left_out) or "nothing") + ".",
            "## Models",
            _table(
                ("model", "conversations", "names given by the endpoint"),
                [
                    (name, number, ", ".join(sorted(facts.served[name])))
                    for name, number in sorted(facts.models.items())
                ],
            ),
            "## People",
            _people(facts, settings),
            "## What was asked",
            f"Boxes for a reply: {_names(facts.boxes)}.\n\nFinal questions: {_names(facts.questions)}.",
            "## Limits",
            _limits(facts, settings),
            "## Licence",
            f"{settings.license or NOT_STATED}".translate(_ESCAPES),
            "",
        )
    )


def _counts(facts: CardFacts) -> list[tuple[str, int]]:
    return [
        ("conversations", facts.conversations),
        ("workers", len(facts.workers)),
        ("messages of people", facts.human_messages),
        ("messages of models", facts.model_messages),
        ("annotated replies", facts.annotated),
        ("rated conversations", facts.rated),
        ("judgements of two replies or conversations", facts.judgements),
    ]


def _dates(facts: CardFacts) -> str:
    return "not recorded" if facts.first_day is None else f"{facts.first_day} to {facts.last_day}"


def _people(facts: CardFacts, settings: ExportSettings) -> str:
    ids = (
        "Workers' ids are replaced by salted pseudonyms; ids of HITs and assignments are left out."
        if settings.deidentify
        else "Workers' ids, and those of HITs and assignments, are the crowd platform's own: personal data."
    )
    consent = ", ".join(f"{kind.value.replace('_', ' ')} {facts.consent[kind.value]}" for kind in Consent)
    pay = (settings.pay_text or NOT_STATED).translate(_ESCAPES)
    return f"{ids}\n\nConsent (conversations): {consent}.\n\nPay: {pay}"


def _limits(facts: CardFacts, settings: ExportSettings) -> str:
    limits = [
        "Only complete conversations are included: people who left early are missing.",
        "Judgements are those of the people who took part, and say nothing of other people's.",
        "Texts are as they were written, by people and by models: they may be false, offensive, or reveal who wrote them.",
    ]
    if settings.deidentify:
        limits.append("Pseudonyms hide ids, not style or what somebody tells of themselves.")
    if facts.with_image:
        limits.append(f"{facts.with_image} conversations are about images, which are named but not included.")
    if facts.with_signals:
        limits.append(
            f"How messages were written was counted in {facts.with_signals} conversations (pasted characters, times away, "
            "keys); the counts are not included, and nobody was left out by them."
        )
    return "\n".join(f"- {limit}" for limit in limits)


def _metadata_block(facts: CardFacts, settings: ExportSettings) -> str:
    block: dict[str, Any] = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": HF_FILE}]}],
        "pretty_name": "Conversations of people with models",
        "size_categories": [next((name for most, name in _SIZES if facts.conversations < most), _LARGEST)],
        "tags": ["conversations", "human-feedback"],
        "task_categories": ["text-generation"],
    }
    if settings.license:
        block["license"] = settings.license
    return f"---\n{yaml.safe_dump(block, sort_keys=True, allow_unicode=True)}---\n\n"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {number}" for reason, number in sorted(counts.items()) if number)


def _names(names: set[str]) -> str:
    return ", ".join(name.translate(_ESCAPES) for name in sorted(names)) or "none"


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *([str(cell).translate(_ESCAPES) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""The data card: what the exported conversations are, how they were collected, and what they are not good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from model_chat.exports.messages import ExportedConversation
from model_chat.exports.selection import Consent
from model_chat.exports.settings import HF_DATASET, HF_FILE, ExportSettings
from model_chat.records.authenticity import totals_of
from model_chat.records.schema import HUMAN_IDX

_TEMPLATES = Path(__file__).resolve().parent / "templates"
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
    annotated_not_taken: int = 0
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
        if not exported.selected.chat_idx:  # else those of the first of two chats
            for judged in metadata["comparisons"]:
                other = {"left": "right_offered", "right": "left_offered"}.get(judged["continued_with"] or "")
                self.annotated_not_taken += bool(other and judged[other])
        day = metadata["day"]
        if day is not None:
            self.first_day = min(self.first_day or day, day)
            self.last_day = max(self.last_day or day, day)


def card(facts: CardFacts, left_out: Mapping[str, int], settings: ExportSettings) -> str:
    """The card as Markdown; for `hf-dataset` with the metadata block that the Hugging Face Hub reads.

    It holds nothing that differs between formats but this block, and no time of writing.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = lambda text: text.translate(_ESCAPES)
    return environment.get_template("card.md.j2").render(
        head=_metadata_block(facts, settings) if settings.format == HF_DATASET else "",
        facts=facts,
        settings=settings,
        consent=[kind.value for kind in Consent],
        left_out=_listed(left_out),
    )


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

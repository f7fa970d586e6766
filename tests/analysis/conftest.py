"""Builders of hand-made conversations: what a test does not say has the plainest value."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from model_chat.analysis.compiler import ModelChatResultsCompiler

BUCKETS = ("rude", "odd", "none_all_good")
BUCKETS_FLAG = ",".join(BUCKETS)
LONG_ENOUGH = "this has five plain words"

Conversation = dict[str, Any]


def make_conversation(
    model: str = "a",
    worker: str = "w1",
    hit: str = "h1",
    labels: Sequence[Sequence[str] | None] = ((),),
    rating: str | None = "4",
    said: Sequence[str] | None = None,
    replies: Sequence[str] | None = None,
    **more: Any,
) -> Conversation:
    """A conversation with an exchange for each entry of ``labels``: the ticked buckets, or None for no annotation.

    An empty entry means `none_all_good`.
    """
    dialog: list[dict[str, Any]] = []
    for i, ticked in enumerate(labels):
        human = said[i] if said else LONG_ENOUGH
        dialog.append({"agent_idx": 0, "id": "Speaker 1", "text": human})
        reply: dict[str, Any] = {"agent_idx": 1, "id": "Speaker 2", "text": replies[i] if replies else f"reply {i}"}
        if ticked is not None:
            names = tuple(ticked) or ("none_all_good",)
            reply["problem_data"] = {bucket: bucket in names for bucket in BUCKETS}
        dialog.append(reply)
    if rating is not None and dialog:
        dialog[-1]["final_rating"] = rating
    return {
        "dialog": dialog,
        "workers": [worker],
        "bad_workers": [],
        "acceptability_violations": [""],
        "hit_ids": [hit],
        "assignment_ids": [f"as-{hit}"],
        "task_description": {"annotations_config": "{}", "model_nickname": model, "model_file": None, "model_opt": {}},
        "personas": None,
        "context_dataset": None,
        "person1_seed_utterance": None,
        "person2_seed_utterance": None,
        "additional_context": None,
        "image_idx": None,
        "status": "complete",
        "reason": None,
        **more,
    }


@pytest.fixture
def make() -> Callable[..., Conversation]:
    return make_conversation


def saver(folder: Path) -> Callable[..., Path]:
    """Write a conversation (or any text) into a date folder, in order of time, and give the results folder back."""
    count = 0

    def write(content: Any, day: str = "2026_11_20", results: str = "results", run_type: str = "live") -> Path:
        nonlocal count
        count += 1
        place = folder / results / day
        place.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        name = f"{day.replace('_', '')}_{count // 3600:02d}{count // 60 % 60:02d}{count % 60:02d}_x_{run_type}.json"
        (place / name).write_text(text, encoding="utf-8")
        return folder / results

    return write


def compiler_of(folder: Path) -> Callable[..., ModelChatResultsCompiler]:
    """A compiler of `results` with small resampling numbers, and whatever flags a test adds."""

    def build(kind: type[ModelChatResultsCompiler] = ModelChatResultsCompiler, **flags: Any) -> Any:
        return kind(
            {
                "results_folders": str(folder / "results"),
                "output_folder": str(folder / "out"),
                "problem_buckets": BUCKETS_FLAG,
                "bootstrap": 100,
                "permutations": 99,
                "report": False,
                **flags,
            }
        )

    return build


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    return saver(tmp_path)


@pytest.fixture
def compiler(tmp_path: Path) -> Callable[..., ModelChatResultsCompiler]:
    return compiler_of(tmp_path)

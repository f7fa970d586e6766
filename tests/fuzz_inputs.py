"""What the parsers of tests/fuzz_with_atheris.py are given, and how they may answer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

from model_chat import compat as compat
from model_chat.errors import ConfigurationError
from model_chat.tests.test_fuzz import KEYS
from model_chat.tests.test_fuzz_studies import WORDS as STUDY_WORDS

WORDS = [
    *KEYS,
    *STUDY_WORDS,
    *[
        "model_opt",
        "reason",
        "config",
        "description",
        "checks",
        "turn",
        "expect",
        "bucket",
        "answers",
        "max_failures",
        "taken",
        "complete",
        "incomplete",
    ],
    *[
        "4|5",
        "yes",
        "api_key",
        "judged_conversation",
        "sha256",
        "comparisons",
        "left",
        "right",
        "pick",
        "tie",
        "both_bad",
        "strength",
        "generation",
    ],
    *[
        "cost_usd",
        "conditions",
        "attention_checks",
        "passed",
        "authenticity",
        "pasted_characters",
        "keys",
        "characters",
        "role",
        "content",
    ],
    *[
        "user",
        "assistant",
        "messages",
        "conversations",
        "from",
        "human",
        "gpt",
        "metadata",
        "worker",
        "event",
        "key",
        "control",
        "page_done",
        "page",
    ],
    *[
        "comparison_done",
        "annotated",
        "study_flow",
        "annotations_config",
        "value",
        "item",
        "choices",
        "delta",
        "usage",
        "finish_reason",
        "error",
    ],
    *["detail", "results", "total_amount", "base_url", "endpoint_model", "http://h/v1", "stop"],
]
FOLDER = Path(tempfile.mkdtemp(prefix="model_chat_fuzz_"))


def as_json(data: bytes) -> Any:
    """What a page or a file can hold: JSON, else a value that the bytes spell, so that few changes lead to many values."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return _spelt(atheris.FuzzedDataProvider(data), 4)


def _spelt(source: Any, depth: int) -> Any:
    kind = source.ConsumeIntInRange(0, 9 if depth else 6)
    if kind < 2:
        return (None, True)[kind]
    if kind == 2:
        return source.ConsumeInt(8)
    if kind == 3:
        return source.ConsumeFloat()
    if kind == 4:
        return source.ConsumeUnicode(source.ConsumeIntInRange(0, 60))
    if kind < 7:
        return source.PickValueInList(WORDS)
    items = range(source.ConsumeIntInRange(0, 5))
    if kind == 7:
        return [_spelt(source, depth - 1) for _ in items]
    return {source.PickValueInList(WORDS): _spelt(source, depth - 1) for _ in items}


def file_of(data: bytes, name: str) -> Path:
    """Write an input into a file."""
    path = FOLDER / name
    path.write_bytes(data)
    return path


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def tried(*readers: Callable[[], Any]) -> None:
    """Read in each way; the faults of a requester's input are sentences."""
    for read in readers:
        try:
            read()
        except ConfigurationError as error:
            if not all(fault.strip().endswith((".", "}")) for fault in error.faults):
                raise TypeError(error.faults) from None


def sentences(faults: list[str]) -> None:
    if not all(fault.endswith(".") for fault in faults):
        raise TypeError(faults)

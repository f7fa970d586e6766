"""One conversation's journal: what was written is what is read, whatever was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_chat.records.journal import Journal, read_journal


@pytest.mark.parametrize(
    "said",
    [
        "plain words",
        "zwei\nZeilen\u2028und noch eine\r",
        "naïve 🙂",
        "half an emoji: \ud83d",
        2**70,
        -(2**63) - 1,
        {"1": [None]},
    ],
)
def test_whatever_was_said_is_read_again(tmp_path: Path, said: Any) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append([{"message": {"text": "before"}}], durable=False)
    journal.append([{"message": {"text": said}}, {"message": {"text": "after"}}], durable=True)
    journal.close()
    assert [entry["message"]["text"] for entry in read_journal(path)] == ["before", said, "after"]

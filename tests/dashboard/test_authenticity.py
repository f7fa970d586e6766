"""What the dashboard shows of counts of how messages were written: a reason to look, only where something was pasted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_chat.dashboard.blinding import Names
from model_chat.dashboard.entries import entry_of
from model_chat.dashboard.listing import read_whole
from model_chat.dashboard.store import Listed
from model_chat.records.authenticity import MessageSignals
from model_chat.records.reading import Source, parse_conversation, read_conversation
from model_chat.tests.dashboard.sample import SampleStudy


def signals(pasted: int | None, keys: int | None = 3) -> list[MessageSignals]:
    return [MessageSignals(utterance_idx=1, characters=10, pasted_characters=pasted, times_away=2, keys=keys)]


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [(None, ()), ([], ()), (signals(0), ()), (signals(None, None), ()), (signals(4), ("pasted",))],
)
def test_pasted_characters_are_a_signal_and_nothing_else_is(
    sample: SampleStudy, recorded: Any, shown: tuple[str, ...]
) -> None:
    sample.chat(authenticity=recorded)
    (path,) = sample.chats.glob("*/*.json")
    source = Source(path=str(path))
    entry = entry_of(read_conversation(source), source)
    assert tuple(name for name in entry.signals if name == "pasted") == shown
    whole = read_whole(Listed("f1", entry, None), Names(blind=False), [])
    counts = whole["authenticity"]
    assert (counts is None) is (not recorded)
    if recorded:
        assert (counts["messages"], counts["characters"], counts["times_away"]) == (1, 10, 2)


@pytest.mark.parametrize(
    "damaged", [7, "pasted", {"pasted": 7}, [{"pasted_characters": 7}], [[{"pasted_characters": 1e400}]], [None]]
)
def test_damaged_counts_are_no_signal(sample: SampleStudy, damaged: Any, tmp_path: Path) -> None:
    sample.chat()
    (path,) = sample.chats.glob("*/*.json")
    conversation = read_conversation(Source(path=str(path)))
    again = parse_conversation({**conversation.raw, "authenticity": damaged})
    assert "pasted" not in entry_of(again, Source(path=str(path))).signals

"""A record that nobody expected is shown as far as it goes, and keeps no other from being shown."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from string import ascii_letters
from typing import Any

import orjson
import pytest

from model_chat.dashboard.app import answer
from model_chat.dashboard.blinding import Names
from model_chat.dashboard.entries import Entry, entry_of
from model_chat.dashboard.listing import read_whole
from model_chat.dashboard.overview import make_overview
from model_chat.dashboard.store import Listed, Snapshot
from model_chat.dashboard.study import StudyInfo
from model_chat.records.reading import Source, read_conversation

RECORD: dict[str, Any] = {
    "dialog": [
        {"agent_idx": 0, "text": "Hi.", "id": "Speaker 1", "timestamp": 1000.0},
        {"agent_idx": 1, "text": "Ho.", "id": "Speaker 2", "timestamp": 1060.0},
    ],
    "workers": ["ann"],
    "task_description": {"model_nickname": "alpha"},
    "status": "complete",
}
FLOW = """
pages:
  - {id: about, kind: questions, items: [{id: age, kind: number, question: "How old are you?", required: no}]}
  - {id: chat, kind: chat}
"""
BOMB = "a: &a [x]\n" + "".join(f"{name}: &{name} [*{last}, *{last}]\n" for last, name in pairwise(ascii_letters))


def entry(folder: Path, **changes: Any) -> Entry:
    path = folder / "20260101_000000_x_live.json"
    path.write_text(json.dumps({**RECORD, **changes}), encoding="utf-8")
    source = Source(str(path))
    return entry_of(read_conversation(source), source)


@pytest.mark.parametrize("moment", [1e300, 10**30, -1e300])
def test_a_time_that_is_none_is_left_out_and_the_overview_is_shown(tmp_path: Path, moment: float) -> None:
    hello, reply = RECORD["dialog"]
    found = entry(tmp_path, dialog=[hello, {**reply, "timestamp": moment}])
    assert (found.started, found.ended, found.minutes) == (1000.0, 1000.0, None)
    study = StudyInfo(id="s", title="s", task_name="s", database=tmp_path / "d", chat_data_folder=tmp_path)
    overview = make_overview(study, Snapshot(1, (Listed("f1", found, None),)), None, Names(False))
    assert json.loads(orjson.dumps(overview))["finished_by_hour"] == [[0, 1]]


@pytest.mark.parametrize(
    ("answers", "where"),
    [(5, "turn 1"), ("about", "turn 1"), ({"page": "a"}, "turn 1"), ([5], "turn 1"), ([{"page": "a"}], "page after a")],
)
def test_answers_of_another_type_say_nothing_of_where_somebody_left(tmp_path: Path, answers: Any, where: str) -> None:
    left = {"status": "incomplete", "reason": "timeout: nothing came", "dialog": RECORD["dialog"][1:]}
    assert entry(tmp_path, answers=answers, **left).left_at == where


@pytest.mark.parametrize(
    ("flow", "question"),
    [(FLOW, "How old are you?"), ("age: 2026-99-99", "age"), ("age: !!int x", "age"), (BOMB, "age"), (5, "age")],
)
def test_answers_are_shown_with_their_questions_if_the_flow_can_be_read(
    tmp_path: Path, flow: Any, question: str
) -> None:
    task = {"model_nickname": "alpha", "study_flow": flow}
    found = entry(tmp_path, answers=[{"page": "about", "item": "age", "value": 42}], task_description=task)
    shown = read_whole(Listed("f1", found, None), Names(False), [])
    assert shown["answers"] == [{"page": "about", "id": "age", "question": question, "answer": 42, "turn": None}]


def test_what_is_no_tick_is_no_mark(tmp_path: Path) -> None:
    hello, reply = RECORD["dialog"]
    found = entry(tmp_path, dialog=[hello, {**reply, "problem_data": {"rude": 1, "odd": 0.5, "good": True}}])
    assert (found.marks, found.marked) == ({"rude": 0, "odd": 0, "good": 1}, 1)


def test_a_record_of_hundreds_of_levels_is_shown(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    shown = read_whole(Listed("f1", entry(tmp_path, attention_checks=deep), None), Names(False), [])
    assert json.loads(bytes(answer(shown).body))["attention_checks"] == deep

"""Judges beside people on the items of a study flow and the final ratings, and people among themselves."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model_chat.analysis import compile_results
from model_chat.analysis.measures import item_digests
from model_chat.records.llm_judgments import CONVERSATION, Judge, JudgmentUsage, LlmJudgment
from model_chat.records.reading import parse_conversation

from .conftest import BUCKETS_FLAG, Conversation, make_conversation, saver

Save = Callable[..., Path]
FLOW = """\
pages:
  - {id: about, kind: questions, items: [{id: age, kind: number, question: "Age?"}]}
  - id: chat
    kind: chat
    every_reply:
      - {id: trust, kind: scale, question: "Trust?", points: 7}
      - {id: wrong, kind: highlight, question: "Mark it.", required: false}
      - {id: why, kind: text, question: "Why?", required: false}
  - id: after
    kind: questions
    items:
      - {id: mood, kind: choice, question: "Mood?", options: [good, bad]}
"""
REPLIES = ["short", "a longer reply", "the longest reply of all of them"]


def record(worker: str, trust: list[int], mood: str, rating: str, marked: tuple[int, ...] = ()) -> Conversation:
    made = make_conversation(worker=worker, hit=worker, labels=[()] * 3, replies=REPLIES, rating=rating)
    made["task_description"] |= {"study_flow": FLOW, "final_rating_question": "How good?"}
    made["answers"] = [
        {"page": "about", "item": "age", "value": 30, "utterance_idx": None},
        {"page": "after", "item": "mood", "value": mood, "utterance_idx": None},
    ]
    for number, value in enumerate(trust):
        made["answers"].append({"page": "chat", "item": "trust", "value": value, "utterance_idx": 2 * number + 1})
        made["answers"].append({"page": "chat", "item": "why", "value": worker, "utterance_idx": 2 * number + 1})
        if number in marked:
            span = [{"start": 0, "end": 3, "text": REPLIES[number][:3]}]
            made["answers"].append({"page": "chat", "item": "wrong", "value": span, "utterance_idx": 2 * number + 1})
    return made


def people() -> list[Conversation]:
    return [
        record("w1", [1, 4, 7], "good", "2", marked=(0,)),
        record("w2", [1, 5, 7], "bad", "4", marked=(0, 1)),
        record("w3", [2, 4, 6], "good", "4"),
    ]


def judgments(trust: list[int], mood: str, rating: int, marked: tuple[int, ...] = ()) -> Iterator[LlmJudgment]:
    digests = item_digests(parse_conversation(people()[0]))
    common: dict[str, Any] = {
        "conversation": digests[-1].hex(),
        "judge": Judge(model="judge", endpoint_model="big"),
        "usage": JudgmentUsage(),
        "prompt_sha256": "0" * 64,
        "boxes": None,
    }
    for number, value in enumerate(trust):
        idx = 2 * number + 1
        answers: dict[str, Any] = {"trust": value, "why": "the judge's words"}
        if number in marked:
            answers["wrong"] = [{"start": 0, "end": 3, "text": "x"}]
        yield LlmJudgment(utterance_idx=idx, item=digests[idx].hex(), answers=answers, **common)
    answers = {"mood": mood, "trust": 1}  # no answer about a conversation is taken for one about its last reply
    yield LlmJudgment(
        about=CONVERSATION, utterance_idx=5, item=digests[-1].hex(), answers=answers, ratings=[rating], **common
    )


@pytest.fixture
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """The table of a judge, by what is judged and the group."""
    return table_of(tmp_path_factory.getbasetemp() / "judge_items")


@functools.cache
def table_of(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Compile it, once for all tests, which only read it."""
    folder.mkdir()
    write = saver(folder)
    for one in people():
        write(one)
    file = folder / "judgments.jsonl"
    file.write_bytes(b"".join(one.line() for one in judgments([1, 4, 6], "good", 3, marked=(0,))))
    flags = ["--results-folders", str(folder / "results"), "--output-folder", str(folder / "out")]
    more = ["--problem-buckets", BUCKETS_FLAG, "--bootstrap", "100", "--permutations", "99", "--judgments", str(file)]
    assert compile_results.main([*flags, *more, "--report"]) == 0
    (table,) = (folder / "out").glob("judge_agreement_2*.csv")
    with table.open(encoding="utf-8", newline="") as lines:
        read = list(csv.DictReader(lines))
    texts = {"judge", "judged", "kind", "level", "by", "group"}
    return {
        (row["judged"], row["group"]): {
            name: value if name in texts else float(value) if value else math.nan for name, value in row.items()
        }
        for row in read
    }


def test_a_scale_is_compared_by_hand(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    row = rows["trust", "all"]
    assert (row["kind"], row["level"], row["items"], row["judgments"], row["workers"]) == ("item", "ordinal", 3, 9, 3)
    # The judge says 1 4 6; w1 1 4 7, w2 1 5 7, w3 2 4 6.
    assert row["raw"] == pytest.approx(5 / 9)
    assert row["judge_rate"] == pytest.approx(11 / 3)
    assert row["person_rate"] == pytest.approx((12 + 13 + 12) / 9)
    assert row["difference"] == pytest.approx(33 / 9 - 37 / 9)
    assert math.isnan(row["kappa"])
    assert (row["person_items"], row["person_judgments"]) == (3, 9)
    assert row["person_raw"] == pytest.approx(3 / 9)  # one pair of three agrees on each reply
    assert 0 < row["alpha"] < 1
    assert 0 < row["person_alpha"] < 1


def test_a_bias_by_length_and_position_is_shown(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert rows["trust", "short"]["difference"] == pytest.approx(1 - 4 / 3)
    assert (rows["trust", "long"]["from"], rows["trust", "long"]["to"]) == (len(REPLIES[2]),) * 2
    assert rows["trust", "late"]["difference"] == pytest.approx(6 - 20 / 3)
    assert rows["trust", "early"]["from"] == 1


def test_a_rating_and_a_choice_are_compared_over_conversations(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    rating = rows["final_rating", "all"]
    assert (rating["kind"], rating["items"], rating["judgments"], rating["raw"]) == ("rating", 1, 3, 0)
    assert (rating["judge_rate"], rating["person_rate"]) == (3, pytest.approx(10 / 3))
    assert rating["person_raw"] == pytest.approx(1 / 3)
    mood = rows["mood: good", "all"]
    assert (mood["level"], mood["raw"], mood["judge_rate"], mood["person_rate"]) == (
        "nominal",
        pytest.approx(2 / 3),
        1,
        pytest.approx(2 / 3),
    )


def test_who_marks_nothing_has_answered(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    marked = rows["wrong: marked", "all"]
    assert (marked["judgments"], marked["judge_rate"], marked["person_rate"]) == (
        9,
        pytest.approx(1 / 3),
        pytest.approx(3 / 9),
    )
    assert marked["raw"] == pytest.approx(7 / 9)


def test_texts_and_what_came_before_the_chat_are_not_compared(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert not [judged for judged, _ in rows if judged.startswith(("age", "why"))]


def test_people_agree_among_themselves_on_items(save: Save, compiler: Any) -> None:
    for one in people():
        save(one)
    found = pd.read_csv(compiler().compile_and_save_results()["agreement"]).set_index("judged")
    trust = found.loc["trust"]
    assert (trust["kind"], trust["items"], trust["judgments"], trust["conversations"]) == ("item", 3, 9, 1)
    assert trust["raw"] == pytest.approx(3 / 9)
    # Of 72 ordered pairs of all judgments 6 agree (1, 4 and 7 occur twice), of 18 within replies also 6.
    assert trust["nominal"] == pytest.approx(1 - (6 / 9) / (1 - 6 / 72))
    assert found.loc["mood: good", "items"] == 1
    assert "age" not in found.index
    assert "why: words" not in found.index

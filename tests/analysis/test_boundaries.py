"""Where a rule begins and ends: times, dates, counts; each at its boundary and beside it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_chat.analysis.console import _cell, _percent, p_text
from model_chat.analysis.latex import p_value
from model_chat.analysis.measures import Measures, context_text, measure
from model_chat.analysis.remarks import remarks
from model_chat.analysis.worker_quality import worker_quality
from model_chat.crowd.workers import Task
from model_chat.records.reading import ReadConversation, UnreadableError, list_files, parse_conversation

from .conftest import make_conversation

BUCKETS = ("rude", "odd", "none_all_good")


def measured(chat: dict[str, Any], buckets: tuple[str, ...] = BUCKETS) -> Measures:
    return measure(parse_conversation(chat), buckets, frozenset(buckets), {})


def timed(*seconds: float | None, shown: float | None = 100.0) -> dict[str, Any]:
    """A conversation in which the worker took this long for each message."""
    chat = make_conversation(labels=[[]] * len(seconds))
    for line, taken in zip(chat["dialog"][::2], seconds, strict=True):
        sent = None if taken is None or shown is None else shown + taken
        line["timing"] = {"shown": shown, "first_key": None, "sent": sent}
    return chat


# --- times -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [((0.0,), [0.0]), ((-0.001,), []), ((0.5, -1.0, 2.0), [0.5, 2.0]), ((None, 3.0), [3.0]), ((), [])],
)
def test_a_message_takes_no_time_or_more_but_never_less(seconds: tuple[float | None, ...], kept: list[float]) -> None:
    chat = timed(*seconds) if seconds else make_conversation()
    assert measured(chat).seconds == pytest.approx(kept)


def test_a_time_needs_both_ends_and_is_that_of_the_worker_alone() -> None:
    chat = timed(4.0)
    chat["dialog"][1]["timing"] = {"shown": 1.0, "sent": 99.0}
    assert measured(chat).seconds == [4.0]
    chat["dialog"][0]["fake_start"] = True
    assert measured(chat).seconds == []
    assert measured(timed(None)).median_seconds is None
    without_start = timed(4.0)
    without_start["dialog"][0]["timing"]["shown"] = None
    assert measured(without_start).seconds == []
    huge = timed(1.0)
    huge["dialog"][0]["timing"] = {"shown": -1.7e308, "sent": 1.7e308}
    assert measured(huge).seconds == []


@pytest.mark.parametrize(("seconds", "median"), [((1.0, 5.0, 2.0), 2.0), ((1.0, 2.0), 1.5), ((7.0,), 7.0)])
def test_the_time_of_a_conversation_is_the_median(seconds: tuple[float, ...], median: float) -> None:
    assert measured(timed(*seconds)).median_seconds == median


@pytest.mark.parametrize(("least", "kept"), [(1.999, 1), (2.0, 1), (2.001, 0), (0.0, 1)])
def test_just_as_fast_as_allowed_counts(
    save: Callable[..., Path], compiler: Callable[..., Any], least: float, kept: int
) -> None:
    save(timed(1.0, 2.0, 3.0))
    assert compiler(min_seconds_per_message=least).compile_results()["conversation_idx"].nunique() == kept


@pytest.mark.parametrize(
    ("start", "days"),
    [
        ("2026_11_20", ["2026-11-20", "2026-11-21"]),
        ("2026-11-20", ["2026-11-20", "2026-11-21"]),
        ("20261121", ["2026-11-21"]),
        (" 2026_11_22 ", []),
        ("", ["2026-11-19", "2026-11-20", "2026-11-21"]),
    ],
)
def test_the_start_date_itself_counts(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], start: str, days: list[str]
) -> None:
    for day in ("2026_11_19", "2026_11_20", "2026_11_21"):
        save(make(worker=day), day=day)
    run = compiler(start_date=start)
    run.compile_and_save_results()
    corpus = run.summary.data.corpus
    assert [str(day) for day in corpus.conversations["day"].to_pylist()] == days
    assert [(entry.reason.value, entry.detail) for entry in corpus.excluded] == [
        ("before_start_date", day) for day in ("2026-11-19", "2026-11-20", "2026-11-21") if day not in days
    ]


def test_a_file_without_a_day_is_never_before_the_start(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    folder = save(make())
    (file,) = folder.glob("*/*.json")
    file.rename(folder / "mine.json")
    (source,) = list_files([folder]).sources
    assert source.day is None and source.run_type is None
    assert compiler(start_date="2030_01_01", run_type="live").compile_results()["conversation_idx"].nunique() == 1


@pytest.mark.parametrize(
    ("folder", "name", "day", "run_type"),
    [
        ("2026_11_20", "20261121_100000_x_live.json", "2026-11-20", "live"),
        ("other", "20261121_100000_x_sandbox.json", "2026-11-21", "sandbox"),
        ("other", "20261121_100000.json", "2026-11-21", None),
        ("other", "20261341_100000_x_live.json", None, "live"),
        ("2026_13_20", "x.json", None, None),
        ("2026_13_20", "20261121_100000_live.json", "2026-11-21", "live"),
        ("x2026_11_20", "x_live.json", None, None),
        ("2026_11_20x", "20261121_100000_x_live.jsonx", "", None),
    ],
)
def test_the_day_is_the_folders_else_the_files(
    tmp_path: Path, folder: str, name: str, day: str | None, run_type: str | None
) -> None:
    place = tmp_path / folder
    place.mkdir()
    (place / name).write_text("{}")
    sources = list_files([place]).sources
    if day == "":
        assert sources == []
        return
    (source,) = sources
    assert source.day == (None if day is None else datetime.date.fromisoformat(day))
    assert source.run_type == run_type


@pytest.mark.parametrize(
    ("times", "seconds"),
    [((5.0, 65.5), 60.5), ((65.5, 5.0), 60.5), ((5.0, None), 0.0), ((5.0, 5.0), 0.0), ((0.0, 7.0), 0.0)],
)
def test_a_conversation_lasts_from_the_first_thing_said_to_the_last(
    times: tuple[float | None, float | None], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make_conversation()
    for line, moment in zip(chat["dialog"], times, strict=True):
        line["timestamp"] = moment  # 0 is no time: what an old file writes for none
    monkeypatch.setattr(Task, "conversation", lambda self, agent_id: parse_conversation(chat))
    assert Task.seconds(object.__new__(Task), "1") == seconds


# --- counts ------------------------------------------------------------------------------------------------------


def test_what_is_counted_in_a_dialogue() -> None:
    chat = make_conversation(
        labels=[["rude"], None, []],
        said=["who? what?? 你好？", "no question here", "ascii only"],
        replies=["first", "second", "third"],
    )
    found = measured(chat)
    assert (found.human_utterances, found.model_utterances, found.human_questions) == (3, 3, 3)
    assert found.ticks == [(True, False, False), (False, False, True)]
    assert found.exchanges == [0, 2]
    assert found.rows == [None, (True, False, False), None, None, None, (False, False, True)]
    assert found.last_model_row == 5
    assert not found.is_uniform
    assert measured(make_conversation(labels=[["odd"], ["odd"]])).is_uniform
    assert not measured(make_conversation(labels=[["odd"]])).is_uniform


def test_the_rating_stands_at_the_last_model_message_else_at_the_last_row() -> None:
    chat = make_conversation(labels=[[]])
    chat["dialog"].append({"agent_idx": 0, "id": "Speaker 1", "text": "bye"})
    assert measured(chat).last_model_row == 1
    chat["dialog"] = [chat["dialog"][0], chat["dialog"][2]]
    assert measured(chat).last_model_row == 1
    assert Measures().mean_words == 0.0


def test_ticks_of_boxes_that_nobody_asked_for_are_counted_by_name() -> None:
    chat = make_conversation(labels=[["rude"], ["rude"]])
    chat["dialog"][1]["problem_data"] |= {"new": True, "newer": False}
    chat["dialog"][3]["problem_data"] |= {"new": True}
    unknown: dict[str, int] = {}
    measure(parse_conversation(chat), BUCKETS, frozenset(BUCKETS), unknown)
    assert unknown == {"new": 2}


def test_what_is_no_tick_is_named() -> None:
    chat = make_conversation(labels=[[], []])
    chat["dialog"][3]["problem_data"]["odd"] = "x" * 60
    with pytest.raises(UnreadableError, match=r"`problem_data.odd` of utterance 3 is no tick: 'x{39}$"):
        measured(chat)


def test_the_context_row_has_the_models_lines() -> None:
    chat = make_conversation(
        personas=[["the human's"], ["your persona: i bake.", "i sail."]], additional_context="bread", image_idx=0
    )
    assert context_text(parse_conversation(chat)) == "your persona: i bake.\nyour persona: i sail.\nbread\nimage: 0"
    assert context_text(parse_conversation(make_conversation())) == ""


def digests(**changes: Any) -> tuple[bytes, bytes]:
    found = measured(make_conversation(**{"labels": [[], []], **changes}))
    return found.digest, found.dialog_hash


@pytest.mark.parametrize(
    "change",
    [
        {"worker": "other"}, {"hit": "other"}, {"rating": "5"}, {"model": "other"}, {"replies": ["x", "y"]},
        {"said": ["other words that are said", "x"]}, {"additional_context": "other"}, {"assignment_ids": ["other"]},
    ],
)  # fmt: skip
def test_conversations_that_differ_anywhere_are_no_duplicates(change: dict[str, Any]) -> None:
    assert digests(**change)[0] != digests()[0]
    same_words = set(change) <= {"worker", "hit", "rating", "assignment_ids"}
    assert (digests(**change)[1] == digests()[1]) is same_words


def test_a_time_alone_tells_two_conversations_apart() -> None:
    early, late = make_conversation(), make_conversation()
    early["dialog"][0]["timestamp"], late["dialog"][0]["timestamp"] = 1.0, 2.0
    assert measured(early).digest != measured(late).digest
    assert measured(early).dialog_hash == measured(late).dialog_hash


# --- shown numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "shown"), [(0.001, "0.001"), (0.00099, "<0.001"), (0.0, "<0.001"), (1.0, "1.000"), (math.nan, "–")]
)
def test_p_values_as_people_read_them(p: float, shown: str) -> None:
    assert p_text(p) == shown
    assert p_value(p).strip("$") == shown.replace("–", "--")


def test_cells_as_people_read_them() -> None:
    assert [_cell(value) for value in (1234, 1234.5, np.int64(3), "x", None, math.nan, -0.001, math.inf)] == [
        "1,234", "1,234.50", "3", "x", "–", "–", "0.00", "–",
    ]  # fmt: skip
    assert [_percent(value) for value in (0.125, -0.0001, 1, None, math.nan)] == ["12.5%", "0.0%", "100.0%", "–", "–"]


# --- remarks -----------------------------------------------------------------------------------------------------


def said(compiler: Callable[..., Any], **flags: Any) -> list[str]:
    run = compiler(**flags)
    run.compile_and_save_results()
    found: list[str] = remarks(run.summary)
    return found


@pytest.mark.parametrize(("workers", "is_said"), [(9, True), (10, False)])
def test_ten_workers_are_enough_for_an_interval(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], workers: int, is_said: bool
) -> None:
    for number in range(workers):
        save(make(worker=f"w{number}"))
    assert any("Fewer than 10 workers" in sentence for sentence in said(compiler)) is is_said


def test_what_a_reader_has_to_know_is_said_with_its_numbers(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    folder = save(make(worker="w1", labels=[["rude"]]))
    save(make(worker="w2", labels=[None], rating=None))
    save(make(worker="w3", acceptability_violations=["exact_match"]))
    chat = make(worker="w4", status="incomplete")
    chat["dialog"][1]["problem_data"] |= {"new": True}
    save(chat)
    (folder / "notes.txt").write_text("")
    assert said(compiler, include_incomplete=True) == [
        "1 of 4 conversations hold no annotation; bucket shares leave them out.",
        "Never ticked: odd; check the names in --problem-buckets.",
        "Ticked but not in --problem-buckets, so not counted: new (once).",
        "1 of 4 conversations lack a final rating; means are over those that have it.",
        "Fewer than 10 workers talked to a: take the intervals as rough.",
        "1 counted conversations failed an acceptability check; --exclude-violations leaves them out.",
        "Conversations that were cut off are counted, as --include-incomplete asks.",
        "1 other files in the results folders are no conversations by their names.",
    ]


def test_long_lists_in_remarks_are_cut(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for number in range(6):
        chat = make(model=f"m{number}", worker=f"w{number}", labels=[["rude"], ["odd"]])
        for line in chat["dialog"][1::2]:
            line["problem_data"] |= {f"new{number}": True}
        save(chat)
    found = said(compiler)
    named = ", ".join(f"new{number} (2 times)" for number in range(5))
    assert f"Ticked but not in --problem-buckets, so not counted: {named} and 1 more." in found
    assert "Fewer than 10 workers talked to m0, m1, m2, m3, m4 and others: take the intervals as rough." in found


def test_nothing_annotated_and_nothing_counted_are_said(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(labels=[None]))
    assert said(compiler)[0] == (
        "No model message is annotated: use --problem-buckets none if the responses were not annotated at all."
    )
    assert not any("Never ticked" in sentence for sentence in said(compiler))
    assert said(compiler, start_date="2030_01_01") == ["No conversation counts: see the exclusions for the reasons."]


# --- workers -----------------------------------------------------------------------------------------------------


def test_signs_of_inattention_need_two_of_a_kind() -> None:
    frame = worker_quality(
        workers=np.array([0, 1, 1, 2]),
        worker_names=np.array(["one", "two", "three"], dtype=object),
        models=np.array([0, 0, 1, 2]),
        ratings=np.array([[3.0], [5.0], [5.0], [math.nan]]),
        seconds=np.array([2.0, 1.0, 4.0, math.nan]),
        words_per_message=np.array([1.0, 2.0, 4.0, math.nan]),
        turn_workers=np.array([0, 1, 1, 1]),
        labels=np.array([[True, False], [True, True], [True, True], [False, True]]),
    ).set_index("worker_id")
    assert frame.index.tolist() == ["one", "two", "three"], "most deviating first, by name, unknown last"
    # Model 0 was rated 3 by one and 5 by two; nobody else rated model 1.
    assert frame["mean_deviation"].tolist()[:2] == [-2, 2] and math.isnan(frame.loc["three", "mean_deviation"])
    assert math.isnan(frame.loc["one", "same_rating_share"]) and frame.loc["two", "same_rating_share"] == 1
    assert math.isnan(frame.loc["one", "identical_labels_share"])
    assert frame.loc["two", "identical_labels_share"] == pytest.approx(2 / 3)
    assert frame["straight_lined_share"].isna().all(), "one question has no line"
    assert frame.loc["two", "median_seconds"] == 2.5 and frame.loc["two", "words_per_message"] == 3
    assert frame["conversations"].tolist() == [1, 2, 1]
    assert frame["mean_rating"].tolist()[:2] == [3, 5]


def test_the_most_deviating_worker_comes_first_whichever_way_and_who_is_unknown_last() -> None:
    frame = worker_quality(
        workers=np.array([0, 1, 2, 3]),
        worker_names=np.array(["a", "b", "c", "d"], dtype=object),
        models=np.array([1, 0, 0, 0]),
        ratings=np.array([[3.0], [3.0], [2.0], [5.0]]),
        seconds=np.full(4, math.nan),
        words_per_message=np.ones(4),
        turn_workers=np.zeros(0, int),
        labels=np.zeros((0, 2), dtype=bool),
    )
    # Less the mean of the two others: b 3 - 3.5, c 2 - 4, d 5 - 2.5.
    assert frame["worker_id"].tolist() == ["d", "c", "b", "a"]
    assert frame["mean_deviation"].tolist()[:3] == [2.5, -2, -0.5]


@pytest.mark.parametrize(
    ("answers", "share"),
    [([[4.0, 4.0]], 1.0), ([[4.0, 5.0]], 0.0), ([[4.0, math.nan]], math.nan), ([[2, 2, math.nan]], 1)],
)
def test_a_line_is_two_answers_or_more_that_are_all_the_same(answers: list[list[float]], share: float) -> None:
    frame = worker_quality(
        np.zeros(1, int), np.array(["w"], dtype=object), np.zeros(1, int), np.array(answers), np.array([math.nan]),
        np.array([1.0]), np.zeros(0, int), np.zeros((0, 2), dtype=bool),
    )  # fmt: skip
    assert frame["straight_lined_share"].tolist() == pytest.approx([share], nan_ok=True)


def test_a_conversation_is_what_was_read() -> None:
    assert isinstance(parse_conversation(make_conversation()), ReadConversation)

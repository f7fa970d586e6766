"""Four conversations, small enough that every number is worked out by hand."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

# Model a: worker w1 (2 exchanges), worker w2 (2 exchanges); model b: worker w1 (1 exchange), worker w3 (2 exchanges).
FOUR: list[dict[str, Any]] = [
    {
        "model": "a",
        "worker": "w1",
        "hit": "h1",
        "labels": [["rude"], []],
        "rating": "2",
        "said": ["do you like green tea?", "why not? really? I do"],  # 5 and 5 words, 1 and 2 questions
        "personas": [["i am human."], ["i like tea.", "i own a dog."]],
        "additional_context": "Tea",
    },
    {
        "model": "a",
        "worker": "w2",
        "hit": "h2",
        "labels": [[], []],
        "rating": "5",
        "said": ["four plain words here", "and now there are six words"],  # 4 and 6 words
    },
    {
        "model": "b",
        "worker": "w1",
        "hit": "h3",
        "labels": [["rude", "odd"]],
        "rating": "1",
        "said": ["one two three four five"],
    },
    {
        "model": "b",
        "worker": "w3",
        "hit": "h4",
        "labels": [["odd"], ["rude"]],
        "rating": "3",
        "said": ["one two three four", "one two three four"],
    },
]


@pytest.fixture
def four(make: Callable[..., Any], save: Callable[..., Path]) -> None:
    for entry in FOUR:
        save(make(**entry))


def test_every_utterance_is_a_row_with_the_context_first(four: None, compiler: Callable[..., Any]) -> None:
    frame = compiler().compile_results()
    assert list(frame.columns) == [
        "folder", "worker_id", "hit_id", "model_nickname", "conversation_idx", "turn_idx", "agent_idx", "text",
        "rude", "odd", "none_all_good", "final_rating",
    ]  # fmt: skip
    assert len(frame) == (4 + 1) + (4 + 1) + (2 + 1) + (4 + 1)
    first = frame[frame["conversation_idx"] == 0]
    assert first["turn_idx"].to_list() == [-1, 0, 1, 2, 3]
    assert first["agent_idx"].to_list() == [1, 0, 1, 0, 1]
    assert first["text"].iloc[0] == "your persona: i like tea.\nyour persona: i own a dog.\nTea"
    assert first["rude"].to_list() == [None, None, True, None, False]
    assert first["none_all_good"].to_list() == [None, None, False, None, True]
    assert first["final_rating"].isna().to_list() == [True, True, True, True, False]
    assert first["final_rating"].iloc[-1] == 2
    assert frame[frame["conversation_idx"] == 1]["text"].iloc[0] == ""  # no persona: the row is there all the same


def test_per_model_statistics_are_the_hand_counts(four: None, compiler: Callable[..., Any]) -> None:
    run = compiler()
    run.compile_results()
    a, b = run.summary.models.to_dict("records")
    assert a == {
        "model_nickname": "a",
        "conversations": 2,
        "workers": 2,
        "model_utterances": 4,
        "annotated_utterances": 4,
        "rude": 1,
        "rude_share": 1 / 4,
        "odd": 0,
        "odd_share": 0.0,  # 0 is shown as 0
        "none_all_good": 3,
        "none_all_good_share": 3 / 4,
        "clean_conversations": 1,
        "clean_share": 1 / 2,
        "human_utterances": 4,
        "human_words": 5 + 5 + 4 + 6,
        "words_per_utterance": 20 / 4,
        "human_questions": 1 + 2,
        "questions_per_utterance": 3 / 4,
        "final_rating_count": 2,
        "final_rating_mean": (2 + 5) / 2,
    }
    assert b["rude"] == 2 and b["odd"] == 2 and b["none_all_good"] == 0
    assert b["rude_share"] == b["odd_share"] == 2 / 3
    assert b["clean_conversations"] == 0 and b["clean_share"] == 0.0
    assert b["human_words"] == 13 and b["words_per_utterance"] == 13 / 3
    assert b["final_rating_mean"] == 2.0


def test_worker_table_counts_problems_most_first(four: None, compiler: Callable[..., Any]) -> None:
    run = compiler()
    run.compile_results()
    # w1: one problem with a, one with b (two labels on one message are one problem); w2: none; w3: two in one.
    assert run.summary.workers.to_dict("records") == [
        {"worker_id": "w3", "conversations": 1, "problems_found": 2, "avg_problems_per_convo": 2.0},
        {"worker_id": "w1", "conversations": 2, "problems_found": 2, "avg_problems_per_convo": 1.0},
        {"worker_id": "w2", "conversations": 1, "problems_found": 0, "avg_problems_per_convo": 0.0},
    ]


def test_estimates_cluster_by_worker(four: None, compiler: Callable[..., Any]) -> None:
    run = compiler()
    run.compile_results()
    estimates = run.summary.estimates.set_index(["model_nickname", "metric"])
    rude = estimates.loc[("a", "rude")]
    # Workers: x = (1, 0), n = (2, 2), p = 1/4; residuals x - pn = (1/2, -1/2); se = sqrt(2/1 · 1/2) / 4 = 1/4.
    assert rude["value"] == 0.25 and rude["se"] == pytest.approx(0.25)
    rating = estimates.loc[("a", "final_rating")]
    # x = (2, 5), n = (1, 1), mean 3.5; residuals ±1.5; se = sqrt(2 · 4.5) / 2 = 1.5; t(1 df, 0.975) = 12.706…
    assert rating["value"] == 3.5 and rating["se"] == pytest.approx(1.5)
    assert (rating["low"], rating["high"]) == (1.0, 5.0)  # 3.5 ± 19.1, cut at the ends of the scale


def test_differences_are_a_less_b(four: None, compiler: Callable[..., Any]) -> None:
    run = compiler()
    run.compile_results()
    pairs = run.summary.comparisons.set_index("metric")
    assert pairs.loc["rude", "difference"] == pytest.approx(1 / 4 - 2 / 3)
    assert pairs.loc["final_rating", "difference"] == pytest.approx(3.5 - 2.0)
    assert pairs.loc["clean_conversation", "difference"] == pytest.approx(0.5)
    # a: (2, 5), b: (1, 3): of four pairs a wins 2>1, 5>1, 5>3 and loses 2<3: (3 - 1) / 4.
    assert pairs.loc["final_rating", "cliffs_delta"] == 0.5


def test_turn_table_follows_the_exchanges(four: None, compiler: Callable[..., Any]) -> None:
    run = compiler()
    run.compile_results()
    turns = run.summary.turns.set_index(["model_nickname", "bucket", "exchange"])["rate"]
    assert turns["a", "rude", 1] == 0.5 and turns["a", "rude", 2] == 0.0
    assert turns["b", "odd", 1] == 1.0 and turns["b", "odd", 2] == 0.0
    assert run.summary.turns.set_index(["model_nickname", "bucket", "exchange"])["messages"]["b", "odd", 2] == 1


def test_saved_files_hold_the_same_numbers(
    four: None, compiler: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    files = compiler().compile_and_save_results()
    printed = capsys.readouterr().out
    assert "\nInterval and p: one test of each difference by itself. p (Holm): corrected over all pairs" in printed
    with files["results"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    assert [row["rude"] for row in rows[:5]] == ["", "", "true", "", "false"]
    assert [row["final_rating"] for row in rows[:5]] == ["", "", "", "", "2"]
    workers = pd.read_csv(files["worker_results"])
    assert list(workers.columns) == ["worker_id", "conversations", "problems_found", "avg_problems_per_convo"]
    assert workers["problems_found"].to_list() == [2, 2, 0]
    models = pd.read_csv(files["model_results"]).set_index("model_nickname")
    assert models.loc["a", "rude_share"] == 0.25 and models.loc["b", "clean_share"] == 0.0
    statistics = json.loads(files["statistics"].read_text())
    assert statistics["conversations_found"] == statistics["conversations_counted"] == 4
    assert statistics["excluded"] == {}
    printed = re.sub(r" +", " ", printed)
    assert "4 conversations found, 4 counted, 0 left out." in printed
    assert "clean conversations 1 (50.0%) 0 (0.0%)" in printed
    assert "final_rating: mean 3.50 2.00" in printed


def test_seeded_messages_are_shown_but_not_measured(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    conversation = make(labels=[None, ["rude"]], said=["Hi!", "these are exactly five words"])
    for utterance in conversation["dialog"][:2]:
        utterance["fake_start"] = True
    save(conversation)
    run = compiler()
    frame = run.compile_results()
    (row,) = run.summary.models.to_dict("records")
    assert len(frame) == 5  # they are rows
    assert row["human_utterances"] == 1 and row["human_words"] == 5  # "Hi!" was said for the worker
    assert row["model_utterances"] == 1 and row["rude_share"] == 1.0  # the seed is not the model's own
    assert run.summary.turns["exchange"].to_list() == [1, 1, 1]


def test_several_questions_have_a_column_each(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(worker="w1", rating="4|1"))
    save(make(worker="w2", rating="5"))
    run = compiler()
    frame = run.compile_results()
    assert list(frame.columns)[-2:] == ["final_rating_1", "final_rating_2"]
    assert frame["final_rating_1"].dropna().to_list() == [4, 5]
    assert frame["final_rating_2"].dropna().to_list() == [1]
    (row,) = run.summary.models.to_dict("records")
    assert row["final_rating_1_mean"] == 4.5 and row["final_rating_1_count"] == 2
    assert row["final_rating_2_mean"] == 1.0 and row["final_rating_2_count"] == 1


def test_without_buckets_there_are_no_bucket_columns(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(labels=[None, None], rating="3"))
    run = compiler(problem_buckets="")
    frame = run.compile_results()
    assert list(frame.columns)[-2:] == ["text", "final_rating"]
    assert run.summary.workers["problems_found"].isna().all()
    assert list(run.summary.models.columns)[:5] == [
        "model_nickname", "conversations", "workers", "model_utterances", "annotated_utterances",
    ]  # fmt: skip


def test_agreement_is_measured_where_workers_judged_the_same_reply(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    # The same first exchange by three workers: rude, rude, not; the second exchange differs in what the human said.
    for worker, label in (("w1", ["rude"]), ("w2", ["rude"]), ("w3", [])):
        save(make(worker=worker, hit=worker, labels=[label, []], said=["a b c d e", f"{worker} says five plain words"]))
    run = compiler()
    run.compile_results()
    rude = run.summary.agreement.set_index("judged").loc["rude"]
    assert rude["items"] == 1 and rude["judgments"] == 3
    assert rude["raw"] == pytest.approx(1 / 3)  # of three pairs one agrees


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_other_formats_hold_the_same_table(four: None, compiler: Callable[..., Any], kind: str) -> None:
    expected = compiler().compile_results()
    files = compiler(results_format=kind).compile_and_save_results()
    if kind == "parquet":
        read = pd.read_parquet(files["results"])
        pd.testing.assert_frame_equal(read, expected)
    else:
        rows = json.loads(files["results"].read_text(encoding="utf-8"))
        assert len(rows) == len(expected) and rows[2]["rude"] is True and rows[1]["rude"] is None
        assert rows[4]["final_rating"] == 2

"""Every number of every table, put together a second time from the conversations themselves."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_chat.analysis import comparison, estimates, tables
from model_chat.analysis.report import browsable

from .conftest import BUCKETS

QUESTIONS = 2


def chats(make: Callable[..., Any]) -> list[dict[str, Any]]:
    """36 conversations of 3 models by 6 workers, of different lengths, some not annotated or rated."""
    rng = np.random.default_rng(12)
    made = []
    for number in range(36):
        turns = int(rng.integers(1, 4))
        labels: list[Any] = [
            ["rude"] if rng.random() < 0.3 else ["odd"] if rng.random() < 0.3 else [] for _ in range(turns)
        ]
        if number % 9 == 0:
            labels[0] = None
        made.append(
            {
                "model": "abc"[number % 3],
                "worker": f"w{rng.integers(6)}",
                "hit": f"h{number}",
                "labels": labels,
                "rating": None if number % 7 == 0 else f"{rng.integers(1, 6)}|{rng.integers(1, 6)}",
            }
        )
    return made


@pytest.fixture
def corpus(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> tuple[list[dict[str, Any]], Any]:
    made = chats(make)
    for entry in made:
        save(make(**entry))
    run = compiler(
        bootstrap=150, permutations=99, rate_difference=0.2, rating_difference=0.5, power=0.9, confidence=0.9
    )
    run.compile_results()
    return made, run.summary


def values(chat: dict[str, Any], metric: str) -> tuple[float, float]:
    """What a conversation adds to a metric: sum and total."""
    annotated = [labels for labels in chat["labels"] if labels is not None]
    if metric in BUCKETS:
        return sum((metric in labels) or (not labels and metric == "none_all_good") for labels in annotated), len(
            annotated
        )
    if metric == "clean_conversation":
        return (float(not any(annotated)), 1.0) if annotated else (0.0, 0.0)
    if chat["rating"] is None:
        return 0.0, 0.0
    return float(chat["rating"].split("|")[int(metric[-1]) - 1]), 1.0


METRICS = (*BUCKETS, "clean_conversation", "final_rating_1", "final_rating_2")


def by_worker(made: list[dict[str, Any]], model: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    sums, totals = defaultdict(float), defaultdict(float)
    for chat in made:
        if chat["model"] == model:
            x, n = values(chat, metric)
            sums[chat["worker"]] += x
            totals[chat["worker"]] += n
    names = sorted(sums)
    return np.array([sums[name] for name in names]), np.array([totals[name] for name in names])


def estimate(made: list[dict[str, Any]], model: str, metric: str) -> estimates.Estimate:
    x, n = by_worker(made, model, metric)
    if metric.startswith("final"):
        return estimates.mean(x, n, 0.9, (1.0, 5.0))
    return estimates.rate(x, n, 0.9)


def test_estimates(corpus: tuple[list[dict[str, Any]], Any]) -> None:
    made, summary = corpus
    found = summary.estimates
    assert list(zip(found["model_nickname"], found["metric"], strict=True)) == list(itertools.product("abc", METRICS))
    for row in found.itertuples():
        expected = estimate(made, row.model_nickname, row.metric)
        assert (row.value, row.se, row.low, row.high) == pytest.approx(
            (expected.value, expected.se, expected.low, expected.high), nan_ok=True
        )
        assert (row.total, row.workers) == (expected.total, expected.clusters)
        assert row.kind == ("rating" if row.metric.startswith("final") else "rate")
        assert math.isnan(row.bootstrap_low) or row.bootstrap_low <= row.value <= row.bootstrap_high
        assert row.bootstrap_se == pytest.approx(row.se, rel=0.6)
    assert found["bootstrap_low"].notna().sum() > 15


def test_the_bootstrapped_intervals_of_rates_are_made_on_the_logit_scale(
    corpus: tuple[list[dict[str, Any]], Any],
) -> None:
    made, summary = corpus
    found = summary.estimates[summary.estimates["kind"] == "rate"]
    for model, rows in found.groupby("model_nickname"):
        sums, totals = (
            np.stack(columns, axis=1)
            for columns in zip(*(by_worker(made, model, metric) for metric in rows["metric"]), strict=True)
        )
        rng = np.random.default_rng([summary.data.settings.seed, *model.encode()])
        boots = estimates.bootstrap(sums, totals, rng, 150, 0.9, logit=True)
        assert rows[["bootstrap_se", "bootstrap_low", "bootstrap_high"]].to_numpy() == pytest.approx(
            np.array([(boot.se, boot.low, boot.high) for boot in boots]), nan_ok=True
        )


def test_another_model_changes_nothing_for_the_others(
    corpus: tuple[list[dict[str, Any]], Any],
    make: Callable[..., Any],
    save: Callable[..., Path],
    compiler: Callable[..., Any],
) -> None:
    _, summary = corpus
    save(make(model="d", worker="new", rating="1|2"))
    run = compiler(
        bootstrap=150, permutations=99, rate_difference=0.2, rating_difference=0.5, power=0.9, confidence=0.9
    )
    run.compile_results()
    now = run.summary.estimates
    same = now[now["model_nickname"] != "d"].reset_index(drop=True)
    assert same.equals(summary.estimates)
    pairs = run.summary.comparisons.drop(columns="p_holm")
    kept = pairs[(pairs["model_b"] != "d")].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, summary.comparisons.drop(columns="p_holm"), check_dtype=False)


def test_comparisons(corpus: tuple[list[dict[str, Any]], Any]) -> None:
    made, summary = corpus
    found = summary.comparisons
    assert list(zip(found["metric"], found["model_a"], found["model_b"], strict=True)) == [
        (metric, a, b) for metric in METRICS for a, b in itertools.combinations("abc", 2)
    ]
    for row in found.itertuples():
        pair = [chat for chat in made if chat["model"] in (row.model_a, row.model_b)]
        x, n = (np.array(column) for column in zip(*(values(chat, row.metric) for chat in pair), strict=True))
        is_a = np.array([chat["model"] == row.model_a for chat in pair])
        a, b = (estimate(made, model, row.metric) for model in (row.model_a, row.model_b))
        assert (row.value_a, row.value_b) == pytest.approx((a.value, b.value))
        assert row.difference == pytest.approx(a.value - b.value)
        assert row.test == "permutation" and row.p * 100 == pytest.approx(round(row.p * 100)) and row.p >= 0.01
        if math.isfinite(row.low):
            assert row.low <= row.difference <= row.high
            assert (row.low <= 0 <= row.high) == (row.p > 0.1 + 1e-9)
        is_rating = row.metric.startswith("final")
        if is_rating:
            own, other = x[is_a & (n > 0)], x[~is_a & (n > 0)]
            assert row.effect == "Hedges' g" and row.effect_size == pytest.approx(comparison.hedges_g(own, other))
            assert row.cliffs_delta == pytest.approx(comparison.cliffs_delta(own, other))
        else:
            assert row.effect == "Cohen's h" and math.isnan(row.cliffs_delta)
            assert row.effect_size == pytest.approx(comparison.cohens_h(a.value, b.value))
        power = comparison.power_to_compare(
            a, b, int((n[is_a] > 0).sum()), int((n[~is_a] > 0).sum()), 0.5 if is_rating else 0.2, 0.9, 0.9
        )
        assert (row.detectable, row.needed, row.more_a, row.more_b) == pytest.approx(
            (power.detectable, power.needed, power.more_a, power.more_b), nan_ok=True
        )
    for metric in METRICS:
        own = found[found["metric"] == metric]
        assert own["p_holm"].tolist() == pytest.approx(comparison.holm(own["p"].tolist()).tolist())


def test_ratings(corpus: tuple[list[dict[str, Any]], Any]) -> None:
    made, summary = corpus
    rows = iter(summary.ratings.itertuples())
    for question in range(QUESTIONS):
        given = np.array([float(chat["rating"].split("|")[question]) if chat["rating"] else math.nan for chat in made])
        worker = np.array([int(chat["worker"][1:]) for chat in made])
        model = np.array([chat["model"] for chat in made])
        standard = estimates.standardise_per_worker(given, worker)
        for name in "abc":
            row = next(rows)
            own = given[(model == name) & np.isfinite(given)]
            assert (row.model_nickname, row.question, row.ratings) == (name, f"final_rating_{question + 1}", len(own))
            assert [getattr(row, f"rated_{value}") for value in range(1, 6)] == [
                (own == value).sum() for value in range(1, 6)
            ]
            expected = estimate(made, name, f"final_rating_{question + 1}")
            assert (row.mean, row.low, row.high) == pytest.approx((expected.value, expected.low, expected.high))
            usable = (model == name) & np.isfinite(standard)
            sums = estimates.cluster_sums(standard[usable], worker[usable])
            scaled = estimates.mean(sums, estimates.cluster_sums(np.ones(usable.sum()), worker[usable]), 0.9)
            assert row.z_ratings == scaled.total
            assert (row.z_mean, row.z_low, row.z_high) == pytest.approx(
                (scaled.value, scaled.low, scaled.high), nan_ok=True
            )
    assert next(rows, None) is None


def test_turns(corpus: tuple[list[dict[str, Any]], Any]) -> None:
    made, summary = corpus
    expected = []
    for name in "abc":
        for exchange in range(3):
            here = [
                (chat["worker"], chat["labels"][exchange])
                for chat in made
                if chat["model"] == name and len(chat["labels"]) > exchange and chat["labels"][exchange] is not None
            ]
            workers = sorted({worker for worker, _ in here})
            for bucket in BUCKETS:
                ticked = [
                    sum((bucket in (labels or ["none_all_good"])) for who, labels in here if who == worker)
                    for worker in workers
                ]
                asked = [sum(who == worker for who, _ in here) for worker in workers]
                rate = estimates.rate(np.array(ticked, float), np.array(asked, float), 0.9)
                expected.append((name, bucket, exchange + 1, rate.total, rate.value, rate.low, rate.high))
    found = list(summary.turns.itertuples(index=False, name=None))
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    for got, wanted in zip(found, expected, strict=True):
        assert got[4:] == pytest.approx(wanted[4:], nan_ok=True)


def test_no_more_exchanges_than_the_table_follows(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MOST_EXCHANGES", 2)
    save(make(labels=[[], None, []]))
    save(make(labels=[[], [], []], worker="w2"))
    run = compiler()
    run.compile_results()
    assert sorted(set(run.summary.turns["exchange"])) == [1, 2]
    assert tables._MOST_EXCHANGES == 2


def test_models_and_workers(corpus: tuple[list[dict[str, Any]], Any]) -> None:
    made, summary = corpus
    for row in summary.models.to_dict("records"):
        own = [chat for chat in made if chat["model"] == row["model_nickname"]]
        assert (row["conversations"], row["workers"]) == (len(own), len({chat["worker"] for chat in own}))
        assert row["model_utterances"] == sum(len(chat["labels"]) for chat in own)
        assert row["annotated_utterances"] == sum(values(chat, "rude")[1] for chat in own)
        for bucket in BUCKETS:
            x, n = (sum(column) for column in zip(*(values(chat, bucket) for chat in own), strict=True))
            assert (row[bucket], row[f"{bucket}_share"]) == (x, pytest.approx(x / n))
        clean, judged = (
            sum(column) for column in zip(*(values(chat, "clean_conversation") for chat in own), strict=True)
        )
        assert (row["clean_conversations"], row["clean_share"]) == (clean, pytest.approx(clean / judged))
        assert row["human_words"] == 5 * row["human_utterances"] and row["words_per_utterance"] == 5
        assert row["questions_per_utterance"] == 0
    found = summary.workers.set_index("worker_id")
    for worker, row in found.iterrows():
        own = [chat for chat in made if chat["worker"] == worker]
        problems = sum(values(chat, "rude")[1] - values(chat, "none_all_good")[0] for chat in own)
        assert (row["conversations"], row["problems_found"]) == (len(own), problems)
        assert row["avg_problems_per_convo"] == pytest.approx(problems / len(own))
    assert set(summary.quality["words_per_message"]) == {5}
    order = list(
        zip(-summary.workers["avg_problems_per_convo"], -summary.workers["problems_found"], found.index, strict=True)
    )
    assert order == sorted(order)


def test_models_that_nobody_rated(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(rating=None))
    run = compiler()
    run.compile_results()
    (row,) = run.summary.models.to_dict("records")
    assert row["final_rating_count"] == 0 and math.isnan(row["final_rating_mean"])


def test_what_is_browsed(make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]) -> None:
    made = chats(make)
    for chat in made:
        save(make(**chat))
    run = compiler()
    with run._collected() as corpus:
        entries = browsable(run._summarise(corpus))
    assert len(entries) == 36
    for number, (entry, chat) in enumerate(zip(entries, made, strict=True)):
        assert (entry["idx"], entry["model"], entry["worker"], entry["hit"]) == (
            number, chat["model"], chat["worker"], chat["hit"],
        )  # fmt: skip
        assert entry["ratings"] == (
            None if chat["rating"] is None else [int(part) for part in chat["rating"].split("|")]
        )
        assert [turn["agent"] for turn in entry["turns"]] == [0, 1] * len(chat["labels"])
        assert [turn["ticks"] for turn in entry["turns"][1::2]] == [
            None if labels is None else [BUCKETS.index((labels or ["none_all_good"])[0])] for labels in chat["labels"]
        ]
        assert all(turn["ticks"] is None for turn in entry["turns"][::2])


@pytest.mark.parametrize(("most", "count"), [(-1, 4), (5, 4), (4, 4), (3, 3), (0, 0)])
def test_how_many_are_browsed(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], most: int, count: int
) -> None:
    for number in range(4):
        save(make(worker=f"w{number}", personas=[["x"], ["i sail."]]))
    run = compiler(report_conversations=most)
    run.compile_and_save_results()
    # What is browsed reads the texts again, which are gone with the run's folder.
    with run._collected() as corpus:
        entries = browsable(run._summarise(corpus))
    assert len(entries) == count
    assert [entry["idx"] for entry in entries] == sorted(entry["idx"] for entry in entries)
    assert all(entry["context"] == "your persona: i sail." and len(entry["turns"]) == 2 for entry in entries)

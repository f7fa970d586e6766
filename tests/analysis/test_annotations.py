"""Agreement where finished conversations were annotated: alpha, its interval, majority labels, and adjudication."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_chat.analysis.agreement import count_judgments
from model_chat.analysis.alpha_interval import alpha_interval, alphas, coincidences
from model_chat.tests.analysis.conftest import make_conversation

Save = Callable[..., Path]

# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011): the tables that it computes by hand.
BINARY = ("0100000010", "1110010000")  # section A, two observers, ten articles: alpha 0.095
NOMINAL = ("aabbdcccedda", "babbbccceddd")  # section B, two observers, twelve articles: alpha 0.692
WITH_MISSING = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
"""Section C, four observers, twelve units, a dot where nobody judged: 0.743 nominal, 0.815 ordinal, 0.849 interval."""


def judgments(rows: Sequence[str]) -> tuple[Any, Any, Any]:
    found = [
        (ord(value), item, worker) for worker, row in enumerate(rows) for item, value in enumerate(row) if value != "."
    ]
    values, items, workers = (np.array(column) for column in zip(*found, strict=True))
    return values.astype(float), items, workers


@pytest.mark.parametrize(("rows", "published"), [(BINARY, 0.095), (NOMINAL, 0.692)])
def test_alpha_of_the_published_tables(rows: Sequence[str], published: float) -> None:
    counted = count_judgments(*judgments(rows))
    assert counted is not None
    matrices = coincidences(counted.counts, counted.items // 5)
    assert float(alphas(matrices.sum(0)[None], counted.domain, "nominal")[0]) == pytest.approx(published, abs=5e-4)
    assert matrices.sum() == pytest.approx(counted.counts.sum())  # each judgment once


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_table_with_missing_judgments(level: str, published: float) -> None:
    counted = count_judgments(*judgments(WITH_MISSING))
    assert counted is not None
    matrices = coincidences(counted.counts, counted.items // 5)
    assert float(alphas(matrices.sum(0)[None], counted.domain, level)[0]) == pytest.approx(published, abs=5e-4)


def test_every_level_agrees_with_the_library_that_computes_the_point(make: Any) -> None:
    import krippendorff

    rng = np.random.default_rng(7)
    counts = rng.integers(0, 3, size=(40, 5))
    counts = counts[counts.sum(1) > 1]
    domain = np.array([1.0, 2, 3, 4, 5])
    whole = coincidences(counts, np.arange(len(counts))).sum(0)[None]
    for level in ("nominal", "ordinal", "interval"):
        expected = krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level)
        assert float(alphas(whole, domain, level)[0]) == pytest.approx(expected)


def test_the_interval_of_two_conversations_by_hand() -> None:
    """A draw is one of the two alone, with a chance of a quarter each, or both: so the ends are the outermost of the three.

    The first conversation has two replies, both ticked alike (yes yes, no no): alpha 1. The second has yes no and yes yes:
    drawn twice, these are 8 judgments with 6 yes and 2 no, of which 2 + 2 stand beside the other, and
    alpha = 1 - (8 - 1) * 4 / (2 * 6 * 2) = -1/6. Both together are 8 judgments with 5 yes and 3 no, and 1 + 1 beside the
    other: 1 - 7 * 2 / (2 * 5 * 3) = 8/15.
    """
    counted = count_judgments(
        np.array([1.0, 1, 0, 0, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([1, 2] * 4)
    )
    found = alpha_interval(counted, np.array([7, 7, 9, 9]), "nominal")
    assert found.conversations == 2
    assert [found.low, found.high] == pytest.approx([-1 / 6, 1.0])
    assert counted is not None
    both = coincidences(counted.counts, np.array([7, 7, 9, 9])).sum(0)[None]
    assert float(alphas(both, counted.domain, "nominal")[0]) == pytest.approx(8 / 15)


def test_the_order_of_the_data_makes_no_difference_and_the_seed_does() -> None:
    rng = np.random.default_rng(3)
    items, workers = np.repeat(np.arange(60), 3), np.tile(np.arange(3), 60)
    values = rng.integers(0, 2, 180).astype(float)
    order = rng.permutation(180)
    first = alpha_interval(count_judgments(values, items, workers), np.arange(60) // 4, "nominal")
    again = alpha_interval(count_judgments(values[order], items[order], workers[order]), np.arange(60) // 4, "nominal")
    assert first == again
    assert first != alpha_interval(count_judgments(values, items, workers), np.arange(60) // 4, "nominal", seed=1)


def test_where_there_is_nothing_to_draw_from_there_is_no_interval() -> None:
    one = count_judgments(np.array([1.0, 0]), np.array([0, 0]), np.array([1, 2]))
    alike = count_judgments(np.ones(4), np.array([0, 0, 1, 1]), np.array([1, 2] * 2))
    assert math.isnan(alpha_interval(one, np.array([0]), "nominal").low)
    assert math.isnan(alpha_interval(alike, np.array([0, 1]), "nominal").low)
    assert alpha_interval(None, np.array([]), "nominal").conversations == 0


def annotated(chat: dict[str, Any], worker: str, labels: Sequence[Sequence[str]], rating: str = "4") -> dict[str, Any]:
    """The record of an annotation of a conversation with one exchange for each entry of ``labels``."""
    again = make_conversation(
        worker=worker, labels=labels, rating=rating, model=chat["task_description"]["model_nickname"]
    )
    for shown, line in zip(again["dialog"], chat["dialog"], strict=True):
        shown["text"] = line["text"]
        if shown["agent_idx"] == 0:
            shown["fake_start"] = True
    return {**again, "judged_conversation": {"id": "x", "sha256": "0" * 64}}


def outputs(compiler: Any, **flags: Any) -> dict[str, pd.DataFrame]:
    files = compiler(**flags).compile_and_save_results()
    names = ("agreement", "majority_labels", "adjudication")
    return {name: pd.read_csv(files[name]) for name in names if name in files}


def test_the_published_table_from_records_of_annotators(save: Save, compiler: Any) -> None:
    for article in range(10):
        chat = make_conversation(said=[f"This is the article number {article}"])
        for worker in (0, 1):
            ticked = ("rude",) if BINARY[worker][article] == "1" else ()
            save(annotated(chat, f"w{worker}", [ticked]))
    row = outputs(compiler)["agreement"].set_index("judged").loc["rude"]
    assert row["nominal"] == pytest.approx(0.095, abs=5e-4)
    assert (row["items"], row["judgments"], row["conversations"]) == (10, 20, 10)
    assert row["low"] < row["nominal"] < row["high"]


def test_who_chatted_and_who_annotated_afterwards_are_compared(save: Save, compiler: Any) -> None:
    chat = make_conversation(worker="chatted", labels=[("rude",), ()], rating="2")
    save(chat)
    save(annotated(chat, "second", [("rude",), ("odd",)], "3"))
    save(annotated(chat, "third", [(), ("odd", "rude")], "5"))
    found = outputs(compiler)
    agreement = found["agreement"].set_index("judged")
    assert list(agreement.loc[["rude", "final_rating"], "items"]) == [2, 1]
    assert list(agreement.loc[["rude", "final_rating"], "judgments"]) == [6, 3]
    labels = found["majority_labels"].set_index(["turn_idx", "label"])
    assert list(labels.loc[(1, "rude"), ["judges", "ticked", "majority"]]) == [3, 2, True]
    assert list(labels.loc[(3, "odd"), ["judges", "ticked", "majority"]]) == [3, 2, True]
    assert list(labels.loc[(3, "rude"), ["judges", "ticked", "majority"]]) == [3, 1, False]
    assert len(labels) == 6
    divided = found["adjudication"]
    assert set(zip(divided["turn_idx"], divided["label"], strict=True)) >= {(1, "rude"), (3, "odd"), (3, "rude")}
    assert set(divided["text"]) == {"reply 0", "reply 1"}
    assert (divided["ticked"] > 0).all()


def test_a_tie_has_no_majority_and_comes_first(save: Save, compiler: Any) -> None:
    one, other = make_conversation(said=["Please say something nice to me"]), make_conversation()
    for worker, ticked in (("a", "rude"), ("b", "rude"), ("c", "odd")):
        save(annotated(one, worker, [(ticked,)]))
    for worker, ticked in (("a", "rude"), ("b", "odd")):
        save(annotated(other, worker, [(ticked,)]))
    found = outputs(compiler)
    tied = found["majority_labels"][found["majority_labels"]["judges"] == 2].set_index("label")
    assert tied["majority"].isna()[["rude", "odd"]].all()
    assert list(found["adjudication"]["judges"]) == [2, 2, 3, 3]


def test_the_same_worker_again_is_no_second_judge(save: Save, compiler: Any) -> None:
    chat = make_conversation(worker="a")
    save(chat)
    save(annotated(chat, "a", [("rude",)]))
    found = outputs(compiler)
    assert "majority_labels" not in found
    assert (found["agreement"]["items"] == 0).all()


def test_an_annotator_is_not_left_out_for_writing_nothing_and_the_reader_is_told(save: Save, compiler: Any) -> None:
    chat = make_conversation(worker="chatted")
    save(chat)
    save(annotated(chat, "second", [()]))
    made = compiler(report=True, problem_buckets="rude,odd,none_all_good")
    files = made.compile_and_save_results()
    facts = json.loads(files["statistics"].read_text())
    assert facts["conversations_counted"] == 2
    assert any("1 of 2 records are annotations of 1 finished conversations" in said for said in facts["remarks"])
    assert "majority_labels" not in facts["tables"] if "tables" in facts else True
    model = pd.read_csv(files["model_results"]).iloc[0]
    assert model["human_utterances"] == 1  # what was said once counts once

"""A conversation that several people annotated counts once in the tables per model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_chat.analysis.arrays import Data
from model_chat.analysis.by_conversation import ByConversation
from model_chat.analysis.estimates import mean, rate
from model_chat.tests.analysis.conftest import make_conversation, saver
from model_chat.tests.analysis.test_annotations import annotated
from model_chat.tests.analysis.test_compared_parts import paired, per_turn

Save = Callable[..., Path]
FLOW = """\
pages:
  - {id: about, kind: questions, items: [{id: age, kind: choice, question: "Age?", options: [young, old]}]}
  - {id: chat, kind: chat, every_reply: [{id: trust, kind: scale, question: "Trust?"}]}
"""


def of_log(record: dict[str, Any], log: str) -> dict[str, Any]:
    return {**record, "judged_conversation": {"id": log, "sha256": log * 64}}


def study() -> Iterator[dict[str, Any]]:
    """Three conversations with model a, of which a second and a third person annotated two.

    `w1` had the first two: in the first, with two replies, reply 1 is rude for `w1` and `p`, and reply 2 is odd for `p` and
    `q`; in the other, nobody else annotated its rude reply. Whoever had the third is not known; it is rude for `p` alone.
    """
    first = make_conversation(worker="w1", labels=[("rude",), ()], rating="2")
    yield first
    yield make_conversation(
        worker="w1", hit="h2", said=["Another chat, with one reply"], labels=[("rude",)], rating="4"
    )
    third = make_conversation(said=["A log that nobody of us had"])
    for worker, of_first, rating, of_third, third_rating in (
        ("p", [("rude",), ("odd",)], "3", [("rude",)], "1"),
        ("q", [(), ("odd",)], "5", [()], "2"),
    ):
        yield of_log(annotated(first, worker, of_first, rating), "1")
        yield of_log(annotated(third, worker, of_third, third_rating), "3")


def tables(compiler: Any, **flags: Any) -> dict[str, pd.DataFrame]:
    files = compiler(**flags).compile_and_save_results()
    return {name: pd.read_csv(path) for name, path in files.items() if path.suffix == ".csv"}


def test_each_conversation_and_each_reply_counts_once(save: Save, compiler: Any) -> None:
    for record in study():
        save(record)
    found = tables(compiler)
    model = found["model_results"].iloc[0]
    counts = ["conversations", "annotations", "workers", "model_utterances", "annotated_utterances", "human_utterances"]
    assert list(model[counts]) == [3, 4, 3, 4, 4, 3]
    rude = 2 / 3 + 1 + 1 / 2  # of two who annotated after one, of one alone, of one of two
    assert model["rude"] == pytest.approx(rude)
    assert model["rude_share"] == pytest.approx(rude / 4)
    assert model["odd"] == pytest.approx(2 / 3)
    assert model["clean_conversations"] == 0.5  # for one of two, in the third
    assert model["clean_share"] == pytest.approx(0.5 / 3)
    assert model["final_rating_count"] == 3
    assert model["final_rating_mean"] == pytest.approx((10 / 3 + 4 + 1.5) / 3)


def test_compared_models_and_annotated_conversations_in_one_folder_change_nothing_of_each_other(
    save: Save, compiler: Any
) -> None:
    compared = [per_turn("c1", pair="x|y"), paired("c2", first="y", second="x")]
    for record in compared:
        save(record)
    alone = tables(compiler)
    for record in study():
        save(record)
    together = tables(compiler)
    names = ["x", "y", "x|y"]
    for table, key in (
        ("model_results", "model_nickname"),
        ("estimates", "model_nickname"),
        ("ratings", "model_nickname"),
    ):
        before, after = (
            found[table][found[table][key].isin(names)].reset_index(drop=True) for found in (alone, together)
        )
        assert len(before) and sorted(after[key].unique()) == sorted(before[key].unique())
        pd.testing.assert_frame_equal(after[before.columns], before, check_dtype=False)
    model = together["model_results"].set_index("model_nickname").loc["a"]
    assert list(model[["conversations", "annotations", "workers"]]) == [3, 4, 3]
    assert model["rude"] == pytest.approx(2 / 3 + 1 + 1 / 2)


def test_intervals_are_clustered_by_conversation_and_by_who_chatted(save: Save, compiler: Any) -> None:
    for record in study():
        save(record)
    found = tables(compiler)
    estimates = found["estimates"].set_index("metric")
    expected = rate(np.array([2 / 3 + 1, 1 / 2]), np.array([3.0, 1.0]))  # w1's two conversations; the log
    row = estimates.loc["rude"]
    assert (row["value"], row["se"]) == pytest.approx((expected.value, expected.se))
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert (row["total"], row["workers"]) == (4, 2)
    rated = mean(np.array([10 / 3 + 4, 1.5]), np.array([2.0, 1.0]), bounds=(1, 5))
    row = estimates.loc["final_rating"]
    assert (row["value"], row["low"], row["high"]) == pytest.approx((rated.value, rated.low, rated.high))
    ratings = found["ratings"].iloc[0]
    assert (ratings["ratings"], ratings["rated_2"], ratings["mean"]) == (6, 2, pytest.approx(rated.value))
    turns = found["turns"].set_index(["bucket", "exchange"])
    assert turns.loc[("rude", 1), "rate"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert (turns.loc[("odd", 2), "messages"], turns.loc[("odd", 2), "rate"]) == (1, pytest.approx(2 / 3))


def test_annotators_are_counted_as_people_in_the_tables_of_people(save: Save, compiler: Any) -> None:
    for record in study():
        save(record)
    workers = tables(compiler)["worker_results"].set_index("worker_id")
    assert dict(workers["conversations"]) == {"p": 2, "q": 2, "w1": 2}
    assert dict(workers["problems_found"]) == {"p": 3, "q": 1, "w1": 2}


def test_the_order_of_the_files_changes_no_number(tmp_path: Path, compiler: Any) -> None:
    results = []
    for number, records in enumerate((list(study()), list(study())[::-1])):
        write = saver(tmp_path / str(number))
        for record in records:
            write(record)
        flags = {"results_folders": str(tmp_path / str(number) / "results")}
        results.append(tables(compiler, **flags))
    for name in ("model_results", "estimates", "ratings", "turns", "comparisons"):
        pd.testing.assert_frame_equal(results[0][name], results[1][name])


def test_annotations_alone_give_conversations_and_not_annotators(save: Save, compiler: Any) -> None:
    for log in range(4):
        chat = make_conversation(said=[f"This is the log number {log}"])
        for worker in range(3):
            ticked = ("rude",) if worker <= log else ()
            save(of_log(annotated(chat, f"w{worker}", [ticked]), str(log)))
    files = compiler().compile_and_save_results()
    model = pd.read_csv(files["model_results"]).iloc[0]
    assert list(model[["conversations", "annotations", "workers", "annotated_utterances"]]) == [4, 12, 3, 4]
    assert model["rude_share"] == pytest.approx((1 / 3 + 2 / 3 + 1 + 1) / 4)
    assert pd.read_csv(files["estimates"]).set_index("metric").loc["rude", "workers"] == 4
    remarks = json.loads(files["statistics"].read_text())["remarks"]
    assert any("12 of 12 records are annotations of 4 finished conversations" in said for said in remarks)


def test_two_chats_that_went_alike_are_two_and_the_annotation_belongs_to_one(save: Save, compiler: Any) -> None:
    one = make_conversation(worker="w1", labels=[("rude",)])
    save(one)
    save(make_conversation(worker="w2", hit="h2", labels=[("rude",)]))
    save(of_log(annotated(one, "p", [()]), "1"))
    model = tables(compiler)["model_results"].iloc[0]
    assert (model["conversations"], model["annotated_utterances"], model["rude"]) == (2, 2, 1.5)


def test_a_chat_that_ends_with_the_persons_words_is_the_one_that_was_annotated(save: Save, compiler: Any) -> None:
    chat = make_conversation(worker="w1", labels=[("rude",)])
    annotation = annotated(chat, "p", [()])
    chat["dialog"].append({"agent_idx": 0, "id": "Speaker 1", "text": "These are my last words, bye"})
    save(chat)
    save(of_log(annotation, "1"))
    model = tables(compiler)["model_results"].iloc[0]
    assert (model["conversations"], model["rude"], model["human_utterances"]) == (1, 0.5, 2)


def test_models_are_compared_over_conversations(save: Save, compiler: Any) -> None:
    """Four annotators of each log are no more conversations: effect size and power are those of the averages."""
    rng = np.random.default_rng(5)
    rated: dict[str, list[float]] = {"a": [], "b": []}
    for model in rated:
        for log in range(6):
            chat = make_conversation(model=model, said=[f"This is the log number {log}"])
            ratings = rng.integers(1, 6, 4)
            rated[model].append(float(ratings.mean()))
            for worker, rating in enumerate(ratings):
                record = annotated(chat, f"w{worker}", [()], str(rating))
                save({**record, "judged_conversation": {"id": "x", "sha256": f"{model}{log}".ljust(64, "0")}})
    found = tables(compiler)
    row = found["comparisons"].set_index("metric").loc["final_rating"]
    a, b = (np.array(values) for values in rated.values())
    assert row["difference"] == pytest.approx(a.mean() - b.mean())
    pooled = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    correction = 1 - 3 / (4 * 10 - 1)
    assert row["effect_size"] == pytest.approx(correction * (a.mean() - b.mean()) / pooled, rel=1e-3)


def test_items_of_replies_count_a_conversation_once_and_those_about_people_each_person(
    save: Save, compiler: Any
) -> None:
    chat = make_conversation(said=["A log that nobody of us had"])
    for worker, age, trust in (("p", "young", 1), ("q", "old", 2), ("r", "old", 3)):
        record = of_log(annotated(chat, worker, [("rude",) if worker == "p" else ()], str(trust)), "1")
        record["task_description"] |= {"study_flow": FLOW}
        record["answers"] = [
            {"page": "about", "item": "age", "value": age, "utterance_idx": None},
            {"page": "chat", "item": "trust", "value": trust, "utterance_idx": 1},
        ]
        save(record)
    found = tables(compiler, by="age")
    items = found["items"].set_index(["item", "aspect"])
    trust = items.loc["trust"].iloc[0]
    assert (trust["value"], trust["answers"], trust["workers"]) == (2, 1, 1)
    assert (items.loc[("age", "old"), "value"], items.loc[("age", "old"), "answers"]) == (pytest.approx(2 / 3), 3)
    splits = found["splits"].set_index(["level", "metric"])
    assert list(splits.loc["old", "conversations"].unique()) == [1]
    assert splits.loc[("old", "final_rating"), "value"] == 2.5
    assert (splits.loc[("young", "rude"), "value"], splits.loc[("old", "rude"), "value"]) == (1, 0)
    assert splits.loc[("old", "trust"), "value"] == 2.5


def test_the_mixed_model_counts_a_reply_once_however_many_agree_about_it(tmp_path: Path, compiler: Any) -> None:
    """Three people who say the same of a conversation that nobody here had are no more than one of them."""
    found = []
    for folder, annotators in (("one", "p"), ("three", "pqr")):
        save = saver(tmp_path / folder)
        for number in range(12):
            model, ticks = "ab"[number % 2], [("rude",) if number % 3 == turn else () for turn in range(2)]
            log = make_conversation(model, said=[f"Log number {number} says", "and says more"], labels=ticks)
            for who in annotators:
                save(of_log(annotated(log, who, ticks, "12345"[number % 5]), f"{number:x}"))
        results = str(tmp_path / folder / "results")
        found.append(tables(compiler, results_folders=results)["mixed"])
    one, three = found
    assert len(one) == 3 * len(set(one["metric"])) > 3
    assert set(one.loc[one["metric"] == "rude", "observations"]) == {24}
    assert set(one["workers"]) == {12}
    pd.testing.assert_frame_equal(one, three)


def test_the_mixed_model_takes_what_only_some_ticked_as_their_share(save: Save, compiler: Any) -> None:
    for record in study():
        save(record)
    # Rude are, to w1 and p of three, the first reply of the first chat, to w1 that of the second, to p that of the log.
    with compiler()._collected() as corpus:
        units = ByConversation(Data(corpus))
    rude = units.data.settings.problem_buckets.index("rude")
    assert sorted(units.squares[:, rude]) == pytest.approx([1 / 4, 4 / 9, 1])

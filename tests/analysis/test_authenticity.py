"""Authenticity signals: by hand, per worker; results with and without; nobody is left out anywhere else."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_chat.analysis.remarks import remarks
from model_chat.errors import ConfigurationError
from model_chat.tests.analysis.conftest import LONG_ENOUGH

Save = Callable[..., Path]
Make = Callable[..., Any]
LENGTH = len(LONG_ENOUGH)


def entry(at: int = 0, pasted: Any = 0, away: Any = 0, keys: Any = 20, characters: Any = LENGTH) -> dict[str, Any]:
    return {
        "utterance_idx": at,
        "characters": characters,
        "pasted_characters": pasted,
        "times_away": away,
        "keys": keys,
    }


def fill(save: Save, make: Make) -> None:
    """Worker p pastes all, k types, d dictates (no keys), n has no signals; both models, ratings by hand."""
    save(make("a", "p", "h1", rating="5", authenticity=[entry(pasted=LENGTH * 9, keys=0)]))
    save(make("a", "k", "h2", rating="1", labels=[("rude",)], authenticity=[entry(keys=30, away=3)]))
    save(make("a", "d", "h3", rating="2", authenticity=[entry(keys=None)]))
    save(make("b", "k", "h4", rating="3", authenticity=[entry(keys=26), {"junk": True}, entry(at=-1), 7]))
    save(make("b", "n", "h5", rating="4", authenticity=[]))


def tables(run: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    run.compile_results()
    found = run.summary.authenticity
    return found.workers.set_index("worker_id"), found.results.set_index(["counted", "model_nickname", "metric"])


def test_the_signals_of_each_worker_by_hand(save: Save, make: Make, compiler: Any) -> None:
    fill(save, make)
    workers, _ = tables(compiler())
    assert sorted(workers.index) == ["d", "k", "p"], "who has no signals has no row"
    p, k, d = (workers.loc[name].to_dict() for name in "pkd")
    # Of a message no more is pasted than it has.
    assert (p["pasted_characters"], p["pasted_share"], p["above"]) == (LENGTH, 1.0, "pasted_share")
    assert (k["conversations"], k["messages"], k["characters"], k["times_away"]) == (2, 2, 2 * LENGTH, 3)
    assert (k["keys"], k["keys_per_character"]) == (56, pytest.approx(56 / (2 * LENGTH)))
    assert (k["times_away_per_message"], k["above"]) == (1.5, "")
    assert pd.isna(d["keys"]) and math.isnan(d["keys_per_character"]) and d["above"] == ""
    assert next(iter(workers.index)) == "p", "those above a threshold come first"


def test_results_with_and_without_and_nobody_is_left_out_elsewhere(save: Save, make: Make, compiler: Any) -> None:
    fill(save, make)
    run = compiler()
    _, results = tables(run)

    def value(counted: str, model: str, metric: str) -> float:
        return float(np.asarray(results.loc[(counted, model, metric), "value"]))

    assert value("all", "a", "final_rating") == pytest.approx((5 + 1 + 2) / 3)
    assert value("without", "a", "final_rating") == pytest.approx((1 + 2) / 2)
    assert value("all", "a", "rude") == pytest.approx(1 / 3)
    assert value("without", "a", "rude") == pytest.approx(1 / 2)
    for metric in ("final_rating", "rude", "clean_conversation"):
        assert value("all", "b", metric) == value("without", "b", metric), metric
    estimates = run.summary.estimates.set_index(["model_nickname", "metric"])
    assert estimates.loc[("a", "final_rating"), "value"] == pytest.approx(value("all", "a", "final_rating"))
    assert estimates.loc[("a", "final_rating"), "workers"] == 3
    assert run.summary.data.corpus.conversations.num_rows == 5
    assert [row.reason for row in run.summary.data.corpus.excluded] == []


@pytest.mark.parametrize(
    ("flags", "above"),
    [
        ({}, {"p": "pasted_share"}),
        ({"max_pasted_share": 1.0}, {}),
        ({"max_pasted_share": 1.0, "max_times_away": 1.0}, {"k": "times_away_per_message"}),
        ({"max_pasted_share": 1.0, "max_times_away": 1.5}, {}),
        ({"max_pasted_share": 1.0, "max_times_away": 0.0}, {"k": "times_away_per_message"}),
        ({"max_pasted_share": 1.0, "min_keys_per_character": 0.5}, {"p": "keys_per_character"}),
        ({"min_keys_per_character": 9.0}, {"p": "pasted_share,keys_per_character", "k": "keys_per_character"}),
    ],
)
def test_each_threshold_by_itself_and_none_suspects_who_dictates(
    save: Save, make: Make, compiler: Any, flags: dict[str, float], above: dict[str, str]
) -> None:
    fill(save, make)
    workers, _ = tables(compiler(**flags))
    assert {name: names for name, names in workers["above"].items() if names} == above


def test_without_anybody_left_there_is_no_result_and_no_crash(save: Save, make: Make, compiler: Any) -> None:
    save(make("a", "p", "h1", authenticity=[entry(pasted=LENGTH)]))
    run = compiler(report=True)
    run.compile_and_save_results()
    results = run.summary.authenticity.results
    without = results[results["counted"] == "without"]
    assert (without["conversations"] == 0).all() and without["value"].isna().all()


def test_records_without_signals_change_nothing(save: Save, make: Make, compiler: Any) -> None:
    save(make(authenticity=None))
    save(make(hit="h2"))
    save(make(hit="h3", authenticity=[]))
    run = compiler(report=True)
    files = run.compile_and_save_results()
    assert run.summary.authenticity is None
    assert not any(name.startswith("authenticity") for name in files)
    assert "uthenticity" not in files["report"].read_text(encoding="utf-8")


MALFORMED: list[Any] = [
    7,
    "keys",
    {"pasted_characters": 3},
    [[entry()]],
    [None, True, "x"],
    [{**entry(), "characters": -1}],
    [{**entry(), "characters": True}],
    [{**entry(), "characters": 1.0}],
    [{**entry(), "utterance_idx": "0"}],
    [{"utterance_idx": 0, "characters": 5}],
    [entry(pasted=-1, away=10**30, keys="٣")],
]


@pytest.mark.parametrize("signals", MALFORMED)
def test_malformed_signals_cost_nothing_else(save: Save, make: Make, compiler: Any, signals: Any) -> None:
    save(make(authenticity=signals))
    run = compiler()
    run.compile_results()
    assert run.summary.data.corpus.conversations.num_rows == 1
    assert run.summary.authenticity is None


def test_compared_replies_are_ranked_without_them_too(save: Save, make: Make, compiler: Any) -> None:
    def judged(worker: str, hit: str, pick: str, pasted: int) -> None:
        comparison = {
            "turn_idx": 0,
            "question": None,
            "left": {"model_nickname": "a", "text": "reply 0", "generation": None},
            "right": {"model_nickname": "b", "text": "other", "generation": None},
            "pick": pick,
            "strength": None,
            "reason": None,
            "continued_with": "left",
            "timestamp": 1.0,
        }
        save(make("a|b", worker, hit, comparisons=[comparison], authenticity=[entry(pasted=pasted)]))

    for number in range(6):
        judged(f"w{number}", f"h{number}", "left" if number < 4 else "right", 0)
    judged("p", "hp", "right", LENGTH)
    judged("p", "hq", "right", LENGTH)
    run = compiler()
    _, results = tables(run)
    a = {counted: float(np.asarray(results.loc[(counted, "a", "strength"), "value"])) for counted in ("all", "without")}
    assert a["all"] == pytest.approx(0, abs=1e-6), "4 of 8"
    assert a["without"] == pytest.approx(math.log(4 / 2) / 2, rel=1e-3), "4 of 6, mean 0 over two models"
    ranking = run.summary.preferences.ranking.set_index("model_nickname")
    assert ranking.loc["a", "strength"] == pytest.approx(a["all"], abs=1e-9)


def test_files_report_and_remark(save: Save, make: Make, compiler: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fill(save, make)
    run = compiler(report=True)
    files = run.compile_and_save_results()
    assert {"authenticity_workers", "authenticity_results"} <= set(files)
    saved = pd.read_csv(files["authenticity_workers"])
    assert list(saved["worker_id"]) == ["p", "d", "k"]
    said = [sentence for sentence in remarks(run.summary) if "uthenticity" in sentence]
    assert said[0].startswith("Authenticity signals: 1 of 3 workers are above a threshold; all are counted everywhere")
    assert said[1].startswith("1 of 5 conversations have no authenticity signals")
    report = files["report"].read_text(encoding="utf-8")
    assert "1 of 3 workers with signals are above a threshold (more than 50% of the characters pasted)" in report
    assert "Workers above a threshold of authenticity signals" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "value", "right"),
    [
        ("max_pasted_share", 1.5, "between 0 and 1"),
        ("max_pasted_share", -0.1, "between 0 and 1"),
        ("max_pasted_share", math.nan, "between 0 and 1"),
        ("max_times_away", -2.0, "0 or more, or -1 for no limit"),
        ("max_times_away", math.inf, "0 or more, or -1 for no limit"),
        ("max_times_away", math.nan, "0 or more, or -1 for no limit"),
        ("min_keys_per_character", -1.0, "0 or more"),
        ("min_keys_per_character", math.inf, "0 or more"),
        ("min_keys_per_character", math.nan, "0 or more"),
    ],
)
def test_thresholds_that_can_not_be_meant_are_refused(compiler: Any, flag: str, value: float, right: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compiler(**{flag: value})
    assert f"--{flag.replace('_', '-')} is {value}; it has to be {right}." in caught.value.faults

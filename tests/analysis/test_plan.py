"""Power before launch: against simulation through the analysis' own test, from a pilot, and its faults."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import special

from model_chat.analysis import comparison, compile_results, estimates, plan
from model_chat.errors import ConfigurationError

RUNS = 8_000
"""The standard error of a simulated power of 0.7 is then 0.5 points."""


def write(folder: Path, **content: Any) -> str:
    path = folder / "design.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def power(folder: Path, **content: Any) -> float:
    table = plan.planned(plan.read_plan(write(folder, **content)))
    (row,) = table.to_dict("records")
    return float(row["power"])


def is_found(values: np.ndarray, totals: np.ndarray, is_a: np.ndarray, worker: np.ndarray) -> bool:
    gap = comparison.difference(values, totals, is_a, worker)
    return bool(gap.low > 0 or gap.high < 0)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["between", "within"])
def test_power_for_ratings_is_that_of_simulated_studies(tmp_path: Path, design: str) -> None:
    workers, each, sd_worker, sd_residual, gap = 80, 4, 0.6, 0.9, 0.35
    measure = {"name": "r", "kind": "rating", "difference": gap, "sd_worker": sd_worker, "sd_residual": sd_residual}
    said = power(tmp_path, workers=[workers], conversations_per_worker=each, design=design, measures=[measure])
    rng = np.random.default_rng(11)
    worker = np.repeat(np.arange(workers), each)
    is_a = worker % 2 == 0 if design == "between" else np.arange(len(worker)) % 2 == 0
    found = 0
    for _ in range(RUNS):
        values = gap * is_a + rng.normal(0, sd_worker, workers)[worker] + rng.normal(0, sd_residual, len(worker))
        found += is_found(values, np.ones(len(worker)), is_a, worker)
    print(f"ratings {design}: planned {said:.3f}, simulated {found / RUNS:.3f}")
    assert found / RUNS == pytest.approx(said, abs=0.02)
    assert 0.3 < said < 0.97  # where a mistake would show


@pytest.mark.slow
def test_power_for_rates_is_that_of_simulated_studies(tmp_path: Path) -> None:
    workers, messages, sd_worker, low, gap = 120, 6, 0.12, 0.25, 0.1
    measure = {
        "name": "m",
        "kind": "rate",
        "value": low,
        "difference": gap,
        "messages": messages,
        "sd_worker": sd_worker,
    }
    said = power(tmp_path, workers=[workers], measures=[measure])
    rng = np.random.default_rng(2)
    worker = np.arange(workers)
    is_a = worker % 2 == 0
    mean = np.where(is_a, low + gap, low)
    # Beta-distributed workers' rates with this standard deviation.
    size = mean * (1 - mean) / sd_worker**2 - 1
    found = 0
    for _ in range(RUNS):
        ticked = rng.binomial(messages, rng.beta(mean * size, (1 - mean) * size)).astype(float)
        found += is_found(ticked, np.full(workers, float(messages)), is_a, worker)
    print(f"rates: planned {said:.3f}, simulated {found / RUNS:.3f}")
    assert found / RUNS == pytest.approx(said, abs=0.02)
    assert 0.3 < said < 0.97


@pytest.mark.slow
def test_power_for_comparisons_is_that_of_simulated_studies(tmp_path: Path) -> None:
    workers, judgements, ties, value, sd_worker = 50, 5, 0.2, 0.6, 0.15
    measure = {
        "name": "c",
        "kind": "comparison",
        "value": value,
        "ties": ties,
        "judgements": judgements,
        "sd_worker": sd_worker,
    }
    said = power(tmp_path, workers=[workers], measures=[measure])
    rng = np.random.default_rng(3)
    found = 0
    critical = float(special.stdtrit(workers - 1, 0.975))
    for _ in range(RUNS):
        own = np.clip(value + rng.normal(0, sd_worker, workers), ties / 2, 1 - ties / 2)
        wins = own - ties / 2
        draws = np.stack([rng.multinomial(judgements, [w, ties, abs(1 - w - ties)]) for w in wins])
        scores = draws[:, 0] + draws[:, 1] / 2
        totals = np.full(workers, float(judgements))
        estimate = estimates.mean(scores, totals)
        found += abs(estimate.value - 0.5) > critical * estimate.se
    print(f"comparisons: planned {said:.3f}, simulated {found / RUNS:.3f}")
    assert found / RUNS == pytest.approx(said, abs=0.02)
    assert 0.3 < said < 0.97


def test_the_number_of_workers_needed_has_the_power_and_one_fewer_has_not(tmp_path: Path) -> None:
    measure = {"name": "r", "kind": "rating", "difference": 0.4, "sd_worker": 0.5, "sd_residual": 0.8}
    content = {"conversations_per_worker": 2, "design": "within", "measures": [measure]}
    needed = int(plan.planned(plan.read_plan(write(tmp_path, workers=[20], **content)))["workers_needed"][0])
    assert power(tmp_path, workers=[needed], **content) >= 0.8
    assert power(tmp_path, workers=[needed - 1], **content) < 0.8
    detectable = plan.planned(plan.read_plan(write(tmp_path, workers=[needed], **content)))["detectable"][0]
    assert detectable == pytest.approx(0.4, rel=0.02)


def test_within_a_worker_the_workers_own_level_costs_nothing(tmp_path: Path) -> None:
    def at(sd_worker: float, design: str) -> float:
        measure = {"name": "r", "kind": "rating", "difference": 0.4, "sd_worker": sd_worker, "sd_residual": 0.8}
        return power(tmp_path, workers=[30], conversations_per_worker=2, design=design, measures=[measure])

    assert at(2.0, "within") == at(0.1, "within")
    assert at(2.0, "between") < at(0.1, "between")


def test_a_difference_out_of_reach_needs_no_number(tmp_path: Path) -> None:
    measure = {"name": "r", "kind": "rating", "difference": 0.0001, "sd_worker": 1.0, "sd_residual": 1.0}
    wanted = plan.read_plan(write(tmp_path, workers=[20], measures=[measure]))
    table = plan.planned(wanted)
    assert table["workers_needed"][0] is pd.NA
    assert any("even 100,000 workers" in line for line in plan.lines_of(wanted, table))


def test_spreads_come_from_a_pilot(tmp_path: Path) -> None:
    spreads = {"sd_worker": 0.5, "sd_conversation": None, "sd_residual": 0.8}
    wins = {"wins_a": 60, "wins_b": 40, "ties": 0, "both_bad": 0, "win_rate_a": 0.6, "workers": 25, "se": 0.06}
    pilot = {"mixed": [{"metric": "final_rating", **spreads}], "wins": [wins]}
    (tmp_path / "pilot.json").write_text(json.dumps(pilot))
    rating = {"name": "final_rating", "kind": "rating", "difference": 0.4}
    judged = {"name": "preference", "kind": "comparison", "value": 0.6}
    wanted = plan.read_plan(write(tmp_path, workers=[20], pilot="pilot.json", measures=[rating, judged]))
    found, compared = wanted.measures
    assert isinstance(found, plan.Rating)
    assert isinstance(compared, plan.Comparison)
    assert (found.sd_worker, found.sd_conversation, found.sd_residual) == (0.5, 0.0, 0.8)
    # 4 judgements a worker of variance 0.24: 0.06² · 25 = 0.09 = σ² + (0.24 - σ²)/4.
    assert compared.sd_worker == pytest.approx(math.sqrt((0.09 - 0.06) / 0.75))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"workers": [2], "measures": []}, ["workers", "measures"]),
        (
            {"workers": [20], "colour": 1, "measures": [{"name": "r", "kind": "rating"}]},
            ["line 1, colour", "difference"],
        ),
        (
            {"workers": [20], "design": "within", "measures": [{"name": "r", "kind": "rating", "difference": 1}]},
            ["conversations_per_worker is 1; it has to be even"],
        ),
        (
            {
                "workers": [20],
                "measures": [{"name": "c", "kind": "comparison", "value": 0.95, "ties": 0.2, "sd_worker": 0}],
            },
            ["value is 0.95; it has to be above 0.5 and at most 1 less half of ties"],
        ),
        (
            {
                "workers": [20],
                "measures": [{"name": n, "kind": "rating", "difference": 1} for n in ("first", "second")],
            },
            ["measure 'first': sd_worker and sd_residual is not given, and there is no pilot", "measure 'second'"],
        ),
        (
            {"workers": [20], "pilot": "gone.json", "measures": [{"name": "r", "kind": "rating", "difference": 1}]},
            ["gone.json"],
        ),
    ],
)
def test_all_faults_are_said_at_once(tmp_path: Path, content: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan.read_plan(write(tmp_path, **content))
    for part in parts:
        assert part in str(caught.value)


def test_the_command_prints_a_table_and_reads_no_conversations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = {"name": "[bold]r", "kind": "rating", "difference": 0.4, "sd_worker": 0.5, "sd_residual": 0.8}
    path = write(tmp_path, workers=[40, 80], measures=[measure])
    assert compile_results.main(["--plan", path, "--output-folder", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "[bold]r" in said
    assert "1 conversation a worker; half of the workers talk with each model; two-sided tests at 0.05" in said
    assert pd.read_csv(tmp_path / "out" / "plan.csv")["workers"].tolist() == [40, 80]
    assert compile_results.main(["--plan", str(tmp_path / "none.yaml")]) == 2
    assert "--plan" in capsys.readouterr().err


WINS = {"wins_a": 6, "wins_b": 4, "ties": 0, "both_bad": 0, "win_rate_a": 0.6, "se": 0.1, "workers": 5}
MIXED = {"metric": "m", "sd_worker": 0.5, "sd_conversation": 0.1, "sd_residual": 1.0}


@pytest.mark.parametrize(
    "pilot",
    [
        {"wins": None},
        {"wins": 3},
        {"wins": [3]},
        {"wins": [{}]},
        {"wins": [{**WINS, "se": "x"}]},
        {"wins": [{**WINS, "se": 1e200}]},
        {"wins": [{**WINS, "wins_a": 0, "wins_b": 0}]},
        {"mixed": [{}]},
        {"mixed": [{"metric": "m"}]},
        {"mixed": [{**MIXED, "sd_worker": "x"}]},
        {"mixed": [{**MIXED, "sd_residual": [1]}]},
        {"mixed": [{**MIXED, "sd_worker": -1}]},
        {"mixed": [{**MIXED, "sd_worker": True}]},
        {"mixed": [{**MIXED, "sd_worker": math.inf}]},
    ],
    ids=repr,
)
def test_a_damaged_pilot_is_said(tmp_path: Path, pilot: dict[str, Any]) -> None:
    (tmp_path / "pilot.json").write_text(json.dumps(pilot))
    measure: dict[str, Any] = {"name": "m", "kind": "rating", "difference": 1}
    if "wins" in pilot:
        measure = {"name": "m", "kind": "comparison", "value": 0.6}
    with pytest.raises(ConfigurationError, match="measure 'm': the pilot is damaged"):
        plan.read_plan(write(tmp_path, workers=[20], pilot="pilot.json", measures=[measure]))


@pytest.mark.parametrize("text", ["[" * 9999, "9" * 5000, "{"])
def test_a_pilot_that_is_no_json_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "pilot.json").write_text(text, encoding="utf-8")
    measure = {"name": "m", "kind": "rating", "difference": 1}
    with pytest.raises(ConfigurationError, match=r"--plan: pilot is .* which can.t be read"):
        plan.read_plan(write(tmp_path, workers=[20], pilot="pilot.json", measures=[measure]))


def test_a_pilot_whose_spread_is_no_number_leaves_it_open(tmp_path: Path) -> None:
    (tmp_path / "pilot.json").write_text(json.dumps({"mixed": [{**MIXED, "sd_worker": math.nan}]}))
    measure = {"name": "m", "kind": "rating", "difference": 1}
    with pytest.raises(ConfigurationError, match="measure 'm': sd_worker is not given"):
        plan.read_plan(write(tmp_path, workers=[20], pilot="pilot.json", measures=[measure]))


@pytest.mark.parametrize(
    "changed",
    [{"difference": math.inf}, {"difference": 1e300}, {"sd_worker": 1e200}, {"sd_residual": math.inf}],
    ids=repr,
)
def test_numbers_that_no_study_has_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    measure = {"name": "m", "kind": "rating", "difference": 1.0, "sd_worker": 1.0, "sd_residual": 1.0, **changed}
    with pytest.raises(ConfigurationError, match="less than or equal to 1000000000"):
        plan.read_plan(write(tmp_path, workers=[20], measures=[measure]))
    good = {"name": "m", "kind": "rating", "difference": 1.0, "sd_worker": 1.0, "sd_residual": 1.0}
    with pytest.raises(
        ConfigurationError, match="conversations_per_worker: input should be less than or equal to 1000000"
    ):
        plan.read_plan(write(tmp_path, workers=[20], conversations_per_worker=10**400, measures=[good]))

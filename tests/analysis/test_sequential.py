"""Confidence sequences hold at all looks together; ordinary intervals don't."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from model_chat.analysis import compile_results, sequential
from model_chat.analysis.estimates import mean

from .conftest import make_conversation, saver

LOOKS = range(12, 212, 2)
"""Workers at each of 100 looks."""


@pytest.mark.slow
def test_a_hundred_looks_are_wrong_in_at_most_five_of_a_hundred_studies() -> None:
    """Workers judge 1 to 5 times each, with a taste of their own; the truth is 0."""
    rng = np.random.default_rng(20261128)
    studies = 1_000
    wrong = {"sequence": 0, "interval": 0}
    for _ in range(studies):
        each = rng.integers(1, 6, LOOKS[-1]).astype(float)
        sums = each * rng.normal(0, 1, len(each)) + np.sqrt(each) * rng.normal(0, 1, len(each))
        missed = dict.fromkeys(wrong, False)
        for look in LOOKS:
            found = mean(sums[:look], each[:look])
            missed["interval"] |= not found.low <= 0 <= found.high
            missed["sequence"] |= abs(found.value) > sequential.half_width(found.se, look)
        for name, is_wrong in missed.items():
            wrong[name] += is_wrong
    print(f"studies with a wrong look among {len(LOOKS)}: {wrong}")
    assert wrong["sequence"] / studies <= 0.05
    assert wrong["interval"] / studies > 0.15


def test_the_width_is_that_of_the_formula() -> None:
    # 100 workers, alpha 0.05: rho² = (5.991 + ln 6.991)/100 = 0.07936; t·rho² + 1 = 8.936.
    expected = math.sqrt(2 * 8.9359 / 7.9359 * math.log(math.sqrt(8.9359) / 0.05))
    assert sequential.half_width(1.0, 100) == pytest.approx(expected, rel=1e-4)
    assert sequential.half_width(2.0, 100) == pytest.approx(2 * expected, rel=1e-4)


@pytest.mark.parametrize(("se", "workers"), [(1.0, 9), (0.0, 50), (math.nan, 50)])
def test_there_is_no_interval_without_workers_or_an_error(se: float, workers: int) -> None:
    assert math.isnan(sequential.half_width(se, workers))
    assert not math.isnan(sequential.half_width(1.0, 10))


def test_the_command_writes_them_for_estimates_differences_and_wins(tmp_path: Path) -> None:
    write = saver(tmp_path)
    for number in range(24):
        judged = {
            "turn_idx": 0,
            "left": {"model_nickname": "a", "text": "x"},
            "right": {"model_nickname": "b", "text": "y"},
            "pick": "left" if number % 3 else "right",
        }
        said = [f"this has {number} five plain words"]
        rating = str(1 + number % 5)
        write(
            make_conversation(
                "ab"[number % 2], f"w{number}", f"h{number}", said=said, rating=rating, comparisons=[judged]
            )
        )
    out = tmp_path / "out"
    flags = ["--results-folders", str(tmp_path / "results"), "--output-folder", str(out), "--problem-buckets", "none"]
    assert compile_results.main([*flags, "--sequential", "--bootstrap", "100", "--permutations", "99"]) == 0
    (path,) = out.glob("statistics_*.json")
    found = json.loads(path.read_text())
    kinds = [row["about"] for row in found["sequential"]]
    assert kinds == ["estimate", "estimate", "difference", "win_rate", "strength", "strength"]
    (wins,) = found["wins"]
    (row,) = [row for row in found["sequential"] if row["about"] == "win_rate"]
    assert row["value"] == pytest.approx(16 / 24)
    assert row["low"] < wins["low"] < wins["high"] < row["high"]
    report = next(out.glob("report_*.html")).read_text()
    assert "While the study runs" in report
    assert "sequential" not in json.loads(json.dumps(compile_without(flags, out)))


def compile_without(flags: list[str], out: Path) -> dict[str, object]:
    for path in out.glob("statistics_*.json"):
        path.unlink()
    assert compile_results.main([*flags, "--bootstrap", "100", "--permutations", "99"]) == 0
    (path,) = out.glob("statistics_*.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found

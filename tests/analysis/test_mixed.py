"""Mixed models: against statsmodels, by hand, and where they part from clustered estimates."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from model_chat.analysis import compile_results, mixed

from .conftest import BUCKETS_FLAG, make_conversation, saver


def simulate(
    rng: np.random.Generator, workers: int = 25, turns: int = 5, gap: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]:
    """Workers (sd 0.7) with 2 to 5 conversations (sd 0.5) of so many turns (sd 1), with one of two models.

    Returns:
        Sums, squares, model and worker of each conversation, and all observations.
    """
    rows = []
    for worker in range(workers):
        u = rng.normal(0, 0.7)
        for number in range(rng.integers(2, 6)):
            model = (worker + number) % 2
            v = rng.normal(0, 0.5) if turns > 1 else 0.0
            for _ in range(turns):
                rows.append((worker, f"{worker}-{number}", model, gap * model + u + v + rng.normal()))
    frame = pd.DataFrame(rows, columns=["worker", "conversation", "model", "y"])
    frame["square"] = frame["y"] ** 2
    grouped = frame.groupby("conversation", sort=False)
    first = grouped.first()
    return (
        grouped["y"].sum().to_numpy(),
        grouped["square"].sum().to_numpy(),
        first["model"].to_numpy(),
        first["worker"].to_numpy(),
        frame,
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
def test_estimates_are_those_of_statsmodels(seed: int) -> None:
    sums, squares, model, worker, frame = simulate(np.random.default_rng(seed))
    own = mixed.fit(sums, squares, np.full(len(sums), 5.0), model, worker, np.arange(len(sums)))
    theirs = smf.mixedlm(
        "y ~ 0 + C(model)", frame, groups="worker", re_formula="1", vc_formula={"conversation": "0 + C(conversation)"}
    ).fit(reml=True)
    assert own is not None
    np.testing.assert_allclose(own.mean, theirs.fe_params, atol=2e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(own.covariance)), theirs.bse_fe, rtol=5e-3)
    assert own.sd_worker == pytest.approx(math.sqrt(theirs.cov_re.iloc[0, 0]), rel=0.02)
    assert own.sd_conversation == pytest.approx(math.sqrt(theirs.vcomp[0]), rel=0.02)
    assert own.sd_residual == pytest.approx(math.sqrt(theirs.scale), rel=0.01)


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
def test_two_models_in_one_conversation_share_its_effect() -> None:
    """As where replies are compared; a third of the conversations has one model alone, and models speak unequally often."""
    rng = np.random.default_rng(5)
    rows = []
    for number in range(90):
        v, u = rng.normal(0, 1.0), (0.8, -0.5, 0.2, 0.0, -0.9)[number % 5]
        for _ in range(6):
            model = number % 2 if number % 3 == 0 else int(rng.random() < 0.3)
            rows.append((number % 5, number, model, 0.5 * model + u + v + rng.normal()))
    frame = pd.DataFrame(rows, columns=["worker", "conversation", "model", "y"])
    frame["square"] = frame["y"] ** 2
    grouped = frame.groupby(["conversation", "model"])
    entries = grouped.first().reset_index()
    own = mixed.fit(
        grouped["y"].sum().to_numpy(),
        grouped["square"].sum().to_numpy(),
        grouped["y"].count().to_numpy().astype(float),
        *(entries[name].to_numpy() for name in ("model", "worker", "conversation")),
    )
    theirs = smf.mixedlm(
        "y ~ 0 + C(model)", frame, groups="worker", re_formula="1", vc_formula={"conversation": "0 + C(conversation)"}
    ).fit(reml=True)
    assert own is not None
    np.testing.assert_allclose(own.mean, theirs.fe_params, atol=2e-3)
    np.testing.assert_allclose(own.covariance, theirs.cov_params().iloc[:2, :2], rtol=1e-2, atol=1e-4)
    assert own.sd_conversation == pytest.approx(math.sqrt(theirs.vcomp[0]), rel=0.02)
    gap = own.covariance[0, 0] + own.covariance[1, 1] - 2 * own.covariance[0, 1]
    apart = mixed.fit(
        grouped["y"].sum().to_numpy(),
        grouped["square"].sum().to_numpy(),
        grouped["y"].count().to_numpy().astype(float),
        entries["model"].to_numpy(),
        entries["worker"].to_numpy(),
        np.arange(len(entries)),
    )
    assert apart is not None
    other = apart.covariance[0, 0] + apart.covariance[1, 1] - 2 * apart.covariance[0, 1]
    assert gap < other / 2, "within a conversation its own effect is the same for both"


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
def test_with_one_observation_a_conversation_only_the_worker_is_random() -> None:
    sums, squares, model, worker, frame = simulate(np.random.default_rng(4), turns=1)
    own = mixed.fit(sums, squares, np.ones(len(sums)), model, worker, np.arange(len(sums)))
    theirs = smf.mixedlm("y ~ 0 + C(model)", frame, groups="worker").fit(reml=True)
    assert own is not None
    assert math.isnan(own.sd_conversation)
    np.testing.assert_allclose(own.mean, theirs.fe_params, atol=1e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(own.covariance)), theirs.bse_fe, rtol=5e-3)


def test_a_balanced_design_has_the_means_of_the_models() -> None:
    # Each of 3 workers rates both models once: REML gives the plain means, and the error of the difference without workers.
    sums = np.array([1.0, 2.0, 3.0, 5.0, 2.0, 2.0])
    model, worker = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2])
    own = mixed.fit(sums, sums**2, np.ones(6), model, worker, np.arange(6))
    assert own is not None
    np.testing.assert_allclose(own.mean, [2.0, 3.0])
    gaps = np.array([1.0, 2.0, 0.0])
    variance = own.covariance[0, 0] + own.covariance[1, 1] - 2 * own.covariance[0, 1]
    assert variance == pytest.approx(gaps.var(ddof=1) / 3, rel=1e-3)


@pytest.mark.parametrize(
    ("sums", "worker"),
    [
        ([1.0, 2.0, 3.0, 4.0], [0, 0, 0, 0]),
        ([2.0, 2.0, 2.0, 2.0], [0, 1, 2, 3]),
        ([1.0, 2.0, 3.0], [0, 1, 2]),
        ([], []),
    ],
)
def test_there_is_no_fit_without_workers_or_variance(sums: list[float], worker: list[int]) -> None:
    values = np.array(sums)
    model = np.arange(len(sums)) % 2
    of_worker = np.array(worker, dtype=np.int64)
    assert mixed.fit(values, values**2, np.ones(len(sums)), model, of_worker, np.arange(len(sums))) is None


def test_a_difference_that_only_one_analysis_finds_is_named() -> None:
    names = ["metric", "model_a", "model_b", "low", "high"]
    found = [("odd", "a", "b", 0.1, 0.3), ("rude", "a", "b", -0.1, 0.3), ("flat", "a", "b", 0.1, 0.2)]
    table = pd.DataFrame(found, columns=names).assign(about="difference")
    other = [("odd", "a", "b", -0.2, 0.1), ("rude", "a", "b", -0.2, 0.1), ("flat", "a", "b", 0.1, 0.4)]
    assert mixed.disagreements(table, pd.DataFrame(other, columns=names)) == [("odd", "a", "b")]
    estimates = table.assign(about="estimate")
    assert mixed.disagreements(estimates, pd.DataFrame(other, columns=names)) == []


def test_the_command_writes_them_beside_the_clustered_estimates(tmp_path: Path) -> None:
    write = saver(tmp_path)
    rng = np.random.default_rng(7)
    for number in range(60):
        labels = [("rude",) if rng.random() < 0.3 else () for _ in range(4)]
        said = [f"this has {number} five plain words", *["this has five plain words"] * 3]
        ids = ("ab"[number % 2], f"w{number // 4}", f"h{number}")
        write(make_conversation(*ids, labels=labels, said=said, rating=str(rng.integers(1, 6))))
    out = tmp_path / "out"
    flags = [
        "--results-folders",
        str(tmp_path / "results"),
        "--output-folder",
        str(out),
        "--problem-buckets",
        BUCKETS_FLAG,
    ]
    assert compile_results.main([*flags, "--bootstrap", "100", "--permutations", "99"]) == 0
    (path,) = out.glob("statistics_*.json")
    found = json.loads(path.read_text())
    rude = {(row["about"], row["model_a"]): row for row in found["mixed"] if row["metric"] == "rude"}
    assert set(rude) == {("estimate", "a"), ("estimate", "b"), ("difference", "a")}
    clustered = {row["model_nickname"]: row for row in found["estimates"] if row["metric"] == "rude"}
    assert rude["estimate", "a"]["value"] == pytest.approx(clustered["a"]["value"], abs=0.02)
    assert rude["estimate", "a"]["observations"] == 240
    assert [row for row in found["mixed"] if row["metric"] == "odd"] == []  # never ticked: nothing varies
    assert "Mixed models" in next(out.glob("report_*.html")).read_text()

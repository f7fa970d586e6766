"""Do the intervals cover, and are the p values uniform, on clustered data whose truth is known?

1,000 simulations each, fixed seeds. Binomial error of a coverage of 95 % over 1,000: 0.7 points.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from model_chat.analysis import estimates, permutation

SIMULATIONS = 1_000
EXCHANGES = 6

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulate(rng: np.random.Generator, workers: int, rate: float) -> Sample:
    """Workers with 1 to 5 conversations of 6 turns: beta-binomial on both levels (worker 0.1, conversation 0.05).

    Returns:
        Worker, ticked turns and all turns of each conversation.
    """
    severity = rng.beta(rate * 9, (1 - rate) * 9, workers)
    worker = np.repeat(np.arange(workers), rng.integers(1, 6, workers))
    mean = np.clip(severity[worker], 1e-6, 1 - 1e-6)
    chance = rng.beta(mean * 19, (1 - mean) * 19)
    return worker, rng.binomial(EXCHANGES, chance).astype(float), np.full(len(worker), float(EXCHANGES))


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "rate"), [(20, 0.4), (30, 0.15), (60, 0.05)])
def test_intervals_of_rates_cover_as_often_as_they_say(workers: int, rate: float) -> None:
    rng = np.random.default_rng(20261125)
    covered = {"analytic": 0, "bootstrap": 0}
    for _ in range(SIMULATIONS):
        worker, ticked, turns = simulate(rng, workers, rate)
        sums, totals = estimates.cluster_sums(ticked, worker), estimates.cluster_sums(turns, worker)
        estimate = estimates.rate(sums, totals)
        covered["analytic"] += estimate.low <= rate <= estimate.high
        (boot,) = estimates.bootstrap(sums[:, None], totals[:, None], rng, 600, logit=True)
        covered["bootstrap"] += boot.low <= rate <= boot.high
    print(f"coverage of rates, {workers} workers, rate {rate}: {covered}")
    for share in covered.values():
        assert 0.93 <= share / SIMULATIONS <= 0.97


@pytest.mark.slow
def test_intervals_of_mean_ratings_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    covered = {"analytic": 0, "bootstrap": 0}
    cuts = np.array([-1.2, -0.4, 0.4, 1.2])
    # A rating is a cut normal: worker effect and own deviation, variances 0.4 and 0.6; its mean by symmetry is 3.
    for _ in range(SIMULATIONS):
        worker = np.repeat(np.arange(30), rng.integers(1, 6, 30))
        latent = rng.normal(0, np.sqrt(0.4), 30)[worker] + rng.normal(0, np.sqrt(0.6), len(worker))
        ratings = 1.0 + np.searchsorted(cuts, latent)
        sums, totals = estimates.cluster_sums(ratings, worker), estimates.cluster_sums(np.ones(len(worker)), worker)
        estimate = estimates.mean(sums, totals, bounds=(1, 5))
        covered["analytic"] += estimate.low <= 3 <= estimate.high
        (boot,) = estimates.bootstrap(sums[:, None], totals[:, None], rng, 600)
        covered["bootstrap"] += boot.low <= 3 <= boot.high
    print(f"coverage of means: {covered}")
    for share in covered.values():
        assert 0.93 <= share / SIMULATIONS <= 0.97


def halves(rng: np.random.Generator, worker: np.ndarray, design: str) -> np.ndarray:
    """Which conversations are A's: each drawn by itself, or each worker with one model only."""
    if design == "within":
        return rng.random(len(worker)) < 0.5
    return (rng.random(worker.max() + 1) < 0.5)[worker]


@pytest.mark.slow
@pytest.mark.parametrize("design", ["within", "between"])
@pytest.mark.parametrize(("workers", "limit"), [(24, 2_000), (60, 0)])
def test_intervals_of_differences_cover_as_often_as_they_say(design: str, workers: int, limit: int) -> None:
    rng = np.random.default_rng(12)
    covered = usable = 0
    for _ in range(SIMULATIONS):
        worker, ticked, turns = simulate(rng, workers, 0.3)
        is_a = halves(rng, worker, design)
        # A real difference of 0.1, which is not what the permutation test assumes at 0.
        ticked = np.where(is_a, ticked + rng.binomial((turns - ticked).astype(int), 1 / 7), ticked)
        (test,) = permutation.compare_models(
            ticked[:, None], turns[:, None], is_a, worker, rng, [1.0], 399, limit=limit
        )
        usable += np.isfinite(test.low)
        covered += test.low <= 0.1 <= test.high
    print(f"coverage of differences, {design}, {workers} workers, limit {limit}: {covered} of {usable}")
    assert usable == SIMULATIONS
    assert 0.93 <= covered / usable <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("design", ["within", "between"])
def test_permutation_p_values_are_uniform_under_the_null(design: str) -> None:
    rng = np.random.default_rng(13)
    p_values = []
    for _ in range(SIMULATIONS):
        worker, ticked, turns = simulate(rng, 24, 0.3)
        is_a = halves(rng, worker, design)
        (test,) = permutation.compare_models(ticked[:, None], turns[:, None], is_a, worker, rng, [1.0], 199)
        p_values.append(test.p)
    print(f"p under the null, {design}: {np.mean(np.array(p_values) <= 0.05):.3f} at or below 0.05")
    # p takes the values 1/200 … 1; spreading each over its step makes a continuous uniform out of a discrete one.
    spread = np.array(p_values) - rng.random(SIMULATIONS) / 200
    assert stats.kstest(spread, "uniform").pvalue > 0.01
    assert 0.03 <= np.mean(np.array(p_values) <= 0.05) <= 0.07


@pytest.mark.slow
def test_the_permutation_test_finds_a_real_difference() -> None:
    rng = np.random.default_rng(14)
    found = 0
    for _ in range(200):
        worker, ticked, turns = simulate(rng, 40, 0.3)
        is_a = halves(rng, worker, "within")
        ticked = np.where(is_a, np.minimum(ticked + rng.binomial(1, 0.8, len(worker)), turns), ticked)
        (test,) = permutation.compare_models(ticked[:, None], turns[:, None], is_a, worker, rng, [1.0], 199)
        found += test.p <= 0.05
    assert found / 200 > 0.6

"""Each statistic against arithmetic by hand, an independent library, and its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower

from model_chat.analysis import agreement, comparison, estimates, permutation, worker_quality

RNG_SEED = 7


def p_of(
    sums: np.ndarray,
    totals: np.ndarray,
    is_a: np.ndarray,
    worker: np.ndarray,
    rng: np.random.Generator,
    permutations: int = 2000,
    limit: int = 2000,
) -> float:
    (test,) = permutation.compare_models(
        sums, totals, is_a, worker, rng, bounds=[4.0], permutations=permutations, limit=limit
    )
    return test.p


def clustered(seed: int = RNG_SEED, workers: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """0/1 outcomes of turns and the worker of each, with real differences between workers."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 30, workers)
    worker = np.repeat(np.arange(workers), sizes)
    chance = rng.beta(2, 5, workers)[worker]
    return (rng.random(len(worker)) < chance).astype(float), worker


def test_the_rate_and_its_error_by_hand() -> None:
    # Workers (x, n): (1, 4), (3, 4). p = 1/2; residuals -1, +1; se = sqrt(2/1 · 2) / 8 = 1/4.
    estimate = estimates.rate(np.array([1.0, 3.0]), np.array([4.0, 4.0]))
    assert estimate.value == 0.5 and estimate.se == pytest.approx(0.25)
    assert estimate.total == 8 and estimate.clusters == 2
    assert 0 <= estimate.low < 0.5 < estimate.high <= 1


def test_the_clustered_error_is_that_of_a_regression_on_a_constant() -> None:
    outcome, worker = clustered()
    fit = OLS(outcome, np.ones((len(outcome), 1))).fit(
        cov_type="cluster", cov_kwds={"groups": worker, "use_correction": False}
    )
    workers = len(np.unique(worker))
    ours = estimates.linearised_se(
        estimates.cluster_sums(outcome, worker), estimates.cluster_sums(np.ones(len(worker)), worker)
    )
    assert ours == pytest.approx(float(fit.bse[0]) * math.sqrt(workers / (workers - 1)))


def test_clustering_widens_the_error_of_clustered_data() -> None:
    outcome, worker = clustered()
    sums, totals = estimates.cluster_sums(outcome, worker), estimates.cluster_sums(np.ones(len(worker)), worker)
    naive = math.sqrt(outcome.mean() * (1 - outcome.mean()) / len(outcome))
    assert estimates.linearised_se(sums, totals) > 1.3 * naive


def test_bootstrap_and_analytic_error_agree() -> None:
    outcome, worker = clustered()
    sums, totals = estimates.cluster_sums(outcome, worker), estimates.cluster_sums(np.ones(len(worker)), worker)
    analytic = estimates.rate(sums, totals)
    (boot,) = estimates.bootstrap(sums[:, None], totals[:, None], np.random.default_rng(1), 4000, logit=True)
    assert boot.se == pytest.approx(analytic.se, rel=0.06)
    assert boot.low == pytest.approx(analytic.low, abs=0.2 * (analytic.high - analytic.low))
    assert boot.high == pytest.approx(analytic.high, abs=0.2 * (analytic.high - analytic.low))


def test_the_bootstrap_is_seeded() -> None:
    outcome, worker = clustered()
    sums = estimates.cluster_sums(outcome, worker)[:, None]
    totals = estimates.cluster_sums(np.ones(len(worker)), worker)[:, None]
    first, second, other = (
        estimates.bootstrap(sums, totals, np.random.default_rng(seed), 200)[0] for seed in (1, 1, 2)
    )
    assert first == second != other


def test_without_clustering_the_interval_is_clopper_and_pearsons() -> None:
    # One turn a worker: the effective size is the size, up to the G/(G-1) of the error.
    sums = np.array([1.0] * 12 + [0.0] * 28)
    estimate = estimates.rate(sums, np.ones(40))
    effective = 0.3 * 0.7 / estimate.se**2
    assert effective == pytest.approx(39)
    assert estimate.low == pytest.approx(stats.beta.ppf(0.025, 0.3 * 39, 39 - 0.3 * 39 + 1))
    exact = stats.binomtest(12, 40).proportion_ci(method="exact")
    assert estimate.low == pytest.approx(exact.low, abs=0.005)
    assert estimate.high == pytest.approx(exact.high, abs=0.005)


def test_a_rate_of_zero_has_an_interval_as_if_each_worker_were_one_observation() -> None:
    estimate = estimates.rate(np.zeros(20), np.full(20, 50.0))
    assert estimate.value == 0 and estimate.low == 0
    assert estimate.high == pytest.approx(1 - 0.025 ** (1 / 20))  # Clopper-Pearson for 0 of 20
    full = estimates.rate(np.full(20, 50.0), np.full(20, 50.0))
    assert (full.low, full.high) == (pytest.approx(0.025 ** (1 / 20)), 1)


def test_edges_of_rates_and_means() -> None:
    nothing = estimates.rate(np.zeros(0), np.zeros(0))
    assert math.isnan(nothing.value) and nothing.total == 0
    alone = estimates.rate(np.array([1.0]), np.array([4.0]))
    assert alone.value == 0.25 and math.isnan(alone.se) and math.isnan(alone.low)
    equal = estimates.mean(np.array([5.0, 5.0]), np.ones(2))
    assert equal.value == 5 and equal.se == 0 and math.isnan(equal.low)
    assert all(
        math.isnan(b.low) for b in estimates.bootstrap(np.ones((1, 2)), np.ones((1, 2)), np.random.default_rng(0))
    )


def test_the_mean_has_the_t_interval_of_scipy_when_workers_rate_once() -> None:
    values = np.array([1.0, 2, 4, 5, 3, 3, 4])
    estimate = estimates.mean(values, np.ones(7), 0.9)
    low, high = stats.t.interval(0.9, 6, values.mean(), stats.sem(values))
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_the_difference_knows_that_a_workers_judgments_go_together() -> None:
    # Each worker rates A exactly one better than B: the difference is certain though the ratings are not.
    level = np.array([1.0, 2, 3, 4])
    sums = np.concatenate([level + 1, level])
    is_a = np.array([True] * 4 + [False] * 4)
    same = comparison.difference(sums, np.ones(8), is_a, np.tile(np.arange(4), 2))
    assert same.value == 1 and same.se == pytest.approx(0)
    others = comparison.difference(sums, np.ones(8), is_a, np.arange(8))
    # Unpaired: Σ((x - mean)/4)² over both = 2 · 5/16, times 8/7.
    assert others.se == pytest.approx(math.sqrt(8 / 7 * 2 * 5 / 16))


def test_the_permutation_test_counts_all_dealings_of_a_tiny_design() -> None:
    # One worker each with (A, B): the two permutations of each of 6 workers, 64 in all; the observed |difference| is the
    # largest, reached by 2 of them: p = 2/64.
    a, b = np.array([5.0, 5, 4, 5, 4, 5]), np.array([1.0, 2, 1, 2, 2, 1])
    sums, is_a = np.concatenate([a, b])[:, None], np.array([True] * 6 + [False] * 6)
    worker = np.tile(np.arange(6), 2)
    p = p_of(sums, np.ones((12, 1)), is_a, worker, np.random.default_rng(3), 20_000)
    assert p == pytest.approx(2 / 64, abs=0.005)


def test_the_permutation_test_keeps_workers_whole() -> None:
    # Two workers, 50 conversations each, all of one model each: there is one other permutation, so p can't be small.
    sums = np.concatenate([np.full(50, 5.0), np.full(50, 1.0)])[:, None]
    is_a, worker = np.arange(100) < 50, np.repeat([0, 1], 50)
    p = p_of(sums, np.ones((100, 1)), is_a, worker, np.random.default_rng(0), 500)
    assert p == 1


def test_p_is_never_zero_and_one_where_nothing_varies() -> None:
    sums = np.concatenate([np.full(40, 5.0), np.full(40, 1.0)])[:, None]
    is_a, worker = np.arange(80) < 40, np.arange(80)
    p = p_of(sums, np.ones((80, 1)), is_a, worker, np.random.default_rng(0), 999)
    assert p == 1 / 1000
    flat = p_of(np.ones((80, 1)), np.ones((80, 1)), is_a, worker, np.random.default_rng(0), 99)
    assert flat == 1
    none = p_of(np.zeros((80, 1)), is_a[:, None].astype(float), is_a, worker, np.random.default_rng(0), 99)
    assert math.isnan(none)


def test_above_the_limit_p_comes_from_the_limiting_distribution() -> None:
    rng = np.random.default_rng(5)
    worker = np.arange(1200) // 3
    sums = rng.normal(size=(1200, 1)) + rng.normal(size=400)[worker][:, None]
    is_a = worker % 2 == 0
    sums[is_a] += 0.15
    ones = np.ones((1200, 1))
    exact = p_of(sums, ones, is_a, worker, np.random.default_rng(0), 4000)
    limit = p_of(sums, ones, is_a, worker, np.random.default_rng(0), limit=10)
    assert limit == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 45])
def test_holm_is_that_of_statsmodels(count: int) -> None:
    values = np.random.default_rng(count).choice([0.0, 1e-9, 0.001, 0.01, 0.01, 0.04, 0.3, 1.0], count)
    assert comparison.holm(values.tolist()) == pytest.approx(multipletests(values, method="holm")[1], rel=1e-12)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04: times 3, 2, 1 = 0.03, 0.04, 0.04; NaN is no test.
    assert comparison.holm([0.04, 0.01, math.nan, 0.02]) == pytest.approx([0.04, 0.03, math.nan, 0.04], nan_ok=True)
    assert comparison.holm([]).size == 0


def test_effect_sizes_by_hand() -> None:
    assert comparison.cohens_h(0.5, 0.0) == pytest.approx(math.pi / 2)
    a, b = np.array([2.0, 4.0]), np.array([1.0, 3.0])
    # Pooled variance 2, d = 1/√2, correction 1 - 3/(4·2 - 1) = 4/7.
    assert comparison.hedges_g(a, b) == pytest.approx(4 / 7 / math.sqrt(2))
    assert comparison.cliffs_delta(a, b) == (3 - 1) / 4
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 6, 50).astype(float), rng.integers(1, 6, 70).astype(float)
    wins = stats.mannwhitneyu(a, b).statistic
    assert comparison.cliffs_delta(a, b) == pytest.approx(2 * wins / 3500 - 1)
    assert math.isnan(comparison.hedges_g(a[:1], b)) and math.isnan(comparison.cliffs_delta(a[:0], b))


def test_ratings_are_standardised_within_workers() -> None:
    ratings = np.array([1.0, 3.0, 4.0, 4.0, 2.0, np.nan])
    worker = np.array([0, 0, 1, 1, 2, 2])
    standard = estimates.standardise_per_worker(ratings, worker)
    # Worker 0: mean 2, sd √2. Worker 1 always says 4, worker 2 rated once: nothing to standardise by.
    assert standard[:2] == pytest.approx([-1 / math.sqrt(2), 1 / math.sqrt(2)])
    assert np.isnan(standard[2:]).all()


def test_power_agrees_with_statsmodels_where_nothing_is_clustered() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=200), rng.normal(size=200)
    mean_a, mean_b = (estimates.mean(x, np.ones(200)) for x in (a, b))
    power = comparison.power_to_compare(mean_a, mean_b, 200, 200, wanted_difference=0.3)
    spread = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    needed = NormalIndPower().solve_power(0.3 / spread, alpha=0.05, power=0.8)
    assert power.needed == math.ceil(needed)
    assert power.more_a == max(0, power.needed - 200)
    assert power.detectable == pytest.approx(2.8016 * math.sqrt(mean_a.se**2 + mean_b.se**2), rel=1e-3)
    nothing = comparison.power_to_compare(estimates.rate(np.zeros(0), np.zeros(0)), mean_b, 0, 200, 0.3)
    assert math.isnan(nothing.needed)


def test_agreement_reproduces_krippendorffs_published_example() -> None:
    # Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C: nominal 0.743, ordinal 0.815,
    # interval 0.849.
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    judged = [(v, i, w) for w, row in enumerate(table) for i, v in enumerate(row) if v is not None]
    values, items, workers = (np.array(column) for column in zip(*judged, strict=True))
    found = agreement.agreement(values.astype(float), items, workers, ordered=True)
    assert found.nominal == pytest.approx(0.743, abs=5e-4)
    assert found.ordinal == pytest.approx(0.815, abs=5e-4)
    assert found.interval == pytest.approx(0.849, abs=5e-4)
    assert found.items == 11  # the twelfth item was judged once
    assert found.judgments == 40


def test_raw_agreement_by_hand_and_repeats_by_one_worker_do_not_count() -> None:
    # Item 0: yes, yes, no → 1 of 3 pairs; item 1: no, no → 1 of 1; worker 0 judges item 1 again: not used.
    values = np.array([1.0, 1, 0, 0, 0, 1])
    items, workers = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 0, 1, 0])
    found = agreement.agreement(values, items, workers, ordered=False)
    assert found.raw == 2 / 4 and found.judgments == 5
    assert math.isnan(found.ordinal)
    assert math.isnan(agreement.agreement(np.ones(4), np.zeros(4, int), np.arange(4), ordered=False).nominal)
    assert agreement.agreement(values, np.arange(6), workers, ordered=False).items == 0


@pytest.mark.parametrize(
    ("values", "items"),
    [([], []), ([math.nan, math.nan], [1, 1]), ([4.0, 5.0], [1, 2])],
    ids=["none", "unknown", "once"],
)
def test_what_nobody_judged_twice_has_no_agreement(values: list[float], items: list[int]) -> None:
    found = agreement.agreement(np.array(values), np.array(items, int), np.arange(len(items)), ordered=True)
    assert (found.items, found.judgments) == (0, 0)
    assert all(math.isnan(number) for number in (found.raw, found.nominal, found.ordinal, found.interval))


def test_worker_quality_by_hand() -> None:
    worker = np.array([0, 0, 1, 1])
    model = np.array([0, 1, 0, 1])
    ratings = np.array([[5.0, 5.0], [5.0, 5.0], [1.0, 3.0], [3.0, 3.0]])
    labels = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=bool)
    frame = worker_quality.worker_quality(
        workers=worker,
        worker_names=np.array(["w0", "w1"], dtype=object),
        models=model,
        ratings=ratings,
        seconds=np.array([2.0, 4.0, np.nan, np.nan]),
        words_per_message=np.array([4.0, 6.0, 8.0, 8.0]),
        turn_workers=np.array([0, 0, 1, 1]),
        labels=labels,
    ).set_index("worker_id")
    # w0 less w1: question 1: 4 and 2, question 2: 2 and 2: mean 2.5; w1 the other way round.
    assert frame.loc["w0", "mean_deviation"] == 2.5 and frame.loc["w1", "mean_deviation"] == -2.5
    assert frame.loc["w0", "same_rating_share"] == 1 and frame.loc["w1", "same_rating_share"] == 0.75
    assert frame.loc["w0", "straight_lined_share"] == 1 and frame.loc["w1", "straight_lined_share"] == 0.5
    assert frame.loc["w0", "identical_labels_share"] == 1 and frame.loc["w1", "identical_labels_share"] == 0.5
    assert frame.loc["w0", "median_seconds"] == 3 and math.isnan(frame.loc["w1", "median_seconds"])
    assert frame.loc["w0", "words_per_message"] == 5

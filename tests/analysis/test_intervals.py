"""Intervals and tests to the last digit: degrees of freedom, effective samples, edges, and that p and interval agree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from model_chat.analysis import comparison, estimates, permutation
from model_chat.analysis.estimates import NOTHING
from model_chat.analysis.permutation import Method

NAN = math.nan


# --- rates: Korn and Graubard's interval -------------------------------------------------------------------------


def korn_graubard(sums: np.ndarray, totals: np.ndarray, confidence: float) -> tuple[float, float, float, float]:
    """The published formula, written with scipy's distributions: rate, effective sample, low, high."""
    workers, n = len(sums), totals.sum()
    p = sums.sum() / n
    residual = sums - p * totals
    se = math.sqrt(workers / (workers - 1) * (residual**2).sum()) / n
    tail = (1 - confidence) / 2
    shrink = stats.t.ppf(1 - tail, n - 1) / stats.t.ppf(1 - tail, workers - 1)
    effective = min(n, p * (1 - p) / se**2 * shrink**2)
    hits = p * effective
    low = stats.beta.ppf(tail, hits, effective - hits + 1)
    high = stats.beta.ppf(1 - tail, hits + 1, effective - hits)
    return p, effective, float(low), float(high)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(
    ("sums", "totals"),
    [
        ([1, 3], [4, 4]),  # two workers: n* = 0.25/0.0625 · (t7/t1)², far below 8
        ([1, 0, 2, 5], [6, 7, 5, 9]),
        ([2, 2, 3, 2, 2], [5, 5, 5, 5, 5]),  # workers more alike than chance: n* would be more than 25
        ([0, 1, 0, 0, 0, 0, 0, 1], [50] * 8),
    ],
)
def test_the_interval_of_a_rate_is_korn_and_graubards(sums: list[int], totals: list[int], confidence: float) -> None:
    x, n = np.array(sums, float), np.array(totals, float)
    p, _, low, high = korn_graubard(x, n, confidence)
    estimate = estimates.rate(x, n, confidence)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((p, low, high), rel=1e-9)


def test_the_effective_sample_is_never_more_than_the_sample() -> None:
    # Each of 5 workers ticked 2 or 3 of 5: less spread than chance gives.
    x, n = np.array([2.0, 2, 3, 2, 2]), np.full(5, 5.0)
    _, effective, _, _ = korn_graubard(x, n, 0.5)
    assert effective == 25, "the cap is what decides here"
    estimate = estimates.rate(x, n, 0.5)
    assert estimate.low == pytest.approx(stats.beta.ppf(0.25, 11, 15))
    assert estimate.high == pytest.approx(stats.beta.ppf(0.75, 12, 14))


def test_the_effective_sample_is_less_with_fewer_workers() -> None:
    two = estimates.rate(np.array([1.0, 3.0]), np.array([4.0, 4.0]))
    many = estimates.rate(np.array([1.0, 3.0] * 10), np.full(20, 4.0))
    assert many.low > two.low and many.high < two.high
    # n* = 4 · (t_7/t_1)² = 4 · (2.3646/12.7062)² = 0.1385; Clopper and Pearson's with 0.0693 of 0.1385.
    effective = 4 * (2.364624251592785 / 12.706204736174707) ** 2
    assert two.low == pytest.approx(stats.beta.ppf(0.025, effective / 2, effective / 2 + 1))


def test_workers_without_an_observation_are_no_workers() -> None:
    x, n = np.array([1.0, 0, 3.0, 0]), np.array([4.0, 0, 4.0, 0])
    for of in (estimates.rate, estimates.mean):
        bare, padded = of(x[n > 0], n[n > 0]), of(x, n)
        assert bare == padded and padded.clusters == 2
    only = estimates.rate(np.array([0.0, 2.0]), np.array([0.0, 4.0]))
    assert only.clusters == 1 and only.value == 0.5 and only.total == 4 and math.isnan(only.low)


def test_a_rate_at_the_edge_of_its_error() -> None:
    # All workers have the same rate of 1/2: the error is 0, so each worker is one observation.
    same = estimates.rate(np.array([2.0, 3.0, 1.0]), np.array([4.0, 6.0, 2.0]))
    assert same.se == pytest.approx(0, abs=1e-12)
    assert same.low == pytest.approx(stats.beta.ppf(0.025, 1.5, 2.5))
    assert same.high == pytest.approx(stats.beta.ppf(0.975, 2.5, 1.5))
    one_message_each = estimates.rate(np.array([1.0, 0.0]), np.array([1.0, 1.0]))
    _, _, low, high = korn_graubard(np.array([1.0, 0.0]), np.array([1.0, 1.0]), 0.95)
    assert (one_message_each.low, one_message_each.high) == pytest.approx((low, high))
    assert (one_message_each.total, one_message_each.se) == (2, pytest.approx(0.5))


# --- means -------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_has_workers_less_one_degrees_of_freedom() -> None:
    # Workers (sum, n): (9, 2), (4, 2), (8, 2). Mean 3.5; residuals 2, -3, 1; se = sqrt(3/2 · 14) / 6 = 0.7638.
    estimate = estimates.mean(np.array([9.0, 4, 8]), np.full(3, 2.0))
    assert estimate.se == pytest.approx(math.sqrt(21) / 6)
    width = stats.t.ppf(0.975, 2) * math.sqrt(21) / 6
    assert (estimate.low, estimate.high) == pytest.approx((3.5 - width, 3.5 + width))
    assert (estimate.total, estimate.clusters) == (6, 3)
    cut = estimates.mean(np.array([9.0, 4, 8]), np.full(3, 2.0), 0.95, (1.0, 5.0))
    assert (cut.low, cut.high) == (1.0, 5.0)
    wide = estimates.mean(np.array([9.0, 4, 8]), np.full(3, 2.0), 0.95, (0.0, 9.0))
    assert (wide.low, wide.high) == pytest.approx((3.5 - width, 3.5 + width))


def test_a_mean_needs_two_workers_and_some_spread() -> None:
    two = estimates.mean(np.array([4.0, 2.0]), np.ones(2))
    # se = sqrt(2 · 2) / 2 = 1; t with 1 degree of freedom.
    assert (two.low, two.high) == pytest.approx((3 - 12.706204736174707, 3 + 12.706204736174707))
    alone = estimates.mean(np.array([4.0]), np.ones(1))
    assert alone.value == 4 and math.isnan(alone.se) and math.isnan(alone.low)
    assert estimates.mean(np.zeros(2), np.zeros(2)) == NOTHING == estimates.rate(np.zeros(2), np.zeros(2))
    assert NOTHING.total == NOTHING.clusters == 0 and math.isnan(NOTHING.se)


# --- differences -------------------------------------------------------------------------------------------------


def test_the_t_interval_of_a_difference_has_workers_less_two_degrees_of_freedom() -> None:
    # Five workers, one conversation each: A 5, 3; B 1, 2, 3. Means 4 and 2, influences ±1/2 and ±1/3, 0:
    # se = sqrt(5/4 · (2/4 + 2/9)).
    x, is_a = np.array([5.0, 3, 1, 2, 3]), np.array([True, True, False, False, False])
    gap = comparison.difference(x, np.ones(5), is_a, np.arange(5))
    se = math.sqrt(5 / 4 * (2 / 4 + 2 / 9))
    assert (gap.value, gap.se) == pytest.approx((2, se))
    width = stats.t.ppf(0.975, 3) * se
    assert (gap.low, gap.high) == pytest.approx((2 - width, 2 + width))
    assert (gap.total, gap.clusters) == (5, 5)
    narrower = comparison.difference(x, np.ones(5), is_a, np.arange(5), 0.5)
    assert narrower.high == pytest.approx(2 + stats.t.ppf(0.75, 3) * se)


def test_a_difference_of_two_workers_has_one_degree_of_freedom_and_of_one_none() -> None:
    x, is_a = np.array([4.0, 1, 3, 2]), np.array([True, False, True, False])
    two = comparison.difference(x, np.ones(4), is_a, np.array([0, 0, 1, 1]))
    # Influences: worker 0: (4-3.5)/2 - (1-1.5)/2 = 0.5, worker 1: -0.5; se = sqrt(2 · 0.5) = 1.
    assert (two.value, two.se) == (2, pytest.approx(1))
    assert two.high == pytest.approx(2 + 12.706204736174707)
    one = comparison.difference(x, np.ones(4), is_a, np.zeros(4, int))
    assert one.value == 2 and math.isnan(one.se) and math.isnan(one.low) and one.clusters == 1
    assert comparison.difference(x, np.ones(4), np.ones(4, bool), np.arange(4)) == NOTHING
    assert comparison.difference(x, np.ones(4), np.zeros(4, bool), np.arange(4)) == NOTHING


def test_conversations_without_an_observation_add_no_worker() -> None:
    x, n = np.array([4.0, 1, 3, 0]), np.array([1.0, 1, 1, 0])
    is_a = np.array([True, False, True, False])
    gap = comparison.difference(x, n, is_a, np.arange(4))
    assert gap == comparison.difference(x[:3], n[:3], is_a[:3], np.arange(3))
    assert gap.clusters == 3


# --- the test, by counting all permutations --------------------------------------------------------------------------


def t_of(x: np.ndarray, n: np.ndarray, is_a: np.ndarray, worker: np.ndarray) -> float:
    """|difference| / clustered error, from the definition."""
    gap = comparison.difference(x, n, is_a, worker)
    return abs(gap.value) / gap.se if gap.se > 1e-9 else (math.inf if abs(gap.value) > 1e-9 else 0.0)


def exact_p(x: np.ndarray, n: np.ndarray, is_a: np.ndarray, worker: np.ndarray, shift: float = 0.0) -> float:
    """The share of all permutations (each worker has one conversation) that are as extreme once ``shift`` is taken off A."""
    moved = x - np.where(is_a, shift * n, 0.0)
    seen = t_of(moved, n, is_a, worker)
    statistic = []
    for chosen in itertools.combinations(range(len(x)), int(is_a.sum())):
        permuted = np.zeros(len(x), dtype=bool)
        permuted[list(chosen)] = True
        statistic.append(t_of(moved, n, permuted, worker))
    return float(np.mean(np.array(statistic) >= seen * (1 - 1e-7) - 1e-9))


A_AND_B = np.array([5.0, 4.5, 3.7, 4.1, 2.2, 3.1, 1.9, 2.5, 3.9])
IS_A = np.arange(9) < 4


def compare(x: np.ndarray, is_a: np.ndarray, worker: np.ndarray, **more: object) -> permutation.DifferenceTest:
    more = {
        "bounds": [4.0],
        "permutations": 4000,
        "rng": np.random.default_rng(1),
        "totals": np.ones((len(x), 1)),
        **more,
    }
    (test,) = permutation.compare_models(sums=x[:, None], is_a=is_a, clusters=worker, **more)  # type: ignore[arg-type]  # `more` is given in full
    return test


def test_p_and_interval_are_those_of_all_dealings() -> None:
    test = compare(A_AND_B, IS_A, np.arange(9), confidence=0.9)
    one = np.ones(9)
    assert test.method is Method.PERMUTATION
    assert test.p == pytest.approx(exact_p(A_AND_B, one, IS_A, np.arange(9)), abs=0.01)
    inside, outside = 0.02, 0.06
    for end, sign in ((test.low, 1), (test.high, -1)):
        assert exact_p(A_AND_B, one, IS_A, np.arange(9), end + sign * inside) > 0.1 - 0.015
        assert exact_p(A_AND_B, one, IS_A, np.arange(9), end - sign * outside) < 0.1 + 0.015
    assert test.low < A_AND_B[:4].mean() - A_AND_B[4:].mean() < test.high


def test_the_interval_moves_with_the_data_and_turns_with_the_names() -> None:
    test = compare(A_AND_B, IS_A, np.arange(9))
    moved = compare(A_AND_B + np.where(IS_A, 0.5, 0.0), IS_A, np.arange(9))
    assert (moved.low, moved.high) == pytest.approx((test.low + 0.5, test.high + 0.5), abs=1e-6)
    turned = compare(-A_AND_B, IS_A, np.arange(9))
    assert turned.p == test.p
    assert (turned.low, turned.high) == pytest.approx((-test.high, -test.low), abs=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("limit", [2000, 0])
def test_the_interval_leaves_out_zero_exactly_where_p_is_small(confidence: float, limit: int) -> None:
    rng = np.random.default_rng(8)
    outcomes = set()
    for gap in (-0.5, -0.2, -0.1, 0.0, 0.1, 0.2, 0.5):
        worker = np.repeat(np.arange(52), 2)
        is_a = np.tile([True, False], 52)
        x = rng.normal(size=104) + np.where(is_a, gap, 0.0)
        test = compare(x, is_a, worker, confidence=confidence, permutations=399, limit=limit, rng=rng)
        leaves_out_zero = not test.low <= 0 <= test.high
        assert leaves_out_zero == (test.p <= 1 - confidence + 1e-9)
        outcomes.add(leaves_out_zero)
    assert outcomes == {True, False}


def test_p_on_the_boundary_rejects() -> None:
    # 99 permutations and nothing as extreme: p = 1/100, which is 1 - 0.99.
    x, is_a = np.concatenate([np.arange(20) / 40 + 3, np.arange(20) / 40]), np.arange(40) < 20
    test = compare(x, is_a, np.arange(40), permutations=99, confidence=0.99)
    assert test.p == 0.01
    assert 0 < test.low < 3 < test.high < 4
    stricter = compare(x, is_a, np.arange(40), permutations=99, confidence=0.995)
    assert math.isnan(stricter.low) and math.isnan(stricter.high), "100 permutations can't reject at 0.005"


def test_an_end_beyond_the_scale_is_the_scales_own() -> None:
    test = compare(A_AND_B, IS_A, np.arange(9), bounds=[1.6], confidence=0.9)
    free = compare(A_AND_B, IS_A, np.arange(9), confidence=0.9)
    assert test.high == 1.6 < free.high
    assert test.low == pytest.approx(free.low, abs=1e-6)


def test_two_workers_are_compared_by_the_bare_difference() -> None:
    # Each worker talked twice to both: four conversations within each; 6 · 6 permutations. The largest |difference| is that
    # of the permutation that happened and its opposite: p = 2/36.
    x = np.array([5.0, 5, 1, 1, 5, 5, 1, 1])
    is_a, worker = np.tile([True, True, False, False], 2), np.repeat([0, 1], 4)
    test = compare(x, is_a, worker, permutations=8000)
    assert test.p == pytest.approx(2 / 36, abs=0.012)


def test_three_workers_are_compared_by_the_difference_over_its_error() -> None:
    # Two of them talked three times, one twice; 3 · 3 · 2 permutations keep each worker's number of conversations with A.
    x, is_a = np.array([5.0, 4, 3, 2, 2, 1, 1, 1]), np.array([True, True, False, True, False, False, True, False])
    worker, one = np.array([0, 0, 0, 1, 1, 1, 2, 2]), np.ones(8)
    permuted = [
        np.array([*(np.arange(3) != b_of_0), *(np.arange(3) == a_of_1), *(np.arange(2) == a_of_2)])
        for b_of_0, a_of_1, a_of_2 in itertools.product(range(3), range(3), range(2))
    ]
    by_error = np.mean([t_of(x, one, names, worker) >= t_of(x, one, is_a, worker) - 1e-9 for names in permuted])
    gaps = [abs(x[names].mean() - x[~names].mean()) for names in permuted]
    bare = np.mean(np.array(gaps) >= abs(x[is_a].mean() - x[~is_a].mean()) - 1e-9)
    assert (by_error, bare) == (10 / 18, 4 / 18)
    assert compare(x, is_a, worker, permutations=8000).p == pytest.approx(by_error, abs=0.02)


def test_the_statistic_of_every_dealing_is_the_difference_over_its_clustered_error() -> None:
    rng = np.random.default_rng(3)
    worker, is_a = np.repeat(np.arange(6), 3), rng.permutation(np.arange(18) < 8)
    n = rng.integers(1, 6, 18).astype(float)
    x = rng.uniform(0, n)
    permuted = np.stack([is_a, *(rng.permutation(is_a) for _ in range(20))], axis=1)
    (parts,) = permutation._Pair(x[:, None], n[:, None], is_a, worker)._parts(permuted)
    for shift in (0.0, 0.1, -0.3):
        moved = x - np.where(is_a, shift * n, 0.0)
        # Without the error's factor, √(6/5), which is the same for all permutations.
        expected = [math.sqrt(6 / 5) * t_of(moved, n, names, worker) for names in permuted.T]
        assert permutation._Permuted(*parts, studentise=True).statistics(shift) == pytest.approx(expected)


def test_the_t_test_of_large_data_by_hand() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=100)
    is_a = np.arange(100) % 2 == 0
    gap = comparison.difference(x, np.ones(100), is_a, np.arange(100), 0.9)
    test = compare(x, is_a, np.arange(100), limit=99, confidence=0.9)
    assert test.method is Method.CLUSTERED_T
    assert test.p == pytest.approx(2 * stats.t.sf(abs(gap.value) / gap.se, 98))
    assert (test.low, test.high) == (gap.low, gap.high)
    assert compare(x, is_a, np.arange(100), limit=100).method is Method.PERMUTATION, "above the limit, not at it"


@pytest.mark.parametrize(("workers", "method"), [(49, Method.PERMUTATION), (50, Method.CLUSTERED_T)])
def test_the_t_test_takes_fifty_workers_with_data(workers: int, method: Method) -> None:
    x = np.arange(120.0)
    is_a, worker = np.arange(120) % 3 == 0, np.arange(120) % workers
    assert compare(x, is_a, worker, limit=10, permutations=99).method is method
    # A worker who was never asked this question is none for it.
    totals = np.ones((122, 1))
    totals[120:] = 0
    x, is_a, worker = np.append(x, [0, 0]), np.append(is_a, [True, False]), np.append(worker, [workers, workers + 1])
    assert compare(x, is_a, worker, totals=totals, limit=10, permutations=99).method is method


def test_p_is_never_zero_however_large_the_difference() -> None:
    x = np.where(np.arange(200) < 100, 4.0, 0.0)
    x[0] -= 1e-6  # else nothing varies
    test = compare(x, np.arange(200) < 100, np.arange(200), limit=10)
    assert test.method is Method.CLUSTERED_T and test.p == np.finfo(np.float64).tiny
    x[0] += 1e-6
    same = compare(x, np.arange(200) < 100, np.arange(200), limit=10, permutations=99)
    assert same.method is Method.PERMUTATION and same.p == 0.01
    assert math.isnan(same.low), "nothing varies within a model"


def test_a_side_without_data_has_neither_p_nor_interval_and_stops_no_other_quantity() -> None:
    x = np.stack([A_AND_B, A_AND_B, A_AND_B], axis=1)
    totals = np.ones((9, 3))
    totals[IS_A, 1] = 0
    x[IS_A, 1] = 0
    first, empty, last = permutation.compare_models(
        x, totals, IS_A, np.arange(9), np.random.default_rng(1), [4.0, 4.0, 1.0], permutations=999
    )
    assert math.isnan(empty.p) and math.isnan(empty.low) and math.isnan(empty.high)
    assert first.p == last.p, "all quantities see the same permutations"
    assert first.high == pytest.approx(first.high) and first.high > 1 >= last.high, "each has its own scale"


def test_the_order_of_the_conversations_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    worker = np.array([0, 0, 1, 1, 2, 2, 3, 4, 4, 5])
    is_a = np.array([True, False, True, False, False, True, True, False, False, True])
    x, n = rng.integers(0, 5, 10).astype(float), np.full((10, 1), 6.0)
    first = compare(x, is_a, worker, totals=n, bounds=[1.0])
    shuffle = rng.permutation(10)
    # The same workers in another order get other permutations: as far as chance allows they agree.
    other = compare(x[shuffle], is_a[shuffle], worker[shuffle], totals=n, bounds=[1.0])
    assert other.p == pytest.approx(first.p, abs=0.03)
    assert (other.low, other.high) == pytest.approx((first.low, first.high), abs=0.05)


def test_many_dealings_are_the_same_as_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for cells in (4_000_000, 9 * 50, 1):
        monkeypatch.setattr(permutation, "CELLS_AT_ONCE", cells)
        results.append(compare(A_AND_B, IS_A, np.arange(9), permutations=300).p)
    assert results == pytest.approx([results[0]] * 3, abs=0.05)
    monkeypatch.setattr(permutation, "CELLS_AT_ONCE", 9 * 100)
    counted = []
    real = permutation._Permuter.permute
    monkeypatch.setattr(
        permutation._Permuter, "permute", lambda self, times: counted.append(times) or real(self, times)
    )
    compare(A_AND_B, IS_A, np.arange(9), permutations=250)
    assert counted == [100, 100, 50]


def test_dealings_keep_each_workers_share_and_workers_whole() -> None:
    # Worker 0 and 1 saw both (2 of 3, 1 of 2), workers 2 to 5 one only: two A (2 and 1 conversations), two B.
    worker = np.array([0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5])
    is_a = np.array([1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0], dtype=bool)
    permuted = permutation._Permuter(is_a, worker, np.random.default_rng(0)).permute(4000)
    assert permuted.shape == (11, 4000)
    assert (permuted[:3].sum(0) == 2).all() and (permuted[3:5].sum(0) == 1).all()
    assert (permuted[5] == permuted[6]).all() and (permuted[8] == permuted[9]).all()
    assert (permuted[[5, 7, 8, 10]].sum(0) == 2).all()
    # Every conversation of a worker who saw both, and every worker who saw one, is A's as often as any other.
    assert permuted.mean(1) == pytest.approx([2 / 3] * 3 + [1 / 2] * 8, abs=0.03)
    only_mixed = permutation._Permuter(is_a[:5], worker[:5], np.random.default_rng(0)).permute(10)
    assert (only_mixed[:3].sum(0) == 2).all()
    only_whole = permutation._Permuter(is_a[5:], worker[5:] - 2, np.random.default_rng(0)).permute(10)
    assert (only_whole[[0, 2, 3, 5]].sum(0) == 2).all()


# --- bootstrap ---------------------------------------------------------------------------------------------------


def test_the_bootstrap_is_studentised_by_each_resamples_own_error() -> None:
    # Two workers have four resamples: (0,0), (0,1), (1,0), (1,1); only the mixed ones have an error, and their distance
    # is 0. The others lie at the far ends: the interval is infinite.
    (boot,) = estimates.bootstrap(np.array([[1.0], [3.0]]), np.ones((2, 1)), np.random.default_rng(0), 4000)
    assert boot.low == -math.inf and boot.high == math.inf
    assert boot.se == pytest.approx(math.sqrt(0.5), rel=0.05)  # values 1, 2, 2, 3 each a quarter
    (rate,) = estimates.bootstrap(
        np.array([[1.0], [3.0]]), np.full((2, 1), 4.0), np.random.default_rng(0), 4000, logit=True
    )
    assert (rate.low, rate.high) == (0, 1)


@pytest.mark.parametrize("logit", [False, True])
def test_the_bootstraps_interval_by_its_definition(logit: bool) -> None:
    rng = np.random.default_rng(5)
    x, n = rng.integers(1, 8, 12).astype(float), np.full(12, 9.0)
    value = x.sum() / n.sum()
    confidence = 0.9
    draws = np.random.default_rng(6).integers(0, 12, size=(800, 12))
    distances = []
    for drawn in draws:
        p, se = x[drawn].sum() / n[drawn].sum(), estimates.linearised_se(x[drawn], n[drawn])
        if logit:
            distances.append((math.log(p / (1 - p)) - math.log(value / (1 - value))) / (se / (p * (1 - p))))
        else:
            distances.append((p - value) / se)
    lower, upper = np.quantile(distances, [0.05, 0.95], method="nearest")
    se = estimates.linearised_se(x, n)
    (boot,) = estimates.bootstrap(x[:, None], n[:, None], np.random.default_rng(6), 800, confidence, logit=logit)
    if logit:
        centre, scale = math.log(value / (1 - value)), se / (value * (1 - value))
        low, high = (1 / (1 + math.exp(-(centre - q * scale))) for q in (upper, lower))
    else:
        low, high = value - upper * se, value - lower * se
    assert (boot.low, boot.high) == pytest.approx((low, high))
    assert boot.se == pytest.approx(np.std([x[d].sum() / n[d].sum() for d in draws], ddof=1))


def test_the_bootstrap_in_small_steps_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    x, n = rng.integers(1, 8, (12, 2)).astype(float), np.full((12, 2), 9.0)
    whole = estimates.bootstrap(x, n, np.random.default_rng(6), 250)
    monkeypatch.setattr(estimates, "CELLS_AT_ONCE", 12 * 100)
    assert estimates.bootstrap(x, n, np.random.default_rng(6), 250) == whole
    monkeypatch.setattr(estimates, "CELLS_AT_ONCE", 1)
    assert estimates.bootstrap(x, n, np.random.default_rng(6), 250) == whole


def test_the_bootstrap_of_what_does_not_vary() -> None:
    same, certain = estimates.bootstrap(
        np.array([[2.0, 4], [2, 4], [2, 4]]), np.full((3, 2), 4.0), np.random.default_rng(0), 100, logit=True
    )
    for boot in (same, certain):
        assert boot.se == pytest.approx(0) and math.isnan(boot.low) and math.isnan(boot.high)
    one = estimates.bootstrap(np.ones((1, 3)), np.ones((1, 3)), np.random.default_rng(0))
    assert len(one) == 3 and all(math.isnan(boot.se) for boot in one)


# --- what needs two of a kind ------------------------------------------------------------------------------------


def test_sums_of_workers_who_are_numbered_with_gaps() -> None:
    assert estimates.cluster_sums(np.array([1.0, 2, 4]), np.array([7, 3, 7])).tolist() == [2, 5]
    assert estimates.cluster_sums(np.array([[1.0, 2], [3, 4]]), np.array([5, 5])).tolist() == [[4, 6]]
    assert estimates.cluster_sums(np.zeros(0), np.zeros(0, int)).tolist() == []


def test_standard_scores_need_two_ratings_that_differ() -> None:
    ratings = np.array([1.0, 3.0, 5.0, NAN, 2.0, NAN, 2.0, 2.0])
    worker = np.array([9, 9, 9, 9, 4, 4, 1, 1])
    standard = estimates.standardise_per_worker(ratings, worker)
    assert standard[:3] == pytest.approx([-1, 0, 1])  # mean 3, sd 2
    assert np.isnan(standard[3:]).all()
    assert np.isnan(estimates.standardise_per_worker(np.full(3, NAN), np.arange(3))).all()


def test_effect_sizes_at_their_edges() -> None:
    assert math.isnan(comparison.cohens_h(NAN, 0.5)) and math.isnan(comparison.cohens_h(0.5, NAN))
    assert comparison.cohens_h(0.25, 0.75) == pytest.approx(2 * math.asin(0.5) - 2 * math.asin(math.sqrt(0.75)))
    pair, single = np.array([1.0, 3.0]), np.array([1.0])
    assert math.isnan(comparison.hedges_g(pair, single)) and math.isnan(comparison.hedges_g(single, pair))
    assert math.isnan(comparison.hedges_g(np.ones(3), np.ones(2)))
    # Pooled variance (2·1 + 1·2)/3, d = 1/√(4/3), correction 1 - 3/(4·3 - 1).
    three = np.array([2.0, 3.0, 4.0])
    assert comparison.hedges_g(three, pair) == pytest.approx(1 / math.sqrt(4 / 3) * (1 - 3 / 11))
    assert math.isnan(comparison.cliffs_delta(pair, single[:0]))
    assert comparison.cliffs_delta(np.array([2.0, 2.0, 3.0]), np.array([2.0, 1.0])) == pytest.approx(4 / 6)


def test_holm_corrects_two_and_leaves_one() -> None:
    assert comparison.holm([0.03]).tolist() == [0.03]
    assert comparison.holm([0.03, NAN]).tolist()[0] == 0.03
    assert comparison.holm([0.03, 0.02]).tolist() == [0.04, 0.04]


def test_power_by_hand() -> None:
    a = estimates.Estimate(0.5, 0.1, NAN, NAN, 50, 10)
    b = estimates.Estimate(0.4, 0.2, NAN, NAN, 40, 10)
    power = comparison.power_to_compare(a, b, 20, 30, wanted_difference=0.5, confidence=0.9, power=0.7)
    reach = stats.norm.ppf(0.95) + stats.norm.ppf(0.7)
    spread = 0.1**2 * 20 + 0.2**2 * 30
    needed = math.ceil(reach**2 * spread / 0.5**2)
    assert 20 < needed < 30
    assert (power.needed, power.more_a, power.more_b) == (needed, needed - 20, 0)
    assert power.detectable == pytest.approx(reach * math.sqrt(0.1**2 + 0.2**2))
    small = estimates.Estimate(0.5, 0.05, NAN, NAN, 50, 10)
    tight = comparison.power_to_compare(small, small, 20, 30, wanted_difference=0.1)
    reach = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert tight.needed == math.ceil(reach**2 * 0.05**2 * 50 / 0.1**2)
    certain = estimates.Estimate(0.5, 0.0, NAN, NAN, 50, 10)
    nothing = comparison.power_to_compare(certain, certain, 20, 30, 0.5)
    assert all(math.isnan(number) for number in (nothing.needed, nothing.more_a, nothing.more_b, nothing.detectable))

"""Comparing two models: difference, test, effect size, and how many conversations a comparison takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from model_chat.analysis.estimates import CELLS_AT_ONCE, NOTHING, TIE, Estimate, Floats, cluster_sums

PERMUTATION_LIMIT = 5_000
"""Conversations of a pair of models above which the permutation distribution is taken from its limit."""
_FEWEST_CLUSTERS_TO_STUDENTISE = 3


def difference(
    sums: Floats, totals: Floats, is_a: NDArray[np.bool_], clusters: NDArray[np.integer], confidence: float = 0.95
) -> Estimate:
    """The difference of two ratios, A less B, with a t interval; workers may have seen both.

    The error is the linearised one of ``Σx_A/Σn_A - Σx_B/Σn_B`` over workers (as :func:`linearised_se`), so a worker's
    judgments of A and of B may be correlated. Degrees of freedom: workers less two, at least one.

    Args:
        sums: a number a conversation.
        totals: a number a conversation.
        is_a: which conversations are A's; the rest are B's.
        clusters: the worker of each conversation.
        confidence: of the interval.

    Returns:
        NaN as a whole when one side has no data; no error or interval with fewer than two workers, and no interval when
        the error is 0.
    """
    total_a, total_b = float(totals[is_a].sum()), float(totals[~is_a].sum())
    used = totals > 0
    count = len(np.unique(clusters[used]))
    if total_a == 0 or total_b == 0:
        return NOTHING
    rate_a, rate_b = float(sums[is_a].sum()) / total_a, float(sums[~is_a].sum()) / total_b
    value = rate_a - rate_b
    total = round(total_a + total_b)
    if count < 2:
        return Estimate(value, math.nan, math.nan, math.nan, total, count)
    influence = np.where(is_a, (sums - rate_a * totals) / total_a, -(sums - rate_b * totals) / total_b)
    by_worker = cluster_sums(influence[used], clusters[used])
    se = math.sqrt(count / (count - 1) * float(by_worker @ by_worker))
    low = high = math.nan
    if se > TIE:
        width = float(stats.t.ppf((1 + confidence) / 2, max(count - 2, 1))) * se
        low, high = value - width, value + width
    return Estimate(value, se, low, high, total, count)


def permutation_p_values(
    sums: Floats,
    totals: Floats,
    is_a: NDArray[np.bool_],
    clusters: NDArray[np.integer],
    rng: np.random.Generator,
    permutations: int = 2000,
    limit: int = PERMUTATION_LIMIT,
) -> Floats:
    """Two-sided p values for "A and B do not differ", for several quantities at once.

    The models' names are dealt out anew in the ways that leave workers whole: among the conversations of a worker who
    saw both models, and among the workers who saw one only, each with all their conversations. Under the hypothesis
    every such dealing is as likely as the one that happened, so the test is exact whatever the correlation within a
    worker (Good 2005, "Permutation, Parametric and Bootstrap Tests of Hypotheses", chapter 3). The statistic is the
    difference divided by its clustered error, which also keeps the level when the two only differ in their spread
    (Chung & Romano 2013, Annals of Statistics 41(2)). ``p = (1 + #{as extreme}) / (1 + permutations)`` (Phipson & Smyth
    2010, Statistical Applications in Genetics and Molecular Biology 9(1)), so p is never 0.

    Args:
        sums: conversations x quantities.
        totals: conversations x quantities.
        is_a: which conversations are A's.
        clusters: the worker of each conversation.
        rng: where chance comes from.
        permutations: how many dealings.
        limit: with more conversations than this, p comes from the t distribution that the studentised permutation
            distribution tends to (Chung & Romano, theorem 2.1).

    Returns:
        One p a quantity; NaN where a side has no data, 1 where nothing varies.
    """
    order = np.argsort(clusters, kind="stable")
    sums, totals, is_a, clusters = sums[order], totals[order], is_a[order], clusters[order]
    starts = np.flatnonzero(np.r_[True, clusters[1:] != clusters[:-1]])
    workers = len(starts)
    studentise = workers >= _FEWEST_CLUSTERS_TO_STUDENTISE
    observed = _pair_statistics(is_a[None, :], sums, totals, starts, studentise)[0]
    known = (totals[is_a].sum(0) > 0) & (totals[~is_a].sum(0) > 0)
    if len(is_a) > limit and studentise:
        p_values = 2 * stats.t.sf(np.abs(observed), max(workers - 2, 1))
        return np.where(known, p_values, np.nan)
    dealer = _Dealer(is_a, starts, rng)
    step = max(1, CELLS_AT_ONCE // max(1, sums.size))
    extreme = np.zeros(sums.shape[1])
    for start in range(0, permutations, step):
        dealt = dealer.deal(min(step, permutations - start))
        extreme += (_pair_statistics(dealt, sums, totals, starts, studentise) >= observed - TIE).sum(0)
    return np.where(known, (1 + extreme) / (1 + permutations), np.nan)


class _Dealer:
    """Deals the models' names anew; conversations are sorted by worker."""

    def __init__(self, is_a: NDArray[np.bool_], starts: NDArray[np.intp], rng: np.random.Generator) -> None:
        self._is_a, self._rng = is_a, rng
        sizes = np.diff(np.r_[starts, len(is_a)])
        share = np.add.reduceat(is_a.astype(np.float64), starts) / sizes
        mixed = (share > 0) & (share < 1)
        worker = np.repeat(np.arange(len(starts)), sizes)
        self._inside = np.flatnonzero(mixed[worker])
        # Random keys below 1 added to the worker's number: sorting shuffles within each worker and never across.
        self._keys = worker[self._inside].astype(np.float64)
        self._whole = np.flatnonzero(~mixed[worker])
        number = np.cumsum(~mixed) - 1
        self._whole_worker = number[worker[self._whole]]
        self._whole_labels = share[~mixed] > 0.5

    def deal(self, times: int) -> NDArray[np.bool_]:
        dealt = np.tile(self._is_a, (times, 1))
        if len(self._inside):
            shuffled = np.argsort(self._keys + self._rng.random((times, len(self._inside))), axis=1)
            dealt[:, self._inside] = self._is_a[self._inside][shuffled]
        if len(self._whole):
            labels = self._rng.permuted(np.tile(self._whole_labels, (times, 1)), axis=1)
            dealt[:, self._whole] = labels[:, self._whole_worker]
        return dealt


def _pair_statistics(
    dealt: NDArray[np.bool_], sums: Floats, totals: Floats, starts: NDArray[np.intp], studentise: bool
) -> Floats:
    """|difference|, divided by its clustered error if wanted: dealings x quantities."""
    chosen = dealt.astype(np.float64)
    results = np.empty((len(dealt), sums.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        for q in range(sums.shape[1]):
            x, n = sums[:, q], totals[:, q]
            total_a = chosen @ n
            total_b = n.sum() - total_a
            sum_a = chosen @ x
            rate_a, rate_b = sum_a / total_a, (x.sum() - sum_a) / total_b
            distance = np.abs(rate_a - rate_b)
            if studentise:
                influence = chosen * ((x - rate_a[:, None] * n) / total_a[:, None])
                influence -= (1 - chosen) * ((x - rate_b[:, None] * n) / total_b[:, None])
                by_worker = np.add.reduceat(influence, starts, axis=1)
                count = int((np.add.reduceat(n, starts) > 0).sum())
                se = np.sqrt(count / max(count - 1, 1) * np.einsum("ij,ij->i", by_worker, by_worker))
                distance = np.where(se > TIE, distance / se, np.where(distance > TIE, np.inf, 0.0))
            results[:, q] = np.nan_to_num(distance, nan=0.0, posinf=np.inf)
    return results


def holm(p_values: Sequence[float]) -> Floats:
    """Holm's step-down correction over the tests of one family (Holm 1979, Scandinavian Journal of Statistics 6).

    Returns:
        Corrected values in the same order; NaN stays NaN and does not count as a test.
    """
    values = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(values), np.nan)
    known = np.isfinite(values)
    if known.any():
        corrected[known] = multipletests(values[known], method="holm")[1]
    return corrected


def cohens_h(rate_a: float, rate_b: float) -> float:
    """Cohen's h, ``2·asin(√a) - 2·asin(√b)`` (Cohen 1988, "Statistical Power Analysis", chapter 6); NaN if unknown."""
    if not (math.isfinite(rate_a) and math.isfinite(rate_b)):
        return math.nan
    return 2 * math.asin(math.sqrt(rate_a)) - 2 * math.asin(math.sqrt(rate_b))


def hedges_g(a: Floats, b: Floats) -> float:
    """Hedges' g: the difference in pooled standard deviations, corrected for small samples.

    Hedges 1981, Journal of Educational Statistics 6(2), with the usual approximation ``1 - 3/(4·df - 1)``.

    Returns:
        NaN with fewer than two values on a side, or when nothing varies.
    """
    if len(a) < 2 or len(b) < 2:
        return math.nan
    freedom = len(a) + len(b) - 2
    pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom
    if pooled <= 0:
        return math.nan
    return float((a.mean() - b.mean()) / math.sqrt(pooled) * (1 - 3 / (4 * freedom - 1)))


def cliffs_delta(a: Floats, b: Floats) -> float:
    """Cliff's delta, ``P(A > B) - P(A < B)``, for ordinal ratings (Cliff 1993, Psychological Bulletin 114).

    Returns:
        Between -1 and 1; NaN when a side is empty.
    """
    if len(a) == 0 or len(b) == 0:
        return math.nan
    wins = float(stats.mannwhitneyu(a, b, method="asymptotic").statistic)
    return 2 * wins / (len(a) * len(b)) - 1


@dataclass(frozen=True, slots=True)
class Power:
    """What it takes to find a difference between two models.

    Attributes:
        needed: conversations a model in all.
        more_a, more_b: how many more than there are.
        detectable: the smallest difference that the conversations there are would find.
    """

    needed: float
    more_a: float
    more_b: float
    detectable: float


def power_to_compare(
    a: Estimate,
    b: Estimate,
    conversations_a: int,
    conversations_b: int,
    wanted_difference: float,
    confidence: float = 0.95,
    power: float = 0.8,
) -> Power:
    """How many conversations a model needs to find ``wanted_difference`` in a two-sided test.

    ``(z_{1-α/2} + z_power)² · (v_a + v_b) / d²`` (Cohen 1988, chapters 2 and 6), where ``v = se² · conversations`` is
    the variance that a conversation contributes *with* its clustering; so it holds for more of the same: new workers
    with as many conversations each.

    Args:
        a, b: the two estimates, with their clustered errors.
        conversations_a, conversations_b: behind them.
        wanted_difference: in the quantity's own unit.
        confidence: 1 less the level of the test.
        power: wanted probability of finding the difference.

    Returns:
        NaN where an error is unknown or both are 0 (nothing to plan with).
    """
    spread = a.se**2 * conversations_a + b.se**2 * conversations_b
    if not spread > 0:
        return Power(math.nan, math.nan, math.nan, math.nan)
    reach = float(stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power))
    needed = math.ceil(reach**2 * spread / wanted_difference**2)
    return Power(
        needed=needed,
        more_a=max(0, needed - conversations_a),
        more_b=max(0, needed - conversations_b),
        detectable=reach * math.sqrt(a.se**2 + b.se**2),
    )

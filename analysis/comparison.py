"""Comparing two models: difference, test, effect size, and how many conversations a comparison takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from model_chat.analysis.estimates import CELLS_AT_ONCE, NOTHING, TIE, Estimate, Floats, cluster_sums

PERMUTATION_LIMIT = 2_000
"""Conversations of a pair of models above which the test is the clustered t test, given enough workers."""
_WORKERS_FOR_THE_LIMIT = 50
_FEWEST_CLUSTERS_TO_STUDENTISE = 3
_RANDOM_BITS = 38


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
        width = float(special.stdtrit(max(count - 2, 1), (1 + confidence) / 2)) * se
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
        limit: with more conversations than this, of 50 workers or more, p comes from the t distribution of the same
            clustered statistic (Cameron & Miller 2015, section VI): permuting would cost minutes and hardly differ.

    Returns:
        One p a quantity; NaN where a side has no data, 1 where nothing varies.
    """
    order = np.argsort(clusters, kind="stable")
    sums, totals, is_a, clusters = sums[order], totals[order], is_a[order], clusters[order]
    _, numbers = np.unique(clusters, return_inverse=True)
    pair = _Pair(sums, totals, numbers)
    observed = pair.statistics(is_a[:, None])[:, 0]
    known = (totals[is_a].sum(0) > 0) & (totals[~is_a].sum(0) > 0)
    if len(is_a) > limit and pair.workers >= _WORKERS_FOR_THE_LIMIT:
        p_values = 2 * special.stdtr(max(pair.workers - 2, 1), -np.abs(observed))
        return np.where(known, p_values, np.nan)
    dealer = _Dealer(is_a, numbers, rng)
    step = max(1, CELLS_AT_ONCE // max(1, len(is_a)))
    extreme = np.zeros(sums.shape[1])
    for start in range(0, permutations, step):
        dealt = dealer.deal(min(step, permutations - start))
        extreme += (pair.statistics(dealt) >= observed[:, None] - TIE).sum(1)
    return np.where(known, (1 + extreme) / (1 + permutations), np.nan)


class _Dealer:
    """Deals the models' names anew; conversations are sorted by worker."""

    def __init__(self, is_a: NDArray[np.bool_], worker: NDArray[np.integer], rng: np.random.Generator) -> None:
        self._is_a, self._rng = is_a, rng
        share = np.bincount(worker, is_a) / np.bincount(worker)
        mixed = (share > 0) & (share < 1)
        self._inside = np.flatnonzero(mixed[worker])
        self._inside_worker = worker[self._inside].astype(np.int64)
        self._whole = np.flatnonzero(~mixed[worker])
        number = np.cumsum(~mixed) - 1
        self._whole_worker = number[worker[self._whole]]
        self._whole_labels = share[~mixed] > 0.5

    def deal(self, times: int) -> NDArray[np.bool_]:
        """Conversations x ``times``: whether each is A's now."""
        dealt = np.repeat(self._is_a[:, None], times, axis=1)
        if len(self._inside):
            dealt[self._inside] = self._shuffled(self._is_a[self._inside], self._inside_worker, times).T
        if len(self._whole):
            one_group = np.zeros(len(self._whole_labels), dtype=np.int64)
            labels = self._shuffled(self._whole_labels, one_group, times)
            dealt[self._whole] = labels[:, self._whole_worker].T
        return dealt

    def _shuffled(self, labels: NDArray[np.bool_], group: NDArray[np.int64], times: int) -> NDArray[np.bool_]:
        """``times`` shuffles of ``labels`` within groups, which are sorted.

        The label rides in the lowest bit of a random number below the group's number: one sort of integers shuffles
        all groups at once, ten times faster than sorting indices.
        """
        chance = self._rng.integers(0, 1 << _RANDOM_BITS, size=(times, len(labels)), dtype=np.int64)
        keys = (group << (_RANDOM_BITS + 1)) + (chance << 1) + labels
        keys.sort(axis=1)
        return (keys & 1).astype(bool)


class _Pair:
    """Computes |difference| / clustered error for many dealings of the models' names at once.

    Args:
        sums, totals: conversations x quantities.
        worker: number of each conversation's worker, from 0 without gaps.
    """

    def __init__(self, sums: Floats, totals: Floats, worker: NDArray[np.integer]) -> None:
        self._sums, self._totals = sums, totals
        conversations = len(worker)
        ones = (np.ones(conversations), (worker, np.arange(conversations)))
        self.workers = int(worker.max()) + 1 if conversations else 0
        self._by_worker = sparse.csr_array(ones, shape=(self.workers, conversations))
        self.studentise = self.workers >= _FEWEST_CLUSTERS_TO_STUDENTISE

    def statistics(self, dealt: NDArray[np.bool_]) -> Floats:
        """Quantities x dealings, for ``dealt``: conversations x dealings."""
        chosen = dealt.astype(np.float64)
        results = np.empty((self._sums.shape[1], dealt.shape[1]))
        known_totals: dict[bytes, tuple[Floats, Floats]] = {}  # buckets share theirs
        for q in range(len(results)):
            x, n = self._sums[:, q], self._totals[:, q]
            key = n.tobytes()
            if key not in known_totals:
                known_totals[key] = n @ chosen, (self._by_worker * n) @ chosen
            total_a, worker_total_a = known_totals[key]
            total_b = n.sum() - total_a
            sum_a = x @ chosen
            with np.errstate(divide="ignore", invalid="ignore"):
                rate_a, rate_b = sum_a / total_a, (x.sum() - sum_a) / total_b
                distance = np.abs(rate_a - rate_b)
                if self.studentise:
                    worker_x, worker_n = self._by_worker @ x, self._by_worker @ n
                    # Σ over the worker's A of (x - rate_a·n)/total_a, less the same for B.
                    influence = ((self._by_worker * x) @ chosen) * (1 / total_a + 1 / total_b)
                    influence -= worker_total_a * (rate_a / total_a + rate_b / total_b)
                    influence -= worker_x[:, None] / total_b - worker_n[:, None] * (rate_b / total_b)
                    count = int((worker_n > 0).sum())
                    se = np.sqrt(count / max(count - 1, 1) * np.einsum("ij,ij->j", influence, influence))
                    distance = np.where(se > TIE, distance / se, np.where(distance > TIE, np.inf, 0.0))
            results[q] = np.nan_to_num(distance, nan=0.0, posinf=np.inf)
        return results


def holm(p_values: Sequence[float]) -> Floats:
    """Holm's step-down correction over the tests of one family (Holm 1979, Scandinavian Journal of Statistics 6).

    Returns:
        Corrected values in the same order; NaN stays NaN and does not count as a test.
    """
    values = np.asarray(p_values, dtype=np.float64)
    known = np.isfinite(values)
    if known.sum() < 2:
        return values
    # statsmodels takes a second to import; whoever compares two models, or asks for --help, need not wait for it.
    from statsmodels.stats.multitest import multipletests

    corrected = np.full(len(values), np.nan)
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
    ordered = np.sort(b)
    below, not_above = np.searchsorted(ordered, a, "left"), np.searchsorted(ordered, a, "right")
    return float(below.sum() - (len(b) - not_above).sum()) / (len(a) * len(b))


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
    reach = float(special.ndtri((1 + confidence) / 2) + special.ndtri(power))
    needed = math.ceil(reach**2 * spread / wanted_difference**2)
    return Power(
        needed=needed,
        more_a=max(0, needed - conversations_a),
        more_b=max(0, needed - conversations_b),
        detectable=reach * math.sqrt(a.se**2 + b.se**2),
    )

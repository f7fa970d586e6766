"""Permutation test of the difference of two models; p and interval come from the same test.

The interval holds exactly the differences that the test does not reject (Lehmann & Romano 2005, "Testing Statistical
Hypotheses", section 3.5). So it leaves out 0 where p is at most 1 less the confidence, and only there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import special

from model_chat.analysis.comparison import difference
from model_chat.analysis.estimates import CELLS_AT_ONCE, TIE, Floats

PERMUTATION_LIMIT = 2_000
"""Conversations of a pair of models above which the test is the clustered t test, given enough workers."""
WORKERS_FOR_THE_LIMIT = 50
_FEWEST_CLUSTERS_TO_STUDENTISE = 3
_RANDOM_BITS = 38
_ROUNDING = 1e-7
"""Relative error of a statistic at a shifted difference, where squares nearly cancel."""
_HALVINGS = 40


class Method(StrEnum):
    """How a difference was tested."""

    PERMUTATION = "permutation"
    CLUSTERED_T = "clustered t"


@dataclass(frozen=True, slots=True)
class DifferenceTest:
    """Whether two models differ.

    Attributes:
        p: two-sided, for "the models do not differ"; NaN where a side has no data. By permutation it is a multiple of
            1 / (permutations + 1), and never less.
        low, high: ends of the interval of the difference, A less B; NaN where the test rejects no difference at all (too
            few workers) or nothing varies.
    """

    p: float
    low: float
    high: float
    method: Method


def compare_models(
    sums: Floats,
    totals: Floats,
    is_a: NDArray[np.bool_],
    clusters: NDArray[np.integer],
    rng: np.random.Generator,
    bounds: Sequence[float],
    permutations: int = 2000,
    confidence: float = 0.95,
    limit: int = PERMUTATION_LIMIT,
) -> list[DifferenceTest]:
    """Test several differences of ratios, ``Σx_A/Σn_A - Σx_B/Σn_B``, of the same conversations.

    The models' names are permuted in the ways that leave workers whole: among the conversations of a worker who
    saw both models, and among the workers who saw one only, each with all their conversations. Under the hypothesis
    every such permutation is as likely as what happened, so the test is exact whatever the correlation within a
    worker (Good 2005, "Permutation, Parametric and Bootstrap Tests of Hypotheses", chapter 3). The statistic is the
    difference divided by its clustered error, which also keeps the level when the two only differ in their spread
    (Chung & Romano 2013, Annals of Statistics 41(2)). ``p = (1 + #{as extreme}) / (1 + permutations)`` (Phipson & Smyth
    2010, Statistical Applications in Genetics and Molecular Biology 9(1)), so p is never 0.

    A difference ``d`` is in the interval if the same permutations do not reject "A less B is d": ``d`` for each unit of
    ``n_A`` is taken off ``x_A`` first (Good 2005, section 3.2).

    Args:
        sums: conversations x quantities.
        totals: conversations x quantities.
        is_a: which conversations are A's.
        clusters: the worker of each conversation.
        bounds: the largest difference that a quantity's scale allows: 1 for a rate, 4 for a rating of 1 to 5.
        limit: with more conversations than this, of 50 workers or more, p and interval come from the t distribution of the
            same clustered statistic (Cameron & Miller 2015, section VI): permuting would cost minutes and hardly differ.

    Returns:
        One a quantity. Where nothing varies p is 1.
    """
    estimates = [difference(sums[:, q], totals[:, q], is_a, clusters, confidence) for q in range(sums.shape[1])]
    results: dict[int, DifferenceTest] = {}
    for q, estimate in enumerate(estimates):
        if not math.isfinite(estimate.value):
            results[q] = DifferenceTest(math.nan, math.nan, math.nan, Method.PERMUTATION)
        elif len(is_a) > limit and estimate.clusters >= WORKERS_FOR_THE_LIMIT and estimate.se > TIE:
            tail = float(special.stdtr(estimate.clusters - 2, -abs(estimate.value) / estimate.se))
            p = max(2 * tail, float(np.finfo(np.float64).tiny))  # which is 0 only for want of digits
            results[q] = DifferenceTest(p, estimate.low, estimate.high, Method.CLUSTERED_T)
    rest = [q for q in range(len(estimates)) if q not in results]
    if rest:
        order = np.argsort(clusters, kind="stable")
        _, numbers = np.unique(clusters[order], return_inverse=True)
        pair = _Pair(sums[order][:, rest], totals[order][:, rest], is_a[order], numbers)
        for q, permuted in zip(rest, pair.permuted(rng, permutations), strict=True):
            low, high = math.nan, math.nan
            if estimates[q].se > TIE:
                low, high = _interval(permuted, estimates[q].value, bounds[q], 1 - confidence)
            results[q] = DifferenceTest(permuted.p(0.0), low, high, Method.PERMUTATION)
    return [results[q] for q in range(len(estimates))]


def _interval(permuted: _Permuted, value: float, bound: float, level: float) -> tuple[float, float]:
    """The differences that are not rejected, around ``value``."""

    def holds(shift: float) -> bool:
        return permuted.p(shift) > level + TIE

    low, high = (_end(holds, value, sign * bound) for sign in (-1, 1))
    return (math.nan, math.nan) if low == -bound and high == bound else (low, high)


def _end(holds: Callable[[float], bool], value: float, bound: float) -> float:
    """Where ``holds`` ends between ``value``, where it does, and ``bound``; ``bound`` if it holds there, too."""
    inside, outside = value, bound
    # 0 is tried first: whether it is in the interval is then the same question as whether p is small.
    if min(value, bound) < 0 < max(value, bound):
        if holds(0.0):
            inside = 0.0
        else:
            outside = 0.0
    if outside == bound and holds(bound):
        return bound
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return inside


class _Permuter:
    """Permutes the models' names; conversations are sorted by worker."""

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

    def permute(self, times: int) -> NDArray[np.bool_]:
        """Conversations x ``times``: whether each is A's now."""
        permuted = np.repeat(self._is_a[:, None], times, axis=1)
        if len(self._inside):
            permuted[self._inside] = self._shuffled(self._is_a[self._inside], self._inside_worker, times).T
        if len(self._whole):
            one_group = np.zeros(len(self._whole_labels), dtype=np.int64)
            labels = self._shuffled(self._whole_labels, one_group, times)
            permuted[self._whole] = labels[:, self._whole_worker].T
        return permuted

    def _shuffled(self, labels: NDArray[np.bool_], group: NDArray[np.int64], times: int) -> NDArray[np.bool_]:
        """``times`` shuffles of ``labels`` within groups, which are sorted.

        The label rides in the lowest bit of a random number below the group's number: one sort of integers shuffles
        all groups at once, ten times faster than sorting indices.
        """
        chance = self._rng.integers(0, 1 << _RANDOM_BITS, size=(times, len(labels)), dtype=np.int64)
        keys = (group << (_RANDOM_BITS + 1)) + (chance << 1) + labels
        keys.sort(axis=1)
        return (keys & 1).astype(bool)


@dataclass(frozen=True, slots=True)
class _Permuted:
    """Statistics of one quantity under many permutations, at any difference ``d`` that is taken off A's first.

    All that they are made of is linear in ``d``: the distance is ``|distance - d·slope|``, and the squared error
    ``square - 2·d·mixed + d²·shifted``. The first entry of each is what happened.
    """

    distance: Floats
    slope: Floats
    square: Floats
    mixed: Floats
    shifted: Floats
    studentise: bool

    def statistics(self, shift: float) -> Floats:
        """|difference| / clustered error for each permutation."""
        distance = np.abs(self.distance - shift * self.slope)
        if not self.studentise:
            return distance
        square = self.square - 2 * shift * self.mixed + shift**2 * self.shifted
        cancelled = square <= _ROUNDING**2 * (self.square + shift**2 * self.shifted)
        se = np.sqrt(np.where(cancelled, 0.0, square))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(se > TIE, distance / se, np.where(distance > TIE, np.inf, 0.0))

    def p(self, shift: float) -> float:
        """The share of permutations as extreme as what happened, which counts, too."""
        found = np.nan_to_num(self.statistics(shift), nan=0.0, posinf=np.inf)
        extreme = int((found[1:] >= found[0] * (1 - _ROUNDING) - TIE).sum())
        return (1 + extreme) / len(found)


class _Pair:
    """Two models' conversations, sorted by worker.

    Args:
        worker: number of each conversation's worker, from 0 without gaps.
    """

    def __init__(self, sums: Floats, totals: Floats, is_a: NDArray[np.bool_], worker: NDArray[np.integer]) -> None:
        self._sums, self._totals, self._is_a, self._worker = sums, totals, is_a, worker
        conversations = len(worker)
        self._workers = int(worker.max()) + 1
        from scipy import sparse  # it takes a while to import, and studies of one model compare nothing

        ones = (np.ones(conversations), (worker, np.arange(conversations)))
        self._by_worker = sparse.csr_array(ones, shape=(self._workers, conversations))

    def permuted(self, rng: np.random.Generator, permutations: int) -> list[_Permuted]:
        """Permute the models' names; one a quantity."""
        permuter = _Permuter(self._is_a, self._worker, rng)
        step = max(1, CELLS_AT_ONCE // len(self._is_a))
        parts = [self._parts(self._is_a[:, None])]
        for start in range(0, permutations, step):
            parts.append(self._parts(permuter.permute(min(step, permutations - start))))
        columns = np.concatenate(parts, axis=2)
        studentise = self._workers >= _FEWEST_CLUSTERS_TO_STUDENTISE
        made = []
        for distance, slope, square, mixed, shifted in columns:
            made.append(_Permuted(distance, slope, square, mixed, shifted, studentise))
        return made

    def _parts(self, permuted: NDArray[np.bool_]) -> Floats:
        """Quantities x the five parts of :class:`_Permuted` x permutations; ``permuted`` is conversations x permutations."""
        chosen = permuted.astype(np.float64)
        found = np.empty((self._sums.shape[1], 5, permuted.shape[1]))
        known: dict[bytes, tuple[Floats, Floats, Floats, Floats, Floats]] = {}  # buckets share their totals
        for q in range(len(found)):
            n = self._totals[:, q]
            with np.errstate(divide="ignore", invalid="ignore"):
                key = n.tobytes()
                if key not in known:
                    total_a = n @ chosen
                    within = (total_a, n.sum() - total_a, (self._by_worker * n) @ chosen)
                    known[key] = (*within, *self._linear(np.where(self._is_a, n, 0.0), n, chosen, within))
                *rest, slope, shifted = known[key]
                total_a, total_b, worker_total_a = rest
                distance, influence = self._linear(self._sums[:, q], n, chosen, (total_a, total_b, worker_total_a))
            # Without the error's factor G/(G-1), which is the same for all permutations.
            found[q] = (
                distance,
                slope,
                np.einsum("ij,ij->j", influence, influence),
                np.einsum("ij,ij->j", influence, shifted),
                np.einsum("ij,ij->j", shifted, shifted),
            )
        return found

    def _linear(
        self, x: Floats, n: Floats, chosen: Floats, totals: tuple[Floats, Floats, Floats]
    ) -> tuple[Floats, Floats]:
        """What is linear in ``x``: the rates' difference, and each worker's influence on it (workers x permutations)."""
        total_a, total_b, worker_total_a = totals
        sum_a = x @ chosen
        rate_a, rate_b = sum_a / total_a, (x.sum() - sum_a) / total_b
        worker_x, worker_n = self._by_worker @ x, self._by_worker @ n
        # Σ over the worker's A of (x - rate_a·n)/total_a, less the same for B.
        influence = ((self._by_worker * x) @ chosen) * (1 / total_a + 1 / total_b)
        influence -= worker_total_a * (rate_a / total_a + rate_b / total_b)
        influence -= worker_x[:, None] / total_b - worker_n[:, None] * (rate_b / total_b)
        return rate_a - rate_b, influence

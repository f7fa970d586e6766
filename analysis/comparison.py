"""Comparing two models: difference, effect size, and how many conversations a comparison takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from model_chat.analysis.estimates import NOTHING, TIE, Estimate, Floats, cluster_sums


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


def holm(p_values: Sequence[float]) -> Floats:
    """Holm's step-down correction over the tests of one family (Holm 1979, Scandinavian Journal of Statistics 6).

    The ``i``-th smallest of ``m`` values, from 1, becomes the largest of ``(m - j + 1)·p_j`` over ``j ≤ i``, at most 1.
    (statsmodels has it, too, but takes a second to import, and collects garbage at each call.)

    Returns:
        Corrected values in the same order; NaN stays NaN and does not count as a test.
    """
    values = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    corrected = np.full(len(values), np.nan)
    steps = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * steps), 1.0)
    return corrected


def with_holm(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Rows of the tests of one family, by their `p`, each with `p_holm` (:func:`holm`)."""
    corrected = holm([float(str(row["p"])) for row in rows])
    return [{**row, "p_holm": float(p)} for row, p in zip(rows, corrected, strict=True)]


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
        wanted_difference: in the quantity's own unit.
        confidence: 1 less the level of the test.

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

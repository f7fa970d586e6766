"""Estimates, intervals and tests for turns that sit in conversations that sit in workers.

A worker who dislikes everything dislikes it in every turn of every conversation, so turns are no independent
observations. Everything here therefore works on *clusters*: the sums over one worker. Clustering by the outermost level
covers the levels inside it, whatever their correlation (Cameron & Miller 2015, "A practitioner's guide to
cluster-robust inference", Journal of Human Resources 50(2), section II.C).

Notation: worker ``g`` contributes a sum ``x_g`` (say, ticked messages) out of a total ``n_g`` (messages). The estimate
is the ratio ``p = Σx_g / Σn_g``. A mean of ratings is the same with ``n_g`` the number of ratings.

Conventions at the edges, everywhere: no data gives NaN; one worker gives an estimate but neither error nor interval;
nothing is ever raised for data, only for arguments that make no sense.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

CELLS_AT_ONCE = 4_000_000
"""Most cells of a resampling matrix that is held at a time (32 MB)."""
TIE = 1e-9
"""Statistics that differ by less are ties: sums in another order differ in the last bits."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rate, a mean or a difference.

    Attributes:
        value: the point estimate; NaN without data.
        se: clustered standard error; NaN with fewer than two workers.
        low, high: ends of the interval; NaN where it can't be estimated.
    """

    value: float
    se: float
    low: float
    high: float
    total: int
    clusters: int

    def interval(self) -> dict[str, float]:
        """Value, error and interval, by the names of the tables' columns."""
        return {"value": self.value, "se": self.se, "low": self.low, "high": self.high}


NOTHING = Estimate(math.nan, math.nan, math.nan, math.nan, 0, 0)


def side_by_side(columns: Iterable[NDArray[np.generic]], rows: int) -> Floats:
    """Put columns of ``rows`` numbers together; rows x 0 where there are none."""
    found = list(columns)
    return np.stack(found, axis=1).astype(np.float64) if found else np.zeros((rows, 0))


def cluster_sums(values: NDArray[np.generic], clusters: NDArray[np.integer]) -> Floats:
    """Sum ``values`` (first axis: observations) within clusters; clusters without observations are left out.

    Returns:
        One row a cluster that occurs, in the order of the cluster numbers.
    """
    _, numbers = np.unique(clusters, return_inverse=True)
    count = int(numbers.max()) + 1 if len(numbers) else 0
    data = np.asarray(values, dtype=np.float64)
    if data.ndim == 1:
        return np.bincount(numbers, data, count).astype(np.float64)
    return np.stack([np.bincount(numbers, column, count) for column in data.T], axis=1).astype(np.float64)


def linearised_se(sums: Floats, totals: Floats) -> float:
    """Standard error of the ratio ``Σsums / Σtotals`` from cluster sums.

    ``sqrt(G/(G-1) · Σ(x_g - p·n_g)²) / Σn_g``: the linearised variance of a ratio (Cochran 1977, "Sampling Techniques",
    section 6.3), equal to the cluster-robust error of a regression on a constant (Liang & Zeger 1986, Biometrika 73)
    with the factor G/(G-1).

    Returns:
        NaN with fewer than two clusters or nothing in them; 0 when all clusters agree.
    """
    used = totals > 0
    count = int(used.sum())
    total = float(totals.sum())
    if count < 2:
        return math.nan
    ratio = float(sums.sum()) / total
    residual = sums[used] - ratio * totals[used]
    return math.sqrt(count / (count - 1) * float(residual @ residual)) / total


def rate(sums: Floats, totals: Floats, confidence: float = 0.95) -> Estimate:
    """A rate between 0 and 1 with the Korn-Graubard interval.

    The interval is Clopper and Pearson's with the *effective* number of observations that the clustered error implies,
    ``n* = p(1-p)/se² · (t_{n-1}/t_{G-1})²``, never more than the number of observations (Korn & Graubard 1998,
    "Confidence intervals for proportions with small expected number of positive counts estimated from survey data",
    Survey Methodology 24(2)). It stays within 0 and 1 and holds its level for rare events, where ``p ± t·se`` does not.

    Args:
        sums: ticked, a number a worker.
        totals: looked at, a number a worker.

    Returns:
        At a rate of exactly 0 or 1 the error carries no information about clustering; the interval then takes each worker as
        one observation, which gives the widest interval. The same holds when all workers have exactly the same rate.
    """
    used = totals > 0
    clusters = int(used.sum())
    if clusters == 0:
        return NOTHING
    total = float(totals.sum())
    value = float(sums.sum()) / total
    se = linearised_se(sums, totals)
    if clusters < 2:
        return Estimate(value, math.nan, math.nan, math.nan, round(total), clusters)
    tail = (1 - confidence) / 2
    effective = float(clusters)
    if se > TIE:  # it is 0 at a rate of 0 or 1
        shrink = special.stdtrit(max(total - 1, 1), 1 - tail) / special.stdtrit(clusters - 1, 1 - tail)
        effective = min(total, value * (1 - value) / se**2 * float(shrink) ** 2)
    hits = value * effective
    low = float(special.betaincinv(hits, effective - hits + 1, tail)) if hits > 0 else 0.0
    high = float(special.betaincinv(hits + 1, effective - hits, 1 - tail)) if hits < effective else 1.0
    return Estimate(value, se, low, high, round(total), clusters)


def mean(sums: Floats, totals: Floats, confidence: float = 0.95, bounds: tuple[float, float] | None = None) -> Estimate:
    """A mean with the t interval on the clustered error, workers less one degrees of freedom.

    Args:
        sums: sum of the values, a number a worker.
        totals: how many values, a number a worker.
        bounds: ends of the scale; the interval is cut there, which loses no coverage.

    Returns:
        When all values are equal the error is 0 and no interval can be estimated: it is NaN, not a point.
    """
    used = totals > 0
    clusters = int(used.sum())
    if clusters == 0:
        return NOTHING
    total = float(totals.sum())
    value = float(sums.sum()) / total
    se = linearised_se(sums, totals)
    low = high = math.nan
    if clusters >= 2 and se > TIE:
        width = float(special.stdtrit(clusters - 1, (1 + confidence) / 2)) * se
        low, high = value - width, value + width
        if bounds is not None:
            low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(value, se, low, high, round(total), clusters)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Cluster bootstrap of a ratio: its standard error and studentised interval."""

    se: float
    low: float
    high: float


def bootstrap(
    sums: Floats,
    totals: Floats,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
    logit: bool = False,
) -> list[Bootstrap]:
    """Resample whole workers, for several ratios over the same workers at once.

    The interval is the studentised (bootstrap-t) one: the resamples give the distribution of ``(p* - p)/se*`` in place
    of Student's (Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 12.5; for clusters Cameron,
    Gelbach & Miller 2008, Review of Economics and Statistics 90(3)). Rates are studentised on the logit scale, so that
    the interval stays within 0 and 1.

    Args:
        sums: workers x quantities.
        totals: workers x quantities.
        logit: the quantities are rates.

    Returns:
        One a quantity. NaN with fewer than two workers, when all resamples agree, and for a rate of 0 or 1.
    """
    workers, quantities = sums.shape
    if workers < 2:
        return [Bootstrap(math.nan, math.nan, math.nan)] * quantities
    step = max(1, CELLS_AT_ONCE // workers)
    ratios, errors = np.empty((resamples, quantities)), np.empty((resamples, quantities))
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, resamples, step):
            many = min(step, resamples - start)
            drawn = rng.integers(0, workers, size=(many, workers)) + np.arange(many)[:, None] * workers
            weights = np.bincount(drawn.ravel(), minlength=many * workers).reshape(many, workers).astype(np.float64)
            here = slice(start, start + len(weights))
            total = weights @ totals
            ratio = (weights @ sums) / total
            # Σw(x-pn)² = Σwx² - 2pΣwxn + p²Σwn², so that no workers x resamples x quantities array is needed.
            spread = weights @ sums**2 - 2 * ratio * (weights @ (sums * totals)) + ratio**2 * (weights @ totals**2)
            count = weights @ (totals > 0)
            ratios[here] = ratio
            errors[here] = np.sqrt(np.maximum(spread, 0) * count / (count - 1)) / total
        value = sums.sum(0) / totals.sum(0)
    return [
        _studentised(
            float(value[q]), linearised_se(sums[:, q], totals[:, q]), ratios[:, q], errors[:, q], confidence, logit
        )
        for q in range(quantities)
    ]


def _studentised(value: float, se: float, ratios: Floats, errors: Floats, confidence: float, logit: bool) -> Bootstrap:
    finite = ratios[np.isfinite(ratios)]
    spread = float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    if not se > TIE:
        return Bootstrap(spread, math.nan, math.nan)
    usable = np.isfinite(errors) & (errors > TIE)  # at a rate of 0 or 1 it is 0
    # A resample without any event (or any error) lies at the far end; dropping it would make the interval too short.
    distances = np.where(ratios < value, -np.inf, np.inf)
    if logit:
        scale = se / (value * (1 - value))
        inner = ratios[usable]
        distances[usable] = (special.logit(inner) - special.logit(value)) / (errors[usable] / (inner * (1 - inner)))
    else:
        scale = se
        distances[usable] = (ratios[usable] - value) / errors[usable]
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(distances, [tail, 1 - tail], method="nearest")
    if logit:
        centre = float(special.logit(value))
        return Bootstrap(
            spread, float(special.expit(centre - upper * scale)), float(special.expit(centre - lower * scale))
        )
    return Bootstrap(spread, value - float(upper) * scale, value - float(lower) * scale)


def standardise_per_worker(values: Floats, workers: NDArray[np.integer]) -> Floats:
    """Each rating's distance from its worker's own mean, in that worker's own standard deviations.

    Returns:
        NaN for workers with fewer than two ratings or with ratings that are all equal, and for missing ratings.
    """
    known = np.isfinite(values)
    result = np.full(len(values), np.nan)
    if not known.any():
        return result
    _, numbers = np.unique(workers, return_inverse=True)
    filled = np.where(known, values, 0.0)
    count = np.bincount(numbers, known)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.bincount(numbers, filled) / count
        gap = np.where(known, values - centre[numbers], 0.0)
        spread = np.sqrt(np.bincount(numbers, gap**2) / (count - 1))
        usable = known & (count[numbers] > 1) & (spread[numbers] > TIE)
        result[usable] = (gap / spread[numbers])[usable]
    return result

"""Linear mixed models of rates and ratings: workers and their conversations as random effects, models as fixed ones.

``y = mean of the model + worker + conversation + residual``, fitted by restricted maximum likelihood (Patterson & Thompson
1971, Biometrika 58; Bates, Mächler, Bolker & Walker 2015, Journal of Statistical Software 67(1)). The observations of one
model in a conversation enter by their number, mean and sum of squares only, and the inverse of the covariance has a closed
form (Woodbury's, for conversations and then for workers): the likelihood costs a pass over conversations, however many
messages there are. Two models that were compared in a conversation share its random effect. For ticks this is a linear
probability model, on the same scale as the rates beside it.

The clustered estimates weigh every message alike; a mixed model gives a worker with many messages less weight the more
workers differ. Where the two analyses differ, workers with many messages judge differently from others.

Conventions at the edges: fewer than two workers, no residual variance, or no more observations than models plus one give
no fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from model_chat.analysis.by_conversation import ByConversation
from model_chat.analysis.estimates import TIE, Floats

COLUMNS = (
    "about",
    "metric",
    "model_a",
    "model_b",
    "value",
    "se",
    "low",
    "high",
    "sd_worker",
    "sd_conversation",
    "sd_residual",
    "observations",
    "workers",
)
_STARTS = ((0.3, 0.3), (0.0, 1.0), (1.0, 0.0))
"""Standard deviations of conversation and worker, in those of the residual, where the search begins."""


@dataclass(frozen=True)
class MixedFit:
    """A fitted model.

    Attributes:
        mean: a number a model; NaN for a model without observations.
        covariance: of the means.
        sd_worker, sd_conversation, sd_residual: standard deviations of the random effects, in the quantity's own unit;
            `sd_conversation` is NaN where no conversation has two observations.
    """

    mean: Floats
    covariance: Floats
    sd_worker: float
    sd_conversation: float
    sd_residual: float
    observations: int
    workers: int


def fit(
    sums: Floats,
    squares: Floats,
    totals: Floats,
    model: NDArray[np.int64],
    worker: NDArray[np.int64],
    conversation: NDArray[np.int64],
) -> MixedFit | None:
    """Fit by restricted maximum likelihood.

    Args:
        sums, squares: of the observations of each model in a conversation, and of their squares.
        totals: how many observations; entries without any are left out.
        model, worker, conversation: of each entry, numbers from 0; a conversation has one worker.

    Returns:
        None where there is nothing to fit.
    """
    used = totals > 0
    sums, squares, totals = sums[used], squares[used], totals[used]
    model, worker, conversation = model[used], worker[used], conversation[used]
    kinds, group = np.unique(model, return_inverse=True)
    _, number = np.unique(worker, return_inverse=True)
    workers = int(number.max(initial=-1)) + 1
    observations = float(totals.sum())
    if workers < 2 or observations <= len(kinds) + 1:
        return None
    averages = sums / totals
    within = float(np.sum(squares - sums * averages))
    _, member = np.unique(conversation, return_inverse=True)
    size = np.bincount(member, totals)
    has_repeats = bool((size > 1).any())
    cell = number * len(kinds) + group
    # Most conversations have one model; only those of several need a row of counts by model.
    is_shared = np.bincount(member)[member] > 1
    shared, row = np.unique(member[is_shared], return_inverse=True)
    counts = np.bincount(row * len(kinds) + group[is_shared], totals[is_shared], len(shared) * len(kinds))
    counts = counts.reshape(len(shared), len(kinds))
    sums_shared = np.bincount(row, sums[is_shared], len(shared))

    def parts(scales: Floats) -> tuple[Floats, Floats, float, float]:
        """Means, information over σ², σ², and minus twice the restricted log-likelihood without constants."""
        ratio_conversation, ratio_worker = scales**2
        damping = 1 / (1 + ratio_conversation * size)
        weight = totals * damping[member]
        alone = np.where(is_shared, totals, weight)  # of those shared, what they have in common is taken off below
        common = ratio_conversation * damping[shared]
        table = np.bincount(cell, weight, workers * len(kinds)).reshape(workers, len(kinds))
        scored = np.bincount(cell, weight * averages, workers * len(kinds)).reshape(workers, len(kinds)).sum(1)
        of_worker = table.sum(1)
        shrink = ratio_worker / (1 + ratio_worker * of_worker)
        shared_part = (counts * common[:, None]).T @ counts
        information = np.diag(table.sum(0)) - (table * shrink[:, None]).T @ table
        information += np.diag(np.bincount(group, alone - weight, len(kinds))) - shared_part
        right = np.bincount(group, alone * averages, len(kinds)) - counts.T @ (common * sums_shared)
        right -= table.T @ (shrink * scored)
        means = np.linalg.solve(information, right)
        square = float(alone @ averages**2 - common @ sums_shared**2 - shrink @ scored**2 - means @ right)
        variance = max((within + square) / (observations - len(kinds)), 0.0)
        criterion = (
            (observations - len(kinds)) * math.log(max(variance, 1e-300))
            - float(np.log(damping).sum())
            + float(np.log1p(ratio_worker * of_worker).sum())
            + float(np.linalg.slogdet(information)[1])
        )
        return means, information, variance, criterion

    from scipy.optimize import minimize  # it takes long to import, and small studies have nothing to fit

    bounds = [(0.0, 100.0) if has_repeats else (0.0, 0.0), (0.0, 100.0)]
    results = []
    for start in _STARTS:
        first = np.array([start[0] if has_repeats else 0.0, start[1]])
        results.append(minimize(lambda scales: parts(scales)[3], first, method="L-BFGS-B", bounds=bounds))
    scales = np.asarray(min(results, key=lambda result: float(result.fun)).x)
    means, information, variance, _ = parts(scales)
    if not variance > TIE**2:
        return None
    count = int(model.max()) + 1
    mean, covariance = np.full(count, np.nan), np.full((count, count), np.nan)
    mean[kinds] = means
    covariance[np.ix_(kinds, kinds)] = variance * np.linalg.inv(information)
    residual = math.sqrt(variance)
    return MixedFit(
        mean=mean,
        covariance=covariance,
        sd_worker=float(scales[1]) * residual,
        sd_conversation=float(scales[0]) * residual if has_repeats else math.nan,
        sd_residual=residual,
        observations=round(observations),
        workers=workers,
    )


def mixed(units: ByConversation) -> pd.DataFrame:
    """A row a model and metric, and a row a pair of models and metric (``model_a`` less ``model_b``).

    Intervals are t intervals with workers less one degrees of freedom. Rates of whole conversations and ratings have one
    observation a conversation (but for two chats that are compared), so their `sd_conversation` is part of `sd_residual`. A
    reply that several people annotated is one observation, as in the other tables
    (:mod:`model_chat.analysis.by_conversation`): the worker is who chatted, or else each conversation has one of its own.
    """
    data = units.data
    rows: list[dict[str, object]] = []
    for number, metric in enumerate(units.metrics):
        # After the boxes come quantities of which a conversation has one.
        squares = units.squares[:, number] if number < units.squares.shape[1] else metric.sums**2
        found = fit(metric.sums, squares, metric.totals, units.model, units.cluster, units.owner)
        if found is None:
            continue
        facts = {
            "metric": metric.name,
            "sd_worker": found.sd_worker,
            "sd_conversation": found.sd_conversation,
            "sd_residual": found.sd_residual,
            "observations": found.observations,
            "workers": found.workers,
        }
        known = np.flatnonzero(np.isfinite(found.mean)).tolist()
        contrasts: list[tuple[str, int, int | None]] = [("estimate", a, None) for a in known]
        contrasts += [("difference", a, b) for a, b in data.pairs_to_compare() if a in known and b in known]
        width = float(special.stdtrit(found.workers - 1, (1 + data.settings.confidence) / 2))
        for about, a, b in contrasts:
            value, variance = float(found.mean[a]), float(found.covariance[a, a])
            if b is not None:
                value -= float(found.mean[b])
                variance += float(found.covariance[b, b] - 2 * found.covariance[a, b])
            se = math.sqrt(max(variance, 0.0))
            names = {"model_a": data.models[a], "model_b": None if b is None else data.models[b]}
            interval = {"value": value, "se": se, "low": value - width * se, "high": value + width * se}
            rows.append({"about": about, **names, **interval, **facts})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def disagreements(table: pd.DataFrame, comparisons: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Differences that one of the two analyses calls certain and the other doesn't, or both with opposite signs.

    Args:
        table: :func:`mixed`.
        comparisons: :func:`model_chat.analysis.tables.comparisons`.

    Returns:
        (metric, model A, model B) of each.
    """
    own = table[table["about"] == "difference"]
    both = own.merge(comparisons, on=["metric", "model_a", "model_b"], suffixes=("_mixed", ""))
    found = []
    for metric, a, b, low_mixed, high_mixed, low, high in both[
        ["metric", "model_a", "model_b", "low_mixed", "high_mixed", "low", "high"]
    ].itertuples(index=False, name=None):
        if math.isfinite(low_mixed) and math.isfinite(low) and _side(low_mixed, high_mixed) != _side(low, high):
            found.append((str(metric), str(a), str(b)))
    return found


def _side(low: float, high: float) -> int:
    """On which side of 0 an interval lies; 0 where it contains it."""
    return 1 if low > 0 else -1 if high < 0 else 0

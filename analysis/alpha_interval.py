"""An interval of Krippendorff's alpha, from a bootstrap over conversations.

The replies of a conversation are judged by the same few people, and each in the light of those before it; resampling
judgments or replies by themselves would take them for independent and give intervals that are too narrow. Whole
conversations are therefore drawn with replacement (the cluster bootstrap: Field & Welsh 2007, Journal of the Royal
Statistical Society B 69(3); for alpha over units: Hayes & Krippendorff 2007, Communication Methods and Measures 1(1)), and
the ends are quantiles of alpha over the draws. Alpha of a draw is computed from its coincidence matrix (Krippendorff 2018,
"Content Analysis", chapter 12), which is the sum of those of its conversations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_chat.analysis.agreement import Counted
from model_chat.analysis.estimates import Floats

DRAWS = 2000
_BYTES_AT_ONCE = 64 * 2**20
FEW = 2
"""Conversations that resampling needs at least."""


@dataclass(frozen=True)
class AlphaInterval:
    """An interval of alpha.

    Attributes:
        conversations: that hold an item which at least two workers judged.
        low, high: NaN with fewer than two conversations, or where in most draws all judgments are the same.
    """

    conversations: int
    low: float
    high: float


NO_INTERVAL = AlphaInterval(0, math.nan, math.nan)


def alpha_interval(
    counted: Counted | None,
    conversations: NDArray[np.integer],
    level: str,
    confidence: float = 0.95,
    seed: int = 42,
    draws: int = DRAWS,
) -> AlphaInterval:
    """Draw conversations, and return the quantiles of alpha.

    Args:
        conversations: of each item of ``counted``.
        level: ``nominal``, ``ordinal`` or ``interval``.
        seed: of the draws; the order of the data makes no difference.
    """
    if counted is None:
        return NO_INTERVAL
    matrices = coincidences(counted.counts, conversations)
    number = len(matrices)
    if number < FEW:
        return AlphaInterval(number, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    flat = matrices.reshape(number, -1)
    at_once = max(1, _BYTES_AT_ONCE // (8 * number))
    found: list[Floats] = []
    for start in range(0, draws, at_once):
        weights = rng.multinomial(number, np.full(number, 1 / number), size=min(at_once, draws - start))
        drawn = (weights @ flat).reshape(-1, *matrices.shape[1:])
        found.append(alphas(drawn, counted.domain, level))
    values = np.concatenate(found)
    known = values[np.isfinite(values)]
    if len(known) * 2 < draws:
        return AlphaInterval(number, math.nan, math.nan)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return AlphaInterval(number, float(low), float(high))


def coincidences(counts: NDArray[np.int64], conversations: NDArray[np.integer]) -> Floats:
    """Return the coincidence matrix of each conversation, in ascending order of the conversations.

    Args:
        counts: items x values; every item has at least two judgments.
        conversations: of each item.

    Returns:
        conversations x values x values; each judgment counts once in all.
    """
    _, rows = np.unique(conversations, return_inverse=True)
    number, values = int(rows.max()) + 1, counts.shape[1]
    sizes = counts.sum(1)
    found = np.zeros((number, values, values))
    for one in range(values):
        for other in range(values):
            pairs = counts[:, one] * (counts[:, other] - (one == other))
            found[:, one, other] = np.bincount(rows, pairs / (sizes - 1), number)
    return found


def alphas(matrices: Floats, domain: Floats, level: str) -> Floats:
    """Return alpha for each coincidence matrix; NaN where all judgments are the same.

    Args:
        matrices: n x values x values.
        domain: the values, ascending.
        level: ``nominal``, ``ordinal`` or ``interval``.
    """
    totals = matrices.sum(2)
    if level == "nominal":
        distances = np.broadcast_to(1.0 - np.eye(len(domain)), matrices.shape)
    elif level == "interval":
        distances = np.broadcast_to((domain[:, None] - domain[None, :]) ** 2, matrices.shape)
    else:
        middles = np.cumsum(totals, axis=1) - totals / 2  # half-way through the judgments of each value
        distances = (middles[:, :, None] - middles[:, None, :]) ** 2
    observed = (matrices * distances).sum((1, 2))
    expected = (totals[:, :, None] * totals[:, None, :] * distances).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(expected > 0, 1 - (totals.sum(1) - 1) * observed / expected, np.nan))

"""Agreement of workers who judged the same item.

A model that answers alike gives the same reply to the same words: its first reply to "Hi!" is judged by everybody. An
*item* is therefore a model message with everything that was said before it (and the model's name and context); for
ratings, a whole conversation. An item counts when at least two different workers judged it; a worker's second judgment
of the same item is not used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import krippendorff
import numpy as np
from numpy.typing import NDArray

from model_chat.analysis.estimates import Floats


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement on one label or rating.

    Attributes:
        items: judged by at least two workers.
        raw: share of agreeing pairs among all pairs of judgments of the same item; NaN without items.
        nominal, ordinal, interval: Krippendorff's alpha (Krippendorff 2018, "Content Analysis", chapter 12); 1 is
            perfect, 0 is chance; NaN without items or when all judgments are the same, where chance agreement is
            perfect too.
    """

    items: int
    judgments: int
    raw: float
    nominal: float
    ordinal: float
    interval: float


NO_AGREEMENT = Agreement(0, 0, math.nan, math.nan, math.nan, math.nan)


def agreement(
    values: NDArray[np.generic], items: NDArray[np.integer], workers: NDArray[np.integer], ordered: bool
) -> Agreement:
    """Measure agreement.

    Args:
        values: one judgment each; NaN is none.
        ordered: whether values have an order; without, the ordinal and interval alphas are NaN.
    """
    counted = count_judgments(values, items, workers)
    if counted is None:
        return NO_AGREEMENT
    counts, domain = counted.counts, counted.domain
    return Agreement(
        items=len(counts),
        judgments=int(counts.sum()),
        raw=_raw(counts),
        nominal=_alpha(counts, domain, "nominal"),
        ordinal=_alpha(counts, domain, "ordinal") if ordered else math.nan,
        interval=_alpha(counts, domain, "interval") if ordered else math.nan,
    )


@dataclass(frozen=True)
class Counted:
    """Judgments of the items that at least two workers judged.

    Attributes:
        counts: items x values, how many judged so.
        items: which item each row is, ascending.
    """

    counts: NDArray[np.int64]
    domain: Floats
    items: NDArray[np.integer]


def count_judgments(
    values: NDArray[np.generic], items: NDArray[np.integer], workers: NDArray[np.integer]
) -> Counted | None:
    """Count each worker's first judgment of each item; None where no item was judged by two."""
    judged = np.asarray(values, dtype=np.float64)
    known = np.isfinite(judged)
    judged, items, workers = judged[known], items[known], workers[known]
    if not len(judged):
        return None
    _, first = np.unique(np.stack([items, workers], axis=1), axis=0, return_index=True)
    judged, items = judged[first], items[first]
    _, item_numbers, sizes = np.unique(items, return_inverse=True, return_counts=True)
    shared = sizes[item_numbers] > 1
    if not shared.any():
        return None
    judged = judged[shared]
    found, rows = np.unique(items[shared], return_inverse=True)
    domain, columns = np.unique(judged, return_inverse=True)
    counts = np.zeros((len(found), len(domain)), dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    return Counted(counts, domain, found)


def _raw(counts: NDArray[np.int64]) -> float:
    sizes = counts.sum(1)
    return float((counts * (counts - 1)).sum() / (sizes * (sizes - 1)).sum())


def _alpha(counts: NDArray[np.int64], domain: Floats, level: str) -> float:
    if len(domain) < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level))

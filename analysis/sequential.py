"""Confidence sequences: intervals that hold at every look at a study that is still running, however often one looks.

An ordinary 95 % interval is right in 95 % of studies *when one looks once*; who looks every day and stops at the first
interval without 0 finds differences that are not there. A confidence sequence covers the truth at all looks together.

These are the asymptotic confidence sequences of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024 ("Time-uniform central
limit theory and asymptotic confidence sequences", Annals of Statistics 52(6)): for a mean over ``t`` workers with the error
``se``, ``± se · sqrt(2(tρ²+1)/(tρ²) · ln(sqrt(tρ²+1)/α))``. ``ρ`` decides at how many workers it is tightest. Workers are
what is independent here, so ``t`` counts workers, and ``se`` is clustered by worker.
"""

from __future__ import annotations

import math

import pandas as pd

from model_chat.analysis.by_conversation import ByConversation
from model_chat.analysis.comparison import difference
from model_chat.analysis.estimates import TIE
from model_chat.analysis.frames import columns
from model_chat.analysis.preferences import Preferences
from model_chat.analysis.summary import records

COLUMNS = columns("about metric model_a model_b value se low high workers question")
FEWEST_WORKERS = 10
"""Below, the errors are too rough for any interval to hold (see also :data:`model_chat.analysis.remarks.FEW_WORKERS`)."""
TIGHTEST = 100
"""Workers at which the sequence is tightest; it must not depend on the data."""


def half_width(se: float, workers: int, confidence: float = 0.95) -> float:
    """Half the width of the interval at one look; NaN with fewer than :data:`FEWEST_WORKERS` workers or without an error.

    Args:
        se: clustered standard error of the estimate.
        confidence: for all looks together.
    """
    if workers < FEWEST_WORKERS or not se > TIE:
        return math.nan
    alpha = 1 - confidence
    rho_squared = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / TIGHTEST
    spread = workers * rho_squared + 1
    return se * math.sqrt(2 * spread / (workers * rho_squared) * math.log(math.sqrt(spread) / alpha))


def sequential(units: ByConversation, estimates: pd.DataFrame, preferences: Preferences | None) -> pd.DataFrame:
    """A row a quantity that is watched while a study runs.

    Args:
        estimates: :func:`model_chat.analysis.tables.estimates`.

    Returns:
        `about` is `estimate` (a model's rate or mean), `difference` (``model_a`` less ``model_b``), `win_rate` (of
        ``model_a`` against ``model_b``) or `strength`; `value`, `se` and the interval are in the quantity's own unit.
    """
    rows: list[dict[str, object]] = []

    def add(about: str, value: float, se: float, workers: int, **names: str) -> None:
        width = half_width(se, workers, units.data.settings.confidence)
        numbers = {"value": value, "se": se, "low": value - width, "high": value + width, "workers": workers}
        rows.append({"about": about, **names, **numbers})

    for row in records(estimates):
        add("estimate", row.value, row.se, row.workers, metric=row.metric, model_a=row.model_nickname)
    for a, b in units.data.pairs_to_compare():
        pair = (units.model == a) | (units.model == b)
        names = {"model_a": units.data.models[a], "model_b": units.data.models[b]}
        for metric in units.metrics:
            if not units.has_rows(a, b, metric.totals):
                continue
            gap = difference(metric.sums[pair], metric.totals[pair], units.model[pair] == a, units.cluster[pair])
            add("difference", gap.value, gap.se, gap.clusters, metric=metric.name, **names)
    if preferences is not None:
        for row in records(preferences.wins):
            names = {"model_a": row.model_a, "model_b": row.model_b, "question": row.question}
            add("win_rate", row.win_rate_a, row.se, row.workers, **names)
        for row in records(preferences.ranking):
            add("strength", row.strength, row.se, row.workers, model_a=row.model_nickname, question=row.question)
    return pd.DataFrame(rows, columns=COLUMNS)

"""Results per cell of a study's design, the main effects of its factors, and their two-way interactions.

The main effect of a factor is the mean, over the combinations of all other factors, of the difference between two of its
levels: each combination weighs alike, however many conversations it has (unweighted cell means; Searle 1987, "Linear Models
for Unbalanced Data"). Combinations in which a level does not occur are left out. Its error is clustered by worker: with the
weight ``w_c`` of cell ``c`` and its mean ``m_c`` over ``N_c`` observations, worker ``g`` contributes
``u_g = Σ_c w_c (x_gc - m_c n_gc) / N_c``, and the variance is ``G/(G-K) Σ u_g²`` (Liang & Zeger 1986, Biometrika 73), with
``G-K`` degrees of freedom. ``K`` is the number of groups of workers who share no cell, in each of which the ``u_g`` add up
to 0: 1 where all factors are within, so that this is the paired t test for two levels that each worker saw once, and 2 for
two levels between workers, so that it is the t test of two groups of one size. What a worker's conversations have in common
cancels where they saw both levels.

The interaction of two factors is the difference between two such differences, ``(a1 - a2 at b1) - (a1 - a2 at b2)``, as the
mean over the combinations of the remaining factors in which all four cells have conversations: the contrast of the
unweighted cell means (Searle 1987, sections 4.5 and 4.9 on hypotheses about cell means; Maxwell & Delaney 2004, "Designing
Experiments and Analyzing Data", chapter 7). It has its error from the same formula, with the weights 1, -1, -1 and 1. For
ratings and for shares alike it is one of differences on the scale of the measure itself, not of odds.

Conventions at the edges: see :mod:`model_chat.analysis.estimates`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from model_chat.analysis.comparison import with_holm
from model_chat.analysis.estimates import TIE, Floats, cluster_sums
from model_chat.analysis.frames import columns
from model_chat.analysis.win_rates import WIN_RATE, win_rates

if TYPE_CHECKING:
    from model_chat.analysis.arrays import Metric
    from model_chat.analysis.by_conversation import ByConversation

CELL_COLUMNS = columns("metric value se low high observations conversations workers")
"""After a column for each factor, `factor_<name>`."""
EFFECT_COLUMNS = columns("factor kind metric level_a level_b value se low high p p_holm conversations workers")
INTERACTION_COLUMNS = columns(
    "factor_a factor_b kind metric level_a1 level_a2 level_b1 level_b2 value se low high p p_holm conversations workers"
)
BETWEEN, WITHIN, MIXED = "between", "within", "mixed"
MOST_INTERACTIONS = 100
"""Differences of differences of two factors; 10 levels of each make 2,025."""


@dataclass(frozen=True)
class Conditions:
    """The tables.

    Attributes:
        effects: a row a factor, pair of its levels and metric: `value` is `level_a` less `level_b`; `kind` is `within` where
            any worker saw two levels, else `between`; `p_holm` is corrected over the pairs of levels of the factor.
        interactions: a row a pair of factors, a pair of levels of each, and metric; `kind` is `mixed` where one factor is
            within and the other between; `p_holm` is corrected over the rows of the pair of factors.
    """

    factors: tuple[str, ...]
    cells: pd.DataFrame
    effects: pd.DataFrame
    interactions: pd.DataFrame
    remarks: list[str]
    kinds: dict[str, str]


def conditions(units: ByConversation, items: Iterable[Metric] = ()) -> Conditions | None:
    """Compute the tables; None where no conversation has conditions.

    Args:
        units: the conversations.
        items: items of the study flow that are asked during or after the chat, with a number an entry of ``units``.

    Conversations without conditions, or with other factors than most, are left out, and a remark says so.
    """
    texts = units.data.corpus.conversations["conditions"].take(units.row[units.is_conversation])
    given = [None if text is None else orjson.loads(text) for text in texts.to_pylist()]
    names = [None if not one else tuple(sorted(one)) for one in given]
    known = [one for one in names if one is not None]
    if not known:
        return None
    factors = max(sorted(set(known)), key=known.count)
    used = np.array([one == factors for one in names])
    keys = [tuple(one[factor] for factor in factors) for one, own in zip(given, used, strict=True) if one and own]
    levels = {factor: sorted({key[at] for key in keys}, key=_order) for at, factor in enumerate(factors)}
    cells = sorted(set(keys), key=lambda key: [_order(level) for level in key])
    numbers = {cell: number for number, cell in enumerate(cells)}
    design = _Design(
        factors,
        levels,
        cells,
        np.array([numbers[key] for key in keys]),
        used,
        units.cluster[units.is_conversation][used],
    )
    asked = [metric for metric in map(units.of_conversations, items) if metric.totals[used].any()]
    metrics = [*map(units.of_conversations, units.metrics), *asked, *win_rates(units)]
    if units.data.corpus.judgements.num_rows:  # conversations of two models may have no ratings
        metrics = [metric for metric in metrics if metric.totals[used].any()]
    confidence = units.data.settings.confidence
    remarks = design.remarks()
    if not used.all():
        remarks.append(
            f"{int((~used).sum())} conversations have no conditions, or not those of the factors {', '.join(factors)}; they "
            "are in the results per model, not in those per cell."
        )
    return Conditions(
        factors=factors,
        cells=pd.DataFrame(
            [row for metric in metrics for row in design.cell_rows(metric, confidence)],
            columns=[*(f"factor_{name}" for name in factors), *CELL_COLUMNS],
        ),
        effects=pd.DataFrame(
            [row for metric in metrics for row in design.effect_rows(metric, confidence)], columns=EFFECT_COLUMNS
        ),
        interactions=pd.DataFrame(
            [row for metric in metrics for row in design.interaction_rows(metric, confidence)],
            columns=INTERACTION_COLUMNS,
        ),
        remarks=remarks,
        kinds={metric.name: metric.kind for metric in metrics},
    )


def _order(level: str) -> tuple[int, float, str]:
    """Numbers by size, then texts by name."""
    try:
        number = float(level)
    except ValueError:
        return 1, 0.0, level
    return (0, number, level) if math.isfinite(number) else (1, 0.0, level)


@dataclass(frozen=True)
class _Design:
    """The conversations with conditions.

    Attributes:
        factors, levels, cells: names, their levels, and the combinations that occur.
        cell: of each conversation that is used.
    """

    factors: tuple[str, ...]
    levels: Mapping[str, Sequence[str]]
    cells: Sequence[tuple[str, ...]]
    cell: NDArray[np.int64]
    used: NDArray[np.bool_]
    worker: NDArray[np.int64]

    def cell_rows(self, metric: Metric, confidence: float) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        sums, totals = metric.sums[self.used], metric.totals[self.used]
        for number, cell in enumerate(self.cells):
            here = self.cell == number
            x, n = (cluster_sums(values[here], self.worker[here]) for values in (sums, totals))
            if metric.name.startswith(WIN_RATE) and not n.any():  # the cell has another pair
                continue
            found = metric.estimate(x, n, confidence)
            names = {f"factor_{name}": level for name, level in zip(self.factors, cell, strict=True)}
            counts = {"observations": found.total, "conversations": int(here.sum()), "workers": found.clusters}
            rows.append({**names, "metric": metric.name, **found.interval(), **counts})
        return rows

    def effect_rows(self, metric: Metric, confidence: float) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for at, factor in enumerate(self.factors):
            names = {"factor": factor, "kind": self._kind(at), "metric": metric.name}
            found = [
                {**names, "level_a": a, "level_b": b, **effect}
                for b, a in itertools.combinations(self.levels[factor], 2)
                if (effect := self._contrast(metric, (at,), {(a,): 1, (b,): -1}, confidence)) is not None
            ]
            rows += with_holm(found)
        return rows

    def _kind(self, at: int) -> str:
        seen: dict[int, str] = {}
        for worker, cell in zip(self.worker.tolist(), self.cell.tolist(), strict=True):
            if seen.setdefault(worker, self.cells[cell][at]) != self.cells[cell][at]:
                return WITHIN
        return BETWEEN

    def interaction_rows(self, metric: Metric, confidence: float) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for at, to in itertools.combinations(range(len(self.factors)), 2):
            pairs = list(self._pairs_of_pairs(at, to))
            if len(pairs) > MOST_INTERACTIONS:
                continue
            names = {"factor_a": self.factors[at], "factor_b": self.factors[to], "kind": self._kind_of_both(at, to)}
            found = []
            for a1, a2, b1, b2 in pairs:
                corners: dict[tuple[str, ...], int] = {(a1, b1): 1, (a2, b1): -1, (a1, b2): -1, (a2, b2): 1}
                effect = self._contrast(metric, (at, to), corners, confidence)
                if effect is not None:
                    levels = {"level_a1": a1, "level_a2": a2, "level_b1": b1, "level_b2": b2}
                    found.append({**names, "metric": metric.name, **levels, **effect})
            rows += with_holm(found)
        return rows

    def _pairs_of_pairs(self, at: int, to: int) -> Iterator[tuple[str, str, str, str]]:
        """Every two levels of one factor with every two of another."""
        for a2, a1 in itertools.combinations(self.levels[self.factors[at]], 2):
            for b2, b1 in itertools.combinations(self.levels[self.factors[to]], 2):
                yield a1, a2, b1, b2

    def _kind_of_both(self, at: int, to: int) -> str:
        kinds = {self._kind(at), self._kind(to)}
        return MIXED if len(kinds) > 1 else kinds.pop()

    def remarks(self) -> list[str]:
        """Say of which factors there is no table."""
        return [
            f"The interaction of {self.factors[at]} and {self.factors[to]} is left out: more than {MOST_INTERACTIONS} "
            "differences of differences."
            for at, to in itertools.combinations(range(len(self.factors)), 2)
            if sum(1 for _ in self._pairs_of_pairs(at, to)) > MOST_INTERACTIONS
        ]

    def _contrast(
        self, metric: Metric, at: tuple[int, ...], corners: Mapping[tuple[str, ...], int], confidence: float
    ) -> dict[str, object] | None:
        """The difference between levels, as the mean over the combinations of the other factors, with its clustered error.

        Args:
            at: numbers of the factors whose levels are compared.
            corners: levels of these factors -> 1 or -1.

        Returns:
            None where no combination of the other factors has conversations with all of ``corners``.
        """
        sums, totals = metric.sums[self.used], metric.totals[self.used]
        observed = np.bincount(self.cell, totals, len(self.cells))
        others: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
        for number, levels in enumerate(self.cells):
            if observed[number] > 0:
                rest = tuple(level for position, level in enumerate(levels) if position not in at)
                others.setdefault(rest, {})[tuple(levels[position] for position in at)] = number
        whole = [own for own in others.values() if corners.keys() <= own.keys()]
        if not whole:
            return None
        weights = np.zeros(len(self.cells))
        for own in whole:
            for corner, sign in corners.items():
                weights[own[corner]] += sign / len(whole)
        means = np.bincount(self.cell, sums, len(self.cells)) / np.where(observed > 0, observed, 1)
        here = (weights[self.cell] != 0) & (totals > 0)
        cell = self.cell[here]
        scores: Floats = weights[cell] * (sums[here] - means[cell] * totals[here]) / observed[cell]
        of_workers = cluster_sums(scores, self.worker[here])
        workers = len(of_workers)
        freedom = workers - _groups(cell, self.worker[here])
        value = float(weights @ means)
        se = low = high = p = math.nan
        if freedom >= 1:
            se = math.sqrt(workers / freedom * float(of_workers @ of_workers))
        if se > TIE:
            width = float(special.stdtrit(freedom, (1 + confidence) / 2)) * se
            low, high = value - width, value + width
            p = 2 * float(special.stdtr(freedom, -abs(value) / se))
        counts = {"conversations": int(here.sum()), "workers": workers}
        return {"value": value, "se": se, "low": low, "high": high, "p": p, **counts}


def _groups(cell: NDArray[np.int64], worker: NDArray[np.int64]) -> int:
    """How many groups of workers there are who share no cell, directly or by others.

    Args:
        cell, worker: of each conversation.
    """
    from scipy.sparse import coo_array, csgraph  # it takes a while to import, and most studies have no design

    if not len(cell):
        return 0
    (_, cells), (_, workers) = (np.unique(numbers, return_inverse=True) for numbers in (cell, worker))
    first_worker = int(cells.max()) + 1
    size = first_worker + int(workers.max()) + 1
    links = coo_array((np.ones(len(cells)), (cells, first_worker + workers)), shape=(size, size))
    return int(csgraph.connected_components(links, directed=False)[0])


def condition_content(found: Conditions | None) -> dict[str, Any] | None:
    """Return what the report's section shows; None without a design."""
    if found is None:
        return None
    return {
        "factors": found.factors,
        "metrics": list(dict.fromkeys(found.cells["metric"])),
        "cells": found.cells.to_dict("records"),
        "effects": found.effects.to_dict("records"),
        "interactions": found.interactions.to_dict("records"),
        "kinds": found.kinds,
    }

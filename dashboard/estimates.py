"""Confidence sequences of each model's ratings and boxes: the only intervals that may be looked at while a study runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_chat.analysis.estimates import Estimate, cluster_sums, mean, rate
from model_chat.analysis.sequential import half_width
from model_chat.dashboard.entries import Entry
from model_chat.dashboard.overview import counts_for_target
from model_chat.dashboard.store import Listed


def estimates(listed: Iterable[Listed]) -> list[dict[str, Any]]:
    """Estimate, for each model, the share of each box and the mean of each rating, with errors clustered by worker.

    Of two models that are compared, each has the boxes of its own replies; a rating is of the pair.

    Args:
        listed: conversations; those that are collected count.

    Returns:
        rows of ``model``, ``box_or_rating``, ``kind`` (``rate`` or ``mean``), ``value``, ``low``, ``high`` and ``workers``;
        those with too few workers (:data:`model_chat.analysis.sequential.FEWEST_WORKERS`) are left out.
    """
    collected = [one.entry for one in listed if counts_for_target(one)]
    rated: dict[str, list[Entry]] = {}
    marked: dict[str, list[Entry]] = {}
    for entry in collected:
        rated.setdefault(entry.model, []).append(entry)
        for model in entry.marks_of or (entry.model,):
            marked.setdefault(model, []).append(entry)
    rows = []
    for model in sorted({*rated, *marked}):
        held = marked.get(model, [])
        clusters, own = _clusters(held), [entry.marks_of.get(model, (0, {})) for entry in held]
        totals = cluster_sums(np.array([count for count, _ in own], dtype=float), clusters)
        for box in dict.fromkeys(name for _, marks in own for name in marks):
            sums = cluster_sums(np.array([marks.get(box, 0) for _, marks in own], dtype=float), clusters)
            rows += _row(model, box, "rate", rate(sums, totals), (0.0, 1.0))
        held = rated.get(model, [])
        clusters = _clusters(held)
        for question in dict.fromkeys(name for entry in held for name in entry.ratings):
            answers = [entry.ratings.get(question) for entry in held]
            sums = cluster_sums(np.array([answer or 0 for answer in answers], dtype=float), clusters)
            counts = cluster_sums(np.array([answer is not None for answer in answers], dtype=float), clusters)
            rows += _row(model, question, "mean", mean(sums, counts), (1.0, 5.0))
    return rows


def _clusters(entries: Sequence[Entry]) -> NDArray[np.int64]:
    """Numbers of the workers."""
    workers = {name: number for number, name in enumerate(dict.fromkeys(entry.worker for entry in entries))}
    return np.array([workers[entry.worker] for entry in entries], dtype=np.int64)


def _row(model: str, name: str, kind: str, found: Estimate, bounds: tuple[float, float]) -> list[dict[str, Any]]:
    width = half_width(found.se, found.clusters)
    if math.isnan(width):
        return []
    return [
        {
            "model": model,
            "box_or_rating": name,
            "kind": kind,
            "value": round(found.value, 4),
            "low": round(max(bounds[0], found.value - width), 4),
            "high": round(min(bounds[1], found.value + width), 4),
            "workers": found.clusters,
        }
    ]

"""Confidence sequences of each model's ratings and boxes: the only intervals that may be looked at while a study runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from model_chat.analysis.estimates import Estimate, cluster_sums, mean, rate
from model_chat.analysis.sequential import half_width
from model_chat.dashboard.overview import counts_for_target
from model_chat.dashboard.store import Listed


def estimates(listed: Iterable[Listed]) -> list[dict[str, Any]]:
    """Estimate, for each model, the share of each box and the mean of each rating, with errors clustered by worker.

    Args:
        listed: conversations; those that are collected count.

    Returns:
        rows of ``model``, ``box_or_rating``, ``kind`` (``rate`` or ``mean``), ``value``, ``low``, ``high`` and ``workers``;
        those with too few workers (:data:`model_chat.analysis.sequential.FEWEST_WORKERS`) are left out.
    """
    by_model: dict[str, list[Listed]] = {}
    for one in listed:
        if counts_for_target(one):
            by_model.setdefault(one.entry.model, []).append(one)
    rows = []
    for model, held in sorted(by_model.items()):
        workers = {name: number for number, name in enumerate(dict.fromkeys(one.entry.worker for one in held))}
        clusters = np.array([workers[one.entry.worker] for one in held])
        totals = cluster_sums(np.array([one.entry.marked for one in held], dtype=float), clusters)
        for box in dict.fromkeys(name for one in held for name in one.entry.marks):
            sums = cluster_sums(np.array([one.entry.marks.get(box, 0) for one in held], dtype=float), clusters)
            rows += _row(model, box, "rate", rate(sums, totals), (0.0, 1.0))
        for question in dict.fromkeys(name for one in held for name in one.entry.ratings):
            answers = [one.entry.ratings.get(question) for one in held]
            sums = cluster_sums(np.array([answer or 0 for answer in answers], dtype=float), clusters)
            counts = cluster_sums(np.array([answer is not None for answer in answers], dtype=float), clusters)
            rows += _row(model, question, "mean", mean(sums, counts), (1.0, 5.0))
    return rows


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

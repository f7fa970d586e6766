"""Signs that a worker may not have paid attention: hints for whom to check, not verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from model_chat.analysis.estimates import Floats


def worker_quality(
    workers: NDArray[np.integer],
    worker_names: NDArray[np.object_],
    models: NDArray[np.integer],
    ratings: Floats,
    seconds: Floats,
    words_per_message: Floats,
    turn_workers: NDArray[np.integer],
    labels: NDArray[np.bool_],
) -> pd.DataFrame:
    """Measure every worker.

    Args:
        workers, models: numbers, one a conversation.
        worker_names: name of each worker number.
        ratings: conversations x questions, NaN where missing.
        seconds: median time from the model's reply to the worker's answer, one a conversation, NaN when not recorded.
        words_per_message: one a conversation.
        turn_workers: the worker of each annotated model message.
        labels: annotated model messages x buckets.

    Returns:
        A row a worker (`worker_id`, `conversations`), most deviating first. NaN where there is nothing to measure:

        * `mean_rating`: over all questions and conversations;
        * `mean_deviation`: mean distance of the ratings from the mean that *other* workers gave to the same model on
          the same question; NaN when nobody else rated that model;
        * `same_rating_share`: share of the worker's most frequent rating, from two ratings on;
        * `straight_lined_share`: share of conversations with two or more questions whose answers are all the same
          ("straight-lining", Krosnick 1991, Applied Cognitive Psychology 5(3));
        * `identical_labels_share`: share of the worker's most frequent set of labels, from two messages on;
        * `median_seconds`: median over conversations; `words_per_message`: mean over conversations.
    """
    count = len(worker_names)
    questions = ratings.shape[1]
    raters, given = np.repeat(workers, questions), ratings.ravel()
    deviations = _from_others(workers, models, ratings).ravel()
    frame = pd.DataFrame(
        {
            "worker_id": pd.Series(worker_names, dtype=str),
            "conversations": np.bincount(workers, minlength=count),
            "mean_rating": _mean_by(raters, given, count),
            "mean_deviation": _mean_by(raters, deviations, count),
            "same_rating_share": _modal_share(raters, given, count),
            "straight_lined_share": _mean_by(workers, _straight_lined(ratings), count),
            "identical_labels_share": _modal_share(turn_workers, _patterns(labels), count),
            "median_seconds": pd.Series(seconds).groupby(workers).median().reindex(range(count)).to_numpy(),
            "words_per_message": _mean_by(workers, words_per_message, count),
        }
    )
    distance = frame["mean_deviation"].abs()
    order = frame.assign(distance=distance).sort_values(["distance", "worker_id"], ascending=[False, True])
    return order.drop(columns="distance").reset_index(drop=True)


def _mean_by(groups: NDArray[np.integer], values: Floats, count: int) -> Floats:
    """Mean of the known values of each group; NaN for a group without."""
    known = np.isfinite(values)
    total = np.bincount(groups[known], values[known], count)
    with np.errstate(divide="ignore", invalid="ignore"):
        result = total / np.bincount(groups[known], minlength=count)
    return np.asarray(result, dtype=np.float64)


def _from_others(workers: NDArray[np.integer], models: NDArray[np.integer], ratings: Floats) -> Floats:
    """Each rating less the mean rating of all other workers for the same model and question."""
    result = np.full(ratings.shape, np.nan)
    for question in range(ratings.shape[1]):
        values = ratings[:, question]
        known = np.isfinite(values)
        filled = np.where(known, values, 0.0)
        pair = workers.astype(np.int64) * (int(models.max(initial=0)) + 1) + models
        _, pairs = np.unique(pair, return_inverse=True)
        others = np.bincount(models, filled)[models] - np.bincount(pairs, filled)[pairs]
        how_many = np.bincount(models, known)[models] - np.bincount(pairs, known)[pairs]
        usable = known & (how_many > 0)
        result[usable, question] = values[usable] - others[usable] / how_many[usable]
    return result


def _straight_lined(ratings: Floats) -> Floats:
    """1 where a conversation's answers, two or more, are all the same, 0 where they are not, NaN with fewer."""
    known = np.isfinite(ratings)
    answers = known.sum(1)
    highest = np.where(known, ratings, -np.inf).max(1, initial=-np.inf)
    lowest = np.where(known, ratings, np.inf).min(1, initial=np.inf)
    return np.where(answers >= 2, (highest == lowest).astype(np.float64), np.nan)


def _modal_share(groups: NDArray[np.integer], values: Floats, count: int) -> Floats:
    """How much of each group has its most frequent value; NaN for fewer than two values."""
    known = np.isfinite(values)
    if not known.any():
        return np.full(count, np.nan)
    times = pd.DataFrame({"group": groups[known], "value": values[known]}).value_counts()
    by_group = times.groupby(level="group")
    share = (by_group.max() / by_group.sum()).where(by_group.sum() >= 2)
    return np.asarray(share.reindex(range(count)), dtype=np.float64)


def _patterns(labels: NDArray[np.bool_]) -> Floats:
    """A number for each set of labels: equal numbers are equal sets."""
    if not labels.size:
        return np.full(len(labels), np.nan)
    packed = np.ascontiguousarray(np.packbits(labels, axis=1))
    codes, _ = pd.factorize(packed.view(f"S{packed.shape[1]}").ravel())
    return np.asarray(codes, dtype=np.float64)

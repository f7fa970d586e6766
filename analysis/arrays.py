"""The corpus as arrays, from which every table is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model_chat.analysis.collect import Corpus
from model_chat.analysis.estimates import Floats
from model_chat.analysis.naming import Names, names_of
from model_chat.analysis.settings import Settings
from model_chat.records.schema import NONE_ALL_GOOD

CLEAN = "clean_conversation"
"""The metric "no problem bucket in any message of the conversation"."""


@dataclass(frozen=True)
class Metric:
    """One quantity that models are compared on.

    Attributes:
        name: a bucket, :data:`CLEAN`, or a rating's column name.
        kind: `rate` or `rating`.
        sums, totals: a number a conversation.
        wanted_difference: what the power table plans for.
    """

    name: str
    kind: str
    sums: Floats
    totals: Floats
    wanted_difference: float


@dataclass
class Data:
    """The corpus as arrays, one entry a conversation unless said otherwise.

    Attributes:
        models, workers: names by number, in order of name.
        model, worker: numbers.
        ratings: conversations x questions, NaN where missing.
        turn_model, turn_worker: one a model message that was annotated.
    """

    corpus: Corpus
    models: list[str] = field(init=False)
    workers: list[str] = field(init=False)
    model: NDArray[np.int64] = field(init=False)
    worker: NDArray[np.int64] = field(init=False)
    ratings: Floats = field(init=False)

    def __post_init__(self) -> None:
        table = self.corpus.conversations
        self.models, self.model = _numbered(table["model_nickname"].to_pylist())
        self.workers, self.worker = _numbered(table["worker_id"].to_pylist())
        questions = self.corpus.questions
        self.ratings = np.full((table.num_rows, questions), np.nan)
        for row, answers in enumerate(table["ratings"].to_pylist()):
            if answers:
                self.ratings[row, : len(answers)] = answers

    def column(self, name: str) -> Floats:
        """A numeric column of the conversations; NaN where missing."""
        return np.asarray(self.corpus.conversations[name].to_pandas(), dtype=np.float64)

    @property
    def settings(self) -> Settings:
        """The run's settings."""
        return self.corpus.settings

    @property
    def rating_names(self) -> list[str]:
        """Columns of the final ratings: `final_rating`, or `final_rating_1`, `final_rating_2`, …"""
        return rating_columns(self.ratings.shape[1])

    @cached_property
    def names(self) -> Names:
        """What buckets, questions and tasks are called."""
        return names_of(self.corpus.descriptions, self.ratings.shape[1])

    @cached_property
    def is_annotation(self) -> NDArray[np.bool_]:
        """Whether a record is the annotation of a finished conversation."""
        return np.asarray(self.corpus.conversations["judged"].is_valid().to_numpy(), dtype=bool)

    @cached_property
    def annotated(self) -> Floats:
        """Annotated model messages of each conversation."""
        counts = np.bincount(self.corpus.turns["conversation"], minlength=len(self.model))
        return counts.astype(np.float64)

    @cached_property
    def ticks(self) -> Floats:
        """Conversations x buckets: how many model messages were ticked."""
        where = self.corpus.turns["conversation"]
        count = len(self.model)
        columns = [np.bincount(where, ticked, count) for ticked in self.corpus.labels.T]
        return np.stack(columns, axis=1) if columns else np.zeros((count, 0))

    @cached_property
    def clean(self) -> Floats:
        """1 for an annotated conversation without a problem, 0 for one with, NaN for one that was not annotated.

        With `--as-original` only ticks of problem buckets count, not whether `none_all_good` was ticked.
        """
        problems = self._of_conversations(self.problem_ticked) if self.settings.as_original else self.problems
        return np.where(self.annotated > 0, problems == 0, np.nan)

    @cached_property
    def problems(self) -> Floats:
        """Annotated model messages of each conversation that have a problem.

        A problem bucket is ticked, or `none_all_good` is not although the annotation had it. With `--as-original`, every
        message that is not marked `none_all_good`.
        """
        if not self.settings.annotated:
            return np.full(len(self.model), np.nan)
        problem = ~self.good_ticked
        if not self.settings.as_original:
            problem = self.problem_ticked | (problem & self.corpus.turns["offers_good"])
        return self._of_conversations(problem)

    def _of_conversations(self, turns: NDArray[np.bool_]) -> Floats:
        """How many of the marked messages each conversation has."""
        counts = np.bincount(self.corpus.turns["conversation"], turns, len(self.model))
        return np.asarray(counts, dtype=np.float64)

    @cached_property
    def problem_ticked(self) -> NDArray[np.bool_]:
        """Whether a bucket other than `none_all_good` is ticked, one an annotated model message."""
        problem = [i for i, bucket in enumerate(self.settings.problem_buckets) if bucket != NONE_ALL_GOOD]
        return np.asarray(self.corpus.labels[:, problem].any(1))

    @cached_property
    def good_ticked(self) -> NDArray[np.bool_]:
        """Whether `none_all_good` is ticked, one an annotated model message."""
        return np.asarray(self.corpus.labels[:, self.settings.problem_buckets.index(NONE_ALL_GOOD)])

    @cached_property
    def metrics(self) -> list[Metric]:
        """Everything models are compared on: buckets, clean conversations, ratings."""
        found = [
            Metric(bucket, "rate", self.ticks[:, i], self.annotated, self.settings.rate_difference)
            for i, bucket in enumerate(self.settings.problem_buckets)
        ]
        if self.settings.annotated:
            known = np.isfinite(self.clean)
            filled = np.where(known, self.clean, 0.0)
            found.append(Metric(CLEAN, "rate", filled, known.astype(np.float64), self.settings.rate_difference))
        for i in range(self.ratings.shape[1]):
            name = self.rating_names[i]
            known = np.isfinite(self.ratings[:, i])
            filled = np.where(known, self.ratings[:, i], 0.0)
            found.append(Metric(name, "rating", filled, known.astype(np.float64), self.settings.rating_difference))
        return found


def rating_columns(questions: int) -> list[str]:
    """Names of the columns of that many final ratings; one always exists."""
    return ["final_rating"] if questions <= 1 else [f"final_rating_{i}" for i in range(1, questions + 1)]


def _numbered(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    known, numbers = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    return [str(name) for name in known], numbers.astype(np.int64)

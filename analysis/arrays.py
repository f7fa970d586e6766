"""The corpus as arrays, from which every table is computed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from model_chat.analysis.answers import Given
from model_chat.analysis.collect import Corpus, entries_of
from model_chat.analysis.estimates import Estimate, Floats, mean, rate, side_by_side
from model_chat.analysis.naming import Names, names_of
from model_chat.analysis.parts import PART_COUNTS, WHOLE
from model_chat.analysis.settings import Settings
from model_chat.records.schema import NONE_ALL_GOOD

RATING_BOUNDS = (1.0, 5.0)
CLEAN = "clean_conversation"
"""The metric "no problem bucket in any message of the conversation"."""


@dataclass(frozen=True)
class Metric:
    """One quantity that models are compared on.

    Attributes:
        name: a bucket, :data:`CLEAN`, or a rating's column name.
        kind: `rate` or `rating`.
        sums, totals: a number an entry (:class:`Data`).
        bounds: of a mean; None where there are none.
    """

    name: str
    kind: str
    sums: Floats
    totals: Floats
    wanted_difference: float
    bounds: tuple[float, float] | None = RATING_BOUNDS

    def estimate(self, sums: Floats, totals: Floats, confidence: float) -> Estimate:
        """Estimate it, as is right for its kind, from sums over workers of its ``sums`` and ``totals``."""
        return rate(sums, totals, confidence) if self.kind == "rate" else mean(sums, totals, confidence, self.bounds)


@dataclass
class Data:
    """The corpus as arrays, one entry a conversation, and then one a part of a conversation of two compared models.

    What belongs to one of two compared models (:mod:`model_chat.analysis.parts`) is counted at its part, and the rest at the
    entry of the conversation, whose model is the pair ``a|b``: nothing is counted twice. Entry ``i`` is conversation ``i``
    for the first :attr:`count` of them.

    Attributes:
        models, workers: names by number, in order of name; pairs are among the models.
        model, worker: numbers.
        conversation: number of each entry's conversation.
        ratings: entries x questions, NaN where missing.
        is_pair: whether a model is a pair, one a model.
        only_compared: whether a model talked in no conversation alone, one a model; true for pairs.
        is_talk: false for the conversation of two chats, each of which is an entry.
        entry: of each annotated model message, in the order of the corpus' turns.
    """

    corpus: Corpus
    models: list[str] = field(init=False)
    workers: list[str] = field(init=False)
    model: NDArray[np.int64] = field(init=False)
    worker: NDArray[np.int64] = field(init=False)
    conversation: NDArray[np.int64] = field(init=False)
    ratings: Floats = field(init=False)
    is_pair: NDArray[np.bool_] = field(init=False)
    only_compared: NDArray[np.bool_] = field(init=False)
    is_talk: NDArray[np.bool_] = field(init=False)
    entry: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        table, parts, turns = self.corpus.conversations, self.corpus.parts, self.corpus.turns
        self.models, self.model = _numbered(self.corpus.model_names().to_pylist())
        divided = parts["conversation"].to_numpy().astype(np.int64)
        self.conversation = np.concatenate([np.arange(self.count), divided])
        self.workers, of_conversations = _numbered(table["worker_id"].to_pylist())
        self.worker = of_conversations[self.conversation]
        self.ratings = np.full((len(self.model), self.corpus.questions), np.nan)
        for row, answers in enumerate(table["ratings"].to_pylist()):
            if answers:
                self.ratings[row, : len(answers)] = answers
        numbers = np.arange(len(self.models))
        alone = np.ones(self.count, dtype=bool)
        alone[divided] = False
        self.only_compared = ~np.isin(numbers, self.model[: self.count][alone])
        of_parts = np.isin(numbers, self.model[self.count :])
        self.is_pair = np.isin(numbers, self.model[divided]) & self.only_compared & ~of_parts
        self.is_talk = np.ones(len(self.model), dtype=bool)
        self.is_talk[divided[self._is_chat]] = False
        self.entry = entries_of(turns["conversation"], turns["part"], self._first_part).astype(np.int64)

    @property
    def count(self) -> int:
        """How many conversations there are."""
        return int(self.corpus.conversations.num_rows)

    @cached_property
    def _first_part(self) -> NDArray[np.int64]:
        return self.corpus.first_parts()

    @cached_property
    def _is_chat(self) -> NDArray[np.bool_]:
        return np.asarray(self.corpus.parts["is_chat"].to_pandas(), dtype=bool)

    def column(self, name: str) -> Floats:
        """A numeric column of the conversations; NaN where missing.

        Counts are divided between a conversation and its parts; what is not counted of parts is NaN there.
        """
        whole = self.conversation_column(name)
        if name not in PART_COUNTS:
            return np.concatenate([whole, np.full(len(self._is_chat), np.nan)])
        counts = np.asarray(self.corpus.parts[name].to_pandas(), dtype=np.float64)
        return np.concatenate([whole - np.bincount(self.conversation[self.count :], counts, self.count), counts])

    def conversation_column(self, name: str) -> Floats:
        """A numeric column of the conversations, one number a conversation; NaN where missing."""
        return np.asarray(self.corpus.conversations[name].to_pandas(), dtype=np.float64)

    @cached_property
    def last_replies(self) -> Floats:
        """Last replies of a conversation, or of a chat, of each entry."""
        of_parts = np.asarray(self.corpus.parts["last_replies"].to_pandas(), dtype=np.float64)
        whole = 1 - np.minimum(np.bincount(self.conversation[self.count :], of_parts, self.count), 1)
        return np.concatenate([whole, of_parts])

    def conversations_of(self, model: int) -> pd.DataFrame:
        """The conversations of a model, a row each, with the columns of the corpus' conversations.

        The row of a part has the part's counts, and no ratings.
        """
        entries = np.flatnonzero((self.model == model) & self.is_talk)
        frame: pd.DataFrame = self.corpus.conversations.take(pa.array(self.conversation[entries])).to_pandas()
        if self.only_compared[model] or (entries >= self.count).any():
            frame["model_nickname"] = self.models[model]
            frame.loc[entries >= self.count, "ratings"] = None
            for name in PART_COUNTS:
                frame[name] = self.column(name)[entries].astype(np.int64)
            frame["annotated_utterances"] = self.annotated[entries].astype(np.int64)
        return frame

    def entry_of(self, given: Given) -> int:
        """The entry that an answer belongs to: of the model whose reply it is about, or of the conversation."""
        if given.part == WHOLE:
            return given.conversation
        return int(self._first_part[given.conversation]) + given.part

    def pairs_to_compare(self) -> Iterator[tuple[int, int]]:
        """Numbers of two models, or of two pairs of models: a pair is compared with pairs alone."""
        for a, b in itertools.combinations(range(len(self.models)), 2):
            if self.is_pair[a] == self.is_pair[b]:
                yield a, b

    def has_row(self, model: int, total: float) -> bool:
        """Whether a table has a row of something that was counted ``total`` times for a model.

        Where models were only compared, it is in the row of either the model or the pair, and the other has none.
        """
        return total > 0 or not self.only_compared[model]

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
        """Whether an entry is the annotation of a finished conversation."""
        of_conversations = np.asarray(self.corpus.conversations["judged"].is_valid().to_numpy(), dtype=bool)
        return np.concatenate([of_conversations, np.zeros(len(self.model) - self.count, dtype=bool)])

    @cached_property
    def annotated(self) -> Floats:
        """Annotated model messages of each entry."""
        counts = np.bincount(self.entry, minlength=len(self.model))
        return counts.astype(np.float64)

    @cached_property
    def ticks(self) -> Floats:
        """Entries x buckets: how many model messages were ticked."""
        count = len(self.model)
        return side_by_side((np.bincount(self.entry, ticked, count) for ticked in self.corpus.labels.T), count)

    @cached_property
    def clean(self) -> Floats:
        """1 for an annotated conversation without a problem, 0 for one with, NaN for one that was not annotated.

        One in which replies were compared is one conversation of the pair; one of two chats has two, each of its model.
        With `--as-original` only ticks of problem buckets count, not whether `none_all_good` was ticked.
        """
        talk = self.entry.copy()
        of_reply = talk >= self.count
        of_reply[of_reply] = ~self._is_chat[talk[of_reply] - self.count]
        talk[of_reply] = self.conversation[talk[of_reply]]
        marked = self.problem_ticked if self.settings.as_original else self.is_problem
        problems = np.bincount(talk, marked, len(self.model))
        return np.where(np.bincount(talk, minlength=len(self.model)) > 0, problems == 0, np.nan)

    @cached_property
    def problems(self) -> Floats:
        """Annotated model messages of each entry that have a problem; NaN where none are annotated at all."""
        if not self.settings.annotated:
            return np.full(len(self.model), np.nan)
        return np.asarray(np.bincount(self.entry, self.is_problem, len(self.model)), dtype=np.float64)

    @cached_property
    def is_problem(self) -> NDArray[np.bool_]:
        """Whether there is a problem, one an annotated model message.

        A problem bucket is ticked, or `none_all_good` is not although the annotation had it. With `--as-original`, every
        message that is not marked `none_all_good`.
        """
        problem = ~self.good_ticked
        if not self.settings.as_original:
            problem = self.problem_ticked | (problem & self.corpus.turns["offers_good"])
        return np.asarray(problem)

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
        """Everything models are compared on, with a number an entry."""
        clean = self.clean if self.settings.annotated else None
        return metrics_of(self.settings, self.ticks, self.annotated, clean, self.ratings)


def metrics_of(
    settings: Settings, ticks: Floats, annotated: Floats, clean: Floats | None, ratings: Floats
) -> list[Metric]:
    """Everything models are compared on, in order: buckets, clean conversations, ratings.

    Args:
        ticks: entries x buckets, messages that were ticked.
        annotated: annotated messages of each entry.
        clean: the share of clean conversations, NaN where not known; None where nothing is annotated.
        ratings: entries x questions, NaN where missing.
    """
    found = [
        Metric(bucket, "rate", ticks[:, i], annotated, settings.rate_difference)
        for i, bucket in enumerate(settings.problem_buckets)
    ]
    of_all = [] if clean is None else [(CLEAN, "rate", clean, settings.rate_difference)]
    names = rating_columns(ratings.shape[1])
    of_all += [(names[i], "rating", ratings[:, i], settings.rating_difference) for i in range(ratings.shape[1])]
    for name, kind, values, difference in of_all:
        known = np.isfinite(values)
        found.append(Metric(name, kind, np.where(known, values, 0.0), known.astype(np.float64), difference))
    return found


def rating_columns(questions: int) -> list[str]:
    """Names of the columns of that many final ratings; one always exists."""
    return ["final_rating"] if questions <= 1 else [f"final_rating_{i}" for i in range(1, questions + 1)]


def _numbered(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    known, numbers = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    return [str(name) for name in known], numbers.astype(np.int64)

"""Statistics of the items of a study flow: every item per model, with intervals clustered by worker.

What is estimated depends on the item's kind, and each quantity is an *aspect* of the item: the mean of a scale, number or
slider; the share of each option of a choice; the mean of each row of a matrix; the mean rank of each option of a ranking (1
is best); of best and worst, the share of each and the score (best less worst, from -1 to 1: Finn & Louviere 1992, Journal
of Public Policy & Marketing 11(2)); the words of a text; the share of replies in which something is highlighted. The
estimates are those of :mod:`model_chat.analysis.estimates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from model_chat.analysis.answers import (
    ANSWER_COLUMNS,
    ITEM_COLUMNS,
    MOST_LEVELS,
    SPLIT_COLUMNS,
    Asked,
    Given,
    value_text,
)
from model_chat.analysis.arrays import Data, Metric
from model_chat.analysis.by_conversation import ByConversation
from model_chat.analysis.estimates import Estimate, Floats, cluster_sums, mean, rate
from model_chat.configuration import study_items as kinds
from model_chat.configuration.study_items import NOT_APPLICABLE, OTHER, Item
from model_chat.quality.words import count_words

RATE, MEAN = "rate", "mean"
RATING = "rating"
"""The kind of a :class:`Metric` that is a mean."""
ITEM = "item"

Measure = Callable[[Any], float | None]


@dataclass(frozen=True)
class Aspect:
    """One quantity of an item.

    Attributes:
        name: a row, an option, or what is counted; "" for the item's only one.
        measure: `rate` or `mean`.
        bounds: ends of the scale, None where there are none.
        of: what one answer adds; None where it does not count for it.
    """

    name: str
    measure: str
    bounds: tuple[float, float] | None
    of: Measure


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _is(wanted: Any) -> Measure:
    return lambda value: float(value == wanted)


def _chosen(option: Any) -> Measure:
    def of(value: Any) -> float:
        entries = value if isinstance(value, list) else [value]
        if option == {OTHER}:
            return float(any(isinstance(entry, dict) for entry in entries))
        return float(option in entries)

    return of


def _row(row: str, of: Measure) -> Measure:
    return lambda value: of(value[row]) if isinstance(value, dict) and row in value else None


def _rank(option: str) -> Measure:
    return lambda value: float(value.index(option) + 1) if isinstance(value, list) and option in value else None


def _end(option: str, which: str) -> Measure:
    return lambda value: float(value.get(which) == option) if isinstance(value, dict) else None


def _score(option: str) -> Measure:
    def of(value: Any) -> float | None:
        if not isinstance(value, dict):
            return None
        return float(value.get("best") == option) - float(value.get("worst") == option)

    return of


def aspects_of(item: Item) -> Iterator[Aspect]:
    """What is estimated of an item, in the order in which it is shown."""
    if isinstance(item, kinds.ScaleItem):
        yield Aspect("", MEAN, (1, item.points), _number)
        if item.not_applicable:
            yield Aspect(NOT_APPLICABLE, RATE, None, _is(NOT_APPLICABLE))
    elif isinstance(item, kinds.SliderItem):
        yield Aspect("", MEAN, (0, 100), _number)
    elif isinstance(item, kinds.NumberItem):
        bounds = None if item.min is None or item.max is None else (item.min, item.max)
        yield Aspect("", MEAN, bounds, _number)
    elif isinstance(item, kinds.ChoiceItem):
        for option in item.options:
            yield Aspect(option, RATE, None, _chosen(option))
        if item.other:
            yield Aspect(OTHER, RATE, None, _chosen({OTHER}))
    elif isinstance(item, kinds.TextItem):
        yield Aspect("words", MEAN, None, lambda value: float(count_words(value)) if isinstance(value, str) else None)
    elif isinstance(item, kinds.RankingItem):
        for option in item.options:
            yield Aspect(option, MEAN, (1, len(item.options)), _rank(option))
    elif isinstance(item, kinds.BestWorstItem):
        for option in item.options:
            yield Aspect(f"{option}: best", RATE, None, _end(option, "best"))
            yield Aspect(f"{option}: worst", RATE, None, _end(option, "worst"))
            yield Aspect(f"{option}: score", MEAN, (-1, 1), _score(option))
    elif isinstance(item, kinds.MatrixItem):
        for row in item.rows:
            yield Aspect(row, MEAN, (1, item.points), _row(row, _number))
            if item.not_applicable:
                yield Aspect(f"{row}: {NOT_APPLICABLE}", RATE, None, _row(row, _is(NOT_APPLICABLE)))
    elif isinstance(item, kinds.HighlightItem):
        yield Aspect("marked", RATE, None, lambda value: float(bool(value)))


@dataclass(frozen=True)
class ItemMetric:
    """An aspect of an item in every conversation.

    Attributes:
        sums, totals: a number an entry of :class:`Data`.
    """

    asked: Asked
    aspect: Aspect
    sums: Floats
    totals: Floats

    def estimate(self, units: ByConversation, model: int, confidence: float) -> Estimate:
        """Estimate it over the conversations of a model.

        What was asked before the chat is about the worker, and counts a record; everything else counts a conversation.
        """
        if self.asked.is_before:
            own = (units.data.model == model) & (units.of_record >= 0)
            clusters, sums, totals = units.data.worker[own], self.sums[own], self.totals[own]
        else:
            own = units.model == model
            sums, totals = (values[own] for values in units.shared_out(self.sums, self.totals))
            clusters = units.cluster[own]
        sums = cluster_sums(sums, clusters)
        totals = cluster_sums(totals, clusters)
        if self.aspect.measure == RATE:
            return rate(sums, totals, confidence)
        return mean(sums, totals, confidence, self.aspect.bounds)

    def per_conversation(self, units: ByConversation) -> Metric:
        """Return the same with a number a conversation, named `item <id>` or `item <id>: <aspect>`."""
        sums, totals = units.shared_out(self.sums, self.totals)
        name = f"{ITEM} {self.asked.item.id}" + (f": {self.aspect.name}" if self.aspect.name else "")
        kind = RATE if self.aspect.measure == RATE else RATING
        return Metric(name, kind, sums, totals, wanted_difference=math.nan, bounds=self.aspect.bounds)


def item_metrics(data: Data) -> list[ItemMetric]:
    """Every aspect of every item, in the order of the flow."""
    count = len(data.model)
    found = []
    for asked in data.corpus.answers.asked():
        given = data.corpus.answers.of(asked.page, asked.item.id)
        for aspect in aspects_of(asked.item):
            sums, totals = np.zeros(count), np.zeros(count)
            for answer in given:
                value = aspect.of(answer.value)
                if value is not None:
                    entry = data.entry_of(answer)
                    sums[entry] += value
                    totals[entry] += 1
            if isinstance(asked.item, kinds.HighlightItem):
                # Whoever marks nothing has answered, too: the replies that were asked about are what counts.
                replies = data.column("model_utterances") if asked.of_reply == "every_reply" else data.last_replies
                totals = np.maximum(totals, replies)
            found.append(ItemMetric(asked, aspect, sums, totals))
    return found


def items(units: ByConversation, metrics: list[ItemMetric]) -> pd.DataFrame:
    """A row an item, aspect and model: value, clustered error and interval."""
    data = units.data
    rows = []
    for metric in metrics:
        item = metric.asked.item
        for number, name in enumerate(data.models):
            found = metric.estimate(units, number, data.settings.confidence)
            if data.has_row(number, found.total):
                asked = {"page": metric.asked.page, "item": item.id, "kind": item.kind, "question": item.question}
                about = {"aspect": metric.aspect.name, "measure": metric.aspect.measure, "model_nickname": name}
                counts = {"answers": found.total, "workers": found.clusters}
                rows.append({**asked, **about, **found.interval(), **counts})
    return pd.DataFrame(rows, columns=ITEM_COLUMNS)


def answers(data: Data) -> pd.DataFrame:
    """A row an answer, as it was given."""
    rows = [
        (
            given.conversation,
            data.workers[data.worker[given.conversation]],
            data.models[data.model[data.entry_of(given)]],
            given.page,
            given.item,
            given.utterance_idx,
            value_text(given.value),
        )
        for given in data.corpus.answers.given
    ]
    frame = pd.DataFrame(rows, columns=ANSWER_COLUMNS)
    frame["utterance_idx"] = frame["utterance_idx"].astype("Int64")
    return frame


def texts(data: Data) -> list[tuple[Asked, list[Given]]]:
    """The free texts, by item: answers of the kind text, and what was written beside ``other``."""
    found = []
    for asked in data.corpus.answers.asked():
        given = data.corpus.answers.of(asked.page, asked.item.id)
        if isinstance(asked.item, kinds.ChoiceItem):
            given = [one._replace(value=text) for one in given if (text := _own_text(one.value)) is not None]
        elif not isinstance(asked.item, kinds.TextItem):
            continue
        if given:
            found.append((asked, given))
    return found


def _own_text(value: Any) -> str | None:
    entries = value if isinstance(value, list) else [value]
    return next((entry[OTHER] for entry in entries if isinstance(entry, dict) and OTHER in entry), None)


def splits(data: Data, metrics: list[ItemMetric]) -> pd.DataFrame:
    """The buckets, ratings and items per model within each answer to the items of ``--by``.

    Conversations without an answer are left out; results are not split by an item with more than :data:`MOST_LEVELS`
    different answers.
    """
    rows: list[dict[str, object]] = []
    for item in data.settings.by:
        column = np.array(data.corpus.answers.column(item, data.count) or [], dtype=object)
        levels = sorted({level for level in column if level is not None})
        for level in levels if len(levels) <= MOST_LEVELS else ():
            others = [metric for metric in metrics if metric.asked.item.id != item]
            results = ByConversation(data, column == level).results(others)
            rows += [{"by": item, "level": level} | row for row in results]
    return pd.DataFrame(rows, columns=SPLIT_COLUMNS)

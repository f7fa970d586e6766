"""All numbers of the analysis, as tables: computed once, then printed, saved and drawn from the same object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from model_chat.analysis import tables
from model_chat.analysis.answers import ANSWER_COLUMNS, ITEM_COLUMNS, SPLIT_COLUMNS
from model_chat.analysis.arrays import Data
from model_chat.analysis.authenticity import Authenticity, authenticity
from model_chat.analysis.by_conversation import ByConversation
from model_chat.analysis.collect import Corpus
from model_chat.analysis.conditions import Conditions, conditions
from model_chat.analysis.majority import adjudication, majority_labels
from model_chat.analysis.mixed import mixed
from model_chat.analysis.settings import Settings

if TYPE_CHECKING:
    from model_chat.analysis.items import ItemMetric
    from model_chat.analysis.judge_agreement import JudgeAgreement
    from model_chat.analysis.preferences import Preferences


@dataclass
class Summary:
    """The tables; the functions of :mod:`model_chat.analysis.tables` say what is in each.

    Every one has its columns even when it has no rows.
    """

    data: Data
    units: ByConversation
    """The same by conversation, where finished conversations were annotated."""
    models: pd.DataFrame
    workers: pd.DataFrame
    estimates: pd.DataFrame
    ratings: pd.DataFrame
    comparisons: pd.DataFrame
    turns: pd.DataFrame
    agreement: pd.DataFrame
    majority: pd.DataFrame
    """Labels by the majority, of replies that at least two workers annotated."""
    adjudication: pd.DataFrame
    """Those of them on which the workers are divided, with the reply."""
    quality: pd.DataFrame
    generations: pd.DataFrame
    mixed: pd.DataFrame
    preferences: Preferences | None
    """Of compared replies; None where no record has any."""
    conditions: Conditions | None
    """Of the study's design; None where no record has conditions."""
    sequential: pd.DataFrame | None
    """Confidence sequences; None without `--sequential`."""
    items: pd.DataFrame
    answers: pd.DataFrame
    splits: pd.DataFrame
    authenticity: Authenticity | None
    """Signals of workers, and results with and without those above a threshold; None where no record has any."""
    judges: JudgeAgreement | None = None
    """Models that judged, beside people; None without `--judgments`. No other table knows of them."""

    @property
    def settings(self) -> Settings:
        """The run's settings."""
        return self.data.settings


def summarise(corpus: Corpus) -> Summary:
    """Compute every table; the same corpus and seed give the same numbers, whatever the order of the files."""
    data = Data(corpus)
    units = ByConversation(data)
    estimates, compared = tables.estimates(units), _preferences(data)
    metrics, of_items, answers, splits = _answers(units)
    majority = majority_labels(data)
    return Summary(
        data=data,
        units=units,
        models=tables.models(units),
        workers=tables.workers(data),
        estimates=estimates,
        ratings=tables.ratings(units),
        comparisons=tables.comparisons(units),
        turns=tables.turns(units),
        agreement=tables.agreement(data),
        majority=majority,
        adjudication=adjudication(data, majority),
        quality=tables.quality(data),
        generations=corpus.generations.table(),
        mixed=mixed(units),
        preferences=compared,
        conditions=conditions(
            units, [metric.per_conversation(units) for metric in metrics if not metric.asked.is_before]
        ),
        sequential=_sequential(units, estimates, compared),
        items=of_items,
        answers=answers,
        splits=splits,
        authenticity=authenticity(data, metrics),
    )


def _answers(units: ByConversation) -> tuple[list[ItemMetric], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What items are compared on, and the tables of items, answers and splits; nothing where there is no study flow."""
    data = units.data
    if not data.corpus.answers:
        columns = (ITEM_COLUMNS, ANSWER_COLUMNS, SPLIT_COLUMNS)
        of_items, answers, splits = (pd.DataFrame(columns=names) for names in columns)
        return [], of_items, answers, splits
    from model_chat.analysis import items  # the kinds of items are imported only where there are any

    metrics = items.item_metrics(data)
    return metrics, items.items(units, metrics), items.answers(data), items.splits(data, metrics)


def _preferences(data: Data) -> Preferences | None:
    if data.corpus.judgements.num_rows == 0:
        return None
    from model_chat.analysis.preferences import preferences  # scipy.sparse is imported only where replies were compared

    return preferences(data)


def _sequential(units: ByConversation, estimates: pd.DataFrame, compared: Preferences | None) -> pd.DataFrame | None:
    if not units.data.settings.sequential:
        return None
    from model_chat.analysis.sequential import sequential  # only where it is asked for, as above

    return sequential(units, estimates, compared)


def records(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a table, each with its columns as attributes."""
    yield from frame.itertuples(index=False)

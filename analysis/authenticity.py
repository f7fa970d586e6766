"""Authenticity signals of each worker, and the results with and without the workers above a threshold.

Nobody is left out of any other table, and no signal is a verdict: docs/authenticity.md says who has high counts for good
reasons.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from model_chat.analysis.arrays import Data
from model_chat.analysis.by_conversation import ByConversation
from model_chat.analysis.collect import Corpus, renumbered
from model_chat.analysis.frames import columns
from model_chat.analysis.settings import NO_LIMIT, Settings
from model_chat.analysis.signals import COLUMNS

if TYPE_CHECKING:
    from model_chat.analysis.items import ItemMetric

RESULT_COLUMNS = columns("counted model_nickname metric aspect measure value se low high total conversations workers")
ALL, WITHOUT = "all", "without"
"""Values of `counted`: all workers, and all but those above a threshold."""
STRENGTH, LOG_ODDS = "strength", "log_odds"
PASTED, AWAY, KEYS = "pasted_share", "times_away_per_message", "keys_per_character"


@dataclass(frozen=True)
class Authenticity:
    """The two tables.

    Attributes:
        workers: a row a worker with signals, those above most thresholds first. `conversations` and
            what follows count conversations with signals only. `above` names the columns in which the worker is above (for
            keys: below) the threshold, joined by commas. NaN where nothing is known.
        results: a row a model, metric and group of workers (:data:`RESULT_COLUMNS`).
    """

    workers: pd.DataFrame
    results: pd.DataFrame
    remarks: list[str]

    @property
    def names_above(self) -> list[str]:
        """The workers above a threshold."""
        return [str(name) for name in self.workers.loc[self.workers["above"] != "", "worker_id"]]


def authenticity(data: Data, metrics: Sequence[ItemMetric]) -> Authenticity | None:
    """Compute the tables; None where no conversation has signals."""
    known = np.isfinite(data.conversation_column("signal_messages"))
    if not known.any():
        return None
    workers = _workers(data, known)
    above = workers.loc[workers["above"] != "", "worker_id"]
    own = np.array(data.workers, dtype=object)[data.worker[: data.count]]
    keep = ~np.isin(own, above.to_numpy(dtype=object))
    rows = [
        row
        for name, counted in ((ALL, np.ones(len(keep), dtype=bool)), (WITHOUT, keep))
        for row in _results(data, metrics, name, counted)
    ]
    results = pd.DataFrame(rows, columns=RESULT_COLUMNS)
    return Authenticity(workers, results, list(_remarks(data, workers, known)))


def _workers(data: Data, known: NDArray[np.bool_]) -> pd.DataFrame:
    count, worker = len(data.workers), data.worker[: data.count]

    def summed(name: str) -> NDArray[np.float64]:
        values = np.where(known, data.conversation_column(name), 0.0)
        return np.asarray(np.bincount(worker, values, count), dtype=np.float64)

    messages, characters, pasted, away, keyed, keys = (summed(name) for name, _ in COLUMNS)
    with np.errstate(divide="ignore", invalid="ignore"):
        frame = pd.DataFrame(
            {
                "worker_id": pd.Series(data.workers, dtype=str),
                "conversations": np.bincount(worker, known, count).astype(np.int64),
                "messages": messages.astype(np.int64),
                "characters": characters.astype(np.int64),
                "pasted_characters": pasted.astype(np.int64),
                PASTED: pasted / characters,
                "times_away": away.astype(np.int64),
                AWAY: away / messages,
                "keys": pd.Series(np.where(keyed > 0, keys, np.nan)).astype("Int64"),
                KEYS: np.where(keyed > 0, keys / keyed, np.nan),
            }
        )
    frame = frame[frame["messages"] > 0].reset_index(drop=True)
    frame["above"] = [",".join(_above(row, data.settings)) for row in frame.to_dict("records")]
    frame["order"] = [-len(names.split(",")) if names else 0 for names in frame["above"]]
    order = ["order", PASTED, "worker_id"]
    return frame.sort_values(order, ascending=[True, False, True]).drop(columns="order").reset_index(drop=True)


def _above(row: Mapping[Any, Any], settings: Settings) -> Iterator[str]:
    if row[PASTED] > settings.max_pasted_share:
        yield PASTED
    if settings.max_times_away != NO_LIMIT and row[AWAY] > settings.max_times_away:
        yield AWAY
    if row[KEYS] < settings.min_keys_per_character:  # never, where no keys are known
        yield KEYS


def _results(
    data: Data, metrics: Sequence[ItemMetric], counted: str, keep: NDArray[np.bool_]
) -> Iterator[dict[str, object]]:
    for row in ByConversation(data, keep).results(metrics):
        yield {"counted": counted} | row
    if data.corpus.judgements.num_rows:
        yield from _strengths(_only(data.corpus, keep), counted)


def _strengths(corpus: Corpus, counted: str) -> Iterator[dict[str, object]]:
    """The ranking of compared replies; none where it can't be computed."""
    from model_chat.analysis.preferences import preferences  # scipy.sparse is imported only where replies were compared

    for row in preferences(Data(corpus)).ranking.to_dict("records") if corpus.judgements.num_rows else ():
        yield {
            "counted": counted,
            "metric": STRENGTH,
            "aspect": row["question"] or "",
            "measure": LOG_ODDS,
            "value": row["strength"],
            "total": row["judgements"],
            "conversations": None,
            **{name: row[name] for name in ("model_nickname", "se", "low", "high", "workers")},
        }


def _only(corpus: Corpus, keep: NDArray[np.bool_]) -> Corpus:
    """The conversations that are kept, with their annotations and judgements, numbered anew."""
    numbers = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
    stays = keep[corpus.turns["conversation"]]
    turns = corpus.turns[stays].copy()
    turns["conversation"] = numbers[turns["conversation"]]
    return dataclasses.replace(
        corpus,
        conversations=corpus.conversations.filter(pa.array(keep)).combine_chunks(),
        parts=renumbered(corpus.parts, numbers),
        turns=turns,
        labels=corpus.labels[stays],
        judgements=renumbered(corpus.judgements, numbers),
    )


def _remarks(data: Data, workers: pd.DataFrame, known: NDArray[np.bool_]) -> Iterator[str]:
    above = int((workers["above"] != "").sum())
    yield (
        f"Authenticity signals: {above:,} of {len(workers):,} workers are above a threshold; all are counted everywhere, "
        "and authenticity_results sets the results without them beside. A signal is no proof (docs/authenticity.md)."
    )
    if not known.all():
        yield (
            f"{int((~known).sum()):,} of {len(known):,} conversations have no authenticity signals; their workers are above "
            "no threshold by them."
        )

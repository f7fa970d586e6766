"""The corpus by conversation, where finished conversations were annotated: many records, one conversation.

A chat and the annotations of it are one conversation, and so are the annotations of a log whose chat is not among the
records. Its label of a reply is the share of those who annotated the reply and ticked the box, its rating the mean of those
who rated it: each reply and each conversation counts once, however many people judged it. Intervals are clustered by
conversation, or by the worker who chatted, where the chat is among the records. They say how the numbers would differ with
other conversations and the same annotators; :mod:`model_chat.analysis.agreement` says how far annotators differ.

Where nothing was annotated afterwards, a conversation is a record, and all of this changes no number. The same holds for
``--as-original``, as the original task knew no annotations of finished conversations.

The parts of a conversation in which two models were compared (:class:`model_chat.analysis.arrays.Data`) stay entries of
their own beside the conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_chat.analysis.arrays import Data, Metric, metrics_of
from model_chat.analysis.estimates import Estimate, Floats, cluster_sums, side_by_side

if TYPE_CHECKING:
    from model_chat.analysis.items import ItemMetric


@dataclass(frozen=True)
class Replies:
    """The annotated replies, each once.

    Attributes:
        conversation: of each reply, an entry of :class:`ByConversation`.
        exchange: from 0.
        ticks: replies x buckets, the share of annotators who ticked it.
    """

    conversation: NDArray[np.int64]
    exchange: NDArray[np.int64]
    ticks: Floats


class ByConversation:
    """A corpus, an entry a conversation, and an entry a part of those in which two models were compared.

    Args:
        data: the corpus, an entry a record and a part.
        used: which records count, one a record; None for all.

    Attributes:
        of_record: the entry here of each entry of the corpus; -1 for those that do not count.
        row: the entry of the corpus that each stands for: the chat itself where it is among the records.
        cluster: what is independent: the worker who chatted, or else the conversation.
        merges: whether any conversation has more than one record, or its chat is not among them.
    """

    def __init__(self, data: Data, used: NDArray[np.bool_] | None = None) -> None:
        self.data = data
        count = len(data.model)
        judged: list[str | None] = [None] * count
        if not data.settings.as_original:
            judged[: data.count] = data.corpus.conversations["judged"].to_pylist()
        rows = np.arange(count) if used is None else np.flatnonzero(used[data.conversation])
        self.merges = any(judged[row] is not None for row in rows)
        self.of_record = np.full(count, -1, dtype=np.int64)
        if not self.merges:
            self.row = rows
            self.of_record[rows] = np.arange(len(rows))
            self.cluster = data.worker[rows]
        else:
            self._merge(rows.tolist(), judged)
        self.model = data.model[self.row]

    def _merge(self, rows: Sequence[int], judged: Sequence[str | None]) -> None:
        """Number the conversations, in the order of their first records."""
        table = self.data.corpus.conversations
        sources, hashes = table["source"].to_pylist(), table["reply_hash"].to_pylist()
        chats: dict[int, int] = {}
        whole = [row for row in rows if row < self.data.count]
        for row in sorted(whole, key=lambda row: str(sources[row])):
            if judged[row] is None:
                chats.setdefault(hashes[row], row)  # one, whichever is read first, of chats that went alike
        of_log: dict[str, int] = {}
        """Log -> the record that stands for its conversation."""
        for row in whole:
            log = judged[row]
            if log is not None:
                of_log.setdefault(log, chats.pop(hashes[row], row))
        stands = [row if (log := judged[row]) is None else of_log[log] for row in rows]
        numbers = {row: number for number, row in enumerate(dict.fromkeys(stands))}
        self.of_record[list(rows)] = [numbers[row] for row in stands]
        self.row = np.fromiter(numbers, np.int64, len(numbers))
        without_chat = {row: log for log, row in of_log.items() if judged[row] is not None}
        own = {log: len(self.data.workers) + number for number, log in enumerate(sorted(without_chat.values()))}
        self.cluster = np.array(
            [own[without_chat[row]] if row in without_chat else self.data.worker[row] for row in numbers],
            dtype=np.int64,
        )

    @cached_property
    def is_conversation(self) -> NDArray[np.bool_]:
        """Whether an entry is a conversation, and not a part of one."""
        return self.row < self.data.count

    @cached_property
    def is_talk(self) -> NDArray[np.bool_]:
        """Whether an entry counts as a conversation of its model, see :attr:`Data.is_talk`."""
        return self.data.is_talk[self.row]

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The number, among the conversations alone, of the conversation that each entry is or belongs to."""
        numbers = np.cumsum(self.is_conversation) - 1
        return np.asarray(numbers[self.of_record[self.data.conversation[self.row]]])

    def sums_of_conversations(self, values: Floats) -> Floats:
        """Numbers of all entries, added up to one a conversation."""
        return np.bincount(self.owner, values, int(self.is_conversation.sum())).astype(np.float64)

    def of_conversations(self, metric: Metric) -> Metric:
        """A metric with a number a conversation, whichever of its models it was counted of."""
        sums, totals = self.sums_of_conversations(metric.sums), self.sums_of_conversations(metric.totals)
        return replace(metric, sums=sums, totals=totals)

    def has_rows(self, a: int, b: int, totals: Floats) -> bool:
        """Whether two models have rows, by :meth:`Data.has_row`, of what was counted ``totals`` times in each entry."""
        return all(self.data.has_row(model, totals[self.model == model].sum()) for model in (a, b))

    @property
    def clustered_by(self) -> str:
        """What intervals are clustered by, for a sentence."""
        return "conversation" if self.merges else "worker"

    def __len__(self) -> int:
        return len(self.row)

    def average(self, values: Floats) -> Floats:
        """The mean of each conversation over its records.

        Args:
            values: a number a record; NaN is none.

        Returns:
            NaN where no record has one.
        """
        if not self.merges:
            return values[self.row]
        known = np.isfinite(values) & (self.of_record >= 0)
        conversation = self.of_record[known]
        count = np.bincount(conversation, minlength=len(self))
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(conversation, values[known], len(self)) / np.where(count, count, np.nan))

    def shared_out(self, sums: Floats, totals: Floats) -> tuple[Floats, Floats]:
        """Sums and totals of each conversation, each of its records with a total weighing alike, and together as one."""
        has = totals > 0
        average = self.average(np.where(has, sums, np.nan)), self.average(np.where(has, totals, np.nan))
        return np.nan_to_num(average[0]), np.nan_to_num(average[1])

    @cached_property
    def replies(self) -> Replies:
        """The annotated replies."""
        turns, labels = self.data.corpus.turns, self.data.corpus.labels
        conversation = self.of_record[self.data.entry]
        here = conversation >= 0
        if not here.all():
            turns, labels, conversation = turns[here], labels[here], conversation[here]
        exchange = turns["exchange"].astype(np.int64)
        if not self.merges:
            return Replies(conversation, exchange, labels.astype(np.float64))
        keys = np.stack([conversation, turns["history"].astype(np.int64)], axis=1)
        _, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        number = number.reshape(-1)
        count = np.bincount(number, minlength=len(first))
        ticks = side_by_side((np.bincount(number, ticked, len(first)) / count for ticked in labels.T), len(first))
        return Replies(conversation[first], exchange[first], ticks)

    @cached_property
    def annotated(self) -> Floats:
        """Annotated replies of each conversation."""
        return np.bincount(self.replies.conversation, minlength=len(self)).astype(np.float64)

    @cached_property
    def ticks(self) -> Floats:
        """Conversations x buckets: how many replies were ticked, a reply that only some ticked as their share."""
        return self._added_up(self.replies.ticks)

    @cached_property
    def squares(self) -> Floats:
        """Conversations x buckets: the squares of what :attr:`ticks` adds up."""
        return self._added_up(self.replies.ticks**2)

    def _added_up(self, of_replies: Floats) -> Floats:
        columns = [np.bincount(self.replies.conversation, column, len(self)) for column in of_replies.T]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self), 0))

    @cached_property
    def clean(self) -> Floats:
        """The share of those who annotated the conversation and found no problem in it; NaN where nobody annotated it."""
        return self.average(self.data.clean)

    @cached_property
    def ratings(self) -> Floats:
        """Conversations x questions; NaN where nobody rated."""
        return side_by_side(map(self.average, self.data.ratings.T), len(self))

    @cached_property
    def metrics(self) -> list[Metric]:
        """Everything models are compared on, with a number an entry."""
        clean = self.clean if self.data.settings.annotated else None
        return metrics_of(self.data.settings, self.ticks, self.annotated, clean, self.ratings)

    def results(self, items: Iterable[ItemMetric]) -> Iterator[dict[str, object]]:
        """A row a model and metric, items of the study flow included: its value with its interval."""
        confidence = self.data.settings.confidence
        for number, name in enumerate(self.data.models):
            own = self.model == number
            found: list[tuple[str, str, str, Estimate]] = []
            for metric in self.metrics:
                sums = cluster_sums(metric.sums[own], self.cluster[own])
                totals = cluster_sums(metric.totals[own], self.cluster[own])
                measure = "rate" if metric.kind == "rate" else "mean"
                found.append((metric.name, "", measure, metric.estimate(sums, totals, confidence)))
            for item in items:
                estimate = item.estimate(self, number, confidence)
                found.append((item.asked.item.id, item.aspect.name, item.aspect.measure, estimate))
            for metric_name, aspect, measure, estimate in found:
                if self.data.has_row(number, estimate.total):
                    yield {
                        "model_nickname": name,
                        "conversations": int((own & self.is_talk).sum()),
                        "metric": metric_name,
                        "aspect": aspect,
                        "measure": measure,
                        **estimate.interval(),
                        "total": estimate.total,
                        "workers": estimate.clusters,
                    }

"""A model's judgments beside those of people: agreement with them, beside theirs with each other, and where it differs.

Judgments by a model are no data about the models that people chatted with: no other table sees them. They are matched to
people's by *item*, as in :mod:`model_chat.analysis.agreement`: a reply with everything that was said before it. A *pair* is
the annotation of one worker and that of the judge of the same item; a worker's second annotation of an item is not used. The
final ratings and the items of a study flow are compared in the same way, those about whole conversations by the dialogue.

Intervals are clustered by worker: of agreement as of any rate (:func:`model_chat.analysis.estimates.rate`), of the
difference as of any mean, and of Cohen's kappa (Cohen 1960, Educational and Psychological Measurement 20(1)) by the delta
method on the workers' sums, which with one pair a worker is the error of Fleiss, Cohen & Everitt 1969 (Psychological
Bulletin 72(5)).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import special

from model_chat.analysis.agreement import agreement
from model_chat.analysis.arrays import Data
from model_chat.analysis.estimates import TIE, Floats, cluster_sums, mean, rate
from model_chat.analysis.frames import columns
from model_chat.analysis.measures import NOT_SAID
from model_chat.analysis.observations import RATING, Observations, item_observations, rating_observations
from model_chat.records.llm_judgments import CONVERSATION, REPLY, LlmJudgment
from model_chat.records.schema import MODEL_IDX

COLUMNS = columns(
    "judge judged kind level by group from to items judgments workers raw raw_low raw_high kappa kappa_low kappa_high "
    "alpha person_items person_judgments person_raw person_alpha judge_rate person_rate difference low high"
)
EVERYTHING, LENGTH, POSITION = "all", "length", "position"
_GROUPS = {LENGTH: ("short", "middle", "long"), POSITION: ("early", "middle", "late")}


@dataclass(frozen=True)
class JudgeAgreement:
    """How far judges agree with people.

    Attributes:
        table: a row a judge and box, rating or aspect of an item of the study flow (`kind`), over all items (`by` is `all`),
            and over thirds of them by the length of the reply or of all replies (`length`, characters) and by the reply's
            exchange (`position`, from 1); these go from `from` to `to`. `raw`, `kappa` and `alpha` are of judge and people,
            `person_…` of people among themselves on the items that the judge has judged; `difference` is `judge_rate` less
            `person_rate`. `level` is that of both alphas: where it is `ordinal`, rates are means, and there is no kappa.
    """

    table: pd.DataFrame
    remarks: list[str]


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa: 1 is perfect agreement, 0 is chance; NaN without pairs, or where both always say the same one thing."""

    value: float
    low: float
    high: float


def cohens_kappa(a: Floats, b: Floats, clusters: NDArray[np.integer], confidence: float = 0.95) -> Kappa:
    """Cohen's kappa of two columns of ticks, with an interval clustered by worker.

    Args:
        a, b: 0 or 1, a pair a row.
        clusters: the worker of each pair.
        confidence: of the t interval, workers less one degrees of freedom; cut at -1 and 1.

    Returns:
        The ends are NaN with fewer than two workers, or where nothing varies.
    """
    if not len(a):
        return Kappa(math.nan, math.nan, math.nan)
    agrees = (a == b).astype(np.float64)
    observed, rate_a, rate_b = float(agrees.mean()), float(a.mean()), float(b.mean())
    expected = rate_a * rate_b + (1 - rate_a) * (1 - rate_b)
    if 1 - expected < TIE:
        return Kappa(math.nan, math.nan, math.nan)
    value = (observed - expected) / (1 - expected)
    slope = (observed - 1) / (1 - expected) ** 2
    moved = (2 * rate_b - 1) * (a - rate_a) + (2 * rate_a - 1) * (b - rate_b)
    sums = cluster_sums((agrees - observed) / (1 - expected) + slope * moved, clusters)
    count = len(sums)
    if count < 2:
        return Kappa(value, math.nan, math.nan)
    se = math.sqrt(count / (count - 1) * float(sums @ sums)) / len(a)
    if not se > TIE:
        return Kappa(value, math.nan, math.nan)
    width = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * se
    return Kappa(value, max(value - width, -1.0), min(value + width, 1.0))


def judge_agreement(data: Data, judgments: Sequence[LlmJudgment]) -> JudgeAgreement:
    """Set judges beside the people of a corpus.

    Args:
        data: people's annotations.
        judgments: of one or more judges; those of items that no counted conversation has are not used.
    """
    said = data.corpus.turns["turn_idx"] != NOT_SAID  # judges are shown dialogues
    turns = data.corpus.turns[said]
    people = _People(
        items=turns["history"].astype(np.int64),
        workers=data.worker[turns["conversation"]],
        labels=data.corpus.labels[said].astype(np.float64),
        scales={LENGTH: _lengths(data), POSITION: turns["exchange"].astype(np.float64) + 1},
    ).first_of_each_worker()
    rows: list[dict[str, object]] = []
    remarks: list[str] = []
    others = [*rating_observations(data), *item_observations(data)] if any(_is_more(one) for one in judgments) else []
    for judge, own in sorted(_by_judge(judgments).items()):
        said, repeated = _by_item(own)
        remarks += _remarks(judge, own, said, repeated, people)
        for column, box in enumerate(data.settings.problem_buckets):
            ticks = np.array([_tick(said.get(item), box) for item in people.items.tolist()], dtype=np.float64)
            names = {"judge": judge, "judged": box, "kind": "box", "level": "nominal"}
            rows += [
                {**names, **where, **_row(people, column, ticks, chosen, data.settings.confidence)}
                for where, chosen in _groups(people, np.isfinite(ticks))
            ]
        for observed in others:
            rows += _other_rows(data, judge, own, observed)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return JudgeAgreement(table, remarks)


def _is_more(judgment: LlmJudgment) -> bool:
    """Whether it holds more than boxes."""
    return judgment.answers is not None or judgment.ratings is not None


def _other_rows(
    data: Data, judge: str, own: Sequence[LlmJudgment], observed: Observations
) -> Iterator[dict[str, object]]:
    """The rows of a rating, or an aspect of an item."""
    said: dict[int, float] = {}
    for judgment in own:
        if (judgment.about == REPLY) == observed.of_reply:
            value = _value(judgment, observed)
            if value is not None:
                said.setdefault(_number(judgment.item), value)
    scales = {LENGTH: observed.length, **({POSITION: observed.position} if observed.of_reply else {})}
    workers, values = data.worker[observed.records], observed.values[:, None]
    people = _People(observed.items, workers, values, scales).first_of_each_worker()
    judged = np.array([said.get(item, math.nan) for item in people.items.tolist()], dtype=np.float64)
    if not np.isfinite(judged).any():
        return
    level = "ordinal" if observed.is_ordered else "nominal"
    names = {"judge": judge, "judged": observed.name, "kind": observed.kind, "level": level}
    for where, chosen in _groups(people, np.isfinite(judged)):
        yield {
            **names,
            **where,
            **_row(people, 0, judged, chosen, data.settings.confidence, observed.is_ordered),
        }


def _value(judgment: LlmJudgment, observed: Observations) -> float | None:
    if observed.kind == RATING:
        ratings = judgment.ratings or []
        return float(ratings[observed.question]) if observed.question < len(ratings) else None
    return None if judgment.answers is None else observed.value_of(judgment.answers)


@dataclass(frozen=True)
class _People:
    """People's annotations, a row each; the scales are what items are grouped by."""

    items: NDArray[np.int64]
    workers: NDArray[np.int64]
    labels: Floats
    scales: dict[str, Floats]

    def first_of_each_worker(self) -> _People:
        """Each worker's first annotation of each item."""
        _, first = np.unique(np.stack([self.items, self.workers], axis=1), axis=0, return_index=True)
        first.sort()
        scales = {name: values[first] for name, values in self.scales.items()}
        return _People(self.items[first], self.workers[first], self.labels[first], scales)


def _lengths(data: Data) -> Floats:
    """Characters of each annotated reply of a dialogue, in the order of the corpus' turns."""
    first = data.settings.problem_buckets[0]
    lengths = [
        pc.utf8_length(
            batch.filter(pc.and_(pc.equal(batch["agent_idx"], MODEL_IDX), pc.is_valid(batch[first])))["text"]
        )
        for batch in data.corpus.utterances()
    ]
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in lengths]) if lengths else np.zeros(0)


def _by_judge(judgments: Sequence[LlmJudgment]) -> dict[str, list[LlmJudgment]]:
    """The judgments of each judge, by its nickname; models that share one have the endpoint's name beside it."""
    models: dict[str, set[str]] = defaultdict(set)
    for judgment in judgments:
        models[judgment.judge.model].add(judgment.judge.endpoint_model)
    found: dict[str, list[LlmJudgment]] = defaultdict(list)
    for judgment in judgments:
        judge = judgment.judge
        name = judge.model if len(models[judge.model]) == 1 else f"{judge.model} ({judge.endpoint_model})"
        found[name].append(judgment)
    return found


def _by_item(judgments: Sequence[LlmJudgment]) -> tuple[dict[int, dict[str, bool]], int]:
    """The first boxes of each item, and how many items have others, too."""
    found: dict[int, dict[str, bool]] = {}
    differing: set[int] = set()
    for judgment in judgments:
        if judgment.boxes is not None and judgment.about == REPLY:
            item = _number(judgment.item)
            if found.setdefault(item, judgment.boxes) != judgment.boxes:
                differing.add(item)
    return found, len(differing)


def _number(item: str) -> int:
    return int.from_bytes(bytes.fromhex(item), "big", signed=True)


def _tick(boxes: dict[str, bool] | None, box: str) -> float:
    ticked = None if boxes is None else boxes.get(box)
    return math.nan if ticked is None else float(ticked)


def _remarks(
    judge: str, own: Sequence[LlmJudgment], said: dict[int, dict[str, bool]], repeated: int, people: _People
) -> list[str]:
    items = set(people.items.tolist())
    known = len(items & said.keys())
    missing: dict[str, int] = defaultdict(int)
    for judgment in own:
        if judgment.missing is not None and judgment.about == REPLY and _number(judgment.item) in items:
            missing[judgment.missing] += 1
    remarks = [f"{judge} has judged {known:,} of the {len(items):,} different replies that people annotated."]
    failed = Counter(one.missing for one in own if one.missing is not None and one.about == CONVERSATION)
    if failed:
        named = ", ".join(f"{reason} {count:,}" for reason, count in sorted(failed.items()))
        remarks.append(f"{judge} gave no usable answer about whole conversations: {named}.")
    if missing:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(missing.items()))
        remarks.append(f"{judge} gave no usable answer about annotated replies: {reasons}.")
    if repeated:
        remarks.append(
            f"{judge} is in the file with different judgments of {repeated:,} replies; the first ones count."
        )
    served = sorted({judgment.judge.served_model for judgment in own if judgment.judge.served_model is not None})
    if len(served) > 1:
        remarks.append(f"{judge} answered as several models: {', '.join(served)}.")
    return remarks


def _groups(people: _People, judged: NDArray[np.bool_]) -> Iterator[tuple[dict[str, object], NDArray[np.bool_]]]:
    """All pairs, and thirds of the items by each scale; items that are alike are in the same third."""
    yield {"by": EVERYTHING, "group": EVERYTHING}, judged
    if not judged.any():
        return
    for scale, values in people.scales.items():
        _, first = np.unique(people.items[judged], return_index=True)
        ends = np.quantile(values[judged][first], [1 / 3, 2 / 3])
        third = np.searchsorted(ends, values)
        present = np.unique(third[judged])
        if len(present) < 2:
            continue
        first_name, middle, last_name = _GROUPS[scale]
        names = (first_name, middle, last_name) if len(present) > 2 else (first_name, last_name)
        for number, name in zip(present, names, strict=True):
            chosen = judged & (third == number)
            yield (
                {"by": scale, "group": name, "from": int(values[chosen].min()), "to": int(values[chosen].max())},
                chosen,
            )


def _row(
    people: _People,
    column: int,
    ticks: Floats,
    chosen: NDArray[np.bool_],
    confidence: float,
    is_ordered: bool = False,
) -> dict[str, object]:
    judge, person = ticks[chosen], people.labels[chosen, column]
    items, workers = people.items[chosen], people.workers[chosen]
    totals = cluster_sums(np.ones(len(judge)), workers)
    raw = rate(cluster_sums(judge == person, workers), totals, confidence)
    none = Kappa(math.nan, math.nan, math.nan)
    kappa = none if is_ordered else cohens_kappa(judge, person, workers, confidence)
    bounds = None if is_ordered else (-1.0, 1.0)
    gap = mean(cluster_sums(judge - person, workers), totals, confidence, bounds)
    pairs = np.arange(len(judge))
    both = agreement(
        np.concatenate([judge, person]),
        np.concatenate([pairs, pairs]),
        np.repeat([0, 1], len(judge)),
        ordered=is_ordered,
    )
    among = agreement(person, items, workers, ordered=is_ordered)
    return {
        "items": len(np.unique(items)),
        "judgments": len(judge),
        "workers": raw.clusters,
        "raw": raw.value,
        "raw_low": raw.low,
        "raw_high": raw.high,
        "kappa": kappa.value,
        "kappa_low": kappa.low,
        "kappa_high": kappa.high,
        "alpha": both.ordinal if is_ordered else both.nominal,
        "person_items": among.items,
        "person_judgments": among.judgments,
        "person_raw": among.raw,
        "person_alpha": among.ordinal if is_ordered else among.nominal,
        "judge_rate": float(judge.mean()) if len(judge) else math.nan,
        "person_rate": float(person.mean()) if len(judge) else math.nan,
        "difference": gap.value,
        "low": gap.low,
        "high": gap.high,
    }

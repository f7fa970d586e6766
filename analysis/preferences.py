"""The tables of compared replies: wins, ranking, the bias of a side, and wins by turn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special

from model_chat.analysis import ranking
from model_chat.analysis.comparison import with_holm
from model_chat.analysis.estimates import TIE, Estimate, Floats, cluster_sums, rate
from model_chat.analysis.frames import columns
from model_chat.analysis.ranking import EVEN, LEFT, RIGHT, Judgements
from model_chat.records.schema import Pick

if TYPE_CHECKING:
    import pyarrow as pa

    from model_chat.analysis.arrays import Data

WIN_COLUMNS = columns("model_a model_b wins_a wins_b ties both_bad win_rate_a se low high p p_holm workers question")
RANKING_COLUMNS = columns(
    "model_nickname strength se low high rank_low rank_high judgements workers bootstrap_low bootstrap_high "
    "strength_controlled se_controlled low_controlled high_controlled question"
)
EFFECT_COLUMNS = columns("effect value se low high p judgements workers question")
CURVE_COLUMNS = columns("model_nickname turn_idx win_rate low high judgements workers question")
SIDE_RATE, SIDE, LENGTH, FORMAT = "left_side_rate", "left_side", "length", "format"
"""Effects: the share of decided judgements that the left side won; and log odds for the left side, for each doubling of
characters, and for each doubling of one more than the Markdown marks."""
_OUTCOMES = {Pick.LEFT: LEFT, Pick.RIGHT: RIGHT, Pick.TIE: EVEN, Pick.BOTH_BAD: EVEN}
_MOST_TURNS = 50


@dataclass(frozen=True)
class Preferences:
    """The tables, each with its columns even without rows, and what a reader must know.

    Attributes:
        wins: a row a pair of models that were compared; `win_rate_a` counts ties as a half.
        ranking: a row a model, the strongest first.
        effects: a row an effect that no model has: side, length, format.
        curves: a row a model and exchange: the share of its judgements that it won, ties as a half.
    """

    wins: pd.DataFrame
    ranking: pd.DataFrame
    effects: pd.DataFrame
    curves: pd.DataFrame
    remarks: list[str]


def preferences(data: Data) -> Preferences:
    """Compute the tables; judgements about different questions are kept apart."""
    settings = data.settings
    wins: list[dict[str, object]] = []
    ranked: list[dict[str, object]] = []
    effects: list[dict[str, object]] = []
    curves: list[dict[str, object]] = []
    said: list[str] = []
    for asked in _by_question(data):
        rng = np.random.default_rng(settings.seed)
        wins += [{**row, "question": asked.question} for row in _wins(asked, settings.confidence)]
        rows, sentences = _ranking(asked, rng, settings.bootstrap, settings.confidence)
        ranked += [{**row, "question": asked.question} for row in rows]
        said += [f"{asked.prefix}{sentence}" for sentence in sentences]
        effects += [{**row, "question": asked.question} for row in _effects(asked, settings.confidence)]
        curves += [{**row, "question": asked.question} for row in _curves(asked, settings.confidence)]
    return Preferences(
        wins=pd.DataFrame(wins, columns=WIN_COLUMNS),
        ranking=pd.DataFrame(ranked, columns=RANKING_COLUMNS),
        effects=pd.DataFrame(effects, columns=EFFECT_COLUMNS),
        curves=pd.DataFrame(curves, columns=CURVE_COLUMNS),
        remarks=said,
    )


@dataclass(frozen=True)
class _Asked:
    """The judgements about one question; "" for replies within a conversation.

    Attributes:
        judgements: all of them, those of a model with itself too.
        both_bad: which ties are of this kind.
        turn: the exchange, -1 where whole conversations were compared.
        covariates: judgements x (length, format), left less right; NaN where there are no texts.
    """

    question: str
    judgements: Judgements
    both_bad: np.ndarray
    turn: np.ndarray
    covariates: Floats

    @property
    def prefix(self) -> str:
        return f"“{self.question}”: " if self.question else ""


def _by_question(data: Data) -> Iterator[_Asked]:
    table = data.corpus.judgements
    if table.num_rows == 0:
        return
    questions = np.array([question or "" for question in table["question"].to_pylist()], dtype=object)
    names, sides = np.unique(
        np.array([table["left"].to_pylist(), table["right"].to_pylist()], dtype=object).astype(str), return_inverse=True
    )
    left, right = sides.reshape(2, -1)
    picks = np.array(table["pick"].to_pylist(), dtype=str)
    outcome = np.select([picks == pick.value for pick in _OUTCOMES], list(_OUTCOMES.values())).astype(np.int64)
    both_bad = picks == Pick.BOTH_BAD.value
    worker = data.worker[table["conversation"].to_numpy()]
    turn = table["turn_idx"].fill_null(-1).to_numpy()
    covariates = np.column_stack([_log_ratio(table, "characters"), _log_ratio(table, "marks")])
    for question in sorted(set(questions)):
        here = questions == question
        used, numbers = np.unique(np.concatenate([left[here], right[here]]), return_inverse=True)
        here_left, here_right = numbers.reshape(2, -1).astype(np.int64)
        models = [str(name) for name in names[used]]
        judgements = Judgements(models, here_left, here_right, outcome[here], worker[here])
        yield _Asked(question, judgements, both_bad[here], turn[here], covariates[here])


def _log_ratio(table: pa.Table, what: str) -> Floats:
    """``log2((left + 1) / (right + 1))``: what a doubling on the left adds 1 to; NaN where one is not known."""
    left, right = (np.asarray(table[f"{side}_{what}"].to_pandas(), dtype=np.float64) for side in ("left", "right"))
    return np.asarray(np.log2((left + 1) / (right + 1)))


def _wins(asked: _Asked, confidence: float) -> list[dict[str, object]]:
    judged = asked.judgements
    rows: list[dict[str, object]] = []
    first, second = np.minimum(judged.left, judged.right), np.maximum(judged.left, judged.right)
    for a, b in sorted(set(zip(first.tolist(), second.tolist(), strict=True))):
        if a == b:
            continue
        here = (first == a) & (second == b)
        winner, worker = judged.winner[here], judged.worker[here]
        estimate = _share((winner == a) + (winner == -1) / 2, worker, confidence)
        rows.append(
            {
                "model_a": judged.models[a],
                "model_b": judged.models[b],
                "wins_a": int((winner == a).sum()),
                "wins_b": int((winner == b).sum()),
                "ties": int((winner == -1).sum() - asked.both_bad[here].sum()),
                "both_bad": int(asked.both_bad[here].sum()),
                "win_rate_a": estimate.value,
                "se": estimate.se,
                "low": estimate.low,
                "high": estimate.high,
                "p": _p_value(estimate.value - 0.5, estimate.se, estimate.clusters),
                "workers": estimate.clusters,
            }
        )
    return with_holm(rows)


def _share(scores: Floats, worker: np.ndarray, confidence: float) -> Estimate:
    """A share of judgements with its interval over workers, by :func:`model_chat.analysis.estimates.rate`."""
    return rate(cluster_sums(scores, worker), cluster_sums(np.ones(len(scores)), worker), confidence)


def _p_value(gap: float, se: float, workers: int) -> float:
    """Two-sided, by Student's t with ``workers`` - 1 degrees of freedom; NaN without an error."""
    if workers < 2 or not se > TIE:
        return math.nan
    return float(2 * special.stdtr(workers - 1, -abs(gap) / se))


def _ranking(
    asked: _Asked, rng: np.random.Generator, resamples: int, confidence: float
) -> tuple[list[dict[str, object]], list[str]]:
    judged = asked.judgements.between_models()
    reason = ranking.why_not(judged)
    if reason is not None:
        return [], [f"No ranking: {reason}"]
    found = ranking.fit(judged)
    if found is None:
        return [], [f"No ranking: {ranking.why_no_fit(judged)}"]
    said = []
    if found.workers < 2:
        said.append("The ranking has no intervals: one worker has made all judgements.")
    low, high = ranking.t_interval(found.strength, found.se, found.workers, confidence)
    boot_low, boot_high = ranking.resample(judged, rng, resamples).interval(found.strength, confidence)
    rank_low, rank_high = ranking.rank_intervals(found, confidence)
    controlled = _controlled(asked)
    nothing = np.full(len(judged.models), math.nan)
    values, errors, low_controlled, high_controlled = nothing, nothing, nothing, nothing
    if controlled is not None:
        values, errors = controlled.strength, controlled.se
        low_controlled, high_controlled = ranking.t_interval(values, errors, controlled.workers, confidence)
    rows: list[dict[str, object]] = []
    for number in np.argsort(-found.strength, kind="stable").tolist():
        own = (judged.left == number) | (judged.right == number)
        rows.append(
            {
                "model_nickname": judged.models[number],
                "strength": found.strength[number],
                "se": found.se[number],
                "low": low[number],
                "high": high[number],
                "rank_low": int(rank_low[number]),
                "rank_high": int(rank_high[number]),
                "judgements": int(own.sum()),
                "workers": len(np.unique(judged.worker[own])),
                "bootstrap_low": boot_low[number],
                "bootstrap_high": boot_high[number],
                "strength_controlled": values[number],
                "se_controlled": errors[number],
                "low_controlled": low_controlled[number],
                "high_controlled": high_controlled[number],
            }
        )
    return rows, said


def _with_covariates(asked: _Asked) -> tuple[Judgements, Floats, list[str]]:
    """Judgements that have texts, their covariates (the left side's first), and the names of those that tell something.

    A covariate that follows from which models are compared, such as the length of replies that are always the same, can't be
    told from their strengths, and is left out.

    Length and format are controlled for together, as in the style control of Chatbot Arena and the length control of
    AlpacaEval (Dubois, Galambosi, Liang & Hashimoto 2024, arXiv 2404.04475): the strengths are those of replies that are
    alike in both.
    """
    known = np.isfinite(asked.covariates).all(axis=1) & (asked.judgements.left != asked.judgements.right)
    judged, columns = asked.judgements.where(known), asked.covariates[known]
    names = [SIDE]
    parts = [np.ones((len(judged), 1))]
    for name, column in zip((LENGTH, FORMAT), columns.T, strict=True):
        if len(column) and ranking.adds_information(judged, np.concatenate(parts, axis=1), column):
            names.append(name)
            parts.append(column[:, None])
    return judged, np.concatenate(parts, axis=1), names


def _controlled(asked: _Asked) -> ranking.Fit | None:
    judged, columns, names = _with_covariates(asked)
    if len(names) == 1 or len(judged) == 0 or set(judged.left) | set(judged.right) != set(range(len(judged.models))):
        return None
    return ranking.fit(judged, columns)


def _effects(asked: _Asked, confidence: float) -> list[dict[str, object]]:
    judged = asked.judgements
    rows: list[dict[str, object]] = []

    def add(name: str, effect: Estimate, gap: float) -> None:
        p = _p_value(gap, effect.se, effect.clusters)
        counts = {"judgements": effect.total, "workers": effect.clusters}
        rows.append({"effect": name, **effect.interval(), "p": p, **counts})

    decided = judged.outcome != EVEN
    if decided.any():
        side = _share((judged.outcome[decided] == LEFT).astype(np.float64), judged.worker[decided], confidence)
        add(SIDE_RATE, side, side.value - 0.5)
    between = judged.where(judged.left != judged.right)
    texts, columns, names = _with_covariates(asked)
    if len(names) == 1:
        texts, columns = between, np.ones((len(between), 1))
    found = ranking.fit(texts, columns) if len(texts) else None
    if found is not None:
        low, high = ranking.t_interval(found.effects, found.effects_se, found.workers, confidence)
        for name, *numbers in zip(names, found.effects, found.effects_se, low, high, strict=True):
            value, se, first, last = map(float, numbers)
            add(name, Estimate(value, se, first, last, found.judgements, found.workers), value)
    return rows


def _curves(asked: _Asked, confidence: float) -> list[dict[str, object]]:
    judged = asked.judgements
    rows: list[dict[str, object]] = []
    last = min(int(asked.turn.max(initial=-1)), _MOST_TURNS - 1)
    between = judged.left != judged.right
    for number, name in enumerate(judged.models):
        own = between & ((judged.left == number) | (judged.right == number))
        for turn in range(last + 1):
            here = own & (asked.turn == turn)
            if not here.any():
                continue
            winner = judged.winner[here]
            estimate = _share((winner == number) + (winner == -1) / 2, judged.worker[here], confidence)
            rows.append(
                {
                    "model_nickname": name,
                    "turn_idx": turn,
                    "win_rate": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "judgements": estimate.total,
                    "workers": estimate.clusters,
                }
            )
    return rows

"""Strengths of models from judgements of two replies: Bradley and Terry's model with Davidson's ties, clustered by worker.

A judgement compares the reply on the left with the one on the right and ends as left, right or tie. With the strengths
``β`` (natural log odds) the utilities are ``u_left = β_left + x·θ``, ``u_right = β_right`` and
``u_tie = η + (u_left + u_right)/2``; an outcome has the probability ``exp(u) / Σ exp(u)``. Without ties this is Bradley &
Terry 1952 (Biometrika 39), with them Davidson 1970 (Journal of the American Statistical Association 65) with ``ν = exp η``.
``x`` are covariates of the pair, left less right; a column of ones is the advantage of the left side (Davidson & Beaver
1977, Biometrics 33).

It is a multinomial logit with linear utilities, so its likelihood is concave and Newton's method finds the one maximum.

Workers judge many pairs, and like what they like in all of them. Errors are therefore sandwich errors over the sums of
scores within workers (White 1982, Econometrica 50; Liang & Zeger 1986, Biometrika 73) with the factor G/(G-1), and
intervals use Student's t with G-1 degrees of freedom, G being the number of workers.

Conventions at the edges: where the likelihood has no finite maximum (:func:`why_not`), there are no strengths but a
sentence; one worker gives strengths but neither errors nor intervals; nothing is raised for data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from model_chat.analysis.estimates import TIE, Floats

Ints = NDArray[np.int64]

LEFT, RIGHT, EVEN = 0, 1, 2
"""Outcomes of a judgement; `both_bad` is a tie here."""
MOST_STEPS = 100
LARGEST = 30.0
"""Log odds, of a parameter or of one model against the other in a judgement, beyond which there is taken to be no finite
estimate; odds of 10^13."""
_COLLINEAR = 1e-7
"""Share of a covariate's length that has to lie outside what is known already."""
CELLS_AT_ONCE = 2_000_000
"""Most numbers in an array of the bootstrap that are held at a time (16 MB)."""


@dataclass(frozen=True)
class Judgements:
    """Judgements of two replies as arrays, one entry a judgement.

    Attributes:
        models: names by number.
        left, right: numbers of the models.
        outcome: :data:`LEFT`, :data:`RIGHT` or :data:`EVEN`.
        worker: numbers of the workers who judged.
    """

    models: Sequence[str]
    left: Ints
    right: Ints
    outcome: Ints
    worker: Ints

    def __len__(self) -> int:
        """How many there are."""
        return len(self.outcome)

    def between_models(self) -> Judgements:
        """Leave out those where both replies are of one model: they tell nothing of strengths."""
        return self.where(self.left != self.right)

    def where(self, chosen: NDArray[np.bool_]) -> Judgements:
        """Return those that are chosen."""
        return Judgements(self.models, self.left[chosen], self.right[chosen], self.outcome[chosen], self.worker[chosen])

    @property
    def winner(self) -> Ints:
        """The model whose reply was preferred; -1 for a tie."""
        return np.select([self.outcome == LEFT, self.outcome == RIGHT], [self.left, self.right], -1)


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        strength: a number a model, natural log odds, mean 0.
        covariance: of the strengths, clustered by worker; NaN with fewer than two workers.
        tie: ``η``, the log of Davidson's ``ν``; -inf without ties.
        effects: of the covariates.
        effects_se: their clustered errors.
        judgements, workers: behind it.
    """

    strength: Floats
    covariance: Floats
    tie: float
    effects: Floats
    effects_se: Floats
    judgements: int
    workers: int

    @property
    def se(self) -> Floats:
        """Clustered standard errors of the strengths."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))  # rounding may leave a little less than 0


def why_not(judgements: Judgements) -> str | None:
    """Say why there are no strengths: a sentence, or None where there are.

    Without ties the maximum is finite if, and only if, for every division of the models into two groups some model of each
    group has beaten one of the other (Ford 1957, American Mathematical Monthly 64). With ties, which count in both
    directions, this is necessary, but not enough where no judgement goes against an order of the models: see
    :func:`why_no_fit`.
    """
    from scipy.sparse.csgraph import connected_components  # most studies compare nothing, and need not wait for it

    compared = judgements.between_models()
    if len(compared) == 0:
        return "No judgement compares two models."
    if (compared.outcome == EVEN).all():
        return "All judgements are ties, so no model is stronger than another."
    count = len(judgements.models)
    seen = np.union1d(compared.left, compared.right)
    if len(seen) < count:
        missing = [name for number, name in enumerate(judgements.models) if number not in seen]
        return f"Nobody has compared {_listed(missing)} with another model, so there is no common scale."
    parts, part = connected_components(_graph(compared, count, both=True), directed=False)
    if parts > 1:
        groups = [
            _listed([judgements.models[i] for i in np.flatnonzero(part == number).tolist()]) for number in range(parts)
        ]
        return f"No judgement connects {' with '.join(groups)}, so there is no common scale."
    groups_count, group = connected_components(_graph(compared, count), directed=True, connection="strong")
    if groups_count == 1:
        return None
    above = _never_beaten(compared, group, groups_count)
    names = [judgements.models[i] for i in np.flatnonzero(group == above).tolist()]
    # The odds of a group that never lost to the others are infinite by the likelihood, however few judgements there are.
    return (
        f"{_listed(names)} never lost to, or tied with, {'the other models' if count - len(names) > 1 else 'the other'}, "
        "so the strength has no finite estimate; more judgements are needed."
    )


def why_no_fit(judgements: Judgements) -> str:
    """Say why :func:`fit` has found no strengths of what :func:`why_not` has no fault of; a sentence.

    Where models have won and tied but no judgement goes against their order, the likelihood grows with their distance and
    with the share of ties.
    """
    beaten = np.where(judgements.outcome == LEFT, judgements.right, judgements.left)[judgements.outcome != EVEN]
    unbeaten = [name for number, name in enumerate(judgements.models) if number not in beaten]
    reason = f"{_listed(unbeaten)} never lost, so " if unbeaten else ""
    return f"{reason}the strengths have no finite estimate; more judgements are needed."


def _graph(judgements: Judgements, count: int, *, both: bool = False) -> Any:
    """Return a sparse array: an edge from each winner to each loser; both ways for ties, and for all if `both`."""
    forward = judgements.outcome != RIGHT
    backward = judgements.outcome != LEFT
    if both:
        forward = backward = np.ones(len(judgements), dtype=bool)
    start = np.concatenate([judgements.left[forward], judgements.right[backward]])
    end = np.concatenate([judgements.right[forward], judgements.left[backward]])
    from scipy.sparse import coo_array

    return coo_array((np.ones(len(start)), (start, end)), shape=(count, count))


def _never_beaten(judgements: Judgements, group: Ints, groups: int) -> int:
    """The strongly connected group that no other has beaten; there is at least one."""
    of_left, of_right = group[judgements.left], group[judgements.right]
    beaten = np.zeros(groups, dtype=bool)
    across = of_left != of_right
    beaten[of_right[across & (judgements.outcome == LEFT)]] = True
    beaten[of_left[across & (judgements.outcome == RIGHT)]] = True
    return int(np.flatnonzero(~beaten)[0])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _design(judgements: Judgements, covariates: Floats) -> Floats:
    """A row a judgement: what utility of left less right is in the parameters; the last model is the reference."""
    rows = np.zeros((len(judgements), len(judgements.models)))
    each = np.arange(len(judgements))
    rows[each, judgements.left] += 1
    rows[each, judgements.right] -= 1
    return np.concatenate([rows[:, :-1], covariates], axis=1)


def adds_information(judgements: Judgements, known: Floats, column: Floats) -> bool:
    """Whether a covariate says more than who was compared and other covariates do; else it has no effect of its own.

    Args:
        judgements: what was compared.
        known: judgements x covariates that are used.
        column: a further covariate, a number a judgement.
    """
    rows = np.column_stack([_design(judgements, known), column])
    lengths = np.linalg.norm(rows, axis=0)
    triangle = np.linalg.qr(rows / np.where(lengths > TIE, lengths, 1.0)).R
    with_it, without = (np.linalg.matrix_rank(part, tol=_COLLINEAR) for part in (triangle, triangle[:, :-1]))
    return bool(with_it > without)


class _Cells:
    """Judgements that are alike in all that the model sees, counted together.

    Attributes:
        half: half the difference of utilities, in the parameters: the design's rows, halved.
        outcome: of each cell.
        has_ties: whether there is a parameter for ties, the last one.
    """

    def __init__(self, design: Floats, outcome: Ints) -> None:
        self.has_ties = bool((outcome == EVEN).any())
        self.half = design / 2
        self.outcome = outcome

    @property
    def parameters(self) -> int:
        return int(self.half.shape[1]) + self.has_ties

    def probabilities(self, theta: Floats) -> Floats:
        """Of left, right and tie: (…, cells, 3), for parameters (…, parameters)."""
        gap = theta[..., : self.half.shape[1]] @ self.half.T
        tie = theta[..., -1:] + np.zeros_like(gap) if self.has_ties else np.full_like(gap, -np.inf)
        chances: Floats = special.softmax(np.stack([gap, -gap, tie], axis=-1), axis=-1)
        return chances

    def scores(self, chances: Floats) -> Floats:
        """Derivatives of the log-likelihood: (…, cells, parameters)."""
        won = np.select([self.outcome == LEFT, self.outcome == RIGHT], [1.0, -1.0], 0.0)
        expected = chances[..., 0] - chances[..., 1]
        parts = [(won - expected)[..., None] * self.half]
        if self.has_ties:
            parts.append(((self.outcome == EVEN) - chances[..., 2])[..., None])
        return np.concatenate(parts, axis=-1)

    def information(self, chances: Floats, weights: Floats) -> Floats:
        """Fisher's (here also the observed) information: (…, parameters, parameters), for weights (…, cells)."""
        left, right, tie = np.moveaxis(chances, -1, 0)
        gap = left - right
        main: Floats = np.einsum(
            "...c,ci,cj->...ij", weights * (left + right - gap**2), self.half, self.half, optimize=True
        )
        if not self.has_ties:
            return main
        cross = np.einsum("...c,ci->...i", weights * -gap * tie, self.half)
        corner = np.sum(weights * tie * (1 - tie), axis=-1)
        top = np.concatenate([main, cross[..., None]], axis=-1)
        bottom = np.concatenate([cross, corner[..., None]], axis=-1)[..., None, :]
        return np.concatenate([top, bottom], axis=-2)

    def log_likelihood(self, chances: Floats, weights: Floats) -> Floats:
        own = np.take_along_axis(chances, np.broadcast_to(self.outcome[:, None], (*chances.shape[:-1], 1)), -1)[..., 0]
        return np.asarray(np.sum(special.xlogy(weights, own), axis=-1))  # a cell of weight 0 may have the probability 0


def _maximise(cells: _Cells, weights: Floats, start: Floats) -> Floats:
    """Newton's method with halved steps, for many weightings at once.

    Args:
        cells: what was judged.
        weights: (many, cells).
        start: (parameters,).

    Returns:
        (many, parameters); NaN where there is no finite maximum.
    """
    many = len(weights)
    theta = np.broadcast_to(start, (many, len(start))).copy()
    chances = cells.probabilities(theta)
    value = cells.log_likelihood(chances, weights)
    active = np.arange(many)
    for _ in range(MOST_STEPS):
        gradient = np.einsum("mc,mcp->mp", weights[active], cells.scores(chances), optimize=True)
        information = cells.information(chances, weights[active])
        step, solved = _solve(information, gradient)
        theta[active[~solved]] = np.nan
        # The gain that is still to be had is about half of gradient·step (in log-likelihood).
        going = solved & (np.einsum("mp,mp->m", gradient, step) > 1e-14)
        active, step = active[going], step[going]
        if len(active) == 0:
            break
        size = np.ones(len(active))
        for _ in range(30):
            chances = cells.probabilities(theta[active] + size[:, None] * step)
            new = cells.log_likelihood(chances, weights[active])
            worse = ~(new >= value[active] - 1e-10)
            if not worse.any():
                break
            size[worse] /= 2
        theta[active] += size[:, None] * step
        value[active] = new
        gap = theta[active][:, : cells.half.shape[1]] @ cells.half.T * 2
        lost = np.abs(np.concatenate([theta[active], gap], axis=1)).max(axis=1) > LARGEST
        theta[active[lost]] = np.nan
        active, chances = active[~lost], chances[~lost]
    else:
        theta[active] = np.nan
    return theta


def _solve(matrices: Floats, vectors: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Solve many small systems; say which could be solved."""
    try:
        solutions = np.linalg.solve(matrices, vectors[..., None])[..., 0]
    except np.linalg.LinAlgError:
        solutions = np.full_like(vectors, np.nan)
        for number, (matrix, vector) in enumerate(zip(matrices, vectors, strict=True)):
            try:
                solutions[number] = np.linalg.solve(matrix, vector)
            except np.linalg.LinAlgError:
                continue
    solved = np.isfinite(solutions).all(axis=-1)
    return np.where(solved[..., None], solutions, 0.0), solved


def fit(judgements: Judgements, covariates: Floats | None = None) -> Fit | None:
    """Fit the strengths.

    Args:
        judgements: those of one model against itself count for the covariates' effects only.
        covariates: judgements x covariates, left less right.

    Returns:
        None where the likelihood has no finite maximum; :func:`why_not` has the sentence (covariates that tell winners from
        losers without fault are another reason).
    """
    known = np.zeros((len(judgements), 0)) if covariates is None else covariates
    if known.shape[1] == 0:
        used = judgements.left != judgements.right
        judgements, known = judgements.where(used), known[used]
    if why_not(judgements) is not None:
        return None
    rows = np.column_stack([_design(judgements, known), judgements.outcome, judgements.worker])
    alike, counts = np.unique(rows, axis=0, return_counts=True)
    cells = _Cells(alike[:, :-2], alike[:, -2].astype(np.int64))
    weights = counts.astype(np.float64)
    theta = _maximise(cells, weights[None, :], np.zeros(cells.parameters))[0]
    if not np.isfinite(theta).all():
        return None
    chances = cells.probabilities(theta)
    bread = np.linalg.inv(cells.information(chances, weights))
    workers, number = np.unique(alike[:, -1], return_inverse=True)
    scores = cells.scores(chances) * weights[:, None]
    by_worker = np.stack([np.bincount(number, column, len(workers)) for column in scores.T], axis=1)
    spread = len(workers) / (len(workers) - 1) if len(workers) > 1 else math.nan
    covariance = bread @ (by_worker.T @ by_worker) @ bread * spread
    count = len(judgements.models)
    centre = _centring(count)
    others = slice(count - 1, count - 1 + known.shape[1])
    return Fit(
        strength=centre @ theta[: count - 1],
        covariance=centre @ covariance[: count - 1, : count - 1] @ centre.T,
        tie=float(theta[-1]) if cells.has_ties else -math.inf,
        effects=theta[others],
        effects_se=np.sqrt(np.maximum(np.diag(covariance)[others], 0.0)),
        judgements=len(judgements),
        workers=len(workers),
    )


def _centring(count: int) -> Floats:
    """Models x (models - 1): from strengths beside the last model's to strengths with mean 0."""
    reference = np.vstack([np.eye(count - 1), np.zeros((1, count - 1))])
    centred: Floats = reference - reference.mean(axis=0)
    return centred


@dataclass(frozen=True)
class Resampled:
    """A bootstrap over workers.

    Attributes:
        strength: resamples x models; rows of NaN where a resample has no finite maximum.
    """

    strength: Floats

    def interval(self, value: Floats, confidence: float) -> tuple[Floats, Floats]:
        """Percentile intervals (Efron & Tibshirani 1993, chapter 13); NaN where more than 1 - ``confidence`` of them failed.

        A resample without a finite maximum would lie at one of the ends; with more of them than the interval leaves out,
        the ends are unknown.
        """
        usable = np.isfinite(self.strength).all(axis=1)
        if usable.mean() < confidence:
            return np.full_like(value, np.nan), np.full_like(value, np.nan)
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.strength[usable], [tail, 1 - tail], axis=0)
        return low, high


def resample(judgements: Judgements, rng: np.random.Generator, resamples: int = 2000) -> Resampled:
    """Fit resamples of whole workers, without covariates.

    The pairs cluster bootstrap of Cameron, Gelbach & Miller 2008 (Review of Economics and Statistics 90(3)).

    Args:
        judgements: with a finite maximum.
        rng: where chance comes from.
        resamples: how many.
    """
    compared = judgements.between_models()
    first = fit(compared)
    count = len(judgements.models)
    workers, number = np.unique(compared.worker, return_inverse=True)
    if first is None or len(workers) < 2:
        return Resampled(np.full((resamples, count), np.nan))
    rows = np.column_stack([_design(compared, np.zeros((len(compared), 0))), compared.outcome])
    alike, cell = np.unique(rows, axis=0, return_inverse=True)
    cells = _Cells(alike[:, :-1], alike[:, -1].astype(np.int64))
    of_worker = np.zeros((len(workers), len(alike)))
    np.add.at(of_worker, (number, cell.ravel()), 1)
    start = first.strength[:-1] - first.strength[-1]
    start = np.append(start, first.tie) if cells.has_ties else start
    found = np.full((resamples, count), np.nan)
    step = max(1, CELLS_AT_ONCE // (len(alike) * max(cells.parameters, 3)))
    for at in range(0, resamples, step):
        many = min(step, resamples - at)
        drawn = rng.multinomial(len(workers), np.full(len(workers), 1 / len(workers)), size=many)
        found[at : at + many] = _maximise(cells, drawn @ of_worker, start)[:, : count - 1] @ _centring(count).T
    return Resampled(found)


def rank_intervals(estimate: Fit, confidence: float) -> tuple[Ints, Ints]:
    """Best and worst rank that a model may have (1 is the strongest), with ``confidence`` for all models at once.

    A model's best rank is one more than the number of models that are significantly stronger. All pairs are tested by Holm's
    procedure (1979) on clustered errors; ranks from tests of pairwise differences are those of Mogstad, Romano, Shaikh &
    Wilhelm 2024 (Review of Economic Studies 91(1)). With fewer than two workers every rank is possible.
    """
    count = len(estimate.strength)
    low, high = np.ones(count, np.int64), np.full(count, count, np.int64)
    if estimate.workers < 2:
        return low, high
    first, second = np.triu_indices(count, 1)
    gap = estimate.strength[first] - estimate.strength[second]
    variance = np.diag(estimate.covariance)
    spread = np.sqrt(np.maximum(variance[first] + variance[second] - 2 * estimate.covariance[first, second], 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = np.where(spread > TIE, 2 * special.stdtr(estimate.workers - 1, -np.abs(gap) / spread), 1.0)
    order = np.argsort(p_values, kind="stable")
    for passed, pair in enumerate(order):
        if p_values[pair] * (len(order) - passed) > 1 - confidence:
            break
        better, worse = (first[pair], second[pair]) if gap[pair] > 0 else (second[pair], first[pair])
        low[worse] += 1
        high[better] -= 1
    return low, high


def t_interval(value: Floats, se: Floats, workers: int, confidence: float) -> tuple[Floats, Floats]:
    """``value ± t·se`` with ``workers`` - 1 degrees of freedom; NaN with fewer than two workers or without an error."""
    if workers < 2:
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    width = np.where(se > TIE, se, np.nan) * special.stdtrit(workers - 1, (1 + confidence) / 2)
    return value - width, value + width

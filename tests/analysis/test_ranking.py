"""Strengths from judgements of two replies: by hand, against choix, and in simulations whose truth is known."""

from __future__ import annotations

import math

import choix
import numpy as np
import pytest

from model_chat.analysis import ranking
from model_chat.analysis.ranking import EVEN, LEFT, RIGHT, Judgements

MODELS = ("a", "b", "c", "d")
STRENGTHS = np.array([0.6, 0.2, -0.2, -0.6])
NO_TIES = -math.inf


def judged(*entries: tuple[str, str, int], models: str = "abcd", workers: int = 5) -> Judgements:
    """Judgements (left, right, outcome) by workers in turn."""
    left, right, outcome = zip(*entries, strict=True)
    number = {name: i for i, name in enumerate(models)}
    return Judgements(
        list(models),
        np.array([number[name] for name in left]),
        np.array([number[name] for name in right]),
        np.array(outcome),
        np.arange(len(entries)) % workers,
    )


def draw(rng: np.random.Generator, gap: np.ndarray, tie: float) -> np.ndarray:
    """Outcomes by the model, for the differences of utility, left less right."""
    weights = np.exp(np.stack([gap / 2, -gap / 2, np.full_like(gap, tie)], axis=1))
    ends = np.cumsum(weights / weights.sum(1, keepdims=True), axis=1)
    return (rng.random((len(gap), 1)) > ends[:, :2]).sum(1)


def simulate(
    rng: np.random.Generator,
    workers: int,
    each: int,
    tie: float = NO_TIES,
    taste: float = 0.0,
    many_times: bool = False,
) -> Judgements:
    """Workers with tastes of their own: a normal deviation, of the given size, from every model's strength."""
    worker = np.repeat(np.arange(workers), each)
    first = rng.integers(0, 4, workers if many_times else len(worker))
    step = rng.integers(1, 4, len(first))
    left, right = first, (first + step) % 4
    if many_times:  # a worker judges one pair again and again
        left, right = left[worker], right[worker]
    tastes = rng.normal(0, taste, (workers, 4))
    utility = STRENGTHS + tastes
    gap = utility[worker, left] - utility[worker, right]
    return Judgements(list(MODELS), left, right, draw(rng, gap, tie), worker)


# --- by hand ---


def test_two_models_without_ties_have_the_log_of_their_odds() -> None:
    found = ranking.fit(judged(*[("a", "b", LEFT)] * 6, *[("b", "a", LEFT)] * 2, models="ab"))
    assert found is not None
    assert found.strength[0] - found.strength[1] == pytest.approx(math.log(6 / 2))
    assert found.strength.sum() == pytest.approx(0)
    assert found.tie == -math.inf


def test_two_models_with_ties_have_davidsons_closed_form() -> None:
    # 8 wins of a, 2 of b, 6 ties: beta_a - beta_b = ln(8/2), nu = 6 / sqrt(8 * 2).
    entries = [("a", "b", LEFT)] * 8 + [("a", "b", RIGHT)] * 2 + [("b", "a", EVEN)] * 6
    found = ranking.fit(judged(*entries, models="ab"))
    assert found is not None
    assert found.strength[0] - found.strength[1] == pytest.approx(math.log(4))
    assert found.tie == pytest.approx(math.log(6 / math.sqrt(16)))


def test_the_error_of_one_judgement_a_worker_is_that_of_independent_judgements() -> None:
    # Odds of 12 to 6: the inverse of the information is 1/12 + 1/6, and the factor for 18 workers 18/17.
    entries = [("a", "b", LEFT)] * 12 + [("a", "b", RIGHT)] * 6
    found = ranking.fit(judged(*entries, models="ab", workers=18))
    assert found is not None
    gap = found.covariance[0, 0] + found.covariance[1, 1] - 2 * found.covariance[0, 1]
    assert gap == pytest.approx((1 / 12 + 1 / 6) * 18 / 17)


def test_judgements_that_are_repeated_by_their_worker_add_no_certainty() -> None:
    once = [("a", "b", LEFT)] * 12 + [("a", "b", RIGHT)] * 6
    single = judged(*once, models="ab", workers=18)
    tenfold = Judgements(
        single.models, *(np.tile(column, 10) for column in (single.left, single.right, single.outcome, single.worker))
    )
    one, ten = ranking.fit(single), ranking.fit(tenfold)
    assert one is not None
    assert ten is not None
    np.testing.assert_allclose(one.se, ten.se)


# --- edges ---


@pytest.mark.parametrize(
    ("entries", "models", "part"),
    [
        ([("a", "a", LEFT), ("b", "b", RIGHT)], "ab", "No judgement compares two models"),
        ([("a", "b", EVEN), ("b", "c", EVEN)], "abc", "All judgements are ties"),
        ([("a", "b", LEFT), ("b", "a", LEFT)], "abc", "Nobody has compared c with another model"),
        (
            [("a", "b", LEFT), ("b", "a", LEFT), ("c", "d", LEFT), ("d", "c", LEFT)],
            "abcd",
            "No judgement connects a and b with c and d",
        ),
        (
            [("a", "b", LEFT), ("b", "c", LEFT), ("c", "b", LEFT)],
            "abc",
            "a never lost to, or tied with, the other models",
        ),
        ([("a", "b", LEFT)], "ab", "a never lost to, or tied with, the other,"),
        # Nobody outside beats a or b, though each of them has lost.
        (
            [
                ("a", "b", LEFT),
                ("b", "a", LEFT),
                ("a", "c", LEFT),
                ("d", "b", RIGHT),
                ("c", "d", LEFT),
                ("d", "c", LEFT),
            ],
            "abcd",
            "a and b never lost to, or tied with, the other models",
        ),
    ],
)
def test_a_sentence_stands_where_there_is_no_finite_strength(
    entries: list[tuple[str, str, int]], models: str, part: str
) -> None:
    found = judged(*entries, models=models)
    assert part in (ranking.why_not(found) or "")
    assert ranking.fit(found) is None


def test_a_tie_connects_models_in_both_directions() -> None:
    entries = [("a", "b", LEFT), ("b", "a", EVEN), ("b", "c", LEFT), ("c", "b", LEFT)]
    assert ranking.why_not(judged(*entries, models="abc")) is None


@pytest.mark.parametrize("more", [1, 500])
def test_a_model_that_won_and_tied_and_never_lost_has_no_finite_strength(more: int) -> None:
    """The likelihood of wins and ties alone grows with the distance and the share of ties, to no maximum."""
    found = judged(*[("a", "b", LEFT), ("b", "a", EVEN)] * more, models="ab")
    assert ranking.why_not(found) is None and ranking.fit(found) is None
    assert ranking.why_no_fit(found) == (
        "a never lost, so the strengths have no finite estimate; more judgements are needed."
    )


def test_one_worker_gives_strengths_without_intervals() -> None:
    found = ranking.fit(judged(("a", "b", LEFT), ("a", "b", LEFT), ("b", "a", LEFT), models="ab", workers=1))
    assert found is not None
    assert np.isfinite(found.strength).all()
    assert np.isnan(found.se).all()
    low, high = ranking.t_interval(found.strength, found.se, found.workers, 0.95)
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert ranking.rank_intervals(found, 0.95)[1].tolist() == [2, 2]
    assert np.isnan(
        ranking.resample(
            judged(("a", "b", LEFT), ("b", "a", LEFT), models="ab", workers=1), np.random.default_rng(0), 10
        ).strength
    ).all()


def test_a_covariate_that_tells_every_winner_has_no_finite_effect() -> None:
    entries = [("a", "b", LEFT), ("b", "a", LEFT), ("a", "b", RIGHT), ("b", "a", RIGHT)]
    perfect = np.array([[1.0], [2.0], [-1.0], [-2.0]])
    assert ranking.fit(judged(*entries, models="ab"), perfect) is None


def test_models_that_are_far_apart_have_ranks_for_certain() -> None:
    rng = np.random.default_rng(5)
    found = ranking.fit(simulate(rng, 200, 12))
    assert found is not None
    low, high = ranking.rank_intervals(found, 0.95)
    assert low.tolist() == [1, 2, 3, 4]
    assert high.tolist() == [1, 2, 3, 4]


def test_models_that_are_alike_share_all_ranks() -> None:
    rng = np.random.default_rng(6)
    left = rng.integers(0, 4, 400)
    alike = Judgements(list(MODELS), left, (left + 1) % 4, rng.integers(0, 3, 400), np.arange(400) % 40)
    found = ranking.fit(alike)
    assert found is not None
    low, high = ranking.rank_intervals(found, 0.95)
    assert low.tolist() == [1, 1, 1, 1]
    assert high.tolist() == [4, 4, 4, 4]


# --- against another implementation ---


@pytest.mark.parametrize("seed", range(5))
def test_strengths_without_ties_are_those_of_choix(seed: int) -> None:
    found = simulate(np.random.default_rng(seed), 40, 12)
    pairs = [
        (left, right) if outcome == LEFT else (right, left)
        for left, right, outcome in zip(found.left, found.right, found.outcome, strict=True)
    ]
    theirs = choix.opt_pairwise(4, pairs, tol=1e-13)
    own = ranking.fit(found)
    assert own is not None
    np.testing.assert_allclose(own.strength, theirs - theirs.mean(), atol=1e-6)


# --- simulations ---

RUNS = 400
"""Whose intervals for four models each are counted: the standard error of a coverage of 95 % is then below 1 point."""


def limit(rng: np.random.Generator, tie: float, taste: float, many_times: bool) -> np.ndarray:
    """What the strengths tend to with ever more workers: tastes that differ bring them closer together."""
    found = ranking.fit(simulate(rng, 100_000, 4, tie, taste, many_times))
    assert found is not None
    return found.strength


@pytest.mark.slow
@pytest.mark.parametrize(("tie", "taste", "many_times"), [(NO_TIES, 0.0, False), (-0.5, 1.0, True)])
def test_intervals_cover_as_often_as_they_say(tie: float, taste: float, many_times: bool) -> None:
    """Per-vote intervals, which take a worker's judgements for independent, do not where workers have tastes."""
    rng = np.random.default_rng(20261128)
    truth = limit(rng, tie, taste, many_times)
    covered = {"sandwich": 0.0, "bootstrap": 0.0, "per vote": 0.0}
    for _ in range(RUNS):
        found = simulate(rng, 60, 10, tie, taste, many_times)
        own = ranking.fit(found)
        votes = ranking.fit(Judgements(found.models, found.left, found.right, found.outcome, np.arange(len(found))))
        assert own is not None
        assert votes is not None
        intervals = {
            "sandwich": ranking.t_interval(own.strength, own.se, own.workers, 0.95),
            "per vote": ranking.t_interval(votes.strength, votes.se, votes.workers, 0.95),
            "bootstrap": ranking.resample(found, rng, 300).interval(own.strength, 0.95),
        }
        for name, (low, high) in intervals.items():
            covered[name] += float(np.mean((low <= truth) & (truth <= high)))  # of all four models
    print(f"coverage, ties {tie}, taste {taste}: {covered}")
    assert 0.93 <= covered["sandwich"] / RUNS <= 0.97
    assert 0.93 <= covered["bootstrap"] / RUNS <= 0.97
    assert (covered["per vote"] / RUNS < 0.85) == many_times


def test_length_control_recovers_a_planted_bias_and_the_strengths() -> None:
    rng = np.random.default_rng(8)
    found = simulate(rng, 2_000, 10)
    # Strong models write longer replies, and a doubling adds 0.5 to the log odds whoever wrote it.
    longer = STRENGTHS[found.left] - STRENGTHS[found.right] + rng.normal(0, 1, len(found))
    gap = STRENGTHS[found.left] - STRENGTHS[found.right] + 0.5 * longer
    biased = Judgements(found.models, found.left, found.right, draw(rng, gap, -0.5), found.worker)
    naive, controlled = ranking.fit(biased), ranking.fit(biased, longer[:, None])
    assert naive is not None
    assert controlled is not None
    assert controlled.effects[0] == pytest.approx(0.5, abs=3 * controlled.effects_se[0])
    np.testing.assert_allclose(controlled.strength, STRENGTHS, atol=0.08)
    assert naive.strength[0] > STRENGTHS[0] + 0.15


def test_a_planted_bias_of_the_left_side_is_found() -> None:
    rng = np.random.default_rng(9)
    found = simulate(rng, 500, 10)
    gap = STRENGTHS[found.left] - STRENGTHS[found.right] + 0.4
    biased = Judgements(found.models, found.left, found.right, draw(rng, gap, -0.5), found.worker)
    fitted = ranking.fit(biased, np.ones((len(biased), 1)))
    assert fitted is not None
    assert fitted.effects[0] == pytest.approx(0.4, abs=3 * fitted.effects_se[0])
    assert fitted.effects[0] / fitted.effects_se[0] > 4


def test_resamples_without_a_finite_maximum_leave_no_interval() -> None:
    """One worker alone has ever preferred b: more than a third of the resamples lack them."""
    entries = [("a", "b", LEFT)] * 9 + [("a", "b", RIGHT)]
    found = judged(*entries, models="ab", workers=10)
    resampled = ranking.resample(found, np.random.default_rng(1), 500)
    lost = np.isnan(resampled.strength).any(1).mean()
    assert 0.25 < lost < 0.45  # (9/10)^10 = 0.349
    low, _ = resampled.interval(np.zeros(2), 0.95)
    assert np.isnan(low).all()


@pytest.mark.parametrize("scale", [0.1, 1.0, 2.0, 5.0, 20.0])
def test_a_covariate_that_tells_winners_from_losers_without_fault_has_no_effect_of_a_size(scale: float) -> None:
    """The likelihood grows for ever, whatever unit the covariate is in."""
    rng = np.random.default_rng(3)
    found = simulate(rng, 40, 5)
    decided = found.where(found.outcome != EVEN)
    gap = np.where(decided.outcome == LEFT, 1.0, -1.0) * scale * (1 + rng.random(len(decided)))
    assert ranking.fit(decided) is not None
    assert ranking.fit(decided, gap[:, None]) is None


def test_a_resample_that_leaves_out_what_it_finds_impossible_gives_no_warning() -> None:
    """Where a judgement is not drawn, its probability may become 0, whose logarithm is infinite."""
    ends = ("ca2", "ac1", "ba0", "ab0", "bc0", "ad0", "cd1", "ac0")
    found = judged(*[(end[0], end[1], int(end[2])) for end in ends], workers=3)
    resampled = ranking.resample(found, np.random.default_rng(0), 50)
    assert np.isfinite(resampled.strength).all(axis=1).any()

"""Results per cell and main effects: counted by hand, through the command and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from model_chat.analysis import compile_results
from model_chat.analysis.conditions import _Design

from .conftest import make_conversation, saver

Chat = tuple[str, dict[str, str] | None, int]
Compile = Callable[..., dict[str, Any]]


def of(model: str, prompt: str) -> dict[str, str]:
    return {"model": model, "prompt": prompt}


@pytest.fixture
def compile_all(tmp_path: Path) -> Compile:
    """Save conversations (worker, conditions, rating) and compile; return the statistics file and the report's text."""

    def run(*chats: Chat) -> dict[str, Any]:
        write = saver(tmp_path)
        for number, (worker, conditions, rating) in enumerate(chats):
            said = [f"this has {number} five plain words"]
            model = (conditions or {}).get("model", "a")
            more: dict[str, Any] = {} if conditions is None else {"conditions": conditions}
            write(make_conversation(model, worker, f"h{number}", said=said, rating=str(rating), **more))
        out = tmp_path / "out"
        folders = ["--results-folders", str(tmp_path / "results"), "--output-folder", str(out)]
        boxes = ["--problem-buckets", "rude,odd,none_all_good"]
        assert compile_results.main([*folders, *boxes, "--bootstrap", "200", "--permutations", "99"]) == 0
        (path,) = out.glob("statistics_*.json")
        found: dict[str, Any] = json.loads(path.read_text())
        found["report"] = next(out.glob("report_*.html")).read_text()
        found["files"] = {entry.name.rsplit("_", 2)[0] for entry in out.iterdir() if entry.is_file()}
        return found

    return run


def rows(found: dict[str, Any], table: str, **wanted: str) -> list[dict[str, Any]]:
    wanted = {"metric": "final_rating", **wanted}
    return [row for row in found[table] if all(row[key] == value for key, value in wanted.items())]


MIXED: tuple[Chat, ...] = (
    ("w1", of("a", "warm"), 5),
    ("w1", of("a", "cool"), 3),
    ("w2", of("a", "warm"), 4),
    ("w2", of("a", "cool"), 4),
    ("w3", of("b", "warm"), 3),
    ("w3", of("b", "cool"), 1),
    ("w4", of("b", "warm"), 2),
)


FLOW = """
pages:
  - {id: before, kind: questions, items: [{id: age, kind: number, question: A, min: 1, max: 99}]}
  - {id: chat, kind: chat, every_reply: [{id: trust, kind: scale, question: T, points: 7}]}
  - id: after
    kind: questions
    items:
      - {id: warmth, kind: slider, question: W}
      - {id: mattered, kind: choice, question: M, options: [tone, facts]}
"""


def test_items_are_estimated_per_cell_and_factor_as_by_hand(tmp_path: Path) -> None:
    write = saver(tmp_path)
    warmths = {("w1", "warm"): 90, ("w1", "cool"): 50, ("w2", "warm"): 70, ("w2", "cool"): 60, ("w3", "warm"): 80}
    for number, ((worker, prompt), warmth) in enumerate(warmths.items()):
        chat = make_conversation("a", worker, f"h{number}", conditions=of("a", prompt))
        chat["task_description"]["study_flow"] = FLOW
        given = [("before", "age", 30, None), ("chat", "trust", 7, 1), ("after", "warmth", warmth, None)]
        given.append(("after", "mattered", "tone" if prompt == "warm" else "facts", None))
        names = ("page", "item", "value", "utterance_idx")
        chat["answers"] = [dict(zip(names, answer, strict=True), timestamp=1.0) for answer in given]
        write(chat)
    out = tmp_path / "out"
    folders = ["--results-folders", str(tmp_path / "results"), "--output-folder", str(out)]
    assert compile_results.main([*folders, "--bootstrap", "200", "--permutations", "99"]) == 0
    found = json.loads(next(out.glob("statistics_*.json")).read_text())

    cells = {row["factor_prompt"]: row for row in rows(found, "conditions", metric="item warmth")}
    assert {prompt: (row["value"], row["conversations"]) for prompt, row in cells.items()} == {
        "warm": (80, 3),
        "cool": (55, 2),
    }
    assert cells["warm"]["low"] > 5  # the bounds are those of the item, not of ratings
    (effect,) = rows(found, "effects", metric="item warmth", factor="prompt")
    assert (effect["kind"], effect["value"]) == ("within", pytest.approx(25))
    shares = {row["factor_prompt"]: row["value"] for row in rows(found, "conditions", metric="item mattered: tone")}
    assert shares == {"warm": 1, "cool": 0}
    assert {row["value"] for row in rows(found, "conditions", metric="item trust")} == {7}
    assert rows(found, "conditions", metric="item age") == []  # asked before the chat, which no condition has changed
    assert "<h3>Item warmth</h3>" in next(out.glob("report_*.html")).read_text()


def test_cells_and_main_effects_are_as_by_hand(compile_all: Compile) -> None:
    found = compile_all(*MIXED)

    cells = {(row["factor_model"], row["factor_prompt"]): row for row in rows(found, "conditions")}
    assert {key: (row["value"], row["conversations"], row["workers"]) for key, row in cells.items()} == {
        ("a", "cool"): (3.5, 2, 2),
        ("a", "warm"): (4.5, 2, 2),
        ("b", "cool"): (1.0, 1, 1),
        ("b", "warm"): (2.5, 2, 2),
    }
    (prompt,) = rows(found, "effects", factor="prompt")
    assert (prompt["kind"], prompt["level_a"], prompt["level_b"]) == ("within", "warm", "cool")
    assert prompt["value"] == pytest.approx(((4.5 - 3.5) + (2.5 - 1)) / 2)
    # Each worker's part: half the distance from each cell's mean, over the cell's conversations; cool has the other sign.
    parts = [0.5 * 0.5 / 2 - 0.5 * -0.5 / 2, 0.5 * -0.5 / 2 - 0.5 * 0.5 / 2, 0.5 * 0.5 / 2, 0.5 * -0.5 / 2]
    se = math.sqrt(4 / (4 - 2) * sum(part**2 for part in parts))  # the workers of each model are a group
    assert prompt["se"] == pytest.approx(se)
    assert prompt["high"] == pytest.approx(1.25 + special.stdtrit(2, 0.975) * se)
    assert prompt["p"] == pytest.approx(2 * special.stdtr(2, -1.25 / se))
    (model,) = rows(found, "effects", factor="model")
    assert (model["kind"], model["level_a"], model["level_b"]) == ("between", "b", "a")
    assert model["value"] == pytest.approx(-((4.5 - 2.5) + (3.5 - 1)) / 2)
    assert model["workers"] == 4


def test_each_combination_weighs_alike_however_many_conversations_it_has(compile_all: Compile) -> None:
    many: list[Chat] = [(f"x{number}", of("a", "warm"), 5) for number in range(9)]
    found = compile_all(
        *many,
        ("y1", of("b", "warm"), 4),
        ("y2", of("a", "cool"), 1),
        ("y3", of("b", "cool"), 2),
    )

    (effect,) = rows(found, "effects", factor="model")
    assert effect["value"] == pytest.approx(0.0)


def test_a_combination_without_both_levels_is_left_out(compile_all: Compile) -> None:
    found = compile_all(
        ("w1", of("a", "warm"), 5), ("w2", of("b", "warm"), 3), ("w3", of("a", "cool"), 1), ("w4", of("c", "hot"), 1)
    )

    effects = {(row["level_a"], row["level_b"]): row for row in rows(found, "effects", factor="model")}
    assert set(effects) == {("b", "a")}
    assert effects["b", "a"]["value"] == -2
    assert effects["b", "a"]["conversations"] == 2


def test_levels_that_are_numbers_are_in_order_of_size(compile_all: Compile) -> None:
    found = compile_all(*((f"w{turns}", {"num_turns": str(turns)}, turns % 5 + 1) for turns in (10, 9, 2)))

    assert [row["factor_num_turns"] for row in rows(found, "conditions")] == ["2", "9", "10"]


def test_the_report_has_a_section_and_both_tables_a_file(compile_all: Compile) -> None:
    found = compile_all(*MIXED, ("w9", None, 5))

    assert {"conditions", "effects"} <= found["files"]
    assert '<h2 id="conditions">Conditions</h2>' in found["report"]
    assert "warm − cool" in found["report"]
    assert any("1 conversations have no conditions" in remark for remark in found["remarks"])


def test_without_conditions_nothing_is_added(compile_all: Compile) -> None:
    found = compile_all(("w1", None, 5), ("w2", None, 3))

    assert not {"conditions", "effects"} & (found.keys() | found["files"])
    assert 'id="conditions"' not in found["report"]


class Ratings:
    """One rating a conversation, as a metric."""

    name, kind = "final_rating", "rating"

    def __init__(self, sums: Any) -> None:
        self.sums, self.totals = np.asarray(sums, dtype=float), np.ones(len(sums))


def one_factor(cell: list[int], worker: list[int], ratings: list[float]) -> dict[str, Any]:
    """The effect of a factor with two levels."""
    design = _Design(
        ("f",), {"f": ["x", "y"]}, [("x",), ("y",)], np.array(cell), np.ones(len(cell), dtype=bool), np.array(worker)
    )
    (row,) = design.effect_rows(Ratings(ratings), 0.95)  # type: ignore[arg-type]  # as far as it is asked
    return row


def test_two_levels_that_each_worker_saw_give_the_paired_t_test() -> None:
    first, second = [1.0, 4.0, 2.0, 5.0], [3.0, 4.0, 5.0, 4.0]

    row = one_factor([0] * 4 + [1] * 4, [0, 1, 2, 3] * 2, first + second)

    expected = stats.ttest_rel(second, first)
    assert (row["kind"], row["p"]) == ("within", pytest.approx(expected.pvalue))
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval()))


def test_two_groups_of_workers_of_one_size_give_the_t_test() -> None:
    first, second = [1.0, 4.0, 2.0, 5.0], [3.0, 4.0, 5.0, 4.0]

    row = one_factor([0] * 4 + [1] * 4, list(range(8)), first + second)

    expected = stats.ttest_ind(second, first)
    assert (row["kind"], row["p"]) == ("between", pytest.approx(expected.pvalue))


def test_one_worker_a_level_gives_no_interval() -> None:
    row = one_factor([0, 1], [0, 1], [1.0, 3.0])

    assert row["value"] == 2
    assert math.isnan(row["se"])
    assert math.isnan(row["p"])


@pytest.mark.parametrize("workers", [8, 40])
def test_intervals_hold_their_level_between_and_within_workers(workers: int) -> None:
    """The interval of an effect that is 0 contains 0 in about 95 of 100 studies of workers who differ."""
    rng = np.random.default_rng(4)
    studies = 400
    worker = np.repeat(np.arange(workers), 4)
    cell = np.array([2 * (number % 2) + at % 2 for number in range(workers) for at in range(4)])
    design = _Design(
        ("between", "within"),
        {"between": ["x", "y"], "within": ["u", "v"]},
        [("x", "u"), ("x", "v"), ("y", "u"), ("y", "v")],
        cell,
        np.ones(len(cell), dtype=bool),
        worker,
    )
    held = {"between": 0, "within": 0}
    for _ in range(studies):
        values = rng.normal(size=workers)[worker] + rng.normal(size=len(worker))
        for row in design.effect_rows(Ratings(values), 0.95):  # type: ignore[arg-type]  # as far as it is asked
            held[str(row["factor"])] += bool(row["low"] <= 0 <= row["high"])  # type: ignore[operator]  # they are numbers

    assert all(0.92 <= count / studies <= 0.98 for count in held.values()), held


# --- interactions ---


def test_an_interaction_is_the_difference_of_two_differences_as_by_hand(compile_all: Compile) -> None:
    found = compile_all(*MIXED)

    (row,) = rows(found, "interactions")
    assert (row["factor_a"], row["factor_b"], row["kind"]) == ("model", "prompt", "mixed")
    assert [row[f"level_{key}"] for key in ("a1", "a2", "b1", "b2")] == ["b", "a", "warm", "cool"]
    assert row["value"] == pytest.approx((2.5 - 4.5) - (1.0 - 3.5))
    # Each worker's part: the distance from each cell's mean, over the cell's conversations, with the sign of the cell.
    parts = [-0.5 / 2 + -0.5 / 2, 0.5 / 2 + 0.5 / 2, 0.5 / 2, -0.5 / 2]
    se = math.sqrt(4 / (4 - 2) * sum(part**2 for part in parts))
    assert row["se"] == pytest.approx(se)
    assert row["low"] == pytest.approx(0.5 - special.stdtrit(2, 0.975) * se)
    assert row["p"] == row["p_holm"] == pytest.approx(2 * special.stdtr(2, -0.5 / se))
    assert (row["workers"], row["conversations"]) == (4, 7)
    assert "(b − a) at warm, less at cool" in found["report"]
    assert "interactions" in found["files"]


def test_without_all_four_cells_there_is_no_interaction(compile_all: Compile) -> None:
    found = compile_all(("w1", of("a", "warm"), 5), ("w2", of("b", "warm"), 3), ("w3", of("a", "cool"), 1))

    assert rows(found, "interactions") == []


def test_the_mean_is_over_the_combinations_of_the_remaining_factors() -> None:
    cells = [(x, y, z) for x in "ab" for y in "cd" for z in "ef"]
    levels = {"x": ["a", "b"], "y": ["c", "d"], "z": ["e", "f"]}
    cell = np.repeat(np.arange(8), 2)
    design = _Design(("x", "y", "z"), levels, cells, cell, np.ones(16, dtype=bool), np.arange(16))
    # x and y interact by 2 where z is e, and by 4 where it is f; nothing else does anything.
    planted = [{"e": 2.0, "f": 4.0}[z] * (x == "b") * (y == "d") for x, y, z in cells]

    found = design.interaction_rows(Ratings(np.array(planted)[cell]), 0.95)  # type: ignore[arg-type]  # as far as it is asked

    values = {(row["factor_a"], row["factor_b"]): row["value"] for row in found}
    assert values == {("x", "y"): 3.0, ("x", "z"): 1.0, ("y", "z"): 1.0}


def test_two_factors_within_every_worker_give_the_t_test_of_the_differences_of_differences() -> None:
    rng = np.random.default_rng(3)
    ratings = rng.normal(size=(12, 4))
    levels = {"f": ["u", "v"], "g": ["x", "y"]}
    design = _Design(
        ("f", "g"),
        levels,
        [("u", "x"), ("u", "y"), ("v", "x"), ("v", "y")],
        np.tile(np.arange(4), 12),
        np.ones(48, dtype=bool),
        np.repeat(np.arange(12), 4),
    )

    (row,) = design.interaction_rows(Ratings(ratings.ravel()), 0.95)  # type: ignore[arg-type]  # as far as it is asked

    expected = stats.ttest_1samp(ratings @ [1, -1, -1, 1], 0)
    assert (row["kind"], row["p"]) == ("within", pytest.approx(expected.pvalue))
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval()))


@pytest.mark.parametrize("planted", [0.0, 0.7])
def test_intervals_of_interactions_hold_what_was_planted(planted: float) -> None:
    """In about 95 of 100 studies of workers who differ, between one factor and within the other."""
    rng = np.random.default_rng(5)
    studies, workers = 400, 24
    worker = np.repeat(np.arange(workers), 4)
    cell = np.array([2 * (number % 2) + at % 2 for number in range(workers) for at in range(4)])
    cells = [("x", "u"), ("x", "v"), ("y", "u"), ("y", "v")]
    levels = {"f": ["x", "y"], "g": ["u", "v"]}
    design = _Design(("f", "g"), levels, cells, cell, np.ones(len(cell), dtype=bool), worker)
    held = 0
    for _ in range(studies):
        # Workers differ, and each by how much the second factor moves them: what errors by conversation would miss.
        moved = rng.normal(size=workers)[worker] * (cell % 2)
        values = rng.normal(size=workers)[worker] + moved + rng.normal(size=len(worker)) + planted * (cell == 3)
        (row,) = design.interaction_rows(Ratings(values), 0.95)  # type: ignore[arg-type]  # as far as it is asked
        held += bool(row["low"] <= planted <= row["high"])  # type: ignore[operator]  # they are numbers

    assert 0.92 <= held / studies <= 0.98


def test_many_levels_are_left_out_with_a_remark() -> None:
    names = [str(number) for number in range(6)]
    cells = [(x, y) for x in names for y in names]
    design = _Design(("f", "g"), {"f": names, "g": names}, cells, np.arange(36), np.ones(36, dtype=bool), np.arange(36))

    assert design.interaction_rows(Ratings(range(36)), 0.95) == []  # type: ignore[arg-type]  # as far as it is asked
    assert design.remarks() == ["The interaction of f and g is left out: more than 100 differences of differences."]


# --- comparisons ---


def judged(
    worker: str, prompt: str, *picks: str, pair: str = "a|b"
) -> tuple[str, dict[str, str], list[dict[str, Any]]]:
    """A conversation in which the first model of the pair was always on the right."""
    second, first = reversed(pair.split("|"))
    entries = [
        {
            "turn_idx": turn,
            "question": None,
            "left": {"model_nickname": second, "text": "One."},
            "right": {"model_nickname": first, "text": "Two."},
            "pick": pick,
            "continued_with": "left",
        }
        for turn, pick in enumerate(picks)
    ]
    return worker, {"model": pair, "prompt": prompt}, entries


def test_each_pair_has_its_win_rate_per_cell_and_no_effect_across_pairs(tmp_path: Path) -> None:
    write = saver(tmp_path)
    chats = [
        judged("w1", "warm", "right", "tie"),
        judged("w1", "cool", "left", "left"),
        judged("w2", "warm", "right", "right"),
        judged("w2", "cool", "both_bad", "left"),
        judged("w3", "warm", "right", "left", pair="a|c"),
        judged("w3", "cool", "right", "right", pair="a|c"),
    ]
    for number, (worker, conditions, entries) in enumerate(chats):
        chat = make_conversation(
            conditions["model"], worker, f"h{number}", said=[f"this has {number} plain words"], rating=None
        )
        write({**chat, "conditions": conditions, "comparisons": entries})
    out = tmp_path / "out"
    folders = ["--results-folders", str(tmp_path / "results"), "--output-folder", str(out)]
    few = ["--problem-buckets", "none", "--bootstrap", "200", "--permutations", "99", "--min-word-count", "0"]
    assert compile_results.main([*folders, *few]) == 0
    found: dict[str, Any] = json.loads(next(out.glob("statistics_*.json")).read_text())
    report = next(out.glob("report_*.html")).read_text()

    cells = {(row["metric"], row["factor_model"], row["factor_prompt"]): row["value"] for row in found["conditions"]}
    assert cells == {
        ("win_rate a|b", "a|b", "warm"): (1 + 0.5 + 2) / 4,
        ("win_rate a|b", "a|b", "cool"): 0.5 / 4,
        ("win_rate a|c", "a|c", "warm"): 0.5,
        ("win_rate a|c", "a|c", "cool"): 1.0,
    }
    effects = {(row["metric"], row["factor"]): row["value"] for row in found["effects"]}
    assert effects == {("win_rate a|b", "prompt"): 0.75, ("win_rate a|c", "prompt"): -0.5}
    assert found["interactions"] == []
    assert "Win rate a|b" in report

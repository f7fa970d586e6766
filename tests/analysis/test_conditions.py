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

"""Results per cell and main effects: counted by hand, through the command and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from model_chat.analysis import compile_results

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
            more = {} if conditions is None else {"conditions": conditions}
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
    se = math.sqrt(4 / 3 * sum(part**2 for part in parts))
    assert prompt["se"] == pytest.approx(se)
    assert prompt["high"] == pytest.approx(1.25 + special.stdtrit(3, 0.975) * se)
    assert prompt["p"] == pytest.approx(2 * special.stdtr(3, -1.25 / se))
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


def test_intervals_hold_their_level_between_and_within_workers() -> None:
    """The interval of an effect that is 0 contains 0 in about 95 of 100 studies of workers who differ."""
    from model_chat.analysis.conditions import _Design

    class Ratings:
        name, kind = "final_rating", "rating"

        def __init__(self, sums: Any) -> None:
            self.sums, self.totals = sums, np.ones(len(sums))

    rng = np.random.default_rng(4)
    workers, studies = 40, 400
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
        for row in design.effect_rows(Ratings(values), 0.95):  # type: ignore[arg-type]
            held[str(row["factor"])] += bool(row["low"] <= 0 <= row["high"])  # type: ignore[operator]

    assert all(0.92 <= count / studies <= 0.98 for count in held.values()), held

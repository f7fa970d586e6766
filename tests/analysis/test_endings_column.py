"""What panels' participants were told is a column of the results, where there are such."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from model_chat.analysis.compile_results import main

SAVED = {
    "dialog": [
        {"agent_idx": 0, "text": "I like to walk in the hills.", "id": "Speaker 1"},
        {"agent_idx": 1, "text": "So do I.", "id": "Speaker 2", "final_rating": "4"},
    ],
    "workers": ["p1"],
    "hit_ids": ["1"],
    "assignment_ids": ["1"],
    "task_description": {"model_nickname": "m"},
    "status": "complete",
}


@pytest.mark.parametrize(
    ("participation", "values"),
    [
        ({"provider": "prolific", "participant": "p1", "ending": "complete", "code": "C"}, ["complete"] * 3),
        ({"provider": "mock", "participant": "p1", "ending": "complete", "code": None}, None),
        ({"provider": "prolific", "participant": "p1", "ending": None, "code": None}, None),
        ("damaged", None),
        (None, None),
    ],
)
def test_the_ending_is_a_column_where_a_panel_was_told_one(
    tmp_path: Path, participation: object, values: list[str] | None
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/chat.json").write_text(json.dumps({**SAVED, "participation": participation}), encoding="utf-8")
    arguments = ["--results-folders", str(tmp_path / "in"), "--output-folder", str(tmp_path / "out")]
    main([*arguments, "--problem-buckets", ""])
    with next((tmp_path / "out").glob("results_*.csv")).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row.get("ending") for row in rows] == (values or [None] * 3)

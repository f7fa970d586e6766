"""Files: whole or not there, formulas made harmless, LaTeX that prints what was said."""

from __future__ import annotations

import csv
import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.analysis.latex import escape, number, p_value, with_interval
from model_chat.analysis.output import write_statistics
from model_chat.records.writing import whole_file

FORMULAS = [
    "=cmd|' /C calc'!A0 and more words",
    "+1 and a few more words",
    "-2 and a few more words",
    "@SUM(1) and two more words",
]


def texts(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file) if row["turn_idx"] != "-1" and row["agent_idx"] == "0"]


def test_formulas_are_guarded_in_csv_and_counted(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    said = [*FORMULAS, "not = a + formula -really", "\tafter a tab come words"]
    save(make(worker="=evil()", labels=[[]] * len(said), said=said))
    files = compiler().compile_and_save_results()
    assert texts(files["results"]) == [*("'" + text for text in FORMULAS), said[4], "'" + said[5]]
    with files["worker_results"].open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["worker_id"] == "'=evil()"
    assert json.loads(files["statistics"].read_text())["texts_guarded_in_csv"] == 5 + 13  # a worker id on every row


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_without_annotation_every_table_is_written_with_problems_left_empty(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], kind: str
) -> None:
    save(make(worker="w", labels=[[], []]))
    files = compiler(problem_buckets="none", results_format=kind).compile_and_save_results()
    assert all(path.exists() for path in files.values())
    if kind == "json":
        (row,) = json.loads(files["worker_results"].read_text(encoding="utf-8"))
        assert (row["worker_id"], row["conversations"], row["problems_found"]) == ("w", 1, None)


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_of_any_csv_is_a_formula_whatever_is_called_so(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], mark: str
) -> None:
    evil = f"{mark}1+cmd|' /C calc'!A0"
    for index in range(4):
        chat = make(model=evil, worker=f"{evil}{index // 2}", hit=evil, labels=[[], []], said=[evil * 3, evil * 3])
        for line in chat["dialog"]:
            if "problem_data" in line:
                line["problem_data"] = {evil: index == 1, "none_all_good": index != 1}
        save(chat)
    save(make(model=evil, worker=evil, hit=evil, status="incomplete", reason=evil))
    files = compiler(problem_buckets=f"{evil},none_all_good").compile_and_save_results()
    tables = [path for path in files.values() if path.suffix == ".csv"]
    assert len(tables) == 14
    held = 0
    for path in tables:
        with path.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert [cell for cell in cells if cell.startswith(mark) and "cmd" in cell] == [], path.name
        held += sum(evil in cell for cell in cells)
    assert held > 50


def test_without_the_guard_and_in_json_texts_stay_as_they_are(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(labels=[[]] * 4, said=FORMULAS))
    assert texts(compiler(csv_guard=False).compile_and_save_results()["results"]) == FORMULAS
    rows = json.loads(compiler(results_format="json").compile_and_save_results()["results"].read_text(encoding="utf-8"))
    assert [row["text"] for row in rows if row["agent_idx"] == 0] == FORMULAS


def test_any_text_survives_csv(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    said = ['a "quoted, text" with\nlines and\r\nmore', "你好 😀 ", "semi;colon, comma, tab\tend"]
    save(make(labels=[[]] * 3, said=said))
    assert texts(compiler(min_word_count=0).compile_and_save_results()["results"]) == said


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with pytest.raises(RuntimeError), whole_file(path, private=False) as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with whole_file(path, private=False) as file:
        file.write(b"all")
    assert path.read_bytes() == b"all"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_second_run_replaces_nothing(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make())
    first, second = compiler().compile_and_save_results(), compiler().compile_and_save_results()
    assert first["results"] != second["results"] and first["results"].exists()


@given(st.text())
def test_latex_has_no_bare_special_characters(text: str) -> None:
    safe = escape(text)
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", r"\textless{}", r"\textgreater{}",
                    r"\textbar{}", r"\&", r"\%", r"\$", r"\#", r"\_", r"\{", r"\}", "{[}", "{*}", "-{}"):  # fmt: skip
        safe = safe.replace(command, "")
    assert not set(safe) & set("\\&%$#_{}~^[*") and not any(ord(character) < 32 for character in safe)


def test_latex_takes_no_text_for_an_option_of_the_row_or_for_a_dash() -> None:
    """A row's end and ``\\midrule`` take brackets and a star after them for their own."""
    assert escape("[beta] *new* a--b---c-d") == "{[}beta] {*}new{*} a-{}-b-{}-{}-c-d"
    assert escape("one\x0ctwo\tthree\x7f") == "one two three "


def test_latex_numbers() -> None:
    assert number(-0.126) == "$-0.13$" and number(3) == "3" and number(float("nan")) == "--"
    assert p_value(0.0004) == "$<0.001$" and p_value(0.04) == "0.040" and p_value(float("nan")) == "--"
    assert with_interval(0.25, 0.1, 0.4, 100, 1) == "25.0 [10.0, 40.0]"
    assert with_interval(0.25, float("nan"), float("nan")) == "0.25"


def test_latex_tables_hold_the_numbers(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(model="a_b%", worker="w1", labels=[["rude"]]))
    save(make(model="a_b%", worker="w2", rating="2"))
    save(make(model="c", worker="w1", rating="1"))
    tables = compiler().compile_and_save_results()["tables"]
    assert sorted(path.name for path in tables.iterdir()) == [
        "agreement.tex", "buckets.tex", "comparisons.tex", "models.tex", "ratings.tex",
    ]  # fmt: skip
    models = (tables / "models.tex").read_text()
    assert r"a\_b\% & 2 & 2 & 2 & 5.00 & 50.0 \\" in models
    assert models.count("{") == models.count("}")


def test_the_statistics_file_keeps_every_digit_and_says_how_small_p_can_be(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], tmp_path: Path
) -> None:
    table = pd.DataFrame(
        {
            "p": [1e-12, 2.2250738585072014e-308, math.nan, math.inf],
            "value": [0.1234567890123456789, -0.0, 1.0, 2.0],
            "count": pd.Series([1, None, 3, 2**53 + 1], dtype="Int64"),
            "name": ["ä", None, "b", "c"],
        }
    )
    write_statistics(tmp_path / "s.json", {"table": table}, {"whole": np.int64(3)})
    read = json.loads((tmp_path / "s.json").read_text())
    assert [row["p"] for row in read["table"]] == [1e-12, 2.2250738585072014e-308, None, None]
    assert read["table"][0] == {"p": 1e-12, "value": 0.12345678901234568, "count": 1, "name": "ä"}
    assert read["table"][1]["count"] is None and read["table"][1]["name"] is None
    assert read["table"][3]["count"] == 2**53 + 1 and read["whole"] == 3
    for turn in range(60):
        save(make(model="ab"[turn % 2], worker=f"w{turn}", rating="15"[turn % 2] if turn > 3 else "3"))
    files = compiler(permutations=99).compile_and_save_results()
    saved = json.loads(files["statistics"].read_text())
    assert (saved["permutations"], saved["smallest_p_by_permutation"]) == (99, 0.01)
    (row,) = (row for row in saved["comparisons"] if row["metric"] == "final_rating")
    assert row["p"] == 0.01 and row["test"] == "permutation"
    assert row["low"] < row["difference"] < row["high"] < 0

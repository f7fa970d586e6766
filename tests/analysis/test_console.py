"""What a run prints and its report shows of it, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.analysis.console import comparison_rows
from model_chat.analysis.report import _matrices


def test_workers_beyond_the_table_are_counted(
    make: Callable[..., Any],
    save: Callable[..., Path],
    compiler: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(12):
        save(make(worker=f"w{number:02}"))
    compiler().compile_and_save_results()
    printed = capsys.readouterr().out
    shown = sum(f"w{number:02}" in printed for number in range(12))
    assert 0 < shown < 12
    assert f"… and {12 - shown} more in the file." in printed


@pytest.fixture
def compared(make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]) -> Any:
    """Two models that differ in their rating and not in their boxes, by twenty workers."""
    for number in range(20):
        model = "ab"[number % 2]
        save(make(model, f"w{number}", f"h{number}", rating=str((1 if model == "a" else 4) + number // 2 % 2)))
    run = compiler(permutations=999)
    run.compile_results()
    return run.summary


def test_an_interval_that_nothing_is_rejected_for_is_a_dash(compared: Any) -> None:
    rows = {row[0]: row for row in comparison_rows(compared)}
    assert rows["final_rating"][3].count(" to ") == 1
    assert rows["rude"][3] == "–", "nothing varies"


def test_differences_are_shown_from_both_sides_and_marked_where_they_are_found(compared: Any) -> None:
    shown = {matrix["metric"]: dict(matrix["rows"]) for matrix in _matrices(compared, ["a", "b"])}
    p = compared.comparisons.set_index("metric")["p_holm"]
    for metric, found in (("final_rating", True), ("rude", False)):
        assert (p[metric] < 0.05) == found
        (_, forth), (back, _) = shown[metric]["a"], shown[metric]["b"]
        assert forth["found"] is back["found"] is found
        assert forth["p"] == back["p"] == p[metric]
        assert forth["difference"] == -back["difference"]
    assert math.isclose(shown["final_rating"]["a"][1]["difference"], -3)


def test_the_report_names_the_files_beside_it_and_draws_workers_who_can_be_compared(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(worker="w1", rating="2"))
    alone = compiler(report=True).compile_and_save_results()
    save(make(worker="w2", hit="h2", rating="4"))
    both = compiler(report=True).compile_and_save_results()
    text = both["report"].read_text(encoding="utf-8")
    line = text[text.index("Beside this report: ") :].split("</p>")[0]
    assert all(path.name in line for name, path in both.items() if name != "report")
    assert both["report"].name not in line
    assert text.count("<svg") > alone["report"].read_text(encoding="utf-8").count("<svg")


def test_progress_counts_every_file_once_whatever_becomes_of_it(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for number in range(5):
        save(make(worker=f"w{number}"))
    save("broken")
    save(make(worker="w6", hit="blocked"))
    said: list[tuple[int, int]] = []
    run = compiler(hit_block_list="blocked", processes=1)
    run.progress = lambda done, total: said.append((done, total))
    run.compile_results()
    assert said[-1] == (7, 7)
    assert said == sorted(said)


def test_a_file_of_another_run_type_is_left_out_with_its_own(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(worker="w1"), run_type="sandbox")
    save(make(worker="w2"), run_type="live")
    run = compiler(run_type="live")
    run.compile_results()
    (excluded,) = run.summary.data.corpus.excluded
    assert (excluded.reason, excluded.detail) == ("other_run_type", "sandbox")


def test_names_are_printed_on_their_line_without_terminal_sequences_or_markup(
    make: Callable[..., Any],
    save: Callable[..., Path],
    compiler: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(make(model="[bold]m\n1", worker="\x1b[2Jw\n1\x9b"))
    save(make(model="other", worker="w2"))
    compiler().compile_and_save_results()
    printed = capsys.readouterr().out
    assert "[bold]m 1" in printed and "\n [2Jw 1" in printed
    assert not any(ord(character) in (*range(32), *range(127, 160)) for character in printed.replace("\n", ""))
    assert "Note: Fewer than 10 workers talked to [bold]m 1, other: " in printed

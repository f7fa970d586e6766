"""The command as a user runs it: from the repository's root, as a script and as a module."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.analysis.compile_results import main
from model_chat.analysis.settings import add_flags
from model_chat.tests import preloaded

from .conftest import BUCKETS_FLAG

ROOT = Path(__file__).parents[2]
SCRIPT = ["analysis/compile_results.py"]
MODULE = ["-m", "model_chat.analysis.compile_results"]


def run(command: list[str], *arguments: str, start: Any = preloaded.run) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = start(
        [sys.executable, *command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=250
    )
    return done


@pytest.mark.parametrize("command", [SCRIPT, MODULE], ids=["script", "module"])
def test_it_runs_from_the_root(
    command: list[str], make: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save(make(worker="w1"))
    save(make(worker="w2", rating="2"))
    done = run(
        command,
        "--results-folders",
        str(folder),
        "--output-folder",
        str(tmp_path / "out"),
        "--problem-buckets",
        BUCKETS_FLAG,
        start=preloaded.run if command == MODULE else subprocess.run,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "2 conversations found, 2 counted, 0 left out." in done.stdout
    assert "\x1b" not in done.stdout  # no colours and no frames outside a terminal
    written = {re.sub(r"_\d{8}_\d{6}", "", path.name) for path in (tmp_path / "out").iterdir()}
    assert written == {
        "results.csv", "worker_results.csv", "model_results.csv", "estimates.csv", "ratings.csv", "comparisons.csv",
        "turns.csv", "agreement.csv", "majority_labels.csv", "adjudication.csv", "worker_quality.csv",
        "generations.csv", "mixed.csv",
        "excluded.csv", "statistics.json", "report.html", "tables",
    }  # fmt: skip
    assert (tmp_path / "out" / "tables" / "models.tex").exists()
    places = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert [path for path in places if path.stat().st_mode & 0o077] == [], (
        "results are for the requester's account alone"
    )


def test_as_a_script_the_standard_librarys_statistics_stays_what_it_is() -> None:
    code = (
        "import runpy, sys; sys.argv = ['analysis/compile_results.py', '--help']; sys.path.insert(0, 'analysis')\n"
        "try: runpy.run_path('analysis/compile_results.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "import statistics; print(statistics.__file__); print(statistics.median([1, 2, 3]))"
    )
    done = run(["-c", code], start=subprocess.run)
    assert done.returncode == 0, done.stderr
    place, median = done.stdout.splitlines()[-2:]
    assert median == "2" and "analysis" not in Path(place).parts


def test_wrong_flags_are_sentences_and_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = main(
        [
            "--results-folders",
            str(tmp_path / "no"),
            "--output-folder",
            str(tmp_path / "out"),
            "--problem-buckets",
            "none",
        ]
    )
    printed = capsys.readouterr()
    assert status == 2 and printed.out == ""
    assert printed.err == (
        f"--results-folders names '{tmp_path / 'no'}', which is not a folder; give folders that exist, "
        "separated by commas (one "
        "with a comma in its name in double quotes).\n"
    )


def test_help_is_complete_and_readable() -> None:
    done = run(SCRIPT, "--help")
    assert done.returncode == 0
    for flag in ("--results-folders", "--task-name", "--problem-buckets", "--filter-uniform-hits", "--dask-scheduler"):
        assert flag in done.stdout
    assert "%(" not in done.stdout


def test_every_flag_and_file_is_documented() -> None:
    import argparse

    text = (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8")
    flags = [
        f for action in add_flags(argparse.ArgumentParser())._actions for f in action.option_strings if f[:2] == "--"
    ]
    missing = [
        flag for flag in flags if f"`{flag}" not in text and flag not in ("--help",) and not flag.startswith("--no-")
    ]
    assert missing == []
    for name in ("results_", "worker_results_", "model_results_", "estimates_", "ratings_", "comparisons_", "turns_",
                 "agreement_", "worker_quality_", "generations_", "mixed_", "wins_", "ranking_",
                 "comparison_effects_", "win_curves_", "sequential_",
                 "excluded_", "statistics_", "report_", "tables/"):  # fmt: skip
        assert f"`{name}" in text


def test_processes_change_nothing(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for number in range(1100):  # three chunks
        save(
            make(
                worker=f"w{number % 37}",
                hit=f"h{number}",
                labels=[["rude"] if number % 3 else []],
                model="ab"[number % 2],
            )
        )
    alone, several = compiler(processes=1), compiler(processes=2)
    left, right = alone.compile_results(), several.compile_results()
    assert left.equals(right)
    assert alone.summary.estimates.equals(several.summary.estimates)


def test_nothing_is_left_behind_but_results(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], tmp_path: Path
) -> None:
    save(make())
    compiler().compile_and_save_results()
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []

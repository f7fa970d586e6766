"""What the flags of the analysis may be, and that they arrive."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.analysis.settings import Settings, add_flags, settings_from
from model_chat.errors import ConfigurationError


def settings_of(folder: Path, *flags: str) -> Settings:
    parser = add_flags(argparse.ArgumentParser())
    return settings_from(
        parser.parse_args(["--results-folders", str(folder), "--output-folder", str(folder / "out"), *flags])
    )


def test_settings_made_in_code_have_the_commands_defaults(tmp_path: Path) -> None:
    assert settings_of(tmp_path) == Settings(results_folders=(str(tmp_path),), output_folder=str(tmp_path / "out"))


def test_every_flag_arrives(tmp_path: Path) -> None:
    given = {
        "task_name": "study",
        "database_path": str(tmp_path / "database.db"),
        "mephisto_statuses": ("completed", "rejected"),
        "output_folder": str(tmp_path / "elsewhere"),
        "problem_buckets": ("rude", "none_all_good"),
        "start_date": datetime.date(2026, 11, 2),
        "max_convos_per_worker": 7,
        "min_word_count": 2.5,
        "hit_block_list": frozenset({"h1", "h2"}),
        "worker_block_list": frozenset({"w1"}),
        "results_format": "parquet",
        "run_type": "live",
        "min_seconds_per_message": 1.5,
        "confidence": 0.9,
        "bootstrap": 150,
        "permutations": 99,
        "seed": 3,
        "power": 0.7,
        "rate_difference": 0.2,
        "rating_difference": 0.5,
        "report_conversations": 12,
        "processes": 2,
        "dask_scheduler": "local",
    }
    flags = []
    for name, value in given.items():
        text = (
            ",".join(sorted(value, reverse=name == "problem_buckets"))
            if isinstance(value, tuple | frozenset)
            else value
        )
        flags += [f"--{name.replace('_', '-')}", str(text).replace("-", "_") if name == "start_date" else str(text)]
    settings = dataclasses.asdict(settings_of(tmp_path, *flags))
    assert {name: settings[name] for name in given} == given


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--max-convos-per-worker", ("-1", "1")),
        ("--min-word-count", ("0",)),
        ("--min-seconds-per-message", ("0",)),
        ("--report-conversations", ("-1", "0")),
        ("--confidence", ("0.5", "0.99")),
        ("--bootstrap", ("100",)),
        ("--permutations", ("99",)),
        ("--seed", ("0",)),
        ("--power", ("0.01", "0.99")),
        ("--rate-difference", ("0.01", "0.99")),
        ("--rating-difference", ("0.01", "4")),
        ("--processes", ("0", "1")),
    ],
)
def test_a_number_at_its_limit_is_taken(tmp_path: Path, flag: str, values: tuple[str, ...]) -> None:
    for value in values:
        settings = settings_of(tmp_path, f"{flag}={value}")
        assert getattr(settings, flag[2:].replace("-", "_")) == float(value)


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--max-convos-per-worker", ("-2", "0")),
        ("--min-word-count", ("-0.1",)),
        ("--min-seconds-per-message", ("-0.1",)),
        ("--report-conversations", ("-2",)),
        ("--confidence", ("0.49", "1")),
        ("--bootstrap", ("99",)),
        ("--permutations", ("98",)),
        ("--seed", ("-1",)),
        ("--power", ("0", "1")),
        ("--rate-difference", ("0", "1")),
        ("--rating-difference", ("0", "4.01")),
        ("--processes", ("-1",)),
    ],
)
def test_a_number_beyond_its_limit_is_refused(tmp_path: Path, flag: str, values: tuple[str, ...]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=f"^{flag} is .*; it has to be ") as caught:
            settings_of(tmp_path, f"{flag}={value}")
        assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    "flag", ["--mephisto-statuses", "--problem-buckets", "--hit-block-list", "--worker-block-list"]
)
def test_a_list_whose_quote_is_open_is_a_fault_beside_the_others(tmp_path: Path, flag: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(tmp_path, flag, '"completed', "--seed=-1")
    assert any(fault.startswith(flag) for fault in caught.value.faults)
    assert any(fault.startswith("--seed") for fault in caught.value.faults)


def test_a_status_that_mephisto_does_not_know_is_a_fault_beside_the_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(tmp_path, "--mephisto-statuses", "finished,completed", "--seed=-1")
    assert [fault.split()[0] for fault in caught.value.faults] == ["--mephisto-statuses", "--seed"]


def test_a_bucket_can_be_called_like_no_column_of_the_tables_in_which_it_is_a_column(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], tmp_path: Path
) -> None:
    save(make())
    run = compiler(problem_buckets="odd,none_all_good")
    taken = {*run.compile_results().columns, *run.summary.models.columns, *run.summary.estimates["metric"]}
    taken |= {
        "conversation",
        "rated",
        "part",
        "annotations",
    }  # in what the results are made of, and of annotated studies
    for name in sorted(taken - {"odd", "none_all_good"}):
        with pytest.raises(ConfigurationError, match=f"--problem-buckets names {name}, which is the name of a column"):
            settings_of(tmp_path, "--problem-buckets", f"odd,{name},none_all_good")

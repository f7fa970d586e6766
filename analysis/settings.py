"""The flags of `compile_results.py`: declared, documented and checked in one place."""

from __future__ import annotations

import argparse
import datetime
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from model_chat.configuration.annotations import RESULT_COLUMN, called_like_columns
from model_chat.configuration.lists import ids_of, split_list
from model_chat.errors import ConfigurationError, collecting
from model_chat.records.llm_judgments import read_llm_judgments
from model_chat.records.mephisto_database import AGENT_STATUSES, DEFAULT_STATUSES, check_statuses
from model_chat.records.schema import NONE_ALL_GOOD

DEFAULT_BUCKETS = ("bucket_0", "bucket_1", "bucket_2", "bucket_3", "bucket_4", NONE_ALL_GOOD)
FORMATS = ("csv", "json", "parquet")
NO_LIMIT = -1
_NO_BUCKETS = frozenset({"", "none"})
_DATE_FORMS = ("%Y_%m_%d", "%Y-%m-%d", "%Y%m%d")
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "max_convos_per_worker": (lambda value: value == NO_LIMIT or value >= 1, "1 or more, or -1 for no limit"),
    "min_word_count": (lambda value: value >= 0, "0 or more"),
    "min_seconds_per_message": (lambda value: value >= 0, "0 or more seconds"),
    "report_conversations": (lambda value: value >= NO_LIMIT, "0 or more, or -1 for all"),
    "confidence": (lambda value: 0.5 <= value < 1, "at least 0.5 and below 1"),
    "bootstrap": (lambda value: value >= 100, "100 or more"),
    "permutations": (lambda value: value >= 99, "99 or more"),
    "seed": (lambda value: value >= 0, "0 or more"),
    "power": (lambda value: 0 < value < 1, "between 0 and 1, for instance 0.8"),
    "rate_difference": (lambda value: 0 < value < 1, "between 0 and 1, for instance 0.1"),
    "rating_difference": (lambda value: 0 < value <= 4, "above 0 and at most 4"),
    "max_pasted_share": (lambda value: 0 <= value <= 1, "between 0 and 1"),
    "max_times_away": (lambda value: value == NO_LIMIT or 0 <= value < math.inf, "0 or more, or -1 for no limit"),
    "min_keys_per_character": (lambda value: 0 <= value < math.inf, "0 or more"),
    "processes": (lambda value: value >= 0, "1 or more, or 0 to choose by itself"),
}
"""Flag -> whether a number is allowed, and which numbers are."""


@dataclass(frozen=True)
class Settings:
    """What one run of the analysis was asked to do. Fields are named after the flags."""

    results_folders: tuple[str, ...] = ()
    task_name: str | None = None
    database_path: str | None = None
    mephisto_statuses: tuple[str, ...] = DEFAULT_STATUSES
    output_folder: str = "."
    problem_buckets: tuple[str, ...] = DEFAULT_BUCKETS
    """Empty: the responses were not annotated."""
    start_date: datetime.date | None = None
    max_convos_per_worker: int = 100
    min_word_count: float = 4.0
    hit_block_list: frozenset[str] = frozenset()
    """Ids of HITs, and names of files."""
    worker_block_list: frozenset[str] = frozenset()
    by: tuple[str, ...] = ()
    """Items of a study flow, asked before the chat, that results are split by."""
    as_original: bool = False
    """Whether to count as the original task did (docs/moving-from-the-original.md)."""
    results_format: str = "csv"
    run_type: str = "all"
    include_incomplete: bool = False
    include_simulated: bool = False
    exclude_violations: bool = False
    keep_duplicates: bool = False
    filter_uniform_hits: bool = False
    min_seconds_per_message: float = 0.0
    csv_guard: bool = True
    confidence: float = 0.95
    bootstrap: int = 2000
    permutations: int = 2000
    seed: int = 42
    sequential: bool = False
    """Whether to give intervals that hold at every look while the study runs."""
    power: float = 0.8
    rate_difference: float = 0.1
    rating_difference: float = 0.25
    report: bool = True
    report_conversations: int = 500
    max_pasted_share: float = 0.5
    """Of a worker's characters; above it, results are also given without the worker."""
    max_times_away: float = NO_LIMIT
    """A message, on average; as above."""
    min_keys_per_character: float = 0.0
    """Below it, as above."""
    judgments: str | None = None
    """File of judgments by a model, which stay apart from people's."""
    processes: int = 0
    """0: as many as pay on this machine."""
    dask_scheduler: str | None = None

    @property
    def annotated(self) -> bool:
        """Whether buckets were asked for."""
        return bool(self.problem_buckets)


def add_source_flags(parser: argparse.ArgumentParser, of_conf: str | None = None) -> None:
    """Declare the flags that say which conversations a command reads.

    Args:
        of_conf: what ``--conf`` gives where no other flag does; None: the command has no such flag.
    """
    source = parser.add_argument_group("what to read (one of the two, or both)")
    if of_conf is not None:
        about = f"the file conf/NAME.yaml of a study: {of_conf}, where no other flag gives them"
        source.add_argument("--conf", metavar="NAME", help=about)
    source.add_argument(
        "--results-folders",
        metavar="A,B",
        help="folders of saved JSON files (in date folders); lists are read as a line of csv",
    )
    source.add_argument("--task-name", metavar="NAME", help="a task in Mephisto's database, in full (NAME_local, …)")
    source.add_argument("--database-path", metavar="PATH", help="database.db (default: the one Mephisto uses)")
    source.add_argument(
        "--mephisto-statuses",
        metavar="A,B",
        default=",".join(DEFAULT_STATUSES),
        help=f"agents' statuses to accept (default: %(default)s; known: {', '.join(AGENT_STATUSES)})",
    )


def add_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Declare every flag of the command on ``parser``, and return it."""
    add_source_flags(parser, "its folder, its task and its boxes")
    output = parser.add_argument_group("what to write")
    output.add_argument("--output-folder", metavar="PATH", help="where results go; made when missing")
    output.add_argument("--results-format", choices=FORMATS, help="default: %(default)s")
    output.add_argument(
        "--csv-guard",
        action=argparse.BooleanOptionalAction,
        help="in csv files, put an apostrophe before texts that a spreadsheet would run as a formula (they begin with "
        "= + - @, tab or carriage return); json and parquet always hold the texts as they are (default: on)",
    )
    output.add_argument("--report", action=argparse.BooleanOptionalAction, help="HTML report (default: on)")
    output.add_argument(
        "--report-conversations",
        type=int,
        metavar="N",
        help="conversations to browse in the report, a seeded sample if there are more (default: %(default)s; -1: all)",
    )
    labels = parser.add_argument_group("annotation")
    labels.add_argument(
        "--problem-buckets",
        metavar="A,B",
        default=",".join(DEFAULT_BUCKETS),
        help='buckets of the annotation, none_all_good among them; "" or none: not annotated; one with a comma is quoted '
        "as in csv (default: %(default)s)",
    )
    rules = parser.add_argument_group("which conversations count")
    rules.add_argument(
        "--start-date", metavar="DATE", default="", help="leave out earlier ones (YYYY_MM_DD or YYYY-MM-DD)"
    )
    rules.add_argument(
        "--max-convos-per-worker",
        type=int,
        metavar="N",
        help="count a worker's first N conversations (default: %(default)s; -1: no limit)",
    )
    rules.add_argument(
        "--min-word-count",
        type=float,
        metavar="X",
        help="leave out conversations whose human messages have fewer words on average (default: %(default)g; 0: none)",
    )
    rules.add_argument(
        "--hit-block-list", metavar="A,B", default="", help="HITs, or names of files, to leave out; @FILE: one a line"
    )
    rules.add_argument("--worker-block-list", metavar="A,B", default="", help="workers to leave out; @FILE: one a line")
    rules.add_argument(
        "--as-original",
        action="store_true",
        help="count as the original task did: what was only shown as said is counted, words are what is between spaces, "
        "the worker limit comes before the other rules, --worker-block-list leaves workers out of the printed table only, "
        "and a file is never told to be another one's duplicate (docs/moving-from-the-original.md)",
    )
    rules.add_argument("--run-type", choices=("all", "live", "sandbox"), help="by file name (default: %(default)s)")
    rules.add_argument("--include-simulated", action="store_true", help="count workers who were played by a model")
    rules.add_argument("--include-incomplete", action="store_true", help="count conversations that were cut off")
    rules.add_argument(
        "--exclude-violations", action="store_true", help="leave out those that failed acceptability checks"
    )
    rules.add_argument("--keep-duplicates", action="store_true", help="count a conversation saved twice as two")
    rules.add_argument(
        "--filter-uniform-hits",
        action="store_true",
        help="leave out conversations of two or more annotated model messages that all got exactly the same labels",
    )
    rules.add_argument(
        "--min-seconds-per-message",
        type=float,
        metavar="S",
        help="leave out conversations whose median time from reply to answer is shorter (default: 0, off)",
    )
    numbers = parser.add_argument_group("statistics")
    numbers.add_argument(
        "--by",
        metavar="A,B",
        default="",
        help="items of the study flow, asked before the chat, to split results by; they become columns of the results, too",
    )
    numbers.add_argument("--confidence", type=float, help="of intervals (default: %(default)s)")
    numbers.add_argument("--bootstrap", type=int, metavar="N", help="resamples (default: %(default)s)")
    numbers.add_argument("--permutations", type=int, metavar="N", help="of a test (default: %(default)s)")
    numbers.add_argument("--seed", type=int, help="of resampling and sampling (default: %(default)s)")
    numbers.add_argument(
        "--sequential",
        action="store_true",
        help="for a study that is still running: also give confidence sequences, which hold at every look",
    )
    numbers.add_argument(
        "--plan",
        metavar="FILE",
        help="read no conversations; print the power of the study that the YAML file plans (docs/analysis.md)",
    )
    numbers.add_argument(
        "--judgments",
        metavar="FILE",
        help="judgments.jsonl of scripts/judge.py: adds how far the model that judged agrees with people (docs/judges.md)",
    )
    numbers.add_argument("--power", type=float, help="wanted (default: %(default)s)")
    numbers.add_argument(
        "--rate-difference",
        type=float,
        metavar="D",
        help="difference of two bucket rates worth finding, for the power table (default: %(default)s)",
    )
    numbers.add_argument(
        "--rating-difference",
        type=float,
        metavar="D",
        help="difference of two mean ratings worth finding (default: %(default)s)",
    )
    signals = parser.add_argument_group(
        "results with and without workers, by authenticity signals (record_authenticity)"
    )
    signals.add_argument(
        "--max-pasted-share",
        type=float,
        metavar="S",
        help="share of a worker's characters that may be pasted; results are also given without those above "
        "(default: %(default)s; 1: never)",
    )
    signals.add_argument(
        "--max-times-away",
        type=float,
        metavar="N",
        help="times away from the page for each message, on average; as above (default: %(default)s: no limit)",
    )
    signals.add_argument(
        "--min-keys-per-character",
        type=float,
        metavar="K",
        help="keys pressed for each character, where they are known; results are also given without those below "
        "(default: %(default)g: none)",
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--processes", type=int, metavar="N", help="that read (default: as many as pay on this machine)"
    )
    machine.add_argument(
        "--dask-scheduler",
        metavar="ADDRESS",
        help="read on a Dask cluster that sees the same files: tcp://host:8786, or local (needs the extra [scale])",
    )
    usual = {field.name: field.default for field in fields(Settings) if isinstance(field.default, bool | int | float)}
    parser.set_defaults(results_format=FORMATS[0], run_type="all", **usual)
    return parser


def settings_from(options: argparse.Namespace) -> Settings:
    """Check the parsed flags and turn them into :class:`Settings`.

    Raises:
        ConfigurationError: with one sentence for every fault.
    """
    faults: list[str] = []
    folders = _split("--results-folders", options.results_folders, faults)
    if _is_empty(options.results_folders) and not options.task_name:
        faults.append("Nothing to read: give --results-folders, --task-name, or both; or --conf with a study's name.")
    if options.database_path and not options.task_name:
        faults.append(
            f"--database-path is '{options.database_path}' but no --task-name says which task to read from it."
        )
    buckets = _buckets(options.problem_buckets, faults)
    start = _date(options.start_date, faults)
    by = tuple(dict.fromkeys(_split("--by", options.by, faults)))
    taken = [item for item in by if item in buckets or RESULT_COLUMN.fullmatch(item)]
    faults += [f"--by names '{item}', which is a column of the results already; rename the item." for item in taken]
    statuses = _split("--mephisto-statuses", options.mephisto_statuses, faults)
    with collecting(faults):
        check_statuses(statuses)
    if _is_empty(options.mephisto_statuses):
        faults.append("--mephisto-statuses is empty; give at least one status, for instance completed.")
    hits = frozenset(_split("--hit-block-list", options.hit_block_list, faults, ids_of))
    workers = frozenset(_split("--worker-block-list", options.worker_block_list, faults, ids_of))
    for name, (is_right, right) in _RANGES.items():
        value = getattr(options, name)
        if not is_right(value):
            faults.append(f"--{name.replace('_', '-')} is {value}; it has to be {right}.")
    faults += _judgments_faults(options.judgments, buckets)
    output = Path(options.output_folder).expanduser()
    if output.exists() and not output.is_dir():
        faults.append(f"--output-folder is '{options.output_folder}', which is a file; give a folder.")
    elif not os.access(existing_parent(output), os.W_OK):
        faults.append(f"--output-folder is '{options.output_folder}', where you may not write; give another folder.")
    ConfigurationError.raise_if(faults)
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    checked = {
        "results_folders": tuple(os.path.expanduser(folder) for folder in folders),  # noqa: PTH111 (kept as the user spelt it)
        "mephisto_statuses": statuses,
        "output_folder": str(output),
        "problem_buckets": buckets,
        "start_date": start,
        "hit_block_list": hits,
        "worker_block_list": workers,
        "by": by,
        # The original knew no duplicates, but read one source; with both, a conversation is in each of them.
        "keep_duplicates": options.keep_duplicates or (options.as_original and not (folders and options.task_name)),
    }
    return Settings(**{**given, **checked})


def _split(
    flag: str, text: str | None, faults: list[str], read: Callable[[str, str | None], list[str]] = split_list
) -> tuple[str, ...]:
    found: list[str] = []
    with collecting(faults):
        found += read(flag, text)
    return tuple(found)


def _judgments_faults(path: str | None, buckets: tuple[str, ...]) -> list[str]:
    if path is None:
        return []
    if not buckets:
        return [f"--judgments is '{path}', but --problem-buckets is none; name the buckets that were judged."]
    try:
        read_llm_judgments("--judgments", path)
    except ConfigurationError as error:
        return list(error.faults)
    return []


def _is_empty(text: str | None) -> bool:
    return not (text or "").strip(", ")


def _buckets(text: str, faults: list[str]) -> tuple[str, ...]:
    if text.strip().lower() in _NO_BUCKETS:
        return ()
    found: list[str] = []
    buckets = _split("--problem-buckets", text, found)
    if found:
        faults.extend(found)
        return ()
    if NONE_ALL_GOOD not in buckets:
        faults.append(f"--problem-buckets is '{text}'; it has to hold {NONE_ALL_GOOD}, or be none for no annotation.")
    twice = sorted({bucket for bucket in buckets if buckets.count(bucket) > 1})
    if twice:
        faults.append(f"--problem-buckets names {', '.join(twice)} more than once; name each bucket once.")
    taken = called_like_columns(buckets)
    if taken:
        faults.append(f"--problem-buckets names {', '.join(taken)}, which is the name of a column; rename the bucket.")
    return buckets


def _date(text: str, faults: list[str]) -> datetime.date | None:
    if not text.strip():
        return None
    for form in _DATE_FORMS:
        try:
            return datetime.datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    faults.append(f"--start-date is '{text}'; give a day as 2026_11_25 or 2026-11-25.")
    return None


def existing_parent(path: Path) -> Path:
    """The nearest folder above ``path``, or itself, that is there."""
    real = path.resolve()
    return next((place for place in (real, *real.parents) if place.exists()), path)

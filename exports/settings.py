"""The flags of `scripts/export.py`: declared, documented and checked in one place."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from model_chat.analysis import settings as analysis
from model_chat.configuration.lists import split_list
from model_chat.errors import ConfigurationError, collecting
from model_chat.exports.identities import default_salt_file
from model_chat.records.legacy import HIGHEST_RATING, LOWEST_RATING
from model_chat.records.mephisto_database import find_database, list_agents
from model_chat.records.reading import list_files

OPENAI, SHAREGPT, PREFERENCE, UNPAIRED, HF_DATASET, CSV = FORMATS = (
    "openai",
    "sharegpt",
    "trl-preference",
    "trl-unpaired",
    "hf-dataset",
    "csv",
)
HF_FILE = "data/train-00000-of-00001.parquet"
_DATE_FOLDER = re.compile(r"\d{4}_\d{2}_\d{2}")
_LABEL_FLAGS = ("good_buckets", "bad_buckets", "min_rating", "max_rating")
_SHARED = (
    "results_folders",
    "task_name",
    "database_path",
    "mephisto_statuses",
    "start_date",
    "run_type",
    "hit_block_list",
    "worker_block_list",
    "exclude_violations",
    "min_word_count",
)
"""Flags that `analysis/compile_results.py` has, too, and checks."""


@dataclass(frozen=True)
class LabelRules:
    """Which replies are good and which are bad. Without any rule nothing is labelled.

    Attributes:
        good_buckets: a reply with one of them ticked is good.
        bad_buckets: a reply with one of them ticked is bad.
        min_rating: all replies of a conversation rated so or higher are good.
        max_rating: all replies of a conversation rated so or lower are bad.
        rating_question: the final question whose answer counts, 1-based.
    """

    good_buckets: frozenset[str] = frozenset()
    bad_buckets: frozenset[str] = frozenset()
    min_rating: int | None = None
    max_rating: int | None = None
    rating_question: int = 1


@dataclass(frozen=True)
class ExportSettings:
    """What one export was asked to do.

    Attributes:
        reading: which conversations are read, and which of them count.
        format: one of :data:`FORMATS`.
        persona: whether the model's persona and further context are in the system message.
        salt_file: where the salt of the pseudonyms is kept.
        consent_pages: pages whose consent is needed; empty: every page of consent that was answered, and at least one.
        license: of the data, for the card; None: not stated.
        pay_text: what was paid, for the card; None: not stated.
        csv_guard: whether texts that a spreadsheet takes for a formula get an apostrophe.
    """

    reading: analysis.Settings
    output: Path
    format: str
    persona: bool = True
    overwrite: bool = False
    deidentify: bool = False
    salt_file: Path | None = None
    only_consented: bool = False
    consent_pages: frozenset[str] = frozenset()
    labels: LabelRules = LabelRules()
    license: str | None = None
    pay_text: str | None = None
    csv_guard: bool = True


def file_of(format_name: str) -> str:
    """The file that a format's rows are written to, relative to the output folder."""
    return {HF_DATASET: HF_FILE, CSV: "csv.csv"}.get(format_name, f"{format_name}.jsonl")


def card_name(format_name: str) -> str:
    """The name of the data card; the Hugging Face Hub reads README.md."""
    return "README.md" if format_name == HF_DATASET else "DATA_CARD.md"


def manifest_name(format_name: str) -> str:
    """The name of the list of files with their hashes."""
    return f"manifest-{format_name}.json"


def taken_places(output: Path, format_name: str, overwrite: bool) -> list[str]:
    """A sentence for each file that would be replaced without being told so, or can't be."""
    faults = []
    for name in (file_of(format_name), manifest_name(format_name)):
        path = output / name
        if path.is_dir():
            faults.append(f"--output is '{output}', where '{name}' is a folder; give another folder.")
        elif path.exists() and not overwrite:
            faults.append(
                f"--output is '{output}', where '{name}' is there already; give another folder, or --overwrite to "
                "replace it."
            )
    return faults


def add_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Declare every flag of the command on ``parser``, and return it."""
    analysis.add_source_flags(parser, "its folder and its task")
    output = parser.add_argument_group("what to write")
    output.add_argument("--output", metavar="DIR", required=True, help="folder of the files; made when missing")
    output.add_argument("--format", choices=FORMATS, required=True, help="see docs/exports.md")
    output.add_argument(
        "--persona",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the model's persona and further context in the system message; turn it off for a study with "
        "include_persona=false, whose records hold them although nobody was told (default: on)",
    )
    output.add_argument("--overwrite", action="store_true", help="replace the files of an earlier export")
    output.add_argument("--license", metavar="ID", help="licence of the data, for the card (for instance cc-by-4.0)")
    output.add_argument("--pay-text", metavar="TEXT", help="what people were paid, in a sentence for the card")
    output.add_argument(
        "--csv-guard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="in csv, put an apostrophe before texts that a spreadsheet would run as a formula (default: on)",
    )
    people = parser.add_argument_group("people")
    people.add_argument(
        "--deidentify",
        action="store_true",
        help="replace workers' ids by pseudonyms, and leave out the ids of HITs and assignments",
    )
    people.add_argument(
        "--salt-file",
        metavar="FILE",
        help="where the secret of the pseudonyms is kept; made when missing (default: "
        "model-chat/export_salt in the user's configuration folder, such as ~/.config)",
    )
    people.add_argument(
        "--only-consented", action="store_true", help="leave out conversations whose record holds no accepted consent"
    )
    people.add_argument(
        "--consent-pages",
        metavar="A,B",
        help="ids of the pages of consent that have to be accepted (default: every one that was answered, at least one)",
    )
    rules = parser.add_argument_group("which conversations count (complete ones only)")
    rules.add_argument("--start-date", metavar="DATE", default="", help="leave out earlier ones (YYYY_MM_DD)")
    rules.add_argument("--run-type", choices=("all", "live", "sandbox"), default="all", help="default: %(default)s")
    rules.add_argument(
        "--hit-block-list", metavar="A,B", default="", help="HITs, or names of files, to leave out; @FILE: one a line"
    )
    rules.add_argument("--worker-block-list", metavar="A,B", default="", help="workers to leave out; @FILE: one a line")
    rules.add_argument("--exclude-violations", action="store_true", help="leave out failed acceptability checks")
    rules.add_argument(
        "--min-word-count",
        type=float,
        metavar="X",
        default=0.0,
        help="leave out conversations whose human messages have fewer words on average (default: 0, off)",
    )
    labels = parser.add_argument_group("labels of trl-unpaired (boxes, ratings, or both)")
    labels.add_argument("--good-buckets", metavar="A,B", help="a reply with one of these boxes ticked is good")
    labels.add_argument("--bad-buckets", metavar="A,B", help="a reply with one of these boxes ticked is bad")
    labels.add_argument("--min-rating", type=int, metavar="N", help="replies of conversations rated N or more are good")
    labels.add_argument("--max-rating", type=int, metavar="N", help="replies of conversations rated N or less are bad")
    labels.add_argument(
        "--rating-question", type=int, metavar="N", default=1, help="final question that counts (default: %(default)s)"
    )
    return parser


def settings_from(options: argparse.Namespace) -> ExportSettings:
    """Check the parsed flags and turn them into :class:`ExportSettings`.

    Raises:
        ConfigurationError: with one sentence for every fault.
    """
    faults: list[str] = []
    output = Path(options.output).expanduser()
    reading = _reading(options, faults)
    folders = _folders(options.results_folders)
    faults += [*_missing(options, folders), *_misplaced(output, folders)]
    faults += taken_places(output, options.format, options.overwrite)
    salt_file = _salt_file(options, output, faults)
    if options.consent_pages and not options.only_consented:
        faults.append(f"--consent-pages is '{options.consent_pages}' but --only-consented is not set; set it as well.")
    labels = _labels(options, faults)
    for flag, text in (("--license", options.license), ("--pay-text", options.pay_text)):
        if text is not None and (not text.strip() or not text.isprintable()):
            faults.append(f"{flag} is {text!r}; give one line of text.")
    pages = _list("--consent-pages", options.consent_pages, faults)
    ConfigurationError.raise_if(faults)
    assert reading is not None  # noqa: S101 (else there are faults)
    given: dict[str, Any] = {field.name: getattr(options, field.name, None) for field in fields(ExportSettings)}
    checked = {"reading": reading, "output": output, "salt_file": salt_file, "consent_pages": pages, "labels": labels}
    return ExportSettings(**{**given, **checked})


def _reading(options: argparse.Namespace, faults: list[str]) -> analysis.Settings | None:
    """The analysis' own settings, without its limits, from the flags that both commands have."""
    usual = analysis.add_flags(argparse.ArgumentParser()).parse_args([])
    usual.problem_buckets, usual.max_convos_per_worker = "none", analysis.NO_LIMIT
    usual.output_folder = options.output
    for name in _SHARED:
        setattr(usual, name, getattr(options, name))
    try:
        return analysis.settings_from(usual)
    except ConfigurationError as error:
        faults += [fault.replace("--output-folder", "--output") for fault in error.faults]
        return None


def _folders(text: str | None) -> list[Path]:
    with contextlib.suppress(ConfigurationError):  # the analysis' settings say so
        return [Path(folder).expanduser() for folder in split_list("--results-folders", text)]
    return []


def _missing(options: argparse.Namespace, folders: list[Path]) -> list[str]:
    """Faults of folders, a database or a task that are not there."""
    faults: list[str] = []
    with collecting(faults):
        list_files(folder for folder in folders if not folder.is_dir())
    with collecting(faults):
        if options.task_name:
            list_agents(find_database(options.database_path), options.task_name)
    return faults


def _misplaced(output: Path, folders: list[Path]) -> list[str]:
    """Faults of an output folder whose files would be read as conversations."""
    place = output.resolve()
    is_of_a_day = _DATE_FOLDER.fullmatch(place.name) is not None
    return [
        f"--output is '{output}', which holds the conversations of --results-folders '{folder}'; give a folder outside it."
        for folder in folders
        if folder.resolve() in ((place, place.parent) if is_of_a_day else (place,))
    ]


def _salt_file(options: argparse.Namespace, output: Path, faults: list[str]) -> Path | None:
    if not options.deidentify:
        if options.salt_file:
            faults.append(f"--salt-file is '{options.salt_file}' but --deidentify is not set; set it as well.")
        return None
    path = Path(options.salt_file).expanduser() if options.salt_file else default_salt_file()
    if path.resolve().is_relative_to(output.resolve()):
        faults.append(f"--salt-file is '{path}', inside --output, where it would be published; give another place.")
    elif path.is_dir():
        faults.append(f"--salt-file is '{path}', which is a folder; give a file.")
    elif not path.exists() and not os.access(analysis.existing_parent(path), os.W_OK):
        faults.append(f"--salt-file is '{path}', where you may not write; give --salt-file with another place.")
    return path


def _labels(options: argparse.Namespace, faults: list[str]) -> LabelRules:
    given = [name for name in _LABEL_FLAGS if getattr(options, name) is not None]
    named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    if options.format == UNPAIRED and not given:
        faults.append(
            "--format trl-unpaired needs a rule for its labels: give --good-buckets, --bad-buckets, --min-rating or "
            "--max-rating."
        )
    if options.format != UNPAIRED and given:
        faults.append(
            f"{named}: labels are for --format trl-unpaired, and --format is {options.format}; leave them out."
        )
    for flag, value in (("--min-rating", options.min_rating), ("--max-rating", options.max_rating)):
        if value is not None and not LOWEST_RATING <= value <= HIGHEST_RATING:
            faults.append(f"{flag} is {value}; it has to be from {LOWEST_RATING} to {HIGHEST_RATING}.")
    low, high = options.max_rating, options.min_rating
    if low is not None and high is not None and low >= high:
        faults.append(f"--max-rating is {low} and --min-rating is {high}; bad ratings have to be lower than good ones.")
    if options.rating_question < 1:
        faults.append(f"--rating-question is {options.rating_question}; it has to be 1 or more.")
    good = _list("--good-buckets", options.good_buckets, faults)
    bad = _list("--bad-buckets", options.bad_buckets, faults)
    if good & bad:
        faults.append(
            f"--good-buckets and --bad-buckets both name {', '.join(sorted(good & bad))}; name it in one of them."
        )
    return LabelRules(good, bad, high, low, options.rating_question)


def _list(flag: str, text: str | None, faults: list[str]) -> frozenset[str]:
    entries: list[str] = []
    with collecting(faults):
        entries = split_list(flag, text)
        if text is not None and not entries:
            faults.append(f"{flag} is empty; give at least one name, or leave the flag out.")
    return frozenset(entries)

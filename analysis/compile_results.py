"""Compile collected conversations: `python analysis/compile_results.py --results-folders … --output-folder …`."""

from __future__ import annotations

import os
import sys

# Run as a script, Python puts this folder first on its path, where `statistics.py` would hide the standard library's.
_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib must not be imported before the path is right)
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]  # noqa: PTH100 (as above)

import argparse  # noqa: E402 (the path first)
import csv  # noqa: E402 (the path first)
import io  # noqa: E402 (the path first)
import logging  # noqa: E402 (the path first)
from collections.abc import Iterable, Sequence  # noqa: E402 (the path first)

from model_chat.analysis.compiler import ModelChatResultsCompiler  # noqa: E402 (the path first)
from model_chat.errors import ConfigurationError  # noqa: E402 (the path first)

__all__ = ["ModelChatResultsCompiler", "main", "run"]

_WRONG_FLAGS = 2
_INTERRUPTED = 130


def run(compiler_class: type[ModelChatResultsCompiler], arguments: Sequence[str] | None = None) -> int:
    """Run a compiler class as a command; for subclasses too.

    Args:
        arguments: the command line without the command; None for this process's.

    Returns:
        The exit status: 0, or 2 when the flags are wrong (with a sentence each on standard error).
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = compiler_class.setup_args()
    options = parser.parse_args(arguments)
    try:
        if options.plan is not None:
            return _plan(options.plan, options.output_folder)
        if options.conf is not None:
            parser.set_defaults(**_of_study(options))
            options = parser.parse_args(arguments)
        compiler = compiler_class(options)
        from model_chat.analysis.console import reading_progress  # --help need not wait for it

        with reading_progress() as compiler.progress:
            compiler.compile_and_save_results()
    except ConfigurationError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return _WRONG_FLAGS
    except KeyboardInterrupt:
        print("Stopped; no file was left half written.", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _plan(path: str, output_folder: str | None) -> int:
    """Print the power of a planned study; write it as `plan.csv`, too, where there is a folder for it."""
    from pathlib import Path

    from model_chat.analysis import plan
    from model_chat.analysis.console import console, print_table
    from model_chat.analysis.output import write_frame

    wanted = plan.read_plan(path)
    table = plan.planned(wanted)
    out = console()
    print_table(out, "Power", *plan.columns_of(table))
    for sentence in plan.lines_of(wanted, table):
        out.print(sentence, markup=False)
    if output_folder:
        folder = Path(output_folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        write_frame(folder / "plan.csv", "csv", table, guard=True)
        out.print(f"plan: {folder / 'plan.csv'}", markup=False)
    return 0


def _of_study(options: argparse.Namespace) -> dict[str, str | None]:
    """Return what the file of --conf says, by the names of the flags; what the command line gives goes before it.

    Raises:
        ConfigurationError: there is no such file, it has faults, or nothing has been collected with it.
    """
    from model_chat.launch.study import find_study
    from model_chat.records.schema import NONE_ALL_GOOD

    study = find_study(options.conf)
    boxes = dict.fromkeys([*study.buckets, *([NONE_ALL_GOOD] if study.buckets else [])])
    found: dict[str, str | None] = {"problem_buckets": _as_list(boxes) or "none"}
    if options.results_folders or options.task_name:
        return found
    if study.chat_data_folder.is_dir():
        found["results_folders"] = _as_list([str(study.chat_data_folder)])
    if study.is_in_database():
        found |= {"task_name": study.task_name, "database_path": options.database_path or str(study.database)}
    if len(found) == 1:
        raise ConfigurationError(
            f"--conf {study.conf}: nothing is collected yet: there is no folder {study.chat_data_folder}, and no task "
            f"'{study.task_name}' in {study.database}."
        )
    return found


def _as_list(entries: Iterable[str]) -> str:
    """Return entries as one list with commas, each quoted as in csv where it must be."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(list(entries))
    return line.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    return run(ModelChatResultsCompiler, arguments)


if __name__ == "__main__":
    os.umask(0o077)  # what people wrote is for the requester's account alone; to share a file, give it other rights
    sys.exit(main())

"""Compile collected conversations: `python analysis/compile_results.py --results-folders … --output-folder …`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from model_chat.analysis.compiler import ModelChatResultsCompiler
from model_chat.configuration.lists import join_list
from model_chat.errors import ConfigurationError

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


def _of_study(options: argparse.Namespace) -> dict[str, str]:
    """Return what the file of --conf says, by the names of the flags; what the command line gives goes before it.

    Raises:
        ConfigurationError: there is no such file, it has faults, or nothing has been collected with it.
    """
    from model_chat.launch.study import find_study
    from model_chat.records.schema import NONE_ALL_GOOD

    study = find_study(options.conf)
    boxes = dict.fromkeys([*study.buckets, *([NONE_ALL_GOOD] if study.buckets else [])])
    found = {"problem_buckets": join_list(boxes) or "none"}
    return found if options.results_folders or options.task_name else found | study.collected()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    return run(ModelChatResultsCompiler, arguments)


if __name__ == "__main__":
    os.umask(0o077)  # what people wrote is for the requester's account alone; to share a file, give it other rights
    sys.exit(main())

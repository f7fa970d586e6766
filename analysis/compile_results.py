"""Compile collected conversations: `python analysis/compile_results.py --results-folders … --output-folder …`."""

from __future__ import annotations

import os
import sys

# Run as a script, Python puts this folder first on its path, where `statistics.py` would hide the standard library's.
_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib must not be imported before the path is right)
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]  # noqa: PTH100 (as above)

import logging  # noqa: E402 (the path first)
from collections.abc import Sequence  # noqa: E402 (the path first)

from model_chat.analysis.compiler import ModelChatResultsCompiler  # noqa: E402 (the path first)
from model_chat.analysis.console import reading_progress  # noqa: E402 (the path first)
from model_chat.errors import ConfigurationError  # noqa: E402 (the path first)

__all__ = ["ModelChatResultsCompiler", "main", "run"]

_WRONG_FLAGS = 2
_INTERRUPTED = 130


def run(compiler_class: type[ModelChatResultsCompiler], arguments: Sequence[str] | None = None) -> int:
    """Run a compiler class as a command; for subclasses too.

    Args:
        compiler_class: what to run.
        arguments: the command line without the command; None for this process's.

    Returns:
        The exit status: 0, or 2 when the flags are wrong (with a sentence each on standard error).
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = compiler_class.setup_args().parse_args(arguments)
    try:
        compiler = compiler_class(options)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    return run(ModelChatResultsCompiler, arguments)


if __name__ == "__main__":
    os.umask(0o077)  # what people wrote is for the requester's account alone; to share a file, give it other rights
    sys.exit(main())

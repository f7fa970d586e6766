"""The exit codes of the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from typing import NoReturn, ParamSpec

from model_chat.errors import ConfigurationError

_Arguments = ParamSpec("_Arguments")


class ExitCode(IntEnum):
    """What happened, for scripts that start a command; docs/configuration.md lists them for requesters."""

    DONE = 0
    """A run has collected everything; any other command has done what it was asked."""
    FAILED = 1
    """Something broke: a disk that is full, a database that is locked, an error of the program."""
    CONFIGURATION = 2
    """A flag, an argument or a file is wrong; nothing was launched or changed."""
    ENDED_BEFORE = 3
    """A run ended by itself before everything was collected."""
    INTERRUPTED = 130
    """Ended by Ctrl-C or SIGTERM."""


MEANINGS = {
    ExitCode.DONE: "everything was collected",
    ExitCode.FAILED: "an error: the disk, the database, or the program itself",
    ExitCode.CONFIGURATION: "a wrong configuration; nothing was launched",
    ExitCode.ENDED_BEFORE: "the run ended before everything was collected: nobody submitted for no_submission_patience "
    "seconds, the router was lost, no more conversations were offered in place of those that broke down, or the models have "
    "cost max_model_spend_usd",
    ExitCode.INTERRUPTED: "the run was stopped by Ctrl-C or SIGTERM, whatever was collected",
}
"""For a run, in words."""


def reports_faults(command: Callable[_Arguments, int]) -> Callable[_Arguments, int]:
    """Let a command print the faults of its :class:`ConfigurationError` and return that exit code."""

    @wraps(command)
    def run(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except ConfigurationError as error:
            for fault in error.faults:
                print(f"✗ {fault}", file=sys.stderr)  # noqa: T201  # what the command is asked to print
            return ExitCode.CONFIGURATION

    return run


def exit_with(command: Callable[[], int]) -> NoReturn:
    """End the process with what a command returns, or, after Ctrl-C, with its own code instead of a traceback."""
    try:
        code = command()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)  # noqa: T201  # what the command is asked to print
        code = ExitCode.INTERRUPTED
    sys.exit(int(code))

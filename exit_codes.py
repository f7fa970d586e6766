"""The exit codes of the commands."""

from __future__ import annotations

from enum import IntEnum


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
    "seconds, the router was lost, or no more conversations were offered in place of those that broke down",
    ExitCode.INTERRUPTED: "the run was stopped by Ctrl-C or SIGTERM, whatever was collected",
}
"""For a run, in words."""

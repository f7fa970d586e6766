"""Output and exit codes of manage_workers.py."""

from __future__ import annotations

from rich.console import Console

from model_chat.compat.terminal import print_plain
from model_chat.configuration.exit_codes import ExitCode
from model_chat.launch.logs import without_controls


class Output:
    """What the command says, on standard output, and whether all of it went well."""

    def __init__(self, console: Console, dry_run: bool) -> None:
        self.console = console
        self.dry_run = dry_run
        self.code: int = ExitCode.DONE

    def say(self, text: str) -> None:
        """Print a text as it is, but for control characters."""
        print_plain(self.console, without_controls(text))

    def done(self, text: str) -> None:
        """Say what has been done, or would be."""
        self.say(f"would: {text}" if self.dry_run else text)

    def failed(self, text: str) -> None:
        """Say what has not been done."""
        self.code = ExitCode.FAILED
        self.say(f"✗ {text}")

"""Progress for the requester: the worker's link once, then a live table or plain log lines."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from model_chat.compat.terminal import print_plain
from model_chat.configuration.lists import join_list, shell_command
from model_chat.configuration.places import command_of
from model_chat.conversation.quota import Quota
from model_chat.launch.panel import study_lines
from model_chat.records.schema import NONE_ALL_GOOD
from model_chat.serving.spend import dollars

if TYPE_CHECKING:
    from model_chat.mephisto_task.shared_state import ModelChatSharedState

logger = logging.getLogger(__name__)


class Progress:
    """Shows how far the collection is.

    Args:
        console: where to; without a terminal, plain log lines are written instead of a live table.
        log_rate: seconds between two plain lines.
    """

    def __init__(self, quota: Quota, shared: ModelChatSharedState, console: Console, log_rate: float) -> None:
        self._quota = quota
        self._shared = shared
        self._console = console
        self._log_rate = log_rate
        self._last_line = ""
        self._next_line = 0.0
        self._live: Live | None = None

    def announce(self, live_run: Any, launch_seconds: float, chat_data_folder: Path) -> None:
        """Print, once, where workers find the task and where conversations go.

        Args:
            launch_seconds: from the start of the command until now.
        """
        architect = live_run.architect
        base = getattr(architect, "page_url", "")
        lines = [f"The task is up ({launch_seconds:.1f} s)."]
        if live_run.provider.PROVIDER_TYPE == "mock" and base:
            lines += [
                f"  Chat as a worker:  {base}?worker_id=me&assignment_id=1",
                f"  Preview:           {base}",
                "  Each pair of worker_id and assignment_id is one conversation; change assignment_id for the next.",
            ]
        endings = self._shared.endings
        if endings is not None and base:
            lines += study_lines(endings.panel, base)
        lines += [
            f"  Conversations go to {chat_data_folder}",
            "  Ctrl-C stops the run after the open chats, twice: at once; starting it again continues it.",
        ]
        for line in lines:
            print_plain(self._console, line)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, auto_refresh=False)
            self._live.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None

    def tick(self) -> None:
        """Bring the table up to date, or write a line when something has changed and it is time."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            return
        now, line = time.monotonic(), self._line()
        if line != self._last_line and now >= self._next_line:
            logger.info("%s", line)
            self._last_line, self._next_line = line, now + self._log_rate

    def conclude(self, chat_data_folder: Path, interrupted: bool) -> None:
        """Say what there is at the end, and what to do next."""
        done, needed = sum(count.done for count in self._quota.counts()), self._quota.wanted()
        ending = "The run was stopped" if interrupted else "The run is over"
        spend = self._shared.spend
        if spend is not None and spend.is_reached() and done < needed and not interrupted:
            ending = (
                "The run is over, since its models have cost mephisto.blueprint.max_model_spend_usd "
                f"({dollars(spend.limit or 0)}); raise it and start again to collect the rest"
            )
        print_plain(self._console, f"{ending}: {done} of {needed} conversations are collected ({self._line()}).")
        if done:
            annotation = self._shared.page_config.get("annotation")
            buckets = [bucket["value"] for bucket in annotation["buckets"]] if annotation else ["none"]
            if annotation and NONE_ALL_GOOD not in buckets:  # the command asks for it
                buckets.append(NONE_ALL_GOOD)
            command = shell_command(
                command_of("analysis/compile_results.py"),
                *("--results-folders", join_list([str(chat_data_folder)])),
                *("--output-folder", str(chat_data_folder.parent / "results")),
                *("--problem-buckets", join_list(buckets)),
            )
            print_plain(self._console, f"Next: {command}")

    def _line(self) -> str:
        parts = [
            f"{count.nickname}: {count.done} of {count.needed} done, {count.in_flight} in flight"
            for count in self._quota.counts()
        ]
        return "; ".join([*parts, *self._notes()])

    def _notes(self) -> list[str]:
        """What else is to be said, in a few words each."""
        notes, onboarding = list(self._quota.notes()), self._shared.onboarding_text()
        if onboarding:
            notes.append(f"onboarding: {onboarding}")
        flow = getattr(self._shared.world_opt, "study_flow", None)
        if flow is not None and flow.declined.count:
            notes.append(f"{flow.declined.count} declined to take part")
        spent = "" if self._shared.spend is None else self._shared.spend.text()
        return [*notes, spent] if spent else notes

    def _table(self) -> Table:
        table = Table(title="Conversations", title_justify="left")
        table.add_column("model")
        for column in ("done", "in flight", "needed"):
            table.add_column(column, justify="right")
        for count in self._quota.counts():
            table.add_row(Text(count.nickname), str(count.done), str(count.in_flight), str(count.needed))
        notes = self._notes()
        if notes:
            table.caption = Text("; ".join(notes))
        return table

"""Look at the workers of a task, let them in or keep them out, and approve, reject and pay what they have done.

    python scripts/manage_workers.py list --conf my_study
    python scripts/manage_workers.py list --task-name my_study_sandbox
    python scripts/manage_workers.py block --task-name my_study A1B2C3 --dry-run
    python scripts/manage_workers.py wage --task-name my_study --hourly 15 --cap 3
    python scripts/manage_workers.py cost --conf my_study

Workers are named by the crowd platform's own ids. See docs/paying-workers.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from model_chat import compat as compat  # the patches, before mephisto is imported
from model_chat.configuration.exit_codes import exit_with, reports_faults
from model_chat.crowd.workers import Task, chosen_ids
from model_chat.errors import ConfigurationError
from model_chat.launch.logs import set_up_logging
from model_chat.launch.study import CONF_HELP, find_study
from model_chat.mephisto_task import panel_providers as panel_providers  # registers them with Mephisto
from model_chat.scripts import _manage_access as access
from model_chat.scripts import _manage_pay as pay
from model_chat.scripts import _manage_study as study
from model_chat.scripts._manage_output import Output


@dataclass(frozen=True)
class Subcommand:
    """One thing that the command can do. Add yours to :data:`SUBCOMMANDS`.

    Attributes:
        picks_workers: takes worker ids (``True``), takes them or ``--all`` (``"or all"``), or none (``False``).
        before_launch: does it in place of ``run``, for what needs no task that was launched.
    """

    help_text: str
    run: Callable[[Task, argparse.Namespace, Output], None] | None
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    picks_workers: bool | str = True
    before_launch: Callable[[argparse.Namespace, Output], None] | None = None


SUBCOMMANDS: dict[str, Subcommand] = {
    "list": Subcommand(
        "show workers with their conversations and results", access.list_workers, access.with_json, False
    ),
    "block": Subcommand("soft-block workers", access.block_workers, access.with_qualification),
    "unblock": Subcommand("take soft blocks back", access.unblock_workers, access.with_qualification),
    "allow": Subcommand(
        "invite workers (allowed_worker_qualification)", access.allow_workers, access.with_qualification
    ),
    "reset-onboarding": Subcommand(
        "let workers try onboarding again", access.reset_onboarding, access.with_qualification
    ),
    "approve": Subcommand("approve finished units", pay.approve_units, pay.with_rejected, "or all"),
    "reject": Subcommand("reject finished units", pay.reject_units, pay.with_reason, "or all"),
    "bonus": Subcommand("pay a bonus for each finished unit", pay.bonus_units, pay.with_bonus, "or all"),
    "forget": Subcommand(
        "take workers' ids, or all that they wrote, out of the records", access.forget_workers, access.with_forgetting
    ),
    "wage": Subcommand("pay what is missing to an hourly wage", pay.wage_units, pay.with_wage, "or all"),
    "settle": Subcommand(
        "say whether bonuses arrived of which Prolific shows nothing", pay.settle_bonuses, pay.with_settling
    ),
    "message": Subcommand("send workers a message", pay.message_workers, pay.with_message, "or all"),
    "cost": Subcommand(
        "say what a study costs before it is launched, and what it has paid so far",
        None,
        study.with_cost,
        False,
        before_launch=study.tell_cost,
    ),
    "top-up": Subcommand("give a study on Prolific more places", study.top_up, study.with_top_up, False),
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, subcommand in SUBCOMMANDS.items():
        command = commands.add_parser(name, help=subcommand.help_text, description=subcommand.help_text)
        command.add_argument("--conf", metavar="NAME", help=CONF_HELP)
        command.add_argument("--task-name", help="in full, with its suffix (_local, _sandbox)")
        command.add_argument("--database-path", type=Path, help="Mephisto's database.db, or its folder")
        command.add_argument("--dry-run", action="store_true", help="only say what would be done")
        command.add_argument(
            "--api-token-env", metavar="VARIABLE", help="environment variable with the token of Prolific's API"
        )
        if subcommand.picks_workers:
            command.add_argument("workers", nargs="*", metavar="WORKER", help="the crowd platform's own id")
            command.add_argument("--file", help="a file of worker ids, one a line")
        if subcommand.picks_workers == "or all":
            command.add_argument("--all", action="store_true", help="the units of all workers")
        subcommand.add_arguments(command)
    return parser


def _complete(args: argparse.Namespace) -> None:
    """Take from the file of --conf what the command line does not give.

    Raises:
        ConfigurationError: neither names the task, or the file has faults.
    """
    if args.conf is not None:
        study = find_study(args.conf)
        args.task_name = args.task_name or study.task_name
        args.database_path = args.database_path or study.database
        if "chat_data_folder" in args:
            args.chat_data_folder = args.chat_data_folder or str(study.chat_data_folder)
            args.stack_folder = args.stack_folder or (str(study.stack_folder) if study.stack_folder else None)
    if not args.task_name:
        raise ConfigurationError("Which task? Give --task-name, or --conf with the name of the study's file in conf/.")


@reports_faults
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = make_parser().parse_args(arguments)
    set_up_logging("warning", Console(stderr=True))
    out = Output(Console(emoji=False), args.dry_run)
    subcommand = SUBCOMMANDS[args.command]
    if subcommand.picks_workers is True and not chosen_ids(args.workers, args.file):
        raise ConfigurationError("Name workers, or give --file with their ids.")
    if subcommand.before_launch is not None:
        subcommand.before_launch(args, out)
    if subcommand.run is not None:
        _complete(args)
        subcommand.run(Task(args.database_path, args.task_name), args, out)
    return out.code


if __name__ == "__main__":
    os.umask(0o077)  # who was paid what is for the requester's account alone
    exit_with(main)

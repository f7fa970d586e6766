"""Look at the workers of a task, let them in or keep them out, and approve, reject and pay what they have done.

    python scripts/manage_workers.py list --task-name my_study_sandbox
    python scripts/manage_workers.py block --task-name my_study A1B2C3 --dry-run
    python scripts/manage_workers.py wage --task-name my_study --hourly 15 --cap 3

Workers are named by the crowd platform's own ids. See docs/quality-control.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from model_chat import compat as compat  # the mends, before mephisto is imported
from model_chat.crowd.cost import dollars, fee_cents, to_cents
from model_chat.crowd.ledger import SENDING, Bonus, token_of
from model_chat.crowd.platform import PlatformError, approve, pay_bonus, reject
from model_chat.crowd.workers import FINISHED, Task, read_ids, summarise
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import (
    BlockReason,
    bind_to_platform,
    is_blocked,
    make_qualification,
    platform_id,
    soft_block,
    unblock,
)
from model_chat.records.forget import forget_worker
from model_chat.records.schema import Completion
from model_chat.recovery import hold_task

DONE, FAILED, FAULTY = 0, 1, 2
"""Exit codes: all was done (or would be); something was not; the command line is faulty."""
WAGE_REASON = "Bonus for the time that your chat took. Thank you!"


class Output:
    """What the command says, on standard output, and whether all of it went well."""

    def __init__(self, console: Console, dry_run: bool) -> None:
        self.console = console
        self.dry_run = dry_run
        self.code = DONE

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def done(self, text: str) -> None:
        """Say what has been done, or would be."""
        self.say(f"would: {text}" if self.dry_run else text)

    def failed(self, text: str) -> None:
        """Say what has not been done."""
        self.code = FAILED
        self.say(f"✗ {text}")


@dataclass(frozen=True)
class Subcommand:
    """One thing that the command can do. Add yours to :data:`SUBCOMMANDS`.

    Attributes:
        help_text: one sentence.
        run: does it.
        add_arguments: declares its further arguments.
        picks_workers: takes worker ids (``True``), takes them or ``--all`` (``"or all"``), or none (``False``).
    """

    help_text: str
    run: Callable[[Task, argparse.Namespace, Output], None]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    picks_workers: bool | str = True


# --- who may take part ---


def list_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Show everybody who came."""
    rows = summarise(task)
    if args.json:
        out.say(json.dumps([row.as_dict() for row in rows], indent=1))
        return
    table = Table(title=f"{len(rows)} workers of {task.name}", title_justify="left")
    for column in (
        "worker",
        "complete",
        "incomplete",
        "units",
        "onboarding",
        "violations",
        "attention",
        "bonus",
        "access",
    ):
        table.add_column(column, overflow="fold", justify="right" if column in ("complete", "incomplete") else "left")
    for row in rows:
        table.add_row(
            row.worker_id,
            str(row.complete),
            str(row.incomplete),
            _counts(row.statuses),
            row.onboarding,
            _counts(row.violations),
            f"{row.attention_failed} failed" if row.attention_failed else "",
            dollars(row.bonus_cents) if row.bonus_cents else "",
            f"blocked: {row.blocked}" if row.blocked else "invited" if row.invited else "",
        )
    out.console.print(table)


def _counts(counted: Any) -> str:
    return ", ".join(f"{number} {name}" for name, number in counted.most_common())


def block_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Soft-block workers, those who never came yet included."""
    name = _qualification(task, args, "block_qualification", out)
    for worker_id, worker in _workers(task, args, out, make=True):
        if worker is not None and is_blocked(worker, name):
            out.say(f"{worker_id} is blocked already")
        elif out.dry_run or soft_block(worker, name, BlockReason.BY_HAND):
            out.done(f"{worker_id} blocked by '{name}'")
        else:
            out.failed(f"{worker_id} is blocked here, but the crowd platform did not take it")


def unblock_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Take soft blocks back."""
    name = _qualification(task, args, "block_qualification", out)
    for worker_id, worker in _workers(task, args, out):
        if not is_blocked(worker, name):
            out.say(f"{worker_id} is not blocked")
        elif out.dry_run or unblock(worker, name):
            out.done(f"{worker_id} unblocked")
        else:
            out.failed(f"{worker_id} is unblocked here, but the crowd platform did not take it")


def allow_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Invite workers to a task for which allowed_worker_qualification is set."""
    name = _qualification(task, args, "allowed_worker_qualification", out)
    for worker_id, worker in _workers(task, args, out, make=True):
        if worker is not None and worker.get_granted_qualification(name) is not None:
            out.say(f"{worker_id} is invited already")
        elif out.dry_run or worker.grant_qualification(name, 1):
            out.done(f"{worker_id} invited by '{name}'")
        else:
            out.failed(f"{worker_id} is invited here, but the crowd platform did not take it")


def reset_onboarding(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Forget how onboarding went, so that workers can try again in the next run."""
    name = _qualification(task, args, "onboarding_qualification", out)
    for worker_id, worker in _workers(task, args, out):
        # Mephisto's own clear_onboarding leaves the failed qualification in its database.
        had = [part for part in (name, f"{name}-failed") if worker.get_granted_qualification(part) is not None]
        if not had:
            out.say(f"{worker_id} has no onboarding result")
        elif out.dry_run or len(had) == sum(worker.revoke_qualification(part) for part in had):  # each is tried
            out.done(f"{worker_id}: onboarding reset")
        else:
            out.failed(f"{worker_id}: onboarding is reset here, but the crowd platform did not take it")


def _qualification(task: Task, args: argparse.Namespace, flag: str, out: Output) -> str:
    """Return the name of the qualification, known to Mephisto and tied to the requester's own on the platform.

    Raises:
        ConfigurationError: neither the command line nor the task's last run names one.
    """
    name = args.qualification or task.qualification(flag)
    if name is None:
        raise ConfigurationError(
            f"mephisto.blueprint.{flag} is unset in the last run of '{task.name}'; give --qualification."
        )
    if not out.dry_run:
        make_qualification(task.db, name)
        bind_to_platform(task.requester, [{"qualification_name": name}])
    return str(name)


def _workers(task: Task, args: argparse.Namespace, out: Output, make: bool = False) -> Iterable[tuple[str, Any]]:
    """Go through the workers that the command line names.

    Args:
        make: make those known whom Mephisto has never seen (in a dry run they come as None); else they are reported.
    """
    from mephisto.operations.registry import get_crowd_provider_from_type

    for worker_id in read_ids(args.workers, args.file):
        worker = task.find_worker(worker_id)
        if worker is None and not make:
            out.failed(f"{worker_id} is not known")
            continue
        if worker is None:
            out.say(f"{worker_id} has never taken part here; check the id")
            if not out.dry_run:
                worker = get_crowd_provider_from_type(task.provider_type).WorkerClass.new(task.db, worker_id)
        yield worker_id, worker


# --- what is paid ---


def approve_units(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Approve finished units that are not approved yet."""
    for agent in _agents(task, args, ("completed", "rejected") if args.rejected else ("completed",), out):
        _try(out, partial(approve, agent), f"{_unit(agent)} approved")


def reject_units(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Reject finished units; the workers read why."""
    for agent in _agents(task, args, ("completed",), out):
        _try(out, partial(reject, agent, args.reason), f"{_unit(agent)} rejected: {args.reason}")


def _try(out: Output, action: Callable[[], None], text: str) -> None:
    if not out.dry_run:
        try:
            action()
        except PlatformError as error:
            out.failed(f"{error}.")
            return
    out.done(text)


def bonus_units(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Pay the same bonus for each finished unit, once for each reason."""
    cents = _cents("--amount", args.amount)
    bonuses = []
    for agent in _agents(task, args, FINISHED, out):
        token = token_of("fixed", task.name, agent.db_id, args.reason)
        if any(bonus.token == token for bonus in task.ledger.bonuses(agent.db_id)):
            out.say(f"{_unit(agent)} has had this bonus")
        else:
            bonuses.append((agent, Bonus(token, agent.db_id, platform_id(agent.get_worker()), cents, args.reason)))
    _pay(task, args, out, bonuses)


def wage_units(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Pay what is missing to an hourly wage, by the measured time of each finished and complete conversation."""
    hourly, cap = _cents("--hourly", args.hourly), _cents("--cap", args.cap)
    bonuses = []
    for agent in _agents(task, args, FINISHED, out):
        conversation = task.conversation(agent.db_id)
        if conversation is None or conversation.status is not Completion.COMPLETE:
            continue
        seconds, paid = task.seconds(agent.db_id), task.ledger.cents_paid(agent.db_id)
        reward = round(agent.get_unit().pay_amount * 100)
        missing = min(math.ceil(hourly * seconds / 3600) - reward - paid, cap - paid)
        if missing > 0:
            token = token_of("wage", task.name, agent.db_id, paid)
            bonuses.append((agent, Bonus(token, agent.db_id, platform_id(agent.get_worker()), missing, args.reason)))
            out.say(
                f"{_unit(agent)}: {seconds / 60:.1f} min, paid {dollars(reward + paid)}, missing {dollars(missing)}"
            )
    _pay(task, args, out, bonuses)


def _pay(task: Task, args: argparse.Namespace, out: Output, new: list[tuple[Any, Bonus]]) -> None:
    """Pay bonuses, those first whose sending was cut short, once the total is confirmed."""
    by_id = {agent.db_id: agent for agent in task.agents(FINISHED)}
    unsent = [bonus for bonus in task.ledger.bonuses() if bonus.state == SENDING and bonus.agent_id in by_id]
    all_of_it = [*((by_id[bonus.agent_id], bonus) for bonus in unsent), *new]
    on_mturk = task.provider_type.startswith("mturk")
    total = sum(bonus.cents + (fee_cents(bonus.cents) if on_mturk else 0) for _, bonus in all_of_it)
    again = f", {len(unsent)} of them begun before" if unsent else ""
    out.say(f"{len(all_of_it)} bonuses{again}, total {dollars(total)}" + (", MTurk's fee included" if on_mturk else ""))
    if not all_of_it or out.dry_run:
        return
    if args.confirm is None or _cents("--confirm", args.confirm) != total:
        raise ConfigurationError(
            f"--confirm: nothing was paid; to pay, repeat the command with --confirm {total / 100:.2f}."
        )
    with task.ledger.paying():
        for agent, bonus in all_of_it:
            try:
                paid = pay_bonus(task.ledger, agent, bonus)
            except PlatformError as error:
                out.failed(f"{error}.")
                continue
            out.say(f"{_unit(agent)}: {dollars(bonus.cents)} " + ("paid" if paid else "had been paid before"))


def _agents(task: Task, args: argparse.Namespace, statuses: Sequence[str], out: Output) -> list[Any]:
    """Return the units that the command line chooses; says which workers have none.

    Raises:
        ConfigurationError: neither workers nor ``--all`` are named, or both.
    """
    ids = read_ids(args.workers, args.file)
    if bool(ids) == args.all:
        raise ConfigurationError("Name workers (or --file), or give --all for the units of everybody.")
    agents = task.agents(statuses, None if args.all else ids)
    for worker_id in ids:
        if not any(platform_id(agent.get_worker()) == worker_id for agent in agents):
            out.failed(f"{worker_id} has no unit of this kind ({', '.join(statuses)})")
    return agents


def _unit(agent: Any) -> str:
    return f"{platform_id(agent.get_worker())}, unit {agent.unit_id}"


def _cents(flag: str, amount: str) -> int:
    try:
        return to_cents(amount)
    except ValueError as error:
        raise ConfigurationError(f"{flag}: {error}; write it like 1.50.") from None


# --- the command ---


def _with_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _with_qualification(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--qualification", help="name of the qualification (default: that of the task's last run)")


def _with_rejected(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rejected", action="store_true", help="approve what was rejected, too")


def _with_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, help="what the worker reads")


def _with_confirm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--confirm", help="the total in dollars; without it the total is only said")


def _for_bonus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--amount", required=True, help="dollars for each unit")
    _with_reason(parser)
    _with_confirm(parser)


def _for_wage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hourly", required=True, help="dollars an hour, reward and bonuses together")
    parser.add_argument("--cap", required=True, help="most dollars of bonus for one unit")
    parser.add_argument("--reason", default=WAGE_REASON, help="what the worker reads")
    _with_confirm(parser)


def forget_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Take workers' ids out of all records (docs/data-protection.md)."""
    blueprint = task.last_run.args.get("blueprint") or {}
    folders = {
        flag: [Path(given).expanduser()] if given else [Path(str(blueprint[flag]))] if blueprint.get(flag) else []
        for flag, given in (("chat_data_folder", args.chat_data_folder), ("stack_folder", args.stack_folder))
    }
    with hold_task(task.file.resolve().parent, task.name):
        for worker_id in read_ids(args.workers, args.file):
            gone = forget_worker(
                worker_id, task.file, folders["chat_data_folder"], folders["stack_folder"], args.delete, args.dry_run
            )
            what = (
                f"{gone.files} files, {gone.states} states of Mephisto's, {gone.stacks} stack files, {gone.rows} rows"
            )
            if gone.files + gone.states + gone.stacks + gone.rows == 0:
                out.failed(f"{worker_id}: nothing is kept under this id")
            else:
                out.done(f"{'delete' if args.delete else 'forget'} {worker_id}: {what}; now {gone.pseudonym}")


def _for_forgetting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chat-data-folder", help="where conversations were saved (default: as in the last run)")
    parser.add_argument("--stack-folder", help="of an image chat (default: as in the last run)")
    parser.add_argument("--delete", action="store_true", help="delete what they wrote, too")


SUBCOMMANDS: dict[str, Subcommand] = {
    "list": Subcommand("show workers with their conversations and results", list_workers, _with_json, False),
    "block": Subcommand("soft-block workers", block_workers, _with_qualification),
    "unblock": Subcommand("take soft blocks back", unblock_workers, _with_qualification),
    "allow": Subcommand("invite workers (allowed_worker_qualification)", allow_workers, _with_qualification),
    "reset-onboarding": Subcommand("let workers try onboarding again", reset_onboarding, _with_qualification),
    "approve": Subcommand("approve finished units", approve_units, _with_rejected, "or all"),
    "reject": Subcommand("reject finished units", reject_units, _with_reason, "or all"),
    "bonus": Subcommand("pay a bonus for each finished unit", bonus_units, _for_bonus, "or all"),
    "forget": Subcommand(
        "take workers' ids, or all that they wrote, out of the records", forget_workers, _for_forgetting
    ),
    "wage": Subcommand("pay what is missing to an hourly wage", wage_units, _for_wage, "or all"),
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, subcommand in SUBCOMMANDS.items():
        command = commands.add_parser(name, help=subcommand.help_text, description=subcommand.help_text)
        command.add_argument("--task-name", required=True, help="in full, with its suffix (_local, _sandbox)")
        command.add_argument("--database-path", type=Path, help="Mephisto's database.db, or its folder")
        command.add_argument("--dry-run", action="store_true", help="only say what would be done")
        if subcommand.picks_workers:
            command.add_argument("workers", nargs="*", metavar="WORKER", help="the crowd platform's own id")
            command.add_argument("--file", help="a file of worker ids, one a line")
        if subcommand.picks_workers == "or all":
            command.add_argument("--all", action="store_true", help="the units of all workers")
        subcommand.add_arguments(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    from mephisto.utils.logger_core import set_mephisto_log_level

    args = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    set_mephisto_log_level(level="warning")  # it writes to standard output
    out = Output(Console(), args.dry_run)
    try:
        if SUBCOMMANDS[args.command].picks_workers is True and not read_ids(args.workers, args.file):
            raise ConfigurationError("Name workers, or give --file with their ids.")
        SUBCOMMANDS[args.command].run(Task(args.database_path, args.task_name), args, out)
    except ConfigurationError as error:
        for fault in error.faults:
            print(f"✗ {fault}", file=sys.stderr)
        return FAULTY
    return out.code


if __name__ == "__main__":
    os.umask(0o077)  # who was paid what is for the requester's account alone
    sys.exit(main())

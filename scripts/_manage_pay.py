"""The subcommands of manage_workers.py that approve, reject and pay work."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from model_chat.crowd.cost import dollars, fee_cents, to_cents
from model_chat.crowd.ledger import SENDING, Bonus, token_of
from model_chat.crowd.platform import PlatformError, approve, pay_bonus, reject
from model_chat.crowd.workers import FINISHED, Task, chosen_ids
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import platform_id
from model_chat.records.schema import Completion
from model_chat.scripts._manage_output import Output

WAGE_REASON = "Bonus for the time that your chat took. Thank you!"


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
    ids = chosen_ids(args.workers, args.file)
    if bool(ids) == args.all:
        raise ConfigurationError("Name workers (or --file), or give --all for the units of everybody.")
    agents = task.agents(statuses, None if args.all else ids)
    for worker_id in ids:
        if not any(task.canonical(platform_id(agent.get_worker())) == task.canonical(worker_id) for agent in agents):
            out.failed(f"{worker_id} has no unit of this kind ({', '.join(statuses)})")
    return agents


def _unit(agent: Any) -> str:
    return f"{platform_id(agent.get_worker())}, unit {agent.unit_id}"


def _cents(flag: str, amount: str) -> int:
    try:
        return to_cents(amount)
    except ValueError as error:
        raise ConfigurationError(f"{flag}: {error}; write it like 1.50.") from None


def with_rejected(parser: argparse.ArgumentParser) -> None:
    """Declare what ``approve`` takes."""
    parser.add_argument("--rejected", action="store_true", help="approve what was rejected, too")


def with_reason(parser: argparse.ArgumentParser) -> None:
    """Declare what ``reject`` takes."""
    parser.add_argument("--reason", required=True, help="what the worker reads")


def _with_confirm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--confirm", help="the total in dollars; without it the total is only said")


def with_bonus(parser: argparse.ArgumentParser) -> None:
    """Declare what ``bonus`` takes."""
    parser.add_argument("--amount", required=True, help="dollars for each unit")
    with_reason(parser)
    _with_confirm(parser)


def with_wage(parser: argparse.ArgumentParser) -> None:
    """Declare what ``wage`` takes."""
    parser.add_argument("--hourly", required=True, help="dollars an hour, reward and bonuses together")
    parser.add_argument("--cap", required=True, help="most dollars of bonus for one unit")
    parser.add_argument("--reason", default=WAGE_REASON, help="what the worker reads")
    _with_confirm(parser)

"""The subcommands of manage_workers.py that approve, reject and pay work."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from model_chat.crowd.adapters import Owed, PlatformAdapter, Quote, adapter_of, fixed_bonus, reward_of, unit_of
from model_chat.crowd.ledger import PAID, Bonus, token_of
from model_chat.crowd.messages import SENT, Messages
from model_chat.crowd.money import plain, to_minor, written
from model_chat.crowd.platform import PlatformError
from model_chat.crowd.prolific import ProlificAdapter
from model_chat.crowd.prolific_api import NoAnswerError, concerns_all_requests
from model_chat.crowd.workers import FINISHED, Task, chosen_ids
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import platform_id
from model_chat.records.mephisto_database import AGENT_STATUSES
from model_chat.records.schema import Completion
from model_chat.scripts._manage_output import Output

WAGE_REASON = "Bonus for the time that your chat took. Thank you!"
_Result = TypeVar("_Result")


def collect_faults(make: Callable[[], _Result]) -> tuple[_Result | None, list[str]]:
    """Return what is made, or None and the faults of the configuration that keep it from being made."""
    try:
        return make(), []
    except ConfigurationError as error:
        return None, list(error.faults)


def approve_units(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Approve finished units that are not approved yet."""
    adapter = adapter_of(task, args.api_token_env)
    agents = _agents(task, args, ("completed", "rejected") if args.rejected else ("completed",), out)
    _review(adapter, agents, adapter.approve, lambda agent: f"{unit_of(agent)} approved", out)


def reject_units(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Reject finished units; the workers read why."""
    adapter = adapter_of(task, args.api_token_env)
    agents, faults = collect_faults(lambda: _agents(task, args, ("completed",), out))
    ConfigurationError.raise_if([*faults, *adapter.rejection_faults(args.reason, args.category)])

    def reject(agent: Any) -> str:
        return adapter.reject(agent, args.reason, args.category)

    _review(adapter, agents or [], reject, lambda agent: f"{unit_of(agent)} rejected: {args.reason}", out)


def _review(
    adapter: PlatformAdapter, agents: list[Any], act: Callable[[Any], str], said: Callable[[Any], str], out: Output
) -> None:
    """Do the same for each agent, until the platform can't be asked any more."""
    if not out.dry_run:
        try:
            adapter.look_up(agents)
        except PlatformError as error:
            out.failed(f"{error}.")
            return
    for number, agent in enumerate(agents):
        remark = ""
        if not out.dry_run:
            try:
                remark = act(agent)
            except PlatformError as error:
                out.failed(f"{error}.")
                if concerns_all_requests(error):
                    out.say(f"{len(agents) - number} units are left; repeat the command later.")
                    return
                continue
        out.done(f"{said(agent)} ({remark})" if remark else said(agent))


def bonus_units(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Pay the same bonus for each finished unit, once for each reason."""

    def owe(payment: _Payment) -> None:
        for agent in payment.agents:
            bonus = fixed_bonus(task, agent, payment.amounts["--amount"], args.reason)
            if isinstance(bonus, Bonus):
                had = "has had this bonus" if bonus.state == PAID else "may have had this bonus"
                out.say(f"{unit_of(agent)} {had}")
            else:
                payment.owed.append(bonus)

    _pay(task, args, out, ("--amount",), owe)


def wage_units(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Pay what is missing to an hourly wage, by the measured time of each finished and complete conversation."""

    def owe(payment: _Payment) -> None:
        hourly, cap, currency = payment.amounts["--hourly"], payment.amounts["--cap"], payment.adapter.currency
        for agent in payment.agents:
            conversation = task.conversation(agent.db_id)
            if conversation is None or conversation.status is not Completion.COMPLETE:
                continue
            seconds, paid, reward = task.seconds(agent.db_id), task.ledger.cents_paid(agent.db_id), reward_of(agent)
            missing = min(math.ceil(hourly * seconds / 3600) - reward - paid, cap - paid)
            if missing > 0:
                payment.owe(agent, token_of("wage", task.name, agent.db_id, paid), missing, args.reason)
                out.say(
                    f"{unit_of(agent)}: {seconds / 60:.1f} min, paid {written(reward + paid, currency)}, missing "
                    f"{written(missing, currency)}"
                )

    _pay(task, args, out, ("--hourly", "--cap"), owe)


@dataclass
class _Payment:
    """Bonuses of one command.

    Attributes:
        amounts: flag -> hundredths of the currency.
    """

    adapter: PlatformAdapter
    agents: list[Any]
    amounts: dict[str, int]
    owed: list[Owed] = field(default_factory=list)

    def owe(self, agent: Any, token: str, cents: int, reason: str) -> None:
        """Add a bonus."""
        self.owed.append(Owed(agent, Bonus(token, agent.db_id, platform_id(agent.get_worker()), cents, reason)))


def _pay(
    task: Task, args: argparse.Namespace, out: Output, flags: Sequence[str], owe: Callable[[_Payment], None]
) -> None:
    """Pay bonuses, those first whose sending was cut short, once the total is confirmed.

    Args:
        owe: adds what is to be paid; called with the right to pay, so that nobody pays between looking and paying.

    Raises:
        ConfigurationError: all faults of the command line, or the total is not confirmed.
    """
    adapter = adapter_of(task, args.api_token_env)
    agents, faults = collect_faults(lambda: _agents(task, args, FINISHED, out))
    amounts = {flag: _amount(faults, flag, getattr(args, flag.removeprefix("--"))) for flag in flags}
    ConfigurationError.raise_if([*faults, *_output_faults(adapter, args)])
    with _paying(task, out):
        payment = _Payment(adapter, agents or [], amounts)
        try:
            if not out.dry_run:
                adapter.prepare(payment.agents, out)
            owe(payment)
            quote = adapter.quote(payment.owed, out)
        except PlatformError as error:
            out.failed(f"{error}. Nothing was paid.")
            return
        again = f", {quote.begun} of them begun before" if quote.begun else ""
        out.say(f"{quote.count} bonuses{again}, total {written(quote.total, adapter.currency)}{quote.note}")
        if quote.count and not out.dry_run:
            adapter.pay(quote, out, _confirmed(adapter, args, quote))


def _confirmed(adapter: PlatformAdapter, args: argparse.Namespace, quote: Quote) -> Path | None:
    """Check that the requester wants to pay what was quoted; return the file for the list of it, if there is to be one."""
    faults = []
    if args.confirm is None or _cents("--confirm", args.confirm) != quote.total:
        faults.append(f"--confirm: nothing was paid; to pay, repeat the command with --confirm {plain(quote.total)}.")
    if adapter.pays_by_list and args.output is None:
        faults.append(
            f"--output: is not set; {adapter.name} has no API, so give a new file, such as bonuses.csv, for the list of "
            "what to pay there."
        )
    ConfigurationError.raise_if(faults)
    return Path(args.output).expanduser() if args.output is not None else None


def _paying(task: Task, out: Output) -> AbstractContextManager[object]:
    """Hold the right to pay, from looking up what was paid to paying; a dry run needs none."""
    return nullcontext() if out.dry_run else task.ledger.paying()


def settle_bonuses(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Note what the requester says of bonuses that Prolific does not show."""
    adapter = adapter_of(task, args.api_token_env)
    if not isinstance(adapter, ProlificAdapter):
        raise ConfigurationError(f"settle: is for Prolific alone; of {adapter.name} every bonus is known.")
    with _paying(task, out):
        adapter.settle(chosen_ids(args.workers, args.file), args.paid, out)


def message_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Send workers a message, each once however often it is asked for."""
    adapter = adapter_of(task, args.api_token_env)
    agents, faults = collect_faults(lambda: _agents(task, args, AGENT_STATUSES, out))
    ConfigurationError.raise_if([*faults, *adapter.message_faults(args.subject, args.text)])
    latest = {platform_id(agent.get_worker()): agent for agent in agents or ()}
    messages = Messages(task.ledger)
    with _paying(task, out):
        for worker_id, agent in latest.items():
            token = token_of("message", task.name, task.canonical(worker_id), args.subject, args.text)
            before = messages.state(token)
            if before is not None and not args.again:
                said = (
                    "has had this message" if before == SENT else "may have had this message; --again sends it anyway"
                )
                out.say(f"{worker_id} {said}")
                continue
            if not out.dry_run:
                messages.begin(token)
                try:
                    adapter.send_message(agent, args.subject, args.text)
                except PlatformError as error:
                    unknown = isinstance(error, NoAnswerError)
                    if not unknown:
                        messages.withdraw(token)
                    out.failed(f"{worker_id}: {error}" + ("; it may have arrived." if unknown else "."))
                    if concerns_all_requests(error):
                        out.say("The other messages were not sent; repeat the command later.")
                        return
                    continue
                messages.sent(token)
            out.done(f"message to {worker_id}")


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
            kind = "" if statuses is AGENT_STATUSES else f" of this kind ({', '.join(statuses)})"
            out.failed(f"{worker_id} has no unit{kind}")
    return agents


def _output_faults(adapter: PlatformAdapter, args: argparse.Namespace) -> list[str]:
    if args.output is None:
        return []
    if not adapter.pays_by_list:
        return [f"--output: is for panels without an API; {adapter.name} pays by itself."]
    path = Path(args.output).expanduser()
    if path.exists():
        return [f"--output: '{path}' exists; give a new file; each bonus is in one list only."]
    if not path.parent.is_dir():
        return [f"--output: there is no folder '{path.parent}'; make it, or give another."]
    return []


def _amount(faults: list[str], flag: str, amount: str) -> int:
    """Read an amount; one that is none is a fault, and 0."""
    found, wrong = collect_faults(lambda: _cents(flag, amount))
    if found == 0:
        wrong.append(f"{flag}: 0 pays nobody anything; give an amount like 1.50.")
    faults += wrong
    return found or 0


def _cents(flag: str, amount: str) -> int:
    try:
        return to_minor(amount)
    except ValueError as error:
        raise ConfigurationError(f"{flag}: {error}; write it like 1.50.") from None


def with_rejected(parser: argparse.ArgumentParser) -> None:
    """Declare what ``approve`` takes."""
    parser.add_argument("--rejected", action="store_true", help="approve what was rejected, too")


def with_reason(parser: argparse.ArgumentParser) -> None:
    """Declare what ``reject`` takes."""
    _with_reason(parser)
    parser.add_argument("--category", help="Prolific alone: why, such as LOW_EFFORT")


def with_message(parser: argparse.ArgumentParser) -> None:
    """Declare what ``message`` takes."""
    parser.add_argument("--text", required=True, help="what the workers read")
    parser.add_argument("--subject", help="MTurk alone: the subject")
    parser.add_argument("--again", action="store_true", help="send it also to those who have had it")


def with_settling(parser: argparse.ArgumentParser) -> None:
    """Declare what ``settle`` takes."""
    answer = parser.add_mutually_exclusive_group(required=True)
    answer.add_argument("--paid", action="store_true", help="Prolific's pages say that the bonuses arrived")
    answer.add_argument("--unpaid", action="store_true", help="they never arrived, and can be paid anew")


def _with_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, help="what the worker reads")


def _with_confirm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--confirm", help="the total; without it the total is only said")
    parser.add_argument("--output", help="panels without an API: the new file for the list of what to pay")


def with_bonus(parser: argparse.ArgumentParser) -> None:
    """Declare what ``bonus`` takes."""
    parser.add_argument("--amount", required=True, help="for each unit, such as 1.50")
    _with_reason(parser)
    _with_confirm(parser)


def with_wage(parser: argparse.ArgumentParser) -> None:
    """Declare what ``wage`` takes."""
    parser.add_argument("--hourly", required=True, help="an hour, reward and bonuses together")
    parser.add_argument("--cap", required=True, help="bonus for one unit at most")
    parser.add_argument("--reason", default=WAGE_REASON, help="what the worker reads")
    _with_confirm(parser)

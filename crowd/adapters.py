"""One interface to every crowd platform for the requester's commands: approve, reject, bonuses, messages, access.

Mock and MTurk pay bonuses one by one (:class:`DirectAdapter`); panels without an API get a list of what to pay
(:class:`ListAdapter`); Prolific's is in :mod:`model_chat.crowd.prolific`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from mephisto.data_model.unit import Unit
from typing_extensions import override

from model_chat.configuration.lists import FORMULA, GUARD
from model_chat.crowd.ledger import SENDING, Bonus, token_of
from model_chat.crowd.money import fee_cents, plain, written
from model_chat.crowd.panel_pay import PANELS, PROLIFIC, PanelPay
from model_chat.crowd.platform import PlatformError, approve, mturk_client, pay_bonus, reject
from model_chat.crowd.transfers import Line, Transfer, Transfers, TransferState
from model_chat.crowd.workers import FINISHED, Task
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import platform_id
from model_chat.records.writing import write_new_file

MTURK_SUBJECT, MTURK_MESSAGE = 200, 4096
"""Characters of a message's subject and text that MTurk takes."""


class Report(Protocol):
    """Where a command says what happened."""

    dry_run: bool

    def say(self, text: str) -> None:
        """Say a sentence."""

    def done(self, text: str) -> None:
        """Say what was done, or would be."""

    def failed(self, text: str) -> None:
        """Say what was not done."""


@dataclass(frozen=True)
class Owed:
    """A bonus and the agent whose work it is for."""

    agent: Any
    bonus: Bonus


@dataclass(frozen=True)
class Quote:
    """What paying would cost.

    Attributes:
        begun: of them, those that were begun before.
        total: hundredths of the currency, fees included where they are known.
        note: what the total includes or lacks; "" for nothing.
    """

    count: int
    total: int
    begun: int = 0
    note: str = ""
    owed: tuple[Owed, ...] = ()
    transfers: tuple[Transfer, ...] = field(default=())


class PlatformAdapter:
    """What a requester can do on a platform. Amounts are hundredths of ``currency``.

    What is here is right for a platform that has no API for it.
    """

    name: str
    currency: str = "USD"
    pays_by_list = False
    """Whether bonuses are written to a file that the requester hands in."""

    def rejection_faults(self, reason: str, category: str | None) -> list[str]:
        """Say what the platform would not take of a rejection."""
        del reason
        return [] if category is None else [f"--category: {self.name} knows no categories; leave it out."]

    def look_up(self, agents: Sequence[Any]) -> None:
        """Ask the platform once for what it knows of agents' work that is to be approved or rejected.

        Raises:
            PlatformError: it can't be asked.
        """

    def approve(self, agent: Any) -> str:
        """Approve finished work; return a remark, "" for none.

        Raises:
            PlatformError: it is not approved.
        """
        raise NotImplementedError

    def reject(self, agent: Any, reason: str, category: str | None) -> str:
        """Reject finished work; return a remark, "" for none.

        Raises:
            PlatformError: it is not rejected.
        """
        raise NotImplementedError

    def prepare(self, agents: Sequence[Any], report: Report) -> None:
        """Find out how payments of earlier commands ended, and learn the currency. The caller may pay.

        Raises:
            PlatformError: the platform can't be asked.
            ConfigurationError: the agents' work is paid in several currencies.
        """

    def quote(self, new: Sequence[Owed], report: Report) -> Quote:
        """Find out what bonuses cost, those begun before first. Nothing is paid, and in a dry run nobody asked.

        Raises:
            PlatformError: the platform can't be asked, or refuses.
        """
        raise NotImplementedError

    def pay(self, quote: Quote, report: Report, output: Path | None) -> None:
        """Pay what was quoted, and report each bonus. The caller holds the ledger's right to pay."""
        raise NotImplementedError

    def message_faults(self, subject: str | None, text: str) -> list[str]:
        """Say why no such message can be sent on the platform."""
        raise NotImplementedError

    def send_message(self, agent: Any, subject: str | None, text: str) -> None:
        """Send a message to an agent's worker.

        Raises:
            PlatformError: it is not sent, or nobody knows.
        """
        raise PlatformError(self.message_faults(subject, text)[0])

    def set_access(self, worker_ids: Sequence[str], blocked: bool | None = None, invited: bool | None = None) -> str:
        """Let the platform itself keep workers, named by its own ids, out or let them in; return a remark, "" for none.

        Raises:
            PlatformError: it did not.
        """
        return ""


def adapter_of(task: Task, token_variable: str | None = None) -> PlatformAdapter:
    """Return the adapter of the platform on which a task ran last.

    Args:
        token_variable: the environment variable with the token of its API, in place of the run's.
    """
    pay = PanelPay.of(task.provider_type, task.last_run.args.get("provider") or {})
    if task.provider_type == PROLIFIC:
        from model_chat.crowd.prolific import ProlificAdapter

        return ProlificAdapter(task, pay, token_variable)
    if task.provider_type in PANELS:
        return ListAdapter(task, pay)
    return DirectAdapter(task)


class DirectAdapter(PlatformAdapter):
    """MTurk, its sandbox, and mock: each bonus is one request, which the platform knows again."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._is_mturk = task.provider_type.startswith("mturk")
        self.name = "MTurk" if self._is_mturk else f"the provider {task.provider_type}"

    @override
    def approve(self, agent: Any) -> str:
        approve(agent)
        return ""

    @override
    def reject(self, agent: Any, reason: str, category: str | None) -> str:
        reject(agent, reason)
        return ""

    @override
    def quote(self, new: Sequence[Owed], report: Report) -> Quote:
        begun = _begun(self._task)
        owed = (*begun, *new)
        total = sum(one.bonus.cents + (fee_cents(one.bonus.cents) if self._is_mturk else 0) for one in owed)
        return Quote(len(owed), total, len(begun), ", MTurk's fee included" if self._is_mturk else "", owed)

    @override
    def pay(self, quote: Quote, report: Report, output: Path | None) -> None:
        for one in quote.owed:
            try:
                paid = pay_bonus(self._task.ledger, one.agent, one.bonus)
            except PlatformError as error:
                report.failed(f"{error}.")
                continue
            amount = written(one.bonus.cents)
            report.say(f"{unit_of(one.agent)}: {amount} " + ("paid" if paid else "had been paid before"))

    @override
    def message_faults(self, subject: str | None, text: str) -> list[str]:
        if not self._is_mturk:
            return [f"message: {self.name} reaches nobody; there is no platform that could send a message."]
        faults = []
        if not subject or len(subject) > MTURK_SUBJECT:
            faults.append(f"--subject: MTurk wants 1 to {MTURK_SUBJECT} characters.")
        if len(text) > MTURK_MESSAGE:
            faults.append(f"--text: has {len(text):,} characters, MTurk allows {MTURK_MESSAGE:,}; shorten it.")
        return faults

    @override
    def send_message(self, agent: Any, subject: str | None, text: str) -> None:
        worker_id = platform_id(agent.get_worker())
        try:
            answer = mturk_client(agent).notify_workers(  # type: ignore[union-attr]  # message_faults refuses mock
                Subject=subject, MessageText=text, WorkerIds=[worker_id]
            )
        except (ClientError, BotoCoreError) as error:
            raise PlatformError(f"MTurk did not send the message: {error}") from error
        for failure in answer.get("NotifyWorkersFailureStatuses") or ():
            raise PlatformError(f"MTurk did not send the message: {failure.get('NotifyWorkersFailureMessage')}")


class ListAdapter(PlatformAdapter):
    """A panel without an API: what can be done here is done here, and what to pay is written to a list."""

    pays_by_list = True

    def __init__(self, task: Task, pay: PanelPay) -> None:
        self._task, self._pay = task, pay
        self._transfers = Transfers(task.ledger, task.provider_type, task.name)
        self.name, self.currency = pay.name, pay.currency
        self._noted = f"noted here; do it on {pay.name} too, which has no API for it"

    @override
    def approve(self, agent: Any) -> str:
        agent.approve_work()
        return self._noted

    @override
    def reject(self, agent: Any, reason: str, category: str | None) -> str:
        reject(agent, reason)
        return self._noted

    @override
    def prepare(self, agents: Sequence[Any], report: Report) -> None:
        """Close what a process that died has left: a list that is written counts, one that isn't was never begun."""
        for transfer in self._transfers.with_state(TransferState.PAYING):
            if Path(transfer.transfer_id).exists():
                self._close(transfer)
                report.say(f"'{transfer.transfer_id}' of an earlier command lists {len(transfer.lines)} bonuses")
            else:
                self._transfers.refused(transfer)
        self._transfers.drop(self._transfers.with_state(TransferState.SET_UP))

    @override
    def quote(self, new: Sequence[Owed], report: Report) -> Quote:
        return Quote(len(new), sum(one.bonus.cents for one in new), 0, f", without a fee of {self.name}", tuple(new))

    def _close(self, transfer: Transfer) -> None:
        self._transfers.accepted(transfer)
        self._transfers.confirm(transfer, transfer.lines)

    @override
    def pay(self, quote: Quote, report: Report, output: Path | None) -> None:
        """Write the list; its bonuses are paid as far as the ledger is concerned."""
        if output is None or output.exists():
            raise ConfigurationError(f"--output: '{output}' exists; give a new file; each bonus is in one list only.")
        # The transfer's name is the file's, for which there can be only one.
        lines = tuple(Line(one.bonus, self._task.participation(one.agent.db_id).session or "") for one in quote.owed)
        transfer = Transfer(str(output.absolute()), "", quote.total, self.currency, lines)
        self._transfers.add(transfer)
        self._transfers.begin(transfer)
        try:
            write_new_file(output, self._table(quote.owed).encode())
        except OSError as error:
            self._transfers.refused(transfer)
            self._transfers.drop([transfer])
            raise ConfigurationError(
                f"--output: '{output}' can't be written ({error.strerror}); give another."
            ) from error
        self._close(transfer)
        report.say(
            f"'{output}' lists {len(lines)} bonuses, {written(quote.total, self.currency)}; pay them on {self.name}"
        )

    def _table(self, owed: Sequence[Owed]) -> str:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["participant", "session", "study", "amount", "currency", "reason"])
        for one in owed:
            known = self._task.participation(one.agent.db_id)
            cells = [one.bonus.worker_id, known.session or "", known.study or ""]
            table.writerow([*map(_as_text, cells), plain(one.bonus.cents), self.currency, _as_text(one.bonus.reason)])
        return text.getvalue()

    @override
    def message_faults(self, subject: str | None, text: str) -> list[str]:
        return [f"message: {self.name} has no API that sends messages; write to its participants on its own pages."]


def unit_of(agent: Any) -> str:
    """Name an agent's unit for people."""
    return f"{platform_id(agent.get_worker())}, unit {agent.unit_id}"


def reward_of(agent: Any) -> int:
    """Return the reward of an agent's unit in hundredths of the currency."""
    unit: Unit = agent.get_unit()
    return round(unit.pay_amount * 100)


def fixed_bonus(task: Task, agent: Any, cents: int, reason: str) -> Owed | Bonus:
    """Return the bonus that is owed, or the one that was begun or paid before: a unit gets each reason's bonus once.

    The caller holds :meth:`~model_chat.crowd.ledger.Ledger.paying`.

    Args:
        cents: hundredths of the currency.
    """
    token = token_of("fixed", task.name, agent.db_id, reason)
    before = next((bonus for bonus in task.ledger.bonuses(agent.db_id) if bonus.token == token), None)
    return before or Owed(agent, Bonus(token, agent.db_id, platform_id(agent.get_worker()), cents, reason))


def _begun(task: Task) -> tuple[Owed, ...]:
    """Bonuses whose sending was cut short."""
    by_id = {agent.db_id: agent for agent in task.agents(FINISHED)}
    return tuple(
        Owed(by_id[bonus.agent_id], bonus)
        for bonus in task.ledger.bonuses()
        if bonus.state == SENDING and bonus.agent_id in by_id
    )


def _as_text(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"{GUARD}{cell}" if re.match(FORMULA, cell) else cell

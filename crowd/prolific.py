"""The requester's commands on Prolific: submissions, bonuses, messages and participant groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mephisto.abstractions._subcomponents.agent_state import AgentState

from model_chat.crowd.adapters import Owed, PlatformAdapter, Quote, Report
from model_chat.crowd.money import written
from model_chat.crowd.panel_pay import PROVIDER, PanelPay
from model_chat.crowd.platform import PlatformError
from model_chat.crowd.prolific_api import (
    MAX_BONUSES,
    MIN_REJECTION_CHARACTERS,
    NoAnswerError,
    ProlificClient,
    RefusedByProlificError,
    address_fault,
    concerns_all_requests,
    read_token,
)
from model_chat.crowd.prolific_models import BonusLine, RejectionCategory, Study, Submission, SubmissionDetail
from model_chat.crowd.transfers import Line, Transfer, Transfers, TransferState, without_state
from model_chat.crowd.workers import Task
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import platform_id

APPROVED, REJECTED = "APPROVED", "REJECTED"
"""Statuses of a submission."""
SETTLE = "manage_workers.py settle"


def open_client(pay: PanelPay, token_variable: str | None = None) -> ProlificClient:
    """Return the API as a run's flags say.

    Args:
        token_variable: in place of the run's ``api_token_env``.

    Raises:
        ConfigurationError: there is no token, or the address can't be used.
    """
    given = token_variable is not None
    flag = "--api-token-env" if given else f"{PROVIDER}.api_token_env (or --api-token-env)"
    variable = token_variable if given else pay.api_token_env
    token, faults = read_token(flag, variable)
    address = address_fault(f"{PROVIDER}.api_url", pay.api_url)
    ConfigurationError.raise_if([*faults, *([address] if address else [])])
    return ProlificClient(token, variable or "", pay.api_url)


class ProlificAdapter(PlatformAdapter):
    """Prolific, by its API. Nothing is asked before it is needed."""

    name = "Prolific"

    def __init__(self, task: Task, pay: PanelPay, token_variable: str | None = None) -> None:
        self._task, self._pay, self._token_variable = task, pay, token_variable
        self._transfers = Transfers(task.ledger, task.provider_type, task.name)
        self._studies: dict[str, Study] = {}
        self._listed: dict[str, list[Submission]] = {}
        self.currency = pay.currency

    @cached_property
    def client(self) -> ProlificClient:
        """The API."""
        return open_client(self._pay, self._token_variable)

    def study(self, study_id: str) -> Study:
        """Return a study."""
        if study_id not in self._studies:
            self._studies[study_id] = self.client.study(study_id)
        return self._studies[study_id]

    def prepare(self, agents: Sequence[Any], report: Report) -> None:
        """Look for bonuses that were sent before, and learn what the agents' studies pay in.

        Raises:
            ConfigurationError: in several currencies.
        """
        self.check_earlier(report)
        ids = dict.fromkeys(study for agent in agents if (study := self._study_of(agent)) is not None)
        found = dict.fromkeys(self.study(study_id).currency or self._pay.currency for study_id in ids)
        if len(found) > 1:
            raise ConfigurationError(
                f"The studies of these workers pay in {' and '.join(found)}; name the workers of one study at a time."
            )
        self.currency = next(iter(found), self.currency)

    def _study_of(self, agent: Any) -> str | None:
        return self._task.participation(agent.db_id).study or self._pay.study_id

    # --- submissions ---

    def rejection_faults(self, reason: str, category: str | None) -> list[str]:
        """Say what Prolific would not take of a rejection."""
        faults = []
        if category not in set(RejectionCategory):
            said = "is not set" if category is None else f"'{category}' is unknown to Prolific"
            faults.append(f"--category: {said}; give one of {', '.join(RejectionCategory)}.")
        if len(reason.strip()) < MIN_REJECTION_CHARACTERS:
            faults.append(
                f"--reason: has {len(reason.strip())} characters, and Prolific wants at least {MIN_REJECTION_CHARACTERS}; "
                "tell the participant what was wrong."
            )
        return faults

    def look_up(self, agents: Sequence[Any]) -> None:
        """List the submissions of the agents' studies."""
        for study_id in dict.fromkeys(filter(None, map(self._study_of, agents))):
            self._submissions(study_id)

    def _submissions(self, study_id: str) -> list[Submission]:
        if study_id not in self._listed:
            self._listed[study_id] = self.client.submissions(study_id)
        return self._listed[study_id]

    def approve(self, agent: Any) -> str:
        """Approve a submission, one that was rejected included; one that is approved already stays so."""
        submission = self._submission_of(agent)
        if submission.status != APPROVED:
            if submission.status == REJECTED:
                self._move(submission.id, "UNREJECT", lambda status: status != REJECTED)
            self._move(submission.id, "APPROVE", lambda status: status == APPROVED)
        agent.update_status(AgentState.STATUS_APPROVED)
        return ""

    def reject(self, agent: Any, reason: str, category: str | None) -> str:
        """Reject a submission; one that is rejected already stays so."""
        submission = self._submission_of(agent)
        if agent.db_status == AgentState.STATUS_APPROVED or submission.status == APPROVED:
            raise PlatformError(f"submission {submission.id} is approved already and can't be rejected any more")
        if submission.status != REJECTED:
            self._move(
                submission.id,
                "REJECT",
                lambda status: status == REJECTED,
                message=reason.strip(),
                rejection_category=category or "",
            )
        agent.update_status(AgentState.STATUS_REJECTED)
        return ""

    def _move(
        self,
        submission_id: str,
        action: Literal["APPROVE", "REJECT", "UNREJECT"],
        is_done: Callable[[str], bool],
        **further: str,
    ) -> None:
        """Change a status; what Prolific refuses may be done all the same, by itself or by somebody on its pages."""
        try:
            self.client.transition(submission_id, action, **further)
        except RefusedByProlificError as error:
            if error.status not in (400, 409, 422):
                raise
            status = self.client.submission(submission_id).status
            if not is_done(status):
                raise PlatformError(f"submission {submission_id}, which is {status} on Prolific: {error}") from error

    def _submission_of(self, agent: Any) -> Submission:
        """Return the submission of an agent's work.

        Raises:
            PlatformError: Prolific has none, or one of another participant: whoever wrote the id into the address.
        """
        study_id, session, participant = self._ids(agent)
        canonical = self._task.canonical
        theirs = [one for one in self._submissions(study_id) if canonical(one.participant_id) == canonical(participant)]
        if session is not None:
            for one in theirs:
                if one.id == session:
                    return one
            raise PlatformError(
                f"{participant}, unit {agent.unit_id}: Prolific's study {study_id} has no submission {session} of theirs; "
                "the address that they came with may have been changed"
            )
        if len(theirs) != 1:
            raise PlatformError(
                f"{participant}, unit {agent.unit_id}: it is not known which of their {len(theirs)} submissions of study "
                f"{study_id} it is; do it on Prolific"
            )
        return theirs[0]

    def _ids(self, agent: Any) -> tuple[str, str | None, str]:
        """Return Prolific's ids of the study, the submission (None where it is not saved) and the participant."""
        study_id = self._study_of(agent)
        participant = platform_id(agent.get_worker())
        if study_id is None:
            raise PlatformError(
                f"{participant}, unit {agent.unit_id}: no study is saved with this conversation, and {PROVIDER}.study_id is "
                "not set; do it on Prolific"
            )
        return study_id, self._task.participation(agent.db_id).session, participant

    # --- bonuses ---

    def quote(self, new: Sequence[Owed], report: Report) -> Quote:
        """Set bonuses up, which pays nothing and says the fees; in a dry run only add up."""
        if report.dry_run:
            total = sum(one.bonus.cents for one in new)
            return Quote(len(new), total, 0, ", without Prolific's fee", tuple(new))
        unused = self._transfers.with_state(TransferState.SET_UP)
        transfers = []
        for study_id, lines in self._by_study(new, report):
            for chunk in _chunks(lines):
                same = next((one for one in unused if _is_same(one, study_id, chunk)), None)
                if same is None:
                    transfers.append(self._set_up(study_id, chunk))
                else:
                    unused.remove(same)
                    transfers.append(replace(same, lines=tuple(chunk)))
        self._transfers.drop(unused)
        count = sum(len(transfer.lines) for transfer in transfers)
        total = sum(transfer.total for transfer in transfers)
        return Quote(count, total, 0, ", Prolific's fee and VAT included", transfers=tuple(transfers))

    def _by_study(self, new: Sequence[Owed], report: Report) -> Iterator[tuple[str, list[Line]]]:
        """Find each bonus' submission; what has none is reported and left out."""
        found: dict[str, list[Line]] = {}
        # Bonuses that were sent before, or will be before this one, and that Prolific does not show yet.
        coming = Counter(
            (line.submission, line.bonus.cents)
            for transfer in self._transfers.with_state(TransferState.PAYING, TransferState.ACCEPTED)
            for line in transfer.lines
            if not line.confirmed
        )
        for one in new:
            try:
                submission = self._submission_of(one.agent)
                paid = self.client.submission(submission.id)
            except PlatformError as error:
                if concerns_all_requests(error):
                    raise
                report.failed(f"{error}.")
                continue
            same = (submission.id, one.bonus.cents)
            shown = _count(paid, one.bonus.cents) + coming[same]
            coming[same] += 1
            study_id = self._ids(one.agent)[0]
            found.setdefault(study_id, []).append(Line(one.bonus, submission.id, shown))
        yield from found.items()

    def _set_up(self, study_id: str, lines: Sequence[Line]) -> Transfer:
        bulk = self.client.set_up_bonuses(study_id, [BonusLine(line.submission, line.bonus.cents) for line in lines])
        transfer = Transfer(bulk.id, study_id, math.ceil(bulk.total_amount), self.currency, tuple(lines))
        try:
            self._transfers.add(transfer)
        except ValueError as error:
            raise PlatformError(
                f"Prolific gave new bonuses the id of earlier ones ({bulk.id}); nothing was paid, ask Prolific"
            ) from error
        return transfer

    def pay(self, quote: Quote, report: Report, output: Path | None) -> None:
        """Pay what is set up, one transfer after the other; ends at the first one that Prolific does not accept."""
        for transfer in quote.transfers:
            self._transfers.begin(transfer)
            try:
                self.client.pay_bonuses(transfer.transfer_id)
            except RefusedByProlificError as error:
                self._transfers.refused(transfer)
                report.failed(f"{error}. {len(transfer.lines)} bonuses were not paid.")
                return
            except NoAnswerError as error:
                report.failed(f"{error}. {len(transfer.lines)} bonuses may have been paid: {_WHAT_TO_DO}")
                return
            self._transfers.accepted(transfer)
            for line in transfer.lines:
                report.say(f"{_named(transfer, line)} accepted, paid within minutes")

    def check_earlier(self, report: Report) -> None:
        """Look which bonuses of earlier commands Prolific shows by now, and report those that it does not.

        A transfer of which nobody knows whether it was accepted is, once one of its bonuses is shown.
        """
        for transfer in self._transfers.with_state(TransferState.PAYING, TransferState.ACCEPTED):
            waiting = [line for line in transfer.lines if not line.confirmed]
            if not waiting:
                continue
            shown = [line for line in waiting if self._is_shown(line)]
            state = transfer.state
            if shown and state is TransferState.PAYING:
                self._transfers.accepted(transfer)
                state = TransferState.ACCEPTED
            self._transfers.confirm(transfer, shown)
            for line in waiting:
                if line in shown:
                    continue
                said = _named(transfer, line)
                if state is TransferState.PAYING:
                    report.failed(f"{said} may have been paid before; Prolific does not show it. {_WHAT_TO_DO}")
                else:
                    report.say(f"{said} was accepted by Prolific, which does not show it yet")

    def _is_shown(self, line: Line) -> bool:
        return _count(self.client.submission(line.submission), line.bonus.cents) > line.shown_before

    def settle(self, worker_ids: Sequence[str], was_paid: bool, report: Report) -> None:
        """Note what the requester says of bonuses that Prolific does not show.

        Args:
            was_paid: whether they arrived; those that didn't can be paid anew.
        """
        wanted = set(map(self._task.canonical, worker_ids))
        settled = set()
        for transfer in self._transfers.with_state(TransferState.PAYING, TransferState.ACCEPTED):
            lines = [
                line
                for line in transfer.lines
                if not line.confirmed and self._task.canonical(line.bonus.worker_id) in wanted
            ]
            for line in lines:
                settled.add(self._task.canonical(line.bonus.worker_id))
                kept = "taken for paid" if was_paid else "taken for not paid; the next 'bonus' or 'wage' can pay it"
                report.done(f"{_named(transfer, line)} {kept}")
            if lines and not report.dry_run:
                (self._transfers.confirm if was_paid else self._transfers.strike)(transfer, lines)
        for worker_id in worker_ids:
            if self._task.canonical(worker_id) not in settled:
                report.failed(f"{worker_id} has no bonus that Prolific does not show")

    # --- messages and access ---

    def message_faults(self, subject: str | None, text: str) -> list[str]:
        """Say why no such message can be sent."""
        faults = [] if subject is None else ["--subject: messages on Prolific have none; leave it out."]
        return faults if text.strip() else [*faults, "--text: is empty; write what the participants are to read."]

    def send_message(self, agent: Any, subject: str | None, text: str) -> None:
        """Send a message to an agent's participant."""
        study_id, _, participant = self._ids(agent)
        self.client.send_message(participant, text, study_id)

    def set_access(self, worker_ids: Sequence[str], blocked: bool | None = None, invited: bool | None = None) -> str:
        """Put participants into the groups of blocked and invited ones, or take them out."""
        said = []
        for wanted, group, name in (
            (blocked, self._pay.blocked_group, "blocked_group"),
            (invited, self._pay.allowed_group, "allowed_group"),
        ):
            if wanted is None:
                continue
            if group is None:
                said.append(f"only here: {PROVIDER}.{name} names no participant group on Prolific")
                continue
            (self.client.add_to_group if wanted else self.client.remove_from_group)(group, worker_ids)
            said.append(f"{'in' if wanted else 'no longer in'} the participant group {group} on Prolific")
        return "; ".join(said)


_WHAT_TO_DO = (
    f"Look at the submission on Prolific in some minutes and repeat this command; if it never shows the bonus, say so with "
    f"'{SETTLE} --unpaid', else with '--paid'."
)


def _chunks(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Cut lines into transfers: no submission twice in one, and no more lines than Prolific recommends."""
    left = list(lines)
    while left:
        chunk: dict[str, Line] = {}
        rest = []
        for line in left:
            if line.submission in chunk or len(chunk) == MAX_BONUSES:
                rest.append(line)
            else:
                chunk[line.submission] = line
        yield list(chunk.values())
        left = rest


def _is_same(transfer: Transfer, study_id: str, lines: Sequence[Line]) -> bool:
    return transfer.study == study_id and list(map(without_state, transfer.lines)) == list(map(without_state, lines))


def _named(transfer: Transfer, line: Line) -> str:
    """A bonus for the requester: whose, for what, and how much."""
    return f"{line.bonus.worker_id}, submission {line.submission}: {written(line.bonus.cents, transfer.currency)}"


def _count(submission: SubmissionDetail, cents: int) -> int:
    """How many bonuses of an amount a submission shows."""
    return sum(round(payment) == cents for payment in submission.bonus_payments)

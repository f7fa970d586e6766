"""What a reviewer does: approve, reject, pay, block. The same code and the same ledger as scripts/manage_workers.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal
from uuid import uuid4

from mephisto.data_model.agent import Agent
from pydantic import Field

from model_chat.crowd.adapters import Owed, PlatformAdapter, adapter_of, fixed_bonus, unit_of
from model_chat.crowd.ledger import PAID, Bonus
from model_chat.crowd.money import to_minor, written
from model_chat.crowd.platform import PlatformError
from model_chat.crowd.workers import FINISHED, Task
from model_chat.dashboard.access import Session
from model_chat.dashboard.audit import AuditLog
from model_chat.dashboard.listing import version_of
from model_chat.dashboard.live import DashboardMessage, Run, RunAct
from model_chat.dashboard.store import Listed, RecordStore
from model_chat.dashboard.study import StudyInfo
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

Act = Literal["approve", "reject", "bonus", "block", "unblock"]
MOST_AT_ONCE = 200
"""Conversations in one request."""
LONGEST_REASON = 1000
MOST_BONUS = 100_000
"""Hundredths, for one conversation: more is taken for a typing error."""


class ActRequest(DashboardMessage, strict=True):
    """What a reviewer asks for.

    Attributes:
        amount: of a bonus, in whole currency.
        versions: of each conversation, as the reviewer saw it.
    """

    act: Act
    ids: list[str]
    reason: str = ""
    amount: float | int | str | None = None
    category: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)


@dataclass
class _Said:
    """Collects what an adapter reports."""

    dry_run: bool = False
    failures: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Take no note: the result says it."""

    def done(self, text: str) -> None:
        """Likewise."""

    def failed(self, text: str) -> None:
        """Keep it for the reviewer."""
        self.failures.append(text)


class Acts:
    """Acts on one study. ``_lock`` holds from the check of the versions to the end of the act, within this process; the
    audit log's own lock does so between processes.

    Args:
        store: of its records; only used with the lock that ``reading`` gives.
        reading: held while the store is refreshed.
    """

    def __init__(self, study: StudyInfo, store: RecordStore, reading: threading.Lock, audit: AuditLog) -> None:
        self._study, self._store, self._reading, self._audit = study, store, reading, audit
        self._lock = threading.Lock()

    def perform(self, request: ActRequest, who: Session) -> list[dict[str, Any]]:
        """Do it for one conversation after the other.

        Returns:
            for each id ``id``, ``ok``, ``error`` (a sentence, None if ok) and ``version`` afterwards (None if unknown).

        Raises:
            ConfigurationError: the request itself is faulty, or the study can't be acted on; nothing was done.
        """
        ids = list(dict.fromkeys(request.ids))
        with self._lock, self._audit.alone():
            task = self._task()
            adapter = adapter_of(task)
            faults, cents = self._faults(request, adapter)
            ConfigurationError.raise_if(faults)
            listed = self._refreshed()
            errors: dict[str, str | None] = {}
            chosen: list[tuple[Listed, Any]] = []
            for one_id in ids:
                one = listed.get(one_id)
                fault = self._stale(one_id, one, request)
                if fault is None and one is not None:
                    agent = None if one.agent is None else Agent.get(task.db, one.agent.id)
                    fault = _not_possible(one, agent, request.act)
                    if fault is None:
                        chosen.append((one, agent))
                errors[one_id] = fault
            if chosen:
                errors |= self._do(task, adapter, request, cents, chosen, who)
            after = self._refreshed()
        return [
            {
                "id": one_id,
                "ok": errors[one_id] is None,
                "error": errors[one_id],
                "version": version_of(after[one_id]) if one_id in after else None,
            }
            for one_id in ids
        ]

    def perform_on_run(self, run: Run, act: RunAct, more: int | None, who: Session) -> str:
        """Stop or resume taking workers in, or extend; return "", or why it was not done.

        Raises:
            OSError: the audit log can't be written; if that was before the act, nothing was done.
        """
        with self._lock, self._audit.alone():
            before = _of_run(run)
            note = self._notes(who, act, "run", before=before, amount=more)
            note(after=None, outcome="begun")
            fault = run.ask(act, more)
            after = {"accepting": act != "stop" if act != "extend" else before["accepting"], "extended_by": more}
            note(after=None if fault else after, outcome=f"failed: {fault}" if fault else "done")
        return fault

    def _notes(self, who: Session, act: Act | RunAct, target: str, **more: object) -> Callable[..., None]:
        """Return what writes an act into the audit log, before it is begun and with its outcome afterwards."""
        return partial(
            self._audit.add, key=uuid4().hex, who=who.name, role=who.role.value, act=act, target=target, **more
        )

    def _task(self) -> Task:
        if not self._study.database.is_file():
            raise ConfigurationError(
                "There is no database of Mephisto's for this study, so nothing can be reviewed here."
            )
        return Task(self._study.database, self._study.task_name)

    def _refreshed(self) -> dict[str, Listed]:
        with self._reading:
            return self._store.refresh().by_id

    def _faults(self, request: ActRequest, adapter: PlatformAdapter) -> tuple[list[str], int]:
        """What is wrong with a request, whatever conversations it is for; and its amount in hundredths."""
        faults, cents = [], 0
        if len(request.reason) > LONGEST_REASON:
            faults.append(f"The reason is too long; give at most {LONGEST_REASON} characters.")
        if request.act in ("reject", "bonus") and not request.reason.strip():
            faults.append("The reason is empty; say what the worker should read.")
        if request.act == "reject":
            faults += [
                fault.removeprefix("--").replace("reason:", "The reason").replace("category:", "The category")
                for fault in adapter.rejection_faults(request.reason, request.category)
            ]
        if request.act == "bonus":
            if adapter.pays_by_list:
                faults.append(
                    f"{adapter.name} has no API to pay by; write the list of bonuses with manage_workers.py bonus --output."
                )
            try:
                cents = to_minor(request.amount, self._study.currency)
            except ValueError as error:
                faults.append(f"The amount {error}; write it like 1.50.")
            else:
                if not 0 < cents <= MOST_BONUS:
                    faults.append(
                        f"The amount must be more than nothing and at most {written(MOST_BONUS, self._study.currency)}."
                    )
        if request.act in ("block", "unblock") and not self._study.block_qualification:
            faults.append("mephisto.blueprint.block_qualification is not set for this study, so nobody can be blocked.")
        return faults, cents

    def _stale(self, one_id: str, one: Listed | None, request: ActRequest) -> str | None:
        """Say that a conversation is not there, or is not as the reviewer saw it."""
        if one is None:
            return "There is no such conversation."
        if request.versions.get(one_id) == version_of(one):
            return None
        last = next(iter(reversed(self._audit.about(one_id))), None)
        if last is None:
            return "It has changed since you opened it, outside of the dashboard; look at it again."
        said = f" ({last['reason']})" if last.get("reason") else ""
        return f"{last['who']} has changed it meanwhile: {last['act']}{said}; look at it again."

    def _do(
        self,
        task: Task,
        adapter: PlatformAdapter,
        request: ActRequest,
        cents: int,
        chosen: list[tuple[Listed, Any]],
        who: Session,
    ) -> dict[str, str | None]:
        """Do what was asked; every act is in the audit log before it is begun, and with its outcome afterwards."""
        amount = cents / 100 if request.act == "bonus" else None
        asked = {"reason": request.reason or None, "amount": amount}
        notes = {
            one.id: self._notes(who, request.act, one.id, participant=one.entry.worker, before=_state_of(one), **asked)
            for one, _ in chosen
        }
        for note in notes.values():
            note(after=None, outcome="begun")
        errors: dict[str, str | None]
        try:
            if request.act == "bonus":
                errors = self._pay(task, adapter, request, cents, chosen)
            elif request.act in ("block", "unblock"):
                errors = self._set_blocked(task, adapter, chosen, request.act == "block")
            else:
                errors = self._review(adapter, request, chosen)
        except ConfigurationError as error:
            errors = {one.id: str(error) for one, _ in chosen}
        after = self._refreshed()
        for one, _ in chosen:
            fault = errors[one.id]
            outcome = "done" if fault is None else f"failed: {fault}"
            notes[one.id](after=_state_of(after.get(one.id, one)), outcome=outcome)
        return errors

    def _review(
        self, adapter: PlatformAdapter, request: ActRequest, chosen: list[tuple[Listed, Any]]
    ) -> dict[str, str | None]:
        def act(agent: Any) -> None:
            if request.act == "approve":
                adapter.approve(agent)
            else:
                adapter.reject(agent, request.reason, request.category)

        try:
            adapter.look_up([agent for _, agent in chosen])
        except PlatformError as error:
            return {one.id: f"{error}." for one, _ in chosen}
        return {one.id: _failure(act, agent) for one, agent in chosen}

    def _pay(
        self, task: Task, adapter: PlatformAdapter, request: ActRequest, cents: int, chosen: list[tuple[Listed, Any]]
    ) -> dict[str, str | None]:
        """Pay each the bonus once. What earlier commands have begun and not finished is not paid along with it."""
        errors: dict[str, str | None] = {}
        with ExitStack() as held:
            held.enter_context(task.ledger.paying())
            said = _Said()
            owed: dict[str, Owed] = {}
            try:
                adapter.prepare([agent for _, agent in chosen], said)
                for one, agent in chosen:
                    bonus = fixed_bonus(task, agent, cents, request.reason)
                    if isinstance(bonus, Bonus):
                        had = "has had" if bonus.state == PAID else "may have had"
                        errors[one.id] = (
                            f"{unit_of(agent)} {had} a bonus with this reason; a second one needs another reason."
                        )
                    else:
                        owed[one.id] = bonus
                if not owed:
                    return errors
                quote = adapter.quote(list(owed.values()), said)
                if quote.begun:
                    fault = (
                        f"{quote.begun} bonuses of an earlier command were begun and not finished; finish them first with "
                        "manage_workers.py bonus."
                    )
                    return errors | dict.fromkeys(owed, fault)
                adapter.pay(quote, said, None)
            except PlatformError as error:
                said.failed(f"{error}.")
            states = {bonus.token: bonus.state for bonus in task.ledger.bonuses()}
            for one, _ in chosen:
                if one.id in errors:
                    continue
                due = owed.get(one.id)  # None: the platform failed before it was known what is owed
                state = None if due is None else states.get(due.bonus.token)
                if state == PAID:
                    errors[one.id] = None
                elif state is not None:
                    errors[one.id] = f"Nobody knows whether it arrived. {' '.join(said.failures)}".strip()
                else:
                    errors[one.id] = " ".join(said.failures) or "The bonus was not paid."
        return errors

    def _set_blocked(
        self, task: Task, adapter: PlatformAdapter, chosen: list[tuple[Listed, Any]], blocked: bool
    ) -> dict[str, str | None]:
        name = self._study.block_qualification or ""
        make_qualification(task.db, name)
        bind_to_platform(task.requester, [{"qualification_name": name}])

        def act(agent: Any) -> None:
            worker = agent.get_worker()
            done = True
            if blocked and not is_blocked(worker, name):
                done = soft_block(worker, name, BlockReason.BY_HAND)
            elif not blocked and is_blocked(worker, name):
                done = unblock(worker, name)
            if not done:
                raise PlatformError("it is done here, but the crowd platform did not take it")
            adapter.set_access([task.canonical(platform_id(worker))], blocked=blocked)

        return {one.id: _failure(act, agent) for one, agent in chosen}


def _state_of(one: Listed) -> dict[str, Any]:
    """What an act may change, for the audit log."""
    return {"review": one.review, "bonus": one.bonus / 100, "blocked": one.blocked}


def _of_run(run: Run) -> dict[str, Any]:
    state = run.state
    return {
        "accepting": None if state is None else state.accepting,
        "target": None if state is None else sum(count.needed for count in state.counts),
    }


def _failure(act: Callable[[Any], object], agent: Any) -> str | None:
    """Do something for one conversation; return None, or why it was not done."""
    try:
        act(agent)
    except (PlatformError, ConfigurationError) as error:
        return f"{str(error).rstrip('.')}."
    return None


def _not_possible(one: Listed, agent: Any, act: Act) -> str | None:
    """Say why an act is not possible in the state in which a conversation is; None if it is."""
    if agent is None:
        return "Only a file has this conversation, and Mephisto's database does not; nothing can be done with it here."
    if act in ("block", "unblock"):
        return None
    if one.review == "none":
        return "The work has not been handed in, so there is nothing to review or to pay."
    if act == "bonus" and agent.db_status not in FINISHED:
        return "The work was rejected; a bonus is for work that was handed in and not rejected."
    if act == "reject" and one.review == "approved":
        return "The work is approved already and can't be rejected any more."
    if act == "reject" and one.review == "rejected":
        return "The work is rejected already."
    if act == "approve" and one.review == "approved":
        return "The work is approved already."
    return None

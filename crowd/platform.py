"""Approving, rejecting and paying bonuses on a crowd platform, with answers that say whether it happened.

Mephisto's own calls log a failure on MTurk and continue: work that could not be approved then counts as approved, and a
bonus that could not be paid as paid. On MTurk its client is therefore called directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from mephisto.abstractions._subcomponents.agent_state import AgentState

from model_chat.crowd.ledger import PAID, Bonus, Ledger
from model_chat.errors import ModelChatError
from model_chat.quality.blocks import platform_id

APPROVED, REJECTED = "Approved", "Rejected"
"""Statuses of an assignment on MTurk."""
DISPOSED = "Disposed"
"""Status of a HIT that MTurk keeps for a while only so that its results can be read."""


class PlatformError(ModelChatError, RuntimeError):
    """The platform did not do what was asked; the message is for the requester."""


def mturk_client(agent: Any) -> Any | None:
    """Return the MTurk client of an agent's requester, None for other platforms."""
    return agent._get_client() if hasattr(agent, "mturk_assignment_id") else None


def approve(agent: Any) -> None:
    """Approve the work of an agent; one that is approved already stays so. A rejection is overridden.

    Raises:
        PlatformError: the platform did not approve it.
    """
    client = mturk_client(agent)
    if client is None:
        agent.approve_work()
        return
    _move(agent, client, APPROVED, client.approve_assignment, OverrideRejection=True)
    agent.update_status(AgentState.STATUS_APPROVED)


def reject(agent: Any, reason: str) -> None:
    """Reject the work of an agent: it is not paid.

    Raises:
        PlatformError: the work is approved already, or the platform did not reject it.
    """
    if agent.db_status == AgentState.STATUS_APPROVED:
        raise PlatformError(f"unit of agent {agent.db_id} is approved already and can't be rejected any more")
    client = mturk_client(agent)
    if client is None:
        agent.reject_work(reason)
        return
    _move(agent, client, REJECTED, client.reject_assignment, RequesterFeedback=reason)
    agent.update_status(AgentState.STATUS_REJECTED)


def _move(agent: Any, client: Any, status: str, move: Callable[..., object], **more: Any) -> None:
    """Bring an assignment on MTurk into a status, in which it may be already: approved by itself after the delay, say."""
    assignment = _assignment(agent)
    try:
        move(AssignmentId=assignment, **more)
    except (ClientError, BotoCoreError) as error:
        if _status(client, assignment) != status:
            raise PlatformError(f"unit of agent {agent.db_id} could not be {status.lower()}: {error}") from error


def pay_bonus(ledger: Ledger, agent: Any, bonus: Bonus) -> bool:
    """Pay a bonus once, however often it is asked for. The caller holds :meth:`Ledger.paying`.

    Returns:
        whether it was paid now; False when it had been before.

    Raises:
        PlatformError: the platform refused it. If it may nevertheless have arrived (no answer), it stays on record as being
            sent, and the next try asks the platform first.
    """
    known = any(before.token == bonus.token for before in ledger.bonuses(bonus.agent_id))
    bonus = ledger.begin(bonus)
    if bonus.state == PAID:
        return False
    client = mturk_client(agent)
    if client is None:
        agent.get_worker().bonus_worker(bonus.cents / 100, bonus.reason, agent.get_unit())
    elif known and _has_arrived(client, agent, bonus):
        ledger.paid(bonus.token)
        return False
    else:
        _send(client, ledger, agent, bonus)
    ledger.paid(bonus.token)
    return True


def _send(client: Any, ledger: Ledger, agent: Any, bonus: Bonus) -> None:
    try:
        client.send_bonus(
            WorkerId=platform_id(agent.get_worker()),
            BonusAmount=f"{bonus.cents // 100}.{bonus.cents % 100:02d}",
            AssignmentId=_assignment(agent),
            Reason=bonus.reason,
            UniqueRequestToken=bonus.token,
        )
    except ClientError as error:
        message = str(error.response.get("Error", {}).get("Message", ""))
        if "UniqueRequestToken" in message or "already been processed" in message:
            return  # this very payment has been made
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400) < 500:
            ledger.withdraw(bonus.token)
            raise PlatformError(f"bonus for agent {agent.db_id} was refused: {message or error}") from error
        raise PlatformError(
            f"bonus for agent {agent.db_id}: MTurk is in trouble, it may have arrived: {error}"
        ) from error
    except BotoCoreError as error:
        raise PlatformError(f"bonus for agent {agent.db_id}: no answer, it may have arrived: {error}") from error


def _has_arrived(client: Any, agent: Any, bonus: Bonus) -> bool:
    """Whether MTurk has a payment that was begun before and of which nobody knows how it ended."""
    try:
        answer = client.list_bonus_payments(AssignmentId=_assignment(agent), MaxResults=100)
    except (ClientError, BotoCoreError) as error:
        raise PlatformError(f"bonus for agent {agent.db_id}: MTurk does not say whether it has it: {error}") from error
    return any(
        round(float(payment["BonusAmount"]) * 100) == bonus.cents and payment["Reason"] == bonus.reason
        for payment in answer["BonusPayments"]
    )


def take_down(unit: Any) -> None:
    """Take a unit off the platform, so that nobody can accept it any more; a worker who has it may finish.

    On MTurk its HIT is expired. A HIT that MTurk has no longer (Mephisto's clean-up disposes of them) is off it.

    Raises:
        PlatformError: the platform did not take it down; it can be tried again.
    """
    try:
        unit.expire()
    except Exception as error:  # what MTurk refuses comes out of Mephisto as a KeyError, too
        if not _is_gone(unit):
            raise PlatformError(f"unit {unit.db_id} could not be taken down: {error!r}") from error


def _is_gone(unit: Any) -> bool:
    """Whether MTurk has a unit's HIT no longer. It is then counted as this unit's, so that the next one gets another."""
    if not hasattr(unit, "get_mturk_hit_id"):
        return False
    hit = unit.get_mturk_hit_id() or next(iter(unit.datastore.get_unassigned_hit_ids(unit.task_run_id)), None)
    if hit is None:
        return False
    try:
        client = unit._get_client(unit.get_requester()._requester_name)
        gone = bool(client.get_hit(HITId=hit)["HIT"]["HITStatus"] == DISPOSED)
    except ClientError as error:
        gone = "does not exist" in str(error.response.get("Error", {}).get("Message", ""))
    except BotoCoreError:
        return False
    if gone and unit.get_mturk_hit_id() is None:
        unit.datastore.register_assignment_to_hit(hit, unit.db_id)
    return gone


def submitter(agent: Any) -> str | None:
    """Return the id of the worker who, by the platform, has handed in an agent's work.

    Returns:
        the id; None where there is no platform, or it does not say (yet): MTurk knows it once its own form has arrived.
    """
    client = mturk_client(agent)
    if client is None:
        return None
    try:
        return str(client.get_assignment(AssignmentId=_assignment(agent))["Assignment"]["WorkerId"])
    except (ClientError, BotoCoreError, PlatformError, KeyError):
        return None


def _assignment(agent: Any) -> str:
    assignment = agent._get_mturk_assignment_id()
    if assignment is None:
        raise PlatformError(f"agent {agent.db_id} has no assignment on MTurk (the worker has returned it)")
    return str(assignment)


def _status(client: Any, assignment: str) -> str | None:
    try:
        return str(client.get_assignment(AssignmentId=assignment)["Assignment"]["AssignmentStatus"])
    except (ClientError, BotoCoreError):
        return None

"""Who has done the work, by MTurk and not by the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_chat.crowd import identity
from model_chat.crowd.identity import check_worker
from model_chat.crowd.platform import submitter
from model_chat.quality.blocks import BlockReason, block_reasons, find_worker, is_blocked
from model_chat.tests.crowd.mturk_account import ASSIGNMENT, WORKER, Account
from model_chat.tests.mephisto_run import Run

BLOCK = "blocked"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "PAUSES", (0, 0))


def handed_in_by(account: Account, worker_id: str) -> None:
    account.expect(
        "get_assignment", {"Assignment": {"AssignmentId": ASSIGNMENT, "WorkerId": worker_id}}, AssignmentId=ASSIGNMENT
    )


@pytest.mark.parametrize("sandbox", [True, False])
def test_a_worker_who_is_who_the_page_said_is_left_alone(tmp_path: Path, sandbox: bool) -> None:
    account = Account(tmp_path, sandbox)
    agent = account.agent()
    handed_in_by(account, WORKER)
    assert check_worker(agent, BLOCK)
    assert not is_blocked(agent.get_worker(), BLOCK)


@pytest.mark.parametrize("is_known", [True, False])
def test_somebody_else_than_the_page_said_is_blocked_under_their_own_id_and_told_of(
    tmp_path: Path, is_known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    account = Account(tmp_path)
    agent = account.agent()
    if is_known:
        account.worker("AIMPOSTOR")
    account.knows("blocked_sandbox", "QUAL")
    handed_in_by(account, "AIMPOSTOR")
    account.expect(
        "associate_qualification_with_worker",
        QualificationTypeId="QUAL",
        WorkerId="AIMPOSTOR",
        IntegerValue=1,
        SendNotification=False,
    )
    assert not check_worker(agent, BLOCK)
    impostor = find_worker(account.db, account.type, "AIMPOSTOR")
    assert impostor is not None
    assert block_reasons(impostor, BLOCK) == [BlockReason.FALSE_ID]
    assert not is_blocked(agent.get_worker(), BLOCK), "whose id was used"
    assert f"said that it was worker {WORKER}, and MTurk says that worker AIMPOSTOR" in caplog.text


def test_mturk_is_asked_again_while_it_does_not_know_yet(tmp_path: Path) -> None:
    account = Account(tmp_path)
    agent = account.agent()
    account.refuse("get_assignment", "This operation can be called with a status of: Reviewable,Approved,Rejected")
    handed_in_by(account, WORKER)
    assert check_worker(agent, BLOCK)
    account.stub.assert_no_pending_responses()
    account.refuse("get_assignment", "not yet")
    account.refuse("get_assignment", "not yet")
    assert check_worker(agent, BLOCK), "nobody is accused of what is not known"
    assert submitter(agent) is None


def test_off_mturk_nobody_is_asked(mephisto_run: Run) -> None:
    agent = mephisto_run.agent()
    assert submitter(agent) is None
    assert check_worker(agent, BLOCK)


def test_a_fault_of_the_check_is_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broken: Any = object()
    assert check_worker(broken, BLOCK)
    broken = type("Broken", (), {"mturk_assignment_id": "x"})()
    assert check_worker(broken, BLOCK)
    assert "could not be checked" in caplog.text

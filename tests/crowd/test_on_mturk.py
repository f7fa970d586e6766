"""On MTurk and its sandbox, with Mephisto's own classes, up to the edge of MTurk's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.operations import task_launcher
from mephisto.operations.operator import Operator
from omegaconf import OmegaConf

from model_chat.conversation.human_agent import HumanAgent
from model_chat.crowd.ledger import PAID, SENDING, Bonus, Ledger, token_of
from model_chat.crowd.platform import PlatformError, approve, pay_bonus, reject
from model_chat.launch.recovery import Recovered, recover
from model_chat.mephisto_task.task_operator import TaskOperator
from model_chat.quality.block_lists import block_listed
from model_chat.quality.blocks import (
    BlockReason,
    bind_to_platform,
    block_reasons,
    find_worker,
    is_blocked,
    platform_id,
    soft_block,
    unblock,
)
from model_chat.records.collected import find_saved
from model_chat.tests.crowd.mturk_account import ASSIGNMENT, HIT, WORKER, Account

Open = Callable[..., Account]
both = pytest.mark.parametrize("sandbox", [True, False], ids=["sandbox", "live"])


@pytest.fixture
def open_account(tmp_path: Path) -> Iterator[Open]:
    """Open an account; at the end, everything that was expected must have been asked."""
    accounts: list[Account] = []

    def open_(**settings: Any) -> Account:
        accounts.append(Account(tmp_path, **settings))
        return accounts[-1]

    yield open_
    for account in accounts:
        account.stub.assert_no_pending_responses()


def suffixed(name: str, sandbox: bool) -> str:
    return f"{name}_sandbox" if sandbox else name


# --- ids ---


@both
def test_what_is_saved_are_the_ids_of_the_platform(open_account: Open, sandbox: bool) -> None:
    human = HumanAgent(open_account(sandbox=sandbox).agent())
    assert (human.worker_id, human.hit_id, human.assignment_id) == (WORKER, HIT, ASSIGNMENT)


@both
def test_a_worker_is_found_by_the_id_of_the_platform_and_has_it_back(open_account: Open, sandbox: bool) -> None:
    account = open_account(sandbox=sandbox)
    worker = account.worker()
    found = find_worker(account.db, account.type, WORKER)
    assert found is not None
    assert found.db_id == worker.db_id
    assert platform_id(found) == WORKER
    assert found.worker_name == suffixed(WORKER, sandbox)
    assert find_worker(account.db, account.type, "ANOBODY") is None


def test_an_id_that_ends_like_the_suffix_keeps_its_end(open_account: Open) -> None:
    assert platform_id(open_account(sandbox=True).worker("A_sandbox")) == "A_sandbox"


# --- soft blocks ---


@both
def test_a_block_and_its_lifting_reach_the_platform_but_not_its_reason(open_account: Open, sandbox: bool) -> None:
    account = open_account(sandbox=sandbox)
    account.knows(suffixed("blocked", sandbox), "QUAL1")
    worker = account.worker()
    given = {"QualificationTypeId": "QUAL1", "WorkerId": WORKER, "IntegerValue": 1, "SendNotification": False}
    account.expect("associate_qualification_with_worker", **given)
    assert soft_block(worker, "blocked", BlockReason.ACCEPTABILITY)
    assert is_blocked(worker, "blocked")
    assert block_reasons(worker, "blocked") == [BlockReason.ACCEPTABILITY]
    account.expect("disassociate_qualification_from_worker", QualificationTypeId="QUAL1", WorkerId=WORKER, Reason="")
    assert unblock(worker, "blocked")
    assert not is_blocked(worker, "blocked")
    assert block_reasons(worker, "blocked") == []


def test_a_block_that_the_platform_does_not_take_is_no_success_and_holds_here(open_account: Open) -> None:
    account = open_account()
    account.knows("blocked_sandbox", "QUAL1")
    account.refuse("associate_qualification_with_worker", "no such worker")
    worker = account.worker()
    assert not soft_block(worker, "blocked", BlockReason.BY_HAND)
    assert is_blocked(worker, "blocked")


def test_listed_workers_who_never_came_are_blocked_on_the_platform_too(open_account: Open) -> None:
    account = open_account(sandbox=False)
    account.knows("blocked", "QUAL1")
    account.worker()
    for worker_id in (WORKER, "ANEW"):
        account.expect(
            "associate_qualification_with_worker",
            QualificationTypeId="QUAL1", WorkerId=worker_id, IntegerValue=1, SendNotification=False,
        )  # fmt: skip
    assert block_listed(account.db, "mturk", "blocked", [WORKER, "ANEW"]) == ["ANEW"]
    assert block_listed(account.db, "mturk", "blocked", [WORKER, "ANEW"]) == []  # nothing is asked of MTurk again


# --- qualifications and HITs ---


@both
def test_the_hit_type_asks_for_the_requesters_own_qualifications(open_account: Open, sandbox: bool) -> None:
    account = open_account(sandbox=sandbox)
    account.knows(suffixed("blocked", sandbox), "OWN1")  # granted before; the other one is new
    new = suffixed("invited", sandbox)
    wanted = [
        {"qualification_name": "blocked", "comparator": "DoesNotExist", "value": None, "applicable_providers": None},
        {"qualification_name": "invited", "comparator": "Exists", "value": None, "applicable_providers": None},
    ]
    for owned in (True, False):
        account.expect(
            "list_qualification_types", {"QualificationTypes": []},
            Query=new, MustBeRequestable=True, MustBeOwnedByCaller=owned,
        )  # fmt: skip
    account.expect(
        "create_qualification_type", {"QualificationType": {"QualificationTypeId": "OWN2"}},
        Name=new, Description=f"Equivalent qualification for {new}.", QualificationTypeStatus="Active",
    )  # fmt: skip
    bind_to_platform(account.requester, wanted)
    guarded = {"ActionsGuarded": "DiscoverPreviewAndAccept"}
    requirements: list[dict[str, Any]] = [
        {"QualificationTypeId": "OWN1", "Comparator": "DoesNotExist", **guarded},
        {"QualificationTypeId": "OWN2", "Comparator": "Exists", **guarded},
    ]
    if not sandbox:
        countries = [{"Country": code} for code in ("US", "CA", "GB", "AU", "NZ")]
        requirements.append(
            {"QualificationTypeId": "00000000000000000071", "Comparator": "In", "LocaleValues": countries, **guarded}
        )
    account.expect(
        "create_hit_type", {"HITTypeId": "TYPE1"},
        AutoApprovalDelayInSeconds=604800, AssignmentDurationInSeconds=1800, Reward="0.5", Title="Chat",
        Keywords="chat,rating", Description="Chat with a partner.", QualificationRequirements=requirements,
    )  # fmt: skip

    class Shared:
        qualifications = wanted

    class Frontend:
        @staticmethod
        def get_frontend_args() -> dict[str, Any]:
            return {}

    account.run.get_blueprint = lambda: Frontend
    account.provider.setup_resources_for_task_run(account.run, account.args, Shared, "https://study.example")
    account.expect(
        "create_hit_with_hit_type", {"HIT": {"HITId": "HIT7", "HITTypeId": "TYPE1"}},
        HITTypeId="TYPE1", MaxAssignments=1, LifetimeInSeconds=3600,
        Question=(
            '<ExternalQuestion xmlns="http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2006-07-14/'
            'ExternalQuestion.xsd"><ExternalURL>https://study.example/?a=1&amp;b=2</ExternalURL>'
            "<FrameHeight>0</FrameHeight></ExternalQuestion>"
        ),
    )  # fmt: skip
    account.unit().launch("https://study.example/?a=1&b=2")
    assert account.provider.datastore.get_unassigned_hit_ids(account.run.db_id) == ["HIT7"]


# --- what a run that died has left on offer ---


def hit_number(number: int) -> str:
    return f"3HIT{number:026d}"


def offer(account: Account, number: int) -> Any:
    """A unit whose HIT is open on MTurk and waits for a worker."""
    unit = account.unit()
    account.provider.datastore.new_hit(hit_number(number), "link", 1800, account.run.db_id)
    unit.set_db_status(AssignmentState.LAUNCHED)
    return unit


def look_at(account: Account, hit: str, status: str, available: int = 0) -> None:
    answer = {"HIT": {"HITId": hit, "HITStatus": status, "NumberOfAssignmentsAvailable": available}}
    account.expect("get_hit", answer, HITId=hit)


def expect_expiry(account: Account, *hits: str) -> None:
    for hit in hits:
        account.expect("update_expiration_for_hit", HITId=hit, ExpireAt=datetime(2015, 1, 1))


def start_again(account: Account, folder: Path) -> Recovered:
    found = find_saved(folder, Path(account.db.db_path), "study")
    return recover(account.db, "study", found, folder, is_live=True)


@both
def test_what_a_dead_run_left_on_offer_is_expired_on_the_platform(
    open_account: Open, tmp_path: Path, sandbox: bool
) -> None:
    account = open_account(sandbox=sandbox)
    units = [account.unit(), offer(account, 1), offer(account, 2)]  # the first was not offered yet
    agent = account.agent()  # somebody is at work
    agent.update_status("in task")
    agent.get_unit().set_db_status(AssignmentState.ASSIGNED)
    expect_expiry(account, hit_number(1), hit_number(2))
    look_at(account, HIT, "Unassignable")
    expect_expiry(account, HIT)
    assert start_again(account, tmp_path).expired == 4
    account.stub.assert_no_pending_responses()
    assert {account.db.get_unit(unit.db_id)["status"] for unit in [*units, agent.get_unit()]} == {"expired"}
    assert account.provider.datastore.get_unassigned_hit_ids(account.run.db_id) == []
    assert start_again(account, tmp_path) == Recovered(), "nothing more is asked of MTurk"


def test_the_hit_of_a_worker_who_had_finished_is_not_offered_again_and_counts_as_done(
    open_account: Open, tmp_path: Path
) -> None:
    account = open_account()
    agent = account.agent()
    agent.get_unit().set_db_status(AssignmentState.ASSIGNED)
    saved = {"dialog": [], "assignment_ids": [ASSIGNMENT], "task_description": {}, "workers": [WORKER]}
    agent.state.record_world_data({"custom_data": {**saved, "status": "complete"}})
    look_at(account, HIT, "Unassignable")
    expect_expiry(account, HIT)
    assert start_again(account, tmp_path).expired == 0
    assert account.db.get_unit(agent.unit_id)["status"] == "completed"
    assert account.db.get_agent(agent.db_id)["status"] == "completed"


def test_work_that_mturk_has_already_is_no_open_unit(open_account: Open, tmp_path: Path) -> None:
    account = open_account()
    agent = account.agent()
    agent.update_status("in task")
    agent.get_unit().set_db_status(AssignmentState.ASSIGNED)
    look_at(account, HIT, "Reviewable")
    assert start_again(account, tmp_path).expired == 0
    assert account.db.get_unit(agent.unit_id)["status"] == "completed"


def test_a_hit_that_mturk_would_not_expire_is_tried_again_at_the_next_start(
    open_account: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    account = open_account()
    unit = offer(account, 1)
    account.refuse("update_expiration_for_hit", "try later", status=503, code="ServiceFault")
    look_at(account, hit_number(1), "Assignable", 1)
    assert start_again(account, tmp_path).expired == 0
    assert f"unit {unit.db_id} could not be taken down" in caplog.text
    assert "Traceback" not in caplog.text
    assert account.db.get_unit(unit.db_id)["status"] == "launched"
    expect_expiry(account, hit_number(1))
    assert start_again(account, tmp_path).expired == 1


def test_hits_that_were_cleaned_up_meanwhile_are_done_with(open_account: Open, tmp_path: Path) -> None:
    account = open_account()
    units = [offer(account, number) for number in (1, 2)]
    for number, answer in ((1, "disposed"), (2, "unknown")):
        account.refuse("update_expiration_for_hit", "This HIT is disposed.")
        if answer == "disposed":
            look_at(account, hit_number(number), "Disposed")
        else:
            account.refuse("get_hit", f"Hit {hit_number(number)} does not exist.")
    assert start_again(account, tmp_path).expired == 2
    assert {account.db.get_unit(unit.db_id)["status"] for unit in units} == {"expired"}
    assert start_again(account, tmp_path) == Recovered()


# --- approving and paying ---


@both
def test_work_is_approved_and_rejected_where_it_was_done(open_account: Open, sandbox: bool) -> None:
    account = open_account(sandbox=sandbox)
    agent = account.agent()
    account.expect("reject_assignment", AssignmentId=ASSIGNMENT, RequesterFeedback="Copied text.")
    reject(agent, "Copied text.")
    assert agent.db_status == "rejected"
    account.expect("approve_assignment", AssignmentId=ASSIGNMENT, OverrideRejection=True)
    approve(agent)
    assert agent.db_status == "approved"
    with pytest.raises(PlatformError, match="approved already"):
        reject(agent, "Too late.")


def test_what_mturk_has_approved_by_itself_counts_as_approved(open_account: Open) -> None:
    account = open_account()
    agent = account.agent()
    account.refuse("approve_assignment", "This operation can be called with a status of: Submitted, Rejected")
    answer = {"Assignment": {"AssignmentId": ASSIGNMENT, "AssignmentStatus": "Approved"}}
    account.expect("get_assignment", answer, AssignmentId=ASSIGNMENT)
    approve(agent)
    assert agent.db_status == "approved"


def test_work_that_could_not_be_approved_does_not_count_as_approved(open_account: Open) -> None:
    account = open_account()
    agent = account.agent()
    before = agent.db_status
    account.refuse("approve_assignment", "out of money")
    account.expect("get_assignment", {"Assignment": {"AssignmentStatus": "Submitted"}}, AssignmentId=ASSIGNMENT)
    with pytest.raises(PlatformError, match=r"could not be approved: .*out of money"):
        approve(agent)
    assert agent.db_status == before


def bonus_for(agent: Any, cents: int = 105) -> Bonus:
    return Bonus(token_of("test", agent.db_id), agent.db_id, WORKER, cents, "Well done.")


def sending(account: Account, bonus: Bonus, amount: str = "1.05") -> dict[str, Any]:
    return {
        "WorkerId": WORKER,
        "BonusAmount": amount,
        "AssignmentId": ASSIGNMENT,
        "Reason": "Well done.",
        "UniqueRequestToken": bonus.token,
    }


@both
def test_a_bonus_is_paid_once_however_often_it_is_asked_for(open_account: Open, tmp_path: Path, sandbox: bool) -> None:
    account = open_account(sandbox=sandbox)
    agent, ledger = account.agent(), Ledger(tmp_path)
    bonus = bonus_for(agent)
    assert len(bonus.token) <= 64
    account.expect("send_bonus", **sending(account, bonus))
    assert pay_bonus(ledger, agent, bonus)
    assert not pay_bonus(Ledger(tmp_path), agent, bonus)  # nothing further is asked of MTurk
    assert [(known.cents, known.state) for known in ledger.bonuses()] == [(105, PAID)]


def cut_off(ledger: Ledger, agent: Any, account: Account, monkeypatch: pytest.MonkeyPatch) -> Bonus:
    """Let the network fail while a bonus is being sent."""
    bonus = bonus_for(agent)

    def fail(**params: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://mturk")

    with monkeypatch.context() as patch:
        patch.setattr(account.client, "send_bonus", fail)
        with pytest.raises(PlatformError, match="it may have arrived"):
            pay_bonus(ledger, agent, bonus)
    assert ledger.bonuses()[0].state == SENDING
    return bonus


def test_a_bonus_that_was_cut_off_is_looked_up_before_it_is_sent_again(
    open_account: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = open_account()
    agent, ledger = account.agent(), Ledger(tmp_path)
    bonus = cut_off(ledger, agent, account, monkeypatch)
    payment = {"WorkerId": WORKER, "BonusAmount": "1.05", "AssignmentId": ASSIGNMENT, "Reason": "Well done."}
    account.expect("list_bonus_payments", {"BonusPayments": [payment]}, AssignmentId=ASSIGNMENT, MaxResults=100)
    assert not pay_bonus(ledger, agent, bonus)
    assert ledger.bonuses()[0].state == PAID


@pytest.mark.parametrize(
    ("amount", "reason", "is_it"),
    [
        ("1.05", "Well done.", True),
        ("1.04", "Well done.", False),
        ("1.06", "Well done.", False),
        ("1.05", "Something else.", False),
        ("2.00", "Something else.", False),
    ],
)
def test_a_payment_is_known_by_its_amount_and_its_reason(
    open_account: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amount: str, reason: str, is_it: bool
) -> None:
    account = open_account()
    agent, ledger = account.agent(), Ledger(tmp_path)
    bonus = cut_off(ledger, agent, account, monkeypatch)
    other = {"WorkerId": WORKER, "BonusAmount": "9.99", "AssignmentId": ASSIGNMENT, "Reason": "Before."}
    payment = {"WorkerId": WORKER, "BonusAmount": amount, "AssignmentId": ASSIGNMENT, "Reason": reason}
    account.expect("list_bonus_payments", {"BonusPayments": [other, payment]}, AssignmentId=ASSIGNMENT, MaxResults=100)
    if not is_it:
        account.expect("send_bonus", **sending(account, bonus))
    assert pay_bonus(ledger, agent, bonus) is not is_it
    account.stub.assert_no_pending_responses()
    assert ledger.bonuses()[0].state == PAID


def test_a_bonus_that_did_not_arrive_is_sent_again_with_the_same_token(
    open_account: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = open_account()
    agent, ledger = account.agent(), Ledger(tmp_path)
    bonus = cut_off(ledger, agent, account, monkeypatch)
    account.expect("list_bonus_payments", {"BonusPayments": []}, AssignmentId=ASSIGNMENT, MaxResults=100)
    account.expect("send_bonus", **sending(account, bonus))
    assert pay_bonus(ledger, agent, bonus)


def test_a_refused_bonus_is_struck_out_and_can_be_paid_later(open_account: Open, tmp_path: Path) -> None:
    account = open_account()
    agent, ledger = account.agent(), Ledger(tmp_path)
    bonus = bonus_for(agent)
    account.refuse("send_bonus", "insufficient funds")
    with pytest.raises(PlatformError, match="refused: insufficient funds"):
        pay_bonus(ledger, agent, bonus)
    assert ledger.bonuses() == []
    account.expect("send_bonus", **sending(account, bonus))
    assert pay_bonus(ledger, agent, bonus)


def test_trouble_at_mturk_leaves_a_bonus_on_record(open_account: Open, tmp_path: Path) -> None:
    account = open_account()
    agent, ledger = account.agent(), Ledger(tmp_path)
    account.refuse("send_bonus", "try later", status=503, code="ServiceFault")
    with pytest.raises(PlatformError, match="may have arrived"):
        pay_bonus(ledger, agent, bonus_for(agent))
    assert ledger.bonuses()[0].state == SENDING


def test_a_token_that_mturk_knows_means_that_it_has_been_paid(open_account: Open, tmp_path: Path) -> None:
    account = open_account()
    agent, ledger = account.agent(), Ledger(tmp_path)
    account.refuse("send_bonus", "The idempotency token has already been processed.")
    pay_bonus(ledger, agent, bonus_for(agent))
    assert ledger.bonuses()[0].state == PAID


@pytest.mark.parametrize(("provider", "seconds"), [("mock", 1), ("mturk_sandbox", 5), ("mturk", 5)])
def test_mturk_is_asked_less_often_than_our_own_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: str, seconds: int
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(
        Operator, "launch_task_run_or_die", lambda *_: waits.append(task_launcher.UNIT_GENERATOR_WAIT_SECONDS)
    )
    operator = TaskOperator(Account(tmp_path).db)
    operator.launch_task_run_or_die(OmegaConf.create({"provider": {"_provider_type": provider}}))
    operator.stop()
    assert waits == [seconds]

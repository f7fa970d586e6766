"""Bonuses on Prolific: each arrives once, whatever breaks between setting it up and hearing that it is paid."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_chat.crowd import prolific, prolific_api
from model_chat.crowd.ledger import PAID, SENDING, Bonus, Ledger
from model_chat.crowd.transfers import Line, Transfer, Transfers, TransferState
from model_chat.tests import preloaded
from model_chat.tests.crowd.panel_task import TASK, PanelTask, Said
from model_chat.tests.crowd.prolific_server import (
    STUDY,
    TOKEN,
    VARIABLE,
    Fault,
    ProlificServer,
    dropped,
    garbled,
    refused,
    serving,
    twice,
)

BONUS = ("bonus", "--all", "--amount", "0.75", "--reason", "Thank you.")
PAY = r"/pay/$"
SET_UP = "/bonus-payments/$"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prolific_api, "FIRST_PAUSE", 0.0)
    monkeypatch.setenv(VARIABLE, TOKEN)


@pytest.fixture
def server() -> Iterator[ProlificServer]:
    with serving() as server:
        for number in range(1, 4):
            server.add_submission(f"s{number}", f"p{number}", status="APPROVED")
        yield server


@pytest.fixture
def task(server: ProlificServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> PanelTask:
    task = PanelTask(tmp_path, "prolific", capsys, api_url=server.url, api_token_env=VARIABLE)
    for number in (1, 2):
        task.chat(f"p{number}", f"s{number}")
    return task


def confirmed(task: PanelTask, *ask: str) -> Said:
    """Ask what it costs, and confirm it."""
    first = task.command(*ask)
    total = re.search(r"--confirm ([\d.]+)\.$", first.err.strip())
    assert total is not None, first
    return task.command(*ask, "--confirm", total[1])


def ledger(task: PanelTask) -> dict[str, str]:
    return {bonus.worker_id: bonus.state for bonus in Ledger(task.folder).bonuses()}


def test_prolific_says_the_total_and_nothing_is_paid_before_it_is_confirmed(
    task: PanelTask, server: ProlificServer
) -> None:
    said = task.command(*BONUS)
    assert said.code == 2
    # 150 p, a fee of 49.95 p, and VAT of 9.99 p on it: rounded up to a whole penny
    assert said.out == "2 bonuses, total £2.10, Prolific's fee and VAT included\n"
    assert "nothing was paid; to pay, repeat the command with --confirm 2.10" in said.err
    assert task.command(*BONUS, "--confirm", "1.50").code == 2
    assert (server.paid(), ledger(task), server.sent("POST", PAY)) == ({}, {}, [])
    said = task.command(*BONUS, "--confirm", "2.10")
    assert said.code == 0
    assert "p1, submission s1: £0.75 accepted, paid within minutes" in said.out
    assert server.paid() == {"s1": [75], "s2": [75]}
    assert ledger(task) == {"p1": PAID, "p2": PAID}
    assert len(server.bulks) == 1, "what was set up for the total is what was paid"


def test_a_bonus_is_paid_once_however_often_it_is_asked_for(task: PanelTask, server: ProlificServer) -> None:
    assert confirmed(task, *BONUS).code == 0
    for _ in range(3):
        said = task.command(*BONUS, "--confirm", "2.10")
        assert said.code == 0
        assert said.out.count("has had this bonus") == 2
    assert server.paid() == {"s1": [75], "s2": [75]}


def test_what_was_set_up_for_another_amount_is_forgotten_and_never_paid(
    task: PanelTask, server: ProlificServer
) -> None:
    assert task.command(*BONUS).code == 2
    dearer = ("bonus", "--all", "--amount", "1", "--reason", "Thank you.")
    assert confirmed(task, *dearer).code == 0
    assert Transfers(Ledger(task.folder), "prolific", TASK).with_state(TransferState.SET_UP) == []
    assert [bulk["paid"] for bulk in server.bulks.values()] == [0, 1]
    assert server.paid() == {"s1": [100], "s2": [100]}


def test_a_dry_run_sets_nothing_up(task: PanelTask, server: ProlificServer) -> None:
    said = task.command(*BONUS, "--dry-run")
    assert (said.code, said.out) == (0, "2 bonuses, total $1.50, without Prolific's fee\n")
    assert server.requests == []


def test_the_wage_is_paid_in_the_currency_of_the_study(task: PanelTask, server: ProlificServer) -> None:
    task.chat("p3", "s3", minutes=60)
    ask = ("wage", "p3", "--hourly", "12", "--cap", "20")
    assert "60.0 min" in task.command(*ask).out
    assert confirmed(task, *ask).code == 0
    assert server.paid() == {"s3": [1050]}, "12 less the reward of 1.50"
    assert task.command(*ask).out.startswith("0 bonuses")


def test_studies_of_two_currencies_are_not_paid_together(task: PanelTask, server: ProlificServer) -> None:
    server.add_study("dollars", currency_code="USD")
    server.add_submission("s8", "p8", study_id="dollars")
    task.chat("p8", "s8", study="dollars")
    said = task.command(*BONUS, "--confirm", "3.15")
    assert said.code == 2
    assert said.err == "✗ The studies of these workers pay in GBP and USD; name the workers of one study at a time.\n"
    assert server.sent("POST", "") == []
    assert "total $1.05" in task.command("bonus", "p8", *BONUS[2:]).out


def test_the_command_prints_its_answer_and_no_requests(task: PanelTask, server: ProlificServer) -> None:
    command = [sys.executable, "-m", "model_chat.scripts.manage_workers", BONUS[0], "--task-name", TASK]
    where = ["--database-path", str(task.folder)]
    done = preloaded.run(
        [*command, *where, *BONUS[1:], "--confirm", "2.10"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    total, *paid = done.stdout.splitlines()
    assert total.startswith("2 bonuses, total")
    assert [line.split(":")[0] for line in paid] == ["p1, submission s1", "p2, submission s2"]


# --- what breaks ---


@pytest.mark.parametrize(
    "fault", [dropped(), dropped(acts=False), refused(500, acts=True), refused(429), refused(503)], ids=str
)
def test_a_set_up_that_fails_pays_nothing_and_can_be_repeated(
    task: PanelTask, server: ProlificServer, fault: Fault
) -> None:
    server.order("POST", SET_UP, fault)
    said = task.command(*BONUS, "--confirm", "2.10")
    assert said.code == 1
    assert said.out.endswith(". Nothing was paid.\n")
    assert (server.paid(), ledger(task)) == ({}, {})
    assert confirmed(task, *BONUS).code == 0
    assert server.paid() == {"s1": [75], "s2": [75]}


@pytest.mark.parametrize("fault", [dropped(), refused(500, acts=True), refused(504, acts=True), twice()], ids=str)
def test_a_payment_whose_answer_is_lost_is_found_and_not_repeated(
    task: PanelTask, server: ProlificServer, fault: Fault
) -> None:
    server.order("POST", PAY, fault)
    said = confirmed(task, *BONUS)
    if not fault.twice:
        assert said.code == 1
        assert "2 bonuses may have been paid: Look at the submission on Prolific" in said.out
        assert ledger(task) == {"p1": SENDING, "p2": SENDING}
    said = task.command(*BONUS, "--confirm", "2.10")
    assert said.code == 0, said
    assert server.paid() == {"s1": [75], "s2": [75]}
    assert ledger(task) == {"p1": PAID, "p2": PAID}
    assert len(server.sent("POST", PAY)) == 1


@pytest.mark.parametrize("fault", [dropped(acts=False), refused(502), refused(408)], ids=str)
def test_a_payment_that_never_arrived_waits_for_the_requesters_word(
    task: PanelTask, server: ProlificServer, fault: Fault
) -> None:
    server.order("POST", PAY, fault)
    assert confirmed(task, *BONUS).code == 1
    for _ in range(2):
        said = task.command(*BONUS, "--confirm", "2.10")
        assert said.code == 1
        assert said.out.count("£0.75 may have been paid before; Prolific does not show it") == 2
    assert len(server.sent("POST", PAY)) == 1
    said = task.command("settle", "p1", "--paid")
    assert said.out == "p1, submission s1: £0.75 taken for paid\n"
    said = task.command("settle", "p2", "p3", "--unpaid")
    assert said.code == 1
    assert said.out == (
        "p2, submission s2: £0.75 taken for not paid; the next 'bonus' or 'wage' can pay it\n"
        "✗ p3 has no bonus that Prolific does not show\n"
    )
    assert confirmed(task, *BONUS).code == 0
    assert server.paid() == {"s2": [75]}
    assert ledger(task) == {"p1": PAID, "p2": PAID}


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429])
def test_a_payment_that_was_refused_is_none_and_is_made_by_a_repeat(
    task: PanelTask, server: ProlificServer, status: int
) -> None:
    server.order("POST", PAY, refused(status))
    said = confirmed(task, *BONUS)
    assert said.code == 1
    assert "2 bonuses were not paid." in said.out
    assert (server.paid(), ledger(task)) == ({}, {})
    assert task.command(*BONUS, "--confirm", "2.10").code == 0
    assert server.paid() == {"s1": [75], "s2": [75]}


def test_after_a_failure_no_further_transfer_is_sent(
    task: PanelTask, server: ProlificServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prolific, "MAX_BONUSES", 1)
    server.order("POST", PAY, dropped())
    assert confirmed(task, *BONUS).code == 1
    assert (server.paid(), ledger(task)) == ({"s1": [75]}, {"p1": SENDING})
    said = confirmed(task, *BONUS)
    assert said.code == 0
    assert server.paid() == {"s1": [75], "s2": [75]}


def test_payments_that_come_later_are_waited_for(task: PanelTask, server: ProlificServer) -> None:
    server.pays_at_once = False
    assert confirmed(task, *BONUS).code == 0
    said = task.command(*BONUS)
    assert said.code == 0
    assert said.out.count("was accepted by Prolific, which does not show it yet") == 2
    server.process()
    assert "was accepted by Prolific" not in task.command(*BONUS).out
    before = len(server.sent("GET", "/submissions/"))
    task.command(*BONUS)
    assert len(server.sent("GET", "/submissions/")) == before, "what Prolific has shown is not asked for again"
    assert server.paid() == {"s1": [75], "s2": [75]}


def test_half_of_a_transfer_that_never_arrives_can_be_paid_anew(task: PanelTask, server: ProlificServer) -> None:
    server.pays_at_once = False
    assert confirmed(task, *BONUS).code == 0
    server.process(at_most=1)
    said = task.command(*BONUS)
    assert said.out.count("which does not show it yet") == 1
    assert "p2, submission s2: £0.75 was accepted" in said.out
    assert task.command("settle", "p1", "--unpaid").code == 1, "Prolific shows it"
    assert task.command("settle", "p2", "--unpaid").code == 0
    server.pays_at_once = True
    assert confirmed(task, *BONUS).code == 0
    assert server.paid() == {"s1": [75], "s2": [75]}


def test_half_of_a_transfer_without_an_answer_is_evidence_for_the_whole(
    task: PanelTask, server: ProlificServer
) -> None:
    server.pays_at_once = False
    server.order("POST", PAY, dropped())
    assert confirmed(task, *BONUS).code == 1
    server.process(at_most=1)
    said = task.command(*BONUS)
    assert said.code == 0
    assert "p2, submission s2: £0.75 was accepted by Prolific" in said.out
    assert ledger(task) == {"p1": PAID, "p2": PAID}
    assert len(server.sent("POST", PAY)) == 1


def test_a_bonus_that_somebody_paid_on_prolific_is_no_evidence(task: PanelTask, server: ProlificServer) -> None:
    for number in (1, 2):
        server.submissions[f"s{number}"]["bonus_payments"].append(75)
    server.order("POST", PAY, dropped(acts=False))
    assert confirmed(task, *BONUS).code == 1
    assert task.command(*BONUS).out.count("may have been paid before; Prolific does not show it") == 2


def test_of_two_equal_bonuses_one_that_is_shown_is_evidence_for_one(task: PanelTask, server: ProlificServer) -> None:
    server.pays_at_once = False
    assert confirmed(task, *BONUS).code == 0
    second = ("bonus", "p1", "--amount", "0.75", "--reason", "Another.")
    server.order("POST", PAY, dropped(acts=False))
    assert confirmed(task, *second).code == 1
    server.process()
    said = task.command(*second)
    assert said.code == 1
    assert said.out.count("may have been paid before") == 1
    assert "which does not show it yet" not in said.out


def test_two_bonuses_for_one_submission_are_two_transfers(task: PanelTask, server: ProlificServer) -> None:
    task.chat("p1", "s1")  # a second conversation of the same participation
    assert confirmed(task, "bonus", "p1", "--amount", "0.75", "--reason", "x").code == 0
    assert [bulk["lines"] for bulk in server.bulks.values()] == [[("s1", 75)], [("s1", 75)]]
    assert server.paid() == {"s1": [75, 75]}


def test_bonuses_of_several_studies_are_set_up_each_for_its_own(task: PanelTask, server: ProlificServer) -> None:
    server.add_study("other")
    server.add_submission("s8", "p8", study_id="other")
    task.chat("p8", "s8", study="other")
    assert confirmed(task, *BONUS).code == 0
    assert [body["study_id"] for body in server.sent("POST", SET_UP)] == [STUDY, "other"]
    assert server.paid() == {"s1": [75], "s2": [75], "s8": [75]}


def test_no_transfer_is_longer_than_prolific_recommends(task: PanelTask, server: ProlificServer) -> None:
    lines = [Line(Bonus(f"t{n}", str(n), f"p{n}", 5, "x"), f"s{n % 250}") for n in range(450)]
    chunks = list(prolific._chunks(lines))
    assert all(len(chunk) <= 200 for chunk in chunks)
    assert all(len({line.submission for line in chunk}) == len(chunk) for chunk in chunks)
    assert sorted(line.bonus.token for chunk in chunks for line in chunk) == sorted(line.bonus.token for line in lines)


def test_nobody_is_paid_for_anothers_submission(task: PanelTask, server: ProlificServer) -> None:
    agent = task.chat("p3", "s1")
    said = confirmed(task, *BONUS)
    assert said.code == 1
    assert f"✗ p3, unit {agent.unit_id}: Prolific's study {STUDY} has no submission s1 of theirs" in said.out
    assert server.paid() == {"s1": [75], "s2": [75]}


@pytest.mark.parametrize("status", [503, 401])
def test_half_the_bonuses_are_not_paid_because_prolific_stopped_answering(
    task: PanelTask, server: ProlificServer, status: int
) -> None:
    server.order("GET", "/submissions/s2/", *(refused(status) for _ in range(prolific_api.ATTEMPTS)))
    said = task.command(*BONUS, "--confirm", "1.05")
    assert said.code == 1
    assert said.out.endswith(". Nothing was paid.\n")
    assert server.sent("POST", "") == []


def test_a_sum_that_prolific_has_read_wrongly_is_not_paid(task: PanelTask, server: ProlificServer) -> None:
    server.order("POST", SET_UP, garbled({"id": "b", "amount": 15000, "total_amount": 15000}, 201))
    said = task.command(*BONUS, "--confirm", "150")
    assert said.code == 1
    assert "Prolific set up another sum than was asked for" in said.out
    assert server.sent("POST", PAY) == []


def test_an_id_that_was_paid_before_is_never_paid_again(task: PanelTask, server: ProlificServer) -> None:
    server.fixed_bulk_id = "b1"
    assert confirmed(task, *BONUS).code == 0
    said = task.command("bonus", "p1", "--amount", "0.75", "--reason", "More.", "--confirm", "1.05")
    assert said.code == 1
    assert "Prolific gave new bonuses the id of earlier ones (b1); nothing was paid" in said.out
    assert server.paid() == {"s1": [75], "s2": [75]}


# --- kill -9 ---


@pytest.mark.parametrize("moment", [SET_UP, PAY], ids=["after setting up", "after paying"])
def test_a_process_that_is_killed_pays_each_bonus_once(task: PanelTask, server: ProlificServer, moment: str) -> None:
    assert task.command(*BONUS).code == 2  # what it costs
    for transfer in Transfers(Ledger(task.folder), "prolific", TASK).with_state(TransferState.SET_UP):
        Transfers(Ledger(task.folder), "prolific", TASK).drop([transfer])  # so that the process sets it up itself
    code = (
        "import sys; from model_chat.mephisto_task import panel_providers;"
        "from model_chat.scripts.manage_workers import main; sys.exit(main(sys.argv[1:]))"
    )
    where = ["--task-name", TASK, "--database-path", str(task.folder)]
    process: list[Any] = []
    server.order("POST", moment, Fault(acts=True, wait=lambda: os.kill(process[0].pid, signal.SIGKILL)))
    with server.lock:  # it is killed by its own request, which needs its number
        process.append(
            preloaded.Popen(
                [sys.executable, "-c", code, BONUS[0], *where, *BONUS[1:], "--confirm", "2.10"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
    assert process[0].wait(120) == -signal.SIGKILL
    assert len(server.sent("POST", PAY)) == (moment == PAY)
    said = task.command(*BONUS, "--confirm", "2.10")
    assert said.code == 0, said
    assert server.paid() == {"s1": [75], "s2": [75]}
    assert len(server.sent("POST", PAY)) == 1
    assert ledger(task) == {"p1": PAID, "p2": PAID}


# --- a study of 50, and a bad day ---


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_breaks_each_of_fifty_gets_the_bonus_once(
    server: ProlificServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr(prolific, "MAX_BONUSES", 10)
    task = PanelTask(tmp_path, "prolific", capsys, api_url=server.url, api_token_env=VARIABLE)
    for number in range(50):
        server.add_submission(f"x{number}", f"w{number}", status="APPROVED")
        task.chat(f"w{number}", f"x{number}")
    chance = random.Random(seed)
    breaks = [
        dropped(),
        dropped(acts=False),
        refused(500, acts=True),
        refused(503),
        refused(429),
        refused(400),
        twice(),
    ]
    total = "0"
    for _ in range(40):
        server.pays_at_once = chance.random() < 0.5
        server.faults.clear()
        for pattern in (SET_UP, PAY, PAY):
            if chance.random() < 0.5:
                server.order("POST", pattern, chance.choice(breaks))
        said = task.command(*BONUS, "--confirm", total)
        asked = re.search(r"--confirm ([\d.]+)\.$", said.err.strip())
        total = asked[1] if asked else total
        server.process()  # what was accepted arrives, sooner or later
        # The requester looks at Prolific's pages.
        for worker, submission in re.findall(r"(w\d+), submission (x\d+): £0.75 may have been paid before", said.out):
            has_arrived = bool(server.submissions[submission]["bonus_payments"])
            task.command("settle", worker, "--paid" if has_arrived else "--unpaid")
        if said.out.startswith("w0, unit ") and "0 bonuses, total £0.00" in said.out and "✗" not in said.out:
            break
    assert server.paid() == {f"x{number}": [75] for number in range(50)}
    assert set(ledger(task).values()) == {PAID}
    assert len(ledger(task)) == 50


# --- the record of transfers ---


def transfer(number: int = 1, *tokens: str) -> Transfer:
    lines = tuple(Line(Bonus(token, "1", "p1", 75, "x"), f"s{token}") for token in tokens or ("t1", "t2"))
    return Transfer(f"b{number}", STUDY, 210, "GBP", lines)


def test_a_transfer_and_its_bonuses_change_together_or_not_at_all(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    transfers = Transfers(ledger, "prolific", TASK)
    first, second = transfer(1, "t1", "t2"), transfer(2, "t3", "t2")
    transfers.add(first)
    transfers.add(second)
    assert ledger.bonuses() == []
    transfers.begin(first)
    assert [(bonus.token, bonus.state) for bonus in ledger.bonuses()] == [("t1", SENDING), ("t2", SENDING)]
    with pytest.raises(RuntimeError, match="'t2' was begun before"):
        transfers.begin(second)
    assert [one.transfer_id for one in transfers.with_state(TransferState.SET_UP)] == ["b2"]
    assert len(ledger.bonuses()) == 2
    transfers.accepted(first)
    assert {bonus.state for bonus in ledger.bonuses()} == {PAID}


def test_a_transfer_is_sent_only_from_the_state_that_is_right(tmp_path: Path) -> None:
    transfers = Transfers(Ledger(tmp_path), "prolific", TASK)
    one = transfer()
    for act in (transfers.begin, transfers.accepted, transfers.refused):
        with pytest.raises(RuntimeError, match="is not in the state"):
            act(one)
    transfers.add(one)
    with pytest.raises(ValueError, match="is known already"):
        transfers.add(one)
    transfers.begin(one)
    transfers.drop([one])
    with pytest.raises(RuntimeError, match="is not in the state 'set_up'"):
        transfers.begin(one)
    transfers.accepted(one)
    with pytest.raises(RuntimeError, match="is not in the state 'paying'"):
        transfers.refused(one)
    assert [found.state for found in transfers.with_state(*TransferState)] == [TransferState.ACCEPTED]


def test_a_transfer_belongs_to_one_task_on_one_platform(tmp_path: Path) -> None:
    """A panel's list must not be looked for on Prolific, nor a payment on Prolific be taken for a list that is lost."""
    ledger = Ledger(tmp_path)
    transfers = Transfers(ledger, "prolific", TASK)
    transfers.add(transfer())
    transfers.begin(transfer())
    others = [Transfers(ledger, "panel", TASK), Transfers(ledger, "prolific", "another")]
    assert [other.with_state(*TransferState) for other in others] == [[], []]
    assert len(transfers.with_state(TransferState.PAYING)) == 1
    with pytest.raises(ValueError, match="is known already"):
        others[0].add(transfer())

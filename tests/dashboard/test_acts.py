"""What reviewers do: through the platforms' own code, once, with the second of two told, and all of it in the audit log."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from model_chat.crowd.ledger import SENDING, Bonus, Ledger
from model_chat.dashboard.settings import Role
from model_chat.dashboard.watch import Watched
from model_chat.quality.blocks import BlockReason, block_reasons, find_worker, is_blocked
from model_chat.scripts.manage_workers import main as manage_workers
from model_chat.tests.dashboard.conftest import Served
from model_chat.tests.dashboard.sample import MadeUpRun, SampleStudy

Serve = Callable[..., Served]


def audit_lines(sample: SampleStudy) -> list[dict[str, Any]]:
    """The audit log as it is on disk."""
    path = sample.chats / "dashboard_audit.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def paid(sample: SampleStudy) -> list[tuple[str, int, str, str]]:
    return [(bonus.agent_id, bonus.cents, bonus.reason, bonus.state) for bonus in Ledger(sample.data).bonuses()]


def test_work_is_approved_and_rejected_with_a_reason(sample: SampleStudy, serve: Serve) -> None:
    good, bad = sample.chat("ann"), sample.chat("bob")
    client = serve(Watched(sample.info())).client(Role.REVIEW, "Rita")
    (first,) = client.act("approve", "a1").json()["results"]
    (second,) = client.act("reject", "a2", reason="Nothing but the same word.").json()["results"]
    assert (first["ok"], second["ok"]) == (True, True)
    assert [sample.status(agent) for agent in (good, bad)] == ["approved", "rejected"]
    assert [client.get(f"conversations/{one}")["review"] for one in ("a1", "a2")] == ["approved", "rejected"]
    (act,) = client.get("conversations/a2")["acts"]
    assert (act["who"], act["role"], act["act"], act["reason"], act["outcome"]) == (
        "Rita",
        "review",
        "reject",
        "Nothing but the same word.",
        "done",
    )
    assert (act["before"]["review"], act["after"]["review"], act["worker"]) == ("pending", "rejected", "bob")


def test_several_are_done_at_once_and_each_fault_is_told_apart(sample: SampleStudy, serve: Serve) -> None:
    agents = [sample.chat(f"worker-{number}") for number in range(3)]
    sample.chat("left", reason="disconnected: gone", status="disconnect", rating=None)
    agents[1].update_status("approved")
    client = serve(Watched(sample.info())).client(Role.REVIEW)
    results = client.act("approve", "a1", "a2", "a3", "a4").json()["results"]
    assert [result["ok"] for result in results] == [True, False, True, False]
    assert results[1]["error"] == "The work is approved already."
    assert results[3]["error"].startswith("The work has not been handed in")
    assert [sample.status(agent) for agent in agents] == ["approved"] * 3


def test_what_is_approved_is_not_rejected_and_what_is_rejected_can_be_approved(
    sample: SampleStudy, serve: Serve
) -> None:
    agent = sample.chat()
    client = serve(Watched(sample.info())).client(Role.REVIEW)
    assert client.act("reject", "a1", reason="Too short.").json()["results"][0]["ok"]
    assert client.act("approve", "a1").json()["results"][0]["ok"]
    (result,) = client.act("reject", "a1", reason="Too short.").json()["results"]
    assert (result["ok"], "approved already" in result["error"]) == (False, True)
    assert sample.status(agent) == "approved"


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
def test_a_rejection_and_a_bonus_need_a_reason_of_a_fitting_length(
    sample: SampleStudy, serve: Serve, reason: str
) -> None:
    agent = sample.chat()
    client = serve(Watched(sample.info())).client(Role.PAY)
    for act in ({"act": "reject"}, {"act": "bonus", "amount": 1}):
        answer = client.act(act.pop("act"), "a1", reason=reason, **act)  # type: ignore[arg-type]  # a name
        assert answer.status_code == 409
    assert (sample.status(agent), paid(sample), audit_lines(sample)) == ("completed", [], [])


@pytest.mark.parametrize("amount", [0, -1, "0.001", "many", None, 1e9, "1e9", 1000.01])
def test_an_amount_that_can_not_be_meant_pays_nothing(sample: SampleStudy, serve: Serve, amount: Any) -> None:
    sample.chat()
    client = serve(Watched(sample.info())).client(Role.PAY)
    answer = client.act("bonus", "a1", amount=amount, reason="Thank you!")
    assert answer.status_code == 409
    assert "amount" in answer.json()["error"]
    assert paid(sample) == []


def test_the_second_reviewer_is_told_who_was_first_and_nothing_is_done_twice(sample: SampleStudy, serve: Serve) -> None:
    agent = sample.chat()
    served = serve(Watched(sample.info()))
    ann, bob = served.client(Role.REVIEW, "Ann"), served.client(Role.REVIEW, "Bob")
    seen = {"a1": bob.get("conversations/a1")["version"]}
    assert ann.act("reject", "a1", reason="Rude words.").json()["results"][0]["ok"]
    (result,) = bob.act("approve", "a1", versions=seen).json()["results"]
    assert result == {
        "id": "a1",
        "ok": False,
        "error": "Ann has changed it meanwhile: reject (Rude words.); look at it again.",
        "version": bob.get("conversations/a1")["version"],
    }
    assert sample.status(agent) == "rejected"
    assert bob.act("approve", "a1").json()["results"][0]["ok"]


def test_a_change_by_the_command_is_told_too(
    sample: SampleStudy, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    sample.chat()
    client = serve(Watched(sample.info())).client(Role.REVIEW)
    seen = {"a1": client.get("conversations/a1")["version"]}
    assert manage_workers(["approve", "--task-name", "study_local", "--database-path", str(sample.data), "--all"]) == 0
    (result,) = client.act("reject", "a1", versions=seen, reason="Too short.").json()["results"]
    assert result["error"] == "It has changed since you opened it, outside of the dashboard; look at it again."
    (without,) = client.act("approve", "a1", versions={}).json()["results"]
    assert without["ok"] is False


def test_a_bonus_is_paid_once_however_often_it_is_sent_at_the_same_moment(sample: SampleStudy, serve: Serve) -> None:
    agent = sample.chat()
    served = serve(Watched(sample.info()))
    clients = [served.client(Role.PAY, f"payer-{number}") for number in range(4)]
    seen = {"a1": clients[0].get("conversations/a1")["version"]}
    together = threading.Barrier(len(clients))

    def pay(number: int) -> bool:
        together.wait(60)
        # Another reason would be another bonus: what the others have seen is out of date by then.
        answer = clients[number].act("bonus", "a1", versions=seen, amount="1.50", reason=f"Thank you {number % 2}")
        return bool(answer.json()["results"][0]["ok"])

    with ThreadPoolExecutor(len(clients)) as threads:
        done = list(threads.map(pay, range(len(clients))))
    assert sum(done) == 1
    ((agent_id, cents, _, state),) = paid(sample)
    assert (agent_id, cents, state) == (agent.db_id, 150, "paid")
    assert clients[0].get("conversations/a1")["bonus"] == 1.5


def test_the_same_bonus_is_known_again_by_the_command_and_the_other_way_round(
    sample: SampleStudy, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    sample.chat("ann")
    sample.chat("bob")
    client = serve(Watched(sample.info())).client(Role.PAY)
    assert client.act("bonus", "a1", amount=1, reason="Thank you!").json()["results"][0]["ok"]
    command = ["bonus", "--task-name", "study_local", "--database-path", str(sample.data), "--all"]
    command += ["--amount", "1.00", "--reason", "Thank you!", "--confirm", "1.00"]
    assert manage_workers(command) == 0
    assert "ann, unit 1 has had this bonus" in capsys.readouterr().out
    (result,) = client.act("bonus", "a2", amount=1, reason="Thank you!").json()["results"]
    assert "has had a bonus with this reason" in result["error"]
    assert [cents for _, cents, _, _ in paid(sample)] == [100, 100]


def test_a_bonus_that_was_begun_by_another_command_is_not_paid_along(sample: SampleStudy, serve: Serve) -> None:
    sample.chat("ann")
    begun = sample.chat("bob")
    Ledger(sample.data).begin(Bonus("token", begun.db_id, "bob", 900, "Earlier"))
    client = serve(Watched(sample.info())).client(Role.PAY)
    (result,) = client.act("bonus", "a1", amount=1, reason="Thank you!").json()["results"]
    assert "begun and not finished" in result["error"]
    assert [(cents, state) for _, cents, _, state in paid(sample)] == [(900, SENDING)]


def test_no_bonus_for_work_that_was_rejected(sample: SampleStudy, serve: Serve) -> None:
    sample.chat(status="rejected")
    client = serve(Watched(sample.info())).client(Role.PAY)
    (result,) = client.act("bonus", "a1", amount=1, reason="Thank you!").json()["results"]
    assert result["error"].startswith("The work was rejected")
    assert paid(sample) == []


def test_workers_are_blocked_and_unblocked(sample: SampleStudy, serve: Serve) -> None:
    sample.chat("ann")
    client = serve(Watched(sample.info())).client(Role.REVIEW)
    assert client.act("block", "a1").json()["results"][0]["ok"]
    ann = find_worker(sample.db, "mock", "ann")
    assert ann is not None
    assert is_blocked(ann, "blocked")
    assert block_reasons(ann, "blocked") == [BlockReason.BY_HAND]
    assert client.get("conversations/a1")["signals"] == ["blocked"]
    assert client.act("unblock", "a1").json()["results"][0]["ok"]
    assert not is_blocked(ann, "blocked")
    without = serve(Watched(sample.info(block_qualification=None))).client(Role.REVIEW)
    assert "block_qualification is not set" in without.act("block", "a1").json()["error"]


def test_a_conversation_that_only_a_file_has_is_shown_and_not_acted_on(sample: SampleStudy, serve: Serve) -> None:
    from model_chat.records.writing import save_conversation

    sample.chat()
    (path,) = sample.chats.glob("*/*.json")
    record = json.loads(path.read_bytes())
    record["dialog"][1]["text"] = "Something else."
    save_conversation(sample.chats, record, live=False)
    client = serve(Watched(sample.info())).client(Role.REVIEW)
    items = client.get("conversations")["items"]
    (only,) = [item for item in items if not item["reviewable"]]
    (result,) = client.act("approve", only["id"]).json()["results"]
    assert result["error"].startswith("Only a file has this conversation")


def test_every_act_is_in_the_audit_log_before_it_is_begun_and_with_what_came_of_it(
    sample: SampleStudy, serve: Serve
) -> None:
    sample.chat()
    client = serve(Watched(sample.info())).client(Role.PAY, "Pia")
    client.act("bonus", "a1", amount="0.25", reason="Thank you!")
    begun, done = audit_lines(sample)
    assert (begun["outcome"], begun["after"], done["outcome"]) == ("begun", None, "done")
    assert begun["key"] == done["key"]
    assert (done["who"], done["participant"], done["amount"], done["task"]) == ("Pia", "ann", 0.25, "study_local")
    assert (done["before"]["bonus"], done["after"]["bonus"]) == (0.0, 0.25)
    assert client.get("audit")["total"] == 1


def test_without_an_audit_log_nothing_is_done(sample: SampleStudy, serve: Serve) -> None:
    agent, run = sample.chat(), MadeUpRun()
    (sample.chats / "dashboard_audit.jsonl").mkdir()
    client = serve(Watched(sample.info(), run)).client(Role.PAY)
    for answer in (
        client.act("approve", "a1"),
        client.act("bonus", "a1", amount=1, reason="Thank you!"),
        client.post("api/studies/study_local/run", {"act": "stop"}),
    ):
        assert answer.status_code == 507
        assert "audit log can't be written" in answer.json()["error"]
    assert (sample.status(agent), paid(sample), run.asked) == ("completed", [], [])


def test_an_act_that_was_cut_off_is_shown_as_begun(sample: SampleStudy, serve: Serve) -> None:
    sample.chat()
    watched = Watched(sample.info())
    watched.audit.add(key="k", who="Ann", role="pay", act="bonus", target="a1", outcome="begun")
    client = serve(watched).client(Role.READ)
    assert [act["outcome"] for act in client.get("conversations/a1")["acts"]] == ["begun"]


def test_the_run_is_stopped_resumed_and_extended(sample: SampleStudy, serve: Serve) -> None:
    run = MadeUpRun()
    client = serve(Watched(sample.info(), run)).client(Role.PAY)
    path = "api/studies/study_local/run"
    assert client.post(path, {"act": "stop"}).json() == {"ok": True}
    assert client.get("overview")["accepting"] is False
    client.post(path, {"act": "resume"})
    client.post(path, {"act": "extend", "more": 7})
    assert client.get("overview")["target"] == 214
    assert run.asked == [("stop", None), ("resume", None), ("extend", 7)]
    for more in (None, 0, -1, 10**9):
        assert client.post(path, {"act": "extend", "more": more}).status_code == 422
    assert [entry["act"] for entry in client.get("audit")["items"]] == ["extend", "resume", "stop"]


def test_a_study_that_does_not_run_has_nothing_to_stop(sample: SampleStudy, serve: Serve) -> None:
    answer = serve(Watched(sample.info())).client(Role.PAY).post("api/studies/study_local/run", {"act": "stop"})
    assert answer.status_code == 409


def test_a_run_that_refuses_is_quoted_and_written_down(sample: SampleStudy, serve: Serve) -> None:
    class Refusing(MadeUpRun):
        def ask(self, act: Any, more: int | None) -> str:
            return "The run is ending."

    client = serve(Watched(sample.info(), Refusing())).client(Role.PAY)
    answer = client.post("api/studies/study_local/run", {"act": "stop"})
    assert (answer.status_code, answer.json()["error"]) == (409, "The run is ending.")
    assert [entry["outcome"] for entry in client.get("audit")["items"]] == ["failed: The run is ending."]

"""manage_workers.py on Prolific: approve, reject, messages, groups and places, against the server that goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_chat.crowd import prolific_api
from model_chat.crowd.prolific_models import RejectionCategory
from model_chat.quality.blocks import find_worker, is_blocked
from model_chat.tests.crowd.panel_task import PanelTask
from model_chat.tests.crowd.prolific_server import (
    GROUP,
    STUDY,
    TOKEN,
    VARIABLE,
    ProlificServer,
    dropped,
    refused,
    serving,
    twice,
)

WHY = (
    "You answered every question with the same word, and the instructions ask for whole sentences in each of the turns."
)
LOW_EFFORT = ("--category", "LOW_EFFORT")
INVITED = "6500000000000000000000dd"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prolific_api, "FIRST_PAUSE", 0.0)
    monkeypatch.setenv(VARIABLE, TOKEN)


@pytest.fixture
def prolific() -> Iterator[ProlificServer]:
    with serving() as server:
        for number in range(1, 4):
            server.add_submission(f"s{number}", f"p{number}")
        yield server


@pytest.fixture
def task(prolific: ProlificServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> PanelTask:
    return PanelTask(
        tmp_path,
        "prolific",
        capsys,
        api_url=prolific.url,
        api_token_env=VARIABLE,
        blocked_group=GROUP,
        allowed_group=INVITED,
    )


def statuses(prolific: ProlificServer) -> dict[str, str]:
    return {one["id"]: one["status"] for one in prolific.submissions.values()}


# --- approving and rejecting ---


def test_submissions_are_approved_there_and_here(task: PanelTask, prolific: ProlificServer) -> None:
    one, two, three = (task.chat(f"p{number}", f"s{number}") for number in (1, 2, 3))
    said = task.command("approve", "p1", "p2")
    assert (said.code, said.out) == (0, f"p1, unit {one.unit_id} approved\np2, unit {two.unit_id} approved\n")
    assert statuses(prolific) == {"s1": "APPROVED", "s2": "APPROVED", "s3": "AWAITING REVIEW"}
    assert [task.status(agent) for agent in (one, two, three)] == ["approved", "approved", "completed"]
    assert len(prolific.sent("GET", "/submissions/")) == 2, "one list of all submissions, and its end"


@pytest.mark.parametrize(
    "fault", [dropped(), dropped(acts=False), refused(502), refused(429, Retry_After="0"), twice()], ids=str
)
def test_an_approval_gets_through_whatever_happens_to_its_answer(
    task: PanelTask, prolific: ProlificServer, fault: Any
) -> None:
    agent = task.chat("p1", "s1")
    prolific.order("POST", "/transition/", fault)
    assert task.command("approve", "--all").code == 0
    assert statuses(prolific)["s1"] == "APPROVED"
    assert task.status(agent) == "approved"


def test_what_was_approved_on_prolific_itself_is_approved_here(task: PanelTask, prolific: ProlificServer) -> None:
    listed, meanwhile = task.chat("p1", "s1"), task.chat("p2", "s2")
    prolific.submissions["s1"]["status"] = "APPROVED"
    prolific.order("POST", "/s2/transition/", refused(400, "approved already", acts=True))
    assert task.command("approve", "--all").code == 0
    assert [task.status(agent) for agent in (listed, meanwhile)] == ["approved", "approved"]
    assert prolific.sent("POST", "/s1/transition/") == []


def test_what_prolific_does_not_approve_is_not_approved_here(task: PanelTask, prolific: ProlificServer) -> None:
    agent, other = task.chat("p1", "s1"), task.chat("p2", "s2")
    prolific.submissions["s1"]["status"] = "ACTIVE"
    said = task.command("approve", "--all")
    assert said.code == 1
    assert (
        "✗ submission s1, which is ACTIVE on Prolific: Prolific answered 400 to POST /submissions/s1/transition/"
        in said.out
    )
    assert [task.status(one) for one in (agent, other)] == ["completed", "approved"]


def test_nobody_is_paid_for_anothers_submission(task: PanelTask, prolific: ProlificServer) -> None:
    """The address that a participant came with can be changed by them."""
    agent = task.chat("p1", "s2")
    said = task.command("approve", "--all")
    assert said.code == 1
    assert f"p1, unit {agent.unit_id}: Prolific's study {STUDY} has no submission s2 of theirs" in said.out
    assert statuses(prolific)["s2"] == "AWAITING REVIEW"
    assert task.status(agent) == "completed"


@pytest.mark.parametrize(
    "participation", [None, "x", [], {"study": 5, "session": ["s1"]}, {"session": "", "study": STUDY}]
)
def test_without_saved_ids_the_submission_is_found_by_its_participant(
    prolific: ProlificServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], participation: Any
) -> None:
    task = PanelTask(tmp_path, "prolific", capsys, api_url=prolific.url, api_token_env=VARIABLE, study_id=STUDY)
    agent = task.chat("p1", participation=participation)
    assert task.command("approve", "--all").code == 0
    assert statuses(prolific)["s1"] == "APPROVED"
    assert task.status(agent) == "approved"


def test_which_of_several_submissions_it_is_is_not_guessed(task: PanelTask, prolific: ProlificServer) -> None:
    prolific.add_submission("s9", "p1")
    agent = task.chat("p1", None)
    said = task.command("approve", "--all")
    assert said.code == 1
    assert f"p1, unit {agent.unit_id}: it is not known which of their 2 submissions of study {STUDY} it is" in said.out
    assert "APPROVED" not in statuses(prolific).values()


def test_without_any_study_nothing_is_guessed(task: PanelTask) -> None:
    task.chat("p1", "s1", study=None)
    said = task.command("approve", "--all")
    assert said.code == 1
    assert "no study is saved with this conversation, and mephisto.provider.study_id is not set" in said.out


def test_a_rejection_is_sent_with_its_category_and_can_be_taken_back(task: PanelTask, prolific: ProlificServer) -> None:
    agent = task.chat("p1", "s1")
    assert task.command("reject", "p1", "--reason", f" {WHY} ", *LOW_EFFORT).code == 0
    (sent,) = prolific.sent("POST", "/transition/")
    assert sent == {"action": "REJECT", "message": WHY, "rejection_category": "LOW_EFFORT"}
    assert (statuses(prolific)["s1"], task.status(agent)) == ("REJECTED", "rejected")
    assert task.command("approve", "p1", "--rejected").code == 0
    assert (statuses(prolific)["s1"], task.status(agent)) == ("APPROVED", "approved")


def test_all_faults_of_a_rejection_are_said_at_once_and_nothing_is_sent(
    task: PanelTask, prolific: ProlificServer
) -> None:
    task.chat("p1", "s1")
    said = task.command("reject", "--reason", "Bad.", "--category", "BAD")
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines() == [
        "✗ Name workers (or --file), or give --all for the units of everybody.",
        f"✗ --category: 'BAD' is unknown to Prolific; give one of {', '.join(RejectionCategory)}.",
        "✗ --reason: has 4 characters, and Prolific wants at least 100; tell the participant what was wrong.",
    ]
    assert "--category: is not set" in task.command("reject", "p1", "--reason", WHY).err
    assert "--reason: has 99 characters" in task.command("reject", "p1", "--reason", "x" * 99 + "  ", *LOW_EFFORT).err
    assert prolific.requests == []


def test_what_is_approved_can_not_be_rejected(task: PanelTask, prolific: ProlificServer) -> None:
    agent = task.chat("p1", "s1")
    prolific.submissions["s1"]["status"] = "APPROVED"
    said = task.command("reject", "p1", "--reason", WHY, *LOW_EFFORT)
    assert (said.code, said.out) == (1, "✗ submission s1 is approved already and can't be rejected any more.\n")
    assert task.status(agent) == "completed"
    assert prolific.sent("POST", "/transition/") == []


def test_a_token_that_has_expired_is_said_in_one_sentence(task: PanelTask, prolific: ProlificServer) -> None:
    agent = task.chat("p1", "s1")
    task.chat("p2", "s2")
    prolific.tokens.clear()
    said = task.command("approve", "--all")
    assert said.code == 1
    assert said.out.count("\n") == 1, "not once for each unit"
    assert said.out.startswith(
        "✗ Prolific answered 401 to GET /submissions/: the token in TEST_PROLIFIC_TOKEN is not accepted"
    )
    assert TOKEN not in said.out + said.err
    assert task.status(agent) == "completed"


@pytest.mark.parametrize("status", [503, 401, 429])
def test_nobody_else_is_tried_when_prolific_can_not_be_asked_any_more(
    task: PanelTask, prolific: ProlificServer, status: int
) -> None:
    for number in (1, 2, 3):
        task.chat(f"p{number}", f"s{number}")
    prolific.order("POST", "/s2/", *(refused(status) for _ in range(prolific_api.ATTEMPTS)))
    said = task.command("approve", "--all")
    assert said.code == 1
    assert said.out.endswith("2 units are left; repeat the command later.\n")
    assert statuses(prolific) == {"s1": "APPROVED", "s2": "AWAITING REVIEW", "s3": "AWAITING REVIEW"}
    assert prolific.sent("POST", "/s3/") == []
    prolific.faults.clear()
    assert task.command("approve", "--all").code == 0
    assert set(statuses(prolific).values()) == {"APPROVED"}


def test_the_token_can_be_named_on_the_command_line(
    task: PanelTask, prolific: ProlificServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.chat("p1", "s1")
    monkeypatch.delenv(VARIABLE)
    said = task.command("approve", "--all")
    assert said.code == 2
    assert f"api_token_env (or --api-token-env): the environment variable '{VARIABLE}' is not set" in said.err
    monkeypatch.setenv("ANOTHER", TOKEN)
    assert task.command("approve", "--all", "--api-token-env", "ANOTHER").code == 0
    said = task.command("approve", "p1", "--rejected", "--api-token-env", "NOBODY")
    assert said.code == 1, "no unit is left: the token is not asked for"


@pytest.mark.parametrize(
    "command", [["approve"], ["reject", "--reason", WHY, *LOW_EFFORT], ["message", "--text", "Hi"]]
)
def test_a_dry_run_asks_prolific_nothing(task: PanelTask, prolific: ProlificServer, command: list[str]) -> None:
    agent = task.chat("p1", "s1")
    said = task.command(*command, "p1", "--dry-run")
    assert said.code == 0
    assert said.out.startswith("would: ")
    assert prolific.requests == []
    assert task.status(agent) == "completed"


@pytest.mark.parametrize("name", ["[/x]", "[link=http://x]", "p1\x1b[31m"])
def test_a_participant_may_have_any_name(task: PanelTask, prolific: ProlificServer, name: str) -> None:
    prolific.add_submission("s[red]", name)
    task.chat(name, "s[red]")
    said = task.command("approve", "--all")
    assert said.code == 0
    assert name.replace("\x1b", "\\x1b") in said.out
    assert "\x1b" not in said.out


# --- messages ---


def test_a_message_is_sent_once_to_each_however_often_it_is_asked_for(
    task: PanelTask, prolific: ProlificServer
) -> None:
    for participant, session in (("p1", "s1"), ("p1", "s1"), ("p2", "s2")):
        task.chat(participant, session)
    ask = ("message", "--all", "--text", "Thank you!")
    said = task.command(*ask)
    assert (said.code, said.out) == (0, "message to p1\nmessage to p2\n")
    assert prolific.messages == [
        {"recipient_id": name, "body": "Thank you!", "study_id": STUDY} for name in ("p1", "p2")
    ]
    assert task.command(*ask).out == "p1 has had this message\np2 has had this message\n"
    assert len(prolific.messages) == 2
    assert task.command("message", "p1", "--text", "Another.").code == 0
    assert task.command("message", "p1", "--text", "Thank you!", "--again").code == 0
    assert [one["body"] for one in prolific.messages[2:]] == ["Another.", "Thank you!"]


def test_a_message_without_an_answer_is_not_sent_again_by_itself(task: PanelTask, prolific: ProlificServer) -> None:
    task.chat("p1", "s1")
    task.chat("p2", "s2")
    prolific.order("POST", "/messages/", dropped())
    said = task.command("message", "--all", "--text", "Hi")
    assert said.code == 1
    assert said.out.startswith("✗ p1: Prolific gave no answer to POST /messages/")
    assert said.out.endswith("; it may have arrived.\nThe other messages were not sent; repeat the command later.\n")
    ask = ("message", "p1", "--text", "Hi")
    assert task.command(*ask).out == "p1 may have had this message; --again sends it anyway\n"
    assert len(prolific.messages) == 1
    prolific.order("POST", "/messages/", refused(429))
    assert task.command(*ask, "--again").code == 1
    assert task.command(*ask).out == "message to p1\n", "a message that was refused can be sent"


def test_faults_of_a_message_are_said_before_anything_is_sent(task: PanelTask, prolific: ProlificServer) -> None:
    task.chat("p1", "s1")
    said = task.command("message", "p1", "--subject", "x", "--text", " ")
    assert said.code == 2
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["✗ --subject", "✗ --text"]
    assert prolific.requests == []


# --- participant groups ---


def test_blocks_and_invitations_reach_the_participant_groups(task: PanelTask, prolific: ProlificServer) -> None:
    prolific.groups[INVITED] = []
    task.chat("p1", "s1")
    said = task.command("block", "p1", "p9")
    assert said.code == 0
    assert said.out.endswith(f"p1, p9: in the participant group {GROUP} on Prolific\n")
    assert prolific.groups[GROUP] == ["p1", "p9"]
    assert is_blocked(find_worker(task.db, "prolific", "p1"), "blocked")  # type: ignore[arg-type]  # found
    assert task.command("unblock", "p1").code == 0
    assert prolific.groups[GROUP] == ["p9"]
    assert task.command("allow", "p1", "--qualification", "invited").code == 0
    assert prolific.groups[INVITED] == ["p1"]


def test_a_block_that_did_not_reach_prolific_holds_here_and_is_completed_by_a_repeat(
    task: PanelTask, prolific: ProlificServer
) -> None:
    task.chat("p1", "s1")
    prolific.order("POST", "/participants/", refused(400, "unknown participant"))
    said = task.command("block", "p1")
    assert said.code == 1
    assert "✗ p1: done here, but not on Prolific: Prolific answered 400" in said.out
    assert is_blocked(find_worker(task.db, "prolific", "p1"), "blocked")  # type: ignore[arg-type]  # found
    said = task.command("block", "p1")
    assert said.code == 0
    assert "p1 is blocked already" in said.out
    assert prolific.groups[GROUP] == ["p1"]


def test_without_a_group_a_block_holds_here_and_says_so(
    prolific: ProlificServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = PanelTask(tmp_path, "prolific", capsys, api_url=prolific.url)
    task.chat("p1", "s1")
    said = task.command("block", "p1")
    assert said.code == 0
    assert said.out.endswith("p1: only here: mephisto.provider.blocked_group names no participant group on Prolific\n")
    assert prolific.requests == []


# --- places ---


def test_a_study_gets_more_places_once_their_cost_is_confirmed(task: PanelTask, prolific: ProlificServer) -> None:
    prolific.studies[STUDY]["status"] = "PAUSED"
    ask = ("top-up", "--study", STUDY, "--places", "30")
    said = task.command(*ask)
    assert said.code == 2
    assert said.out == (
        "From 20 places to 30: 10 places × £1.50 = £15.00, without the fee of Prolific, for mephisto.provider.fee_percent "
        "is not set.\n"
    )
    assert "nothing was changed; to add the places, repeat the command with --confirm 15.00" in said.err
    assert prolific.studies[STUDY]["total_available_places"] == 20
    prolific.order("PATCH", "/studies/", dropped())
    said = task.command(*ask, "--confirm", "15")
    assert said.code == 0
    assert said.out.endswith(f"study {STUDY} has 30 places\nstudy {STUDY} started again\n")
    study = prolific.studies[STUDY]
    assert (study["total_available_places"], study["status"]) == (30, "ACTIVE")
    assert task.command(*ask).out == f"study {STUDY} has 30 places already\n"


def test_a_study_never_gets_fewer_places(task: PanelTask, prolific: ProlificServer) -> None:
    said = task.command("top-up", "--study", STUDY, "--places", "10")
    assert said.code == 2
    assert "--places: the study has 20 places, and can't have fewer" in said.err
    assert prolific.sent("PATCH", "") == []


def test_a_top_up_needs_a_study_that_is_there(task: PanelTask) -> None:
    assert "--study: is not set" in task.command("top-up", "--places", "30").err
    said = task.command("top-up", "--places", "30", "--study", "nowhere")
    assert (said.code, said.out) == (1, "✗ Prolific answered 404 to GET /studies/nowhere/: Not found.\n")

"""What a start finds of runs that died: nothing that was acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mephisto.data_model.constants.assignment_state import AssignmentState

from model_chat.conversation.human_agent import HumanAgent
from model_chat.errors import ConfigurationError
from model_chat.launch import recovery
from model_chat.launch.recovery import CUT_OFF, Recovered, dialog_of, hold_task, recover
from model_chat.mephisto_task.agent_state import ModelChatAgentState
from model_chat.quality.attention import AttentionConfig
from model_chat.quality.blocks import BlockReason, block_for_record, block_reasons, is_blocked, unblock
from model_chat.records.collected import SavedConversations, find_saved
from model_chat.records.writing import save_conversation
from model_chat.tests import preloaded
from model_chat.tests.mephisto_run import Run

TASK = "study_local"


@pytest.fixture
def mephisto_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A database of its own: what other tests leave open would be recovered, too."""
    return Run(tmp_path_factory.mktemp("recovery"))


def head_of(agent: Any) -> dict[str, Any]:
    return {
        "dialog": [],
        "workers": [agent.get_worker().worker_name],
        "assignment_ids": [agent.assignment_id],
        "task_description": {"model_nickname": "a"},
        "status": "incomplete",
        "reason": None,
        "task_name": TASK,
    }


def test_what_is_known_of_replies_comes_back_to_them_and_what_is_damaged_is_left_out() -> None:
    messages = [
        {"id": "Speaker 2", "text": str(at), "task_data": {"agent_idx": 1, "utterance_idx": at}, "update_id": f"u{at}"}
        for at in range(3)
    ]
    generations = {"u0": {"cost_usd": 0.5}, "u1": {"cost_usd": "much", "retries": 1}, "other": {"retries": 9}}
    dialog = dialog_of(messages, generations)
    assert [line.get("generation") for line in dialog] == [{"cost_usd": 0.5}, {"retries": 1}, None]


def begin(run: Run, *said: str) -> Any:
    """An agent in the middle of a conversation in which the worker has said this."""
    agent = run.agent()
    agent.update_status("in task")
    agent.state.set_init_state({})
    human = HumanAgent(agent)
    human.control("start")
    human.say("Speaker 1", "Hi!", fake_start=True, utterance_idx=0, agent_idx=0)
    human.say("Speaker 2", "Hello.", utterance_idx=1, agent_idx=1)
    agent.state.record_head(head_of(agent))
    for number, text in enumerate(said):
        idx = 2 + 2 * number
        told = {"problem_data": {"b": True}, "annotated_utterance_idx": idx - 1}
        human.say("Speaker 1", text, utterance_idx=idx, agent_idx=0, message_id=f"id of {text}", **told)
        human.say("Speaker 2", "I see.", utterance_idx=idx + 1, agent_idx=1)
    return agent


def finished(agent: Any) -> dict[str, Any]:
    """The conversation of an agent as it is saved when it is complete."""
    return {**head_of(agent), "dialog": dialog_of(agent.state.messages), "status": "complete"}


def die(agent: Any) -> Any:
    """Forget what only the process knew, as its death does; return the agent."""
    agent.hide_state()
    return agent


def look(run: Run, folder: Path) -> SavedConversations:
    return find_saved(folder, Path(run.db.db_path), TASK)


def start(run: Run, folder: Path) -> Recovered:
    return recover(run.db, TASK, look(run, folder), folder, is_live=False)


def files(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("*/*.json"))]


def test_a_conversation_that_was_cut_off_is_kept_in_both_records_with_every_word(
    mephisto_run: Run, tmp_path: Path
) -> None:
    agent = die(begin(mephisto_run, "First.", "Second."))
    assert start(mephisto_run, tmp_path) == Recovered(cut_off=1, expired=1)
    (saved,) = files(tmp_path)
    assert [line["text"] for line in saved["dialog"]] == ["Hi!", "Hello.", "First.", "I see.", "Second.", "I see."]
    assert [line.get("problem_data") for line in saved["dialog"]] == [None, {"b": True}, None, {"b": True}, None, None]
    assert [line.get("message_id") for line in saved["dialog"]][2::2] == ["id of First.", "id of Second."]
    assert (saved["status"], saved["reason"]) == ("incomplete", CUT_OFF)
    assert ModelChatAgentState(agent).get_parsed_data()["save_data"] == {"custom_data": saved}
    assert agent.get_status() == "expired"
    assert look(mephisto_run, tmp_path).complete() == {}
    assert start(mephisto_run, tmp_path) == Recovered(), "the second time there is nothing left to do"
    assert len(files(tmp_path)) == 1


def test_a_worker_who_had_said_nothing_leaves_no_conversation(mephisto_run: Run, tmp_path: Path) -> None:
    agent = die(begin(mephisto_run))
    assert start(mephisto_run, tmp_path) == Recovered(expired=1)
    assert files(tmp_path) == []
    assert agent.get_status() == "expired"


def test_killed_between_the_two_records_it_counts_once_and_gets_the_other(mephisto_run: Run, tmp_path: Path) -> None:
    agent = begin(mephisto_run, "First.")
    saved = finished(agent)
    save_conversation(tmp_path, saved, live=False)
    die(agent)
    assert start(mephisto_run, tmp_path) == Recovered(repaired=1)
    assert files(tmp_path) == [saved]
    assert ModelChatAgentState(agent).get_parsed_data()["save_data"] == {"custom_data": saved}
    assert agent.get_status() == "completed"
    assert agent.get_unit().get_status() == AssignmentState.COMPLETED
    assert look(mephisto_run, tmp_path).complete() == {"a": 1}


def test_killed_after_both_records_the_work_counts_though_nobody_submitted(mephisto_run: Run, tmp_path: Path) -> None:
    agent = begin(mephisto_run, "First.")
    saved = finished(agent)
    save_conversation(tmp_path, saved, live=False)
    agent.state.record_world_data({"custom_data": saved})
    die(agent)
    assert look(mephisto_run, tmp_path).complete() == {"a": 1}
    assert start(mephisto_run, tmp_path) == Recovered()
    assert agent.get_status() == "completed"
    assert files(tmp_path) == [saved]


def test_a_conversation_in_only_one_record_counts(mephisto_run: Run, tmp_path: Path) -> None:
    in_file, in_database = begin(mephisto_run, "One."), begin(mephisto_run, "Two.")
    save_conversation(tmp_path, finished(in_file), live=False)
    in_database.state.record_world_data({"custom_data": finished(in_database)})
    assert look(mephisto_run, tmp_path).complete() == {"a": 2}


def start_blocking(run: Run, folder: Path, attention: AttentionConfig | None = None) -> None:
    block = partial(block_for_record, qualification="blocked", attention=attention)
    recover(run.db, TASK, look(run, folder), folder, is_live=False, block=block)


@pytest.mark.parametrize("in_database", [True, False])
def test_killed_between_saving_and_blocking_the_worker_is_blocked_at_the_next_start(
    mephisto_run: Run, tmp_path: Path, in_database: bool
) -> None:
    bad, good = begin(mephisto_run, "Bad."), begin(mephisto_run, "Good.")
    for agent, violations in ((bad, "penalize_greetings"), (good, "")):
        saved = {**finished(agent), "acceptability_violations": [violations]}
        save_conversation(tmp_path, saved, live=False)
        if in_database:
            agent.state.record_world_data({"custom_data": saved})
        die(agent)
    start_blocking(mephisto_run, tmp_path)
    worker = bad.get_worker()
    assert block_reasons(worker, "blocked") == [BlockReason.ACCEPTABILITY]
    assert is_blocked(worker, "blocked")
    assert not is_blocked(good.get_worker(), "blocked")
    assert {agent.get_status() for agent in (bad, good)} == {"completed"}
    unblock(worker, "blocked")
    start_blocking(mephisto_run, tmp_path)
    assert not is_blocked(worker, "blocked"), "what the requester has taken back since stays taken back"


def test_failed_attention_checks_block_after_a_death_too_but_half_a_conversation_does_not(
    mephisto_run: Run, tmp_path: Path
) -> None:
    check = {"turn": 1, "text": "Tick odd.", "answer": "no", "passed": False}
    attention = AttentionConfig.model_validate({"checks": [{"turn": 1, "text": "Say yes.", "expect": ["yes"]}]})
    whole, half = begin(mephisto_run, "Whole."), begin(mephisto_run, "Half.")
    for agent, status in ((whole, "complete"), (half, "incomplete")):
        saved = {**finished(agent), "status": status, "attention_checks": [check], "acceptability_violations": [None]}
        agent.state.record_world_data({"custom_data": saved})
        die(agent)
    start_blocking(mephisto_run, tmp_path, attention)
    assert block_reasons(whole.get_worker(), "blocked") == [BlockReason.ATTENTION]
    assert not is_blocked(half.get_worker(), "blocked")


@pytest.mark.parametrize("status", ["rejected", "soft_rejected"])
def test_other_tasks_older_files_and_rejected_work_do_not_count(mephisto_run: Run, tmp_path: Path, status: str) -> None:
    other, old, rejected = (begin(mephisto_run, text) for text in ("Other.", "Old.", "Rejected."))
    save_conversation(tmp_path, {**finished(other), "task_name": "another_local"}, live=False)
    save_conversation(tmp_path, {**finished(old), "task_name": None}, live=False)
    for_rejected = finished(rejected)
    save_conversation(tmp_path, for_rejected, live=False)
    rejected.state.record_world_data({"custom_data": for_rejected})
    assert look(mephisto_run, tmp_path).complete() == {"a": 1}
    rejected.update_status(status)
    kept = look(mephisto_run, tmp_path)
    assert kept.complete() == {}
    assert kept.unnamed == 1


def test_a_worker_who_timed_out_at_the_moment_of_the_death_is_recovered_and_stays_timed_out(
    mephisto_run: Run, tmp_path: Path
) -> None:
    agent = begin(mephisto_run, "First.")
    agent.update_status("timeout")
    die(agent)
    assert start(mephisto_run, tmp_path).cut_off == 1
    assert agent.get_status() == "timeout"


def test_units_that_nobody_took_are_expired_and_the_run_is_over(mephisto_run: Run, tmp_path: Path) -> None:
    units = [mephisto_run.unit() for _ in range(3)]
    assert start(mephisto_run, tmp_path) == Recovered(expired=3)
    assert {unit.get_db_status() for unit in units} == {AssignmentState.EXPIRED}
    assert mephisto_run.db.find_task_runs(is_completed=False) == []
    assert start(mephisto_run, tmp_path) == Recovered()


def test_an_onboarding_that_was_cut_off_is_over(mephisto_run: Run, tmp_path: Path) -> None:
    agent = mephisto_run.onboarding_agent()
    start(mephisto_run, tmp_path)
    assert agent.get_status() == "expired"


def test_a_unit_that_the_platform_refuses_to_expire_stops_nothing(
    mephisto_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = mephisto_run.unit(), mephisto_run.unit()
    real = type(first).expire

    def expire(unit: Any) -> Any:
        if unit.db_id == first.db_id:
            raise ConnectionError("no way to the platform")
        return real(unit)

    monkeypatch.setattr(type(first), "expire", expire)
    assert start(mephisto_run, tmp_path) == Recovered(expired=1)
    assert second.get_db_status() == AssignmentState.EXPIRED
    monkeypatch.undo()
    assert start(mephisto_run, tmp_path) == Recovered(expired=1), "tried again"


def test_it_is_said_in_one_sentence() -> None:
    assert Recovered().sentence() is None
    assert Recovered(1, 0, 2).sentence() == (
        "An earlier run ended without warning: 1 conversation that was cut off is kept as incomplete, 2 open units were "
        "expired."
    )


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"[" * 100_000, b'{"outputs": 3}', b'{"outputs": {"messages": [1]}}',
        b'{"outputs": {"messages": []}}',
        b'{"outputs": {"messages": [{"WORLD_DATA": 3}]}, "inputs": {}}', b"9" * 5_000, b"\xff\xfe\x00",
        b'{"outputs": {"messages": []}, "inputs": {}, "metadata": {"unknown": 1}}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["state.json", "agent_meta.json"])
def test_a_damaged_file_of_one_agent_is_set_aside_and_named_and_the_others_are_recovered(
    mephisto_run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, name: str
) -> None:
    damaged, sound = begin(mephisto_run, "lost?"), begin(mephisto_run, "kept.")
    folder = Path(damaged.get_data_dir())
    (folder / name).write_bytes(content)
    for agent in (damaged, sound):
        die(agent)
    recovered = recover(mephisto_run.db, TASK, SavedConversations(), tmp_path, is_live=False)
    assert recovered.cut_off == 2, "what the journals hold is kept"
    texts = [json.loads(path.read_text())["dialog"][2]["text"] for path in tmp_path.glob("*/*.json")]
    assert sorted(texts) == ["kept.", "lost?"]
    if name == "state.json" or (folder / f"{name}.damaged").exists():
        assert (folder / f"{name}.damaged").read_bytes() == content
        assert str(folder / name) in caplog.text


def test_an_agent_whose_recovery_breaks_down_keeps_nobody_else_from_being_recovered(
    mephisto_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = begin(mephisto_run, "lost?"), begin(mephisto_run, "kept.")
    for agent in (broken, sound):
        die(agent)
    recover_agent = recovery._recover_agent

    def breaking(agent: Any, *more: Any) -> Any:
        if agent.db_id == broken.db_id:
            raise ZeroDivisionError("a bug")
        return recover_agent(agent, *more)

    with monkeypatch.context() as bug:
        bug.setattr(recovery, "_recover_agent", breaking)
        recovered = recover(mephisto_run.db, TASK, SavedConversations(), tmp_path, is_live=False)
    assert recovered.cut_off == 1
    assert "could not be recovered" in caplog.text
    assert start(mephisto_run, tmp_path).cut_off == 1, "the next start tries again"
    assert sorted(file["dialog"][2]["text"] for file in files(tmp_path)) == ["kept.", "lost?"]


def test_a_task_runs_once_at_a_time_and_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from model_chat.launch.recovery import hold_task\n"
        f"with hold_task(Path({str(tmp_path)!r}), 'study'):\n  print('held', flush=True); time.sleep(600)"
    )
    with preloaded.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with hold_task(tmp_path, "another"):
            pass
        with pytest.raises(ConfigurationError) as error, hold_task(tmp_path, "study"):
            pass
        assert str(error.value) == (
            f"mephisto.task.task_name: 'study' is running already (process {process.pid}); stop that run, or give another "
            "name."
        )
        process.kill()
        process.wait()
    with hold_task(tmp_path, "study"):
        assert list((tmp_path / "model_chat_locks").iterdir())

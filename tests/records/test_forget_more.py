"""Forgetting a worker, continued: what Mephisto's database and states hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_chat.conversation.human_agent import HumanAgent
from model_chat.errors import ConfigurationError
from model_chat.records.forget import forget_worker
from model_chat.records.writing import save_conversation
from model_chat.tests.launch.test_recovery import begin, finished
from model_chat.tests.mephisto_run import Run

from .test_forget import WHO, chat, journal_of


def test_what_was_granted_goes_and_onboarding_is_changed_too(run: Run) -> None:
    onboarding = run.onboarding_agent()
    onboarding.state.set_init_state({})
    onboarding.state.save_data()
    name = onboarding.get_worker().worker_name
    state = Path(onboarding.get_data_dir()) / "state.json"
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, "inputs": {"worker_id": name, "text": name}}))
    other = run.worker()
    qualification = run.db.make_qualification("passed")
    for worker_id in (onboarding.worker_id, other.db_id):
        run.db.grant_qualification(qualification, worker_id, 1)
    gone = forget_worker(name, Path(run.db.db_path))
    assert (gone.states, gone.rows) == (1, 1)
    assert json.loads(state.read_text())["inputs"] == {"worker_id": gone.pseudonym, "text": name}
    granted = run.db.check_granted_qualifications(qualification_id=qualification)
    assert [row.worker_id for row in granted] == [other.db_id]


def test_sandbox_names_are_the_same_worker_and_no_others_are(run: Run) -> None:
    for name in ("A1_sandbox", "A1", "A1_sandbox2", "A12"):
        run.db.new_worker(name, "mock")
    gone = forget_worker("A1", Path(run.db.db_path))
    assert gone.rows == 2
    names = sorted(worker.worker_name for worker in run.db.find_workers())
    assert [name for name in names if not name.startswith(f"{gone.pseudonym}-")] == ["A12", "A1_sandbox2"]
    assert len(set(names)) == 4, "two rows of one worker stay two"


def test_deleting_empties_states_and_only_counts_when_asked_to(run: Run, tmp_path: Path) -> None:
    chats = tmp_path / "chats"
    agent = chat(run, chats)
    agent.state._append({"message": {"text": "I like tea.", "update_id": "x"}}, durable=True)
    state = Path(agent.get_data_dir()) / "state.json"
    before = state.read_bytes()
    counted = forget_worker(WHO, Path(run.db.db_path), [chats], delete=True, dry_run=True)
    assert (counted.files, counted.states, counted.rows) == (1, 1, 1)
    assert state.read_bytes() == before and journal_of(agent).exists() and list(chats.glob("*/*.json"))
    forget_worker(WHO, Path(run.db.db_path), [chats], delete=True)
    content = json.loads(state.read_text())
    assert content["outputs"] == {"messages": [], "final_submission": None}
    assert set(content) == set(json.loads(before)), "the rest is kept"
    assert not journal_of(agent).exists() and not list(chats.glob("*/*.json"))


def test_a_database_that_cannot_be_changed_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "database.db").write_text("this is no database at all")
    with pytest.raises(ConfigurationError, match=r"--database-path: '.*database.db' can't be changed \(file is not"):
        forget_worker("A1", tmp_path / "database.db")


@pytest.mark.parametrize("ascii_only", [True, False])
def test_an_id_is_found_however_a_damaged_file_writes_it(run: Run, tmp_path: Path, ascii_only: bool) -> None:
    who = 'Zo\u00eb "7"'
    run.db.new_worker(who, "mock")
    chats = tmp_path / "chats" / "2026_11_20"
    chats.mkdir(parents=True)
    damaged = chats / "20261120_100000_x_live.json"
    damaged.write_text(json.dumps({"workers": [who]}, ensure_ascii=ascii_only)[:-1], encoding="utf-8")
    assert forget_worker(who, Path(run.db.db_path), [chats.parent]).unread == (str(damaged),)
    assert forget_worker("Zo", Path(run.db.db_path), [chats.parent]).unread == (str(damaged),), (
        "part of it might be another"
    )


def test_deleting_leaves_no_counts_of_how_messages_were_written(run: Run, tmp_path: Path) -> None:
    chats = tmp_path / "chats"
    agent = begin(run, "My name is worker-1, and I like tea.")
    counts = {"pasted_characters": 7, "times_away": 1, "keys": 3}
    human = HumanAgent(agent)
    human.say("Speaker 1", "Pasted.", utterance_idx=4, agent_idx=0, message_id="m9", authenticity=counts)
    record = {**finished(agent), "authenticity": [{"utterance_idx": 4, "characters": 7, **counts}]}
    save_conversation(chats, record, live=False)
    agent.state.record_world_data({"custom_data": record})
    agent.state.finish()

    def holding() -> list[Path]:
        files = [path for folder in (chats, Path(agent.get_data_dir())) for path in folder.rglob("*") if path.is_file()]
        return [path for path in files if b"pasted" in path.read_bytes()]

    assert len(holding()) >= 2
    forget_worker(WHO, Path(run.db.db_path), [chats], delete=True)
    assert holding() == []

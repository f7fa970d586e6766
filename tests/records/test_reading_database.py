"""Conversations in a database that Mephisto itself has made are found, and running tasks are not disturbed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_chat import compat as compat  # the patches, before mephisto
from model_chat.analysis.compiler import ModelChatResultsCompiler
from model_chat.errors import ConfigurationError
from model_chat.records.mephisto_database import AGENT_STATUSES, find_database, list_agents
from model_chat.records.reading import ReadingReason, UnreadableError, read_conversation

from .test_reading import old_file

TASK = "chat_local"


class Store:
    """A real Mephisto database with a task, and agents put into it as a run does."""

    def __init__(self, folder: Path) -> None:
        from mephisto.abstractions.databases.local_database import LocalMephistoDB

        self.path = folder / "database.db"
        self.db = LocalMephistoDB(str(self.path))
        self.task_id = self.db.new_task(TASK, "model_chat_blueprint")
        self.requester_id = self.db.new_requester("requester", "mock")
        self.run_id = self.db.new_task_run(self.task_id, self.requester_id, "{}", "mock", "model_chat_blueprint")

    def add(self, conversation: dict[str, Any] | None, status: str, worker: str, final_only: bool = False) -> str:
        assignment = self.db.new_assignment(
            self.task_id, self.run_id, self.requester_id, "model_chat_blueprint", "mock"
        )
        unit = self.db.new_unit(
            self.task_id, self.run_id, self.requester_id, assignment, 0, 1.0, "mock", "model_chat_blueprint"
        )
        worker_id = self.db.new_worker(worker, "mock")
        agent = self.db.new_agent(
            worker_id, unit, self.task_id, self.run_id, assignment, "model_chat_blueprint", "mock"
        )
        self.db.update_agent(agent, status=status)
        place = self.path.parent / "data" / "runs" / "NO_PROJECT" / self.run_id / assignment / agent
        place.mkdir(parents=True)
        messages: list[dict[str, Any]] = [{"id": "Speaker 1", "text": "Hi", "task_data": {}, "timestamp": 1.0}]
        if conversation is not None:
            messages.append({"id": "Coordinator", "text": "", "final_chat_data": conversation})
            if not final_only:
                data = {"custom_data": conversation}
                messages.append({"id": "SUBMIT_WORLD_DATA", "text": "", "WORLD_DATA": data})
        state = {"outputs": {"messages": messages, "final_submission": {}}, "inputs": {}, "metadata": {}}
        (place / "state.json").write_text(json.dumps(state))
        return agent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.db.shutdown()


def test_conversations_are_found_where_mephisto_keeps_them(store: Store) -> None:
    store.add(old_file(), "completed", "w1")
    store.add(old_file(workers=[]), "approved", "w2", final_only=True)
    store.add(None, "completed", "w3")
    first, second, third = list_agents(store.path, TASK)
    assert [first.status, second.status] == ["completed", "approved"]
    assert read_conversation(first).worker_id == "A1HUMAN"
    assert read_conversation(second).worker_id == "w2"  # Mephisto's own name where the record has none
    with pytest.raises(UnreadableError) as caught:
        read_conversation(third)
    assert caught.value.reason is ReadingReason.NO_CONVERSATION


def test_the_place_of_an_agents_data_is_mephistos_own(store: Store) -> None:
    from mephisto.abstractions.blueprints.parlai_chat.parlai_chat_agent_state import ParlAIChatAgentState
    from mephisto.data_model.assignment import Assignment

    agent = store.add(old_file(), "completed", "w1")
    (source,) = list_agents(store.path, TASK)
    row = store.db.get_agent(agent)
    expected = Path(Assignment.get(store.db, row["assignment_id"]).get_data_dir()) / agent / "state.json"
    assert Path(source.path) == expected
    assert ParlAIChatAgentState.__name__  # the state's format is read from its class in the next line
    assert {"outputs", "inputs"} <= json.loads(expected.read_text()).keys()


def test_the_statuses_are_all_that_mephisto_knows() -> None:
    from mephisto.abstractions._subcomponents.agent_state import AgentState

    assert set(AGENT_STATUSES) == set(AgentState.valid())


def compiled(store: Store, tmp_path: Path, **flags: Any) -> ModelChatResultsCompiler:
    run = ModelChatResultsCompiler(
        {
            "task_name": TASK,
            "database_path": str(store.path),
            "output_folder": str(tmp_path / "out"),
            "problem_buckets": "bucket_0,none_all_good",
            "min_word_count": 0,
            "bootstrap": 100,
            "permutations": 99,
            **flags,
        }
    )
    run.compile_results()
    return run


def test_only_completed_and_approved_count_unless_asked_otherwise(store: Store, tmp_path: Path) -> None:
    for number, status in enumerate(("completed", "approved", "rejected", "disconnect", "soft_rejected")):
        store.add(old_file(hit_ids=[f"h{number}"]), status, f"w{number}")
    run = compiled(store, tmp_path)
    assert run.summary is not None
    corpus = run.summary.data.corpus
    assert corpus.conversations["hit_id"].to_pylist() == ["h0", "h1"]
    assert [(e.reason.value, e.detail, e.source) for e in corpus.excluded] == [
        ("mephisto_status", "rejected", "agent 3"),
        ("mephisto_status", "disconnect", "agent 4"),
        ("mephisto_status", "soft_rejected", "agent 5"),
    ]
    other = compiled(store, tmp_path, mephisto_statuses="rejected")
    assert other.summary is not None
    assert other.summary.data.corpus.conversations["hit_id"].to_pylist() == ["h2"]


def test_both_records_of_a_conversation_count_once_and_a_rejection_holds_for_the_file_too(
    store: Store, tmp_path: Path
) -> None:
    kept, refused, file_only = (old_file(hit_ids=[name]) for name in ("kept", "refused", "file only"))
    store.add(kept, "approved", "w1")
    store.add(refused, "rejected", "w2")
    folder = tmp_path / "results" / "2021_01_14"
    folder.mkdir(parents=True)
    for number, conversation in enumerate((kept, refused, file_only)):
        (folder / f"20210114_00000{number}_1_live.json").write_text(json.dumps(conversation))
    run = compiled(store, tmp_path, results_folders=str(folder.parent))
    assert run.summary is not None
    corpus = run.summary.data.corpus
    assert corpus.conversations["hit_id"].to_pylist() == ["kept", "file only"]
    assert sorted(corpus.excluded_by_reason.items()) == [("duplicate", 1), ("mephisto_status", 2)]


def test_as_original_a_conversation_in_both_records_counts_once_and_a_short_one_uses_the_limit_once(
    store: Store, tmp_path: Path
) -> None:
    def short(name: str) -> dict[str, Any]:
        conversation = old_file(hit_ids=[name])
        conversation["dialog"][2]["text"] = "No."
        return conversation

    in_both = [short("short"), old_file(hit_ids=["long"])]
    refused = short("refused")
    for number, conversation in enumerate(in_both):
        store.add(conversation, "approved", f"w{number}")  # the record names the worker: it is one
    store.add(refused, "rejected", "w9")
    folder = tmp_path / "results" / "2021_01_14"
    folder.mkdir(parents=True)
    for number, conversation in enumerate((refused, *in_both)):
        (folder / f"20210114_00000{number}_1_live.json").write_text(json.dumps(conversation))
    run = compiled(
        store,
        tmp_path,
        results_folders=str(folder.parent),
        as_original=True,
        min_word_count=1.5,  # "Hi!" and "No." have 1 each, "Hi!" and "How are you?" 2
        max_convos_per_worker=2,
    )
    assert run.summary is not None
    corpus = run.summary.data.corpus
    assert corpus.conversations["hit_id"].to_pylist() == ["long"]
    assert corpus.excluded_by_reason == {"mephisto_status": 2, "too_short": 1, "duplicate": 2}


def test_an_unknown_task_names_the_ones_there_are(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="it knows chat_local"):
        list_agents(store.path, "chat")


def test_another_database_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE tasks (task_id INTEGER)")
    connection.close()
    with pytest.raises(ConfigurationError, match=r"no database of Mephisto 1\.1"):
        list_agents(path, TASK)
    path.write_bytes(b"this is text, not a database, and long enough for a header" * 9)
    with pytest.raises(ConfigurationError, match="could not be read"):
        list_agents(path, TASK)


def test_mephistos_configuration_says_where_the_database_is(store: Store, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".mephisto").mkdir(parents=True)
    config = home / ".mephisto" / "config.yml"
    config.write_text(f"core:\n  main_data_directory: {tmp_path}\n")
    assert find_database(home=home) == tmp_path / "database.db"
    for text in ("core: {}\n", "core: 2026-99-99\n", "core: [\n", "- core\n"):
        config.write_text(text)
        with pytest.raises(ConfigurationError, match="give --database-path"):
            find_database(home=home)


def test_reading_waits_for_a_writer_and_never_writes(store: Store) -> None:
    store.add(old_file(), "completed", "w1")
    before = store.path.read_bytes()
    writer = sqlite3.connect(store.path, check_same_thread=False)
    writer.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.5, writer.rollback)
    release.start()
    assert len(list_agents(store.path, TASK)) == 1
    release.join()
    writer.close()
    assert store.path.read_bytes() == before


def test_reading_imports_no_mephisto() -> None:
    code = "import sys, model_chat.analysis.compile_results; sys.exit('mephisto' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

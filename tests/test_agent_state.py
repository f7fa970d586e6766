"""What Mephisto keeps of a worker's part, in a real database: the server's words, and nothing that a page said itself."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from model_chat.agent_state import ModelChatAgentState
from model_chat.human_agent import HumanAgent
from model_chat.tests.mephisto_run import Run, arrive

SAVED = {"dialog": [{"text": "secret-dialog"}], "task_description": {"model_nickname": "secret-nickname"}}


@pytest.fixture
def agent(mephisto_run: Run) -> Any:
    agent = mephisto_run.agent()
    agent.state.set_init_state({})
    return agent


def reloaded(agent: Any) -> Any:
    """The state as another process finds it."""
    return ModelChatAgentState(agent)


def test_the_blueprints_state_is_ours(agent: Any) -> None:
    assert isinstance(agent.state, ModelChatAgentState)


def test_what_the_server_says_is_recorded_and_what_a_page_sends_is_not(agent: Any) -> None:
    human = HumanAgent(agent)
    human.control("start", personas=[])
    arrive(agent, {"text": "injected", "task_data": {"control": "ended"}})
    assert human.receive(0)["text"] == "injected"
    agent.observe({"text": "a plain dictionary", "update_id": "x"})
    human.say("Speaker 1", "Hello.", utterance_idx=0)
    for state in (agent.state, reloaded(agent)):
        assert [message["text"] for message in state.messages] == ["", "Hello."]
        assert all(message["update_id"] and message["timestamp"] for message in state.messages)
    assert "injected" not in Path(agent.state._get_expected_data_file()).read_text()


def test_world_data_never_come_out_for_a_page(agent: Any) -> None:
    human = HumanAgent(agent)
    human.control("start")
    agent.state.record_world_data({"custom_data": SAVED})
    human.control("ended", outcome="complete")
    for state in (agent.state, reloaded(agent)):
        init = state.get_init_state()
        assert [update["task_data"]["control"] for update in init["past_live_updates"]] == ["start", "ended"]
        assert "secret" not in json.dumps(init)


def test_world_data_are_kept_for_analysis_in_both_forms(agent: Any) -> None:
    agent.state.record_world_data({"custom_data": SAVED})
    for state in (agent.state, reloaded(agent)):
        messages = state.get_data()["outputs"]["messages"]
        assert [message["final_chat_data"] for message in messages if "final_chat_data" in message] == [SAVED]
        assert [message["WORLD_DATA"] for message in messages if "WORLD_DATA" in message] == [{"custom_data": SAVED}]
        assert state.get_parsed_data()["save_data"] == {"custom_data": SAVED}


def test_before_the_start_a_page_gets_nothing(mephisto_run: Run) -> None:
    assert mephisto_run.agent().state.get_init_state() is None


def test_mephistos_tools_can_read_the_state_at_any_time(agent: Any) -> None:
    empty = agent.state.get_parsed_data()
    assert (empty["agent_name"], empty["messages"], empty["save_data"]) == (None, [], None)
    assert agent.state.get_task_start() == agent.state.get_task_end() == 0.0
    human = HumanAgent(agent)
    human.control("start", agent_display_name="Speaker 1")
    human.say("Speaker 1", "Hello.")
    agent.state.record_world_data({"custom_data": SAVED})
    parsed = reloaded(agent).get_parsed_data()
    assert parsed["agent_name"] == "Speaker 1"
    assert len(parsed["messages"]) == 3
    assert 0 < agent.state.get_task_start() <= agent.state.get_task_end()
    agent.handle_submit({"done": True})
    assert reloaded(agent).get_parsed_data()["final_submission"] == {"done": True}


def test_the_state_can_be_read_whatever_two_threads_do_to_it(agent: Any) -> None:
    human, stop, failures = HumanAgent(agent), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                reloaded(agent)
            except ValueError as error:  # half a file
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    submitter = threading.Thread(target=lambda: [agent.handle_submit({"n": "x" * n}) for n in range(40, 0, -1)])
    submitter.start()
    for number in range(40):
        human.say("Speaker 1", f"Line {number}.")
    submitter.join(30)
    stop.set()
    reader.join(30)
    assert failures == []
    state = reloaded(agent)
    assert [message["text"] for message in state.messages] == [f"Line {number}." for number in range(40)]
    assert state.final_submission == {"n": "x"}


def test_a_disk_that_is_full_leaves_the_state_that_was_there(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    human = HumanAgent(agent)
    human.say("Speaker 1", "Before.")

    def no_space(*args: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdopen", no_space)
    with pytest.raises(OSError, match="No space left"):
        human.say("Speaker 1", "Lost.")
    monkeypatch.undo()
    assert [message["text"] for message in reloaded(agent).messages] == ["Before."]
    folder = Path(agent.state._get_expected_data_file()).parent
    assert [path.name for path in folder.iterdir() if path.name.endswith(".part")] == []


def test_only_the_end_has_to_survive_a_power_cut(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    HumanAgent(agent).say("Speaker 1", "Hello.")
    assert synced == []
    agent.state.record_world_data({"custom_data": SAVED})
    assert synced

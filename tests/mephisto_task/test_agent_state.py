"""What Mephisto keeps of a worker's part, in a real database: the server's words, and nothing that a page said itself."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.human_agent import HumanAgent
from model_chat.mephisto_task.agent_state import ModelChatAgentState
from model_chat.tests.mephisto_run import Run, arrive
from model_chat.tests.mephisto_task.agent_states import SAVED, acknowledge, journal_of, reloaded


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
    written = [path for path in Path(agent.get_data_dir()).rglob("*") if path.is_file()]
    assert written
    assert not any(b"injected" in path.read_bytes() for path in written)


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


def test_a_page_that_hands_in_after_the_end_is_recorded_as_well(agent: Any) -> None:
    agent.state.record_world_data({"custom_data": SAVED})
    agent.state.finish()
    agent.handle_submit({"late": True})
    assert reloaded(agent).final_submission == {"late": True}
    assert not journal_of(agent).exists()


def test_only_the_first_hand_in_counts(agent: Any) -> None:
    for number in range(5):
        agent.handle_submit({"number": number})
    size = journal_of(agent).stat().st_size
    agent.handle_submit({"number": "x" * 1000})
    assert reloaded(agent).final_submission == {"number": 0}
    assert journal_of(agent).stat().st_size == size
    agent.state.finish()
    agent.handle_submit({"late": True})
    for state in (agent.state, reloaded(agent)):
        assert state.final_submission == {"number": 0}


def test_tips_are_kept_where_mephistos_tools_look_for_them(agent: Any) -> None:
    folder = Path(agent.get_data_dir())
    agent.state.save_data()
    assert [path.name for path in folder.iterdir()] == ["state.json"]
    agent.handle_metadata_submit({"tips": {"header": "A tip", "text": "Read twice."}})
    for state in (agent.state, reloaded(agent)):
        assert [tip["text"] for tip in state.get_tips()] == ["Read twice."]
    assert json.loads(Path(agent.state._get_metadata_path()).read_bytes())["tips"][0]["header"] == "A tip"


def test_what_a_recovery_needs_is_kept_until_the_result_is_there_and_never_told(agent: Any) -> None:
    acknowledge(agent, "Hello.")
    agent.state.record_head({"task_description": "secret-nickname"})
    for state in (agent.state, reloaded(agent)):
        assert state.head == {"task_description": "secret-nickname"}
        assert "secret" not in json.dumps(state.get_init_state())
    agent.state.update_metadata("tips", [{"header": "x"}])
    assert reloaded(agent).head == {"task_description": "secret-nickname"}
    agent.state.record_world_data({"custom_data": SAVED})
    assert reloaded(agent).head is None


def test_how_a_reply_was_made_is_on_disk_with_it_and_never_comes_out_for_a_page(agent: Any) -> None:
    human = HumanAgent(agent)
    human.control("start")
    human.say("Speaker 2", "Hello.", generation={"served_model": "secret-name", "cost_usd": 0.5}, utterance_idx=0)
    human.say("Speaker 1", "Hi.", utterance_idx=1)
    for state in (agent.state, reloaded(agent)):
        assert list(state.generations.values()) == [{"served_model": "secret-name", "cost_usd": 0.5}]
        assert list(state.generations) == [state.messages[1]["update_id"]]
        assert "secret-name" not in json.dumps([state.get_init_state(), state.get_parsed_data(), state.messages])
    agent.state.update_metadata("tips", "a tip")  # Mephisto writes the whole state then
    assert len(reloaded(agent).generations) == 1
    agent.state.record_world_data({"custom_data": SAVED})
    for state in (agent.state, reloaded(agent)):
        assert state.generations == {}, "the record has them now"
        assert "record_generations" not in state.get_data()["outputs"]


def test_a_record_that_cannot_be_written_leaves_how_replies_were_made(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    HumanAgent(agent).say("Speaker 2", "Hello.", generation={"cost_usd": 0.5}, utterance_idx=0)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(agent.state, "save_data", full)
    with pytest.raises(OSError, match="No space"):
        agent.state.record_world_data({"custom_data": SAVED})
    assert list(agent.state.generations.values()) == [{"cost_usd": 0.5}]


def test_a_result_that_can_not_be_written_is_not_recorded_and_can_be_recorded_later(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    HumanAgent(agent).say("Speaker 1", "Hello.", utterance_idx=0)
    head = {"workers": ["ann"]}
    agent.state.record_head(head)
    before = list(agent.state.messages)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("model_chat.mephisto_task.agent_state.replace_file", fail)
        with pytest.raises(OSError, match="No space"):
            agent.state.record_world_data({"custom_data": SAVED})
    assert agent.state.messages == before
    assert (agent.state.head, agent.state.is_recorded, agent.state.recorded) == (head, False, None)
    assert reloaded(agent).head == head, "the next start recovers it"
    agent.state.record_world_data({"custom_data": SAVED})
    assert (agent.state.head, agent.state.recorded) == (None, SAVED)
    assert reloaded(agent).recorded == SAVED


@pytest.mark.parametrize("at_once", [True, False])
def test_a_result_that_is_no_json_is_not_recorded(agent: Any, at_once: bool) -> None:
    HumanAgent(agent).say("Speaker 1", "Hello.", utterance_idx=0)
    with pytest.raises(TypeError, match="not JSON"):
        agent.state.record_world_data({"custom_data": {"x": object()}}, at_once)
    assert not agent.state.is_recorded
    agent.state.finish()
    assert [message["text"] for message in reloaded(agent).messages] == ["Hello."]


def test_a_picture_reaches_a_page_that_comes_back_and_no_file(agent: Any) -> None:
    human = HumanAgent(agent)
    human.control("start", image="data:picture", image_alt="A cat.")
    human.say("Speaker 2", "What a cat!", utterance_idx=0)
    start, said = agent.state.get_init_state()["past_live_updates"]
    assert (start["task_data"]["image"], start["task_data"]["image_alt"]) == ("data:picture", "A cat.")
    assert "image" not in said["task_data"]
    agent.state.finish()
    files = [path for path in Path(agent.get_data_dir()).rglob("*") if path.is_file()]
    assert files
    assert not any(b"data:picture" in path.read_bytes() for path in files)


def test_what_the_page_is_shown_at_first_is_set_once(mephisto_run: Run) -> None:
    state = mephisto_run.agent().state
    assert state.set_init_state({"a": 1}) is True
    assert state.set_init_state({"b": 2}) is False
    assert state.get_init_state()["task_data"] == {"a": 1}


def test_a_part_lasts_from_its_first_to_its_last_message(agent: Any) -> None:
    assert (agent.state.get_task_start(), agent.state.get_task_end()) == (0.0, 0.0)
    agent.state.messages.extend(
        [{"text": "a"}, {"timestamp": 5.0}, {"timestamp": 7.0}, {"timestamp": 9.0}, {"text": "z"}]
    )
    assert (agent.state.get_task_start(), agent.state.get_task_end()) == (5.0, 9.0)

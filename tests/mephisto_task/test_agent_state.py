"""What Mephisto keeps of a worker's part, in a real database: the server's words, and nothing that a page said itself."""

from __future__ import annotations

import errno
import json
import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.human_agent import HumanAgent, ServerUpdate
from model_chat.mephisto_task.agent_state import ModelChatAgentState
from model_chat.records import journal
from model_chat.records.journal import JOURNAL_NAME
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

    def write() -> None:
        for number in range(40, 0, -1):
            agent.state.save_data()
            if number == 20:
                agent.handle_submit({"n": "x"})

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(40):
        human.say("Speaker 1", f"Line {number}.")
    writer.join(30)
    stop.set()
    reader.join(30)
    assert failures == []
    state = reloaded(agent)
    assert [message["text"] for message in state.messages] == [f"Line {number}." for number in range(40)]
    assert state.final_submission == {"n": "x"}


def acknowledge(agent: Any, text: str) -> None:
    """Tell the page that a message of the worker's has arrived."""
    HumanAgent(agent).say("Speaker 1", text, message_id=f"id of {text}")


def texts(agent: Any) -> list[str]:
    return [message["text"] for message in agent.state.messages]


def journal_of(agent: Any) -> Path:
    return Path(agent.state._get_expected_data_file()).parent / JOURNAL_NAME


def no_space(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_message_is_never_acknowledged_on_a_disk_that_stays_full(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge(agent, "Before.")
    monkeypatch.setattr(journal, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(OSError, match="No space left"):
        acknowledge(agent, "Lost.")
    monkeypatch.undo()
    assert texts(agent) == ["Before."]
    acknowledge(agent, "After.")
    for state in (agent.state, reloaded(agent)):
        assert [message["text"] for message in state.messages] == ["Before.", "After."]


def test_a_disk_that_is_full_for_a_moment_costs_nothing(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, attempts = os.write, []

    def half_full(descriptor: int, data: bytes) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            return real(descriptor, data[:10])
        return no_space() if len(attempts) == 2 else real(descriptor, data)

    monkeypatch.setattr(journal, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(os, "write", half_full)
    acknowledge(agent, "Half at first.")
    assert [message["text"] for message in reloaded(agent).messages] == ["Half at first."]
    assert len(journal_of(agent).read_bytes().splitlines()) == 1


def test_what_no_worker_said_waits_for_space_and_keeps_its_order(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", no_space)
    HumanAgent(agent).say("Speaker 2", "A reply.")
    monkeypatch.undo()
    acknowledge(agent, "A message.")
    assert [message["text"] for message in reloaded(agent).messages] == ["A reply.", "A message."]


def test_a_state_that_can_not_be_written_whole_leaves_the_one_before(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge(agent, "Before.")
    monkeypatch.setattr(os, "fdopen", no_space)
    with pytest.raises(OSError, match="No space left"):
        agent.state.record_world_data({"custom_data": SAVED})
    monkeypatch.undo()
    assert [message["text"] for message in reloaded(agent).messages] == ["Before."]
    folder = Path(agent.state._get_expected_data_file()).parent
    assert [path.name for path in folder.iterdir() if path.name.endswith(".part")] == []


def test_a_message_is_on_disk_before_the_page_is_told(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        real(descriptor)
        synced.append(journal_of(agent).read_bytes())

    monkeypatch.setattr(os, "fdatasync", sync)
    HumanAgent(agent).say("Speaker 2", "A reply needs no sync.")
    HumanAgent(agent).control("refused", message_id="m", code="empty", reason="Nothing was taken.")
    assert synced == []
    acknowledge(agent, "A message does.")
    assert len(synced) == 1
    assert b"A message does." in synced[0]


def test_a_turn_costs_one_line_however_long_the_conversation_is(agent: Any) -> None:
    agent.state.save_data()
    state = Path(agent.state._get_expected_data_file())
    before, sizes = state.stat().st_mtime_ns, []
    for number in range(50):
        acknowledge(agent, f"Line {number:02}.")
        sizes.append(journal_of(agent).stat().st_size)
    assert max(after - earlier for earlier, after in pairwise(sizes)) <= sizes[0] + 10  # a time may have more digits
    assert state.stat().st_mtime_ns == before


def test_half_a_last_line_is_left_out_and_spoils_nothing_that_follows(agent: Any) -> None:
    acknowledge(agent, "Whole.")
    with journal_of(agent).open("ab") as file:
        file.write(b'{"message": {"text": "Half')
    again = reloaded(agent)
    assert [message["text"] for message in again.messages] == ["Whole."]
    again.update_data(ServerUpdate(text="After.", update_id="u", task_data={"message_id": "m"}))
    assert [message["text"] for message in reloaded(agent).messages] == ["Whole.", "After."]


def test_what_the_page_hands_in_costs_one_line_and_is_in_the_state_in_the_end(agent: Any) -> None:
    acknowledge(agent, "Hello.")
    agent.state.record_world_data({"custom_data": SAVED})
    before = Path(agent.state._get_expected_data_file()).read_bytes()
    agent.handle_submit({"tip": "thanks"})
    assert Path(agent.state._get_expected_data_file()).read_bytes() == before
    assert reloaded(agent).final_submission == {"tip": "thanks"}
    agent.state.finish()
    assert not journal_of(agent).exists()
    outputs = json.loads(Path(agent.state._get_expected_data_file()).read_bytes())["outputs"]
    assert outputs["final_submission"] == {"tip": "thanks"}


def test_what_is_safe_from_a_power_cut_stays_so(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.state.record_world_data({"custom_data": SAVED})
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append("sync")
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    HumanAgent(agent).control("ended", outcome="complete")
    agent.state.finish()
    assert steps == ["sync", "rename", "sync"]  # the new file before its name, then the name


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


def test_a_page_that_is_refused_again_and_again_makes_no_file_grow(agent: Any) -> None:
    human = HumanAgent(agent)
    human.say("Speaker 2", "A reply.")
    size = journal_of(agent).stat().st_size
    for number in range(1000):
        human.control("refused", message_id=str(number), code="empty", reason="Please write something.")
    assert journal_of(agent).stat().st_size == size
    human.say("Speaker 2", "Another reply.")
    told = agent.state.get_init_state()["past_live_updates"]
    shown = [update["text"] or update["task_data"]["message_id"] for update in told]
    assert shown == ["A reply.", *map(str, range(995, 1000)), "Another reply."]
    assert [update["text"] for update in reloaded(agent).messages] == ["A reply.", "Another reply."]


def test_tips_are_kept_where_mephistos_tools_look_for_them(agent: Any) -> None:
    folder = Path(agent.get_data_dir())
    agent.state.save_data()
    assert [path.name for path in folder.iterdir()] == ["state.json"]
    agent.handle_metadata_submit({"tips": {"header": "A tip", "text": "Read twice."}})
    for state in (agent.state, reloaded(agent)):
        assert [tip["text"] for tip in state.get_tips()] == ["Read twice."]
    assert json.loads(Path(agent.state._get_metadata_path()).read_bytes())["tips"][0]["header"] == "A tip"


def test_the_journal_goes_when_the_state_is_whole_and_nothing_is_said_twice(agent: Any) -> None:
    acknowledge(agent, "Hello.")
    kept = journal_of(agent).read_bytes()
    agent.state.record_world_data({"custom_data": SAVED})
    assert not journal_of(agent).exists()
    journal_of(agent).write_bytes(kept)  # killed between the two
    assert [message["text"] for message in reloaded(agent).messages] == ["Hello.", "", ""]
    journal_of(agent).unlink()
    HumanAgent(agent).control("ended", outcome="complete")
    agent.state.finish()
    assert not journal_of(agent).exists()
    assert len(json.loads(Path(agent.state._get_expected_data_file()).read_bytes())["outputs"]["messages"]) == 4


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


def test_only_the_end_and_what_a_worker_said_have_to_survive_a_power_cut(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    HumanAgent(agent).say("Speaker 1", "Hello.")
    assert synced == []
    agent.state.record_world_data({"custom_data": SAVED})
    assert synced


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


def test_what_a_recovery_needs_is_in_the_state_if_the_journal_did_not_take_it(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    head = {"workers": ["ann"]}
    with monkeypatch.context() as full:
        full.setattr(journal.Journal, "append", fail)
        agent.state.record_head(head)
    assert reloaded(agent).head is None
    agent.state.save_data()
    assert reloaded(agent).head == head


def test_what_the_page_is_shown_at_first_is_set_once(mephisto_run: Run) -> None:
    state = mephisto_run.agent().state
    assert state.set_init_state({"a": 1}) is True
    assert state.set_init_state({"b": 2}) is False
    assert state.get_init_state()["task_data"] == {"a": 1}


def test_a_state_that_may_be_lost_in_a_power_cut_replaces_no_journal_that_may_not(agent: Any) -> None:
    HumanAgent(agent).say("Speaker 2", "A reply.")
    assert journal_of(agent).exists()
    agent.state.save_data()
    assert not journal_of(agent).exists(), "neither has to survive one"
    acknowledge(agent, "Hello.")
    agent.state.save_data()
    assert journal_of(agent).exists(), "what was acknowledged has to survive one"
    assert [message["text"] for message in reloaded(agent).messages] == ["A reply.", "Hello."]
    agent.state.save_data(durable=True)
    assert not journal_of(agent).exists()
    assert [message["text"] for message in reloaded(agent).messages] == ["A reply.", "Hello."]


def test_what_the_page_hands_in_waits_for_no_disk(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    agent.handle_submit({"tip": "thanks"})
    assert reloaded(agent).final_submission == {"tip": "thanks"}
    assert synced == []


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        '{"outputs": 1}',
        '{"outputs": {"messages": {}}}',
        '{"outputs": {"messages": [1]}}',
        '{"outputs": {"messages": [{"WORLD_DATA": 1}]}}',
        '{"outputs": {"messages": []}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_state_is_kept_under_another_name_and_the_journal_is_read(agent: Any, damaged: str) -> None:
    acknowledge(agent, "Hello.")
    state = Path(agent.state._get_expected_data_file())
    for number in ("", "1", "2"):
        state.write_text(f"{damaged}{' ' * len(number)}")
        again = reloaded(agent)
        assert [message["text"] for message in again.messages] == ["Hello."]
        assert (again.final_submission, again.init_data, again.head) == (None, None, None)
        assert not state.exists()
        assert state.with_name(f"state.json.damaged{number}").read_text() == f"{damaged}{' ' * len(number)}"


@pytest.mark.parametrize("damaged", ["{", "[1]", "[" * 100_000])
def test_damaged_metadata_are_kept_under_another_name_and_stop_nothing(agent: Any, damaged: str) -> None:
    acknowledge(agent, "Hello.")
    agent.handle_metadata_submit({"tips": {"header": "A tip", "text": "Read twice."}})
    metadata = Path(agent.state._get_metadata_path())
    metadata.write_text(damaged)
    again = reloaded(agent)
    assert [message["text"] for message in again.messages] == ["Hello."]
    assert metadata.with_name(f"{metadata.name}.damaged").read_text() == damaged
    assert not metadata.exists()


@pytest.mark.parametrize(
    "message",
    [
        None,
        "text",
        {"text": "no id"},
        {"update_id": 7, "text": "x"},
        {"update_id": "u", "task_data": "odd", "text": "x"},
    ],
)
def test_what_a_journal_holds_and_is_no_update_is_left_out(agent: Any, message: Any) -> None:
    acknowledge(agent, "Hello.")
    with journal_of(agent).open("a") as file:
        file.write(json.dumps({"message": message}) + "\n")
        file.write(json.dumps({"record_head": "odd", "final_submission": "odd"}) + "\n")
    again = reloaded(agent)
    assert [known["text"] for known in again.messages] == ["Hello."]
    assert (again.head, again.final_submission) == (None, None)


def test_a_part_lasts_from_its_first_to_its_last_message(agent: Any) -> None:
    assert (agent.state.get_task_start(), agent.state.get_task_end()) == (0.0, 0.0)
    agent.state.messages.extend(
        [{"text": "a"}, {"timestamp": 5.0}, {"timestamp": 7.0}, {"timestamp": 9.0}, {"text": "z"}]
    )
    assert (agent.state.get_task_start(), agent.state.get_task_end()) == (5.0, 9.0)

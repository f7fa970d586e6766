"""What of a worker's part is on disk, and when: on a full one, after a power cut, and where a file is damaged."""

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
from model_chat.records import journal
from model_chat.tests.mephisto_task.agent_states import SAVED, acknowledge, journal_of, reloaded


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


def texts(agent: Any) -> list[str]:
    return [message["text"] for message in agent.state.messages]


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


def test_only_the_end_and_what_a_worker_said_have_to_survive_a_power_cut(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    HumanAgent(agent).say("Speaker 1", "Hello.")
    assert synced == []
    agent.state.record_world_data({"custom_data": SAVED})
    assert synced


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

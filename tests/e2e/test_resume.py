"""Starting a task again continues where it was, however the run before ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from model_chat.router.local_architect import fault_of_port
from model_chat.scripts.simulate_workers import Behaviour, Outcome, simulate
from model_chat.tests.e2e.running_task import RunningTask, wait_until

Start = Callable[..., RunningTask]
TWO_TURNS = "mephisto.blueprint.num_turns=2"


def kill(task: RunningTask) -> None:
    """End run.py as a power cut would."""
    assert task.process is not None
    os.kill(task.process.pid, signal.SIGKILL)
    task.process.wait()


def complete(task: RunningTask) -> Counter[str]:
    chats = [chat for chat in task.conversations() if chat["status"] == "complete"]
    return Counter(chat["task_description"]["model_nickname"] for chat in chats)


def acknowledged(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Message id -> text of everything that a page was told had arrived."""
    found: dict[str, str] = {}
    for outcome in outcomes:
        for packet in outcome.packets:
            update: Any = packet.get("data") if packet.get("packet_type") == "client_bound_live_update" else None
            data = (update or {}).get("task_data") or {}
            if "message_id" in data and "control" not in data:
                found[data["message_id"]] = update["text"]
    return found


def saved_messages(task: RunningTask) -> list[str]:
    return [line["message_id"] for chat in task.conversations() for line in chat["dialog"] if line.get("message_id")]


def test_a_task_goes_on_with_the_rest_and_then_has_nothing_left_to_do(start_task: Start) -> None:
    task = start_task(TWO_TURNS, needed="a:1,b:2")
    (first,) = asyncio.run(simulate(task.port, 1, [Behaviour()], prefix="first"))
    assert first.result == "complete"
    assert task.process is not None
    task.process.send_signal(signal.SIGINT)
    assert task.wait() == 130
    again = start_task(TWO_TURNS, needed="a:1,b:2")
    assert "Continuing with what 'model_chat_local' has collected: " in again.log
    outcomes = asyncio.run(simulate(again.port, 3, [Behaviour()], prefix="second"))
    assert sorted(outcome.result.split(":")[0] for outcome in outcomes) == ["complete", "complete", "no work"]
    assert again.wait() == 0, again.log
    assert complete(again) == {"a": 1, "b": 2}
    assert "3 of 3 conversations are collected" in again.log
    with pytest.raises(AssertionError, match="Everything is collected that 'model_chat_local' asks for"):
        start_task(TWO_TURNS, needed="a:1,b:2")
    more = start_task(TWO_TURNS, needed="a:2,b:2")
    (last,) = asyncio.run(simulate(more.port, 1, [Behaviour()], prefix="third"))
    assert last.result == "complete"
    assert more.wait() == 0, more.log
    assert complete(more) == {"a": 2, "b": 2}


def test_kill_9_in_the_middle_of_conversations_loses_no_message_that_had_arrived(start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=3", needed="a:4")
    finished = asyncio.run(simulate(task.port, 1, [Behaviour()], prefix="finished"))
    cut = asyncio.run(simulate(task.port, 2, [Behaviour(leave_after=2)], prefix="cut"))
    # Who has handed in counts as finished a moment after their page is told so.
    wait_until(lambda: task.agent_statuses().count("completed") == 1, task.agent_statuses)
    kill(task)
    told = acknowledged([*finished, *cut])
    assert len(told) == 3 + 1 + 2 * 2 - 1  # the rating is no message of the conversation
    again = start_task("mephisto.blueprint.num_turns=3", needed="a:4")
    assert "2 conversations that were cut off are kept as incomplete, 3 open units were expired" in again.log
    assert set(again.unit_statuses()) <= {"completed", "expired", "launched", "created"}
    rest = asyncio.run(simulate(again.port, 3, [Behaviour()], prefix="rest"))
    assert [outcome.result for outcome in rest] == ["complete"] * 3, again.log
    assert again.wait() == 0, again.log
    assert complete(again) == {"a": 4}
    incomplete = [chat for chat in again.conversations() if chat["status"] == "incomplete"]
    assert [chat["reason"].split(":")[0] for chat in incomplete] == ["run died"] * 2
    saved = saved_messages(again)
    assert len(saved) == len(set(saved))
    assert set(told) <= set(saved)


def test_without_resume_a_task_starts_afresh(start_task: Start) -> None:
    task = start_task(TWO_TURNS, needed="a:1")
    asyncio.run(simulate(task.port, 1, [Behaviour()]))
    assert task.wait() == 0, task.log
    again = start_task(TWO_TURNS, "mephisto.blueprint.resume=false", needed="a:1")
    (outcome,) = asyncio.run(simulate(again.port, 1, [Behaviour()], prefix="again"))
    assert outcome.result == "complete"
    assert again.wait() == 0, again.log
    assert complete(again) == {"a": 2}
    files = [*again.chats.glob("*/*.json"), *again.data.rglob("state.json"), again.data / "database.db"]
    for path in (*files, again.data, again.chats):
        assert path.stat().st_mode & 0o077 == 0, f"{path} is {path.stat().st_mode:o}, not for its owner alone"


def test_the_same_task_does_not_run_twice_at_once_and_the_router_ends_with_its_run(start_task: Start) -> None:
    task = start_task(TWO_TURNS, needed="a:1")
    with pytest.raises(AssertionError, match="'model_chat_local' is running already"):
        start_task(TWO_TURNS, needed="a:1")
    kill(task)
    wait_until(lambda: fault_of_port(str(task.port)) is None, lambda: "the router still listens")


def test_a_database_that_can_not_be_used_ends_the_start_with_one_sentence(start_task: Start, tmp_path: Path) -> None:
    database = tmp_path / "task/mephisto/database.db"
    database.parent.mkdir(parents=True)
    database.write_text("This is no database, whatever its name says.", encoding="utf-8")
    with pytest.raises(AssertionError) as ended:
        start_task(TWO_TURNS, needed="a:1")
    said = str(ended.value)
    assert f"✗ mephisto.datapath: '{database}'" in said or f"✗ mephisto.datapath: '{database.parent}'" in said
    assert "move the file away" in said
    assert "Nothing was launched." in said
    assert "Traceback" not in said
    assert database.read_text(encoding="utf-8").startswith("This is"), "and is left as it was"

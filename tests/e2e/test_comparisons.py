"""Studies that compare two models, over the real wire: quota, records, death and statistics."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from model_chat.records.schema import Conversation
from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests import preloaded
from model_chat.tests.e2e.running_task import ROOT, RunningTask, make_fixed_model

Start = Callable[..., RunningTask]
PER_TURN = "mephisto.blueprint.comparison=per_turn"
TURNS = "mephisto.blueprint.num_turns=2"
BOTH = "mephisto.blueprint.comparison_boxes=both"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Three models whose replies differ in length."""
    folder = tmp_path / "models"
    make_fixed_model(folder / "a", "Short.")
    make_fixed_model(folder / "b", "A reply of middling length.")
    make_fixed_model(folder / "c", "A reply that is by far the longest of the three that there are.")
    return folder


def test_each_pair_gets_exactly_its_conversations_and_the_ranking_is_that_of_the_workers(
    start_task: Start, tmp_path: Path
) -> None:
    task = start_task(PER_TURN, TURNS, BOTH, needed="a|b:4,b|c:3,a|c:3")
    behaviour = Behaviour(prefers_longer=True, rating=3)
    outcomes = asyncio.run(simulate(task.port, 12, [behaviour]))
    assert Counter(outcome.result.partition(":")[0] for outcome in outcomes) == {"complete": 10, "no work": 2}, task.log
    assert task.wait() == 0, task.log
    saved = task.conversations()
    assert Counter(chat["task_description"]["model_nickname"] for chat in saved) == {"a|b": 4, "b|c": 3, "a|c": 3}
    assert sorted(map(json.dumps, task.world_data())) == sorted(map(json.dumps, saved)), "both records are the same"
    for chat in saved:
        Conversation.from_dict(chat)
        assert [entry["turn_idx"] for entry in chat["comparisons"]] == [0, 1]
        for entry in chat["comparisons"]:
            longer = max(("left", "right"), key=lambda side: len(entry[side]["text"]))
            assert entry["pick"] == entry["continued_with"] == longer
            assert all(any(entry[side]["problem_data"].values()) for side in ("left", "right"))
        replies = [line["problem_data"] for line in chat["dialog"] if line["agent_idx"] == 1 and "problem_data" in line]
        assert replies[-2:] == [entry[entry["pick"]]["problem_data"] for entry in chat["comparisons"]]
    for outcome in outcomes:
        packets = json.dumps(outcome.packets)
        for secret in ("model_nickname", "a|b", "b|c", "a|c", "generation"):
            assert secret not in packets
    command = [sys.executable, "analysis/compile_results.py", "--results-folders", str(task.chats)]
    command += ["--output-folder", str(tmp_path / "results")]
    preloaded.run(command, cwd=ROOT, check=True, capture_output=True)
    with next((tmp_path / "results").glob("wins_*.csv")).open(encoding="utf-8") as file:
        wins = {(row["model_a"], row["model_b"]): (row["wins_a"], row["wins_b"]) for row in csv.DictReader(file)}
    assert wins == {("a", "b"): ("0", "8"), ("b", "c"): ("0", "6"), ("a", "c"): ("0", "6")}


def test_a_run_that_is_killed_at_a_comparison_goes_on_with_what_is_missing(start_task: Start) -> None:
    task = start_task(PER_TURN, TURNS, BOTH, needed="a|b:2")
    (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour(prefers_longer=True)]))
    assert outcome.result == "complete"
    (left,) = asyncio.run(simulate(task.port, 1, [Behaviour(prefers_longer=True, leave_after=1)], prefix="leaver"))
    assert left.result == "left"
    assert task.process is not None
    os.killpg(task.process.pid, signal.SIGKILL)
    task.process.wait()
    again = start_task(PER_TURN, TURNS, BOTH, needed="b|a:2")
    assert "1 of 2 b|a" in again.log, again.log
    (second,) = asyncio.run(simulate(again.port, 1, [Behaviour()], prefix="later"))
    assert second.result == "complete"
    assert again.wait() == 0, again.log
    saved = again.conversations()
    assert Counter(chat["status"] for chat in saved) == {"complete": 2, "incomplete": 1}
    (cut_off,) = [chat for chat in saved if chat["status"] == "incomplete"]
    assert cut_off["reason"].startswith("run died")
    for entry in cut_off["comparisons"]:
        assert {entry["left"]["model_nickname"], entry["right"]["model_nickname"]} == {"a", "b"}


PAIRED = ("mephisto.blueprint.comparison=paired", "mephisto.blueprint.num_turns=1")


def test_each_pair_gets_exactly_its_two_chats_and_a_killed_run_goes_on_with_what_is_missing(
    start_task: Start, tmp_path: Path
) -> None:
    longer = Behaviour(prefers_longer=True)
    task = start_task(*PAIRED, needed="a|b:3,b|c:2,a|c:2")
    outcomes = asyncio.run(simulate(task.port, 4, [longer]))
    assert [outcome.result for outcome in outcomes] == ["complete"] * 4, task.log
    (left,) = asyncio.run(simulate(task.port, 1, [Behaviour(leave_after=1)], prefix="leaver"))
    assert left.result == "left"
    assert task.process is not None
    os.killpg(task.process.pid, signal.SIGKILL)
    task.process.wait()
    again = start_task(*PAIRED, needed="b|a:3,b|c:2,c|a:2")
    outcomes = asyncio.run(simulate(again.port, 5, [longer], prefix="later"))
    assert Counter(outcome.result.partition(":")[0] for outcome in outcomes) == {"complete": 3, "no work": 2}, again.log
    assert again.wait() == 0, again.log
    saved = again.conversations()
    complete = [chat for chat in saved if chat["status"] == "complete"]
    assert Counter("|".join(sorted(chat["task_description"]["model_nickname"].split("|"))) for chat in complete) == {
        "a|b": 3,
        "b|c": 2,
        "a|c": 2,
    }
    (cut_off,) = [chat for chat in saved if chat["status"] == "incomplete"]
    assert {line["chat_idx"] for line in cut_off["dialog"]} <= {0, 1}
    assert cut_off["comparisons"] == []
    assert sorted(map(json.dumps, again.world_data())) == sorted(map(json.dumps, saved)), "both records are the same"
    for chat in complete:
        Conversation.from_dict(chat)
        said = {line["model_nickname"]: len(line["text"]) for line in chat["dialog"] if line["agent_idx"] == 1}
        (entry,) = chat["comparisons"]
        assert (entry["turn_idx"], entry["continued_with"]) == (None, None)
        assert entry[entry["pick"]]["model_nickname"] == max(said, key=lambda name: said[name])
    for outcome in outcomes:
        packets = json.dumps(outcome.packets)
        for secret in ("model_nickname", "a|b", "b|c", "a|c", "generation"):
            assert secret not in packets
    command = [sys.executable, "analysis/compile_results.py", "--results-folders", str(again.chats)]
    command += ["--output-folder", str(tmp_path / "results")]
    preloaded.run(command, cwd=ROOT, check=True, capture_output=True)
    with next((tmp_path / "results").glob("wins_*.csv")).open(encoding="utf-8") as file:
        wins = {(row["model_a"], row["model_b"]): (row["wins_a"], row["wins_b"]) for row in csv.DictReader(file)}
    assert wins == {("a", "b"): ("0", "3"), ("b", "c"): ("0", "2"), ("a", "c"): ("0", "2")}

"""Image chat over the real wire, with simulated workers in place of browsers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_chat.images.stack import read_stack
from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.scripts.simulate_workers import Behaviour, Outcome, SimulatedWorker, simulate
from model_chat.tests.e2e.running_image_task import (
    NO_ANNOTATION,
    B,
    Start,
    image_tasks,
    places_of_chats,
    places_of_stack,
)
from model_chat.tests.e2e.running_task import ROOT, RunningTask

BLOCK = f"{B}.block_qualification=seen_all"
FOR_GOOD = ("left", f"no work: {TEXTS[Refusal.NOTHING_NEW]}")


@pytest.fixture
def start_image_task(tmp_path: Path) -> Iterator[Start]:
    with image_tasks(tmp_path) as start:
        yield start


def come(task: RunningTask, worker: str, conversations: int = 1, **behaviour: Any) -> list[Outcome]:
    """Let one worker, ``<worker>0``, take part."""
    return asyncio.run(simulate(task.port, 1, [Behaviour(**behaviour)], conversations=conversations, prefix=worker))


def complete(task: RunningTask) -> list[dict[str, Any]]:
    return [chat for chat in task.conversations() if chat["status"] == "complete"]


def test_whatever_workers_do_the_stack_obeys_every_rule(start_image_task: Start, tmp_path: Path) -> None:
    """Five images, two models, two evaluations: room for twenty conversations. Twelve workers come, some leave."""
    task = start_image_task(f"{B}.num_turns=1", f"{B}.max_resp_time=6", NO_ANNOTATION, BLOCK, images=5, evals=2)
    # Every third worker leaves in the middle of the first chat, for good; the others come again and again.
    leaves = [number % 3 == 0 for number in range(12)]

    async def live() -> list[Outcome]:
        async with httpx.AsyncClient(timeout=120) as http:

            async def come_again(number: int) -> list[Outcome]:
                behaviour = Behaviour(leave_after=0 if leaves[number] else None)
                found: list[Outcome] = []
                for visit in range(200):
                    worker = SimulatedWorker(task.port, f"worker{number}", str(visit), behaviour, visit, http)
                    found.append(await worker.run())
                    if found[-1].result in FOR_GOOD or found[-1].result.startswith("error: Connect"):
                        break  # the run is over, if it can't be reached
                    if found[-1].result.startswith("no work"):
                        await asyncio.sleep(0.5)  # a place may become free
                return found

            return [outcome for found in await asyncio.gather(*map(come_again, range(12))) for outcome in found]

    outcomes = asyncio.run(live())
    assert task.wait() == 0, task.log
    saved = complete(task)
    assert len(saved) == 20
    by_place = Counter((image_idx, model) for _, image_idx, model in places_of_chats(saved))
    assert by_place == {(image_idx, model): 2 for image_idx in range(5) for model in "ab"}
    by_worker = Counter((chat["workers"][0], chat["image_idx"]) for chat in saved)
    assert set(by_worker.values()) == {1}, "no worker had an image twice"
    shown = Counter((chat["workers"][0], chat["image_idx"]) for chat in task.conversations())
    assert set(shown.values()) == {1}, "nor saw one again that they had left"
    assert places_of_stack(tmp_path / "stack") == places_of_chats(saved)
    results = Counter(outcome.result for outcome in outcomes)
    assert (results["left"], results["complete"]) == (4, 20), results
    assert sum(outcome.doubles for outcome in outcomes) == 0
    assert "20 of 20 conversations are collected" in task.log
    assert "Traceback" not in task.log


def test_a_worker_who_has_seen_every_image_is_told_so_and_blocked_while_others_go_on(start_image_task: Start) -> None:
    task = start_image_task(f"{B}.num_turns=1", NO_ANNOTATION, BLOCK, images=1)
    first, again = come(task, "ann", 2)
    assert first.result == "complete", task.log
    assert again.result == f"no work: {TEXTS[Refusal.NOTHING_NEW]}"
    assert task.rows(
        "SELECT w.worker_name FROM granted_qualifications g JOIN qualifications q USING (qualification_id) "
        "JOIN workers w USING (worker_id) WHERE q.qualification_name = 'seen_all'"
    ) == ["ann0_sandbox"]
    (other,) = come(task, "ben")
    assert other.result == "complete", task.log
    assert task.wait() == 0, task.log
    (one, two) = complete(task)
    assert one["task_description"]["model_nickname"] != two["task_description"]["model_nickname"]


def test_a_killed_run_is_taken_up_where_it_was(start_image_task: Start, tmp_path: Path) -> None:
    flags = (f"{B}.num_turns=1", NO_ANNOTATION)
    task = start_image_task(*flags, images=1)
    (first,) = come(task, "ann")
    assert first.result == "complete", task.log
    come(task, "ben", leave_after=0)
    process = task.process
    assert process is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    task.log_file.unlink()
    places = read_stack(tmp_path / "stack")
    assert places is not None
    assert sum(len(workers) for workers in places[0].values()) == 2, "ben's place is still held"
    task = start_image_task(*flags, images=1)
    (third,) = come(task, "cat")
    assert third.result == "complete", task.log
    assert task.wait() == 0, task.log
    places = read_stack(tmp_path / "stack")
    assert places is not None
    assert sorted(worker for workers in places[0].values() for worker in workers) == ["ann0", "cat0"]


def test_the_text_chat_script_runs_it_as_well_and_onboarding_comes_first_where_it_is_asked_for(
    start_image_task: Start,
) -> None:
    task = start_image_task(
        "conf=example_image_chat",
        f"{B}.num_turns=1",
        f"{B}.onboarding_qualification=image_onboarding",
        images=1,
        conversations=1,
        script="run.py",
    )
    answers = json.loads((ROOT / "task_config/onboard_task_data.json").read_text(encoding="utf-8"))
    (outcome,) = come(task, "ann", onboarding_answers=answers)
    assert outcome.result == "complete", task.log
    assert task.wait() == 0, task.log
    assert "1 passed" in task.log
    (chat,) = task.conversations()
    assert re.fullmatch("[AB] sees 300 by 200, 0 120 200; you said nothing.", chat["dialog"][0]["text"])

"""Ctrl-C, SIGTERM and runs that end by themselves: what workers are told, what is saved, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_chat.scripts.simulate_workers import Behaviour, Outcome, SimulatedWorker
from model_chat.tests.e2e.running_task import ROOT, RunningTask, make_fixed_model, wait_until

Start = Callable[..., RunningTask]
TURNS = "mephisto.blueprint.num_turns=3"
ONBOARDING = "mephisto.blueprint.onboarding_qualification=test_onboarding"
REASON = "stopped: the run was stopped during the conversation"


class Crowd:
    """Simulated workers who chat beside what a test does to the run."""

    def __init__(self, task: RunningTask) -> None:
        self.task = task
        self.workers: list[SimulatedWorker] = []
        self._running: list[asyncio.Task[Outcome]] = []
        self._http = httpx.AsyncClient(timeout=60, trust_env=False)

    def come(self, count: int, behaviour: Behaviour, prefix: str) -> None:
        for number in range(count):
            worker = SimulatedWorker(self.task.port, f"{prefix}{number}", "1", behaviour, number, self._http)
            self.workers.append(worker)
            self._running.append(asyncio.create_task(worker.run()))

    def hold_on(self, turn: int) -> asyncio.Event:
        """Let everybody who is there wait at a turn (1 is the first) until the event is set."""
        go_on = asyncio.Event()

        async def wait(worker: SimulatedWorker) -> bool:
            if controls(worker).count("your_turn") == turn:
                await go_on.wait()
            return False

        for worker in self.workers:
            worker._think = partial(wait, worker)  # type: ignore[method-assign]  # people of this test
        return go_on

    async def until(self, holds: Callable[[SimulatedWorker], bool], seconds: float = 60) -> None:
        """Wait until something holds for every worker."""
        end = time.monotonic() + seconds
        while not all(map(holds, self.workers)):
            assert time.monotonic() < end, [worker.outcome for worker in self.workers]
            await asyncio.sleep(0.02)

    async def ended(self) -> list[str]:
        """Wait until everybody is through; return what became of them."""
        outcomes = await asyncio.wait_for(asyncio.gather(*self._running), 120)
        await self._http.aclose()
        return [outcome.result for outcome in outcomes]


def controls(worker: SimulatedWorker) -> list[str]:
    """What the server has said to a worker's page beside the conversation."""
    found = []
    for packet in worker.outcome.packets:
        data = (packet.get("data") or {}).get("task_data") or {}
        if packet.get("packet_type") == "client_bound_live_update" and "control" in data:
            found.append(data["control"])
    return found


def has_left(worker: SimulatedWorker) -> bool:
    return worker.outcome.result != Outcome("").result


def is_chatting(worker: SimulatedWorker) -> bool:
    return controls(worker).count("your_turn") >= 2


async def exit_code(task: RunningTask, seconds: float) -> int:
    return await asyncio.to_thread(task.wait, seconds)


def is_listening(task: RunningTask) -> bool:
    with httpx.Client(trust_env=False) as client:
        try:
            client.get(f"http://localhost:{task.port}/is_alive", timeout=10)
        except httpx.HTTPError:
            return False
    return True


def reasons(task: RunningTask) -> Counter[str]:
    return Counter(str(chat["reason"]) for chat in task.conversations())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_five_conversations_finish_and_takes_nobody_new(start_task: Start, signum: int) -> None:
    task = start_task(TURNS, needed="a:9", forked=False)

    async def story() -> tuple[int, list[str]]:
        crowd = Crowd(task)
        crowd.come(5, Behaviour(), "in")
        go_on = crowd.hold_on(2)
        await crowd.until(is_chatting)
        await asyncio.to_thread(task.stop_slowly, signum)
        crowd.come(2, Behaviour(), "late")
        await crowd.until(lambda worker: not worker.worker.startswith("late") or has_left(worker))
        go_on.set()
        results = await crowd.ended()
        return await exit_code(task, 60), results

    code, results = asyncio.run(story())
    assert code == 130, task.log
    assert results[:5] == ["complete"] * 5
    assert all("ended this study" in result for result in results[5:]), results
    assert Counter(chat["status"] for chat in task.conversations()) == {"complete": 5}
    assert re.search("Stopping: no new workers are admitted. 5 open conversations may finish", task.log)
    assert "The run was stopped: 5 of 9 conversations are collected" in task.log
    assert set(task.unit_statuses()) == {"completed", "expired"}
    assert "Traceback" not in task.log
    assert not is_listening(task)


def test_the_second_signal_ends_five_conversations_and_tells_every_page(start_task: Start) -> None:
    task = start_task(TURNS, needed="a:9")

    async def story() -> tuple[int, list[str]]:
        crowd = Crowd(task)
        crowd.come(5, Behaviour(think_time=1000), "in")
        crowd.workers[0].behaviour = Behaviour(think_time=0)  # one is through in time
        await crowd.until(lambda worker: "your_turn" in controls(worker))
        for worker in crowd.workers[1:4]:
            await worker.send_update(
                {"turn_idx": 0, "problem_data_for_prior_message": {"none_all_good": True}}, "What I have said."
            )
        await crowd.until(lambda worker: worker not in crowd.workers[1:4] or is_chatting(worker))
        await crowd.until(lambda worker: worker is not crowd.workers[0] or "ended" in controls(worker))
        await asyncio.to_thread(task.stop_slowly)
        task.interrupt()
        return await exit_code(task, 60), await crowd.ended()

    code, results = asyncio.run(story())
    assert code == 130, task.log
    assert results == ["complete", *["stopped"] * 4]
    assert reasons(task) == {"None": 1, REASON: 3}, "who has said nothing leaves no record"
    assert Counter(task.agent_statuses()) == {"completed": 5}, "everybody is paid"
    assert "Traceback" not in task.log
    assert not is_listening(task)


def test_with_no_conversation_going_on_the_first_signal_ends_the_run_at_once(start_task: Start) -> None:
    task = start_task(TURNS)
    task.interrupt()
    assert task.wait() == 130, task.log
    assert "may finish" not in task.log


def test_when_the_grace_is_over_the_run_ends_as_if_asked_twice(start_task: Start) -> None:
    task = start_task(TURNS, "mephisto.blueprint.stop_grace_time=2", needed="a:2")

    async def story() -> tuple[int, list[str]]:
        crowd = Crowd(task)
        crowd.come(2, Behaviour(think_time=1000), "in")
        await crowd.until(lambda worker: "your_turn" in controls(worker))
        task.interrupt(signal.SIGTERM)
        return await exit_code(task, 60), await crowd.ended()

    code, results = asyncio.run(story())
    assert (code, results) == (130, ["stopped", "stopped"]), task.log


def test_a_signal_during_onboarding_ends_it_with_the_reason_and_counts_no_try(start_task: Start) -> None:
    task = start_task(TURNS, ONBOARDING)

    async def story() -> tuple[int, list[str]]:
        crowd = Crowd(task)
        crowd.come(3, Behaviour(think_time=1000), "in")
        await crowd.until(lambda worker: "onboarding_start" in controls(worker))
        task.interrupt()
        return await exit_code(task, 60), await crowd.ended()

    code, results = asyncio.run(story())
    assert (code, results) == (130, ["stopped"] * 3), task.log
    assert task.rows("SELECT status FROM onboarding_agents") == ["disconnect"] * 3
    assert task.rows("SELECT value FROM granted_qualifications") == []


def slow_model(folder: Path, seconds: float) -> None:
    opt: dict[str, Any] = {"model": "model_chat.tests.e2e.slow_agent:SlowAgent", "seconds": seconds}
    (folder / "model.opt").write_text(json.dumps(opt), encoding="utf-8")


def test_signals_while_a_model_generates_are_no_failure_of_the_model(start_task: Start, models: Path) -> None:
    slow_model(models / "a", 1000)
    task = start_task(TURNS, needed="a:2")

    async def story() -> tuple[int, list[str]]:
        crowd = Crowd(task)
        crowd.come(2, Behaviour(), "in")
        await crowd.until(lambda worker: "start" in controls(worker))
        await asyncio.to_thread(task.stop_slowly)
        task.interrupt()
        return await exit_code(task, 60), await crowd.ended()

    code, results = asyncio.run(story())
    assert (code, results) == (130, ["stopped", "stopped"]), task.log
    assert task.conversations() == [], "nobody has said anything yet"
    assert "model failed" not in task.log
    assert len(task.unit_statuses()) == 2, "no replacement is launched"


def test_a_worker_at_the_final_rating_may_finish_after_the_first_signal(start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=1", needed="a:3")

    async def story() -> tuple[int, list[str]]:
        crowd = Crowd(task)
        crowd.come(1, Behaviour(), "in")
        go_on = crowd.hold_on(2)
        await crowd.until(is_chatting)
        await asyncio.to_thread(task.stop_slowly)
        go_on.set()
        return await exit_code(task, 60), await crowd.ended()

    code, results = asyncio.run(story())
    assert (code, results) == (130, ["complete"]), task.log
    assert [chat["dialog"][-1]["final_rating"] is not None for chat in task.conversations()] == [True]


# --- runs that end by themselves ---


def test_a_run_that_ends_since_nobody_submits_says_so_in_its_exit_code(start_task: Start) -> None:
    task = start_task(TURNS, "mephisto.task.no_submission_patience=2", needed="a:2")
    assert task.wait() == 3, task.log
    assert "Nobody has submitted for 2 s" in task.log
    assert "0 of 2 conversations are collected" in task.log


def test_a_router_that_is_lost_for_good_ends_the_run_with_its_exit_code(start_task: Start) -> None:
    task = start_task(TURNS, needed="a:2")
    assert task.process is not None
    end = time.monotonic() + 180
    while task.process.poll() is None and time.monotonic() < end:
        children = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(task.process.pid)], capture_output=True, text=True, check=False
        )
        for line in children.stdout.splitlines():
            if "server.js" in line:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line.split()[0]), signal.SIGKILL)
        time.sleep(0.1)
    assert task.wait() == 3, task.log
    assert "The connection to the router is lost for good" in task.log


def test_everything_collected_is_the_exit_code_0(start_task: Start) -> None:
    task = start_task(TURNS, needed="a:1")

    async def story() -> list[str]:
        crowd = Crowd(task)
        crowd.come(1, Behaviour(), "in")
        return await crowd.ended()

    assert asyncio.run(story()) == ["complete"]
    assert task.wait() == 0, task.log


# --- time ---


def test_more_time_is_given_once_a_turn_and_who_runs_out_of_it_hands_in(start_task: Start) -> None:
    task = start_task(TURNS, "mephisto.blueprint.max_resp_time=6", needed="a:2")

    async def story() -> list[str]:
        crowd = Crowd(task)
        crowd.come(1, Behaviour(asks_more_time=True), "patient")
        crowd.come(1, Behaviour(), "quick")

        patient, quick = crowd.workers
        long_turns = iter([6.5, 6.5])  # longer than the time of one turn, twice
        patient._think = lambda: patient._pause(next(long_turns, 0))  # type: ignore[method-assign]  # likewise
        turns = iter([0.1, 60.0])
        quick._think = lambda: quick._pause(next(turns))  # type: ignore[method-assign]  # a person of this test
        results = await crowd.ended()
        await asyncio.to_thread(wait_until, lambda: "in task" not in task.agent_statuses(), lambda: task.log)
        return results

    assert asyncio.run(story()) == ["complete", "time is up"], task.log
    assert reasons(task) == {
        "None": 1,
        "timeout: the worker took longer than mephisto.blueprint.max_resp_time": 1,
    }
    assert task.agent_statuses() == ["completed", "completed"]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    make_fixed_model(folder / "a", "Reply of the first one.")
    return folder


def test_a_wrong_configuration_is_the_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / ".venv/bin/python"), "run.py", "mephisto.blueprint.stop_grace_time=-1"],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "mephisto.blueprint.stop_grace_time: -1 is too small" in done.stderr

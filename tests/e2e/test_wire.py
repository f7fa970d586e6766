"""The whole task over the real wire, with simulated workers in place of browsers."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from model_chat.records.schema import Conversation
from model_chat.scripts.simulate_workers import Behaviour, Outcome, SimulatedWorker, simulate
from model_chat.tests import preloaded
from model_chat.tests.e2e.running_task import ROOT, RunningTask, wait_until

Start = Callable[..., RunningTask]
DUMMY_ANNOTATION = f"mephisto.blueprint.annotations_config_path={ROOT}/task_config/dummy/annotations_config.json"
DUMMY_ONBOARDING = f"mephisto.blueprint.onboard_task_data_path={ROOT}/task_config/dummy/onboard_task_data.json"
ONBOARDING_ANSWERS = json.loads((ROOT / "task_config/dummy/onboard_task_data.json").read_text(encoding="utf-8"))


def test_ten_workers_at_once_give_exactly_five_conversations_to_each_of_two_models(start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2", needed="a:5,b:5")
    outcomes = asyncio.run(simulate(task.port, 10, [Behaviour()]))
    assert Counter(outcome.result for outcome in outcomes) == {"complete": 10}, task.log
    assert sum(outcome.doubles for outcome in outcomes) == 0
    assert task.wait() == 0, task.log
    saved = task.conversations()
    assert Counter(chat["task_description"]["model_nickname"] for chat in saved) == {"a": 5, "b": 5}
    assert len({chat["workers"][0] for chat in saved}) == 10
    assert "10 of 10 conversations are collected" in task.log


def test_two_runs_beside_each_other_share_database_and_folder_and_nothing_is_lost(
    start_task: Start, tmp_path: Path
) -> None:
    shared = (f"mephisto.datapath={tmp_path / 'mephisto'}", f"mephisto.blueprint.chat_data_folder={tmp_path / 'chats'}")
    tasks = [
        start_task(
            "mephisto.blueprint.num_turns=2", *shared, f"mephisto.task.task_name=half_{half}", needed="a:4", folder=half
        )
        for half in ("one", "two")
    ]

    async def everybody() -> list[list[Outcome]]:
        return await asyncio.gather(*(simulate(task.port, 4, [Behaviour()]) for task in tasks))  # the same four people

    for task, outcomes in zip(tasks, asyncio.run(everybody()), strict=True):
        assert Counter(outcome.result for outcome in outcomes) == {"complete": 4}, task.log
        assert task.wait() == 0, task.log
    saved = [json.loads(path.read_bytes()) for path in (tmp_path / "chats").glob("*/*.json")]
    assert Counter(chat["task_name"] for chat in saved) == {"half_one_local": 4, "half_two_local": 4}
    command = [sys.executable, "analysis/compile_results.py", "--results-folders", str(tmp_path / "chats")]
    command += ["--output-folder", str(tmp_path / "results")]
    preloaded.run(command, cwd=ROOT, check=True, capture_output=True)
    with next((tmp_path / "results").glob("worker_results_*.csv")).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["conversations"] for row in rows] == ["2"] * 4


def test_a_conversation_is_saved_twice_from_one_dictionary(start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2", DUMMY_ANNOTATION, needed="a:1")
    (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour(rating=4)]))
    assert outcome.result == "complete"
    assert task.wait() == 0, task.log
    (in_file,), (in_database,) = task.conversations(), task.world_data()
    assert in_file == in_database
    assert task.agent_statuses() == ["completed"]
    chat = Conversation.from_dict(in_file)
    assert [utterance.agent_idx for utterance in chat.dialog] == [0, 1, 0, 1, 0, 1]
    assert chat.dialog[0].fake_start is True
    assert all(utterance.problem_data for utterance in chat.dialog if utterance.agent_idx == 1)
    assert chat.dialog[-1].final_rating == "4"
    assert chat.status == "complete"


def test_nothing_a_worker_receives_names_the_model(start_task: Start, models: Path) -> None:
    (models / "a").rename(models / "secretnickname")
    task = start_task("mephisto.blueprint.num_turns=2", needed="secretnickname:1")

    async def live() -> str:
        import httpx

        async with httpx.AsyncClient(timeout=120) as http:
            worker = SimulatedWorker(task.port, "curious", "1", Behaviour(), 1, http)
            outcome = await worker.run()
            assert outcome.result == "complete"
            again = SimulatedWorker(task.port, "curious", "1", Behaviour(), 1, http)
            await again.register()  # a reload sends everything that was said so far once more
            await again.disconnect()
            return json.dumps([outcome.packets, again.outcome.packets, worker.config])

    received = asyncio.run(live())
    assert "Reply of the first one." in received
    for secret in ("secretnickname", "fixed_response", "model.opt", str(models)):
        assert secret not in received


def test_a_worker_who_leaves_gives_the_place_back(start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2", "mephisto.blueprint.max_resp_time=8", needed="a:1,b:1")
    first = asyncio.run(simulate(task.port, 2, [Behaviour(leave_after=1)], prefix="leaver"))
    assert {outcome.result for outcome in first} == {"left"}
    wait_until(lambda: len(task.conversations()) == 2 and task.unit_statuses().count("launched") == 2, lambda: task.log)
    second = asyncio.run(simulate(task.port, 2, [Behaviour()], prefix="stayer"))
    assert {outcome.result for outcome in second} == {"complete"}, task.log
    assert task.wait() == 0, task.log
    saved = task.conversations()
    complete = [chat["task_description"]["model_nickname"] for chat in saved if chat["status"] == "complete"]
    assert sorted(complete) == ["a", "b"]
    left = [chat for chat in saved if chat["status"] == "incomplete"]
    assert len(left) == 2
    assert all(chat["reason"].startswith("timeout") for chat in left)


def test_a_model_that_fails_costs_the_worker_nothing_and_the_conversation_is_replaced(
    start_task: Start, models: Path
) -> None:
    opt = {"model": "model_chat.tests.e2e.failing_agent:FailsOnceAgent", "marker": str(models / "failed-once")}
    (models / "a" / "model.opt").write_text(json.dumps(opt), encoding="utf-8")
    task = start_task("mephisto.blueprint.num_turns=2", needed="a:1")
    (unlucky,) = asyncio.run(simulate(task.port, 1, [Behaviour()], prefix="unlucky"))
    assert unlucky.result == "incomplete", task.log
    (lucky,) = asyncio.run(simulate(task.port, 1, [Behaviour()], prefix="lucky"))
    assert lucky.result == "complete", task.log
    assert task.wait() == 0, task.log
    by_status = {chat["status"]: chat for chat in task.conversations()}
    assert by_status.keys() == {"complete", "incomplete"}
    assert "broken on purpose" in by_status["incomplete"]["reason"]
    assert "broken on purpose" not in json.dumps(unlucky.packets)
    assert task.agent_statuses() == ["completed", "completed"]


def test_ctrl_c_ends_everything_and_expires_what_is_left(start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2", needed="a:2")
    (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour()]))
    assert outcome.result == "complete"
    process = task.process
    assert process is not None
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    router = [int(pid) for pid in children.stdout.split()]
    assert router
    process.send_signal(signal.SIGINT)
    assert task.wait() == 130, task.log
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in router), lambda: "its processes are still there", 20)
    assert sorted(task.unit_statuses()) == ["completed", "expired"]
    assert "1 of 2 conversations are collected" in task.log
    assert "Traceback" not in task.log


def test_onboarding_passed_leads_to_the_chat_and_is_remembered(start_task: Start) -> None:
    task = start_task(
        "mephisto.blueprint.num_turns=1",
        DUMMY_ANNOTATION,
        DUMMY_ONBOARDING,
        "mephisto.blueprint.onboarding_qualification=test_onboarding",
        needed="a:2",
    )
    behaviour = Behaviour(onboarding_answers=ONBOARDING_ANSWERS)
    outcomes = asyncio.run(simulate(task.port, 1, [behaviour], conversations=2))
    assert [outcome.result for outcome in outcomes] == ["complete", "complete"], task.log
    assert task.wait() == 0, task.log
    assert task.rows("SELECT status FROM onboarding_agents") == ["approved"]  # once, for both conversations
    assert "1 passed" in task.log


def test_onboarding_failed_for_good_keeps_a_worker_out_of_every_later_try(start_task: Start) -> None:
    task = start_task(
        "mephisto.blueprint.num_turns=1",
        DUMMY_ANNOTATION,
        DUMMY_ONBOARDING,
        "mephisto.blueprint.onboarding_qualification=test_onboarding",
        needed="a:1",
    )
    (failed,) = asyncio.run(simulate(task.port, 1, [Behaviour()]))
    assert failed.result == "onboarding failed", task.log
    retries = [
        packet["data"]["task_data"]
        for packet in failed.packets
        if packet.get("packet_type") == "client_bound_live_update"
        and packet["data"]["task_data"].get("control") == "onboarding_retry"
    ]
    assert [retry["tries_left"] for retry in retries] == [1]
    for conversations in (1, 2):  # the same assignment again, then another one
        (again, *_) = asyncio.run(
            simulate(task.port, 1, [Behaviour(onboarding_answers=ONBOARDING_ANSWERS)], conversations=conversations)
        )[-1:]
        assert again.result.startswith("no work"), again.result
    assert '"answers"' not in json.dumps(failed.packets)
    statuses = "SELECT status FROM onboarding_agents"
    wait_until(lambda: task.rows(statuses) == ["rejected"], lambda: task.rows(statuses))
    assert task.conversations() == []

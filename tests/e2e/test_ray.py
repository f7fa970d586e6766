"""The whole task with its models on a Ray of the run's own: over the wire, with a copy that dies, and nothing left."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.running_task import RunningTask, make_fixed_model

pytest.importorskip("ray", reason="Ray is not installed: pip install 'model-chat[ray]', then run again")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

REPLY = "That is what I think, too."


def of_ray(run: int) -> list[psutil.Process]:
    """The processes of a run's Ray."""
    return [each for each in psutil.Process(run).children(recursive=True) if "ray" in " ".join(each.cmdline())]


def copies(run: int) -> list[psutil.Process]:
    return [each for each in of_ray(run) if "ServeReplica" in " ".join(each.cmdline())]


def test_conversations_go_on_over_a_death_and_ctrl_c_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fixed_model(tmp_path / "models" / "group" / "a", REPLY)
    monkeypatch.setattr("model_chat.tests.e2e.running_task.START_SECONDS", 300.0)
    task = RunningTask(
        tmp_path / "task",
        [
            f"mephisto.blueprint.base_model_folder={tmp_path}/models",
            'mephisto.blueprint.conversations_needed_string="group/a:5"',
            "mephisto.blueprint.num_turns=4",
            "mephisto.blueprint.annotations_config_path=''",
            "mephisto.blueprint.serving=ray",
        ],
    )
    with task:
        assert task.process is not None
        run = task.process.pid
        ray = of_ray(run)
        open_doors = {
            connection.laddr.ip
            for process in ray
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert open_doors <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, "nobody outside this machine can reach it"
        (first,) = copies(run)

        def kill_in_the_middle() -> None:
            while not any(task.data.rglob("state.json")):
                time.sleep(0.05)
            first.send_signal(signal.SIGKILL)

        killer = threading.Thread(target=kill_in_the_middle)
        killer.start()
        outcomes = asyncio.run(simulate(task.port, 4, [Behaviour(think_time=0.5)]))
        killer.join()
        assert Counter(outcome.result for outcome in outcomes) == {"complete": 4}, task.log
        chats = task.conversations()
        assert [[line["text"] for line in chat["dialog"] if line["agent_idx"] == 1] for chat in chats] == [
            [REPLY] * 5
        ] * 4
        assert {chat["task_description"]["model_opt"]["model"] for chat in chats} == {"fixed_response"}
        assert copies(run) != [first]
        started = [*ray, *copies(run)]
        os.killpg(run, signal.SIGINT)  # as a terminal does it: to every process of the run
        assert task.wait() == 130, task.log
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
    assert "4 of 5 conversations are collected" in task.log
    assert "Traceback" not in task.log

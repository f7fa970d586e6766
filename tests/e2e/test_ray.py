"""The whole task with its models on a Ray of the run's own: over the wire, with a copy that dies, and nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest

from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.running_task import RunningTask, make_fixed_model, wait_until

pytest.importorskip("ray", reason="Ray is not installed: pip install 'model-chat[ray]', then run again")
pytestmark = pytest.mark.slow

REPLY = "That is what I think, too."


def children(run: int, word: str) -> list[psutil.Process]:
    """The processes that a run has started and that are called so; some may end meanwhile."""
    found = []
    for each in psutil.Process(run).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if word in " ".join(each.cmdline()):
                found.append(each)
    return found


def listens(process: psutil.Process) -> set[str]:
    """The addresses on which a process listens."""
    with contextlib.suppress(psutil.NoSuchProcess):
        connections = process.net_connections("inet")
        return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return set()


def of_ray(run: int) -> list[psutil.Process]:
    """The processes of a run's Ray."""
    return children(run, "ray")


def copies(run: int) -> list[psutil.Process]:
    return children(run, "ServeReplica")


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
        forked=False,
    )
    with task:
        assert task.process is not None
        run = task.process.pid
        ray = of_ray(run)
        open_doors = {address for process in ray for address in listens(process)}
        assert open_doors <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, "nobody outside this machine can reach it"
        (first,) = copies(run)

        def kill_in_the_middle() -> None:
            wait_until(lambda: any(task.data.rglob("state.json")), lambda: task.log, seconds=240)
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
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []
    assert "4 of 5 conversations are collected" in task.log
    assert "Traceback" not in task.log

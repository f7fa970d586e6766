"""Whatever breaks: no conversation lost or doubled, no acknowledged message lost, and exactly as many as asked for."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from model_chat.scripts.simulate_workers import Behaviour, Outcome
from model_chat.tests.chaos.figures import FIGURES, KILLS, LONG
from model_chat.tests.chaos.stubborn import live
from model_chat.tests.e2e.browser import CuttableProxy
from model_chat.tests.e2e.running_image_task import NO_ANNOTATION, image_tasks, places_of_chats, places_of_stack
from model_chat.tests.e2e.running_task import RunningTask

Start = Callable[..., RunningTask]
WORKERS = 8
PATIENT = Behaviour(think_time=0.3, step_timeout=60)
TURNS = "mephisto.blueprint.num_turns=3"


def check(task: RunningTask, told: dict[str, str], outcomes: Iterable[Outcome], name: str, **more: int) -> Counter[str]:
    """Hold the records against what workers were told; return how many conversations there are of each status."""
    chats = task.conversations()
    statuses = Counter(str(chat["status"]) for chat in chats)
    saved = Counter(line["message_id"] for chat in chats for line in chat["dialog"] if line.get("message_id"))
    texts = {line["message_id"]: line["text"] for chat in chats for line in chat["dialog"] if line.get("message_id")}
    finished = sum(outcome.result == "complete" for outcome in outcomes)
    lost = sorted(set(told) - set(saved))
    doubled = sorted(message_id for message_id, times in saved.items() if times > 1)
    digests = Counter(json.dumps(chat["dialog"], sort_keys=True) for chat in chats)
    FIGURES.append(
        (
            name,
            {
                **more,
                "messages acknowledged": len(told),
                "of them lost": len(lost),
                "doubled": len(doubled),
                "finished by workers": finished,
                "complete on disk": statuses["complete"],
                "incomplete kept": statuses["incomplete"],
            },
        )
    )
    assert lost == [], task.log
    assert doubled == []
    assert all(texts[message_id] == text for message_id, text in told.items())
    assert set(digests.values()) <= {1}
    assert finished <= statuses["complete"]
    for chat in chats:
        indices = [line["agent_idx"] for line in chat["dialog"]]
        assert all(one != other for one, other in pairwise(indices)), "turns alternate"
    return statuses


def router_of(task: RunningTask) -> int:
    assert task.process is not None
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(task.process.pid)], capture_output=True, text=True, check=True
    )
    return next(int(line.split()[0]) for line in found.stdout.splitlines() if "server.js" in line)


def killing(task: RunningTask, moment: float) -> Callable[[], Awaitable[bool]]:
    """What kills the server so many seconds after it is called."""

    async def kill() -> bool:
        await asyncio.sleep(moment)
        assert task.process is not None
        os.kill(task.process.pid, signal.SIGKILL)
        task.process.wait()
        return True

    return kill


@pytest.mark.timeout(600 + 60 * KILLS)
def test_the_server_is_killed_at_random_moments(start_task: Start) -> None:
    rng = random.Random(11)
    told: dict[str, str] = {}
    outcomes: list[Outcome] = []
    needed = WORKERS * (KILLS + 1)
    for number in range(KILLS):
        task = start_task(TURNS, needed=f"a:{needed}")
        moment = rng.uniform(0.2, 4.0)

        some, said = asyncio.run(live(task.port, WORKERS, [PATIENT], f"k{number}-", killing(task, moment)))
        outcomes += some
        told |= said
    task = start_task(TURNS, needed=f"a:{needed}")
    left = needed - sum(chat["status"] == "complete" for chat in task.conversations())
    for wave in range(0, left, WORKERS):
        some, said = asyncio.run(live(task.port, min(WORKERS, left - wave), [Behaviour()], f"last{wave}-"))
        outcomes += some
        told |= said
    assert task.wait() == 0, task.log
    statuses = check(task, told, outcomes, f"SIGKILL of the server, {KILLS} times", kills=KILLS)
    assert statuses["complete"] == needed
    assert set(task.unit_statuses()) <= {"completed", "expired"}


@pytest.mark.long_chaos
def test_the_router_is_killed_while_eight_chat(start_task: Start) -> None:
    task = start_task(TURNS)
    kills = 5

    async def kill() -> bool:
        for _ in range(kills):
            await asyncio.sleep(1.5)
            os.kill(router_of(task), signal.SIGKILL)
        return False

    slow = Behaviour(think_time=4, step_timeout=60)
    outcomes, told = asyncio.run(live(task.port, WORKERS, [slow], "r", kill))
    assert task.wait() == 0, task.log
    statuses = check(task, told, outcomes, f"SIGKILL of the router, {kills} times", kills=kills)
    assert Counter(outcome.result for outcome in outcomes) == {"complete": WORKERS}, task.log
    assert statuses == {"complete": WORKERS}
    assert sum(outcome.doubles for outcome in outcomes) == 0


@pytest.mark.parametrize(
    ("seconds", "kills"),
    [
        pytest.param(5, 1, id="5 s, and the router is killed meanwhile"),
        pytest.param(5, 0, id="5 s", marks=pytest.mark.long_chaos),
        pytest.param(25, 0, id="25 s", marks=pytest.mark.long_chaos),
    ],
)
def test_the_network_is_cut(start_task: Start, seconds: int, kills: int) -> None:
    task = start_task(TURNS)
    proxy = CuttableProxy(task.port)

    async def cut() -> bool:
        await asyncio.sleep(1)
        proxy.cut()
        if kills:
            os.kill(router_of(task), signal.SIGKILL)
        await asyncio.sleep(seconds)
        proxy.restore()
        return False

    try:
        outcomes, told = asyncio.run(live(proxy.port, WORKERS, [Behaviour(think_time=0.7, step_timeout=60)], "n", cut))
        assert task.wait() == 0, task.log
    finally:
        proxy.close()
    statuses = check(task, told, outcomes, f"network cut for {seconds} s{', router killed' * kills}", kills=kills)
    assert Counter(outcome.result for outcome in outcomes) == {"complete": WORKERS}, task.log
    assert statuses == {"complete": WORKERS}


@pytest.mark.long_chaos
@pytest.mark.timeout(1800)
def test_image_chat_is_killed_and_its_stack_stays_exact(tmp_path: Path) -> None:
    """Five images, two models, two evaluations: room for exactly twenty conversations, whatever dies in between."""
    rng = random.Random(12)
    told: dict[str, str] = {}
    outcomes: list[Outcome] = []
    kills = max(2, KILLS // 5)
    flags = ("mephisto.blueprint.num_turns=2", NO_ANNOTATION)
    with image_tasks(tmp_path) as start:
        for number in range(kills):
            task = start(*flags, images=5, evals=2)
            moment = rng.uniform(0.2, 2.5)

            some, said = asyncio.run(
                live(task.port, 4, [Behaviour(think_time=0.7, step_timeout=60)], f"i{number}-", killing(task, moment))
            )
            outcomes += some
            told |= said
            if sum(chat["status"] == "complete" for chat in task.conversations()) == 20:
                break
        for wave in range(20):
            if sum(chat["status"] == "complete" for chat in task.conversations()) == 20:
                break
            if wave == 0:
                task = start(*flags, images=5, evals=2)
            some, said = asyncio.run(live(task.port, 4, [Behaviour()], f"end{wave}-"))
            outcomes += some
            told |= said
        assert task.wait() == 0, task.log
    check(task, told, outcomes, f"SIGKILL of image chat, {kills} times", kills=kills)
    saved = [chat for chat in task.conversations() if chat["status"] == "complete"]
    by_place = Counter((image_idx, model) for _, image_idx, model in places_of_chats(saved))
    assert by_place == {(image_idx, model): 2 for image_idx in range(5) for model in "ab"}
    assert places_of_stack(tmp_path / "stack") == places_of_chats(saved)


@pytest.mark.long_chaos
def test_the_database_is_locked_for_three_seconds(start_task: Start) -> None:
    task = start_task(TURNS)

    async def lock() -> bool:
        await asyncio.sleep(1)
        connection = sqlite3.connect(task.data / "database.db", timeout=10, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(3)
        connection.execute("ROLLBACK")
        connection.close()
        return False

    outcomes, told = asyncio.run(live(task.port, WORKERS, [PATIENT], "l", lock))
    assert task.wait() == 0, task.log
    statuses = check(task, told, outcomes, "SQLite locked for 3 s", kills=0)
    assert statuses == {"complete": WORKERS}


@pytest.mark.long_chaos
def test_the_disk_is_full_for_a_second(start_task: Start, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], check=False).returncode
    if mounted != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        task = start_task(TURNS)

        async def fill() -> bool:
            await asyncio.sleep(1.5)
            filler = folder / "filler"
            with filler.open("wb") as file:
                try:
                    while True:
                        file.write(b"x" * 65536)
                        file.flush()
                except OSError:
                    pass
            await asyncio.sleep(1)
            filler.unlink()
            return False

        outcomes, told = asyncio.run(live(task.port, WORKERS, [Behaviour(think_time=1, step_timeout=60)], "f", fill))
        task.__exit__()
        check(task, told, outcomes, "disk full for 1 s", kills=0)
        again = start_task(TURNS)
        left = WORKERS - sum(chat["status"] == "complete" for chat in again.conversations())
        if left:
            more, said = asyncio.run(live(again.port, left, [Behaviour()], "g"))
            assert again.wait() == 0, again.log
            assert check(again, told | said, [*outcomes, *more], "… and started again", kills=0)["complete"] == WORKERS
    except AssertionError as error:
        if "Everything is collected" not in str(error):
            raise
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    "trouble",
    ["raise", *(pytest.param(mode, marks=pytest.mark.long_chaos) for mode in ("nothing", "hang", "memory", "clock"))],
)
def test_the_model_is_in_trouble(start_task: Start, tmp_path: Path, trouble: str) -> None:
    opt: dict[str, Any] = {"model": "model_chat.tests.chaos.troubled_agent:TroubledAgent", "trouble": trouble}
    (tmp_path / "models/a/model.opt").write_text(json.dumps(opt), encoding="utf-8")
    task = start_task(TURNS, "mephisto.blueprint.max_model_response_time=2", needed="a:2")
    outcomes: list[Outcome] = []
    told: dict[str, str] = {}
    end = time.monotonic() + 120
    number = 0
    while task.process is not None and task.process.poll() is None and time.monotonic() < end and number < 12:
        some, said = asyncio.run(live(task.port, 1, [Behaviour(step_timeout=60)], f"m{number}-"))
        outcomes += some
        told |= said
        number += 1
        if sum(chat["status"] == "complete" for chat in task.conversations()) >= 2:
            break
    if trouble == "clock":
        assert task.wait() == 0, task.log
    else:
        task.__exit__()
    check(task, told, outcomes, f"model: {trouble}", kills=0)
    assert {outcome.result.split(":")[0] for outcome in outcomes} <= {"complete", "incomplete", "no work", "error"}
    assert not any(outcome.result.startswith("error") for outcome in outcomes), [o.result for o in outcomes]
    if LONG and trouble != "clock":
        (tmp_path / "models/a/model.opt").write_text(
            '{"model": "fixed_response", "fixed_response": "Repaired."}', encoding="utf-8"
        )
        before = sum(chat["status"] == "complete" for chat in task.conversations())
        again = start_task(TURNS, needed=f"a:{before + 2}")
        more, said = asyncio.run(live(again.port, 2, [Behaviour()], "repaired"))
        assert again.wait() == 0, again.log
        statuses = check(again, told | said, [*outcomes, *more], f"… {trouble}, repaired and started again", kills=0)
        assert statuses["complete"] == before + 2

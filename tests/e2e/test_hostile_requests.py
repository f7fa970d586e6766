"""A worker who floods a running task with requests and hand-ins: the task stays small, and everybody's chats finish."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from model_chat.scripts.simulate_workers import Behaviour, SimulatedWorker
from model_chat.tests.e2e.running_task import ROOT, RunningTask

Start = Callable[..., RunningTask]
ONBOARDING = (
    f"mephisto.blueprint.annotations_config_path={ROOT}/task_config/annotations_config.json",
    f"mephisto.blueprint.onboard_task_data_path={ROOT}/task_config/onboard_task_data.json",
    "mephisto.blueprint.onboarding_qualification=hostile_requests",
)
ANSWERS = json.loads((ROOT / "task_config/onboard_task_data.json").read_text(encoding="utf-8"))


def threads_of(task: RunningTask) -> int:
    assert task.process is not None
    status = Path(f"/proc/{task.process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def asks_for_work(worker: str, assignment: str) -> dict[str, Any]:
    ids = {"worker_name": worker, "agent_registration_id": f"{assignment}-{worker}", "assignment_id": assignment}
    return {"provider_data": {**ids, "provider_type": "mock"}, "client_timestamp": 0}


def test_one_name_that_asks_300_times_gets_few_threads_and_holds_up_nobody(start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2", *ONBOARDING, needed="a:1")
    before = threads_of(task)

    async def live() -> tuple[Counter[int], int, str]:
        async with httpx.AsyncClient(timeout=120) as http:
            url = f"{task.url}request_agent"
            answers = await asyncio.gather(
                *(http.post(url, json=asks_for_work("greedy", str(number))) for number in range(300))
            )
            threads = threads_of(task)
            modest = SimulatedWorker(task.port, "modest", "1", Behaviour(onboarding_answers=ANSWERS), 1, http)
            return Counter(answer.status_code for answer in answers), threads, (await modest.run()).result

    codes, threads, result = asyncio.run(live())
    assert result == "complete", task.log
    assert codes[429] >= 200
    assert set(codes) == {200, 429}
    assert len(task.rows("SELECT onboarding_agent_id FROM onboarding_agents")) < 80
    assert threads - before < 80


class Impatient(SimulatedWorker):
    """Hands in before the end, again and again, and sends hundreds of packets that are refused."""

    statuses: Counter[int]

    async def hand_in(self, number: int) -> None:
        body = {"USED_AGENT_ID": self.agent_id, "final_data": {"number": number, "padding": "x" * 10_000}}
        answer = await self._http.post(f"http://{self.base}/submit_task", json=body)
        self.statuses[answer.status_code] += 1

    async def say(self, text: str) -> None:
        """Send a message as the page does, again until it has come back: what comes while too much waits is dropped."""
        message_id = str(uuid4())
        while True:
            await self.send_update({}, text=text, message_id=message_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while True:
                        data = (await self.next_update()).get("task_data") or {}
                        if data.get("message_id") == message_id and "control" not in data:
                            return

    async def run_impatient(self) -> str:
        self.statuses = Counter()
        await self.load_config()
        await self.register()
        asked = 0
        while True:
            data = (await self.next_update()).get("task_data") or {}
            if data.get("control") == "your_turn" and data["ask"] == "message":
                if asked == 0:
                    for number in range(30):
                        await self.hand_in(number)
                    tips = {"USED_AGENT_ID": self.agent_id, "metadata": {"tips": {"header": "h", "text": "t" * 20_000}}}
                    answer = await self._http.post(f"http://{self.base}/submit_metadata", json=tips)
                    self.statuses[answer.status_code] += 1
                    for _ in range(200):
                        await self.send_update({}, text="")
                asked += 1
                await self.say(f"Proper message {asked}.")
            elif data.get("control") == "your_turn":
                await self.send_update({"final_rating": [4]})
            elif data.get("control") == "ended":
                return str(data["outcome"])  # it was handed in before


def test_early_and_repeated_hand_ins_and_refused_packets_make_nothing_grow(start_task: Start) -> None:
    flag = "mephisto.blueprint.annotations_config_path=''"
    task = start_task("mephisto.blueprint.num_turns=2", flag, needed="a:1")

    async def live() -> tuple[str, Counter[int]]:
        async with httpx.AsyncClient(timeout=120) as http:
            worker = Impatient(task.port, "impatient", "1", Behaviour(), 1, http)
            try:
                return await worker.run_impatient(), worker.statuses
            finally:
                with contextlib.suppress(ConnectionClosed):
                    await worker.disconnect()

    outcome, statuses = asyncio.run(live())
    assert outcome == "complete", task.log
    assert statuses[404] == 1
    assert statuses[429] >= 15
    assert task.wait() == 0, task.log
    (record,) = task.conversations()
    assert record["status"] == "complete"
    (state,) = task.data.glob("data/runs/*/*/*/*/state.json")
    assert state.stat().st_size < 40_000
    outputs = json.loads(state.read_bytes())["outputs"]
    assert outputs["final_submission"]["number"] == 0
    assert not list(state.parent.glob("*metadata*"))


def test_a_page_that_guesses_ids_or_takes_those_of_others_gets_nothing(start_task: Start) -> None:
    flag = "mephisto.blueprint.annotations_config_path=''"
    task = start_task("mephisto.blueprint.num_turns=2", flag, needed="a:2")

    async def live() -> tuple[str, list[Any]]:
        async with httpx.AsyncClient(timeout=120) as http:
            victim = SimulatedWorker(task.port, "victim", "1", Behaviour(), 1, http)
            attacker = SimulatedWorker(task.port, "attacker", "2", Behaviour(), 2, http)
            await attacker.load_config()
            await attacker.register()
            finished = asyncio.create_task(victim.run())
            heard: list[Any] = []
            own, signature = str(attacker.agent_id).split(".")
            for number in range(10):
                guess = f"{int(own) + number - 5}.{signature}" if number != 5 else f"{own}.{signature[::-1]}"
                with contextlib.suppress(ConnectionClosed):
                    async with connect(f"ws://{attacker.base}/") as socket:
                        for kind in ("alive", "mephisto_bound_live_update"):
                            packet = {"packet_type": kind, "subject_id": guess, "data": {"text": "forged"}}
                            await socket.send(json.dumps(packet))
                        with contextlib.suppress(TimeoutError):
                            heard.append(await asyncio.wait_for(socket.recv(), 0.1))
            # The registration of another worker's page, which is easy to guess with the mock provider.
            body = asks_for_work("attacker", "1")
            body["provider_data"]["agent_registration_id"] = "1-victim"
            with contextlib.suppress(httpx.TimeoutException):
                answer = await http.post(f"{task.url}request_agent", json=body, timeout=2)
                heard.append(answer.text)
            result = (await finished).result
            await attacker.disconnect()
            return result, heard

    result, heard = asyncio.run(live())
    assert result == "complete", task.log
    assert heard == []
    (record,) = task.conversations()
    assert "forged" not in json.dumps(record)

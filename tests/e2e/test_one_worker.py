"""One worker who comes from several browsers at once, over the real wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.e2e.test_wire import DUMMY_ANNOTATION, DUMMY_ONBOARDING

Start = Callable[..., RunningTask]
BROWSERS = 6


async def come(task: RunningTask, name: str, assignment: str) -> dict[str, Any]:
    """Ask for work as a page does, again where the router wants to be asked later; return the answer's data."""
    provider_data = {
        "worker_name": name,
        "agent_registration_id": f"{assignment}-{name}",
        "assignment_id": assignment,
        "provider_type": "mock",
    }
    async with httpx.AsyncClient() as client:
        for _ in range(20):
            response = await client.post(f"{task.url}request_agent", json={"provider_data": provider_data}, timeout=120)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            await asyncio.sleep(float(response.headers["retry-after"]))
    response.raise_for_status()
    data: dict[str, Any] = response.json()["data"]
    return data


def come_at_once(task: RunningTask, *names: str) -> list[dict[str, Any]]:
    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*(come(task, name, f"browser-{number}") for number, name in enumerate(names)))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("limit", ["maximum_units_per_worker", "allowed_concurrent"])
def test_a_new_worker_in_many_browsers_at_once_gets_one_chat_and_an_answer_in_each(
    start_task: Start, limit: str
) -> None:
    task = start_task(f"mephisto.task.{limit}=1", needed="a:9")
    for round_ in range(2):
        name = f"worker{round_}"
        spellings = (name, f" {name}", f"wor\u200bker{round_}", f"{name}\u202c", name.replace("w", "\uff57"), name)
        answers = come_at_once(task, *spellings)
        assert len([answer for answer in answers if answer["agent_id"] is not None]) == 1
        refused = [answer for answer in answers if answer["agent_id"] is None]
        assert {answer["refusal"] for answer in refused} == {"concurrent"}
    assert "Traceback" not in task.log


def test_a_new_worker_practises_in_one_browser_at_a_time(start_task: Start) -> None:
    flags = (DUMMY_ANNOTATION, DUMMY_ONBOARDING, "mephisto.blueprint.onboarding_qualification=one_worker")
    task = start_task(*flags, "mephisto.blueprint.num_turns=1", needed="a:2")
    answers = come_at_once(task, *["ann"] * BROWSERS)
    assert len([answer for answer in answers if str(answer["agent_id"]).startswith("onboarding_")]) == 1
    refused = [answer for answer in answers if answer["agent_id"] is None]
    assert [answer["refusal"] for answer in refused] == ["practising"] * (BROWSERS - 1)
    assert refused[0]["failure_reason"] == TEXTS[Refusal.PRACTISING]
    assert "Traceback" not in task.log


def test_an_id_of_which_nothing_can_be_seen_gets_no_chat_and_an_answer(start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=1", needed="a:1")
    (answer,) = come_at_once(task, "\u2060\u3164")
    assert (answer["agent_id"], answer["refusal"]) == (None, "no_id")
    (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour()]))
    assert outcome.result == "complete", task.log
    assert task.wait() == 0, task.log

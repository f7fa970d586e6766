"""The limits of one worker, in however many browsers and spellings they come at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.constants.assignment_state import AssignmentState

from model_chat.mephisto_task import worker_pool
from model_chat.tests.arrivals import Desk


class Clock:
    """A clock that advances only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += 0.5


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.pool.shutdown()


def test_a_worker_who_has_as_many_as_allowed_gets_no_more(tmp_path: Path) -> None:
    desk = Desk(tmp_path, maximum_units_per_worker=2, allowed_concurrent=1)
    for _ in range(5):
        desk.run.unit()
    assert asyncio.run(desk.come("ann"))["agent_id"]
    assert asyncio.run(desk.come("ann", "2"))["agent_id"] is None  # one at a time
    desk.chats[0][1].update_status(AgentState.STATUS_COMPLETED)  # Mephisto's unit is `assigned` for a while longer
    assert asyncio.run(desk.come("ann", "3"))["agent_id"]
    desk.chats[1][1].update_status(AgentState.STATUS_COMPLETED)
    assert asyncio.run(desk.come("ann", "4"))["agent_id"] is None  # two in all
    desk.chats[1][0].set_db_status(AssignmentState.COMPLETED)
    assert asyncio.run(desk.come("ann", "5"))["agent_id"] is None
    assert asyncio.run(desk.come("bob"))["agent_id"]


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        (AssignmentState.COMPLETED, True),
        (AssignmentState.ACCEPTED, True),
        (AssignmentState.REJECTED, True),
        (AssignmentState.SOFT_REJECTED, True),
        (AssignmentState.EXPIRED, False),
    ],
)
def test_what_a_worker_has_done_counts_whatever_the_requester_made_of_it(
    tmp_path: Path, status: str, counts: bool
) -> None:
    desk = Desk(tmp_path, maximum_units_per_worker=1)
    desk.run.unit()
    desk.run.unit()
    asyncio.run(desk.come("ann"))
    desk.chats[0][1].update_status(AgentState.STATUS_COMPLETED)
    desk.chats[0][0].set_db_status(status)
    assert (asyncio.run(desk.come("ann", "2"))["agent_id"] is None) is counts


@pytest.mark.parametrize("limit", ["maximum_units_per_worker", "allowed_concurrent"])
def test_each_limit_counts_without_the_other(tmp_path: Path, limit: str) -> None:
    desk = Desk(tmp_path, onboarding=False, **{limit: 1})
    desk.run.unit()
    desk.run.unit()
    assert asyncio.run(desk.come("ann"))["agent_id"]
    assert asyncio.run(desk.come("ann", "2"))["agent_id"] is None
    desk.chats[0][1].update_status(AgentState.STATUS_COMPLETED)
    desk.chats[0][0].set_db_status(AssignmentState.COMPLETED)
    may_come_again = limit == "allowed_concurrent"
    assert (asyncio.run(desk.come("ann", "3"))["agent_id"] is not None) is may_come_again


@pytest.mark.parametrize("limit", ["maximum_units_per_worker", "allowed_concurrent"])
@pytest.mark.parametrize("new", [True, False])
def test_one_worker_who_comes_from_many_browsers_at_once_gets_one_unit_and_all_get_an_answer(
    tmp_path: Path, limit: str, new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, onboarding=False, **{limit: 1})
    for _ in range(8):
        desk.run.unit()
    if not new:
        asyncio.run(desk.come("ann", "before"))
        desk.chats.pop()[0].clear_assigned_agent()
    admit = desk.pool._may_have_another

    def slowly(worker: Any) -> bool:
        allowed = admit(worker)
        threading.Event().wait(0.02)  # time enough for another to look, too
        return allowed

    monkeypatch.setattr(desk.pool, "_may_have_another", slowly)

    async def many() -> list[dict[str, Any]]:
        return await asyncio.gather(*(desk.come("ann", f"browser {number}") for number in range(8)))

    answers = asyncio.run(many())
    assert len(desk.chats) == 1
    assert [answer["agent_id"] is not None for answer in answers].count(True) == 1
    assert all(answer["failure_reason"] and "refusal" not in answer for answer in answers if not answer["agent_id"])
    assert len(desk.run.db.find_workers()) == 1
    assert desk.pool._turns == {}


def test_who_comes_again_before_what_they_handed_in_is_saved_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "FINISHING_SECONDS", 60.0)
    desk = Desk(tmp_path, allowed_concurrent=1)
    desk.run.unit()
    desk.run.unit()
    asyncio.run(desk.come("ann"))
    agent = desk.chats[0][1]
    agent.did_submit.set()
    saving = threading.Timer(0.3, agent.update_status, [AgentState.STATUS_COMPLETED])
    saving.start()
    assert asyncio.run(desk.come("ann", "2"))["agent_id"]
    saving.join()


@pytest.mark.parametrize("spelling", [" ann ", "an\u200bn", "\u202eann\u202c", "\uff41nn", "ann\ufe0f", "a\u00adnn\t"])
def test_a_worker_is_the_same_in_whatever_spelling(tmp_path: Path, spelling: str) -> None:
    desk = Desk(tmp_path, allowed_concurrent=1)
    desk.run.unit()
    desk.run.unit()
    assert asyncio.run(desk.come("ann"))["agent_id"]
    assert asyncio.run(desk.come(spelling, "2"))["agent_id"] is None
    assert [worker.worker_name for worker in desk.run.db.find_workers()] == ["ann_sandbox"]


@pytest.mark.parametrize("name", ["Ann", "\u0251nn", "ann_sandbox"])
def test_other_names_are_other_workers(tmp_path: Path, name: str) -> None:
    desk = Desk(tmp_path, allowed_concurrent=1)
    desk.run.unit()
    desk.run.unit()
    asyncio.run(desk.come("ann"))
    assert asyncio.run(desk.come(name, "2"))["agent_id"]


def test_a_worker_of_an_earlier_version_is_found_under_their_old_spelling(desk: Desk) -> None:
    desk.run.unit()
    old = desk.run.db.new_worker("an\u200bn _sandbox", "mock")
    asyncio.run(desk.come("ann"))
    assert desk.chats[0][1].worker_id == old


@pytest.mark.parametrize("name", ["", " ", "\u200b\u2060", "\u3164"])
def test_an_id_of_which_nothing_can_be_seen_is_no_worker(desk: Desk, name: str) -> None:
    desk.run.unit()
    answer = asyncio.run(desk.come(name))
    assert (answer["agent_id"], answer["refusal"]) == (None, "no_id")
    assert desk.run.db.find_workers() == []


@pytest.mark.parametrize(
    ("handed_in", "status", "sleeps"),
    [
        (True, AgentState.STATUS_IN_TASK, 4),  # 2 s, in steps of half a second of this clock
        (True, AgentState.STATUS_COMPLETED, 0),
        (False, AgentState.STATUS_IN_TASK, 0),
    ],
)
def test_what_was_handed_in_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed_in: bool, status: str, sleeps: int
) -> None:
    desk = Desk(tmp_path, allowed_concurrent=1)
    for _ in range(3):
        desk.run.unit()
    asyncio.run(desk.come("ann"))
    asyncio.run(desk.come("bob"))
    ann, bob = (agent for _, agent in desk.chats)
    bob.did_submit.set()  # nobody waits for somebody else
    ann.update_status(status)
    if handed_in:
        ann.did_submit.set()
    clock = Clock()
    monkeypatch.setattr(worker_pool, "time", clock)
    asyncio.run(desk.come("ann", "2"))
    assert clock.sleeps == [0.01] * sleeps

"""Who practises first, and what they get afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.operations.worker_pool import WorkerPool

from model_chat.mephisto_task import worker_pool
from model_chat.tests.arrivals import Desk
from model_chat.tests.mephisto_run import PASSED


@pytest.fixture
def practice(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, onboarding=True)
    yield desk
    desk.pool.shutdown()


async def hand_in(practice: Desk, number: int, request: str) -> None:
    agent, retire = practice.onboardings[number]
    practice.pool.onboarding_infos[agent.get_agent_id()].request_id = request
    await practice.pool.register_agent_from_onboarding(agent)
    await retire()


def test_a_new_worker_practises_first_and_gets_a_unit_when_they_hand_in(practice: Desk) -> None:
    unit = practice.run.unit()
    answer = asyncio.run(practice.come("ann"))
    assert answer["agent_id"].startswith("onboarding_")
    assert answer["init_task_data"] == {"task_data": "onboarding"}
    assert practice.chats == []
    ((agent, retire),) = practice.onboardings

    async def hand_in() -> None:
        practice.pool.onboarding_infos[agent.get_agent_id()].request_id = "handed in"
        await practice.pool.register_agent_from_onboarding(agent)
        await retire()

    asyncio.run(hand_in())
    assert practice.answers["handed in"]["agent_id"] == practice.chats[0][1].db_id
    assert practice.chats[0][0].db_id == unit.db_id
    assert agent.db_status == AgentState.STATUS_APPROVED
    assert practice.pool.final_onboardings == {agent.get_agent_id(): agent}
    assert practice.pool.onboarding_infos == {}
    practice.run.unit()
    assert not asyncio.run(practice.come("ann", "2"))["agent_id"].startswith("onboarding_")


def test_a_worker_practises_in_one_window_at_a_time(practice: Desk) -> None:
    practice.run.unit()
    practice.run.unit()

    async def many() -> list[dict[str, Any]]:
        return await asyncio.gather(*(practice.come("ann", f"window {number}") for number in range(6)))

    answers = asyncio.run(many())
    assert len(practice.onboardings) == 1
    refused = [answer for answer in answers if answer["agent_id"] is None]
    assert [answer["refusal"] for answer in refused] == ["practising"] * 5
    assert asyncio.run(practice.come("bob"))["agent_id"].startswith("onboarding_"), "others practise meanwhile"
    asyncio.run(hand_in(practice, 0, "handed in"))
    assert practice.answers["handed in"]["agent_id"] is not None
    assert asyncio.run(practice.come("ann", "window 7"))["agent_id"] == practice.chats[1][1].db_id


def test_a_worker_who_has_passed_and_not_handed_in_gets_a_unit_in_another_window(practice: Desk) -> None:
    practice.run.unit()
    asyncio.run(practice.come("ann"))
    practice.onboardings[0][0].get_worker().grant_qualification(PASSED, 1)
    assert asyncio.run(practice.come("ann", "2"))["agent_id"] == practice.chats[0][1].db_id


def test_what_an_onboarding_that_was_passed_elsewhere_hands_in_takes_nothing_back(practice: Desk) -> None:
    practice.run.unit()
    asyncio.run(practice.come("ann"))
    worker = practice.onboardings[0][0].get_worker()
    worker.grant_qualification(PASSED, 1)
    practice.passes = False
    asyncio.run(hand_in(practice, 0, "handed in"))
    assert worker.is_qualified(PASSED)
    assert worker.get_granted_qualification(f"{PASSED}-failed") is None
    assert practice.answers["handed in"]["agent_id"] == practice.chats[0][1].db_id


def test_a_second_tab_that_hands_in_the_same_practice_gets_the_same_answer(
    practice: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[tuple[str, str]] = []

    async def reconnect(self: Any, agent_id: str, request_id: str) -> None:
        again.append((agent_id, request_id))

    monkeypatch.setattr(WorkerPool, "reconnect_agent", reconnect)
    practice.run.unit()
    asyncio.run(practice.come("ann"))
    onboarding_id = practice.onboardings[0][0].get_agent_id()
    asyncio.run(hand_in(practice, 0, "handed in"))
    asyncio.run(practice.pool.hand_in_again(onboarding_id, "again"))
    assert again == [(practice.chats[0][1].db_id, "again")]
    asyncio.run(practice.pool.hand_in_again("onboarding_99", "of nobody"))
    assert practice.answers["of nobody"]["failure_reason"]


def test_who_passed_when_nothing_was_free_gets_a_unit_on_coming_back(practice: Desk) -> None:
    unit = practice.run.unit()
    asyncio.run(practice.come("ann"))
    unit.expire()
    asyncio.run(hand_in(practice, 0, "handed in"))
    assert practice.answers["handed in"]["agent_id"] is None
    practice.run.unit()
    onboarding_id = practice.onboardings[0][0].get_agent_id()
    asyncio.run(practice.pool.reconnect_agent(onboarding_id, "back"))
    assert practice.answers["back"]["agent_id"] == practice.chats[0][1].db_id


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_validation_that_raises_is_said(practice: Desk, error: type[BaseException]) -> None:
    practice.run.unit()
    asyncio.run(practice.come("ann"))

    def broken(worker: Any, agent: Any) -> bool:
        raise error("a researcher's bug")

    practice.live_run.blueprint.validate_onboarding = broken
    asyncio.run(hand_in(practice, 0, "handed in"))
    assert practice.answers["handed in"]["refusal"] == "technical"


def test_a_worker_who_does_not_pass_gets_no_unit_then_or_later(practice: Desk) -> None:
    practice.run.unit()
    practice.passes = False
    asyncio.run(practice.come("ann"))
    ((agent, _),) = practice.onboardings
    asyncio.run(practice.pool.register_agent_from_onboarding(agent))
    assert agent.db_status == AgentState.STATUS_REJECTED
    assert asyncio.run(practice.come("ann", "2"))["agent_id"] is None
    assert practice.chats == []
    worker = agent.get_worker()
    assert worker.get_granted_qualification(f"{PASSED}-failed") is not None


def test_nobody_practises_for_units_that_are_not_there(practice: Desk) -> None:
    assert asyncio.run(practice.come("ann"))["agent_id"] is None
    assert practice.onboardings == []


def test_a_practice_that_can_not_begin_is_ended_on_its_page_and_the_worker_can_come_again(practice: Desk) -> None:
    practice.run.unit()

    def no_thread(agent: Any, retire: Any) -> None:
        raise RuntimeError("can't start new thread")

    begin, practice.live_run.task_runner.execute_onboarding = (
        practice.live_run.task_runner.execute_onboarding,
        no_thread,
    )
    asyncio.run(practice.come("ann"))
    assert practice.pool.onboarding_agents == practice.pool.onboarding_infos == {}
    practice.live_run.task_runner.execute_onboarding = begin
    assert asyncio.run(practice.come("ann", "2"))["agent_id"].startswith("onboarding_")


def test_an_onboarding_that_nobody_knows_of_is_no_fault(practice: Desk, caplog: pytest.LogCaptureFixture) -> None:
    agent = practice.run.onboarding_agent()
    asyncio.run(practice.pool.register_agent_from_onboarding(agent))
    assert "nobody knows of" in caplog.text
    assert practice.answers == {}


def test_onboardings_that_are_over_are_not_kept_for_ever(practice: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "KEPT", 2)
    practice.run.unit()
    for number in range(4):
        asyncio.run(practice.come(f"worker{number}"))
        asyncio.run(practice.onboardings[number][1]())
    last = [agent.get_agent_id() for agent, _ in practice.onboardings[2:]]
    assert list(practice.pool.final_onboardings) == list(practice.pool._practised) == last
    assert practice.pool.onboarding_agents == practice.pool.onboarding_infos == {}


def test_only_those_whose_part_is_not_over_can_be_reported_as_gone(
    practice: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[dict[str, str]] = []
    monkeypatch.setattr(WorkerPool, "handle_updated_agent_status", lambda self, status_map: reported.append(status_map))
    practice.run.unit()
    asyncio.run(practice.come("new"))
    practice.run.worker()
    known = practice.run.db.new_worker("known_sandbox", "mock")
    practice.run.db.grant_qualification(practice.run.db.find_qualifications(PASSED)[0].db_id, known, value=1)
    asyncio.run(practice.come("known"))
    ((_, chatting),) = practice.chats
    ((practising, _),) = practice.onboardings
    statuses = {chatting.db_id: "disconnect", practising.get_agent_id(): "disconnect", "99": "disconnect"}
    practice.pool.handle_updated_agent_status(statuses)
    practice.pool.retire(chatting)
    practice.pool.handle_updated_agent_status(statuses)
    assert [sorted(those) for those in reported] == [
        sorted([chatting.db_id, practising.get_agent_id()]),
        [practising.get_agent_id()],
    ]
    assert practice.pool.agents == {}
    assert practice.pool.get_agent_for_id(chatting.db_id) is chatting, "its page may still come back"
    assert practice.pool.get_agent_for_id(practising.get_agent_id()) is practising
    assert practice.pool.get_agent_for_id("99") is None


def test_a_worker_whose_qualification_says_no_is_turned_away_without_a_practice(practice: Desk) -> None:
    practice.run.unit()
    known = practice.run.db.new_worker("ann_sandbox", "mock")
    practice.run.db.grant_qualification(practice.run.db.find_qualifications(PASSED)[0].db_id, known, value=0)
    answer = asyncio.run(practice.come("ann"))
    assert (answer["agent_id"], answer["worker_id"]) == (None, known)
    assert practice.onboardings == []


def test_whoever_may_have_no_more_after_their_practice_is_told_so(tmp_path: Path) -> None:
    desk = Desk(tmp_path, onboarding=True, maximum_units_per_worker=1)
    desk.run.unit()
    desk.run.unit()
    asyncio.run(desk.come("ann"))
    agent = desk.onboardings[0][0]
    agent.get_worker().grant_qualification(PASSED, 1)
    assert asyncio.run(desk.come("ann", "2"))["agent_id"]  # passed in another window
    asyncio.run(hand_in(desk, 0, "handed in"))
    assert (desk.answers["handed in"]["agent_id"], len(desk.chats)) == (None, 1)
    assert agent.db_status == AgentState.STATUS_APPROVED

"""Who is let in, and which unit they get: in a real database, with many who come at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.operations.datatypes import LoopWrapper
from omegaconf import OmegaConf

from model_chat.tests.mephisto_run import PASSED, Run
from model_chat.worker_pool import ARRIVING_AT_ONCE, TaskWorkerPool

NONE_LEFT = "no available units"
UNQUALIFIED = "not qualified"


class Desk:
    """What stands around the pool: the run's database is real, what the pool tells others to do is written down."""

    def __init__(self, folder: Path, onboarding: bool = False, **task_args: Any) -> None:
        self.run = Run(folder)
        self.run.task_run.args = OmegaConf.create(
            {"task": {"allowed_concurrent": 0, "maximum_units_per_worker": 0, **task_args}}
        )
        self.answers: dict[str, dict[str, Any]] = {}
        self.chats: list[tuple[Any, Any]] = []
        self.onboardings: list[tuple[Any, Callable[[], Any]]] = []
        self.asked_again: list[tuple[str, str]] = []
        for name in (PASSED, f"{PASSED}-failed"):
            self.run.db.make_qualification(name)
        self.passes = True
        provider = self.run.task_run.get_provider()
        client_io = SimpleNamespace(
            agents_by_registration_id={},
            associate_agent_with_registration=self._associate,
            enqueue_agent_details=self.answers.__setitem__,
            is_shutdown=True,
        )
        blueprint = SimpleNamespace(
            use_onboarding=onboarding,
            onboarding_qualification_name=PASSED,
            onboarding_failed_name=f"{PASSED}-failed",
            get_onboarding_data=lambda worker_id: {"task_data": "onboarding"},
            validate_onboarding=lambda worker, agent: self.passes,
            shared_state=SimpleNamespace(worker_can_do_unit=lambda worker, unit: True),
        )
        runner = SimpleNamespace(
            is_concurrent=False,
            readmit=lambda worker: None,
            filter_units_for_worker=lambda units, worker: units,
            get_init_data_for_agent=lambda agent: {"task_data": "chat"},
            execute_unit=lambda unit, agent: self.chats.append((unit, agent)),
            execute_onboarding=lambda agent, retire: self.onboardings.append((agent, retire)),
        )
        self.live_run: Any = SimpleNamespace(
            provider=provider,
            qualifications=[],
            client_io=client_io,
            blueprint=blueprint,
            task_run=self.run.task_run,
            task_runner=runner,
        )
        self.pool = TaskWorkerPool(self.run.db)
        self.pool.register_run(self.live_run)

    def _associate(self, agent_id: str, request_id: str, registration_id: str) -> None:
        self.live_run.client_io.agents_by_registration_id[registration_id] = agent_id

    async def come(self, name: str, visit: str = "1") -> dict[str, Any]:
        """A worker's page asks for work; return the answer."""
        request = f"request of {name}-{visit}-{len(self.answers)}"
        self.live_run.loop_wrap = LoopWrapper(asyncio.get_running_loop())
        crowd_data = {"worker_name": name, "agent_registration_id": f"{name}-{visit}"}
        await self.pool.register_worker(crowd_data, request)
        return self.answers.get(request, {})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.pool.shutdown()


def test_whoever_comes_gets_the_oldest_unit_and_their_chat_begins(desk: Desk) -> None:
    first, second = desk.run.unit(), desk.run.unit()
    answer = asyncio.run(desk.come("ann"))
    assert (answer["init_task_data"], answer["failure_reason"]) == ({"task_data": "chat"}, None)
    ((unit, agent),) = desk.chats
    assert (unit.db_id, agent.db_id) == (first.db_id, answer["agent_id"])
    assert desk.pool.agents == {agent.db_id: agent}
    assert agent.get_worker().worker_name == "ann_sandbox"  # Mephisto's name for workers who are not paid
    asyncio.run(desk.come("bob"))
    assert [unit.db_id for unit, _ in desk.chats] == [first.db_id, second.db_id]


def test_of_many_who_come_at_once_each_gets_a_unit_of_their_own_and_the_rest_are_told(desk: Desk) -> None:
    units = {desk.run.unit().db_id for _ in range(30)}

    async def everybody() -> list[dict[str, Any]]:
        return await asyncio.gather(*(desk.come(f"worker{number}") for number in range(40)))

    answers = asyncio.run(everybody())
    assert {unit.db_id for unit, _ in desk.chats} == units
    assert len(desk.chats) == 30
    refused = [answer for answer in answers if answer["agent_id"] is None]
    assert len(refused) == 10
    assert all(NONE_LEFT in answer["failure_reason"].lower() or answer["failure_reason"] for answer in refused)
    held = desk.run.db.find_units(task_run_id=desk.run.task_run.db_id, status=AssignmentState.ASSIGNED)
    assert len({unit.agent_id for unit in held}) == 30


def test_a_unit_that_was_given_back_is_offered_again_to_the_same_worker_too(desk: Desk) -> None:
    unit = desk.run.unit()
    asyncio.run(desk.come("ann"))
    desk.chats[0][0].clear_assigned_agent()
    answer = asyncio.run(desk.come("ann", visit="2"))
    assert answer["agent_id"] is not None
    assert desk.chats[1][0].db_id == unit.db_id


def test_a_page_that_asks_twice_is_let_in_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.run.unit()
    desk.run.unit()
    again: list[str] = []

    async def reconnect(agent_id: str, request_id: str) -> None:
        again.append(agent_id)

    monkeypatch.setattr(desk.pool, "reconnect_agent", reconnect)

    async def three_times() -> None:
        await asyncio.gather(*(desk.come("ann") for _ in range(3)))

    asyncio.run(three_times())
    assert len(desk.chats) == 1
    assert again == [desk.chats[0][1].db_id] * 2


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


def test_who_comes_again_before_what_they_handed_in_is_saved_waits_for_that(tmp_path: Path) -> None:
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


def test_only_units_that_the_task_lets_a_worker_do_are_given(desk: Desk) -> None:
    odd = [desk.run.unit() for _ in range(3)]
    desk.live_run.blueprint.shared_state.worker_can_do_unit = lambda worker, unit: unit.db_id != odd[0].db_id
    desk.live_run.task_runner.filter_units_for_worker = lambda units, worker: [
        unit for unit in units if unit.db_id != odd[1].db_id
    ]
    asyncio.run(desk.come("ann"))
    assert [unit.db_id for unit, _ in desk.chats] == [odd[2].db_id]


def test_a_worker_without_what_the_task_asks_for_is_told_so(desk: Desk) -> None:
    desk.run.unit()
    desk.run.db.make_qualification("invited")
    desk.live_run.qualifications = [{"qualification_name": "invited", "comparator": "Exists", "value": None}]
    answer = asyncio.run(desk.come("ann"))
    assert (answer["agent_id"], answer["failure_reason"] is None) == (None, False)
    assert desk.chats == []
    desk.run.db.find_workers(worker_name="ann_sandbox")[0].grant_qualification("invited")
    assert asyncio.run(desk.come("ann", "2"))["agent_id"] is not None


def test_whoever_comes_when_the_run_is_over_is_no_fault_of_the_program(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.run.unit()
    desk.pool.shutdown()
    caplog.clear()
    assert asyncio.run(desk.come("ann")) == {}
    assert desk.chats == [] and desk.run.db.find_workers() == []
    assert caplog.records == []


@pytest.fixture
def practice(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, onboarding=True)
    yield desk
    desk.pool.shutdown()


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


def test_a_fault_in_one_arrival_is_no_fault_of_the_next(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    unit = desk.run.unit()
    desk.live_run.task_runner.get_init_data_for_agent = lambda agent: 1 / 0
    assert asyncio.run(desk.come("ann")) == {}
    assert "could not be let in" in caplog.text
    desk.live_run.task_runner.get_init_data_for_agent = lambda agent: {}
    assert asyncio.run(desk.come("bob"))["agent_id"] is not None
    assert [given.db_id for given, _ in desk.chats] == [unit.db_id]


def test_no_more_than_a_few_are_let_in_at_the_same_moment(desk: Desk) -> None:
    lock, inside, most = threading.Lock(), 0, 0
    for _ in range(20):
        desk.run.unit()

    def init_data(agent: Any) -> dict[str, Any]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.01)
        with lock:
            inside -= 1
        return {}

    desk.live_run.task_runner.get_init_data_for_agent = init_data

    async def everybody() -> None:
        await asyncio.gather(*(desk.come(f"worker{number}") for number in range(20)))

    asyncio.run(everybody())
    assert 1 < most <= ARRIVING_AT_ONCE

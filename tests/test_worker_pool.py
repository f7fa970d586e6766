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
from mephisto.abstractions.blueprints.mixins.screen_task_required import ScreenTaskRequired
from mephisto.abstractions.blueprints.mixins.use_gold_unit import UseGoldUnit
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.operations.datatypes import LoopWrapper
from mephisto.operations.worker_pool import WorkerPool
from omegaconf import OmegaConf

from model_chat import worker_pool
from model_chat.quality.refusals import TEXTS, Refusal
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
            enqueue_agent_details=self._enqueue,
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

    def _enqueue(self, request_id: str, details: dict[str, Any]) -> None:
        if request_id in self.answers:
            raise KeyError(request_id)  # as Mephisto's, which has forgotten the request by then
        self.answers[request_id] = details

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


def test_one_worker_who_comes_many_times_keeps_nobody_else_waiting(desk: Desk) -> None:
    for _ in range(3):
        desk.run.unit()
    inside, go_on = threading.Event(), threading.Event()

    def init_data(agent: Any) -> dict[str, Any]:
        if agent.get_worker().worker_name == "ann_sandbox":
            inside.set()
            go_on.wait(30)
        return {}

    desk.live_run.task_runner.get_init_data_for_agent = init_data

    async def everybody() -> None:
        many = [asyncio.ensure_future(desk.come("ann", str(number))) for number in range(2 * ARRIVING_AT_ONCE)]
        while not inside.is_set():
            await asyncio.sleep(0.01)
        assert (await desk.come("bob"))["agent_id"] is not None
        go_on.set()
        await asyncio.gather(*many)

    asyncio.run(everybody())


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


async def hand_in(practice: Desk, number: int, request: str) -> None:
    agent, retire = practice.onboardings[number]
    practice.pool.onboarding_infos[agent.get_agent_id()].request_id = request
    await practice.pool.register_agent_from_onboarding(agent)
    await retire()


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


def test_a_fault_in_one_arrival_is_said_and_is_no_fault_of_the_next(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    unit = desk.run.unit()
    desk.live_run.task_runner.get_init_data_for_agent = lambda agent: 1 / 0
    answer = asyncio.run(desk.come("ann"))
    assert (answer["agent_id"], answer["refusal"]) == (None, "technical")
    assert answer["failure_reason"] == TEXTS[Refusal.TECHNICAL]
    assert "could not be let in" in caplog.text
    desk.live_run.task_runner.get_init_data_for_agent = lambda agent: {}
    assert asyncio.run(desk.come("bob"))["agent_id"] is not None
    assert [given.db_id for given, _ in desk.chats] == [unit.db_id]


def test_a_chat_that_can_not_begin_is_ended_on_its_page_and_its_unit_is_free(desk: Desk) -> None:
    unit = desk.run.unit()

    def no_thread(unit: Any, agent: Any) -> None:
        raise RuntimeError("can't start new thread")

    begin, desk.live_run.task_runner.execute_unit = desk.live_run.task_runner.execute_unit, no_thread
    answer = asyncio.run(desk.come("ann"))
    agent = desk.run.db.find_agents(task_run_id=desk.run.task_run.db_id)[0]
    assert answer["agent_id"] == agent.db_id
    assert agent.db_status == AgentState.STATUS_DISCONNECT, "which its page is told"
    assert desk.pool.agents == {}
    desk.live_run.task_runner.execute_unit = begin
    assert asyncio.run(desk.come("bob"))["agent_id"] is not None
    assert [given.db_id for given, _ in desk.chats] == [unit.db_id]


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


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += 0.5


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


@pytest.mark.parametrize("why", ["several workers", "screening", "gold units"])
def test_tasks_of_another_kind_are_served_by_mephistos_own_ways(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    asked: list[Any] = []

    async def own(self: Any, *args: Any) -> None:
        asked.append(args)

    for name in ("register_worker", "register_agent_from_onboarding", "reconnect_agent"):
        monkeypatch.setattr(WorkerPool, name, own)
    if why == "several workers":
        desk.live_run.task_runner.is_concurrent = True
    else:
        mixin = ScreenTaskRequired if why == "screening" else UseGoldUnit
        desk.live_run.blueprint = object.__new__(type("Blueprint", (mixin,), {"__abstractmethods__": frozenset()}))
    asyncio.run(desk.pool.register_worker({"worker_name": " "}, "request"))
    agent: Any = object()
    asyncio.run(desk.pool.register_agent_from_onboarding(agent))
    asyncio.run(desk.pool.reconnect_agent("7", "again"))
    assert asked == [({"worker_name": " "}, "request"), (agent,), ("7", "again")]


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


def test_answers_say_who_the_worker_is(desk: Desk) -> None:
    answer = asyncio.run(desk.come("ann"))
    (worker,) = desk.run.db.find_workers()
    assert (answer["agent_id"], answer["worker_id"]) == (None, worker.db_id)
    desk.run.unit()
    answer = asyncio.run(desk.come("ann", "2"))
    assert answer["worker_id"] == worker.db_id
    assert desk.live_run.client_io.agents_by_registration_id == {"ann-2": answer["agent_id"]}
    assert desk.chats[0][1].get_live_run() is desk.live_run


def test_after_the_end_no_thread_lets_anybody_in(desk: Desk) -> None:
    desk.pool.shutdown()
    assert desk.pool.is_shutdown
    with pytest.raises(RuntimeError):
        desk.pool._arrivals.submit(print)

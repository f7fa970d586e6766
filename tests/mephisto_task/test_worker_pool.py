"""Who is let in, and which unit they get: in a real database, with many who come at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions.blueprints.mixins.screen_task_required import ScreenTaskRequired
from mephisto.abstractions.blueprints.mixins.use_gold_unit import UseGoldUnit
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.operations.worker_pool import WorkerPool

from model_chat.mephisto_task.worker_pool import ARRIVING_AT_ONCE
from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.tests.arrivals import Desk
from model_chat.tests.mephisto_run import PASSED

NONE_LEFT = "no available units"


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


def test_one_worker_who_comes_many_times_keeps_nobody_else_waiting(desk: Desk) -> None:
    for _ in range(3):
        desk.run.unit()
    inside, go_on = threading.Event(), threading.Event()

    def init_data(agent: Any) -> dict[str, Any]:
        if agent.get_worker().worker_name == "ann_sandbox":
            inside.set()
            go_on.wait(60)
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


def test_no_more_than_a_few_are_let_in_at_the_same_moment(desk: Desk) -> None:
    lock, inside, most = threading.Lock(), 0, 0
    several = threading.Event()
    for _ in range(20):
        desk.run.unit()

    def init_data(agent: Any) -> dict[str, Any]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside > 1:
                several.set()
        several.wait(60)
        threading.Event().wait(0.01)  # time enough for more than are allowed
        with lock:
            inside -= 1
        return {}

    desk.live_run.task_runner.get_init_data_for_agent = init_data

    async def everybody() -> None:
        await asyncio.gather(*(desk.come(f"worker{number}") for number in range(20)))

    asyncio.run(everybody())
    assert 1 < most <= ARRIVING_AT_ONCE


# --- the end of a run ---


def test_a_closed_pool_gives_nobody_a_unit(desk: Desk) -> None:
    desk.run.unit()
    desk.pool.close()
    answer = asyncio.run(desk.come("ann"))
    assert answer["agent_id"] is None
    assert desk.chats == []
    assert desk.run.db.find_workers(worker_name="ann_sandbox") == []


def test_a_closed_pool_begins_no_onboarding_and_remembers_who_has_passed_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, onboarding=True)
    desk.run.unit()
    asyncio.run(desk.come("ann"))
    ((agent, _),) = desk.onboardings
    desk.pool.close()
    assert asyncio.run(desk.come("bob"))["agent_id"] is None
    assert len(desk.onboardings) == 1

    async def submit() -> None:
        desk.pool.onboarding_infos[agent.get_agent_id()].request_id = "submission"
        await desk.pool.register_agent_from_onboarding(agent)

    asyncio.run(submit())
    assert desk.answers["submission"]["agent_id"] is None
    assert desk.chats == []
    assert agent.get_worker().get_granted_qualification(PASSED).value == 1
    desk.pool.shutdown()


def test_who_is_being_let_in_is_counted_until_their_chat_has_begun(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.run.unit()
    inside, go_on = threading.Event(), threading.Event()
    give = desk.pool._give_unit

    def slow(*args: Any) -> None:
        inside.set()
        assert go_on.wait(60)
        give(*args)

    monkeypatch.setattr(desk.pool, "_give_unit", slow)

    async def story() -> list[int]:
        coming = asyncio.create_task(desk.come("ann"))
        while not inside.is_set():
            await asyncio.sleep(0.01)
        counts = [desk.pool.arriving]
        go_on.set()
        await coming
        return [*counts, desk.pool.arriving]

    assert asyncio.run(story()) == [1, 0]
    assert len(desk.chats) == 1


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
        desk.pool._threads.submit(print)


@pytest.mark.parametrize(
    ("simulated", "provider"),
    [("no JSON", "mock"), ('{"model": ""}', "mock"), (7, "mock"), ('{"model": "played"}', "prolific")],
)
def test_people_played_by_a_model_say_which_and_take_part_where_nobody_is_paid(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, simulated: object, provider: str
) -> None:
    desk.run.unit()
    played = '{"model": "played", "persona": "anna"}'
    assert asyncio.run(desk.come("ann", simulated=played))["agent_id"] is not None
    known = desk.pool.simulated("ann")
    assert known is not None and known.persona == "anna"
    desk.run.unit()
    monkeypatch.setattr(desk.live_run.provider, "PROVIDER_TYPE", provider)
    refused = asyncio.run(desk.come("bob", simulated=simulated))
    assert (refused["agent_id"], refused["refusal"]) == (None, "simulated")
    assert desk.pool.simulated("bob") is None


def test_a_pause_keeps_newcomers_out_until_it_is_over(desk: Desk) -> None:
    desk.run.unit()
    desk.pool.is_paused = True
    refused = asyncio.run(desk.come("ann"))
    assert (refused["agent_id"], refused["refusal"], len(desk.chats)) == (None, "paused", 0)
    desk.pool.is_paused = False
    assert asyncio.run(desk.come("ann", "2"))["agent_id"] is not None


def test_who_is_in_onboarding_when_a_pause_begins_still_gets_a_conversation(tmp_path: Path) -> None:
    desk = Desk(tmp_path, onboarding=True)
    desk.run.unit()
    asyncio.run(desk.come("ann"))
    ((agent, _),) = desk.onboardings
    desk.pool.is_paused = True

    async def hand_in() -> None:
        desk.pool.onboarding_infos[agent.get_agent_id()].request_id = "submission"
        await desk.pool.register_agent_from_onboarding(agent)

    asyncio.run(hand_in())
    assert desk.answers["submission"]["agent_id"] is not None
    assert len(desk.chats) == 1
    desk.pool.shutdown()


def test_a_worker_whom_another_run_has_entered_meanwhile_is_let_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.run.unit()
    kind = desk.pool.get_live_run().provider.WorkerClass
    make = kind.new_from_provider_data
    tries: list[str] = []

    def after_another(db: Any, crowd_data: dict[str, Any]) -> Any:
        tries.append(crowd_data["worker_name"])
        make(db, crowd_data)
        return make(db, crowd_data)

    monkeypatch.setattr(kind, "new_from_provider_data", after_another)
    answer = asyncio.run(desk.come("ann"))
    assert (answer["failure_reason"], tries) == (None, ["ann"])
    assert [agent.get_worker().worker_name for _, agent in desk.chats] == ["ann_sandbox"]

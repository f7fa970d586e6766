"""Which units are put on offer, and what is offered in place of those that are used up; in a real database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mephisto.operations.task_launcher as mephisto_launcher
import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions.providers.mock.mock_agent import MockAgent
from mephisto.data_model.assignment import InitializationData
from mephisto.data_model.constants.assignment_state import AssignmentState

from model_chat.mephisto_task.task_launcher import TaskUnitLauncher
from model_chat.tests.mephisto_run import Run

LIMIT = 2
Make = Callable[..., "Offer"]


class Offer:
    """A launcher and the units of its run."""

    def __init__(self, run: Run, units: int, **limits: Any) -> None:
        self.run = run
        data = [InitializationData(shared={}, unit_data=[{}]) for _ in range(units)]
        self.launcher = TaskUnitLauncher(run.db, run.task_run, data, **limits)

    def begin(self) -> None:
        self.launcher.create_assignments()
        self.launcher.launch_units("http://localhost")

    def count(self, status: str) -> int:
        return len(self.run.db.find_units(task_run_id=self.run.task_run.db_id, status=status))

    def wait(self, launched: int) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.count(AssignmentState.LAUNCHED) == launched and self.count(AssignmentState.CREATED) == 0:
                return
            time.sleep(0.01)
        raise AssertionError([self.count(status) for status in (AssignmentState.LAUNCHED, AssignmentState.CREATED)])

    def use_up(self) -> None:
        """Let a worker do one of the units on offer."""
        unit = self.run.db.find_units(task_run_id=self.run.task_run.db_id, status=AssignmentState.LAUNCHED)[0]
        agent = MockAgent.new(self.run.db, self.run.worker(), unit)
        agent.update_status(AgentState.STATUS_COMPLETED)
        unit.get_status()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Make]:
    run = Run(tmp_path)
    monkeypatch.setattr(mephisto_launcher, "UNIT_GENERATOR_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(type(run.task_run), "get_task_args", lambda self: run.args.task)
    made: list[Offer] = []

    def offer(units: int, **limits: Any) -> Offer:
        made.append(Offer(run, units, **limits))
        return made[-1]

    yield offer
    for one in made:
        one.launcher.shutdown()


def test_all_units_are_launched_and_then_the_launcher_is_through(make: Make) -> None:
    offer = make(3)
    offer.begin()
    offer.wait(launched=3)
    offer.launcher.units_thread.join(60)
    assert offer.launcher.finished_generators


def test_a_replacement_is_launched_after_the_launcher_was_through(make: Make) -> None:
    offer = make(1)
    offer.begin()
    offer.launcher.units_thread.join(60)
    assert offer.launcher.replace()
    offer.wait(launched=2)


def test_replacements_keep_to_the_limit_of_units_at_once(make: Make) -> None:
    offer = make(LIMIT, max_num_concurrent_units=LIMIT)
    offer.begin()
    offer.launcher.units_thread.join(60)
    assert offer.launcher.replace()
    assert offer.launcher.replace()
    for _ in range(20):
        assert offer.count(AssignmentState.LAUNCHED) <= LIMIT
        threading.Event().wait(0.01)
    assert offer.count(AssignmentState.CREATED) == 2, "they wait until there is room"
    offer.use_up()
    offer.use_up()
    offer.wait(launched=2)


def test_no_more_units_are_launched_than_are_paid_for(make: Make) -> None:
    offer = make(2, most_units=2)
    offer.begin()
    offer.wait(launched=2)
    offer.use_up()
    assert not offer.launcher.replace()
    assert len(offer.launcher.units) == 2


def test_nothing_is_offered_once_the_run_ends(make: Make) -> None:
    offer = make(1)
    offer.begin()
    offer.wait(launched=1)
    offer.launcher.stop_launching()
    assert not offer.launcher.replace()
    assert len(offer.launcher.units) == 1


def test_what_waits_for_room_is_not_launched_once_the_run_ends(make: Make) -> None:
    offer = make(3, max_num_concurrent_units=1)
    offer.begin()
    while offer.count(AssignmentState.LAUNCHED) == 0:
        threading.Event().wait(0.01)
    offer.launcher.stop_launching()
    offer.use_up()
    offer.launcher.units_thread.join(60)
    assert not offer.launcher.units_thread.is_alive()
    assert offer.count(AssignmentState.LAUNCHED) == 0


def test_many_replacements_at_once_are_all_launched(make: Make) -> None:
    offer = make(1)
    offer.begin()
    threads = [threading.Thread(target=offer.launcher.replace) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    offer.wait(launched=11)


def test_a_unit_that_the_platform_refuses_keeps_no_other_from_being_offered(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offer = make(3)
    offer.launcher.create_assignments()
    first, *others = offer.launcher.unlaunched_units.values()
    launch = type(first).launch

    def refusing(unit: Any, url: str) -> Any:
        if unit.db_id == first.db_id:
            raise ConnectionError("no")
        return launch(unit, url)

    monkeypatch.setattr(type(first), "launch", refusing)
    offer.launcher.launch_units("http://localhost")
    end = time.monotonic() + 60
    while not offer.launcher.finished_generators and time.monotonic() < end:
        time.sleep(0.01)
    assert offer.count(AssignmentState.LAUNCHED) == len(others) == 2
    assert f"Unit {first.db_id} can't be put on offer" in caplog.text

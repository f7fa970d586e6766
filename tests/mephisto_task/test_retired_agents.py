"""A run of days keeps the last agents only, and still knows the others."""

from __future__ import annotations

import gc
import sqlite3
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mephisto.data_model.agent as mephisto_agents
import pytest
from mephisto.abstractions.databases.local_singleton_database import MephistoSingletonDB
from mephisto.abstractions.providers.mock.mock_agent import MockAgent
from mephisto.data_model.agent import Agent, OnboardingAgent

from model_chat.conversation.human_agent import HumanAgent
from model_chat.mephisto_task.retired_agents import RetiredAgents
from model_chat.quality import refusals
from model_chat.quality.refusals import MOST_WAITING, ExplainingClientIO, RecentIds
from model_chat.tests import mephisto_run
from model_chat.tests.mephisto_run import Run


@pytest.fixture(params=["local", "singleton"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    if request.param == "singleton":
        monkeypatch.setattr(mephisto_run, "LocalMephistoDB", MephistoSingletonDB)
    return Run(tmp_path)


def live(run: Run) -> Any:
    return SimpleNamespace(task_run=run.task_run)


def finished(run: Run, text: str) -> Any:
    agent = run.agent()
    HumanAgent(agent).say("Speaker 1", text)
    agent.state.finish()
    agent.update_status("completed")
    return agent


def people_counted() -> int:
    return sum(
        sample.name == "active_workers"
        for metric in mephisto_agents.ACTIVE_WORKERS.collect()
        for sample in metric.samples
    )


def test_only_the_last_ones_stay_in_memory_and_the_others_leave_nothing_behind(run: Run) -> None:
    retired = RetiredAgents(run.db, kept=2)
    gone = []
    before = people_counted()
    for number in range(6):
        agent = finished(run, f"Text {number}.")
        gone.append(weakref.ref(agent))
        retired.add(agent)
    ids = [reference().db_id for reference in gone[-2:] if reference() is not None]  # type: ignore[union-attr]  # checked
    del agent
    gc.collect()
    assert [reference() is None for reference in gone] == [True] * 4 + [False] * 2
    assert list(run.db.get_datastore_for_provider("mock").agent_data) == ids
    assert people_counted() - before <= 2


def test_one_whose_page_comes_back_is_read_again_with_all_that_was_said(run: Run) -> None:
    retired = RetiredAgents(run.db, kept=1)
    first, second = finished(run, "First."), finished(run, "Second.")
    agent_id = first.get_agent_id()
    for agent in (first, second):
        retired.add(agent)
    assert retired.get(second.get_agent_id(), live(run)) is second
    again = retired.get(agent_id, live(run))
    assert isinstance(again, MockAgent)
    assert again is not first
    assert again.get_status() == "completed"
    assert [message["text"] for message in again.state.messages] == ["First."]
    assert again.get_live_run().task_run is run.task_run


def test_an_onboarding_is_read_again_too(run: Run) -> None:
    retired = RetiredAgents(run.db, kept=0)
    agent = run.onboarding_agent()
    agent.update_status("rejected")
    retired.add(agent)
    again = retired.get(f"onboarding_{agent.db_id}", live(run))
    assert isinstance(again, OnboardingAgent)
    assert again.get_status() == "rejected"


def test_nobody_is_found_under_what_is_no_agents_id_or_that_of_another_run(run: Run, tmp_path: Path) -> None:
    agent = finished(run, "Mine.")
    retired = RetiredAgents(run.db)
    strange = ["", "x", "-1", "999999", "1e3", "²", "onboarding_", "onboarding_x", f"{agent.db_id}'--", "9" * 40]
    assert [retired.get(agent_id, live(run)) for agent_id in strange] == [None] * len(strange)
    other = SimpleNamespace(task_run=SimpleNamespace(db_id="77"))
    assert retired.get(agent.db_id, other) is None  # type: ignore[arg-type]  # only the run's id is looked at
    assert Agent.get(run.db, agent.db_id).db_id == agent.db_id


def test_a_database_that_fails_is_not_taken_for_an_unknown_agent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(agent_id: str) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(run.db, "get_agent", locked)
    with pytest.raises(sqlite3.OperationalError):
        RetiredAgents(run.db).get("1", live(run))


def test_packets_that_nobody_will_read_do_not_pile_up(run: Run) -> None:
    chatting, over = run.agent(), finished(run, "Bye.")
    chatting.update_status("in task")
    agents = {"1": chatting, "2": over}
    client_io = ExplainingClientIO(run.db)
    client_io.register_run(SimpleNamespace(worker_pool=SimpleNamespace(get_agent_for_id=agents.get)))
    for number in range(2 * MOST_WAITING):
        for agent_id in ("1", "2", "3"):
            client_io._on_live_update(SimpleNamespace(subject_id=agent_id, data={"number": number}), "channel")
    assert chatting.pending_actions.qsize() == MOST_WAITING
    assert chatting.pending_actions.get_nowait() == {"number": 0}
    assert over.pending_actions.empty()


def test_of_packets_that_have_come_the_last_ids_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "SEEN", 3)
    seen = RecentIds()
    for update_id in ("a", "b", None, "c", "c"):
        seen.add(update_id)
    assert [update_id in seen for update_id in ("a", "b", "c", None)] == [False, True, True, True]

"""What happens around a conversation inside Mephisto: real database, real agents, real models; the test plays the page."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions._subcomponents.task_runner import RunningUnit
from mephisto.data_model.exceptions import AgentDisconnectedError

from model_chat import worlds
from model_chat.conversation.quota import ConversationQuota, ModelCount
from model_chat.mephisto_task import task_runner
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.mephisto_task.worker_pool import TaskWorkerPool
from model_chat.quality.blocks import BlockReason, is_blocked, platform_id
from model_chat.tests.mephisto_run import Page, Run
from model_chat.tests.mephisto_task.stage import Stage
from model_chat.tests.parlai_agents import RAISE
from model_chat.tests.scripted_human import NICKNAME, chat_options


def test_a_complete_conversation_is_saved_twice_from_one_dictionary(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.run()
    (file,), (record,) = on.files(), on.recorded()
    assert file == record
    assert file["status"] == "complete"
    assert file["workers"] == [on.agent.get_worker().worker_name]
    assert file["dialog"][-1]["final_rating"] == "4"
    finals = [found["final_chat_data"] for found in on.agent.state.messages if "final_chat_data" in found]
    assert finals == [file]
    assert on.controls("ended") == [{"control": "ended", "outcome": "complete", "reason": "", "task_done": True}]
    assert on.count() == ModelCount(NICKNAME, 1, 0, 1)
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED
    assert on.launcher.units == []


def test_the_page_is_never_sent_what_is_saved(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.agent.state.set_init_state({})
    on.run()
    sent = json.dumps(on.runner.get_init_data_for_agent(on.agent))
    assert NICKNAME not in sent
    assert "model_opt" not in sent
    assert '"Hi."' in sent


def test_a_worker_who_leaves_gives_the_place_back_and_what_was_said_is_kept(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.leave_at = 1
    with pytest.raises(AgentDisconnectedError):
        on.run()
    (file,) = on.files()
    assert (file["status"], file["reason"]) == ("incomplete", "disconnected: the worker's page went away")
    assert on.recorded() == [file]
    assert on.count() == ModelCount(NICKNAME, 0, 0, 1)
    assert on.launcher.units == [], "the unit itself is offered again"


def test_a_worker_who_leaves_before_saying_anything_leaves_no_file(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.leave_at = 0
    with pytest.raises(AgentDisconnectedError):
        on.run()
    assert on.files() == []
    assert on.count() == ModelCount(NICKNAME, 0, 0, 1)


def test_a_model_that_fails_costs_the_worker_nothing(stage: Callable[..., Stage]) -> None:
    on = stage("fine.", RAISE)
    on.run()
    (file,) = on.files()
    assert file["status"] == "incomplete"
    assert file["reason"].startswith("model failed: ")
    (ended,) = on.controls("ended")
    assert (ended["outcome"], ended["reason"]) == ("incomplete", ""), "not the words for an error of ours"
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED
    assert on.count() == ModelCount(NICKNAME, 0, 0, 1)
    assert len(on.launcher.units) == 1, "one more is offered, for this one is paid and does not count"


def test_what_a_conversation_is_about_is_on_record_before_its_worker_says_anything(stage: Callable[..., Stage]) -> None:
    on = stage()
    heads: list[Any] = []

    def react(update: dict[str, Any]) -> None:
        if update["task_data"].get("control") == "your_turn":
            heads.append(type(on.agent.state)(on.agent).head)  # as the next run would read it
        Stage.react(on, update)

    on.react = react  # type: ignore[method-assign]  # the page of this test
    on.run()
    head = heads[0]
    assert head["task_description"]["model_nickname"] == NICKNAME
    assert head["workers"] == [platform_id(on.agent.get_worker())]
    assert head["task_name"] == "study_local"


def test_a_worker_is_blocked_here_before_they_are_told_of_the_end_and_on_the_platform_afterwards(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    on = stage()
    on.runner._block_name = "blocked"
    worker = on.agent.get_worker()
    told: list[int] = []  # how many times the page had been told of the end when the platform was
    at_the_end: list[bool] = []
    monkeypatch.setattr(
        worlds.ModelChatWorld, "block_reasons", lambda world: [(BlockReason.ATTENTION, "two checks failed")]
    )
    monkeypatch.setattr(type(worker), "grant_crowd_qualification", lambda *args: told.append(len(on.controls("ended"))))

    def react(update: dict[str, Any]) -> None:
        if update["task_data"].get("control") == "ended":
            at_the_end.append(is_blocked(worker, "blocked"))
        Stage.react(on, update)

    on.react = react  # type: ignore[method-assign]  # the page of this test
    on.run()
    assert at_the_end == [True]
    assert told == [1]


def test_a_worker_who_closes_the_page_instead_of_submitting_has_done_the_work(
    stage: Callable[..., Stage], mephisto_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mephisto_run.args.task, "submission_timeout", 0)
    on = stage()
    on.submits = False
    on.run()
    assert on.count().done == 1
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


def test_a_unit_that_is_not_needed_ends_at_once(stage: Callable[..., Stage]) -> None:
    on = stage(quota=ConversationQuota({NICKNAME: 0}))
    on.run()
    assert on.controls("ended")[0]["reason"] == task_runner.NO_MORE_WORK
    assert on.files() == []
    assert on.launcher.units == []
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


@pytest.mark.parametrize("leaves", [False, True])
def test_the_pool_lets_go_of_an_agent_whose_part_is_over(
    stage: Callable[..., Stage], mephisto_run: Run, leaves: bool
) -> None:
    on = stage()
    on.leave_at = 0 if leaves else None
    pool = TaskWorkerPool(mephisto_run.db)
    on.shared.live_run.worker_pool = pool  # type: ignore[union-attr]  # set by the stage
    pool.agents[on.agent.get_agent_id()] = on.agent
    on.runner.running_units[on.unit.db_id] = RunningUnit(on.unit, on.agent, threading.current_thread())
    with Page(on.agent, on.react):
        on.runner._launch_and_run_unit(on.unit, on.agent)
    assert pool.agents == {}
    pool.shutdown()


@pytest.mark.parametrize(("workers", "is_concurrent"), [(1, False), (2, True), (3, True)])
def test_a_world_of_several_workers_is_known_by_its_parameters(
    mephisto_run: Run, monkeypatch: pytest.MonkeyPatch, workers: int, is_concurrent: bool
) -> None:
    monkeypatch.setattr(worlds, "get_world_params", lambda: {"agent_count": workers})
    shared = ModelChatSharedState(world_module=worlds, world_opt=chat_options())
    assert mephisto_run.runner(shared).is_concurrent is is_concurrent


@pytest.mark.parametrize("reached", [True, False])
def test_at_the_limit_of_what_models_cost_nobody_gets_a_unit_and_no_conversation_begins(
    stage: Callable[..., Stage], reached: bool
) -> None:
    class Spend:
        def is_reached(self) -> bool:
            return reached

    on = stage(spend=Spend())
    on.shared.spend = Spend()  # type: ignore[assignment]  # all that is asked of it
    worker = on.agent.get_worker()
    assert on.runner.filter_units_for_worker([on.unit], worker) == ([] if reached else [on.unit])
    on.run()
    assert [chat["status"] for chat in on.files()] == ([] if reached else ["complete"])
    (ended,) = on.controls("ended")
    assert ended["outcome"] == ("incomplete" if reached else "complete")
    assert on.count() == ModelCount(NICKNAME, 0 if reached else 1, 0, 1), "nobody holds a place"

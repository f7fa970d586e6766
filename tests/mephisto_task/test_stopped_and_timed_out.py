"""Conversations that end because the run is stopped or because their worker takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.data_model.exceptions import AgentTimeoutError
from parlai.core.opt import Opt

from model_chat.conversation.quota import ModelCount
from model_chat.mephisto_task import task_runner
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.mephisto_task.stage import Stage
from model_chat.tests.parlai_agents import GATES, Gate, GatedAgent
from model_chat.tests.scripted_human import NICKNAME

STOPPED_IN_RECORD = "stopped: the run was stopped during the conversation"


def stop(on: Stage) -> threading.Thread:
    """End the run, as its operator does, beside an open conversation."""
    on.launcher.keep_launching_units = False
    on.runner.running_units[on.unit.db_id].thread = threading.Thread(target=lambda: None)
    on.runner.running_units[on.unit.db_id].thread.start()
    thread = threading.Thread(target=on.runner.shutdown)
    thread.start()
    return thread


@pytest.mark.parametrize("ask", ["message", "final_rating"])
def test_a_run_that_stops_ends_the_conversation_as_stopped_and_lets_the_worker_submit(
    stage: Callable[..., Stage], ask: str
) -> None:
    on = stage()

    def react(update: dict[str, Any]) -> None:
        data = update["task_data"]
        if data.get("control") == "your_turn" and data["ask"] == ask and on.sent:
            stop(on).join(30)
        else:
            Stage.react(on, update)

    on.react = react  # type: ignore[method-assign]  # the page of this test
    on.run()
    (file,) = on.files()
    assert (file["status"], file["reason"]) == ("incomplete", STOPPED_IN_RECORD)
    assert on.recorded() == [file]
    (ended,) = on.controls("ended")
    assert (ended["outcome"], ended["cause"], ended["reason"]) == ("incomplete", "stopped", task_runner.STUDY_STOPPED)
    assert on.count() == ModelCount(NICKNAME, 0, 0, 1)
    assert on.launcher.units == [], "nothing is offered while the run ends"
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED, "the worker is paid"


def test_a_run_that_stops_while_a_model_replies_is_no_failure_of_the_model(stage: Callable[..., Stage]) -> None:
    gate = GATES["gate"] = Gate()
    on = stage(models=ModelPool([LoadedModel(NICKNAME, GatedAgent(Opt(gate="gate", script=[])), None)], 1, 600))
    gate.open.set()
    stopped: list[threading.Thread] = []

    def react(update: dict[str, Any]) -> None:
        data = update["task_data"]
        if data.get("control") == "your_turn":
            gate.open.clear()
            while gate.entered.acquire(blocking=False):
                pass  # of replies that have been given
        Stage.react(on, update)
        if data.get("control") == "your_turn" and not stopped:
            assert gate.entered.acquire(timeout=30), "the model is at work"
            stopped.append(stop(on))

    on.react = react  # type: ignore[method-assign]  # the page of this test
    on.run()
    gate.open.set()
    stopped[0].join(30)
    del GATES["gate"]
    (file,) = on.files()
    assert file["reason"] == STOPPED_IN_RECORD
    assert on.controls("model_failed") == []
    assert [ended["cause"] for ended in on.controls("ended")] == ["stopped"]


def test_whoever_has_finished_when_the_run_stops_has_done_the_work(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.submits = False

    def react(update: dict[str, Any]) -> None:
        Stage.react(on, update)
        if update["task_data"].get("control") == "ended":
            stop(on).join(30)

    on.react = react  # type: ignore[method-assign]  # the page of this test
    on.run()
    assert [ended["outcome"] for ended in on.controls("ended")] == ["complete"]
    assert on.count().done == 1
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


def run_out_of_time(on: Stage, after: int) -> None:
    """Run a conversation whose worker is silent after so many messages."""

    def react(update: dict[str, Any]) -> None:
        if update["task_data"].get("control") != "your_turn" or on.sent < after:
            Stage.react(on, update)

    on.react = react  # type: ignore[method-assign]  # the page of this test
    on.run()


def test_who_runs_out_of_time_hands_in_what_there_is_and_is_paid(stage: Callable[..., Stage]) -> None:
    on = stage(max_resp_time=1)
    run_out_of_time(on, after=1)
    (file,) = on.files()
    assert (file["status"], file["reason"]) == (
        "incomplete",
        "timeout: the worker took longer than mephisto.blueprint.max_resp_time",
    )
    assert [ended["cause"] for ended in on.controls("ended")] == ["timeout"]
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED
    assert on.count() == ModelCount(NICKNAME, 0, 0, 1)
    assert len(on.launcher.units) == 1, "this one is paid and does not count"


def test_who_runs_out_of_time_without_a_word_leaves_the_unit_to_somebody_else(stage: Callable[..., Stage]) -> None:
    on = stage(max_resp_time=1)
    with pytest.raises(AgentTimeoutError):
        run_out_of_time(on, after=0)
    assert on.controls("ended") == [], "there is nothing to hand in"
    assert on.agent.get_status() == AgentState.STATUS_TIMEOUT
    assert on.launcher.units == [], "the unit itself is offered again"
    assert on.files() == []


@pytest.mark.parametrize("replaced", [True, False])
def test_who_runs_out_of_time_and_does_not_hand_in_is_not_paid(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    monkeypatch.setattr(task_runner, "HAND_IN_SECONDS", 0.05)
    on = stage(max_resp_time=1)
    on.submits = False
    on.launcher.keep_launching_units = replaced
    idle: list[bool] = []
    monkeypatch.setattr(type(on.agent), "await_submit", lambda agent, timeout: waits(idle, on, agent))
    with pytest.raises(AgentTimeoutError):
        run_out_of_time(on, after=1)
    assert idle == [True], "the run does not wait for them"
    assert on.agent.get_status() == AgentState.STATUS_TIMEOUT
    assert len(on.launcher.units) == replaced
    assert (on.unit.db_status == AssignmentState.EXPIRED) is replaced, "else the unit itself is offered again"
    assert len(on.files()) == 1


def waits(idle: list[bool], on: Stage, agent: Any) -> bool:
    idle.append(on.runner.is_idle)
    raise AgentTimeoutError(0, agent.db_id)

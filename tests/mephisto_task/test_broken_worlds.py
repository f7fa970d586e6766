"""Whatever raises in a conversation's world, its worker can submit, and nothing is saved or counted twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.exceptions import AgentDisconnectedError

from model_chat import worlds
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.quota import ConversationQuota, ModelCount
from model_chat.mephisto_task import task_runner
from model_chat.mephisto_task.task_runner import ModelChatTaskRunner
from model_chat.tests.mephisto_task.stage import Stage, fail
from model_chat.tests.scripted_human import NICKNAME


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("method", ["begin", "_take_message", "get_custom_task_data", "__init__"])
def test_whatever_breaks_the_worker_is_told_and_can_submit(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, method: str, error: type[BaseException]
) -> None:
    def broken(self: Any, *args: Any) -> Any:
        raise error("a bug")

    monkeypatch.setattr(worlds.ModelChatWorld, method, broken)
    on = stage()
    on.run()
    (ended,) = on.controls("ended")
    assert ended["outcome"] == "incomplete"
    assert ended["task_done"] is True
    assert on.count() == ModelCount(NICKNAME, 0, 0, 1)
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED
    assert len(on.launcher.units) == 1


@pytest.mark.parametrize("method", ["settle", "shutdown", "block_reasons"])
def test_what_fails_after_a_conversation_is_saved_neither_saves_nor_replaces_it_again(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def broken(self: Any, *args: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(worlds.ModelChatWorld, method, broken)
    on = stage()
    on.run()
    assert [file["status"] for file in on.files()] == ["complete"]
    assert on.recorded() == on.files()
    assert [ended["outcome"] for ended in on.controls("ended")] == ["complete"]
    assert on.launcher.units == []
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


def test_a_conversation_that_was_counted_is_not_counted_again_when_its_worker_can_not_be_told(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    on = stage()
    on.submits = False
    failed: list[str] = []
    control = HumanAgent.control

    def once_broken(self: Any, name: str, **data: Any) -> None:
        if name == "ended" and not failed:
            failed.append(name)
            on.agent.handle_submit({})
            raise ZeroDivisionError("a bug")
        control(self, name, **data)

    monkeypatch.setattr(HumanAgent, "control", once_broken)
    on.run()
    assert [file["status"] for file in on.files()] == ["complete"]
    assert on.recorded() == on.files()
    assert on.count() == ModelCount(NICKNAME, 1, 0, 1)
    assert on.launcher.units == []
    assert [ended["reason"] for ended in on.controls("ended")] == [task_runner.TECHNICAL_PROBLEM]
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


@pytest.mark.parametrize("method", ["abandon", "settle", "shutdown"])
def test_a_world_that_can_not_even_end_frees_a_worker_who_has_left(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(worlds.ModelChatWorld, method, broken)
    on = stage()
    on.leave_at = 1
    with pytest.raises(AgentDisconnectedError):
        on.run()
    assert len(on.files()) == 1
    assert on.count().in_flight == 0


def test_a_conversation_that_breaks_down_after_its_end_counts(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = worlds.ModelChatWorld.parley

    def broken_at_the_end(self: Any) -> None:
        take(self)
        if self.episode_done():
            raise ZeroDivisionError("a bug")

    monkeypatch.setattr(worlds.ModelChatWorld, "parley", broken_at_the_end)
    on = stage()
    on.run()
    assert [file["status"] for file in on.files()] == ["complete"]
    assert on.count() == ModelCount(NICKNAME, 1, 0, 1)
    assert on.launcher.units == []


@pytest.mark.parametrize("world", [None, object()])
def test_what_is_no_world_is_said_to_the_worker(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, world: Any
) -> None:
    monkeypatch.setattr(worlds, "make_world", lambda *args, **kwargs: world)
    on = stage()
    on.run()
    assert [ended["reason"] for ended in on.controls("ended")] == [task_runner.TECHNICAL_PROBLEM]
    assert len(on.launcher.units) == 1
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


def test_a_worker_without_a_place_can_submit_even_if_telling_why_fails(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelChatTaskRunner, "end_without_reservation", fail)
    on = stage(quota=ConversationQuota({NICKNAME: 0}))
    on.run()
    assert [ended["reason"] for ended in on.controls("ended")] == [task_runner.TECHNICAL_PROBLEM]
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


def test_a_world_is_made_once_even_when_making_it_fails(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def make_world(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        raise TypeError("a bug of the world's own")

    monkeypatch.setattr(worlds, "make_world", make_world)
    on = stage()
    on.run()
    assert len(calls) == 1
    assert "initialization_data" in calls[0]
    assert on.controls("ended")[0]["reason"] == task_runner.TECHNICAL_PROBLEM

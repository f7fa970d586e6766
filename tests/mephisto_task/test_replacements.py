"""When one more unit is offered in place of a conversation that failed, and when no more are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState

from model_chat import worlds
from model_chat.quality import failures
from model_chat.quality.blocks import platform_id
from model_chat.tests.mephisto_run import Run
from model_chat.tests.mephisto_task.stage import Launcher, Stage, fail
from model_chat.tests.parlai_agents import RAISE


def test_a_replacement_that_can_not_be_offered_costs_the_worker_nothing(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    on = stage("fine.", RAISE)
    monkeypatch.setattr(Launcher, "replace", fail)
    on.run()
    assert len(on.files()) == len(on.recorded()) == 1
    assert [ended["outcome"] for ended in on.controls("ended")] == ["incomplete"]
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


def test_after_failures_with_many_workers_in_a_row_no_more_units_are_paid_for(stage: Callable[..., Stage]) -> None:
    on = stage()
    for number in range(failures.MOST_WORKERS_IN_A_ROW + 5):
        on.runner.failures.failed(f"worker {number}")
        on.runner._launch_replacement()
    assert len(on.launcher.units) == failures.MOST_WORKERS_IN_A_ROW


def test_failures_of_one_worker_cannot_end_the_study(mephisto_run: Run, tmp_path: Path) -> None:
    on = Stage(mephisto_run, tmp_path / "chats", RAISE)
    for number in range(failures.MOST_WORKERS_IN_A_ROW + 2):
        on.run()
        assert len(on.launcher.units) == number + 1
        on.agent = mephisto_run.agent(on.agent.get_worker())
        on.unit = on.agent.get_unit()


@pytest.mark.parametrize("script", [(), (RAISE,)])
def test_a_worker_gets_no_more_after_three_failures_in_a_row_and_a_success_starts_the_count_anew(
    stage: Callable[..., Stage], script: tuple[str, ...]
) -> None:
    on = stage(*script)
    worker, other = on.agent.get_worker(), object()
    name = platform_id(worker)
    for _ in range(failures.MOST_OF_A_WORKER - 1):
        on.runner.failures.failed(name)
    assert on.runner.filter_units_for_worker([other], worker) == [other]
    on.run()
    assert on.runner.filter_units_for_worker([other], worker) == ([] if script else [other])
    on.runner.failures.failed(name)
    assert on.runner.filter_units_for_worker([other], worker) == ([] if script else [other])


def test_a_conversation_that_breaks_down_in_the_world_counts_as_the_workers_failure(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    on = stage()
    monkeypatch.setattr(worlds.ModelChatWorld, "begin", fail)
    for _ in range(failures.MOST_OF_A_WORKER):
        on.runner.failures.failed("another")
    on.run()
    assert not on.runner.failures.too_many_of(platform_id(on.agent.get_worker()))
    for _ in range(failures.MOST_OF_A_WORKER - 1):
        on.runner.failures.failed(platform_id(on.agent.get_worker()))
    assert on.runner.failures.too_many_of(platform_id(on.agent.get_worker()))


@pytest.mark.parametrize("ending", ["stopping", "no run"])
def test_nothing_is_offered_once_the_run_ends(stage: Callable[..., Stage], ending: str) -> None:
    on = stage()
    if ending == "stopping":
        on.launcher.keep_launching_units = False
    else:
        on.shared.live_run = None
    on.runner._launch_replacement()
    assert on.launcher.units == []


@pytest.mark.parametrize(("offers", "is_stopping", "warns"), [(True, False, 0), (False, False, 1), (False, True, 0)])
def test_a_conversation_that_is_not_replaced_is_said_unless_the_run_stops(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture, offers: bool, is_stopping: bool, warns: int
) -> None:
    on = stage()
    on.launcher.keep_launching_units = offers
    on.runner._is_stopping = is_stopping
    assert on.runner._launch_replacement() is offers
    said = [message for message in caplog.messages if "in place of one that is used up" in message]
    assert len(said) == warns


def test_a_runner_that_was_shut_down_says_no_missing_replacement(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    on = stage()
    on.launcher.keep_launching_units = False
    on.runner.shutdown()
    assert on.runner._launch_replacement() is False
    assert not [message for message in caplog.messages if "in place of one that is used up" in message]

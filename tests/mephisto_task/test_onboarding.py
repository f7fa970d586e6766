"""A worker's onboarding inside Mephisto: how it ends, and what is kept of it."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions._subcomponents.task_runner import RunningOnboarding
from mephisto.data_model.exceptions import AgentDisconnectedError, AgentShutdownError, AgentTimeoutError

from model_chat import worlds
from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.mephisto_task import task_runner
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.mephisto_task.task_runner import ModelChatTaskRunner
from model_chat.records.journal import JOURNAL_NAME
from model_chat.tests.mephisto_run import PASSED, Page, Run, arrive
from model_chat.tests.scripted_human import BUCKETS, chat_options, message
from model_chat.worlds import OnboardingOptions

RIGHT = [[["bucket_0"]]]
WRONG = [[["bucket_1"]]]


class OnboardingStage:
    """A runner and a worker who sends one answer sheet after another."""

    def __init__(self, run: Run, *sheets: Any) -> None:
        config = {"min_correct": 1, "max_incorrect": 0, "max_failures_allowed": 1}
        dialog = [[{"agent_idx": 1, "text": "Hello.", "answers": ["bucket_0"]}]]
        onboarding = OnboardingOptions(OnboardingConfig.model_validate({**config, "dialog": dialog}), BUCKETS, 60)
        self.shared = ModelChatSharedState(
            world_module=worlds, world_opt=chat_options(), onboarding_world_opt=onboarding
        )
        self.runner: ModelChatTaskRunner = run.runner(self.shared)
        self.agent = run.onboarding_agent()
        self.sheets = list(sheets)

    def react(self, update: dict[str, Any]) -> None:
        control = update["task_data"]["control"]
        if control in ("onboarding_start", "onboarding_retry"):
            if self.sheets:
                arrive(self.agent, message("", onboarding_answers=self.sheets.pop(0)))
            else:
                self.agent.update_status(AgentState.STATUS_DISCONNECT)
        elif control == "onboarding_passed":
            self.agent.handle_submit({})

    def register(self) -> None:
        running = RunningOnboarding(self.agent, threading.current_thread())
        self.runner.running_onboardings[self.agent.get_agent_id()] = running

    def run(self) -> None:
        self.register()
        self.agent.update_status(AgentState.STATUS_ONBOARDING)
        with Page(self.agent, self.react):
            self.runner.run_onboarding(self.agent)

    def qualification(self, name: str) -> int | None:
        granted = self.agent.get_worker().get_granted_qualification(name)
        return None if granted is None else int(granted.value)


@pytest.mark.parametrize("sheets", [[RIGHT], [WRONG, RIGHT]])
def test_a_worker_who_passes_onboarding_waits_for_a_unit(mephisto_run: Run, sheets: list[Any]) -> None:
    on = OnboardingStage(mephisto_run, *sheets)
    on.run()
    assert on.agent.get_status() == AgentState.STATUS_WAITING
    assert worlds.validate_onboarding(on.agent.state.get_data())
    assert on.qualification(PASSED) == 1, "whatever becomes of their page"


@pytest.mark.parametrize(
    ("sheets", "told", "value"),
    [([RIGHT], "onboarding_passed", 1), ([WRONG, WRONG], "onboarding_failed", 0)],
    ids=["passes", "fails"],
)
def test_the_result_of_an_onboarding_is_kept_before_the_page_is_told_for_it_may_come_back_at_once(
    mephisto_run: Run, monkeypatch: pytest.MonkeyPatch, sheets: list[Any], told: str, value: int
) -> None:
    on = OnboardingStage(mephisto_run, *sheets)
    kept: dict[str, tuple[int | None, str]] = {}
    observe = on.agent.observe

    def note(update: dict[str, Any]) -> None:
        kept[update["task_data"]["control"]] = on.qualification(PASSED), on.agent.db_status
        observe(update)

    monkeypatch.setattr(on.agent, "observe", note)
    on.run()
    assert kept["onboarding_start"] == (None, AgentState.STATUS_ONBOARDING)
    status = AgentState.STATUS_WAITING if value else AgentState.STATUS_ONBOARDING
    assert kept[told] == (value, status)


@pytest.mark.parametrize("sheets", [[RIGHT], [WRONG, WRONG], []], ids=["passes", "fails", "leaves"])
def test_an_onboarding_ends_its_world_once_and_its_state_is_written_whole(
    mephisto_run: Run, monkeypatch: pytest.MonkeyPatch, sheets: list[Any]
) -> None:
    ended: list[Any] = []
    shutdown = worlds.ModelChatOnboardWorld.shutdown
    monkeypatch.setattr(worlds.ModelChatOnboardWorld, "shutdown", lambda world: (ended.append(world), shutdown(world)))
    on = OnboardingStage(mephisto_run, *sheets)
    with contextlib.suppress(AgentDisconnectedError):
        on.run()
    assert len(ended) == 1
    state = Path(on.agent.state._get_expected_data_file())
    told = [message["task_data"]["control"] for message in on.agent.state.messages if "task_data" in message]
    kept = json.loads(state.read_bytes())["outputs"]["messages"]
    assert [message["task_data"]["control"] for message in kept if "task_data" in message] == told
    assert told[0] == "onboarding_start"
    assert not (state.parent / JOURNAL_NAME).exists()


def test_a_worker_who_fails_onboarding_is_disqualified_and_holds_no_thread(
    mephisto_run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    on = OnboardingStage(mephisto_run, WRONG, WRONG)
    before = threading.active_count()
    with caplog.at_level("INFO", "model_chat.mephisto_task.task_runner"):
        on.run()
    counts = "1 started, 0 passed, 1 failed, 0 left"
    assert on.runner.shared_state.onboarding_text() == counts
    assert not any(counts in message for message in caplog.messages), "the progress shows them already"
    assert threading.active_count() <= before
    assert on.agent.get_status() == AgentState.STATUS_REJECTED
    assert not worlds.validate_onboarding(on.agent.state.get_data())
    assert on.qualification(PASSED) == 0
    assert on.qualification(f"{PASSED}-failed") == 0
    assert on.shared.onboarding_counts() == {"started": 1, "passed": 0, "failed": 1, "left": 0}


def test_a_worker_who_leaves_onboarding_is_not_disqualified(mephisto_run: Run) -> None:
    on = OnboardingStage(mephisto_run)
    with pytest.raises(AgentDisconnectedError):
        on.run()
    assert on.qualification(PASSED) is None
    assert on.qualification(f"{PASSED}-failed") is None
    assert on.shared.onboarding_counts()["left"] == 1


def test_an_onboarding_that_is_open_when_the_run_stops_ends_and_does_not_count_against_the_worker(
    mephisto_run: Run,
) -> None:
    on = OnboardingStage(mephisto_run)
    on.react = lambda update: on.runner.stop_onboardings()  # type: ignore[method-assign]  # the page of this test
    with pytest.raises(AgentShutdownError):
        on.run()
    ended = on.agent.state.messages[-1]["task_data"]
    assert (ended["control"], ended["cause"], ended["reason"]) == ("ended", "stopped", task_runner.ONBOARDING_STOPPED)
    assert on.qualification(PASSED) is None
    assert on.qualification(f"{PASSED}-failed") is None


def test_who_has_passed_onboarding_when_the_run_stops_still_hands_in(mephisto_run: Run) -> None:
    on = OnboardingStage(mephisto_run)
    on.register()
    on.agent.update_status(AgentState.STATUS_WAITING)
    on.runner.stop_onboardings()
    assert not on.agent.is_shutdown
    assert not on.agent.did_submit.is_set()


def test_who_passes_onboarding_and_never_hands_in_is_timed_out_and_has_passed(mephisto_run: Run) -> None:
    on = OnboardingStage(mephisto_run, RIGHT)

    def react(update: dict[str, Any]) -> None:
        if update["task_data"]["control"] != "onboarding_passed":
            OnboardingStage.react(on, update)

    on.react = react  # type: ignore[method-assign]  # the page of this test
    on.runner._submission_timeout = 0
    with pytest.raises(AgentTimeoutError):
        on.run()
    assert on.agent.get_status() == AgentState.STATUS_TIMEOUT
    assert on.qualification(PASSED) == 1


def test_an_onboarding_that_breaks_down_is_said_and_disqualifies_nobody(
    mephisto_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> bool:
        raise ZeroDivisionError("a researcher's bug")

    monkeypatch.setattr(worlds.ModelChatOnboardWorld, "check_onboarding_answers", broken)
    on = OnboardingStage(mephisto_run, RIGHT)
    on.run()
    controls = [update["task_data"]["control"] for update in on.agent.state.messages]
    assert controls == ["onboarding_start", "onboarding_failed"]
    assert on.qualification(PASSED) is None
    assert on.agent.get_status() == AgentState.STATUS_DISCONNECT


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("where", ["make_onboarding_world", "parley", "episode_done", "passed", "prep_save_data"])
def test_an_onboarding_world_that_raises_anywhere_is_said_and_ends(
    mephisto_run: Run, monkeypatch: pytest.MonkeyPatch, where: str, error: type[BaseException]
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise error("a researcher's bug")

    if where == "make_onboarding_world":
        monkeypatch.setattr(worlds, where, broken)
    else:
        replacement = property(broken) if where == "passed" else broken
        monkeypatch.setattr(worlds.ModelChatOnboardWorld, where, replacement)
    on = OnboardingStage(mephisto_run, RIGHT)
    on.run()
    controls = [update["task_data"] for update in on.agent.state.messages if "task_data" in update]
    assert controls[-1] == {
        "control": "onboarding_failed",
        "reason": "This page has a technical problem. Please come back later.",
    }
    assert on.agent.get_status() == AgentState.STATUS_DISCONNECT
    assert on.qualification(f"{PASSED}-failed") is None
    has_been_told = where in ("passed", "prep_save_data")
    assert on.qualification(PASSED) == (1 if has_been_told else None), "who has passed has passed"


@pytest.mark.parametrize("where", ["abandon", "shutdown"])
@pytest.mark.parametrize("sheets", [[RIGHT], []])
def test_an_onboarding_world_that_can_not_end_changes_nothing(
    mephisto_run: Run, monkeypatch: pytest.MonkeyPatch, where: str, sheets: list[Any]
) -> None:
    def broken(self: Any) -> Any:
        raise ZeroDivisionError("a researcher's bug")

    monkeypatch.setattr(worlds.ModelChatOnboardWorld, where, broken)
    on = OnboardingStage(mephisto_run, *sheets)
    if sheets:
        on.run()
        assert on.agent.get_status() == AgentState.STATUS_WAITING
    else:
        with pytest.raises(AgentDisconnectedError):
            on.run()


def test_what_an_onboarding_world_saves_must_be_json(mephisto_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds.ModelChatOnboardWorld, "prep_save_data", lambda self, agents: {"custom_data": object()})
    on = OnboardingStage(mephisto_run, RIGHT)
    on.run()
    assert on.qualification(PASSED) == 1
    assert on.agent.get_status() == AgentState.STATUS_DISCONNECT
    assert type(on.agent.state)(on.agent).messages[-1]["task_data"]["control"] == "onboarding_failed"


def test_a_worker_who_passed_in_another_tab_is_not_disqualified_by_this_one(mephisto_run: Run) -> None:
    on = OnboardingStage(mephisto_run, WRONG, WRONG)
    on.agent.get_worker().db.grant_qualification(
        on.agent.db.find_qualifications(PASSED)[0].db_id, on.agent.worker_id, value=1
    )
    on.run()
    assert on.qualification(PASSED) == 1
    assert on.qualification(f"{PASSED}-failed") is None

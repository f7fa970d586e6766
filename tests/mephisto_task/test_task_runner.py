"""What happens around a conversation inside Mephisto: real database, real agents, real models; the test plays the page."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions._subcomponents.task_runner import RunningOnboarding, RunningUnit
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.data_model.exceptions import AgentDisconnectedError, AgentShutdownError, AgentTimeoutError
from parlai.core.opt import Opt

from model_chat import worlds
from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.quota import ConversationQuota, ModelCount
from model_chat.conversation.study_flow import FlowOptions
from model_chat.mephisto_task import saving, task_runner
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.mephisto_task.task_runner import ModelChatTaskRunner
from model_chat.mephisto_task.worker_pool import TaskWorkerPool
from model_chat.quality import failures
from model_chat.quality.blocks import BlockReason, is_blocked, platform_id
from model_chat.records.journal import JOURNAL_NAME
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.mephisto_run import PASSED, Page, Run, arrive
from model_chat.tests.parlai_agents import GATES, RAISE, Gate, GatedAgent
from model_chat.tests.scripted_human import BUCKETS, NICKNAME, chat_options, message, rating
from model_chat.worlds import OnboardingOptions


class Launcher:
    """Stands for Mephisto's launcher, which only a running task has: counts the units it is asked for."""

    def __init__(self) -> None:
        self.keep_launching_units = True
        self.units: list[Any] = []

    def replace(self) -> bool:
        if self.keep_launching_units:
            self.units.append("a unit")
        return self.keep_launching_units


class Stage:
    """A runner, its shared state, and one agent with a page that answers every request properly."""

    def __init__(self, run: Run, folder: Path, *script: str, **changes: Any) -> None:
        self.options = chat_options(list(script), **changes)
        self.shared = ModelChatSharedState(
            world_module=worlds, world_opt=self.options, chat_data_folder=folder, units=1
        )
        self.launcher = Launcher()
        self.shared.live_run = type("LiveRun", (), {"task_launcher": self.launcher, "worker_pool": None})()
        self.runner = run.runner(self.shared)
        self.agent = run.agent()
        self.unit = self.agent.get_unit()
        self.folder = folder
        self.submits = True
        self.sent = 0
        self.leave_at: int | None = None

    def react(self, update: dict[str, Any]) -> None:
        data = update["task_data"]
        if data.get("control") == "your_turn":
            if self.sent == self.leave_at:
                self.agent.update_status(AgentState.STATUS_DISCONNECT)
                return
            self.sent += 1
            arrive(
                self.agent, rating(4, ticks="bucket_0") if data["ask"] == "final_rating" else message("Hi.", "bucket_1")
            )
        elif data.get("control") == "ended" and self.submits:
            self.agent.handle_submit({})

    def run(self) -> None:
        self.runner.running_units[self.unit.db_id] = RunningUnit(self.unit, self.agent, threading.current_thread())
        self.agent.update_status(AgentState.STATUS_IN_TASK)
        with Page(self.agent, self.react):
            self.runner.run_unit(self.unit, self.agent)

    def controls(self, name: str) -> list[dict[str, Any]]:
        updates = [update["task_data"] for update in self.agent.state.messages if "task_data" in update]
        return [data for data in updates if data.get("control") == name]

    def files(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.rglob("*.json"))]

    def recorded(self) -> list[dict[str, Any]]:
        messages = type(self.agent.state)(self.agent).messages
        return [found["WORLD_DATA"]["custom_data"] for found in messages if "WORLD_DATA" in found]

    def count(self) -> ModelCount:
        return self.options.quota.counts()[0]


@pytest.fixture
def stage(mephisto_run: Run, tmp_path: Path) -> Callable[..., Stage]:
    return lambda *script, **changes: Stage(mephisto_run, tmp_path / "chats", *script, **changes)


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


def test_a_replacement_that_can_not_be_offered_costs_the_worker_nothing(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    on = stage("fine.", RAISE)
    monkeypatch.setattr(Launcher, "replace", fail)
    on.run()
    assert len(on.files()) == len(on.recorded()) == 1
    assert [ended["outcome"] for ended in on.controls("ended")] == ["incomplete"]
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


def test_a_unit_that_is_not_needed_ends_at_once(stage: Callable[..., Stage]) -> None:
    on = stage(quota=ConversationQuota({NICKNAME: 0}))
    on.run()
    assert on.controls("ended")[0]["reason"] == task_runner.NO_MORE_WORK
    assert on.files() == []
    assert on.launcher.units == []
    assert on.agent.get_status() == AgentState.STATUS_COMPLETED


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


def fail(*args: Any, **kwargs: Any) -> Any:
    raise OSError(28, "No space left on device")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The runner's pauses between attempts to save, which take no time here."""
    pauses: list[float] = []
    monkeypatch.setattr(saving, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


@pytest.mark.parametrize(
    ("file_fails", "database_fails", "outcome"),
    [(True, False, "complete"), (False, True, "complete"), (True, True, "incomplete")],
)
def test_a_conversation_counts_when_it_is_safe_in_one_place(
    stage: Callable[..., Stage],
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
    file_fails: bool,
    database_fails: bool,
    outcome: str,
) -> None:
    on = stage()
    if file_fails:
        monkeypatch.setattr(task_runner, "save_conversation", fail)
    if database_fails:
        monkeypatch.setattr(type(on.agent.state), "record_world_data", fail)
    on.run()
    assert on.controls("ended")[0]["outcome"] == outcome
    assert on.count().done == (outcome == "complete")
    assert (len(on.files()), len(on.recorded())) == (not file_fails, not database_fails)
    if outcome == "complete":
        assert pauses == [0.5, 1.0], "its worker waits for the other place for a moment only"
    else:
        assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 0.0]


@pytest.mark.parametrize("failures_before", [0, 1, 5])
@pytest.mark.parametrize("of_both", [True, False])
def test_a_place_that_could_be_written_is_not_written_again_for_the_other(
    stage: Callable[..., Stage],
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
    failures_before: int,
    of_both: bool,
) -> None:
    on = stage()
    save, record = task_runner.save_conversation, type(on.agent.state).record_world_data
    attempts: dict[str, int] = {"file": 0, "database": 0}

    def failing(place: str, write: Callable[..., Any], fails: bool) -> Callable[..., Any]:
        def attempt(*args: Any, **kwargs: Any) -> Any:
            attempts[place] += 1
            return fail() if fails and attempts[place] <= failures_before else write(*args, **kwargs)

        return attempt

    monkeypatch.setattr(task_runner, "save_conversation", failing("file", save, fails=True))
    monkeypatch.setattr(type(on.agent.state), "record_world_data", failing("database", record, fails=of_both))
    on.run()
    safe_early = failures_before > 2 and not of_both  # then the file is given up after the third attempt
    assert (len(on.files()), len(on.recorded())) == (0 if safe_early else 1, 1)
    assert attempts["file"] == (3 if safe_early else failures_before + 1)
    assert attempts["database"] == (failures_before + 1 if of_both else 1)
    assert len(pauses) == attempts["file"] - 1
    assert on.controls("ended")[0]["outcome"] == "complete"
    assert on.count().done == 1


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


# --- onboarding ---

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


FLOW = """
pages:
  - {id: first, kind: questions, items: [{id: age, kind: number, question: Age}]}
  - {id: consent, kind: consent, text: Please.}
  - {id: chat, kind: chat}
  - {id: debrief, kind: text, text: Thanks.}
"""


class FlowStage(Stage):
    """A stage whose page answers the pages of a study flow, or leaves at one of them."""

    consent = "accept"
    leave_before: str | None = None

    def react(self, update: dict[str, Any]) -> None:
        data = update["task_data"]
        if data.get("control") != "your_turn" or data["ask"] != "page":
            super().react(update)
            return
        page = data["page"]["id"]
        if page == self.leave_before:
            self.agent.update_status(AgentState.STATUS_DISCONNECT)
            return
        answers = {"first": {"age": 41}, "consent": {"consent": self.consent}}.get(page, {})
        arrive(self.agent, {"text": "", "task_data": {"message_id": f"page {page}", "page": page, "answers": answers}})


@pytest.fixture
def flow_stage(mephisto_run: Run, tmp_path: Path) -> FlowStage:
    options = FlowOptions(parse_study_flow("flow", "flow.yaml", FLOW), max_page_time=300)
    return FlowStage(mephisto_run, tmp_path / "chats", study_flow=options)


def test_a_whole_study_is_saved_twice_with_its_answers(flow_stage: FlowStage) -> None:
    flow_stage.run()
    (file,), (record,) = flow_stage.files(), flow_stage.recorded()
    assert file == record
    assert [(answer["item"], answer["value"]) for answer in file["answers"]] == [("age", 41), ("consent", "accept")]
    assert flow_stage.count() == ModelCount(NICKNAME, 1, 0, 1)


def test_who_declines_leaves_nothing_on_disk_but_the_count_and_gives_the_place_back(flow_stage: FlowStage) -> None:
    flow_stage.consent = "decline"
    flow_stage.runner._submission_timeout = 0  # the page is closed
    flow_stage.run()
    assert flow_stage.files() == []
    folder = Path(flow_stage.agent.get_data_dir())
    kept = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert '"age"' not in kept
    assert flow_stage.options.study_flow.declined.count == 1
    assert flow_stage.count() == ModelCount(NICKNAME, 0, 0, 1)
    (ended,) = flow_stage.controls("ended")
    assert (ended["outcome"], ended["cause"]) == ("incomplete", "declined")
    assert flow_stage.launcher.units == ["a unit"], "somebody else takes part instead"
    assert not flow_stage.runner.failures.too_many_of(platform_id(flow_stage.agent.get_worker()))


def test_who_leaves_before_consenting_leaves_nothing_on_disk(flow_stage: FlowStage) -> None:
    flow_stage.leave_before = "consent"
    with pytest.raises(AgentDisconnectedError):
        flow_stage.run()
    assert flow_stage.files() == []
    kept = "".join(path.read_text() for path in Path(flow_stage.agent.get_data_dir()).rglob("*") if path.is_file())
    assert '"age"' not in kept
    assert flow_stage.options.study_flow.declined.count == 0


def test_who_leaves_at_the_debriefing_has_done_the_work(flow_stage: FlowStage) -> None:
    flow_stage.leave_before = "debrief"
    with pytest.raises(AgentDisconnectedError):
        flow_stage.run()
    (file,) = flow_stage.files()
    assert (file["status"], file["reason"]) == ("complete", None)
    assert flow_stage.count() == ModelCount(NICKNAME, 1, 0, 1)


def test_answers_are_on_disk_before_the_page_is_told(flow_stage: FlowStage) -> None:
    folder = Path(flow_stage.agent.get_data_dir())
    on_disk: list[bool] = []
    react = flow_stage.react

    def watch(update: dict[str, Any]) -> None:
        if update["task_data"].get("control") == "page_done":
            on_disk.append(update["update_id"] in (folder / JOURNAL_NAME).read_text())
        react(update)

    flow_stage.react = watch  # type: ignore[method-assign]  # to look at the disk at that moment
    flow_stage.run()
    assert on_disk == [True, True, True]

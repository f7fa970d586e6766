"""What the requester sees while a run is on."""

from __future__ import annotations

import io
import logging
import shlex
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from model_chat.analysis.settings import add_flags, settings_from
from model_chat.conversation.quota import ConversationQuota
from model_chat.crowd.panels import Panel
from model_chat.launch import progress
from model_chat.launch.logs import set_up_logging
from model_chat.launch.progress import Progress
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.quality.onboarding import OnboardingOutcome, OnboardingStatistics
from model_chat.serving.spend import ModelSpend


class Clock:
    """A clock that stands still until it is told to advance."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def plain() -> Console:
    return Console(file=io.StringIO(), width=200)


def shared(statistics: OnboardingStatistics | None = None) -> ModelChatSharedState:
    options = None if statistics is None else type("Options", (), {"statistics": statistics})()
    return ModelChatSharedState(onboarding_world_opt=options)


def written(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_plain_lines_come_when_something_changed_and_not_more_often_than_asked_for(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "model_chat.launch.progress")
    quota = ConversationQuota({"a": 2, "b": 1})
    with Progress(quota, shared(), plain(), log_rate=30) as shown:
        shown.tick()
        shown.tick()
        place = quota.take()
        assert place is not None
        shown.tick()
        assert len(caplog.messages) == 1, "too soon for another line"
        clock.now += 30
        shown.tick()
        clock.now += 300
        shown.tick()
        assert len(caplog.messages) == 2, "nothing has changed"
        place.complete()
        shown.tick()
    assert caplog.messages == [
        "a: 0 of 2 done, 0 in flight; b: 0 of 1 done, 0 in flight",
        "a: 0 of 2 done, 1 in flight; b: 0 of 1 done, 0 in flight",
        "a: 1 of 2 done, 0 in flight; b: 0 of 1 done, 0 in flight",
    ]


def test_onboarding_is_counted_where_there_is_one(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "model_chat.launch.progress")
    statistics = OnboardingStatistics()
    statistics.started()
    statistics.started()
    statistics.ended(OnboardingOutcome.FAILED)
    Progress(ConversationQuota({"a": 1}), shared(statistics), plain(), 30).tick()
    assert caplog.messages == ["a: 0 of 1 done, 0 in flight; onboarding: 2 started, 0 passed, 1 failed, 0 left"]


def test_a_terminal_gets_a_table(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "model_chat.launch.progress")
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    quota = ConversationQuota({"demo/smollm2": 12})
    with Progress(quota, shared(), console, 30) as shown:
        quota.take()
        shown.tick()
    text = written(console)
    assert "demo/smollm2" in text
    assert "in flight" in text
    assert "12" in text
    assert caplog.messages == []


class LiveRun:
    """What is announced of a running task."""

    def __init__(self, provider: str, page_url: str | None) -> None:
        self.provider = type("Provider", (), {"PROVIDER_TYPE": provider})()
        attributes: dict[str, Any] = {} if page_url is None else {"page_url": page_url}
        self.architect = type("Architect", (), attributes)()


@pytest.mark.parametrize("page_url", ["http://localhost:4321/", "https://study.example.org/pets/"])
def test_the_link_for_workers_is_printed_once(page_url: str) -> None:
    console = plain()
    live_run = LiveRun("mock", page_url)
    Progress(ConversationQuota({"a": 1}), shared(), console, 30).announce(live_run, 5.25, Path("/chats"))
    text = written(console)
    assert text.count(f"{page_url}?worker_id=me&assignment_id=1") == 1
    assert f"Preview:           {page_url}\n" in text
    assert "The task is up (5.2 s)." in text
    assert "Conversations go to /chats" in text


@pytest.mark.parametrize("page_url", ["http://localhost:4321/", "https://study.example.org/pets/"])
@pytest.mark.parametrize(
    ("panel", "address"),
    [
        (Panel("link", "", "", ""), "Address for your people: {page_url}\n"),
        (
            Panel("prolific", "PROLIFIC_PID", "", "SESSION_ID"),
            "Study address for Prolific: {page_url}?PROLIFIC_PID={{{{%PROLIFIC_PID%}}}}&SESSION_ID={{{{%SESSION_ID%}}}}\n",
        ),
    ],
    ids=lambda value: getattr(value, "provider", ""),
)
def test_the_address_for_a_panel_is_the_page_s_own(panel: Panel, address: str, page_url: str) -> None:
    console = plain()
    state = shared()
    state.endings = SimpleNamespace(panel=panel)  # type: ignore[assignment]  # all that is read of it
    Progress(ConversationQuota({"a": 1}), state, console, 30).announce(LiveRun(panel.provider, page_url), 1, Path("/c"))
    assert address.format(page_url=page_url) in written(console)


@pytest.mark.parametrize(
    ("provider", "page_url"), [("mturk", None), ("mturk_sandbox", "http://localhost:4321/"), ("mock", None)]
)
def test_no_link_is_printed_where_it_would_lead_nowhere(provider: str, page_url: str | None) -> None:
    console = plain()
    live_run = LiveRun(provider, page_url)
    Progress(ConversationQuota({"a": 1}), shared(), console, 30).announce(live_run, 1, Path("/chats"))
    assert "worker_id=me" not in written(console)


@pytest.mark.parametrize("done", [0, 2])
def test_the_end_says_what_there_is_and_what_is_next(done: int) -> None:
    console = plain()
    quota = ConversationQuota({"[a]": 2}, {"[a]": done})
    Progress(quota, shared(), console, 30).conclude(Path("/chats"), interrupted=done == 0)
    text = written(console)
    ending = "The run is over" if done else "The run was stopped"
    assert f"{ending}: {done} of 2 conversations are collected ([a]: {done} of 2 done, 0 in flight)." in text
    assert ("analysis/compile_results.py --results-folders /chats" in text) == bool(done)


@pytest.mark.parametrize(
    ("buckets", "named"),
    [
        (["rude", "none_all_good"], ["rude", "none_all_good"]),
        (["rude"], ["rude", "none_all_good"]),
        (["rude, unkind", "it's off", 'says "no"', "none_all_good"], None),
        (None, []),
    ],
)
def test_the_command_for_the_analysis_can_be_copied_and_names_the_boxes_of_the_task(
    buckets: list[str] | None, named: list[str] | None, tmp_path: Path
) -> None:
    console = plain()
    state = shared()
    state.page_config = {"annotation": buckets and {"buckets": [{"value": value} for value in buckets]}}
    chats = tmp_path / "it's mine, all of it"
    chats.mkdir()
    Progress(ConversationQuota({"a": 1}, {"a": 1}), state, console, 30).conclude(chats, interrupted=False)
    command = next(line for line in written(console).splitlines() if line.startswith("Next: python "))
    words = shlex.split(command.removeprefix("Next: python analysis/compile_results.py "))
    settings = settings_from(add_flags(ArgumentParser()).parse_args(words))
    assert list(settings.problem_buckets) == (buckets if named is None else named)
    assert settings.results_folders == (str(chats),)
    assert settings.output_folder == str(tmp_path / "results")


# --- logging ---


@pytest.fixture
def loggers() -> Any:
    """The loggers as they were, afterwards."""
    names = ["", "model_chat", "mephisto.test", "parlai"]
    before = [(logging.getLogger(n), logging.getLogger(n).level, logging.getLogger(n).handlers[:]) for n in names]
    yield
    logging.captureWarnings(False)
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def test_every_log_line_comes_once_whoever_wrote_it(loggers: None) -> None:
    theirs = logging.getLogger("mephisto.test")
    theirs.addHandler(logging.StreamHandler(io.StringIO()))
    console = plain()
    set_up_logging("warning", console)
    theirs.warning("from mephisto")
    theirs.info("unimportant")
    logging.getLogger("model_chat.x").info("from us")
    logging.getLogger("model_chat.x").debug("unimportant")
    logging.getLogger("parlai").warning("WARNING: Neither the specified dict file (x) nor the other exists")
    lines = written(console).splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "WARNING mephisto.test: from mephisto",
        "INFO model_chat.x: from us",
    ]


@pytest.mark.parametrize(("level", "shown"), [("debug", True), ("ERROR", False), ("nonsense", False)])
def test_the_level_is_the_requesters(loggers: None, level: str, shown: bool) -> None:
    console = plain()
    set_up_logging(level, console)
    logging.getLogger("mephisto.test").info("detail")
    assert ("detail" in written(console)) is shown


class Spent:
    """A pool that has spent a dollar."""

    def spent_usd(self) -> dict[str, float]:
        return {"a": 1.0}


@pytest.mark.parametrize(
    ("limit", "done", "interrupted", "because"),
    [(1.0, 1, False, True), (1.0, 2, False, False), (1.0, 1, True, False), (2.0, 1, False, False)],
)
def test_a_run_that_ends_for_its_spend_says_so(
    limit: float, done: int, interrupted: bool, because: bool, tmp_path: Path
) -> None:
    console, state = plain(), shared()
    state.spend = ModelSpend(Spent(), limit)  # type: ignore[arg-type]  # all that is asked of a pool
    Progress(ConversationQuota({"a": 2}, {"a": done}), state, console, 30).conclude(tmp_path, interrupted)
    said = written(console)
    assert ("since its models have cost mephisto.blueprint.max_model_spend_usd" in said) is because
    assert f"models: $1.00 of ${limit:.2f} spent" in said

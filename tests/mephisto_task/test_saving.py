"""A finished conversation is saved in two places, whatever fails at one of them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from model_chat.mephisto_task import saving, task_runner
from model_chat.tests.mephisto_task.agent_states import acknowledge, reloaded
from model_chat.tests.mephisto_task.stage import Stage, fail


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


def test_a_state_that_cannot_be_written_at_the_end_stops_nothing_and_is_read_from_its_journal(
    agent: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    acknowledge(agent, "Hello.")
    with monkeypatch.context() as full:
        full.setattr("model_chat.mephisto_task.agent_state.replace_file", fail)
        saving.finish_state(agent)
    assert "its journal stays" in caplog.text
    assert [message["text"] for message in reloaded(agent).messages] == ["Hello."]

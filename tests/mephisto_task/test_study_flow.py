"""A conversation with the pages of a study flow inside Mephisto."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.exceptions import AgentDisconnectedError

from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.quota import ModelCount
from model_chat.conversation.study_flow import FlowOptions
from model_chat.mephisto_task.agent_state import STATE_NAME
from model_chat.quality.blocks import platform_id
from model_chat.records.journal import JOURNAL_NAME
from model_chat.tests.mephisto_run import Run, arrive
from model_chat.tests.mephisto_task.stage import Stage
from model_chat.tests.scripted_human import NICKNAME

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
            texts = []
            for name in (JOURNAL_NAME, STATE_NAME):  # in this order: the journal goes once the state has all of it
                with suppress(FileNotFoundError):
                    texts.append((folder / name).read_text())
            on_disk.append(update["update_id"] in "".join(texts))
        react(update)

    flow_stage.react = watch  # type: ignore[method-assign]  # to look at the disk at that moment
    flow_stage.run()
    assert on_disk == [True, True, True]

"""Half-finished study flows after the death of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.human_agent import HumanAgent
from model_chat.launch.recovered_answers import answers_of, flow_of
from model_chat.launch.recovery import CUT_OFF, Recovered, recover
from model_chat.mephisto_task.agent_state import ModelChatAgentState
from model_chat.records.collected import find_saved
from model_chat.tests.mephisto_run import Run

TASK = "study_local"
FLOW = """
pages:
  - {id: first, kind: questions, items: [{id: age, kind: number, question: Age}]}
  - {id: consent, kind: consent, text: Please.}
  - {id: more, kind: questions, items: [{id: mood, kind: slider, question: Mood}]}
  - {id: chat, kind: chat, every_reply: [{id: trust, kind: scale, question: Trust}]}
  - {id: after, kind: questions, items: [{id: warmth, kind: slider, question: Warmth}]}
  - {id: debrief, kind: text, text: Thanks.}
"""


@pytest.fixture
def mephisto_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A database of its own: what other tests leave open would be recovered, too."""
    return Run(tmp_path_factory.mktemp("recovery"))


def head_of(agent: Any) -> dict[str, Any]:
    return {
        "dialog": [],
        "workers": [agent.get_worker().worker_name],
        "assignment_ids": [agent.assignment_id],
        "task_description": {"model_nickname": "a", "study_flow": FLOW},
        "answers": [],
        "status": "incomplete",
        "reason": None,
        "task_name": TASK,
    }


def cut_off(run: Run, steps: int) -> Any:
    """An agent whose run died after so many steps of the flow."""
    agent = run.agent()
    agent.update_status("in task")
    agent.state.set_init_state({})
    human = HumanAgent(agent)
    agent.state.record_head(head_of(agent))

    def chat() -> None:
        human.say("Speaker 1", "Hi!", fake_start=True, utterance_idx=0, agent_idx=0)
        human.say("Speaker 2", "Hello.", utterance_idx=1, agent_idx=1)
        asked = {"reply_answers": {"trust": 2}, "answered_utterance_idx": 1, "chat_page": "chat"}
        human.say("Speaker 1", "One.", utterance_idx=2, agent_idx=0, message_id="m1", **asked)
        human.say("Speaker 2", "Say yes.", utterance_idx=3, agent_idx=1, attention_check=True)
        human.say("Speaker 1", "Yes.", utterance_idx=4, agent_idx=0, message_id="m2", attention_check=True)
        human.say("Speaker 2", "I see.", utterance_idx=5, agent_idx=1)

    def rate() -> None:
        asked = {"reply_answers": {"trust": 5}, "answered_utterance_idx": 5, "chat_page": "chat"}
        human.control("rating_done", message_id="m3", final_rating=[4, 2], problem_data={"b": True}, **asked)

    def page(name: str, **answers: Any) -> Any:
        more = {"complete": True} if name == "after" else {}
        return lambda: human.control("page_done", page=name, message_id=f"page {name}", answers=answers, **more)

    whole = [
        page("first", age=41),
        page("consent", consent="accept"),
        page("more", mood=7),
        chat,
        rate,
        page("after", warmth=9),
    ]
    for step in whole[:steps]:
        step()
    agent.hide_state()  # what only the process knew is gone
    return agent


def start(run: Run, folder: Path) -> Recovered:
    return recover(run.db, TASK, find_saved(folder, Path(run.db.db_path), TASK), folder, is_live=False)


def files(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("*/*.json"))]


def test_before_consent_nothing_is_kept_not_even_in_the_journal(mephisto_run: Run, tmp_path: Path) -> None:
    agent = cut_off(mephisto_run, 1)
    start(mephisto_run, tmp_path)
    assert files(tmp_path) == []
    kept = "".join(path.read_text() for path in Path(agent.get_data_dir()).rglob("*") if path.is_file())
    assert '"age"' not in kept
    assert agent.get_status() == "expired"


def test_after_consent_each_answered_page_is_kept(mephisto_run: Run, tmp_path: Path) -> None:
    agent = cut_off(mephisto_run, 3)
    start(mephisto_run, tmp_path)
    (saved,) = files(tmp_path)
    assert [(answer["page"], answer["item"], answer["value"]) for answer in saved["answers"]] == [
        ("first", "age", 41),
        ("consent", "consent", "accept"),
        ("more", "mood", 7),
    ]
    assert all(answer["timestamp"] for answer in saved["answers"])
    assert (saved["dialog"], saved["status"], saved["reason"]) == ([], "incomplete", CUT_OFF)
    assert ModelChatAgentState(agent).get_parsed_data()["save_data"] == {"custom_data": saved}
    assert start(mephisto_run, tmp_path) == Recovered(), "the second time there is nothing left to do"
    assert len(files(tmp_path)) == 1


def test_answers_about_replies_and_the_ratings_are_kept(mephisto_run: Run, tmp_path: Path) -> None:
    cut_off(mephisto_run, 5)
    start(mephisto_run, tmp_path)
    (saved,) = files(tmp_path)
    asked = [(answer["value"], answer["utterance_idx"]) for answer in saved["answers"] if answer["item"] == "trust"]
    assert [line["text"] for line in saved["dialog"]] == ["Hi!", "Hello.", "One.", "I see."]
    assert asked == [(2, 1), (5, 3)], "attention checks are no part of the dialogue"
    assert (saved["dialog"][3]["final_rating"], saved["dialog"][3]["problem_data"]) == ("4|2", {"b": True})
    assert saved["status"] == "incomplete"


def test_with_only_a_debriefing_left_the_conversation_is_complete(mephisto_run: Run, tmp_path: Path) -> None:
    agent = cut_off(mephisto_run, 6)
    start(mephisto_run, tmp_path)
    (saved,) = files(tmp_path)
    assert (saved["status"], saved["reason"]) == ("complete", None)
    assert agent.get_status() == "completed"
    assert find_saved(tmp_path, Path(mephisto_run.db.db_path), TASK).complete() == {"a": 1}


def test_damaged_updates_and_heads_cost_nothing_else() -> None:
    junk: list[Any] = [
        {},
        {"task_data": 7},
        {"task_data": {"control": "page_done", "page": 7, "answers": {"x": 1}}},
        {"task_data": {"control": "page_done", "page": "p", "answers": [1]}},
        {"task_data": {"reply_answers": {"x": 1}, "answered_utterance_idx": "1", "chat_page": "c"}, "timestamp": "now"},
        {"task_data": {"control": "page_done", "page": "p", "answers": {"x": 1}}, "timestamp": 5.0},
    ]
    assert [(answer.page, answer.timestamp) for answer in answers_of(junk)] == [("p", 5.0)]
    for head in (None, {}, {"task_description": 7}, {"task_description": {"study_flow": "pages: ["}}):
        assert flow_of(head) is None

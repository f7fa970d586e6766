"""Counts of how messages were written survive the death of a run, each with its message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.human_agent import HumanAgent
from model_chat.launch.recovered_authenticity import add_authenticity
from model_chat.launch.recovery import recover
from model_chat.records.collected import find_saved
from model_chat.records.schema import Conversation
from model_chat.tests.mephisto_run import Run

TASK = "study_local"
FLOW = "pages: [{id: yes, kind: consent, text: We count.}, {id: chat, kind: chat}]"


@pytest.fixture
def mephisto_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A database of its own: what other tests leave open would be recovered, too."""
    return Run(tmp_path_factory.mktemp("recovery"))


def cut_off(run: Run, authenticity: list[Any] | None, consent: str = "accept") -> Any:
    """An agent whose run died after two messages and an attention check between them."""
    agent = run.agent()
    agent.update_status("in task")
    agent.state.set_init_state({})
    human = HumanAgent(agent)
    agent.state.record_head(
        {
            "dialog": [],
            "workers": [agent.get_worker().worker_name],
            "hit_ids": ["1"],
            "assignment_ids": [agent.assignment_id],
            "task_description": {"model_nickname": "a", "study_flow": FLOW},
            "authenticity": authenticity,
            "answers": [],
            "status": "incomplete",
            "reason": None,
            "task_name": TASK,
        }
    )
    human.control("page_done", page="yes", message_id="page", answers={"consent": consent})
    human.say("Speaker 1", "Hi!", fake_start=True, utterance_idx=0, agent_idx=0)
    human.say("Speaker 2", "Hello.", utterance_idx=1, agent_idx=1)
    first = {"pasted_characters": 4, "times_away": 0, "keys": 1}
    human.say("Speaker 1", "One.", utterance_idx=2, agent_idx=0, message_id="m1", authenticity=first)
    human.say("Speaker 2", "Say yes.", utterance_idx=3, agent_idx=1, attention_check=True)
    human.say("Speaker 1", "Yes.", utterance_idx=4, agent_idx=0, message_id="m2", attention_check=True)
    human.say("Speaker 2", "I see.", utterance_idx=5, agent_idx=1)
    human.say("Speaker 1", "No counts.", utterance_idx=6, agent_idx=0, message_id="m3")
    human.say("Speaker 2", "I see.", utterance_idx=7, agent_idx=1)
    human.say("Speaker 1", "Three ☕.", utterance_idx=8, agent_idx=0, message_id="m4", authenticity={"times_away": 3})
    agent.hide_state()  # what only the process knew is gone
    return agent


def recovered(run: Run, folder: Path) -> list[dict[str, Any]]:
    recover(run.db, TASK, find_saved(folder, Path(run.db.db_path), TASK), folder, is_live=False)
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("*/*.json"))]


def test_each_message_has_its_counts_again_once(mephisto_run: Run, tmp_path: Path) -> None:
    cut_off(mephisto_run, [])
    (saved,) = recovered(mephisto_run, tmp_path)
    assert saved["authenticity"] == [
        {"pasted_characters": 4, "times_away": 0, "keys": 1, "utterance_idx": 2, "characters": 4},
        {"pasted_characters": None, "times_away": 3, "keys": None, "utterance_idx": 6, "characters": 8},
    ]
    assert [saved["dialog"][one["utterance_idx"]]["text"] for one in saved["authenticity"]] == ["One.", "Three ☕."]
    Conversation.from_dict(saved)
    assert len(recovered(mephisto_run, tmp_path)) == 1


def test_a_study_that_records_none_gets_none(mephisto_run: Run, tmp_path: Path) -> None:
    cut_off(mephisto_run, None)
    (saved,) = recovered(mephisto_run, tmp_path)
    assert saved["authenticity"] is None


def test_without_consent_nothing_is_left_not_even_in_the_journal(mephisto_run: Run, tmp_path: Path) -> None:
    agent = cut_off(mephisto_run, [], consent="decline")
    assert recovered(mephisto_run, tmp_path) == []
    kept = "".join(path.read_text() for path in Path(agent.get_data_dir()).rglob("*") if path.is_file())
    assert "pasted" not in kept


@pytest.mark.parametrize(
    "data", [None, 7, {"authenticity": 7}, {"authenticity": {"keys": "3"}}, {"authenticity": {"keys": 3}}]
)
def test_damaged_updates_cost_nothing_else(data: Any) -> None:
    good = {"task_data": {"message_id": "m1", "authenticity": {"keys": 3}}}
    saved = {"authenticity": [], "dialog": [{"text": "Hi!"}, {"text": "One.", "message_id": "m1"}]}
    (entry,) = add_authenticity(saved, [{}, {"task_data": data}, good])["authenticity"]
    assert (entry["utterance_idx"], entry["keys"]) == (1, 3)

"""The dictionary that is saved: every key always there, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from model_chat.records.schema import Completion, Conversation, TaskDescription, Timing, Utterance

# Section 2 of the behaviour specification.
KEYS = {
    "dialog",
    "workers",
    "bad_workers",
    "acceptability_violations",
    "hit_ids",
    "assignment_ids",
    "task_description",
    "personas",
    "context_dataset",
    "person1_seed_utterance",
    "person2_seed_utterance",
    "additional_context",
    "image_idx",
    "attention_checks",
    "authenticity",
    "answers",
    "study_orders",
    "status",
    "reason",
    "failed_generation",
    "comparisons",
    "conditions",
    "task_name",
    "judged_conversation",
    "simulated",
    "participation",
}


def smallest(**more: Any) -> Conversation:
    return Conversation(
        dialog=[Utterance(agent_idx=0, text="Hi!", id="Speaker 1")],
        workers=["w"],
        hit_ids=["1"],
        assignment_ids=["2"],
        task_description=TaskDescription(model_nickname="m"),
        **more,
    )


def test_every_key_is_always_saved() -> None:
    saved = smallest().to_dict()
    assert set(saved) == KEYS
    assert saved == {
        **dict.fromkeys(KEYS),
        "dialog": [{"agent_idx": 0, "text": "Hi!", "id": "Speaker 1"}],
        "workers": ["w"],
        "bad_workers": [],
        "acceptability_violations": [None],
        "hit_ids": ["1"],
        "assignment_ids": ["2"],
        "task_description": {
            "annotations_config": None,
            "model_nickname": "m",
            "model_file": None,
            "model_opt": {},
            "final_rating_question": None,
            "study_flow": None,
        },
        "status": "complete",
    }


def test_an_utterance_has_its_optional_keys_only_where_they_have_a_value() -> None:
    utterance = Utterance(
        agent_idx=1,
        text="Hello.",
        id="Speaker 2",
        timestamp=1.5,
        fake_start=True,
        episode_done=False,
        problem_data={"bucket_0": False},
        final_rating="4|5",
        timing=Timing(shown=1.0),
    )
    assert utterance.to_dict() == {
        "agent_idx": 1,
        "text": "Hello.",
        "id": "Speaker 2",
        "timestamp": 1.5,
        "fake_start": True,
        "episode_done": False,
        "problem_data": {"bucket_0": False},
        "final_rating": "4|5",
        "timing": {"shown": 1.0},
    }


def test_a_conversation_survives_a_file() -> None:
    conversation = smallest(
        personas=[["I like tea."], []],
        status=Completion.INCOMPLETE,
        reason="left",
        acceptability_violations=["all_caps,exact_match"],
        image_idx=3,
    )
    assert Conversation.from_dict(json.loads(json.dumps(conversation.to_dict()))) == conversation


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"colour": "red"}, ("colour",)),
        ({"status": "finished"}, ("status",)),
        ({"workers": "w"}, ("workers",)),
        ({"dialog": [{"agent_idx": 2, "text": "", "id": ""}]}, ("dialog", 0, "agent_idx")),
        ({"dialog": [{"agent_idx": 0, "text": "Hi", "id": "", "txt": ""}]}, ("dialog", 0, "txt")),
        ({"dialog": [{"agent_idx": 0, "id": ""}]}, ("dialog", 0, "text")),
        ({"task_description": {}}, ("task_description", "model_nickname")),
    ],
)
def test_a_wrong_key_or_type_is_found(change: dict[str, Any], where: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as found:
        Conversation.from_dict({**smallest().to_dict(), **change})
    assert [error["loc"] for error in found.value.errors()] == [where]

"""Records as the original task wrote them in each of its periods, made up here from what is publicly known of them."""

from __future__ import annotations

from typing import Any

LONG = "one two three four five six seven eight"


def january_2021(worker: str = "A1HUMAN", model: str = "blender_90M", **more: Any) -> dict[str, Any]:
    """A text chat of January 2021: the nickname in `workers`, a number in `problem_data`, no `task_description`."""
    return {
        "personas": [["i like tea."], ["i own a dog."]],
        "dialog": [
            {"agent_idx": 0, "text": "Hi!", "id": "Speaker 1", "fake_start": True},
            {
                "agent_idx": 1,
                "text": "Hello.",
                "id": "Speaker 2",
                "problem_data": {"turn_idx": 1, "bucket_0": True, "bucket_1": False, "none_all_good": False},
            },
            {"agent_idx": 0, "text": LONG, "id": "Speaker 1"},
            {
                "agent_idx": 1,
                "text": "Fine.",
                "id": "Speaker 2",
                "problem_data": {"turn_idx": 3, "bucket_0": False, "bucket_1": False, "none_all_good": True},
                "final_rating": "4",
            },
        ],
        "workers": [worker, model],
        "bad_workers": [],
        "acceptability_violations": [""],
        "hit_ids": ["HIT1", "HIT1"],
        "assignment_ids": ["AS1", "AS2"],
        **more,
    }


def year_2023(worker: str = "A1HUMAN", model: str = "blender_90M", **more: Any) -> dict[str, Any]:
    """A text chat of the last version."""
    conversation = january_2021(worker, model)
    for utterance in conversation["dialog"]:
        utterance.get("problem_data", {}).pop("turn_idx", None)
    return {
        **conversation,
        "workers": [worker],
        "hit_ids": ["HIT1"],
        "assignment_ids": ["AS1"],
        "task_description": {"annotations_config": "", "model_nickname": model, "model_file": "/m", "model_opt": {}},
        "context_dataset": None,
        "person1_seed_utterance": None,
        "person2_seed_utterance": None,
        "additional_context": None,
        **more,
    }


def image_chat(worker: str = "A1HUMAN", model: str = "image_model", **more: Any) -> dict[str, Any]:
    """An image chat: its first entry is the teacher's act about the image."""
    conversation = year_2023(worker, model)
    act = {
        "agent_idx": None,
        "text": "Curious",
        "image_id": "test_17",
        "label_candidates": ["What a dog!", "A cat?"],
        "episode_done": False,
    }
    return {**conversation, "personas": None, "image_idx": 3, "dialog": [act, *conversation["dialog"]], **more}


def early_state(conversation: dict[str, Any]) -> dict[str, Any]:
    """An agent's state of an early version of Mephisto: what a message holds is under `data`."""
    data = {"id": "SUBMIT_WORLD_DATA", "WORLD_DATA": {"custom_data": conversation}, "text": "", "episode_done": False}
    packet = {"packet_type": "update_status", "sender_id": "mephisto", "data": data, "timestamp": 1610000000.0}
    return {"outputs": {"messages": [{"packet_type": "agent_action", "data": {"text": "Hi"}}, packet]}, "inputs": {}}

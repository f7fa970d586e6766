"""One conversation, with a scripted worker and real ParlAI agents behind the real pool."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from model_chat import worlds
from model_chat.conversation.contexts import ContextSource
from model_chat.records.schema import Completion, Conversation
from model_chat.tests.parlai_agents import RAISE
from model_chat.tests.scripted_chats import NO_TICKS, WHOLE, Contexts, chat
from model_chat.tests.scripted_human import (
    MODEL_FILE,
    NICKNAME,
    ScriptedHuman,
    chat_options,
    message,
    play,
    rating,
)
from model_chat.worlds import (
    ModelChatWorld,
)


def test_a_conversation_from_greeting_to_rating() -> None:
    world, human = chat(*WHOLE, model=("hello there .", "first.", "second."))
    assert human.steps() == [
        "start",
        "Hi!",
        "Hello there.",
        "your_turn",
        "One.",
        "First.",
        "your_turn",
        "Two.",
        "Second.",
        "your_turn",
    ]
    assert world.completion is Completion.COMPLETE
    assert world.reason is None
    dialog = [(line.agent_idx, line.id, line.text) for line in world.dialog]
    assert dialog == [
        (0, "Speaker 1", "Hi!"),
        (1, "Speaker 2", "Hello there."),
        (0, "Speaker 1", "One."),
        (1, "Speaker 2", "First."),
        (0, "Speaker 1", "Two."),
        (1, "Speaker 2", "Second."),
    ]


def test_the_greeting_is_shown_as_said_and_answered_by_the_model() -> None:
    world, human = chat(*WHOLE)
    assert world.bot._clone.seen == ["Hi!", "One.", "Two."]
    greeting, reply = human.updates[1:3]
    assert (greeting["fake_start"], greeting["episode_done"], greeting["id"]) == (True, False, "Speaker 1")
    assert "fake_start" not in reply
    saved = world.get_custom_task_data()["dialog"]
    assert (saved[0]["fake_start"], saved[0]["episode_done"]) == (True, False)
    assert all("fake_start" not in line and "episode_done" not in line for line in saved[1:])


@pytest.mark.parametrize("mode", ["blended_skill_talk", "model_chat.tasks.small_talk"])
def test_a_seeded_conversation_begins_with_two_lines_already_said(mode: str) -> None:
    world, human = chat(
        message("One."),
        message("Two.", "bucket_1"),
        rating(4, ticks="none_all_good"),
        start_mode=mode,
        contexts=ContextSource(Contexts()),
    )
    assert human.steps()[:4] == ["start", "What is tea?", "A drink.", "your_turn"]
    assert [update.get("fake_start") for update in human.updates[1:3]] == [True, True]
    saved = world.get_custom_task_data()
    assert [(line["fake_start"], line["episode_done"]) for line in saved["dialog"][:2]] == [(True, False)] * 2
    assert "problem_data" not in saved["dialog"][1], "what was never generated is not annotated"
    clone = world.bot._clone
    assert clone.seen == ["What is tea?", "One.", "Two."]
    assert clone.said == ["A drink."], "the model has it in its history that it said so"
    assert saved["person1_seed_utterance"] == "What is tea?"
    assert saved["person2_seed_utterance"] == "A drink."


def test_a_model_observes_its_persona_which_is_no_turn_and_the_worker_sees_theirs() -> None:
    world, human = chat(*WHOLE, include_persona=True, contexts=ContextSource(Contexts()))
    assert world.bot._clone.seen[:2] == ["your persona: I am the model.\nyour persona: I like milk.\nTea", "Hi!"]
    (start,) = human.controls("start")
    assert start == {
        "control": "start",
        "agent_display_name": "Speaker 1",
        "personas": ["I am the human.", "I like tea."],
        "num_turns": 2,
    }
    assert "I am the model" not in json.dumps(human.updates)
    saved = world.get_custom_task_data()
    assert saved["personas"] == [["I am the human.", "I like tea."], ["I am the model.", "I like milk."]]
    assert saved["context_dataset"] == "wizard_of_wikipedia"
    assert saved["additional_context"] == "Tea"
    assert all("persona" not in line["text"] for line in saved["dialog"])


def test_the_topic_of_other_datasets_is_not_told_to_the_model() -> None:
    contexts = ContextSource(Contexts(context_dataset="empathetic_dialogues", additional_context="afraid"))
    world, _ = chat(*WHOLE, include_persona=True, contexts=contexts)
    assert world.bot._clone.seen[0] == "your persona: I am the model.\nyour persona: I like milk."


def test_without_include_persona_nobody_is_told_one() -> None:
    world, human = chat(
        message("One."), message("Two.", "bucket_1"), rating(4, ticks="bucket_1"),
        start_mode="blended_skill_talk", contexts=ContextSource(Contexts()),
    )  # fmt: skip
    assert human.controls("start")[0]["personas"] == []
    assert world.bot._clone.seen[0] == "What is tea?"


@pytest.mark.parametrize("num_turns", [1, 2, 5])
def test_the_rating_is_asked_after_so_many_exchanges(num_turns: int) -> None:
    sent = [message(f"Line {number}.", "bucket_0") for number in range(num_turns)]
    world, human = chat(*sent, rating(5, ticks="bucket_1"), num_turns=num_turns)
    asked = human.controls("your_turn")
    assert [turn["ask"] for turn in asked] == ["message"] * num_turns + ["final_rating"]
    assert [turn["turn_idx"] for turn in asked] == list(range(num_turns + 1))
    assert all(turn["num_turns"] == num_turns and turn["seconds"] == 100 for turn in asked)
    assert all(turn["live_update_requested"] is True for turn in asked)
    assert world.completion is Completion.COMPLETE
    assert len(world.dialog) == 2 + 2 * num_turns


def test_an_annotation_goes_to_the_reply_before_it() -> None:
    world, human = chat(
        message("One.", "bucket_0"),
        message("Two.", {"bucket_0": True, "bucket_1": True, "none_all_good": False}),
        rating(4, ticks="none_all_good"),
    )
    assert [line.problem_data for line in world.dialog] == [
        None,
        {**NO_TICKS, "bucket_0": True},
        None,
        {**NO_TICKS, "bucket_0": True, "bucket_1": True},
        None,
        {**NO_TICKS, "none_all_good": True},
    ]
    own = [update["task_data"] for update in human.updates if update["text"] in ("One.", "Two.")]
    assert [data["annotated_utterance_idx"] for data in own] == [1, 3]
    assert own[0]["problem_data"] == {**NO_TICKS, "bucket_0": True}


def test_without_annotations_none_is_asked_for_and_none_is_taken() -> None:
    world, human = chat(
        message("One."), message("Two.", "bucket_0"), message("Two."), rating(4),
        annotations=None, annotations_text=None,
    )  # fmt: skip
    assert [refused["code"] for refused in human.controls("refused")] == ["annotation_unexpected"]
    assert all(line.problem_data is None for line in world.dialog)
    assert world.get_custom_task_data()["task_description"]["annotations_config"] is None


def test_the_final_ratings_are_joined_on_the_last_reply() -> None:
    world, _ = chat(*WHOLE[:2], rating(4, 1, 5, ticks="bucket_0"), final_rating_questions=("A?", "B?", "C?"))
    assert [line.final_rating for line in world.dialog] == [None] * 5 + ["4|1|5"]


def test_the_page_gets_its_own_message_back_with_its_id() -> None:
    _, human = chat(
        message("One.", "bucket_0", "id-1"), message("Two.", "bucket_0", "id-2"), rating(3, ticks="bucket_0")
    )
    said = [update for update in human.updates if update["text"]]
    assert [update["task_data"].get("message_id") for update in said] == [None, None, "id-1", None, "id-2", None]
    assert [update["task_data"]["utterance_idx"] for update in said] == list(range(6))
    assert [update["task_data"]["agent_idx"] for update in said] == [0, 1] * 3


def test_times_of_the_page_and_of_the_server_are_saved() -> None:
    before = time.time()
    timing = {"shown": 1.7e9, "first_key": None, "sent": 1.7e9 + 5}
    world, _ = chat(message("One.", "bucket_0", timing=timing), *WHOLE[1:])
    saved = world.get_custom_task_data()["dialog"]
    assert saved[2]["timing"] == {"shown": 1.7e9, "sent": 1.7e9 + 5}
    assert all(before <= line["timestamp"] <= time.time() for line in saved)


def test_no_packet_to_the_page_says_anything_about_the_model() -> None:
    opt = {"model": "secret_agent", "fixed_response": "secret answer", "beam_size": 12345}
    for script in (("fine.", "fine.", "fine."), ("fine.", RAISE)):
        world, human = chat(*WHOLE[: len(script)], model=script, opt=opt)
        packets = json.dumps(human.updates)
        for secret in (NICKNAME, MODEL_FILE, "secret", "12345", "beam_size", "the weights are gone", "RuntimeError"):
            assert secret not in packets
        saved = world.get_custom_task_data()["task_description"]
        assert saved["model_nickname"] == NICKNAME
        assert saved["model_opt"]["beam_size"] == 12345


TYPES: dict[str, type | tuple[type, ...]] = {
    "dialog": list,
    "workers": list,
    "bad_workers": list,
    "acceptability_violations": list,
    "hit_ids": list,
    "assignment_ids": list,
    "task_description": dict,
    "personas": (list, type(None)),
    "context_dataset": (str, type(None)),
    "person1_seed_utterance": (str, type(None)),
    "person2_seed_utterance": (str, type(None)),
    "additional_context": (str, type(None)),
    "image_idx": type(None),
    "attention_checks": type(None),
    "authenticity": type(None),
    "answers": type(None),
    "study_orders": type(None),
    "task_name": (str, type(None)),
    "status": str,
    "reason": (str, type(None)),
    "failed_generation": type(None),
    "comparisons": type(None),
    "conditions": type(None),
    "participation": type(None),
    "judged_conversation": type(None),
    "simulated": type(None),
}


@pytest.mark.parametrize("contexts", [None, ContextSource(Contexts())])
@pytest.mark.parametrize("script", [(), ("fine.", RAISE)])
def test_every_key_is_saved_with_its_type(contexts: ContextSource | None, script: tuple[str, ...]) -> None:
    world, _ = chat(*(WHOLE if not script else WHOLE[:1]), model=script, contexts=contexts)
    saved = world.get_custom_task_data()
    assert set(saved) == set(TYPES)
    for key, kind in TYPES.items():
        assert isinstance(saved[key], kind), key
    assert saved["workers"] == ["worker-7"]
    assert saved["hit_ids"] == ["hit-8"]
    assert saved["assignment_ids"] == ["assignment-9"]
    assert saved["bad_workers"] == []
    assert saved["acceptability_violations"] == [None]
    assert saved["task_description"] == {
        "annotations_config": '{"config": []}',
        "model_nickname": NICKNAME,
        "model_file": MODEL_FILE,
        "model_opt": {"script": list(script)},
        "final_rating_question": "How good?",
        "study_flow": None,
    }
    assert "sk-secret" not in json.dumps(saved)
    assert world.prep_save_data([world.human]) == {"custom_data": saved}
    assert Conversation.from_dict(json.loads(json.dumps(saved))).to_dict() == saved


def test_a_subclass_adds_to_the_start_the_record_and_the_violations() -> None:
    class OwnWorld(ModelChatWorld):
        def additional_start_data(self) -> dict[str, Any]:
            return {"image_alt": "a cat"}

        def additional_record(self) -> dict[str, Any]:
            return {"image_idx": 4}

        def acceptability_violations(self) -> str | None:
            return "all_caps,exact_match"

    options, human = chat_options(), ScriptedHuman(*WHOLE)
    place = options.quota.take()
    assert place is not None
    world = OwnWorld(options, human, worlds.BotAgent(options.models, place.nickname), place)
    play(world)
    assert human.controls("start")[0]["image_alt"] == "a cat"
    saved = world.get_custom_task_data()
    assert saved["image_idx"] == 4
    assert saved["acceptability_violations"] == ["all_caps,exact_match"]


def test_a_conversation_has_one_worker() -> None:
    assert worlds.get_world_params() == {"agent_count": 1}

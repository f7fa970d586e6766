"""One conversation, with a scripted worker and real ParlAI agents behind the real pool."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar

import pytest
from mephisto.data_model.exceptions import AgentDisconnectedError, AgentTimeoutError
from parlai.core.opt import Opt

from model_chat import worlds
from model_chat.conversation.contexts import ContextSource
from model_chat.conversation.quota import ModelCount
from model_chat.errors import ModelFailureError
from model_chat.records.schema import Completion, Conversation, Generation
from model_chat.serving.loading import LoadedModel
from model_chat.serving.model import StoppedError
from model_chat.serving.pool import ModelPool
from model_chat.tests.parlai_agents import NO_TEXT, RAISE, ShortSightedAgent
from model_chat.tests.scripted_human import (
    MODEL_FILE,
    NICKNAME,
    Early,
    ScriptedHuman,
    chat_options,
    message,
    play,
    rating,
)
from model_chat.worlds import (
    ModelChatWorld,
    NoReservationLeftError,
    make_world,
)

NO_TICKS = {"bucket_0": False, "bucket_1": False, "none_all_good": False}


class Contexts:
    """A ParlAI ``ContextGenerator`` that knows one context."""

    def __init__(self, **changes: Any) -> None:
        self.context = {
            "context_dataset": "wizard_of_wikipedia",
            "persona_1_strings": ["your persona: I am the human.", "I like tea."],
            "persona_2_strings": ["I am the model.", "your persona: I like milk."],
            "person1_seed_utterance": "What is tea?",
            "person2_seed_utterance": "A drink.",
            "additional_context": "Tea",
            **changes,
        }

    def get_context(self) -> dict[str, Any]:
        return self.context


def begin(human: ScriptedHuman, *script: str, **changes: Any) -> ModelChatWorld:
    return make_world(chat_options(list(script), **changes), [human])


def chat(*sent: Any, model: tuple[str, ...] = (), **changes: Any) -> tuple[ModelChatWorld, ScriptedHuman]:
    """Hold a conversation to its end."""
    human = ScriptedHuman(*sent)
    world = begin(human, *model, **changes)
    play(world)
    return world, human


WHOLE = (message("One.", "bucket_0"), message("Two.", "bucket_1"), rating(4, ticks="none_all_good"))


# --- how it begins ---


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


# --- turns ---


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


# --- the server decides ---

REFUSED_TURNS = [
    (message("", "bucket_0"), "empty"),
    (message("x" * 51, "bucket_0"), "too_long"),
    (message("One."), "annotation_missing"),
    (message("One.", NO_TICKS), "annotation_missing"),
    (message("One.", "bucket_7"), "annotation_unknown"),
    (message("One.", {"bucket_0": True, "none_all_good": True}), "annotation_conflict"),
    (rating(4, ticks="bucket_0"), "rating_early"),
    ("nonsense", "malformed"),
    (None, "malformed"),
]


@pytest.mark.parametrize(("sent", "code"), REFUSED_TURNS)
def test_a_refusal_keeps_the_turn_open_and_loses_nothing(sent: Any, code: str) -> None:
    world, human = chat(sent, sent, *WHOLE)
    refusals = human.controls("refused")
    assert [refused["code"] for refused in refusals] == [code, code]
    assert len(human.controls("your_turn")) == 3, "it stays the same turn"
    assert world.completion is Completion.COMPLETE
    assert [line.text for line in world.dialog if line.agent_idx == 0] == ["Hi!", "One.", "Two."]
    expected_id = sent["task_data"]["message_id"] if isinstance(sent, dict) else None
    assert all(refused["message_id"] == expected_id and refused["reason"] for refused in refusals)


def short_sighted(*script: Any) -> tuple[ModelChatWorld, ScriptedHuman]:
    human = ScriptedHuman(*script)
    model = LoadedModel(NICKNAME, ShortSightedAgent(Opt({"dict_lower": False})), MODEL_FILE)
    world = make_world(chat_options(models=ModelPool([model], 1, 60)), [human])
    play(world)
    return world, human


def test_a_message_that_the_prompt_cannot_take_is_refused_as_too_long_and_the_chat_goes_on() -> None:
    world, human = short_sighted(message("Eleven char", "bucket_0", "long"), *WHOLE)
    (refused,) = human.controls("refused")
    assert (refused["code"], refused["message_id"]) == ("too_long", "long")
    assert "shorten" in refused["reason"]
    assert world.completion is Completion.COMPLETE
    assert [line.text for line in world.dialog if line.agent_idx == 0] == ["Hi!", "One.", "Two."]


def test_a_model_that_cannot_say_whether_it_takes_a_message_is_given_it() -> None:
    world, human = short_sighted(message("?!", "bucket_0"), *WHOLE[1:])
    assert human.controls("refused") == []
    assert world.completion is Completion.COMPLETE


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (message("More.", "bucket_0"), "malformed"),
        (message("", "bucket_0"), "rating_missing"),
        (rating(ticks="bucket_0"), "rating_count"),
        (rating(3, 4, ticks="bucket_0"), "rating_count"),
        (rating(6, ticks="bucket_0"), "rating_range"),
        (rating(0, ticks="bucket_0"), "rating_range"),
        (rating(True, ticks="bucket_0"), "malformed"),
        (rating(4), "annotation_missing"),
    ],
)
def test_a_bad_final_rating_is_refused_and_can_be_given_again(sent: Any, code: str) -> None:
    world, human = chat(*WHOLE[:2], sent, WHOLE[2])
    assert [refused["code"] for refused in human.controls("refused")] == [code]
    assert world.dialog[-1].final_rating == "4"
    assert world.completion is Completion.COMPLETE


def test_a_message_out_of_turn_is_refused_and_not_kept() -> None:
    early = message("Impatient.", "bucket_0", "early-1")
    world, human = chat(WHOLE[0], Early(early), Early("nonsense"), *WHOLE[1:])
    assert [(refused["code"], refused["message_id"]) for refused in human.controls("refused")] == [
        ("not_your_turn", "early-1"),
        ("not_your_turn", None),
    ]
    assert "Impatient." not in [line.text for line in world.dialog]


def test_a_message_refused_as_early_can_be_sent_again_in_turn() -> None:
    early = message("Impatient.", "bucket_1", "early-1")
    world, _ = chat(WHOLE[0], Early(early), early, WHOLE[2])
    assert [line.message_id for line in world.dialog if line.text == "Impatient."] == ["early-1"]


def test_a_message_sent_again_is_taken_once() -> None:
    first = message("One.", "bucket_0", "same")
    world, human = chat(first, Early(first), first, first, *WHOLE[1:])
    assert [line.text for line in world.dialog if line.agent_idx == 0] == ["Hi!", "One.", "Two."]
    assert human.controls("refused") == []
    assert len(human.controls("your_turn")) == 3


def test_all_tries_of_one_turn_share_its_time() -> None:
    human = ScriptedHuman(message(""), message(""), message("One.", "bucket_0"), AgentTimeoutError(1, "1"))
    world = begin(human)
    with pytest.raises(AgentTimeoutError):
        play(world)
    first_turn, second_turn = human.deadlines[:3], human.deadlines[3]
    assert len(set(first_turn)) == 1
    assert second_turn > first_turn[0]


# --- endings ---


@pytest.mark.parametrize("failure", [RAISE, NO_TEXT, ""])
@pytest.mark.parametrize("said_before", [0, 1, 2])
def test_a_model_that_fails_ends_the_conversation_and_the_worker_is_told(failure: str, said_before: int) -> None:
    script = (*["fine."] * said_before, failure)
    world, human = chat(*WHOLE[:said_before], model=script)
    assert human.steps()[-1] == "model_failed"
    (failed,) = human.controls("model_failed")
    assert "not your fault" in failed["reason"]
    assert world.completion is Completion.INCOMPLETE
    assert world.reason is not None
    assert world.reason.startswith("model failed: ")
    saved = world.get_custom_task_data()
    assert saved["status"] == "incomplete"
    assert len(saved["dialog"]) == 1 + 2 * said_before
    assert world.is_worth_keeping == (said_before > 0)


def test_a_model_that_fails_on_a_seed_utterance_ends_the_conversation() -> None:
    human = ScriptedHuman()
    world = begin(human, start_mode="blended_skill_talk", contexts=ContextSource(Contexts()))

    def self_observe(text: Any) -> None:
        raise RuntimeError("no history")

    world.bot._clone.self_observe = self_observe
    play(world)
    assert human.steps() == ["start", "What is tea?", "A drink.", "model_failed"]


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


@pytest.mark.parametrize("after", range(5))
def test_a_worker_who_leaves_at_any_time_leaves_an_incomplete_conversation(after: int) -> None:
    human = ScriptedHuman(*WHOLE[:after], AgentDisconnectedError("1"))
    world = begin(human)
    if after < 3:
        with pytest.raises(AgentDisconnectedError):
            play(world)
        world.abandon("disconnected: the page went away")
    else:
        play(world)
        world.abandon("too late to matter")
    assert world.episode_done()
    assert world.completion is (Completion.COMPLETE if after >= 3 else Completion.INCOMPLETE)
    assert world.reason == (None if after >= 3 else "disconnected: the page went away")
    assert world.is_worth_keeping == (after > 0)
    world.abandon("again")
    assert world.reason != "again"
    assert world.get_custom_task_data()["reason"] == world.reason


def test_a_conversation_can_be_abandoned_before_it_begins() -> None:
    world = begin(ScriptedHuman())
    world.abandon("run ended")
    assert world.episode_done()
    assert world.get_custom_task_data()["dialog"] == []


# --- what is saved ---

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


# --- places ---


def test_a_conversation_takes_a_place_and_settles_it_once() -> None:
    options = chat_options()
    world = make_world(options, [ScriptedHuman(*WHOLE)])
    assert options.quota.counts() == [ModelCount(NICKNAME, 0, 1, 1)]
    with pytest.raises(NoReservationLeftError):
        make_world(options, [ScriptedHuman()])
    play(world)
    world.settle(collected=True)
    world.shutdown()
    world.settle(collected=False)
    assert options.quota.counts() == [ModelCount(NICKNAME, 1, 0, 1)]


@pytest.mark.parametrize("ending", ["settle", "shutdown"])
def test_a_conversation_that_does_not_count_gives_its_place_back(ending: str) -> None:
    options = chat_options()
    world = make_world(options, [ScriptedHuman()])
    if ending == "settle":
        world.settle(collected=False)
    world.shutdown()
    assert options.quota.counts() == [ModelCount(NICKNAME, 0, 0, 1)]


def test_a_world_that_cannot_be_made_holds_no_place() -> None:
    options = chat_options()

    def no_memory() -> Any:
        raise MemoryError("no room for a clone")

    options.models.model(NICKNAME).agent.share = no_memory
    with pytest.raises(MemoryError):
        make_world(options, [ScriptedHuman()])
    assert options.quota.counts() == [ModelCount(NICKNAME, 0, 0, 1)]


def test_a_conversation_has_one_worker() -> None:
    assert worlds.get_world_params() == {"agent_count": 1}


def test_what_is_known_of_a_reply_that_failed_is_saved_though_the_worker_has_said_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class CostlyFailureError(ModelFailureError):
        generation: ClassVar = {"cost_usd": 0.5, "retries": 2, "unknown": "left out"}

    def fail(*_: Any) -> None:
        raise CostlyFailureError("no")

    monkeypatch.setattr(worlds.BotAgent, "act", fail)
    world, _ = chat()
    assert world.is_worth_keeping
    assert world.get_custom_task_data()["failed_generation"] == {"cost_usd": 0.5, "retries": 2}


def test_a_conversation_in_which_the_worker_said_nothing_is_kept_if_it_has_cost_something() -> None:
    for cost, kept in ((0.5, True), (None, False)):
        world = begin(ScriptedHuman())
        world.parley()
        world.dialog[-1].generation = Generation(cost_usd=cost, seconds=1.0)
        assert world.is_worth_keeping is kept


# --- more time ---


def more_time(turn_idx: int = 0, message_id: str = "more-time:u1:1", **more: Any) -> Any:
    """A request for more time as a page sends it."""
    return message("", message_id=message_id, control="more_time", turn_idx=turn_idx, **more)


def given(human: ScriptedHuman) -> list[tuple[Any, Any]]:
    return [(data["turn_idx"], data["extensions_left"]) for data in human.controls("more_time")]


def test_a_worker_gets_as_much_time_again_once_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    human = ScriptedHuman(
        more_time(),
        message("One.", "bucket_0"),
        more_time(1, "more-time:u2:1"),
        message("Two.", "bucket_0"),
        more_time(2, "more-time:u3:1"),
        rating(5, ticks="bucket_0"),
    )
    world = make_world(chat_options(time_extensions=1), [human])
    play(world)
    assert given(human) == [(0, 0), (1, 0), (2, 0)]
    before, after = human.deadlines[:2]
    assert after - before == pytest.approx(100)
    assert [data["extensions_left"] for data in human.controls("your_turn")] == [1, 1, 1]
    assert all(100 < data["seconds"] <= 200 for data in human.controls("more_time"))
    assert world.completion is Completion.COMPLETE


@pytest.mark.parametrize(
    ("extensions", "requests", "granted"),
    [
        (0, [more_time()], 0),
        (1, [more_time(), more_time(message_id="another")], 1),
        (2, [more_time(), more_time()], 1),  # sent again: the same request
        (2, [more_time(), more_time(message_id="another")], 2),
        (1, [more_time(1)], 0),  # for another turn
    ],
)
def test_time_is_never_given_more_often_than_allowed(extensions: int, requests: list[Any], granted: int) -> None:
    left = AgentTimeoutError(1, "1")
    human = ScriptedHuman(*requests, left)
    world = make_world(chat_options(time_extensions=extensions), [human])
    with pytest.raises(AgentTimeoutError):
        play(world)
    assert len(given(human)) == granted
    assert human.deadlines[-1] - human.deadlines[0] == pytest.approx(100 * granted)


def test_a_run_that_ends_while_the_model_replies_is_no_failure_of_the_model() -> None:
    options = chat_options()
    options.models.interrupt()
    human = ScriptedHuman()
    world = make_world(options, [human])
    with pytest.raises(StoppedError):
        world.parley()
    assert human.controls("model_failed") == []
    assert world.reason is None, "the task runner says why"

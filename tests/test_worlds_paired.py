"""A conversation of two chats, one with each model of a pair, that the worker then compares; with real ParlAI agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mephisto.data_model.exceptions import AgentTimeoutError
from parlai.core.opt import Opt

from model_chat.comparing.paired import PairedBots
from model_chat.configuration.comparison import ComparisonSettings
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.contexts import ContextSource
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.conversation.quota import ConversationQuota
from model_chat.conversation.study_flow import FlowOptions
from model_chat.launch.recovered_comparisons import comparisons_of, is_judged_to_the_end
from model_chat.launch.recovery import dialog_of
from model_chat.quality.acceptability import AcceptabilityChecker
from model_chat.records.schema import Completion, Conversation
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.compared_models import NamedAgent, SeedContexts
from model_chat.tests.designs import design_of, quota_of
from model_chat.tests.parlai_agents import RAISE
from model_chat.tests.scripted_human import SHORT_CHAT, ScriptedHuman, message, play
from model_chat.worlds import ChatOptions, ModelChatWorld, make_world

QUESTIONS = ("Who was kinder?", "Who knew more?")


class RecordingHuman(ScriptedHuman):
    """Keeps what is recorded beside each update, as the journal does."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.generations: dict[str, Any] = {}

    def _send(self, update: Any) -> None:
        update["update_id"] = f"update-{len(self.updates)}"
        if update.generation is not None:
            self.generations[update["update_id"]] = update.generation
        super()._send(update)


def options(a: dict[str, Any] | None = None, b: dict[str, Any] | None = None, **changes: Any) -> ChatOptions:
    opts = {"a": a or {}, "b": b or {}}
    pair = changes.pop("pair", "a|b")
    settings = changes.pop("comparison", {})
    loaded = [
        LoadedModel(name, opt.pop("kind", NamedAgent)(Opt({"name": name, "dict_lower": False, **opt})), f"/m/{name}")
        for name, opt in opts.items()
    ]
    return ChatOptions(
        **{
            **SHORT_CHAT,
            "annotations": None,
            "final_rating_questions": QUESTIONS,
            "models": ModelPool(loaded, 2, 60),
            "quota": ConversationQuota({pair: 1}),
            "comparison": ComparisonSettings(is_paired=True, **settings),
            **changes,
        }
    )


def done(ticks: Any = None, **more: Any) -> Any:
    """The worker closes a chat."""
    return message("", ticks, chat_done=True, **more)


def picks(*sides: str, **more: Any) -> Any:
    return message("", comparison=[{"pick": side, **more} for side in sides])


CHATS = (message("One."), message("Two."), done(), message("Three."), message("Four."), done())
WHOLE = (*CHATS, picks("left", "tie"))


def talk(*sent: Any, **changes: Any) -> tuple[ModelChatWorld, RecordingHuman]:
    human = RecordingHuman(*sent)
    world = make_world(options(**changes), [human])
    play(world)
    return world, human


def speakers(world: ModelChatWorld) -> list[str]:
    assert isinstance(world.bot, PairedBots)
    return [side["model_nickname"] for side in world.bot.recorded().values()]


def test_two_chats_from_one_opening_and_then_the_questions() -> None:
    world, human = talk(*WHOLE)
    first, second = speakers(world)
    assert {first, second} == {"a", "b"}
    # A reply says who speaks and how much it has seen: neither model knows the other chat.
    assert human.steps() == [
        "start",
        "Hi!", f"{first}1", "your_turn", "One.", f"{first}2", "your_turn", "Two.", f"{first}3", "your_turn", "chat_done",
        "Hi!", f"{second}1", "your_turn", "Three.", f"{second}2", "your_turn", "Four.", f"{second}3",
        "your_turn", "chat_done", "comparison", "your_turn", "comparison_done",
    ]  # fmt: skip
    assert [turn["ask"] for turn in human.controls("your_turn")] == [
        "message", "message", "chat_done", "message", "message", "chat_done", "comparison",
    ]  # fmt: skip
    assert [turn["turn_idx"] for turn in human.controls("your_turn")] == [0, 1, 2, 2, 3, 4, 4]
    assert world.completion is Completion.COMPLETE


def test_the_record_says_who_spoke_in_which_chat_and_what_was_judged() -> None:
    world, human = talk(*WHOLE, a={"cost": 0.5}, b={"cost": 0.25})
    saved = Conversation.from_dict(world.get_custom_task_data()).to_dict()
    first, second = speakers(world)
    assert saved["task_description"]["model_nickname"] == "a|b"
    assert saved["task_description"]["model_file"] is None
    assert set(saved["task_description"]["model_opt"]) == {"a", "b"}
    assert saved["task_description"]["final_rating_question"] == "|".join(QUESTIONS)
    assert [line["chat_idx"] for line in saved["dialog"]] == [0] * 6 + [1] * 6
    replies = [line for line in saved["dialog"] if line["agent_idx"] == 1]
    assert [line["model_nickname"] for line in replies] == [first] * 3 + [second] * 3
    assert all("model_nickname" not in line for line in saved["dialog"] if line["agent_idx"] == 0)
    side = {"text": None, "generation": None}
    assert [{**entry, "timestamp": 0} for entry in saved["comparisons"]] == [
        {
            "turn_idx": None,
            "question": question,
            "left": {"model_nickname": first, **side},
            "right": {"model_nickname": second, **side},
            "pick": pick,
            "strength": None,
            "reason": None,
            "continued_with": None,
            "timestamp": 0,
        }
        for question, pick in zip(QUESTIONS, ("left", "tie"), strict=True)
    ]
    asked = human.controls("your_turn")[-1]
    assert (asked["questions"], asked["points"], asked["ties"]) == (list(QUESTIONS), 2, "both")


def test_which_model_comes_first_is_drawn_for_each_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    firsts = []
    for assignment in map(str, range(12)):
        monkeypatch.setattr(ScriptedHuman, "assignment_id", assignment)
        firsts.append(speakers(make_world(options(), [ScriptedHuman()]))[0])
        assert speakers(make_world(options(), [ScriptedHuman()]))[0] == firsts[-1], "drawn once for each"
    assert set(firsts) == {"a", "b"}


def test_both_chats_have_the_same_seeded_opening_and_persona() -> None:
    contexts = ContextSource(SeedContexts())
    world, human = talk(*WHOLE, start_mode="blended_skill_talk", contexts=contexts, include_persona=True)
    assert [line.text for line in world.dialog if line.fake_start] == ["What is tea?", "A drink."] * 2
    assert [line.chat_idx for line in world.dialog if line.fake_start] == [0, 0, 1, 1]
    assert len(human.controls("start")) == 1
    assert isinstance(world.bot, PairedBots)
    for bot in world.bot.bots:
        own = ["One.", "Two."] if bot.nickname == speakers(world)[0] else ["Three.", "Four."]
        assert "I am the model." in bot._clone.seen[0]
        assert bot._clone.seen[1:] == ["What is tea?", *own]


def test_no_packet_tells_which_model_it_is() -> None:
    _, human = talk(*WHOLE, a={"name": "one", "cost": 0.5}, b={"name": "two"})
    packets = json.dumps(human.updates)
    for told in ("model_nickname", "cost", "generation", '"a"', '"b"', "a|b", "/m/"):
        assert told not in packets


@pytest.mark.parametrize("at", [1, 4], ids=["the first chat", "the second chat"])
def test_a_pair_has_failed_when_one_of_its_models_fails(at: int) -> None:
    human = RecordingHuman(*CHATS)
    world = make_world(options(), [human])
    play(world, until=lambda: len(human.script) == len(CHATS) - at)
    assert isinstance(world.bot, PairedBots)
    world.bot.speaker._clone.script = [RAISE]
    play(world)
    assert world.completion is Completion.INCOMPLETE
    assert world.comparisons == []
    assert human.steps()[-1] == "model_failed"


def test_boxes_of_the_last_reply_of_each_chat_come_when_it_is_closed() -> None:
    sent = (
        message("One.", "bucket_0"), message("Two.", "bucket_1"), done("none_all_good"),
        message("Three.", "bucket_1"), message("Four.", "bucket_0"), done("bucket_1"), picks("left", "right"),
    )  # fmt: skip
    world, human = talk(*sent, annotations=SHORT_CHAT["annotations"])
    ticked = [
        next(bucket for bucket, on in line.problem_data.items() if on)
        for line in world.dialog
        if line.problem_data is not None
    ]
    assert ticked == ["bucket_0", "bucket_1", "none_all_good", "bucket_1", "bucket_0", "bucket_1"]
    assert [data["annotated_utterance_idx"] for data in human.controls("chat_done")] == [5, 11]


def test_a_chat_is_not_closed_without_its_boxes_or_early_and_not_compared_without_answers() -> None:
    sent = (
        done(), message("One."),
        message("Two.", "bucket_0"),
        done(), message("More."), done("bucket_0"),
        message("Three."), message("Four.", "bucket_0"), done("bucket_0"),
        picks("left"), picks("left", "both"), message("", comparison={"pick": "left"}), message("", chat_done=True),
        picks("left", "right"),
    )  # fmt: skip
    world, human = talk(*sent, annotations=SHORT_CHAT["annotations"], start_mode="seeded")
    assert [data["code"] for data in human.controls("refused")] == [
        "not_your_turn", "annotation_missing", "chat_over",
        "comparison_missing", "comparison_invalid", "comparison_invalid", "comparison_missing",
    ]  # fmt: skip
    assert world.completion is Completion.COMPLETE


def test_what_is_sent_again_is_taken_once() -> None:
    end, other = done(), done()
    answer = picks("left", "right")
    sent = (message("One."), message("Two."), end, end, message("Three."), end, message("Four."), other, answer)
    world, human = talk(*sent)
    assert human.controls("refused") == []
    assert len(human.controls("chat_done")) == 2
    assert world.completion is Completion.COMPLETE


def test_replies_of_both_chats_are_held_back_to_one_pace() -> None:
    _, human = talk(*WHOLE, delivery=ReplyDelivery(False, 5.0, 100.0))
    assert len(human.waits) == 6


def test_a_worker_may_say_the_same_to_both_partners() -> None:
    checker = AcceptabilityChecker(lambda text: "darn" in text)

    def violations(*texts: str) -> str | None:
        sent = [message(text) for text in texts]
        world, _ = talk(*sent[:2], done(), *sent[2:], done(), picks("left", "right"), acceptability=checker)
        return world.acceptability_violations()

    same = ("Hello, how are you?", "That is very nice.")
    assert violations(*same, *same) == ""
    assert violations(*same, "Well, how are you?", "Well, how are you?") == "exact_match"
    assert violations(*same, "Well, how are you?", "I am darn well.") == "unsafe:4"


def test_a_worker_who_leaves_in_the_second_chat_keeps_what_was_said_and_gives_the_place_back() -> None:
    human = RecordingHuman(*CHATS[:4], AgentTimeoutError(None, "1"))
    made = options()
    world = make_world(made, [human])
    assert made.quota.take("another") is None, "the quota of a pair is exact"
    with pytest.raises(AgentTimeoutError):
        play(world)
    world.abandon("timeout")
    assert world.is_worth_keeping
    assert [line["text"] for line in world.get_custom_task_data()["dialog"] if line["agent_idx"] == 0][-1] == "Three."
    world.settle(collected=False)
    assert made.quota.take("another") is not None


def test_pages_and_questions_about_replies_come_as_in_other_studies() -> None:
    flow = parse_study_flow(
        "study_flow",
        "of a test",
        """
pages:
  - id: chat
    kind: chat
    every_reply: [{id: clear, kind: choice, question: "Clear?", options: ["yes", "no"]}]
    last_reply: [{id: end, kind: choice, question: "A good end?", options: ["yes", "no"]}]
  - id: after
    kind: questions
    items: [{id: age, kind: number, question: "How old are you?"}]
""",
    )
    clear: dict[str, Any] = {"reply_answers": {"clear": "yes"}}
    end: dict[str, Any] = {"reply_answers": {"clear": "no", "end": "yes"}}
    page = message("", page="after", answers={"age": 30})
    world, human = talk(
        message("One.", **clear), message("Two.", **clear), done(**end),
        message("Three.", **clear), message("Four.", **clear), done(**end), picks("left", "right"), page,
        study_flow=FlowOptions(flow, 100, 1),
    )  # fmt: skip
    assert human.controls("refused") == []
    answers = world.get_custom_task_data()["answers"]
    assert [(answer["item"], answer["utterance_idx"]) for answer in answers] == [
        ("clear", 1), ("clear", 3), ("clear", 5), ("end", 5), ("clear", 7), ("clear", 9), ("clear", 11), ("end", 11),
        ("age", None),
    ]  # fmt: skip
    assert world.completion is Completion.COMPLETE
    assert "complete" not in human.controls("comparison_done")[0], "a page is still to be answered"


def test_what_a_killed_run_left_is_put_together_again() -> None:
    sent = (
        message("One.", "bucket_0"), message("Two.", "bucket_1"), done("none_all_good"),
        message("Three.", "bucket_1"), message("Four.", "bucket_0"), done("bucket_1"), picks("left", "right"),
    )  # fmt: skip
    world, human = talk(*sent, annotations=SHORT_CHAT["annotations"])
    saved = world.get_custom_task_data()
    lines = [{key: value for key, value in line.items() if key != "timestamp"} for line in saved["dialog"]]
    found = dialog_of(human.updates, human.generations)
    assert [{key: value for key, value in line.items() if key != "timestamp"} for line in found] == lines
    judged = comparisons_of(human.updates, human.generations)
    assert [{**entry, "timestamp": 0} for entry in judged] == [
        {**entry, "timestamp": 0} for entry in saved["comparisons"]
    ]
    assert is_judged_to_the_end(human.updates)
    assert not is_judged_to_the_end(human.updates[:-1])
    assert comparisons_of(human.updates[:-1], human.generations) == []


def test_both_chats_have_the_prompt_of_the_condition_and_the_pair_counts_in_its_cell(tmp_path: Path) -> None:
    text = """
factors:
  prompt: {warm_level: Be very warm., cool_level: Be cool.}
within: [prompt]
order: fixed
conversations_per_cell: 1
"""
    quota = quota_of(design_of(text), tmp_path)
    quota._model = "a|b"
    human = RecordingHuman(*WHOLE)
    world = make_world(options(quota=quota), [human])
    assert isinstance(world, ModelChatWorld) and isinstance(world.bot, PairedBots)
    heard = [[act["text"] for act in bot._unseen] for bot in world.bot.bots]
    assert heard == [["Be very warm."]] * 2
    play(world)
    world.settle(collected=True)
    assert world.get_custom_task_data()["conditions"]["prompt"] == "warm_level"
    assert [count.done for count in quota.counts()].count(1) == 1
    assert not any(word in json.dumps(human.updates) for word in ("_level", "condition", "Be very warm"))

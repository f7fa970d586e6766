"""A conversation in which two models answer each message and the worker compares them, with real ParlAI agents."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from mephisto.data_model.exceptions import AgentTimeoutError

from model_chat.comparing.per_turn import ComparedBots
from model_chat.conversation.contexts import ContextSource
from model_chat.records.schema import Completion, Conversation
from model_chat.tests.compared_models import TWO_TURNS, SeedContexts, options, pick, talk
from model_chat.tests.designs import design_of, quota_of
from model_chat.tests.parlai_agents import ShortSightedAgent
from model_chat.tests.scripted_human import SHORT_CHAT, ScriptedHuman, message, play, rating
from model_chat.worlds import ModelChatWorld, make_world


def histories(world: ModelChatWorld) -> list[tuple[list[str], list[str]]]:
    """What each model's clone has heard, with what is still to be heard, and what it has said."""
    assert isinstance(world.bot, ComparedBots)
    return [([*bot._clone.seen, *(act["text"] for act in bot._unseen)], bot._clone.said) for bot in world.bot.bots]


def test_both_models_answer_each_message_and_the_picked_reply_goes_on() -> None:
    world, human = talk(*TWO_TURNS)
    assert [step for step in human.steps() if step in ("comparison", "comparison_done", "your_turn", "One.", "Two.")] == [
        "your_turn", "One.", "comparison", "your_turn", "comparison_done",
        "your_turn", "Two.", "comparison", "your_turn", "comparison_done", "your_turn",
    ]  # fmt: skip
    assert [turn["ask"] for turn in human.controls("your_turn")] == [
        "message", "comparison", "message", "comparison", "final_rating",
    ]  # fmt: skip
    assert world.completion is Completion.COMPLETE
    shown = human.controls("comparison")
    said = [line.text for line in world.dialog if line.agent_idx == 1][1:]
    assert said == [shown[0]["left"]["text"], shown[1]["right"]["text"]]
    assert [line.model_nickname for line in world.dialog if line.agent_idx == 0] == [None] * 3


def test_the_record_names_sides_models_and_what_went_on() -> None:
    world, human = talk(*TWO_TURNS, a={"cost": 0.5}, b={"cost": 0.25})
    saved = Conversation.from_dict(world.get_custom_task_data()).to_dict()
    assert saved["task_description"]["model_nickname"] == "a|b"
    assert saved["task_description"]["model_file"] is None
    assert set(saved["task_description"]["model_opt"]) == {"a", "b"}
    first, second = saved["comparisons"]
    assert [entry["turn_idx"] for entry in saved["comparisons"]] == [0, 1]
    assert (first["pick"], first["continued_with"], second["pick"], second["continued_with"]) == (
        "left", "left", "right", "right",
    )  # fmt: skip
    for entry, shown in zip(saved["comparisons"], human.controls("comparison"), strict=True):
        assert {entry["left"]["model_nickname"], entry["right"]["model_nickname"]} == {"a", "b"}
        for side in ("left", "right"):
            assert entry[side]["text"] == shown[side]["text"]
            name = entry[side]["model_nickname"]
            assert entry[side]["text"].startswith(name)
            assert entry[side]["generation"]["cost_usd"] == {"a": 0.5, "b": 0.25}[name]
    replies = [line for line in saved["dialog"] if line["agent_idx"] == 1]
    assert [line["model_nickname"] for line in replies[1:]] == [
        first["left"]["model_nickname"], second["right"]["model_nickname"],
    ]  # fmt: skip
    assert replies[0]["model_nickname"] in ("a", "b"), "the opening is one model's"
    assert all("model_nickname" not in line for line in saved["dialog"] if line["agent_idx"] == 0)


@pytest.mark.parametrize("assignment", ["1", "2", "3", "4", "5"])
def test_neither_model_remembers_a_reply_that_was_not_picked(assignment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedHuman, "assignment_id", assignment)
    world, _ = talk(*TWO_TURNS)
    said = [line.text for line in world.dialog if line.agent_idx == 1]
    for heard, own in histories(world):
        assert heard == ["Hi!", "One.", "Two."]
        assert own == said


def test_a_seeded_opening_is_in_both_histories_and_nobodys_reply() -> None:
    contexts = ContextSource(SeedContexts())
    world, _ = talk(*TWO_TURNS, start_mode="blended_skill_talk", contexts=contexts, include_persona=True)
    for heard, own in histories(world):
        assert heard[1:] == ["What is tea?", "One.", "Two."]
        assert "I am the model." in heard[0]
        assert own[0] == "A drink."
        assert len(own) == 3
    assert world.dialog[1].model_nickname is None
    assert len(world.comparisons) == 2


def test_sides_are_drawn_anew_and_the_same_again_for_the_same_seed_and_assignment() -> None:
    turns = [entry for number in range(12) for entry in (message(f"Line {number}."), pick("tie"))]

    def sides(seed: int) -> tuple[list[str], list[str | None]]:
        world, _ = talk(*turns, rating(3), num_turns=12, comparison={"seed": seed})
        made = world.comparisons
        return [entry.left.model_nickname for entry in made], [entry.continued_with for entry in made]

    lefts, goes_on = sides(1)
    assert set(lefts) == {"a", "b"}
    assert set(goes_on) == {"left", "right"}, "after a tie a coin decides"
    assert sides(1) == (lefts, goes_on)
    assert sides(2) != (lefts, goes_on)


def test_with_continue_random_a_coin_decides_whatever_is_picked() -> None:
    turns = [entry for number in range(12) for entry in (message(f"Line {number}."), pick("left"))]
    world, human = talk(*turns, rating(3), num_turns=12, comparison={"continue_with": "random"})
    assert {entry.continued_with for entry in world.comparisons} == {"left", "right"}
    shown = human.controls("comparison")
    replies = [line.text for line in world.dialog if line.agent_idx == 1][1:]
    assert replies == [told[entry.continued_with]["text"] for told, entry in zip(shown, world.comparisons, strict=True)]


def test_no_packet_tells_which_model_it_is() -> None:
    _, human = talk(
        *TWO_TURNS,
        a={"name": "one", "model_file": "/secret-a", "cost": 0.5},
        b={"name": "two", "model_file": "/secret-b"},
        pair="a|b",
    )
    packets = json.dumps(human.updates)
    for told in ("model_nickname", "secret", "cost", "generation", '"a"', '"b"', "a|b"):
        assert told not in packets
    for shown in human.controls("comparison"):
        assert set(shown) == {"control", "turn_idx", "utterance_idx", "left", "right"}
        assert list(shown["left"]) == list(shown["right"]) == ["text"]


def test_what_each_model_did_is_recorded_beside_the_update_that_asks_for_a_judgement() -> None:
    world, human = talk(*TWO_TURNS, a={"cost": 0.5}, b={"cost": 0.25})
    recorded = [
        beside
        for update, beside in zip(human.updates, human.recorded, strict=True)
        if update["task_data"].get("control") == "comparison"
    ]
    assert recorded == [
        {
            side: {"model_nickname": reply.model_nickname, "generation": reply.generation.saved()}
            for side, reply in (("left", comparison.left), ("right", comparison.right))
        }
        for comparison in world.comparisons
    ]
    assert [{reply["model_nickname"] for reply in sides.values()} for sides in recorded] == [{"a", "b"}] * 2


def test_a_pick_that_is_no_answer_is_refused_and_asked_for_again() -> None:
    world, human = talk(
        message("One."),
        message("Too early."),
        pick("middle"),
        pick("left", strength=1),
        pick("left", turn_idx=0),
        message("Two."),
        pick("both_bad"),
        rating(2),
    )
    refused = [data["code"] for data in human.controls("refused")]
    assert refused == ["comparison_missing", "comparison_invalid", "comparison_invalid"]
    assert [entry.pick for entry in world.comparisons] == ["left", "both_bad"]


def test_the_same_pick_sent_again_is_one_pick() -> None:
    once = pick("left")
    world, human = talk(message("One."), once, once, message("Two."), once, pick("tie"), rating(2))
    assert [entry.pick for entry in world.comparisons] == ["left", "tie"]
    assert human.controls("refused") == []


def test_strength_and_reason_are_kept() -> None:
    world, human = talk(
        message("One."),
        pick("right", strength=2, reason="  It is\u0000 kinder. "),
        message("Two."),
        pick("tie", reason=""),
        rating(2),
        comparison={"points": 5, "reason": True},
    )
    first, second = world.comparisons
    assert (first.strength, first.reason) == (2, "It is kinder.")
    assert (second.strength, second.reason) == (None, None)
    asked = human.controls("your_turn")[1]
    assert (asked["points"], asked["ties"], asked["reason"]) == (5, "both", True)


def test_a_worker_who_runs_out_of_time_at_a_comparison_keeps_what_was_said_and_what_it_cost() -> None:
    human = ScriptedHuman(message("One."), AgentTimeoutError(None, "1"))
    world = make_world(options({"a": {"cost": 0.5}, "b": {"cost": 0.5}}), [human])
    with pytest.raises(AgentTimeoutError):
        play(world)
    world.abandon("timeout")
    saved = world.get_custom_task_data()
    assert [line["text"] for line in saved["dialog"]][-1] == "One."
    assert saved["comparisons"] == []
    assert saved["failed_generation"] == {"cost_usd": 1.0}


def test_a_model_may_be_compared_with_itself() -> None:
    human = ScriptedHuman(*TWO_TURNS)
    world = make_world(options({"a": {}}, pair="a|a"), [human])
    play(world)
    assert world.completion is Completion.COMPLETE
    assert world.get_custom_task_data()["task_description"]["model_nickname"] == "a|a"


def test_a_message_that_one_model_cannot_read_is_refused() -> None:
    _, human = talk(
        message("This is too long for b."), message("One."), pick("left"), message("Two."), pick("left"), rating(3),
        b={"kind": ShortSightedAgent},
    )  # fmt: skip
    assert [data["code"] for data in human.controls("refused")] == ["too_long"]


def test_boxes_are_for_the_reply_that_went_on() -> None:
    world, _ = talk(
        message("One.", "bucket_0"), pick("left"),
        message("Two.", "bucket_1"), pick("right"),
        rating(4, ticks="none_all_good"),
        annotations=SHORT_CHAT["annotations"],
    )  # fmt: skip
    assert [line.problem_data is not None for line in world.dialog if line.agent_idx == 1] == [True, True, True]


def test_the_quota_of_a_pair_is_exact() -> None:
    made = options({"a": {}, "b": {}})
    make_world(made, [ScriptedHuman()])
    assert made.quota.take("another") is None


def test_more_time_can_be_had_for_a_judgement_too() -> None:
    more = message("", control="more_time", turn_idx=0)
    world, human = talk(
        message("One."), more, pick("left"), message("Two."), pick("left"), rating(3), time_extensions=1
    )
    assert len(human.controls("more_time")) == 1
    assert human.deadlines[2] - human.deadlines[1] == 100, "the seconds of a turn, once more"
    assert world.completion is Completion.COMPLETE


DESIGN = """
factors:
  model: {near_level: a|b, far_level: b|c}
  prompt: {warm_level: Be very warm., cool_level: Be cool.}
  comparison_points: {two_level: 2, seven_level: 7}
  comparison_ties: {no_level: tie, all_level: both}
within: [model, prompt, comparison_points, comparison_ties]
order: fixed
conversations_per_cell: 1
"""


def test_pairs_are_conditions_with_prompts_and_scales_of_their_own(tmp_path: Path) -> None:
    quota = quota_of(design_of(DESIGN), tmp_path)
    settings = options({"a": {}, "b": {}, "c": {}}, quota=quota)
    saved, told = [], ""
    for cell in quota.design.cells:
        human = ScriptedHuman(*TWO_TURNS)
        if cell.conditions["comparison_points"] == "seven_level":
            human = ScriptedHuman(message("One."), pick("left", strength=3), message("Two."), pick("tie"), rating(4))
        world = make_world(settings, [human])
        assert isinstance(world.bot, ComparedBots)
        prompt = quota.design.value(cell, "prompt")
        assert [[act["text"] for act in bot._unseen] for bot in world.bot.bots] == [[prompt], [prompt]]
        play(world)
        world.settle(collected=True)
        record = world.get_custom_task_data()
        saved.append((record["conditions"], record["task_description"]["model_nickname"]))
        asked = [data for data in human.controls("your_turn") if data["ask"] == "comparison"]
        points, ties = (quota.design.value(cell, name) for name in ("comparison_points", "comparison_ties"))
        assert {(data["points"], data["ties"]) for data in asked} == {(points, ties)}
        told += json.dumps(human.updates)

    assert saved == [(cell.conditions, quota.design.value(cell, "model")) for cell in quota.design.cells]
    assert quota.remaining() == 0
    assert not any(word in told for word in ("_level", "condition", "Be very warm", "a|b", "b|c"))


def test_quotas_of_pairs_and_cells_are_exact_with_many_at_once(tmp_path: Path) -> None:
    quota = quota_of(
        design_of("factors: {model: [a|b, a|c], num_turns: [1, 2]}\nconversations_per_cell: 25\n"), tmp_path
    )
    pairs: list[str] = []

    def come(number: int) -> None:
        for at in range(40):
            place = quota.take(f"w{number}-{at}")
            if place is None:
                return
            if at % 5 == 4:
                place.release()
            else:
                pairs.append(place.nickname)
                place.complete()

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(quota.remaining()):
        place = quota.take(f"late{number}")
        assert place is not None
        pairs.append(place.nickname)
        place.complete()

    assert [count.done for count in quota.counts()] == [25] * 4
    assert (pairs.count("a|b"), pairs.count("a|c")) == (50, 50)


def ticked_for_both(side: str, **of_sides: Any) -> Any:
    return message("", comparison={"pick": side}, problem_data_of_replies=of_sides)


def test_boxes_of_both_replies_are_saved_for_each_and_asked_once() -> None:
    world, human = talk(
        message("One.", "none_all_good"),
        pick("left"),
        ticked_for_both("left", left={"bucket_0": True}),
        ticked_for_both("left", left={"bucket_0": True}, right={"none_all_good": True}),
        message("Two."),
        ticked_for_both("right", left={"bucket_0": True}, right={"none_all_good": True}),
        rating(4),
        annotations=SHORT_CHAT["annotations"],
        comparison={"boxes": "both"},
    )
    assert [refused["code"] for refused in human.controls("refused")] == ["annotation_missing"] * 2
    assert [turn.get("boxes") for turn in human.controls("your_turn")] == [None, True, None, True, None]
    saved = world.get_custom_task_data()
    bad = {"bucket_0": True, "bucket_1": False, "none_all_good": False}
    good = {"bucket_0": False, "bucket_1": False, "none_all_good": True}
    for entry, done in zip(saved["comparisons"], human.controls("comparison_done"), strict=True):
        assert (entry["left"]["problem_data"], entry["right"]["problem_data"]) == (bad, good)
        assert done["problem_data_of_replies"] == {"left": bad, "right": good}
    replies = [line["problem_data"] for line in saved["dialog"] if line["agent_idx"] == 1]
    assert replies == [good, bad, good], "the opening's, then those of the replies that went on"
    assert Conversation.from_dict(saved).to_dict() == saved


def test_records_without_boxes_of_both_have_no_key_for_them() -> None:
    world, _ = talk(*TWO_TURNS)
    assert all("problem_data" not in entry["left"] for entry in world.get_custom_task_data()["comparisons"])

"""What a worker sends is refused by the server and can be sent anew; more time is given as often as allowed."""

from __future__ import annotations

from typing import Any

import pytest
from mephisto.data_model.exceptions import AgentTimeoutError
from parlai.core.opt import Opt

from model_chat.records.schema import Completion
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.parlai_agents import ShortSightedAgent
from model_chat.tests.scripted_chats import NO_TICKS, WHOLE, begin, chat
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
    make_world,
)

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

"""Attention checks: what passes, what the file may say, and how they sit in a conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.errors import ConfigurationError
from model_chat.quality.attention import AttentionCheck, AttentionConfig, load_attention_checks
from model_chat.quality.blocks import BlockReason
from model_chat.tests.scripted_human import BUCKETS, ScriptedHuman, chat_options, message, play, rating
from model_chat.worlds import ModelChatWorld, make_world

WORD = {"turn": 1, "text": "Please write orange.", "expect": ["orange", "an orange fruit"]}
BOX = {"turn": 2, "text": "Tick the last box only.", "bucket": "none_all_good"}


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ("orange", True),
        ("An ORANGE!", True),
        ("oranges", False),
        ("", False),
        ("I like tea", False),
        ("ｏｒａｎｇｅ", True),
    ],
)
def test_a_word_is_found_whole_and_in_any_case(said: str, passed: bool) -> None:
    assert AttentionCheck.model_validate(WORD).grade(said, None) is passed


@pytest.mark.parametrize(
    ("ticked", "passed"),
    [(["none_all_good"], True), (["bucket_0"], False), (["bucket_0", "none_all_good"], False), ([], False)],
)
def test_a_box_passes_alone(ticked: list[str], passed: bool) -> None:
    ticks = {value: value in ticked for value in BUCKETS.values}
    assert AttentionCheck.model_validate(BOX).grade("whatever", ticks) is passed


def config(**changes: Any) -> AttentionConfig:
    return AttentionConfig.model_validate({"checks": [WORD, BOX], **changes})


def talk(attention: AttentionConfig, *answers: Any) -> tuple[ModelChatWorld, ScriptedHuman]:
    human = ScriptedHuman(*answers)
    world = make_world(chat_options(["one.", "two.", "three."], attention=attention), [human])
    play(world)
    return world, human


GOOD = (
    message("First.", "bucket_0"),
    message("orange"),
    message("Second.", "bucket_1"),
    message("done", "none_all_good"),
    rating(3, ticks="bucket_0"),
)
BAD = (GOOD[0], message("what?"), GOOD[2], message("done", "bucket_1"), GOOD[4])


def test_a_check_comes_where_the_reply_is_awaited_and_stays_out_of_the_dialogue() -> None:
    world, human = talk(config(), *GOOD)
    saved = world.get_custom_task_data()
    assert [line["text"] for line in saved["dialog"]] == ["Hi!", "One.", "First.", "Two.", "Second.", "Three."]
    assert saved["attention_checks"] == [
        {"turn": 1, "text": WORD["text"], "answer": "orange", "ticked": None, "passed": True},
        {"turn": 2, "text": BOX["text"], "answer": "done", "ticked": ["none_all_good"], "passed": True},
    ]
    shown = [update for update in human.updates if update["text"]]
    assert [update["task_data"]["utterance_idx"] for update in shown] == list(range(10))
    assert [update["text"] for update in shown if update["task_data"].get("attention_check")] == [
        WORD["text"], "orange", BOX["text"], "done",
    ]  # fmt: skip
    frozen = {update["task_data"].get("annotated_utterance_idx") for update in shown} - {None}
    assert frozen == {1, 5, 7}  # the replies before "First." and "Second.", and the check with boxes
    turns = [data["turn_idx"] for data in human.controls("your_turn")]
    assert turns == [0, 0, 1, 1, 2]


def test_every_reply_keeps_its_own_annotation() -> None:
    world, _ = talk(config(), *GOOD)
    ticked = [
        next(bucket for bucket, on in line.problem_data.items() if on) for line in world.dialog if line.problem_data
    ]
    assert ticked == ["bucket_0", "bucket_1", "bucket_0"]


def test_the_model_hears_neither_check_nor_answer() -> None:
    human = ScriptedHuman(*GOOD)
    world = make_world(chat_options([], attention=config()), [human])  # this model says what it heard last
    play(world)
    replies = [line.text for line in world.dialog if line.agent_idx == 1]
    assert replies == ["You said hi!", "You said first.", "You said second."]


@pytest.mark.parametrize(("max_failures", "answers", "blocked"), [(0, GOOD, False), (1, BAD, True), (2, BAD, False)])
def test_more_failures_than_allowed_block_the_worker(max_failures: int, answers: Any, blocked: bool) -> None:
    world, _ = talk(config(max_failures=max_failures), *answers)
    assert [reason for reason, _ in world.block_reasons()] == ([BlockReason.ATTENTION] if blocked else [])


def test_a_conversation_that_was_not_finished_blocks_nobody() -> None:
    human = ScriptedHuman(*BAD[:4])
    world = make_world(chat_options(["one.", "two.", "three."], attention=config()), [human])
    play(world, until=lambda: len(world.attention_results) == 2)
    world.abandon("left")
    assert world.block_reasons() == []
    assert [result.passed for result in world.attention_results] == [False, False]


def test_without_checks_nothing_is_saved_of_them() -> None:
    human = ScriptedHuman(GOOD[0], GOOD[2], GOOD[4])
    world = make_world(chat_options(["one.", "two.", "three."]), [human])
    play(world)
    assert world.get_custom_task_data()["attention_checks"] is None


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ({"checks": [{**WORD, "turn": 3}]}, ["turn 3 never comes"]),
        ({"checks": [WORD, {**BOX, "turn": 1}]}, ["turn 1 has 2 checks"]),
        ({"checks": [{**BOX, "bucket": "b9"}]}, ["'b9' is no bucket"]),
        ({"checks": []}, ["checks"]),
        ({"checks": [{"turn": 1, "text": "x"}]}, ["give either 'expect'"]),
        ({"checks": [{**WORD, "expect": ["?!"]}]}, ["neither letters nor numbers"]),
        ({"checks": [WORD], "max_failure": 1}, ["max_failure"]),
        ({"checks": [{**WORD, "expects": ["tea"]}]}, ["expects"]),
    ],
)
def test_a_file_that_can_not_work_is_refused_with_the_reason(tmp_path: Path, content: Any, faults: list[str]) -> None:
    file = tmp_path / "checks.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        load_attention_checks(str(file), 2, BUCKETS)
    for fault, said in zip(faults, error.value.faults, strict=True):
        assert fault in said
        assert "mephisto.blueprint.attention_checks_path" in said


def test_a_box_needs_boxes(tmp_path: Path) -> None:
    file = tmp_path / "checks.json"
    file.write_text(json.dumps({"checks": [BOX]}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="this task has none; use 'expect'"):
        load_attention_checks(str(file), 2, None)

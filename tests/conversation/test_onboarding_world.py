"""The onboarding before a conversation, with a scripted worker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mephisto.data_model.exceptions import AgentDisconnectedError

from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.conversation.onboarding_world import (
    ModelChatOnboardWorld,
    OnboardingOptions,
    make_onboarding_world,
    validate_onboarding,
)
from model_chat.tests.scripted_human import BUCKETS, ScriptedHuman, message, play


def model_line(*answers: str, explanation: str | None = None) -> dict[str, Any]:
    line: dict[str, Any] = {"agent_idx": 1, "text": "A reply.", "answers": list(answers)}
    return {**line, "explanation": explanation} if explanation else line


def onboarding(human: ScriptedHuman, **changes: Any) -> ModelChatOnboardWorld:
    config = {
        "min_correct": 2,
        "max_incorrect": 1,
        "max_failures_allowed": 1,
        "dialog": [
            [{"agent_idx": 0, "text": "Hi."}, model_line("bucket_0", "bucket_1", explanation="Both apply.")],
            [model_line("none_all_good")],
            [model_line("bucket_0"), model_line("bucket_1")],
        ],
        **changes,
    }
    options = OnboardingOptions(OnboardingConfig.model_validate(config), BUCKETS, max_onboard_time=300)
    return make_onboarding_world(options, human)


RIGHT = [[None, ["bucket_1", "bucket_0"]], [["none_all_good"]], [["bucket_0"], ["bucket_1"]]]
ONE_WRONG = [[None, ["bucket_0"]], [["none_all_good"]], [["bucket_0"], ["bucket_1"]]]
TWO_WRONG = [[None, ["bucket_0"]], [["bucket_1"]], [["bucket_0"], ["bucket_1"]]]


def sheet(answers: Any, message_id: str | None = None) -> Any:
    return message("", message_id=message_id, onboarding_answers=answers)


def recorded(world: ModelChatOnboardWorld) -> bool:
    """What Mephisto's database makes of an onboarding, after a trip through its file."""
    messages = [{"text": "", "task_data": {}}, {"id": "x", "WORLD_DATA": world.prep_save_data([])}, {"text": "later"}]
    return validate_onboarding(json.loads(json.dumps({"outputs": {"messages": messages}, "inputs": None})))


@pytest.mark.parametrize("answers", [RIGHT, ONE_WRONG])
def test_enough_right_dialogues_pass(answers: Any) -> None:
    human = ScriptedHuman(sheet(answers))
    world = onboarding(human)
    play(world)
    assert world.passed
    assert human.controls() == [
        {"control": "onboarding_start", "tries_left": 2, "seconds": 300},
        {"control": "onboarding_passed"},
    ]
    assert recorded(world)
    assert world.options.statistics.counts() == {"started": 1, "passed": 1, "failed": 0, "left": 0}


@pytest.mark.parametrize(
    ("min_correct", "max_incorrect", "passes"),
    [(1, 2, True), (2, 2, False), (1, 1, False), (0, 0, False), (0, 3, True)],
)
def test_both_criteria_count(min_correct: int, max_incorrect: int, passes: bool) -> None:
    world = onboarding(
        ScriptedHuman(sheet(TWO_WRONG)), min_correct=min_correct, max_incorrect=max_incorrect, max_failures_allowed=0
    )
    play(world)
    assert world.passed is passes is recorded(world)


def test_a_second_try_can_pass() -> None:
    human = ScriptedHuman(sheet(TWO_WRONG), sheet(RIGHT))
    world = onboarding(human)
    play(world)
    assert [control["control"] for control in human.controls()] == [
        "onboarding_start",
        "onboarding_retry",
        "onboarding_passed",
    ]
    (retry,) = human.controls("onboarding_retry")
    assert retry["tries_left"] == 1
    assert retry["reason"] == "Some answers differ from the guidelines. Tries left: 1."
    assert world.prep_save_data([]) == {"custom_data": {"onboarding_outcome": "passed", "tries_used": 2}}


def test_after_the_last_try_it_is_over_for_good() -> None:
    human = ScriptedHuman(sheet(TWO_WRONG), sheet(TWO_WRONG), sheet(RIGHT))
    world = onboarding(human)
    play(world)
    assert not world.passed
    assert not recorded(world)
    assert human.steps() == ["onboarding_start", "onboarding_retry", "onboarding_failed"]
    assert human.script, "nothing more is asked for"
    assert world.options.statistics.counts() == {"started": 1, "passed": 0, "failed": 1, "left": 0}


@pytest.mark.parametrize("shown", [False, True])
def test_explanations_come_only_when_switched_on_and_answers_never(shown: bool) -> None:
    human = ScriptedHuman(sheet(TWO_WRONG), sheet(TWO_WRONG))
    play(onboarding(human, show_explanations=shown))
    explanation = {"dialog_idx": 0, "utterance_idx": 1, "text": "Both apply."}
    assert human.controls("onboarding_retry")[0]["explanations"] == ([explanation] if shown else [])
    assert "bucket" not in json.dumps(human.updates)


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        (TWO_WRONG, [(0, 1), (1, 0)]),
        ([[None, ["bucket_0", "bucket_1"]], [["bucket_0"]], [["bucket_1"], ["bucket_0"]]], [(1, 0), (2, 0), (2, 1)]),
        ([[None, ["none_all_good"]], [["none_all_good"]], [["bucket_0"], ["bucket_0"]]], [(0, 1), (2, 1)]),
    ],
)
def test_after_a_failed_try_the_page_is_told_which_replies_were_wrong_and_nothing_of_the_right_boxes(
    answers: Any, wrong: list[tuple[int, int]]
) -> None:
    human = ScriptedHuman(sheet(answers), sheet(RIGHT))
    play(onboarding(human))
    (retry,) = human.controls("onboarding_retry")
    assert [(place.pop("dialog_idx"), place.pop("utterance_idx")) for place in retry["wrong"]] == wrong
    assert retry["wrong"] == [{}] * len(wrong), "nothing else"
    assert "bucket" not in json.dumps(human.updates)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (None, "malformed"),
        ({}, "malformed"),
        ("RIGHT", "malformed"),
        ([], "malformed"),
        (RIGHT[:2], "malformed"),
        ([*RIGHT, []], "malformed"),
        ([None, *RIGHT[1:]], "malformed"),
        ([[["bucket_0"]], *RIGHT[1:]], "malformed"),
        ([[None, None], *RIGHT[1:]], "malformed"),
        ([[None, "bucket_0"], *RIGHT[1:]], "malformed"),
        ([[None, {"bucket_0": True}], *RIGHT[1:]], "malformed"),
        ([[None, [["bucket_0"]]], *RIGHT[1:]], "malformed"),
        ([[None, [True]], *RIGHT[1:]], "malformed"),
        ([[None, []], *RIGHT[1:]], "annotation_missing"),
        ([[None, ["bucket_9"]], *RIGHT[1:]], "annotation_unknown"),
        ([[None, ["bucket_0", "none_all_good"]], *RIGHT[1:]], "annotation_conflict"),
    ],
)
def test_a_damaged_answer_sheet_is_no_try(answers: Any, code: str) -> None:
    human = ScriptedHuman(sheet(answers), sheet(answers), sheet(answers), sheet(RIGHT))
    world = onboarding(human)
    play(world)
    assert [refused["code"] for refused in human.controls("refused")] == [code] * 3
    assert world.passed
    assert world.prep_save_data([])["custom_data"]["tries_used"] == 1


@pytest.mark.parametrize("packet", [None, 5, "x", [], {}, {"task_data": None}, {"task_data": {}}])
def test_what_is_no_answer_sheet_at_all_is_no_try(packet: Any) -> None:
    human = ScriptedHuman(packet, sheet(RIGHT))
    world = onboarding(human)
    play(world)
    assert world.passed
    assert [refused["message_id"] for refused in human.controls("refused")] == [None]


def test_the_same_sheet_sent_again_is_graded_once() -> None:
    again = sheet(TWO_WRONG, "same")
    human = ScriptedHuman(again, again, again, sheet(RIGHT))
    world = onboarding(human)
    play(world)
    assert len(human.controls("onboarding_retry")) == 1
    assert world.passed


def test_all_tries_share_the_time_of_the_onboarding() -> None:
    human = ScriptedHuman(sheet(TWO_WRONG), sheet(None), sheet(TWO_WRONG))
    play(onboarding(human))
    assert len(human.deadlines) == 3
    assert len(set(human.deadlines)) == 1


def test_a_second_tab_gives_no_new_tries() -> None:
    first, second = ScriptedHuman(sheet(TWO_WRONG), sheet(TWO_WRONG)), ScriptedHuman(sheet(None), sheet(RIGHT))
    world = onboarding(first)
    other = make_onboarding_world(world.options, second)
    other.parley()  # open before the tries are used up, and still waiting
    play(world)
    play(other)
    assert first.steps()[-1] == second.steps()[-1] == "onboarding_failed"
    assert not other.passed
    late = ScriptedHuman()
    third = make_onboarding_world(world.options, late)
    play(third)
    assert late.steps() == ["onboarding_failed"]
    assert not recorded(third)


def test_who_passes_in_one_tab_has_passed_in_all_whatever_the_others_send() -> None:
    first, second = ScriptedHuman(sheet(TWO_WRONG), sheet(RIGHT)), ScriptedHuman(sheet(None), sheet(TWO_WRONG))
    world = onboarding(first)
    other = make_onboarding_world(world.options, second)
    other.parley()  # open, and still waiting
    play(world)  # passes with the last try
    play(other)
    assert second.steps() == ["onboarding_start", "refused", "onboarding_passed"]
    assert other.passed
    assert recorded(other)
    late = ScriptedHuman()
    play(make_onboarding_world(world.options, late))
    assert late.steps() == ["onboarding_passed"]


def test_each_worker_has_tries_of_their_own() -> None:
    world = onboarding(ScriptedHuman(sheet(TWO_WRONG), sheet(TWO_WRONG)))
    play(world)
    somebody_else = ScriptedHuman(sheet(RIGHT))
    somebody_else.worker_id = "worker-8"
    other = make_onboarding_world(world.options, somebody_else)
    play(other)
    assert other.passed


def test_a_worker_who_leaves_onboarding_has_not_passed() -> None:
    world = onboarding(ScriptedHuman(AgentDisconnectedError("1")))
    with pytest.raises(AgentDisconnectedError):
        play(world)
    world.abandon()
    world.abandon()
    assert not world.passed
    assert not recorded(world)
    assert world.options.statistics.counts() == {"started": 1, "passed": 0, "failed": 0, "left": 1}


def test_what_was_never_recorded_has_not_passed() -> None:
    assert not validate_onboarding({})
    assert not validate_onboarding({"outputs": {"messages": []}})
    assert not validate_onboarding({"outputs": {"messages": [{"WORLD_DATA": {}}]}})


def test_a_researcher_changes_the_criterion_by_overriding_one_method() -> None:
    class Stricter(ModelChatOnboardWorld):
        def check_onboarding_answers(self, worker_answers: list[list[list[str] | None]]) -> bool:
            return worker_answers[1] == [["none_all_good"]]

    human = ScriptedHuman(sheet(TWO_WRONG), sheet(ONE_WRONG))
    world = Stricter(onboarding(ScriptedHuman()).options, human)
    play(world)
    assert human.steps() == ["onboarding_start", "onboarding_retry", "onboarding_passed"]

"""The onboarding file: what can't be passed or doesn't fit the task is refused, and the answers stay on the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.onboarding import OnboardingConfig, load_onboarding
from model_chat.errors import ConfigurationError

FLAG = "mephisto.blueprint.onboard_task_data_path"
BUCKETS = AnnotationsConfig.model_validate(
    {"config": {"bucket_0": {"name": "Zero"}, "none_all_good": {"name": "All good"}}}
)
HUMAN = {"agent_idx": 0, "text": "Hi."}
MODEL = {"agent_idx": 1, "text": "Hello.", "answers": ["bucket_0"], "explanation": "It is a greeting."}
GOOD: dict[str, Any] = {
    "min_correct": 1,
    "max_incorrect": 0,
    "max_failures_allowed": 2,
    "dialog": [[HUMAN, MODEL]],
}


def load(tmp_path: Path, data: Any) -> OnboardingConfig:
    file = tmp_path / "onboarding.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data, indent=1), encoding="utf-8")
    return load_onboarding(FLAG, str(file), BUCKETS)


def faults(tmp_path: Path, data: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, data)
    return [fault.replace(f"{FLAG}: '{tmp_path}/onboarding.json', ", "") for fault in error.value.faults]


def test_a_good_file_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.tries == 3
    assert config.right_answers() == [[None, ["bucket_0"]]]


def test_answers_and_explanations_never_reach_the_page(tmp_path: Path) -> None:
    for shown in (False, True):
        config = load(tmp_path, {**GOOD, "show_explanations": shown})
        assert config.for_page() == [[{"agent_idx": 0, "text": "Hi."}, {"agent_idx": 1, "text": "Hello."}]]


def test_explanations_are_given_only_when_switched_on(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).explanations() == []
    assert load(tmp_path, {**GOOD, "show_explanations": True}).explanations() == [
        {"dialog_idx": 0, "utterance_idx": 1, "text": "It is a greeting."}
    ]


def test_criteria_that_nobody_could_meet_are_said(tmp_path: Path) -> None:
    assert faults(tmp_path, {**GOOD, "min_correct": 2}) == [
        "line 1: 'the file': min_correct is 2, but there are only 1 dialogues: nobody could pass."
    ]
    assert faults(tmp_path, {**GOOD, "dialog": [[HUMAN, MODEL], [HUMAN]]}) == [
        "line 1: 'the file': dialogue 1 has no model line (agent_idx 1) to annotate."
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"min_correct": -1}, "'min_correct': Input should be greater than or equal to 0."),
        ({"max_incorrect": "many"}, "'max_incorrect': Input should be a valid integer"),
        ({"max_failures_allowed": 1.5}, "'max_failures_allowed': Input should be a valid integer"),
        ({"dialog": []}, "'dialog': List should have at least 1 item"),
        ({"max_tries": 3}, "unknown key 'max_tries'; remove it or correct its spelling."),
        (
            {"dialog": [[HUMAN, {"agent_idx": 1, "text": "Hello."}]]},
            "'dialog.0.1': a model's line (agent_idx 1) needs 'answers', a list of at least one bucket.",
        ),
        (
            {"dialog": [[HUMAN, {**MODEL, "answers": []}]]},
            "'dialog.0.1': a model's line (agent_idx 1) needs 'answers', a list of at least one bucket.",
        ),
        (
            {"dialog": [[{**HUMAN, "answers": ["bucket_0"]}, MODEL]]},
            "'dialog.0.0': a human's line (agent_idx 0) can't have 'answers' or an 'explanation'.",
        ),
        (
            {"dialog": [[{"agent_idx": 2, "text": "Hi."}, MODEL]]},
            "'dialog.0.0.agent_idx': Input should be less than or equal to 1.",
        ),
        ({"dialog": [[{"agent_idx": 0}, MODEL]]}, "'dialog.0.0.text' is missing; add it."),
    ],
)
def test_a_wrong_key_or_value_is_said(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    (found,) = faults(tmp_path, {**GOOD, **change})
    line, sentence = found.split(": ", 1)
    assert sentence.startswith(fault)
    assert line.startswith("line ")


def test_a_missing_criterion_is_said(tmp_path: Path) -> None:
    assert faults(tmp_path, {"dialog": [[MODEL]], "min_correct": 1}) == [
        f"line 1: '{key}' is missing; add it." for key in ("max_incorrect", "max_failures_allowed")
    ]


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split("onboarding.json': ")[1] for record in caplog.records]


def test_the_originals_file_is_read_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    human, model = {**HUMAN, "id": "Speaker", "episode_done": False}, {**MODEL, "id": 7, "episode_done": None}
    config = load(tmp_path, {**GOOD, "dialog": [[human, model]]})
    assert config.right_answers() == [[None, ["bucket_0"]]]
    assert config.for_page() == [[{"agent_idx": 0, "text": "Hi."}, {"agent_idx": 1, "text": "Hello."}]]
    assert not caplog.records


def test_a_humans_line_may_have_an_empty_list_of_answers(tmp_path: Path) -> None:
    config = load(tmp_path, {**GOOD, "dialog": [[{**HUMAN, "answers": []}, MODEL]]})
    assert (config.tries, config.min_correct) == (3, 1)


def test_a_file_of_2021_gets_the_criteria_of_then_and_the_note_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load(tmp_path, {"dialog": [[HUMAN, MODEL]] * 7})
    assert (config.min_correct, config.max_incorrect, config.max_failures_allowed) == (4, 3, 3)
    (note,) = notes(caplog)
    assert "min_correct 4, max_incorrect 3, max_failures_allowed 3" in note


def test_the_criteria_of_2021_that_nobody_could_meet_are_said(tmp_path: Path) -> None:
    fault, note = faults(tmp_path, {"dialog": [[HUMAN, MODEL]] * 3})
    assert fault.endswith("min_correct is 4, but there are only 3 dialogues: nobody could pass.")
    assert "assumed, as then: min_correct 4" in note


@pytest.mark.parametrize(
    "key",
    [
        "dialog_id",
        "agent_id",
        "timestamp",
        "_comment",
        "notes",
        "source",
        "labels",
        "problem_data",
        "lang",
        "conv_uuid",
    ],
)
def test_a_harmless_key_is_ignored_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str) -> None:
    for data in ({**GOOD, key: 1}, {**GOOD, "dialog": [[{**HUMAN, key: [2]}, {**MODEL, key: None}]]}):
        caplog.clear()
        assert load(tmp_path, data).right_answers() == [[None, ["bucket_0"]]]
        assert notes(caplog) == [f"nothing here reads '{key}'; ignored."]


@pytest.mark.parametrize(
    "key",
    ["image", "imageUrl", "question", "answer", "wrong_answers", "is_required", "hint", "min_answers", "shuffle"],
)
def test_a_key_that_changes_what_is_asked_stays_a_fault(tmp_path: Path, key: str) -> None:
    assert any(f"unknown key '{key}'; remove" in fault for fault in faults(tmp_path, {**GOOD, key: 1}))
    found = faults(tmp_path, {**GOOD, "dialog": [[HUMAN, {**MODEL, key: 1}]]})
    assert any(f"unknown key 'dialog.0.1.{key}'; remove" in fault for fault in found)


@pytest.mark.parametrize(
    ("right", "misspelt"), [("text", "txt"), ("agent_idx", "agent_id"), ("explanation", "explnation")]
)
def test_a_misspelt_key_is_a_fault(tmp_path: Path, right: str, misspelt: str) -> None:
    line = {misspelt if key == right else key: value for key, value in MODEL.items()}
    found = faults(tmp_path, {**GOOD, "dialog": [[line, MODEL]]})
    assert any(f"unknown key 'dialog.0.0.{misspelt}'" in fault for fault in found)


def test_answers_that_are_no_bucket_are_said_with_their_line(tmp_path: Path) -> None:
    text = """{"min_correct": 1, "max_incorrect": 0, "max_failures_allowed": 0, "dialog": [
[{"agent_idx": 1, "text": "x", "answers": ["bucket_0"]}],
[{"agent_idx": 1, "text": "y", "answers": ["bucket_7"]}],
[{"agent_idx": 1, "text": "z", "answers": ["all_bad", "bucket_0"]}]
]}"""
    end = "is no bucket of mephisto.blueprint.annotations_config_path; use one of bucket_0, none_all_good."
    assert faults(tmp_path, text) == [
        f"line 3: the answer 'bucket_7' {end}",
        f"line 4: the answer 'all_bad' {end}",
    ]


def test_answers_that_no_worker_may_give_are_said(tmp_path: Path) -> None:
    both = {**MODEL, "answers": ["bucket_0", "none_all_good"]}
    assert faults(tmp_path, {**GOOD, "dialog": [[HUMAN, both]]}) == [
        "line 14: 'none_all_good' stands beside other answers, and no worker can tick them together; remove one."
    ]


def test_a_file_with_two_criteria_of_one_name_is_refused(tmp_path: Path) -> None:
    text = json.dumps(GOOD, indent=1).replace('"max_incorrect": 0', '"min_correct": 0')
    assert faults(tmp_path, text) == ["line 3: duplicate key 'min_correct'; remove or rename one."]

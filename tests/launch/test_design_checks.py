"""A design that does not fit the other flags is refused before the launch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from model_chat.agents.endpoint_settings import ENDPOINT_AGENT
from model_chat.errors import ConfigurationError
from model_chat.launch.design_checks import check_design, comparison_faults_of, prompt_faults, strata_faults, variant
from model_chat.serving.catalogue import ModelSource
from model_chat.tests.designs import BETWEEN, MIXED, design_of

FLAGS = {
    "num_turns": 6,
    "max_resp_time": 180,
    "time_extensions": 1,
    "include_persona": False,
    "max_model_response_time": 120,
}
NO_MODEL = "factors: {num_turns: [2, 4]}\nwithin: num_turns\nconversations_per_cell: 3\n"


def check(folder: Path, text: str, needed: str | None = None, most: int = 0) -> tuple[Any, dict[str, int], list[str]]:
    path = folder / "design.yaml"
    path.write_text(text)
    args = OmegaConf.create({"design_path": str(path), "conversations_needed_string": needed, **FLAGS})
    return check_design(args, most)


def test_the_factor_model_takes_the_place_of_the_conversations_needed(tmp_path: Path) -> None:
    checked, needed, faults = check(tmp_path, BETWEEN % 3)

    assert (needed, faults, checked.model) == ({"a": 6, "b": 6}, [], None)
    assert check(tmp_path, BETWEEN % 3, "a:6,b:6")[2] == []
    (fault,) = check(tmp_path, BETWEEN % 3, "a:6,b:7")[2]
    assert "'a:6,b:7' is not what mephisto.blueprint.design_path asks for, which is a:6,b:6; leave it out" in fault


@pytest.mark.parametrize(
    ("needed", "fault"),
    [("m:6", None), ("m:5", "asks for 5 conversations, and the design"), ("m:3,n:3", "names 2 models")],
)
def test_without_the_factor_model_one_model_is_needed(tmp_path: Path, needed: str, fault: str | None) -> None:
    checked, _, faults = check(tmp_path, NO_MODEL, needed)

    assert checked.model == "m"
    assert faults == [] if fault is None else fault in faults[0]


def test_without_any_model_the_flag_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="conversations_needed_string"):
        check(tmp_path, NO_MODEL)


@pytest.mark.parametrize(("most", "is_fine"), [(0, True), (3, True), (2, False)])
def test_a_worker_may_hold_as_many_conversations_as_they_have_conditions(
    tmp_path: Path, most: int, is_fine: bool
) -> None:
    faults = check(tmp_path, MIXED % ("random", 2), most=most)[2]

    assert (faults == []) is is_fine
    assert is_fine or "a worker goes through 3 conditions" in faults[0]


def test_between_factors_need_no_second_conversation(tmp_path: Path) -> None:
    assert check(tmp_path, BETWEEN % 2, most=1)[2] == []


@pytest.mark.parametrize(
    ("levels", "fault"),
    [
        ("num_turns: [0, 2]", "'num_turns': '0' must be a whole number of at least 1"),
        ("reply_first_seconds: [true, 2]", "'reply_first_seconds': 'true' must be a number."),
        (
            "reply_first_seconds: [61, 2]",
            "'reply_first_seconds': '61': mephisto.blueprint.reply_first_seconds: 61 is out",
        ),
        ("reply_chars_per_second: [0.5, 20]", "'0.5': mephisto.blueprint.reply_chars_per_second: 0.5 is out of range"),
        ("num_turns: [1.5, 2]", "'num_turns': '1.5' must be a whole number of at least 1"),
        ("num_turns: [true, 2]", "'num_turns': 'true' must be a number"),
        ("time_extensions: [-1, 0]", "'time_extensions': '-1' must be a whole number of at least 0"),
        ("include_persona: [0, true]", "'include_persona': '0' must be true or false"),
    ],
)
def test_a_level_is_a_value_of_its_flag(tmp_path: Path, levels: str, fault: str) -> None:
    text = f"factors: {{{levels}, model: [a, b]}}\nconversations_per_cell: 1\n"

    (found,) = check(tmp_path, text)[2]
    assert fault in found


def test_prompts_are_for_models_that_take_them(tmp_path: Path) -> None:
    design = design_of(BETWEEN % 1)
    sources = {
        "endpoint": ModelSource("endpoint", endpoint={"base_url": "http://x"}),
        "flags": ModelSource("flags", flags=f"--model {ENDPOINT_AGENT} --base-url http://x"),
        "hf": ModelSource("hf", flags="-m model_chat.agents.hugging_face:HuggingFaceChatAgent"),
        "blender": ModelSource("blender", flags="--model-file zoo:blender/model"),
        "seq2seq": ModelSource("seq2seq", flags="--model=transformer/generator"),
    }

    faults = prompt_faults(design, sources)

    assert [fault.split("and '")[1].split("'")[0] for fault in faults] == ["blender", "seq2seq"]
    assert prompt_faults(design_of(MIXED % ("fixed", 1)), sources) == []


def test_strata_are_of_an_item_that_is_asked_before_the_chat(tmp_path: Path) -> None:
    text = BETWEEN % 1 + "strata: {age: {young: 2, old: 2}}\n"
    design = design_of(text)

    assert strata_faults(design, {"age": ("young", "old")}) == []
    assert strata_faults(design, {"age": None}) == []
    (fault,) = strata_faults(design, {"age": ("young", "middle")})
    assert "'age' has no answer 'old'; its answers are young, middle" in fault
    (fault,) = check(tmp_path, text)[2]
    assert "no item 'age' is asked of everybody before the chat" in fault


def test_times_and_checks_are_looked_at_with_the_extreme_values() -> None:
    cfg = OmegaConf.create({"mephisto": {"blueprint": dict(FLAGS)}})
    design = design_of("factors: {num_turns: [8, 2], include_persona: [true, false]}\nconversations_per_cell: 1\n")

    longest, shortest = variant(cfg, design, max), variant(cfg, design, min)

    assert dict(longest.mephisto.blueprint) == {**FLAGS, "num_turns": 8, "include_persona": True}
    assert dict(shortest.mephisto.blueprint) == {**FLAGS, "num_turns": 2}
    assert variant(cfg, None, max) is cfg


# --- with comparisons ---

COMPARED = {
    "comparison": "per_turn",
    "comparison_points": 2,
    "comparison_ties": "both",
    "comparison_continue": "pick",
    "comparison_reason": False,
    "comparison_boxes": "continued",
    "annotations_config_path": "",
    "comparison_allow_self": False,
    "stream_replies": False,
    "reply_first_seconds": 0.0,
    "reply_chars_per_second": 0.0,
}


def compared(factors: str, **changes: object) -> list[str]:
    args = OmegaConf.create({**COMPARED, **changes})
    return comparison_faults_of(args, design_of(f"factors: {{{factors}}}\nconversations_per_cell: 1\n"))


@pytest.mark.parametrize(
    ("factors", "changes", "said"),
    [
        ("comparison_points: [2, 7], comparison_ties: [tie, both]", {}, []),
        (
            "comparison_points: [2, 7], comparison_ties: [none, both]",
            {},
            ["with comparison_points=7, comparison_ties=none: "],
        ),
        (
            "comparison_points: [2, 4]",
            {},
            ["with comparison_points=4: mephisto.blueprint.comparison_points: '4' is not"],
        ),
        ("comparison_continue: [pick, random]", {"comparison": "paired"}, ["with comparison_continue=random: "]),
        ("comparison_continue: [pick, random]", {}, []),
        (
            "comparison_points: [2, 3]",
            {"comparison": None},
            ["the factor 'comparison_points' has no effect, for nothing is compared"],
        ),
        ("num_turns: [2, 3]", {"comparison": None}, []),
        ("comparison_boxes: [continued, both]", {"annotations_config_path": "boxes.json"}, []),
        (
            "comparison_boxes: [continued, both]",
            {},
            ["with comparison_boxes=both: mephisto.blueprint.comparison_boxes"],
        ),
        ("num_turns: [2, 3]", {"comparison_points": 4}, ["mephisto.blueprint.comparison_points: '4' is not available"]),
        ("reply_first_seconds: [1, 2]", {"stream_replies": True, "reply_chars_per_second": 30}, []),
        (
            "reply_first_seconds: [0, 2]",
            {"stream_replies": True, "reply_chars_per_second": 30},
            ["with reply_first_seconds=0: "],
        ),
        (
            "reply_first_seconds: [1, 2]",
            {"stream_replies": True},
            ["mephisto.blueprint.stream_replies: replies of models"],
        ),
        ("reply_first_seconds: [0, 2]", {"comparison": None, "stream_replies": True}, []),
    ],
)
def test_each_condition_of_a_comparison_is_one_that_there_is(
    factors: str, changes: dict[str, object], said: list[str]
) -> None:
    faults = compared(factors, **changes)
    assert len(faults) == len(said), faults
    for fault, sentence in zip(faults, said, strict=True):
        assert sentence in fault


def test_whether_workers_say_why_is_true_or_false(tmp_path: Path) -> None:
    path = tmp_path / "design.yaml"
    path.write_text("factors: {model: [a|b, a|c], comparison_reason: [true, 3]}\nconversations_per_cell: 1\n")
    args = OmegaConf.create({"design_path": str(path), "conversations_needed_string": None, **FLAGS, **COMPARED})

    checked, needed, faults = check_design(args, 0)

    assert needed == {"a|b": 2, "a|c": 2}
    assert checked.model is None
    assert ["'comparison_reason': '3' must be true or false" in fault for fault in faults] == [True]

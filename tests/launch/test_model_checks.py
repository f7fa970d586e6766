"""Models, pairs of models and what they may cost are checked before anything is launched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model_chat.launch.checked_task import CheckedTask
from model_chat.tests.launch.small_study import B, faults


def test_models_may_come_from_an_option_file_alone_or_beside_the_folder(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    opts = tmp_path / "opts.yaml"
    opts.write_text('x: "--model fixed_response"\n', encoding="utf-8")
    both = check(**{f"{B}.model_opt_path": str(opts), f"{B}.conversations_needed_string": "'a:1,x:1'"})
    assert (both.sources["a"].flags, both.sources["x"].flags) == (None, "--model fixed_response")
    alone = check(
        **{
            f"{B}.model_opt_path": str(opts),
            f"{B}.conversations_needed_string": "'x:1'",
            f"{B}.base_model_folder": f"{tmp_path}/nowhere",
        }
    )
    assert list(alone.sources) == ["x"]


def test_a_limit_of_what_models_cost_needs_an_amount_and_the_prices(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    limit = f"{B}.max_model_spend_usd"
    assert check().max_model_spend_usd is None
    assert check(**{limit: "5"}).max_model_spend_usd == 5.0, "models of this machine cost nothing"
    (fault,) = faults(check, **{limit: "0"})
    assert fault.startswith(f"{limit}: 0.0 is no amount of money")
    opts = tmp_path / "opts.yaml"
    opts.write_text("x: {base_url: http://127.0.0.1:9/v1, endpoint_model: y}\n", encoding="utf-8")
    (fault,) = faults(
        check, **{limit: "5", f"{B}.model_opt_path": str(opts), f"{B}.conversations_needed_string": "'x:1'"}
    )
    assert fault.startswith(f"{limit}: the endpoint model 'x' has no usd_per_million_input_tokens")


def test_models_that_are_not_there_are_said_with_those_that_are(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    assert faults(check, **{f"{B}.conversations_needed_string": "'a:1,c:2'"}) == [
        f"{B}.conversations_needed_string: there is no model 'c' in {B}.base_model_folder={tmp_path}/models; there: a, "
        "group/b."
    ]


def test_an_opt_that_is_none_is_said_before_the_launch(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    (tmp_path / "models/a/model.opt").write_text("{}", encoding="utf-8")
    assert faults(check) == [
        f"{B}.base_model_folder: '{tmp_path}/models/a/model.opt' names no agent; add \"model\", as ParlAI writes it when it "
        "saves a model."
    ]


def test_no_place_for_models_is_said(check: Callable[..., CheckedTask]) -> None:
    assert faults(check, **{f"{B}.base_model_folder": "null"}) == [
        f"{B}.base_model_folder: is empty, and so is {B}.model_opt_path; give at least one of them."
    ]


def test_a_model_in_both_places_is_said(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    (tmp_path / "opts.yaml").write_text('a: "--model fixed_response"\n', encoding="utf-8")
    assert faults(check, **{f"{B}.model_opt_path": f"{tmp_path}/opts.yaml"}) == [
        f"{B}.model_opt_path: 'a' is in {tmp_path}/models, too; rename it in one of the two."
    ]


def test_pairs_are_counted_as_pairs_and_their_models_loaded_once(check: Callable[..., CheckedTask]) -> None:
    task = check(
        **{
            f"{B}.comparison": "per_turn",
            f"{B}.comparison_allow_self": "true",
            f"{B}.conversations_needed_string": "'a|group/b:2,a|a:1'",
        }
    )
    assert task.needed == {"a|group/b": 2, "a|a": 1}
    assert list(task.sources) == ["a", "group/b"]


@pytest.mark.parametrize(
    ("needed", "comparison", "said"),
    [
        ("'a:1'", "per_turn", ["'a' is not a pair of models"]),
        ("'a|group/b|a:1'", "per_turn", ["'a|group/b|a' is not a pair of models"]),
        ("'a|:1'", "per_turn", ["'a|' is not a pair of models"]),
        ("'a|a:1'", "per_turn", ["'a|a' compares a model with itself"]),
        ("'a|group/b:1,group/b|a:1'", "per_turn", ["'group/b|a' and 'a|group/b' are one pair"]),
        ("'a|nobody:1'", "per_turn", ["there is no model 'nobody'"]),
        ("'a:1'", "paired", ["'a' is not a pair of models; with comparison=paired"]),
        ("'a|a:1'", "paired", ["'a|a' compares a model with itself"]),
        ("'a|group/b:1'", "null", ["'a|group/b' is a pair of models, and nothing is compared"]),
        ("'a|nobody:1'", "null", ["'a|nobody' is a pair of models", "there is no model 'nobody'"]),
        ("'a:1,a|nobody:1'", "per_turn", ["'a' is not a pair", "there is no model 'nobody'"]),
    ],
)
def test_pairs_that_are_none_are_said_before_the_launch(
    check: Callable[..., CheckedTask], needed: str, comparison: str, said: list[str]
) -> None:
    found = faults(check, **{f"{B}.conversations_needed_string": needed, f"{B}.comparison": comparison})
    assert len(found) == len(said)
    for fault, text in zip(found, said, strict=True):
        assert fault.startswith(f"{B}.conversations_needed_string: ")
        assert text in fault


def test_all_faults_of_comparison_flags_are_said_at_once(check: Callable[..., CheckedTask]) -> None:
    pairs = {f"{B}.conversations_needed_string": "'a|group/b:1'", f"{B}.comparison": "per_turn"}
    found = faults(
        check,
        **{**pairs, f"{B}.comparison": "parallel"},
        **{f"{B}.comparison_{name}": "4" for name in ("points", "ties", "continue", "boxes")},
        **{f"{B}.stream_replies": "true"},
    )
    assert [fault.split(": ")[0].removeprefix(f"{B}.") for fault in found] == [
        "comparison", "comparison_points", "comparison_ties", "comparison_continue",
        "comparison_boxes", "stream_replies",
    ]  # fmt: skip
    paired = {**pairs, f"{B}.comparison": "paired"}
    assert check(**paired)
    (fault,) = faults(check, **paired, **{f"{B}.comparison_continue": "random"})
    assert fault.startswith(f"{B}.comparison_continue: 'random' has no effect with {B}.comparison=paired")
    both = {f"{B}.comparison_boxes": "both"}
    assert check(**pairs, **both)
    (fault,) = faults(check, **paired, **both)
    assert fault.startswith(f"{B}.comparison_boxes: 'both' has no effect with {B}.comparison=paired")
    (fault,) = faults(check, **pairs, **both, **{f"{B}.annotations_config_path": "''"})
    assert fault.startswith(f"{B}.comparison_boxes: 'both' needs boxes, and {B}.annotations_config_path is not set")
    (fault,) = faults(check, **pairs, **{f"{B}.comparison_points": "5", f"{B}.comparison_ties": "none"})
    assert fault.startswith(f"{B}.comparison_ties: 'none' allows no tie")
    streamed = {**pairs, f"{B}.stream_replies": "true"}
    for pace in ("first_seconds", "chars_per_second"):
        (fault,) = faults(check, **streamed, **{f"{B}.reply_{pace}": "5"})
        assert fault.startswith(f"{B}.stream_replies: ")
    assert check(**streamed, **{f"{B}.reply_first_seconds": "2", f"{B}.reply_chars_per_second": "50"})

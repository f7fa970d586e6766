"""How the models' replies were made: the table, by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.analysis.remarks import remarks


def with_generations(conversation: dict[str, Any], *generations: Any) -> dict[str, Any]:
    replies = [line for line in conversation["dialog"] if line["agent_idx"] == 1]
    for line, generation in zip(replies, generations, strict=True):
        line["generation"] = generation
    return conversation


def made(seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"seconds": seconds, "served_model": "v1", "completion_tokens": 5, "prompt_tokens": 20, "retries": 0, **more}


def test_the_table_adds_up_what_is_known_of_replies(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    first = make("a", "w1", "h1", labels=[(), ()])
    save(
        with_generations(first, made(1.0, cost_usd=0.5, seconds_to_first_token=0.2), made(2.0, finish_reason="length"))
    )
    save(with_generations(make("a", "w2", "h2"), made(3.0, served_model="v2", retries=2, cost_usd=0.25)))
    failed = with_generations(make("a", "w3", "h3", rating=None), made(6.0))
    failed |= {
        "status": "incomplete",
        "reason": "model failed: x",
        "failed_generation": {"cost_usd": 1.0, "retries": 3},
    }
    save(failed)
    left = with_generations(make("b", "w4", "h4", rating=None), {"seconds": 4.0})
    save(left | {"status": "incomplete", "reason": "disconnected: the worker's page went away"})
    built = compiler()
    built.compile_results()
    table = built.summary.generations.set_index("model_nickname")
    a, b = table.loc["a"], table.loc["b"]
    assert (a.replies, a.failures, a.retries, a.cut_at_limit) == (4, 1, 5, 1)
    assert (a.prompt_tokens, a.completion_tokens) == (80, 20)
    assert a.served_models == "v1; v2"
    assert a.cost_usd == 1.75
    assert a.seconds_median == 2.5  # of 1, 2, 3, 6
    assert a.seconds_p95 == pytest.approx(5.55)  # between 3 and 6
    assert (a.first_token_median, a.first_token_p95) == (0.2, 0.2)
    assert (b.replies, b.failures, b.seconds_median) == (1, 0, 4.0)
    assert math.isnan(b.cost_usd)
    said = " ".join(remarks(built.summary))
    assert "The endpoint of 'a' has answered as 2 models (v1, v2)" in said
    assert "have cost $1.75" in said


def test_each_of_two_compared_models_has_its_own_replies_picked_or_not(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    compared = with_generations(
        make("a|b", labels=[(), ()]), made(1.0, cost_usd=0.5, paced=True), made(2.0, cost_usd=0.5, paced=False)
    )
    spoken = [line for line in compared["dialog"] if line["agent_idx"] == 1]
    for line, name in zip(spoken, ("a", "b"), strict=False):
        line["model_nickname"] = name
    left, right = (
        {"model_nickname": name, "text": name, "generation": made(5.0, cost_usd=0.25, paced=False)} for name in "ab"
    )
    common = {"left": left, "right": right, "strength": None, "reason": None, "timestamp": None}
    compared["comparisons"] = [
        {**common, "turn_idx": 0, "question": None, "pick": "left", "continued_with": "left"},
        {**common, "turn_idx": None, "question": "Who?", "pick": "left", "continued_with": None},
    ]
    save(compared)
    built = compiler()
    built.compile_results()
    table = built.summary.generations.set_index("model_nickname")
    assert list(table.index) == ["a", "b"]
    assert table["replies"].tolist() == [1, 2], "the reply of b that was not picked is counted, too"
    assert table["cost_usd"].tolist() == [0.5, 0.75]
    assert table["not_paced"].tolist() == [0, 2]


def test_a_conversation_in_both_records_is_added_once(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    conversation = with_generations(make(), made(cost_usd=1.0))
    save(conversation)
    save(conversation)
    built = compiler()
    built.compile_results()
    assert built.summary.generations["cost_usd"].tolist() == [1.0]


def test_older_records_and_what_is_of_a_wrong_type_are_no_reason_to_leave_a_conversation_out(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make("old", "w1", "h1"))
    save(with_generations(make("odd", "w2", "h2"), "no mapping"))
    save(with_generations(make("odd", "w3", "h3"), {"seconds": "long", "completion_tokens": 5, "unknown": []}))
    built = compiler()
    assert len(built.compile_results()["model_nickname"].unique()) == 2
    table = built.summary.generations
    assert table["model_nickname"].tolist() == ["odd"]
    assert table["completion_tokens"].tolist() == [5]
    assert math.isnan(table["seconds_median"][0])


def test_the_table_is_written_and_shown_in_the_report(
    make: Callable[..., Any],
    save: Callable[..., Path],
    compiler: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(2):
        save(with_generations(make("a", f"w{number}", f"h{number}"), made(cost_usd=0.0012)))
    files = compiler(report=True).compile_and_save_results()
    assert "generations" in files
    report = files["report"].read_text(encoding="utf-8")
    assert "How replies were made" in report
    assert "<td>0.0024</td>" in report
    assert "How replies were made" in capsys.readouterr().out
    assert json.loads(files["statistics"].read_text(encoding="utf-8"))["generations"][0]["served_models"] == "v1"


@pytest.mark.parametrize(
    ("costs", "said"), [((0.25, 0.5), "$0.7500"), ((0.5, 0.5), "$1.00"), ((1200.0, 34.5), "$1,234.50")]
)
def test_a_cost_below_a_dollar_is_said_to_a_hundredth_of_a_cent(
    make: Callable[..., Any],
    save: Callable[..., Path],
    compiler: Callable[..., Any],
    costs: tuple[float, float],
    said: str,
) -> None:
    for model, cost in zip("ab", costs, strict=True):
        save(with_generations(make(model), made(cost_usd=cost)))
    run = compiler()
    run.compile_results()
    remarked = remarks(run.summary)
    assert f"The models' replies have cost {said}, incomplete conversations included." in remarked
    assert not any("has answered as" in sentence for sentence in remarked), "each endpoint served one model"

"""Answers to a study flow: each kind of item by hand, splits, exports, and what malformed answers cost (nothing else)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from model_chat.analysis.answers import value_text
from model_chat.analysis.remarks import remarks
from model_chat.errors import ConfigurationError
from model_chat.tests.e2e.browser import axe_findings, chromium

FLOW = """
pages:
  - {id: consent, kind: consent, text: Please.}
  - id: before
    kind: questions
    items:
      - {id: age_band, kind: choice, question: Age, options: [young, old]}
      - {id: uses, kind: choice, question: Uses, options: [phone, laptop], many: true, other: true, required: no}
  - id: chat
    kind: chat
    every_reply:
      - {id: trust, kind: scale, question: Trust, points: 7, not_applicable: true}
      - {id: wrong, kind: highlight, question: Wrong, required: no}
    last_reply: [{id: better, kind: text, question: Better, required: no}]
  - id: after
    kind: questions
    items:
      - {id: warmth, kind: slider, question: Warmth}
      - {id: years, kind: number, question: Years, required: no}
      - {id: order, kind: ranking, question: Order, options: [tone, facts, speed]}
      - {id: ends, kind: best_worst, question: Ends, options: [tone, facts, speed]}
      - {id: agree, kind: matrix, question: Agree, rows: [kind, clever], points: 5}
"""


def answer(page: str, item: str, value: Any, utterance_idx: int | None = None) -> dict[str, Any]:
    return {"page": page, "item": item, "value": value, "utterance_idx": utterance_idx, "timestamp": 1.0}


def studied(make: Callable[..., Any], number: int, model: str, **values: Any) -> dict[str, Any]:
    """A conversation of two exchanges with answers; what a test does not say has the plainest value."""
    given = {
        "age_band": "young",
        "uses": ["phone"],
        "trust": [4, 4],
        "wrong": [None, None],
        "better": None,
        "warmth": 50,
        "years": None,
        "order": ["tone", "facts", "speed"],
        "ends": {"best": "tone", "worst": "speed"},
        "agree": {"kind": 3, "clever": 3},
        **values,
    }
    conversation = make(model, f"w{number}", f"h{number}", labels=[(), ()])
    conversation["task_description"]["study_flow"] = FLOW
    answers = [answer("consent", "consent", "accept")]
    answers += [answer("before", item, given[item]) for item in ("age_band", "uses")]
    for item in ("trust", "wrong"):
        answers += [answer("chat", item, value, 1 + 2 * turn) for turn, value in enumerate(given[item])]
    answers.append(answer("chat", "better", given["better"], 3))
    answers += [answer("after", item, given[item]) for item in ("warmth", "years", "order", "ends", "agree")]
    conversation["answers"] = [entry for entry in answers if entry["value"] is not None]
    return conversation


Save = Callable[..., Path]
Make = Callable[..., Any]


def values(frame: pd.DataFrame, item: str, model: str = "a") -> dict[str, float]:
    own = frame[(frame["item"] == item) & (frame["model_nickname"] == model)]
    return dict(zip(own["aspect"], own["value"], strict=True))


def test_each_kind_of_item_is_counted_as_it_should(make: Make, save: Save, compiler: Callable[..., Any]) -> None:
    save(
        studied(make, 1, "a", warmth=20, years=2.5, uses=["phone", "laptop"], trust=[1, 7], better="be much more kind")
    )
    save(
        studied(
            make,
            2,
            "a",
            warmth=80,
            uses=[{"other": "a watch"}],
            trust=["not_applicable", 4],
            wrong=[[{"start": 0, "end": 3, "text": "rep"}], None],
            order=["speed", "facts", "tone"],
            ends={"best": "facts", "worst": "tone"},
            agree={"kind": 5, "clever": 1},
        )
    )
    save(studied(make, 3, "b", warmth=10))
    results = compiler()
    results.compile_and_save_results()
    items = results.summary.items
    assert values(items, "warmth") == {"": 50.0}
    assert values(items, "years") == {"": 2.5}
    assert values(items, "uses") == {"phone": 0.5, "laptop": 0.5, "other": 0.5}
    assert values(items, "trust") == {"": 4.0, "not_applicable": 0.25}
    assert values(items, "wrong") == {"marked": 0.25}, "one of four replies"
    assert values(items, "better") == {"words": 4.0}
    assert values(items, "order") == {"tone": 2.0, "facts": 2.0, "speed": 2.0}
    assert values(items, "ends") == {
        "tone: best": 0.5,
        "tone: worst": 0.5,
        "tone: score": 0.0,
        "facts: best": 0.5,
        "facts: worst": 0.0,
        "facts: score": 0.5,
        "speed: best": 0.0,
        "speed: worst": 0.5,
        "speed: score": -0.5,
    }
    assert values(items, "agree") == {"kind": 4.0, "clever": 2.0}
    assert values(items, "warmth", "b") == {"": 10.0}
    assert "consent" not in set(items["item"]), "that everybody agreed is no result"


def test_intervals_are_clustered_by_worker(make: Make, save: Save, compiler: Callable[..., Any]) -> None:
    # Two workers with two conversations each, who always answer alike: the mean has the error of two observations.
    for number, (worker, warmth) in enumerate([("w1", 40), ("w1", 40), ("w2", 60), ("w2", 60)]):
        conversation = studied(make, number, "a", warmth=warmth)
        conversation["workers"] = [worker]
        save(conversation)
    results = compiler()
    results.compile_results()
    (row,) = results.summary.items.query("item == 'warmth'").itertuples()
    assert (row.value, row.answers, row.workers) == (50.0, 4, 2)
    # The sums of the workers are 20 off: se = sqrt(2/1 · (20² + 20²)) / 4 = 10; t with 1 degree of freedom, cut at the ends.
    assert row.se == pytest.approx(10.0)
    assert stats.t.ppf(0.975, 1) * 10 > 50
    assert (row.low, row.high) == (0.0, 100.0)


def test_results_are_split_by_an_answer_from_before_the_chat(
    make: Make, save: Save, compiler: Callable[..., Any], tmp_path: Path
) -> None:
    for number, (age, warmth, rating) in enumerate([("young", 10, "1"), ("young", 30, "2"), ("old", 90, "5")]):
        conversation = studied(make, number, "a", age_band=age, warmth=warmth)
        conversation["dialog"][-1]["final_rating"] = rating
        save(conversation)
    results = compiler(by="age_band")
    files = results.compile_and_save_results()
    splits = results.summary.splits
    own = splits[splits["metric"].isin(["warmth", "final_rating"])]
    found = {(row.level, row.metric): (row.value, row.conversations) for row in own.itertuples()}
    assert found == {
        ("young", "final_rating"): (1.5, 2),
        ("young", "warmth"): (20.0, 2),
        ("old", "final_rating"): (5.0, 1),
        ("old", "warmth"): (90.0, 1),
    }
    assert "age_band" not in set(splits["metric"])
    frame = pd.read_csv(files["results"])
    assert frame.groupby("conversation_idx")["age_band"].unique().map(list).to_list() == [["young"], ["young"], ["old"]]
    assert files["splits"].is_file()


def test_who_gave_no_answer_is_named_and_in_no_split(make: Make, save: Save, compiler: Callable[..., Any]) -> None:
    save(studied(make, 1, "a"))
    save(studied(make, 2, "a", uses=None))
    results = compiler(by="uses")
    results.compile_results()
    assert set(results.summary.splits["level"]) == {"phone"}
    assert "1 of 2 conversations have no answer to uses; no split counts them." in remarks(results.summary)


def test_a_split_of_a_study_without_a_flow_is_refused_with_what_to_do(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make())
    with pytest.raises(
        ConfigurationError, match=r"asks before the chat; leave --by out, for none asks anything there\.$"
    ):
        compiler(by="age_band").compile_results()


@pytest.mark.parametrize("by", ["nobody", "warmth", "trust", "age_band,nobody"])
def test_only_what_was_asked_before_the_chat_splits(
    make: Make, save: Save, compiler: Callable[..., Any], by: str
) -> None:
    save(studied(make, 1, "a"))
    with pytest.raises(
        ConfigurationError, match="which no study flow asks before the chat; give one of: age_band, uses"
    ):
        compiler(by=by).compile_results()


def test_a_column_of_the_results_can_not_be_an_item(compiler: Callable[..., Any], save: Save, make: Make) -> None:
    save(make())
    with pytest.raises(ConfigurationError, match="--by names 'text', which is a column of the results already"):
        compiler(by="text")


def test_all_answers_are_in_a_table(make: Make, save: Save, compiler: Callable[..., Any]) -> None:
    save(studied(make, 1, "a", uses=["phone", {"other": "a, watch"}], better="=1+1"))
    files = compiler().compile_and_save_results()
    frame = pd.read_csv(files["answers"], keep_default_na=False)
    by_item = {(row["item"], row["utterance_idx"]): row["value"] for row in frame.to_dict("records")}
    assert by_item["uses", ""] == "phone; other: a, watch"
    assert by_item["trust", "1"] == "4"
    assert by_item["better", "3"] == "'=1+1", "a spreadsheet would run it"
    assert json.loads(by_item["ends", ""]) == {"best": "tone", "worst": "speed"}
    assert list(frame.columns) == [
        "conversation_idx",
        "worker_id",
        "model_nickname",
        "page",
        "item",
        "utterance_idx",
        "value",
    ]


def test_without_a_flow_everything_is_as_before(make: Make, save: Save, compiler: Callable[..., Any]) -> None:
    save(make())
    results = compiler(report=True)
    files = results.compile_and_save_results()
    assert not {"items", "answers", "splits"} & set(files)
    assert "Questions of the study" not in files["report"].read_text(encoding="utf-8")
    assert len(results.summary.items) == len(results.summary.answers) == 0


def test_malformed_answers_and_flows_cost_nothing_else(make: Make, save: Save, compiler: Callable[..., Any]) -> None:
    good = studied(make, 1, "a", warmth=70)
    junk = studied(make, 2, "a", warmth="hot", order="tone", ends=7, agree=[1], trust=[None, [1]], wrong=[None, 3])
    junk["answers"] += [7, {"page": 7}, {"page": "after", "item": "warmth"}, answer("nowhere", "nothing", 1)]
    junk["answers"] += [answer("chat", "wrong", 1, 10**400), answer("chat", "wrong", 1, -1)]
    odd = studied(make, 3, "a")
    odd["answers"] = "none"
    broken = make("a", "w4", "h4")
    broken["task_description"]["study_flow"] = "pages: ["
    for conversation in (good, junk, odd, broken):
        save(conversation)
    results = compiler(report=True)
    results.compile_and_save_results()
    assert results.summary.data.corpus.conversations.num_rows == 4
    assert values(results.summary.items, "warmth") == {"": 70.0}


def test_answers_of_conversations_that_do_not_count_are_left_out(
    make: Make, save: Save, compiler: Callable[..., Any]
) -> None:
    first = studied(make, 1, "a", warmth=10)
    save(first)
    save(first)  # a duplicate
    save({**studied(make, 2, "a", warmth=90), "status": "incomplete", "reason": "left"})
    save(studied(make, 3, "a", warmth=30))
    results = compiler()
    results.compile_results()
    assert values(results.summary.items, "warmth") == {"": 20.0}
    workers = results.summary.answers.query("item == 'warmth'")["worker_id"].to_list()
    assert workers == ["w1", "w3"]


def test_the_report_shows_every_item_with_chart_table_and_texts(
    make: Make, save: Save, compiler: Callable[..., Any]
) -> None:
    evil = "<script>alert(1)</script>"
    for number in range(4):
        save(
            studied(
                make, number, "ab"[number % 2], warmth=20 * number, better=f"{evil} {number}", uses=[{"other": evil}]
            )
        )
    page = compiler(report=True, by="age_band").compile_and_save_results()["report"].read_text(encoding="utf-8")
    assert page.count('id="answers"') == 1
    for question in ("Age", "Trust", "Wrong", "Better", "Warmth", "Order", "Ends", "Agree"):
        assert f"<h3>{question} " in page
    assert "Dot plot of Warmth for 2 models" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 3" in page
    assert evil not in page
    assert "By age_band" in page


def test_the_section_of_the_report_is_accessible(make: Make, save: Save, compiler: Callable[..., Any]) -> None:
    for number in range(6):
        save(studied(make, number, "ab"[number % 2], warmth=20 * number, better="Kinder."))
    path = compiler(report=True, by="age_band").compile_and_save_results()["report"]
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 360, "height": 700})
        page.goto(path.as_uri())
        assert axe_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_papers_and_programs_get_the_numbers_too(make: Make, save: Save, compiler: Callable[..., Any]) -> None:
    for number in range(4):
        save(studied(make, number, "a", warmth=20 * number, better="A secret text."))
    files = compiler().compile_and_save_results()
    latex = (files["tables"] / "items.tex").read_text(encoding="utf-8")
    assert r"warmth &  & a & 30.00 [0.00, 71.09] & 4 \\" in latex
    assert r"age\_band & young & a & 100.0 [" in latex
    statistics = files["statistics"].read_text(encoding="utf-8")
    assert '"warmth"' in statistics
    assert "A secret text." not in statistics
    save(make("a", "w9", "h9"))
    for path in (files["tables"].parent.parent / "results").rglob("*.json"):
        if "answers" in path.read_text(encoding="utf-8"):
            path.unlink()
    compiler().compile_and_save_results()
    assert not (files["tables"] / "items.tex").exists(), "of an earlier run"


def test_all_models_are_printed(
    make: Make, save: Save, compiler: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        save(studied(make, number, f"model{number}", warmth=10 * number))
    compiler().compile_and_save_results()
    printed = capsys.readouterr().out
    assert printed.count("Questions of the study") == 2
    for number in range(6):
        assert f"model{number}" in printed.split("Questions of the study", 1)[1]


def test_answers_as_text() -> None:
    assert [
        value_text(value) for value in ("x", 7, 7.5, ["a", "b"], {"other": "c"}, {"row": 1}, [{"start": 0}], [])
    ] == [
        "x",
        "7",
        "7.5",
        "a; b",
        "other: c",
        '{"row": 1}',
        '[{"start": 0}]',
        "",
    ]
    assert math.isfinite(float(value_text(3)))

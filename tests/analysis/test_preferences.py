"""Tables of compared replies: counted by hand, through the command and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_chat.analysis import compile_results
from model_chat.analysis.judgements import count_marks

from .conftest import make_conversation, saver

Entry = tuple[str, str, str]


def compared(left: str, right: str, pick: str, turn: int | None = 0, **more: Any) -> dict[str, Any]:
    """A judgement of replies that are called by their models' names."""
    return {
        "turn_idx": turn,
        "left": {"model_nickname": left, "text": f"reply of {left}"},
        "right": {"model_nickname": right, "text": f"reply of {right}"},
        "pick": pick,
        "strength": None,
        "reason": None,
        "continued_with": "left" if pick != "right" else "right",
        "timestamp": 1.0,
        **more,
    }


def paired(question: str, left: str, right: str, pick: str) -> dict[str, Any]:
    sides = {"left": {"model_nickname": left}, "right": {"model_nickname": right}}
    return {"turn_idx": None, "question": question, "pick": pick, **sides}


@pytest.fixture
def compile_all(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Save conversations, a list of judgements each, and compile; return the statistics file and the report's text."""

    def run(*conversations: tuple[str, list[dict[str, Any]]], flags: tuple[str, ...] = ()) -> dict[str, Any]:
        write = saver(tmp_path)
        for number, (worker, judgements) in enumerate(conversations):
            said = [f"this has {number} five plain words"]
            write(make_conversation("a|b", worker, f"h{number}", said=said, comparisons=judgements))
        out = tmp_path / "out"
        folders = ["--results-folders", str(tmp_path / "results"), "--output-folder", str(out)]
        boxes = ["--problem-buckets", "rude,odd,none_all_good"]
        assert compile_results.main([*folders, *boxes, "--bootstrap", "200", "--permutations", "99", *flags]) == 0
        (path,) = out.glob("statistics_*.json")
        found: dict[str, Any] = json.loads(path.read_text())
        found["report"] = next(out.glob("report_*.html")).read_text()
        found["files"] = sorted(entry.name.rsplit("_", 2)[0] for entry in out.iterdir() if entry.is_file())
        return found

    return run


def test_wins_ties_and_both_bad_are_counted_whatever_the_side(compile_all: Callable[..., dict[str, Any]]) -> None:
    found = compile_all(
        ("w1", [compared("a", "b", "left"), compared("b", "a", "right", 1), compared("b", "a", "tie", 2)]),
        ("w2", [compared("b", "a", "left"), compared("a", "b", "both_bad", 1)]),
        ("w3", [compared("a", "b", "left")]),
    )
    (row,) = found["wins"]
    assert {key: row[key] for key in ("model_a", "model_b", "wins_a", "wins_b", "ties", "both_bad")} == {
        "model_a": "a",
        "model_b": "b",
        "wins_a": 3,
        "wins_b": 1,
        "ties": 1,
        "both_bad": 1,
    }
    assert row["win_rate_a"] == pytest.approx((3 + 2 / 2) / 6)
    assert row["workers"] == 3
    strong, weak = found["ranking"]
    assert (strong["model_nickname"], weak["model_nickname"]) == ("a", "b")
    assert strong["strength"] - weak["strength"] == pytest.approx(math.log(3))  # Davidson's closed form for two models
    assert (strong["judgements"], strong["workers"]) == (6, 3)
    assert {"wins", "ranking", "comparison_effects", "win_curves"} <= set(found["files"])


def test_the_share_of_the_left_side_leaves_out_ties(compile_all: Callable[..., dict[str, Any]]) -> None:
    found = compile_all(
        ("w1", [compared("a", "b", "left"), compared("b", "a", "left", 1), compared("a", "b", "tie", 2)]),
        ("w2", [compared("a", "b", "right"), compared("b", "a", "left", 1)]),
    )
    side = {row["effect"]: row for row in found["comparison_effects"]}["left_side_rate"]
    assert side["value"] == pytest.approx(3 / 4)
    assert side["judgements"] == 4


def test_a_curve_shows_each_exchange(compile_all: Callable[..., dict[str, Any]]) -> None:
    found = compile_all(
        ("w1", [compared("a", "b", "left"), compared("a", "b", "right", 1)]),
        ("w2", [compared("b", "a", "left"), compared("b", "a", "left", 1)]),
    )
    of_a = {row["turn_idx"]: row["win_rate"] for row in found["win_curves"] if row["model_nickname"] == "a"}
    assert of_a == {0: 0.5, 1: 0.0}


def test_questions_about_whole_conversations_are_ranked_each_by_itself(
    compile_all: Callable[..., dict[str, Any]],
) -> None:
    asked = ("More human?", "More fun?")
    found = compile_all(
        ("w1", [paired(asked[0], "a", "b", "left"), paired(asked[1], "a", "b", "right")]),
        ("w2", [paired(asked[0], "b", "a", "right"), paired(asked[1], "b", "a", "tie")]),
        ("w3", [paired(asked[0], "a", "b", "right"), paired(asked[1], "a", "b", "right")]),
    )
    rates = {row["question"]: row["win_rate_a"] for row in found["wins"]}
    assert rates == {asked[0]: pytest.approx(2 / 3), asked[1]: pytest.approx(1 / 6)}
    first = {row["question"]: row["model_nickname"] for row in reversed(found["ranking"])}
    assert first[asked[0]] == "a"
    assert found["win_curves"] == []
    assert "More human?" in found["report"]


def test_a_sentence_stands_for_a_ranking_that_is_not_possible(compile_all: Callable[..., dict[str, Any]]) -> None:
    found = compile_all(("w1", [compared("a", "b", "left")]), ("w2", [compared("b", "a", "right")]))
    assert found["ranking"] == []
    assert (
        "No ranking: a never lost to, or tied with, the other, so the strength has no finite estimate; more judgements are "
        "needed." in found["remarks"]
    )
    assert found["wins"][0]["wins_a"] == 2


def test_judgements_of_one_model_with_itself_tell_of_sides_only(compile_all: Callable[..., dict[str, Any]]) -> None:
    found = compile_all(
        ("w1", [compared("a", "a", "left"), compared("a", "b", "left")]), ("w2", [compared("b", "a", "left")])
    )
    (row,) = found["wins"]
    assert (row["wins_a"], row["wins_b"]) == (1, 1)
    side = {row["effect"]: row for row in found["comparison_effects"]}["left_side_rate"]
    assert side["judgements"] == 3
    assert {row["judgements"] for row in found["ranking"]} == {2}


def test_judgements_of_left_out_and_repeated_conversations_do_not_count(
    compile_all: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write = saver(tmp_path / "other")
    twice = make_conversation("a|b", "w1", "h1", comparisons=[compared("a", "b", "left")])
    for _ in range(2):
        write(twice)
    write(make_conversation("a|b", "w9", "h9", comparisons=[compared("b", "a", "left")], status="incomplete"))
    found = compile_all(
        ("w2", [compared("b", "a", "left")]),
        flags=("--results-folders", f"{tmp_path / 'results'},{tmp_path / 'other' / 'results'}"),
    )
    (row,) = found["wins"]
    assert (row["wins_a"], row["wins_b"]) == (1, 1)


def test_results_without_comparisons_are_as_before(compile_all: Callable[..., dict[str, Any]]) -> None:
    found = compile_all(("w1", []))
    assert "wins" not in found
    assert "ranking" not in found["files"]
    assert "Compared replies" not in found["report"]


def test_a_malformed_judgement_is_named(compile_all: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    compile_all(("w1", [compared("a", "b", "left")]), ("w2", [compared("a", "b", "middle")]))
    (path,) = (tmp_path / "out").glob("excluded_*.csv")
    (row,) = pd.read_csv(path).to_dict("records")
    assert row["reason"] == "malformed"
    assert "comparisons.0.pick" in row["detail"]


def test_length_and_format_are_controlled_for(compile_all: Callable[..., dict[str, Any]]) -> None:
    rng = np.random.default_rng(3)
    conversations = []
    for number in range(120):
        judgements = []
        for turn in range(4):
            left, right = ("a", "b") if rng.random() < 0.5 else ("b", "a")
            texts = {"a": "word " * int(rng.integers(10, 60)), "b": "word " * int(rng.integers(5, 30))}
            if rng.random() < 0.5:
                texts[left] += "\n- **point**"
            longer = math.log2(len(texts[left]) / len(texts[right]))
            picked = "left" if rng.random() < 1 / (1 + math.exp(-1.5 * longer)) else "right"
            entry = compared(left, right, picked, turn)
            entry["left"]["text"], entry["right"]["text"] = texts[left], texts[right]
            judgements.append(entry)
        conversations.append((f"w{number}", judgements))
    found = compile_all(*conversations)
    first, second = found["ranking"]
    assert first["model_nickname"] == "a"
    assert first["low"] > 0
    assert first["low_controlled"] < 0 < first["high_controlled"]
    effects = {row["effect"]: row for row in found["comparison_effects"]}
    assert effects["length"]["low"] < 1.5 < effects["length"]["high"]
    assert effects["format"]["low"] < 0 < effects["format"]["high"]
    assert second["strength_controlled"] == pytest.approx(-first["strength_controlled"])


def test_a_length_that_follows_from_the_models_is_not_controlled_for(
    compile_all: Callable[..., dict[str, Any]],
) -> None:
    """Replies that are always the same: nobody can tell whether their length or their content is liked."""
    texts = {"a": "short", "b": "- a longer one", "c": "the **longest** one of them"}

    def judged(left: str, right: str, pick: str, turn: int) -> dict[str, Any]:
        sides = {
            side: {"model_nickname": name, "text": texts[name]} for side, name in (("left", left), ("right", right))
        }
        return compared(left, right, pick, turn) | sides

    picks = ("left", "right", "left", "tie")
    studied = []
    for n in range(16):
        first, second = (("a", "b"), ("b", "c")) if n % 2 else (("b", "a"), ("c", "b"))
        pick = picks[n // 2 % 4]
        studied.append((f"w{n}", [judged(*first, pick, 0), judged(*second, picks[n // 4], 1)]))
    found = compile_all(*studied)
    assert [row["effect"] for row in found["comparison_effects"]] == ["left_side_rate", "left_side"]
    assert all(row["strength_controlled"] is None for row in found["ranking"])
    assert all(row["low"] is not None for row in found["ranking"])


def test_a_model_that_only_won_and_tied_is_named_in_place_of_the_ranking(
    compile_all: Callable[..., dict[str, Any]],
) -> None:
    found = compile_all(*((f"w{n}", [compared("a", "b", ("left", "tie")[n % 2])]) for n in range(4)))
    assert found["ranking"] == []
    sentence = "No ranking: a never lost, so the strengths have no finite estimate; more judgements are needed."
    assert sentence in found["remarks"]


def test_both_replies_are_side_by_side_in_the_report(compile_all: Callable[..., dict[str, Any]]) -> None:
    judged = compared("a", "b", "right", reason="</script><b>rude")
    judged["right"]["text"] = "reply 0"  # the conversation went on with it
    found = compile_all(("w1", [judged]), ("w2", [paired("Better?", "a", "b", "left")]))
    _, _, rest = found["report"].partition('id="conversation-data"')
    data = json.loads(rest[rest.index(">") + 1 : rest.index("</script>")])
    first, second = data["conversations"]
    assert [turn.get("compared", {}).get("pick") for turn in first["turns"]] == [None, "right"]
    assert first["turns"][1]["compared"]["reason"] == "</script><b>rude"
    assert [entry["question"] for entry in second["compared"]] == ["Better?"]
    assert "</script><b>rude" not in found["report"]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("plain text, 3 * 4 - 2", 0),
        ("# Title\n\nText with **strong** words", 2),
        ("**one** and **two**, but 2**3 is 8", 2),
        ("- one\n- two\n10. three", 3),
        ("```python\nx = 1\n```", 2),
        ("a#b and 1.5 and snake__case", 0),
    ],
)
def test_marks_of_markdown(text: str, marks: int) -> None:
    assert count_marks(text) == marks

"""Conversations in which two models were compared, in the tables that are not about comparisons: each model has its own."""

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
from model_chat.analysis.compiler import ModelChatResultsCompiler
from model_chat.analysis.majority import majority_labels
from model_chat.analysis.measures import dialog_digest, item_digests, measure
from model_chat.analysis.mixed import fit
from model_chat.analysis.remarks import remarks
from model_chat.analysis.report import browsable
from model_chat.records.reading import parse_conversation

from .conftest import BUCKETS, make_conversation

FLOW = """
pages:
  - {id: about_you, kind: questions, items: [{id: age, kind: choice, question: "How old?", options: [young, old]}]}
  - id: talk
    kind: chat
    every_reply: [{id: kind, kind: scale, question: "How kind?", points: 5}]
    last_reply: [{id: odd_words, kind: highlight, question: "What is odd?"}]
  - {id: end, kind: questions, items: [{id: fun, kind: scale, question: "How much fun?", points: 5}]}
"""


def reply(text: str, model: str | None, *ticked: str, **more: Any) -> dict[str, Any]:
    ticks = {bucket: bucket in (ticked or ("none_all_good",)) for bucket in BUCKETS}
    named = {} if model is None else {"model_nickname": model}
    return {"agent_idx": 1, "id": "Speaker 2", "text": text, "problem_data": ticks, **named, **more}


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"agent_idx": 0, "id": "Speaker 1", "text": text, **more}


def per_turn(worker: str = "w1", hit: str = "h1", pair: str = "a|b", **more: Any) -> dict[str, Any]:
    """An opening by b, then three exchanges, of which a wins the first two and b the last: a has problems, b has none."""
    a, b = pair.split("|")

    def judged(turn: int, text: str, continued: str) -> dict[str, Any]:
        return {
            "turn_idx": turn,
            "left": {"model_nickname": a, "text": text if continued == "left" else "not taken"},
            "right": {"model_nickname": b, "text": text if continued == "right" else "not taken"},
            "pick": continued,
            "continued_with": continued,
            "strength": 2,
        }

    dialog = [
        says("Hi!", fake_start=True),
        reply("opening", b),
        says("one two three four five"),
        reply("first", a, "rude"),
        says("six seven eight nine?"),
        reply("second", a, "rude", "odd"),
        says("ten eleven twelve thirteen"),
        reply("third", b, final_rating="4"),
    ]
    judgements = [judged(0, "first", "left"), judged(1, "second", "left"), judged(2, "third", "right")]
    made = make_conversation(pair, worker, hit, comparisons=judgements)
    return {**made, "dialog": dialog, **more}


def paired(worker: str = "w2", hit: str = "h2", first: str = "b", second: str = "a", **more: Any) -> dict[str, Any]:
    """Two chats of two exchanges: the first model has a problem in its second reply, the other has none."""
    dialog = [
        says("one two three four five six", chat_idx=0),
        reply("first of one", first, chat_idx=0),
        says("seven eight nine ten?", chat_idx=0),
        reply("second of one", first, "odd", chat_idx=0),
        says("one two three four", chat_idx=1),
        reply("first of two", second, chat_idx=1),
        says("five six seven eight", chat_idx=1),
        reply("second of two", second, chat_idx=1),
    ]
    sides = {"left": {"model_nickname": first}, "right": {"model_nickname": second}}
    judgements = [{"turn_idx": None, "question": "Better?", "pick": "left", "strength": 1, **sides}]
    made = make_conversation("|".join(sorted((first, second))), worker, hit, comparisons=judgements)
    return {**made, "dialog": dialog, **more}


def with_flow(conversation: dict[str, Any], *answers: tuple[str, str, Any, int | None]) -> dict[str, Any]:
    conversation["task_description"]["study_flow"] = FLOW
    entries = [
        {"page": page, "item": item, "value": value, "utterance_idx": about} for page, item, value, about in answers
    ]
    return {**conversation, "answers": entries}


@pytest.fixture
def study(
    save: Callable[..., Path], compiler: Callable[..., ModelChatResultsCompiler]
) -> Callable[..., ModelChatResultsCompiler]:
    def compiled(*conversations: dict[str, Any], **flags: Any) -> ModelChatResultsCompiler:
        for conversation in conversations:
            save(conversation)
        made = compiler(min_word_count=0, **flags)
        made.frame = made.compile_results()
        return made

    return compiled


def by_model(frame: pd.DataFrame, *columns: str) -> dict[str, Any]:
    known = frame.astype(object).where(frame.notna(), None)
    rows = zip(*(known[name] for name in columns), strict=True)
    one = len(columns) == 1
    return dict(zip(known["model_nickname"], ((row[0] if one else row) for row in rows), strict=True))


def test_each_compared_reply_counts_for_the_model_that_gave_it_and_the_rest_for_the_pair(
    study: Callable[..., Any],
) -> None:
    models = study(per_turn(), make_conversation("a", "w9", "h9", labels=[(), ("rude",)])).summary.models
    assert by_model(models, "conversations", "workers", "model_utterances", "annotated_utterances", "rude", "odd") == {
        "a": (2, 2, 4, 4, 3, 1),
        "a|b": (1, 1, None, None, None, None),
        "b": (1, 1, 2, 2, 0, 0),
    }
    assert by_model(models, "human_utterances", "human_words", "human_questions", "final_rating_count") == {
        "a": (2, 10, 0, 1),
        "a|b": (3, 13, 1, 1),
        "b": (None, None, None, None),
    }
    assert by_model(models, "clean_conversations", "clean_share") == {"a": (0, 0), "a|b": (0, 0), "b": (None, None)}


def with_boxes_of_both(conversation: dict[str, Any]) -> dict[str, Any]:
    """The same conversation, in which each reply that was not taken is marked as odd."""
    taken = {line["text"]: line["problem_data"] for line in conversation["dialog"] if line["agent_idx"] == 1}
    odd = {bucket: bucket == "odd" for bucket in BUCKETS}
    for judged in conversation["comparisons"]:
        for side in ("left", "right"):
            judged[side]["problem_data"] = taken.get(judged[side]["text"], odd)
    return conversation


def test_boxes_of_replies_that_were_not_taken_count_for_the_model_that_gave_them(study: Callable[..., Any]) -> None:
    plain = study(per_turn("w1", "h1", "a|b")).summary
    summary = study(with_boxes_of_both(per_turn("w2", "h2", "c|d"))).summary
    models = summary.models
    rows = by_model(models, "model_utterances", "annotated_utterances", "rude", "odd")
    assert (rows["a"], rows["b"]) == ((2, 2, 2, 1), (2, 2, 0, 0))
    assert (rows["c"], rows["d"]) == ((2, 3, 2, 2), (2, 4, 0, 2)), "d lost two of three, c one"
    assert by_model(models, "clean_conversations")["c|d"] == 0
    own = summary.estimates.set_index(["model_nickname", "metric"])
    assert own.loc[("d", "odd"), ["value", "total"]].tolist() == [2 / 4, 4]
    odd = summary.turns[summary.turns["bucket"] == "odd"].set_index(["model_nickname", "exchange"])
    assert odd.loc[("d", 2), "rate"] == 1.0, "the reply to the first message, after the opening"
    assert len(plain.data.corpus.turns) == 4


def test_a_reply_that_was_not_taken_is_one_item_for_all_who_marked_it(
    study: Callable[..., Any], save: Callable[..., Path]
) -> None:
    summary = study(with_boxes_of_both(per_turn()), with_boxes_of_both(per_turn("w2", "h2"))).summary
    turns = summary.data.corpus.turns
    assert len(turns) == 14
    assert len(set(turns["history"].tolist())) == 7
    agreement = summary.agreement.set_index("judged")
    assert agreement.loc["odd", "items"] == 7
    labels = majority_labels(summary.data)
    assert len(labels) == 4 * len(BUCKETS), "majorities are of replies that are in the results"
    assert set(labels["turn_idx"]) == {1, 3, 5, 7}


def test_the_browser_has_the_boxes_of_both_replies(
    save: Callable[..., Path], compiler: Callable[..., ModelChatResultsCompiler]
) -> None:
    save(with_boxes_of_both(per_turn()))
    run = compiler(min_word_count=0)
    with run._collected() as corpus:
        (entry,) = browsable(run._summarise(corpus))
    first = next(turn["compared"] for turn in entry["turns"] if "compared" in turn)
    assert [BUCKETS[i] for i in first["left"]["ticks"]] == ["rude"]
    assert [BUCKETS[i] for i in first["right"]["ticks"]] == ["odd"]


def test_each_compared_chat_counts_for_its_model_and_the_pair_has_no_row(study: Callable[..., Any]) -> None:
    models = study(paired(), make_conversation("a", "w9", "h9", labels=[(), ("rude",)])).summary.models
    columns = ("conversations", "model_utterances", "odd", "human_utterances", "human_words", "human_questions")
    assert by_model(models, *columns) == {"a": (2, 4, 0, 4, 18, 0), "b": (1, 2, 1, 2, 10, 1)}
    assert by_model(models, "clean_conversations") == {"a": 1, "b": 0}


def test_nothing_is_counted_twice_and_nothing_is_lost(study: Callable[..., Any]) -> None:
    conversations = [per_turn(), paired(), paired("w3", "h3", "a", "b"), make_conversation("c", "w4", "h4")]
    compiled = study(*conversations, per_turn("w5", "h5", "a|c"))
    models, data = compiled.summary.models, compiled.summary.data
    assert models["model_utterances"].sum() == 4 + 4 + 4 + 1 + 4
    assert models["human_utterances"].sum() == 3 + 4 + 4 + 1 + 3
    assert models["rude"].sum() == 4
    assert compiled.summary.workers["problems_found"].sum() == 2 + 1 + 1 + 0 + 2
    assert compiled.summary.workers["conversations"].sum() == 5
    assert data.column("human_words").sum() == data.conversation_column("human_words").sum()
    turns = compiled.summary.turns
    assert turns[turns["bucket"] == "rude"]["messages"].sum() == 17


def test_rates_are_of_models_and_ratings_of_pairs(study: Callable[..., Any]) -> None:
    summary = study(per_turn(), per_turn("w2", "h2"), paired("w3", "h3")).summary
    own = summary.estimates.set_index(["model_nickname", "metric"])
    assert own.loc[("a", "rude"), ["value", "total"]].tolist() == [4 / 6, 6]
    assert own.loc[("b", "odd"), ["value", "total"]].tolist() == [1 / 6, 6]
    assert own.loc[("a|b", "final_rating"), ["value", "total"]].tolist() == [4, 2]
    assert own.loc[("a|b", "clean_conversation"), ["value", "total"]].tolist() == [0, 2]
    assert own.loc[("a", "clean_conversation"), ["value", "total"]].tolist() == [1, 1]
    assert ("a|b", "rude") not in own.index
    assert ("a", "final_rating") not in own.index
    assert list(summary.ratings["model_nickname"]) == ["a|b"]
    compared = summary.comparisons
    assert set(zip(compared["model_a"], compared["model_b"], strict=True)) == {("a", "b")}
    assert set(compared["metric"]) == {*BUCKETS, "clean_conversation"}


def test_pairs_are_compared_with_pairs_alone(study: Callable[..., Any]) -> None:
    records = [per_turn("w1", "h1"), per_turn("w2", "h2", "a|c"), make_conversation("a", "w3", "h3")]
    summary = study(*records, sequential=True).summary
    compared = summary.comparisons
    pairs = set(zip(compared["metric"], compared["model_a"], compared["model_b"], strict=True))
    assert ("final_rating", "a|b", "a|c") in pairs
    assert not any(("|" in a) != ("|" in b) for _, a, b in pairs)
    watched = summary.sequential[summary.sequential["about"] == "difference"]
    assert not any(("|" in a) != ("|" in b) for a, b in zip(watched["model_a"], watched["model_b"], strict=True))
    mixed = summary.mixed[summary.mixed["about"] == "difference"]
    assert not any(("|" in a) != ("|" in b) for a, b in zip(mixed["model_a"], mixed["model_b"], strict=True))


def test_mixed_models_take_both_models_of_a_conversation_as_one(study: Callable[..., Any]) -> None:
    conversations = [per_turn(f"w{number % 4}", f"h{number}") for number in range(8)]
    for number, conversation in enumerate(conversations):
        for line in conversation["dialog"][number % 5 :]:
            if line.get("problem_data"):
                line["problem_data"]["odd"] = number % 3 == 0
    summary = study(*conversations).summary
    data = summary.data
    (odd,) = (metric for metric in data.metrics if metric.name == "odd")
    (own,) = summary.mixed[(summary.mixed["metric"] == "odd") & (summary.mixed["about"] == "difference")]["se"]
    given = odd.sums, odd.sums, odd.totals, data.model, data.worker
    a, b = data.models.index("a"), data.models.index("b")

    def error_of_difference(conversations: Any) -> float:
        found = fit(*given, conversations)
        assert found is not None
        return math.sqrt(found.covariance[a, a] + found.covariance[b, b] - 2 * found.covariance[a, b])

    assert own == pytest.approx(error_of_difference(data.conversation))
    assert own < error_of_difference(np.arange(len(data.model))) / 2


def test_exchanges_are_counted_in_each_chat(study: Callable[..., Any]) -> None:
    turns = study(paired()).summary.turns
    odd = turns[turns["bucket"] == "odd"]
    assert set(zip(odd["model_nickname"], odd["exchange"], odd["rate"], strict=True)) == {
        ("a", 1, 0.0),
        ("a", 2, 0.0),
        ("b", 1, 0.0),
        ("b", 2, 1.0),
    }


def test_rows_of_the_results_name_who_spoke(study: Callable[..., Any]) -> None:
    frame = study(per_turn(), paired()).frame
    names = {number: own["model_nickname"].tolist() for number, own in frame.groupby("conversation_idx")}
    assert names[0] == ["a|b", "a|b", "b", "a|b", "a", "a|b", "a", "a|b", "b"]
    assert names[1] == ["a|b", *["b"] * 4, *["a"] * 4]


def test_answers_about_replies_are_of_their_model_and_others_of_the_pair(study: Callable[..., Any]) -> None:
    first = with_flow(
        per_turn(),
        ("about_you", "age", "young", None),
        ("talk", "kind", 1, 3),
        ("talk", "kind", 5, 7),
        ("end", "fun", 4, None),
    )
    second = with_flow(
        paired(),
        ("about_you", "age", "old", None),
        ("talk", "kind", 2, 1),
        ("talk", "kind", 3, 7),
        ("talk", "odd_words", [[0, 2]], 7),
        ("end", "fun", 2, None),
    )
    summary = study(first, second, by="age").summary
    rows = summary.items.set_index(["item", "model_nickname"])
    assert rows.loc[("kind", "a"), ["value", "answers"]].tolist() == [2, 2]
    assert rows.loc[("kind", "b"), ["value", "answers"]].tolist() == [3.5, 2]
    assert rows.loc[("fun", "a|b"), ["value", "answers"]].tolist() == [3, 2]
    assert ("fun", "a") not in rows.index
    assert ("kind", "a|b") not in rows.index
    assert rows.loc[("odd_words", "a"), ["value", "answers"]].tolist() == [1, 1]  # of the chat's last reply
    assert rows.loc[("odd_words", "b"), ["value", "answers"]].tolist() == [0, 2]  # its chat, and the end of the other
    given = summary.answers[summary.answers["item"] == "kind"]
    assert given["model_nickname"].tolist() == ["a", "b", "b", "a"]
    splits = summary.splits
    rude = splits[(splits["metric"] == "rude") & (splits["level"] == "young")].set_index("model_nickname")
    assert rude["total"].to_dict() == {"a": 2, "b": 2}
    fun = splits[(splits["metric"] == "fun") & (splits["level"] == "old")]
    assert fun["model_nickname"].tolist() == ["a|b"]


def test_the_same_text_of_another_model_or_chat_is_another_item() -> None:
    ours, theirs = per_turn(), per_turn()
    theirs["dialog"][3]["model_nickname"] = "b"
    digests, other = (item_digests(parse_conversation(one)) for one in (ours, theirs))
    assert digests[:3] == other[:3]
    assert digests[3] != other[3]
    assert digests[4] == other[4]
    read = parse_conversation(paired())
    found = item_digests(read)
    second_alone = paired()
    second_alone["dialog"][:4] = []
    assert item_digests(parse_conversation(second_alone)) == found[4:]
    counted = measure(read, BUCKETS, frozenset(BUCKETS), {})
    assert counted.histories == found[1::2]
    assert counted.dialog_hash == dialog_digest(read)


def test_majority_labels_name_the_model_of_the_reply(study: Callable[..., Any]) -> None:
    summary = study(per_turn("w1", "h1"), per_turn("w2", "h2")).summary
    majority = summary.majority[summary.majority["label"] == "rude"]
    assert majority["model_nickname"].tolist() == ["b", "a", "a", "b"]
    agreed = summary.agreement.set_index("judged")["items"]
    assert agreed["rude"] == 4
    assert agreed["final_rating"] == 1


def test_remarks_count_conversations_once_and_miss_no_rating_of_compared_chats(study: Callable[..., Any]) -> None:
    said = " ".join(remarks(study(per_turn(), paired(), make_conversation("a", "w9", "h9", rating=None)).summary))
    assert "1 of 2 conversations lack a final rating" in said
    assert "hold no annotation" not in said
    assert "talked to a, b:" in said


def test_own_columns_get_each_model_its_own_counts(
    save: Callable[..., Path], compiler: Callable[..., ModelChatResultsCompiler]
) -> None:
    class Own(ModelChatResultsCompiler):
        def model_columns(self, model_nickname: str, conversations: pd.DataFrame) -> dict[str, float]:
            return {"replies": float(conversations["model_utterances"].sum()), "rows": float(len(conversations))}

    save(per_turn())
    save(paired())
    save(make_conversation("a", "w9", "h9"))
    made = compiler(Own, min_word_count=0)
    made.compile_results()
    assert made.summary is not None
    assert by_model(made.summary.models, "replies", "rows") == {"a": (5, 3), "a|b": (0, 1), "b": (4, 2)}


def test_a_model_against_itself_has_all_replies_and_both_chats(study: Callable[..., Any]) -> None:
    models = study(per_turn(pair="a|a"), paired(first="a", second="a")).summary.models
    assert by_model(models, "conversations", "model_utterances") == {"a": (3, 8), "a|a": (1, None)}


def test_a_pair_written_the_other_way_round_is_the_same_pair(study: Callable[..., Any]) -> None:
    turned = per_turn("w3", "h3")
    turned["task_description"]["model_nickname"] = "b|a"
    compiled = study(per_turn(), per_turn("w2", "h2"), turned)
    assert by_model(compiled.summary.models, "conversations") == {"a": 3, "b": 3, "a|b": 3}
    assert compiled.summary.ratings["ratings"].tolist() == [3]
    assert set(compiled.frame["model_nickname"]) == {"a", "b", "a|b"}


def test_cells_of_a_design_count_both_models_of_a_conversation(study: Callable[..., Any]) -> None:
    warm, cool = {"conditions": {"tone": "warm"}}, {"conditions": {"tone": "cool"}}
    cells = study(per_turn(**warm), paired(**warm), per_turn("w3", "h3", **cool)).summary.conditions.cells
    rude = cells[cells["metric"] == "rude"].set_index("factor_tone")
    assert rude[["value", "observations", "conversations"]].to_dict("index") == {
        "cool": {"value": 0.5, "observations": 4, "conversations": 1},
        "warm": {"value": 0.25, "observations": 8, "conversations": 2},
    }


def test_an_incomplete_comparison_has_the_parts_that_there_are(study: Callable[..., Any]) -> None:
    cut = paired(comparisons=[], status="incomplete", reason="left")
    cut["dialog"] = [*cut["dialog"][:4], cut["dialog"][4]]  # the second model has not answered
    models = study(cut, include_incomplete=True).summary.models
    assert by_model(models, "conversations", "human_utterances", "model_utterances") == {"a": (1, 1, 0), "b": (1, 2, 2)}


def test_a_part_with_damaged_names_belongs_to_the_pair(study: Callable[..., Any]) -> None:
    damaged = per_turn()
    damaged["dialog"][3]["model_nickname"] = 7
    damaged["dialog"][5]["chat_idx"] = "first"
    models = study(damaged).summary.models
    assert by_model(models, "conversations")["a|b"] == 1
    assert models["human_utterances"].sum() == 3


def test_duplicates_and_the_limit_leave_the_parts_of_the_others_in_place(study: Callable[..., Any]) -> None:
    models = study(
        per_turn(), per_turn(), paired("w1", "h3"), paired("w2", "h4"), max_convos_per_worker=1
    ).summary.models
    assert by_model(models, "conversations", "model_utterances", "odd") == {
        "a": (2, 4, 1),
        "a|b": (1, None, None),
        "b": (2, 4, 1),
    }


def test_the_report_sets_replies_side_by_side_where_they_were_compared(
    save: Callable[..., Path], compiler: Callable[..., ModelChatResultsCompiler], tmp_path: Path
) -> None:
    """Whatever else has the same text, and though an earlier judgement has no place."""
    compared = per_turn()
    for line in compared["dialog"][1::2]:
        line["text"] = "the same"
    for judged in compared["comparisons"]:
        judged[judged["continued_with"]]["text"] = "the same"
    compared["comparisons"][0]["left"]["text"] = compared["comparisons"][0]["right"]["text"] = "lost"
    save(compared)
    run = compiler(min_word_count=0)
    with run._collected() as corpus:
        (entry,) = browsable(run._summarise(corpus))
    places = [place for place, turn in enumerate(entry["turns"]) if "compared" in turn]
    assert places == [5, 7]
    assert [judged["left"]["text"] for judged in entry["compared"]] == ["lost"]


def test_the_report_shows_models_pairs_and_chats(
    save: Callable[..., Path], compiler: Callable[..., ModelChatResultsCompiler], tmp_path: Path
) -> None:
    for conversation in (per_turn(), paired(), make_conversation("c", "w9", "h9")):
        save(conversation)
    compiler(min_word_count=0, report=True).compile_and_save_results()
    _, _, rest = next((tmp_path / "out").glob("report_*.html")).read_text().partition('id="conversation-data"')
    data = json.loads(rest[rest.index(">") + 1 : rest.index("</script>")])
    first, second, third = data["conversations"]
    assert first["models"] == ["a|b", "a", "b"]
    assert [turn.get("model") for turn in first["turns"]] == [None, "b", None, "a", None, "a", None, "b"]
    assert [turn["compared"]["pick"] for turn in first["turns"] if "compared" in turn] == ["left", "left", "right"]
    assert [(turn["model"], turn["chat"]) for turn in second["turns"]] == [("b", 0)] * 4 + [("a", 1)] * 4
    assert "model" not in third["turns"][0]


def test_the_command_writes_every_table_of_both_modes(tmp_path: Path, save: Callable[..., Path]) -> None:
    for number in range(6):
        save(with_flow(per_turn(f"w{number}", f"p{number}"), ("talk", "kind", 4, 3), ("end", "fun", 3, None)))
        save(with_flow(paired(f"w{number}", f"q{number}"), ("talk", "kind", 4, 3), ("end", "fun", 3, None)))
    folders = ["--results-folders", str(tmp_path / "results"), "--output-folder", str(tmp_path / "out")]
    more = ["--problem-buckets", ",".join(BUCKETS), "--bootstrap", "200", "--permutations", "99", "--sequential"]
    assert compile_results.main([*folders, *more, "--min-word-count", "0", "--by", "age"]) == 0
    (path,) = (tmp_path / "out").glob("statistics_*.json")
    found = json.loads(path.read_text())
    rates = {(row["model_nickname"], row["metric"]): row["value"] for row in found["estimates"]}
    assert rates["a", "rude"] == pytest.approx(2 / 4)
    assert rates["b", "odd"] == pytest.approx(1 / 4)
    assert {row["model_nickname"] for row in found["items"] if row["item"] == "fun"} == {"a|b"}
    report = next((tmp_path / "out").glob("report_*.html")).read_text()
    assert "<dt>Models</dt><dd>2</dd>" in report
    assert "Compared replies and chats" in report
    assert "First chat" in report

"""What each format holds, and which conversations and replies are in it."""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from model_chat.exports.formats import HF_SCHEMA
from model_chat.exports.settings import FORMATS, HF_FILE
from model_chat.tests.analysis.conftest import BUCKETS, make_conversation
from model_chat.tests.analysis.test_compared_parts import paired
from model_chat.tests.exports.conftest import CONSENT, WORKER, Place, comparison

METADATA = {name for name in HF_SCHEMA.names if name != "messages"}
GOOD, BAD = "none_all_good", "odd"
TWO = ("hello there you", "and what then")


def said(*texts: str) -> list[dict[str, str]]:
    """Messages, the human's first."""
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def test_openai_has_the_dialogue_as_messages_and_what_is_known_beside_it(place: Place) -> None:
    place.add(said=["hello there"], replies=["Hi!"], labels=[["odd"]], rating="2|5")
    (row,) = place.rows("openai")
    assert list(row) == ["messages", "metadata"]
    assert row["messages"] == said("hello there", "Hi!")
    metadata = row["metadata"]
    assert set(metadata) == METADATA
    assert (metadata["model"], metadata["worker"], metadata["hit_id"], metadata["ratings"]) == ("a", "w1", "h1", [2, 5])
    assert metadata["annotations"] == [{"message": 1, "offered": ["rude", "odd", "none_all_good"], "ticked": ["odd"]}]
    assert (metadata["consent"], metadata["day"]) == ("not_recorded", "2026-11-20")


def test_what_the_model_was_told_is_the_system_message_and_the_persona_of_the_human_is_not(place: Place) -> None:
    described = {"annotations_config": None, "model_nickname": "a", "model_opt": {"system_prompt": "Be kind."}}
    place.add(
        personas=[["I am the human."], ["I bake.", "your persona: I sing."]],
        additional_context="Topic: bread",
        task_description=described,
    )
    (row,) = place.rows("openai")
    assert row["messages"][0] == {
        "role": "system",
        "content": "Be kind.\n\nyour persona: I bake.\nyour persona: I sing.\nTopic: bread",
    }
    assert row["metadata"]["annotations"][0]["message"] == 2
    assert "I am the human" not in json.dumps(row)
    (row,) = place.rows("openai", "--no-persona", "--overwrite")
    assert row["messages"][0] == {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize(
    ("prompts", "told"), [(("Be kind.", "Be kind."), ["Be kind."]), (("Be kind.", "Be curt."), [])]
)
def test_compared_models_have_a_system_message_where_theirs_is_the_same(
    place: Place, prompts: tuple[str, str], told: list[str]
) -> None:
    options = {name: {"system_prompt": prompt} for name, prompt in zip("ab", prompts, strict=True)}
    dialog: list[dict[str, Any]] = [
        {"agent_idx": 0, "text": "hello"},
        {"agent_idx": 1, "text": "reply 0", "model_nickname": "b"},
    ]
    place.add(dialog=dialog, task_description={"model_nickname": "a|b", "model_opt": options})
    (row,) = place.rows("openai")
    assert [message["content"] for message in row["messages"] if message["role"] == "system"] == told
    assert row["metadata"]["message_models"] == [{"message": len(told) + 1, "model": "b"}]
    assert row["metadata"]["model"] == "a|b"


def test_sharegpt_names_the_speakers_as_its_readers_do(place: Place) -> None:
    place.add(said=["hello"], replies=["Hi!"], additional_context="bread")
    (row,) = place.rows("sharegpt")
    assert row["conversations"] == [
        {"from": "system", "value": "bread"},
        {"from": "human", "value": "hello"},
        {"from": "gpt", "value": "Hi!"},
    ]
    assert row["id"] == row["metadata"]["id"]


def test_a_preference_has_the_conversation_as_it_went_on_for_its_prompt(place: Place) -> None:
    judged = [comparison("right", 0, "reply 0", "other 0"), comparison("left", 1, "reply 1", "other 1")]
    place.add(said=TWO, labels=[None, None], comparisons=judged)
    first, second = place.rows("trl-preference")
    assert first == {
        "prompt": said("hello there you"),
        "chosen": [{"role": "assistant", "content": "other 0"}],
        "rejected": [{"role": "assistant", "content": "reply 0"}],
    }
    assert second["prompt"] == said("hello there you", "reply 0", "and what then")
    assert (second["chosen"][0]["content"], second["rejected"][0]["content"]) == ("reply 1", "other 1")


def test_lines_that_were_only_shown_as_said_are_part_of_the_prompt_and_no_exchange(place: Place) -> None:
    dialog: list[dict[str, Any]] = [
        {"agent_idx": 0, "id": "Speaker 1", "text": "Hi!", "fake_start": True},
        {"agent_idx": 1, "id": "Speaker 2", "text": "Hello!", "fake_start": True},
        {"agent_idx": 0, "id": "Speaker 1", "text": "now really"},
        {"agent_idx": 1, "id": "Speaker 2", "text": "reply 0", "final_rating": "5"},
    ]
    place.add(dialog=dialog, comparisons=[comparison()])
    (row,) = place.rows("trl-preference")
    assert row["prompt"] == said("Hi!", "Hello!", "now really")
    labelled = place.rows("trl-unpaired", "--min-rating", "4")
    assert [entry["completion"][0]["content"] for entry in labelled] == ["reply 0"]
    (whole,) = place.rows("openai")
    assert whole["metadata"]["shown_as_said"] == [0, 1]


def test_an_opening_of_the_model_is_part_of_the_prompt_and_no_exchange(place: Place) -> None:
    """The greeting's answer is a reply that nobody compared, even where a compared one has the same text."""
    texts = ["Hi!", "reply 0", "now really", "reply 0", "and then", "reply 0"]
    dialog: list[dict[str, Any]] = [
        {"agent_idx": number % 2, "id": "Speaker", "text": text} for number, text in enumerate(texts)
    ]
    dialog[0]["fake_start"] = True
    place.add(dialog=dialog, comparisons=[comparison(), comparison("right", 1)])
    assert [row["prompt"] for row in place.rows("trl-preference")] == [said(*texts[:3]), said(*texts[:5])]


@pytest.mark.parametrize(
    ("judged", "reason"),
    [
        (comparison("tie"), "tie"),
        (comparison("both_bad"), "both_bad"),
        (comparison(turn_idx=None), "whole_conversations_compared"),
        (comparison(right="reply 0"), "both_replies_the_same"),
        (comparison(right=" "), "empty_reply"),
        (comparison(left="never said"), "compared_reply_not_in_dialog"),
        (comparison(turn_idx=7, continued_with=None), "compared_reply_not_in_dialog"),
    ],
)
def test_a_judgement_without_a_winner_or_a_prompt_is_left_out_and_counted(
    place: Place, capsys: pytest.CaptureFixture[str], judged: Any, reason: str
) -> None:
    place.add(comparisons=[judged, comparison()])
    assert len(place.rows("trl-preference")) == 1
    assert place.manifest("trl-preference")["left_out_rows"] == {reason: 1}
    assert f"without a row: {reason} 1" in capsys.readouterr().out


def test_a_preference_before_the_first_message_of_a_person_is_left_out(place: Place) -> None:
    reply = {"agent_idx": 1, "id": "Speaker 2", "text": "reply 0"}
    place.add(dialog=[reply, {"agent_idx": 0, "id": "Speaker 1", "text": "hello"}], comparisons=[comparison()])
    assert place.rows("trl-preference") == []
    assert place.manifest("trl-preference")["left_out_rows"] == {"no_message_before_reply": 1}


@pytest.mark.parametrize("turn_idx", [0, 7])
def test_the_turn_of_a_comparison_may_be_told_by_its_text(place: Place, turn_idx: int) -> None:
    place.add(said=TWO, labels=[None, None], comparisons=[comparison("left", turn_idx, "reply 1", "other")])
    (row,) = place.rows("trl-preference")
    assert row["prompt"] == said("hello there you", "reply 0", "and what then")


@pytest.mark.parametrize(
    ("flags", "labels", "left_out"),
    [
        (["--good-buckets", "none_all_good"], [True, False, False], {"no_label": 1}),
        (["--bad-buckets", "odd"], [True, False, True], {"no_label": 1}),
        (["--good-buckets", "none_all_good", "--bad-buckets", "odd"], [True, False], {"no_label": 2}),
        (["--good-buckets", "rude", "--bad-buckets", "odd"], [False, True], {"no_label": 2}),
        (["--min-rating", "4"], [True, True, True, True], {}),
        (["--max-rating", "2"], [True, True, True, True], {}),
        (["--min-rating", "5", "--max-rating", "2"], [], {"no_label": 4}),
        (["--min-rating", "5"], [False, False, False, False], {}),
        (["--min-rating", "3", "--rating-question", "2"], [False, False, False, False], {}),
        (["--min-rating", "3", "--rating-question", "3"], [], {"no_label": 4}),
        (["--good-buckets", "none_all_good", "--min-rating", "4"], [True, True], {"contradictory_labels": 2}),
    ],
)
def test_labels_come_from_boxes_and_ratings(
    place: Place, flags: list[str], labels: list[bool], left_out: dict[str, int]
) -> None:
    place.add(labels=[(), ["odd"], ["rude"], None], rating="4|1")
    rows = place.rows("trl-unpaired", *flags)
    assert [row["label"] for row in rows] == labels
    assert place.manifest("trl-unpaired")["left_out_rows"] == left_out
    assert all(list(row) == ["prompt", "completion", "label"] for row in rows)


def test_a_reply_that_was_not_offered_the_box_has_no_label_from_it(place: Place) -> None:
    place.add()
    place.add(dialog=[{"agent_idx": 0, "text": "hi"}, {"agent_idx": 1, "text": "ho", "problem_data": {"new": False}}])
    for flag, label in (("--good-buckets", False), ("--bad-buckets", True)):
        rows = place.rows("trl-unpaired", flag, "new", "--overwrite")
        assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [("ho", label)]
        assert place.manifest("trl-unpaired")["left_out_rows"] == {"no_label": 1}


def test_a_box_that_no_reply_had_is_refused_before_wrong_labels_are_written(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add()
    assert place.run("trl-unpaired", "--good-buckets", "none_al_good") == 2
    assert "--good-buckets names 'none_al_good', which no reply was annotated with" in capsys.readouterr().err
    assert not place.output.exists()


def both_annotated(**more: Any) -> Any:
    """A comparison of which the boxes of both replies were ticked."""
    judged = comparison(**more)
    for side, ticked in (("left", GOOD), ("right", BAD)):
        judged[side]["problem_data"] = {bucket: bucket == ticked for bucket in BUCKETS}
    return judged


def compared_twice(**more: Any) -> Any:
    """Two exchanges, both with boxes for both replies: the chat went on with the left reply, then with the right one."""
    second = both_annotated(turn_idx=1, left="other 1", right="reply 1", continued_with="right", **more)
    judged = [both_annotated(**more), second]
    return make_conversation("a|b", labels=[(GOOD,), (BAD,)], comparisons=judged)


def test_the_boxes_of_a_reply_that_was_not_taken_are_in_the_judgement(place: Place) -> None:
    place.add(compared_twice())
    (row,) = place.rows("openai")
    names = ("left_offered", "left_ticked", "right_offered", "right_ticked")
    assert [[judged[name] for name in names] for judged in row["metadata"]["comparisons"]] == [
        [[*BUCKETS], [GOOD], [*BUCKETS], [BAD]]
    ] * 2
    assert place.run("hf-dataset") == 0
    (read,) = pq.read_table(place.output / HF_FILE).to_pylist()
    assert read["comparisons"] == row["metadata"]["comparisons"]
    assert (
        "| annotated replies with which the conversation did not go on | 2 |" in place.content()["README.md"].decode()
    )


def test_a_reply_that_was_not_taken_is_labelled_by_its_boxes_and_by_no_rating(place: Place) -> None:
    place.add(compared_twice(reason="It is better."))
    rows = place.rows("trl-unpaired", "--good-buckets", GOOD, "--bad-buckets", BAD)
    said = [(row["prompt"][-1]["content"], row["completion"][0]["content"], row["label"]) for row in rows]
    first, second = rows[0]["prompt"][-1]["content"], rows[2]["prompt"][-1]["content"]
    assert said == [
        (first, "reply 0", True),
        (first, "other", False),
        (second, "reply 1", False),
        (second, "other 1", True),
    ]
    assert [len(row["prompt"]) for row in rows] == [1, 1, 3, 3], "the reply that was taken is in the next prompt only"
    rated = place.rows("trl-unpaired", "--min-rating", "1", "--overwrite")
    assert [row["completion"][0]["content"] for row in rated] == ["reply 0", "reply 1"]
    assert place.manifest("trl-unpaired")["left_out_rows"] == {}


def test_a_reply_in_whose_place_nobody_knows_what_was_said_is_counted(place: Place) -> None:
    judged = both_annotated(left="neither of the replies")
    place.add(make_conversation("a|b", labels=[(GOOD,)], comparisons=[judged]))
    rows = place.rows("trl-unpaired", "--bad-buckets", BAD)
    assert [row["completion"][0]["content"] for row in rows] == ["reply 0"]
    assert place.manifest("trl-unpaired")["left_out_rows"] == {"compared_reply_not_in_dialog": 1}


def test_an_image_is_named_and_its_conversation_gives_no_training_pair_of_text(place: Place) -> None:
    place.add(image_idx=3, context_dataset="shapes", comparisons=[comparison()])
    (row,) = place.rows("openai")
    assert (row["metadata"]["image_idx"], row["metadata"]["context_dataset"]) == (3, "shapes")
    assert place.rows("trl-preference") == [] == place.rows("trl-unpaired", "--min-rating", "1")
    assert place.manifest("trl-preference")["left_out_rows"] == {"has_image": 1}
    assert place.manifest("trl-unpaired")["left_out_rows"] == {"has_image": 1}
    assert "1 conversations are about images" in (place.output / "DATA_CARD.md").read_text()


def test_the_data_set_has_the_same_as_parquet(place: Place) -> None:
    place.add(comparisons=[comparison(reason="Better.")], conditions={"prompt": "warm", "model": "a"})
    place.add(worker="w2", hit="h2", rating=None, labels=[None])
    rows = place.rows("openai")
    assert place.run("hf-dataset", "--license", "cc-by-4.0") == 0
    table = pq.read_table(place.output / "data" / "train-00000-of-00001.parquet").to_pylist()
    assert table == [{"messages": row["messages"], **row["metadata"]} for row in rows]
    assert table[0]["conditions"] == [{"factor": "model", "level": "a"}, {"factor": "prompt", "level": "warm"}]
    assert (place.output / "README.md").read_text().startswith("---\nconfigs:\n")


def test_csv_has_a_row_a_message_and_no_formula(place: Place) -> None:
    place.add(said=['=1+1, "x"\n\r'], replies=["Hi"], labels=[["odd"]])
    assert place.run("csv") == 0
    with (place.output / "csv.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["text"], first["role"], second["role"]) == ('\'=1+1, "x"\n\r', "user", "assistant")
    assert (json.loads(second["ticked"]), second["ratings"]) == (["odd"], "4")
    assert place.run("csv", "--no-csv-guard", "--overwrite") == 0
    with (place.output / "csv.csv").open(encoding="utf-8", newline="") as file:
        assert next(iter(csv.DictReader(file)))["text"] == '=1+1, "x"\n\r'


@pytest.mark.parametrize("format_name", FORMATS)
def test_only_complete_conversations_are_exported_once_and_the_others_counted(
    place: Place, format_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--min-rating", "1"] if format_name == "trl-unpaired" else []
    place.add(comparisons=[comparison()])
    place.add(comparisons=[comparison()])
    place.add(worker="w2", hit="h2", status="incomplete")
    place.add("no JSON")
    assert place.run(format_name, *flags) == 0
    manifest = place.manifest(format_name)
    assert (manifest["conversations"], manifest["left_out_conversations"]) == (
        1,
        {"duplicate": 1, "incomplete": 1, "malformed": 1},
    )
    told = capsys.readouterr()
    assert "conversations left out: duplicate 1, incomplete 1, malformed 1" in told.out
    assert "not readable: " in told.err


def test_half_an_emoji_and_numbers_that_are_none_do_no_harm(place: Place) -> None:
    place.add(
        '{"dialog": [{"agent_idx": 0, "text": "half \\ud83d"}, {"agent_idx": 1, "text": "\\u0000\\u2028<x>", '
        '"timestamp": NaN}], "workers": ["\\udc00w"], "task_description": {"model_nickname": "a"}}'
    )
    for format_name in ("openai", "sharegpt", "hf-dataset", "csv"):
        assert place.run(format_name, "--deidentify") == 0
    line = (place.output / "openai.jsonl").read_text(encoding="utf-8").split("\n")[0]
    assert [message["content"] for message in json.loads(line)["messages"]] == ["half �", "\0\u2028<x>"]


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("flags", [[], ["--deidentify"]])
def test_the_same_input_gives_the_same_bytes_and_the_manifest_their_hashes(
    place: Place, format_name: str, flags: list[str]
) -> None:
    flags = [*flags, *(["--good-buckets", "none_all_good"] if format_name == "trl-unpaired" else [])]
    for number in range(5):
        place.add(worker=f"w{number}", hit=f"h{number}", comparisons=[comparison()], conditions={"b": "1", "a": "2"})
    assert place.run(format_name, *flags) == 0
    before = place.content()
    assert place.run(format_name, "--overwrite", *flags) == 0
    assert place.content() == before
    files = place.manifest(format_name)["files"]
    assert len(files) == 2 == len(before) - 1
    for name, entry in files.items():
        assert entry == {"bytes": len(before[name]), "sha256": hashlib.sha256(before[name]).hexdigest()}


def test_the_card_counts_messages_and_judgements_of_all_conversations(place: Place) -> None:
    judged = [comparison("right", 0, "reply 0", "other 0"), comparison("left", 1, "reply 1", "other 1")]
    place.add(said=TWO, labels=[None, None], comparisons=judged)
    place.add(worker="w2", hit="h2", comparisons=[comparison()])
    assert place.run("openai") == 0
    card = (place.output / "DATA_CARD.md").read_text(encoding="utf-8")
    assert "\n| judgements of two replies or conversations | 3 |\n" in card
    assert "\n| messages of people | 3 |\n" in card
    assert "\n| messages of models | 3 |\n" in card


def test_the_card_counts_and_says_what_is_not_known(place: Place) -> None:
    moment = datetime.datetime(2026, 11, 3, 12, tzinfo=datetime.UTC).timestamp()
    dialog = [
        {"agent_idx": 0, "text": "hello", "timestamp": moment},
        {"agent_idx": 1, "text": "Hi", "generation": {"served_model": "there-2026"}, "final_rating": "3"},
    ]
    place.add(dialog=dialog, answers=[CONSENT])
    place.add(worker="w2", hit="h2", model="b|c")
    assert place.run("openai", "--pay-text", "12 EUR an hour.", "--license", "cc-by-4.0") == 0
    card = (place.output / "DATA_CARD.md").read_text(encoding="utf-8")
    for line in (
        "| conversations | 2 |",
        "| workers | 2 |",
        "| a | 1 | there-2026 |",
        "| b\\|c | 1 |  |",
        "Dates: 2026-11-03 to 2026-11-20.",
        "Consent (conversations): accepted 1, declined 0, not recorded 1.",
        "Pay: 12 EUR an hour.",
        "cc-by-4.0",
    ):
        assert f"\n{line}\n" in card
    assert place.run("sharegpt") == 2  # without pay and licence, the card would say something else
    assert place.run("sharegpt", "--overwrite") == 0
    assert "Pay: not stated" in (place.output / "DATA_CARD.md").read_text(encoding="utf-8")


def test_all_formats_fit_into_one_folder(place: Place) -> None:
    place.add(worker=WORKER, comparisons=[comparison()])
    for format_name in FORMATS:
        assert place.run(format_name, *(["--min-rating", "3"] if format_name == "trl-unpaired" else [])) == 0
    assert {name for name in place.content() if not name.startswith("manifest-")} == {
        "openai.jsonl",
        "sharegpt.jsonl",
        "trl-preference.jsonl",
        "trl-unpaired.jsonl",
        "csv.csv",
        "DATA_CARD.md",
        "README.md",
        str(Path("data", "train-00000-of-00001.parquet")),
    }


def test_two_compared_chats_are_two_conversations_of_their_own_models(place: Place) -> None:
    """No model is trained on a chat that it knew nothing of, and a judgement is left out once."""
    place.add(paired())
    first, second = place.rows("openai", "--min-word-count", "0")
    assert [message["content"] for message in second["messages"]] == [
        "one two three four",
        "first of two",
        "five six seven eight",
        "second of two",
    ]
    assert (first["metadata"]["model"], second["metadata"]["model"]) == ("b", "a")
    assert first["metadata"]["id"] != second["metadata"]["id"]
    assert first["metadata"]["annotations"][1]["message"] == second["metadata"]["annotations"][1]["message"] == 3
    assert first["metadata"]["comparisons"] == second["metadata"]["comparisons"] != []
    assert place.rows("trl-preference", "--min-word-count", "0") == []
    assert place.manifest("trl-preference")["left_out_rows"] == {"whole_conversations_compared": 1}


@pytest.mark.parametrize("format_name", ["openai", "sharegpt", "trl-preference", "trl-unpaired", "hf-dataset", "csv"])
def test_how_messages_were_written_is_in_no_export_and_the_card_says_that_it_was_counted(
    place: Place, format_name: str
) -> None:
    counts = {"utterance_idx": 0, "characters": 25, "pasted_characters": 76543, "times_away": 0, "keys": None}
    place.add(rating="5", comparisons=[comparison()], authenticity=[counts])
    place.add(hit="h2", rating="4", comparisons=[comparison()], authenticity=[])
    flags = ["--min-rating", "4"] if format_name == "trl-unpaired" else []
    assert place.run(format_name, *flags) == 0
    for name, content in place.content().items():
        assert b"pasted_characters" not in content and b"76543" not in content, name
    (card,) = [text for name, text in place.content().items() if name.endswith(".md")]
    assert b"How messages were written was counted in 1 conversations" in card

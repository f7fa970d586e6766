"""Files of every known age are read into one shape, and what can't be read says why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.errors import ConfigurationError
from model_chat.records.legacy import MalformedError, as_bool, ratings_of
from model_chat.records.reading import (
    Origin,
    ReadingReason,
    Source,
    UnreadableError,
    list_files,
    parse_conversation,
    read_conversation,
)
from model_chat.records.schema import Conversation, TaskDescription, Timing, Utterance


def old_file(**more: Any) -> dict[str, Any]:
    """A file of the original task, as it wrote them around 2021."""
    return {
        "personas": None,
        "dialog": [
            {"agent_idx": 0, "text": "Hi!", "id": "Speaker 1", "fake_start": True},
            {
                "agent_idx": 1,
                "text": "Hello.",
                "id": "Speaker 2",
                "problem_data": {"bucket_0": False, "none_all_good": True},
            },
            {"agent_idx": 0, "text": "How are you?", "id": "Speaker 1"},
            {
                "agent_idx": 1,
                "text": "Fine.",
                "id": "Speaker 2",
                "problem_data": {"bucket_0": True, "none_all_good": False, "final_rating": 4},
            },
        ],
        "workers": ["A1HUMAN", "model_7"],
        "bad_workers": [],
        "acceptability_violations": [None],
        "hit_ids": ["HIT1", None],
        "assignment_ids": ["AS1", None],
        "task_description": {"annotations_config": "", "model_nickname": "old", "model_file": "/m", "model_opt": {}},
        **more,
    }


def test_the_originals_files_are_read() -> None:
    read = parse_conversation(old_file())
    assert read.worker_id == "A1HUMAN" and read.hit_id == "HIT1" and read.assignment_id == "AS1"
    assert read.ratings == [4]
    assert read.personas is None and read.status == "complete"
    assert read.dialog[3].problem_data == {"bucket_0": True, "none_all_good": False}
    assert [utterance.fake_start for utterance in read.dialog] == [True, False, False, False]


def test_an_entry_for_the_model_may_come_first_as_null() -> None:
    read = parse_conversation(old_file(workers=[None, "A1HUMAN"], hit_ids=[None, "HIT1"]))
    assert read.worker_id == "A1HUMAN" and read.hit_id == "HIT1"


def test_what_is_written_today_is_read_with_nothing_lost() -> None:
    written = Conversation(
        dialog=[
            Utterance(
                agent_idx=0, text="Hi", id="Speaker 1", timestamp=1.0, timing=Timing(shown=1, first_key=2, sent=3)
            ),
            Utterance(agent_idx=1, text="Yes", id="Speaker 2", problem_data={"bucket_0": True}, final_rating="4|5"),
        ],
        workers=["w"],
        hit_ids=["h"],
        assignment_ids=["a"],
        task_description=TaskDescription(model_nickname="m"),
        personas=[["i."], ["you."]],
        image_idx=3,
        acceptability_violations=[""],
    )
    read = parse_conversation(written.to_dict())
    assert read.ratings == [4, 5] and read.image_idx == 3 and read.personas == [["i."], ["you."]]
    assert read.dialog[0].timing is not None and read.dialog[0].timing.sent == 3
    assert read.acceptability_violation is None
    assert read.raw == written.to_dict()


def test_how_replies_were_made_is_read_and_their_known_costs_are_added() -> None:
    conversation = old_file(failed_generation={"cost_usd": 0.25, "finish_reason": "length"})
    conversation["dialog"][1]["generation"] = {"cost_usd": 0.5, "retries": 2, "seconds": "long"}
    conversation["dialog"][3]["generation"] = {"retries": 1}
    read = parse_conversation(conversation)
    first, second = read.dialog[1].generation, read.dialog[3].generation
    assert first is not None and (first.retries, first.seconds) == (2, None)
    assert second is not None and (second.retries, second.cost_usd) == (1, None)
    assert read.failed_generation is not None and read.failed_generation.finish_reason == "length"
    assert read.cost_usd() == 0.75
    assert parse_conversation(old_file(failed_generation="lost")).failed_generation is None


@pytest.mark.parametrize(("goes_on", "cost"), [("left", 0.5 + 0.25), ("right", 0.5 + 0.125), (None, 0.5)])
def test_a_reply_with_which_the_chat_did_not_go_on_has_cost_something_too(goes_on: str | None, cost: float) -> None:
    conversation = old_file()
    conversation["dialog"][1]["generation"] = {"cost_usd": 0.5}
    sides = {
        side: {"model_nickname": side, "text": "x", "generation": {"cost_usd": spent}}
        for side, spent in (("left", 0.125), ("right", 0.25))
    }
    conversation["comparisons"] = [{"turn_idx": 0, **sides, "pick": "tie", "continued_with": goes_on}]
    assert parse_conversation(conversation).cost_usd() == cost


def test_an_utterance_whose_fake_start_is_null_was_said() -> None:
    conversation = old_file()
    conversation["dialog"][0]["fake_start"] = None
    assert parse_conversation(conversation).dialog[0].fake_start is False


def test_an_annotation_on_the_message_after_goes_back_to_its_reply() -> None:
    conversation = old_file()
    del conversation["dialog"][1]["problem_data"]
    conversation["dialog"][2]["problem_data_for_prior_message"] = {"bucket_0": True}
    assert parse_conversation(conversation).dialog[1].problem_data == {"bucket_0": True}


@pytest.mark.parametrize(
    ("value", "read"),
    [("4", [4]), (4, [4]), (4.0, [4]), ("4|5", [4, 5]), ([3, "2"], [3, 2]), (None, None), ("", None), (" 5 ", [5])],
)
def test_ratings_of_every_age(value: object, read: list[int] | None) -> None:
    assert ratings_of(value) == read


@pytest.mark.parametrize("value", ["6", 0, "4.5", "good", True, "4|", "nan", float("inf"), {"a": 1}])
def test_what_is_no_rating_is_refused(value: object) -> None:
    with pytest.raises(MalformedError, match="no whole number from 1 to 5"):
        ratings_of(value)


def test_ticks_of_every_age() -> None:
    assert [as_bool(v) for v in (True, 1, "true", "Yes", 0, "false", "")] == [True] * 4 + [False] * 3
    assert [as_bool(v) for v in (None, 2, "maybe", [])] == [None] * 4


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"dialog": []}, "`dialog` is empty"),
        ({"dialog": None}, "not null"),
        ({"dialog": ["Hi"]}, "utterance 0 is an object, not text"),
        ({"dialog": [{"agent_idx": 2, "text": "x"}]}, "dialog.0.agent_idx"),
        ({"dialog": [{"agent_idx": 0}]}, "dialog.0.text"),
        (
            {"dialog": [{"agent_idx": 1, "text": "x", "problem_data": [1]}]},
            "`problem_data` of utterance 0 is an object",
        ),
        ({"workers": []}, "names no worker"),
        ({"task_description": {}}, "names no model"),
        ({"status": "half"}, "status"),
        ({"personas": 3}, "`personas`"),
    ],
)
def test_a_malformed_conversation_says_where(change: dict[str, Any], place: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse_conversation(old_file(**change))
    assert caught.value.reason is ReadingReason.MALFORMED
    assert place in caught.value.detail


@pytest.mark.parametrize("text", ["", "  ", "{", "[" * 100_000, '{"dialog": NaN', "null", "3"])
def test_a_file_that_is_no_conversation_is_malformed(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UnreadableError) as caught:
        read_conversation(Source(str(tmp_path / "x.json")))
    assert caught.value.reason is ReadingReason.MALFORMED


def test_what_only_pythons_writer_writes_is_read(tmp_path: Path) -> None:
    conversation = old_file()
    conversation["task_description"]["model_opt"] = {"ppl": float("nan")}
    conversation["dialog"][0]["text"] = "half a face: \ud83d"
    (tmp_path / "x.json").write_text("\ufeff" + json.dumps(conversation), encoding="utf-8")
    read = read_conversation(Source(str(tmp_path / "x.json")))
    assert read.dialog[0].text.startswith("half a face: ")
    read.dialog[0].text.encode("utf-8")  # no lone surrogate is left
    assert read.raw["task_description"]["model_opt"]["ppl"] is None


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_conversation(Source(str(tmp_path / "gone.json")))
    assert caught.value.reason is ReadingReason.UNREADABLE


@pytest.mark.parametrize(
    "odd", [None, 3, "text", ["WORLD_DATA"], {}, {"WORLD_DATA": None}, {"data": 1, "task_data": 2}]
)
def test_a_message_without_a_conversation_hides_no_earlier_one(tmp_path: Path, odd: object) -> None:
    state = {"outputs": {"messages": [{"WORLD_DATA": {"custom_data": old_file()}}, odd]}}
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert read_conversation(Source(str(tmp_path / "state.json"), Origin.DATABASE)).worker_id == "A1HUMAN"


def test_files_are_listed_by_name_whatever_the_folders_order(tmp_path: Path) -> None:
    for folder, day, name in (
        ("b", "2026_11_20", "20261120_100000_1_live.json"),
        ("a", "2026_11_21", "20261121_090000_2_sandbox.json"),
        ("a", "2026_11_20", "20261120_110000_3_live.json"),
    ):
        (tmp_path / folder / day).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / day / name).write_text("{}")
    (tmp_path / "a" / "2026_11_20" / ".half.json").write_text("{}")
    (tmp_path / "a" / "notes.txt").write_text("")
    (tmp_path / "a" / "models").mkdir()
    (tmp_path / "a" / "models" / "opt.json").write_text("{}")
    forth, back = (
        list_files([tmp_path / "a", tmp_path / "b"]),
        list_files([tmp_path / "b", tmp_path / "a", tmp_path / "a"]),
    )
    assert forth.sources == back.sources
    assert [Path(source.path).name[:15] for source in forth.sources] == [
        "20261120_100000", "20261120_110000", "20261121_090000",
    ]  # fmt: skip
    assert [source.run_type for source in forth.sources] == ["live", "live", "sandbox"]
    assert [str(source.day) for source in forth.sources] == ["2026-11-20", "2026-11-20", "2026-11-21"]
    a, b = tmp_path / "a", tmp_path / "b"
    assert [source.folder for source in forth.sources] == [
        str(b / "2026_11_20"),
        *(str(a / f"2026_11_{d}") for d in (20, 21)),
    ]
    assert len(forth.other_files) == 2


def test_a_pipe_and_a_link_to_a_device_are_no_conversations_that_would_be_read_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked.json").symlink_to(tmp_path / "real.txt")
    (tmp_path / "real.txt").write_text("{}")
    listing = list_files([tmp_path])
    assert [Path(source.path).name for source in listing.sources] == ["gone.json", "linked.json"]
    assert [Path(path).name for path in listing.other_files] == ["pipe.json", "real.txt", "zero.json"]


def test_folders_that_are_linked_into_each_other_are_read_once(tmp_path: Path) -> None:
    day = tmp_path / "2024_01_02"
    day.mkdir()
    (day / "a.json").write_text("{}")
    (tmp_path / "2024_01_03").symlink_to(day, target_is_directory=True)
    (tmp_path / "2024_01_04").symlink_to(tmp_path, target_is_directory=True)
    assert [Path(source.path).name for source in list_files([tmp_path]).sources] == ["a.json"]


def test_a_folder_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--results-folders names"):
        list_files([tmp_path / "nowhere"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


CHANGEABLE = (
    "dialog",
    "workers",
    "hit_ids",
    "task_description",
    "personas",
    "status",
    "acceptability_violations",
)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("dialog", "workers", "hit_ids", "task_description", "personas", "status", "acceptability_violations"), JSON
        ),
    ),
    st.lists(
        st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("agent_idx", "text", "id", "problem_data", "final_rating", "timing"), JSON)
        ),
        max_size=3,
    ),
)
def test_no_json_makes_the_reader_fail_in_another_way(change: dict[str, Any], dialog: list[dict[str, Any]]) -> None:
    for content in (old_file(**change), old_file(dialog=dialog)):
        try:
            read = parse_conversation(content)
        except UnreadableError as error:
            assert error.detail
        else:
            assert read.worker_id and read.model_nickname and read.dialog

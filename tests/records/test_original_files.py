"""Records of each period of the original task are read, and by every reader alike."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.launch.image_task_run import _saved_places
from model_chat.records.collected import find_saved
from model_chat.records.forget import forget_worker
from model_chat.records.reading import (
    Origin,
    ReadingReason,
    Source,
    UnreadableError,
    list_files,
    parse_conversation,
    read_conversation,
)
from model_chat.records.schema import Completion

from .original_files import early_state, image_chat, january_2021, year_2023
from .test_reading_database import TASK, Store, store

__all__ = ["store"]

PERIODS = pytest.mark.parametrize("make", [january_2021, year_2023, image_chat])


@PERIODS
def test_a_conversation_of_every_period_is_read_whole(make: Callable[..., dict[str, Any]]) -> None:
    read = parse_conversation(make(model="m"))
    assert (read.worker_id, read.model_nickname, read.hit_id, read.assignment_id) == ("A1HUMAN", "m", "HIT1", "AS1")
    assert [utterance.agent_idx for utterance in read.dialog] == [0, 1, 0, 1]
    assert [utterance.fake_start for utterance in read.dialog] == [True, False, False, False]
    assert read.dialog[1].problem_data is not None and read.dialog[1].problem_data["bucket_0"] is True
    assert read.ratings == [4] and read.status is Completion.COMPLETE


def test_a_number_in_the_annotation_is_no_tick() -> None:
    first, last = (parse_conversation(january_2021()).dialog[i].problem_data for i in (1, 3))
    assert first is not None and first["turn_idx"] == 1 and first["turn_idx"] is not True
    assert last is not None and last["turn_idx"] == 3


def test_the_act_about_the_image_is_no_utterance_but_tells_the_context() -> None:
    read = parse_conversation(image_chat())
    assert (read.image_idx, read.image_id, read.additional_context) == (3, "test_17", "Curious")
    assert "label_candidates" in read.raw["dialog"][0]
    assert parse_conversation(image_chat(additional_context="a beach")).additional_context == "a beach"


@pytest.mark.parametrize(
    "act",
    [
        {"agent_idx": None, "image_id": "x"},
        {"image": None, "text": "look"},
        {"agent_idx": None, "id": "Speaker 2", "image_src": "x.png"},
        {"labels": ["a"], "episode_done": True, "id": "image_chat"},
        {"agent_idx": None, "text": "only a text"},  # the conversation itself has an image
        {"agent_idx": None, "id": "Speaker 1", "image_id": 4},
    ],
)
def test_acts_about_images_are_known_by_what_they_hold(act: dict[str, Any]) -> None:
    conversation = image_chat()
    conversation["dialog"][0] = act
    assert len(parse_conversation(conversation).dialog) == 4


def test_an_utterance_without_a_side_is_still_malformed() -> None:
    text = year_2023()
    del text["dialog"][0]["agent_idx"], text["dialog"][0]["id"]
    later = image_chat()
    later["dialog"].insert(2, copy.deepcopy(later["dialog"][0]))
    for conversation in (text, later):
        with pytest.raises(UnreadableError, match="agent_idx"):
            parse_conversation(conversation)
    spoken = year_2023(image_idx=3)
    del spoken["dialog"][0]["agent_idx"]  # "Speaker 1" said it, also in an image chat
    assert len(parse_conversation(spoken).dialog) == 4


def test_an_image_without_a_chat_is_no_conversation() -> None:
    conversation = image_chat()
    del conversation["dialog"][1:]
    with pytest.raises(UnreadableError, match="nothing but the image"):
        parse_conversation(conversation)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"workers": ["A1HUMAN"]}, "names no model"),
        ({"workers": ["A1HUMAN", None]}, "names no model"),
        ({"workers": ["A1HUMAN", 7]}, "names no model"),
        ({"workers": ["A1HUMAN", "m"], "task_description": {}}, "names no model"),  # a description that lost its model
        ({"workers": [None, "m"]}, "names no worker"),  # the model is no worker
    ],
)
def test_what_names_no_model_or_no_worker_is_malformed(change: dict[str, Any], missing: str) -> None:
    with pytest.raises(UnreadableError, match=missing) as caught:
        parse_conversation(january_2021(**change))
    assert caught.value.reason is ReadingReason.MALFORMED


@PERIODS
def test_a_state_of_an_early_mephisto_is_read(make: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps(early_state(make(worker=None, model="m"))), encoding="utf-8")
    read = read_conversation(Source(str(state), Origin.DATABASE, worker_id="W7", record_id="1"))
    assert (read.worker_id, read.model_nickname) == ("W7", "m")  # the worker as the database calls them


def saved(folder: Path, name: str, conversation: dict[str, Any]) -> Path:
    place = folder / "2021_01_14"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(json.dumps(conversation), encoding="utf-8")
    return place / name


def test_incomplete_in_the_name_of_a_file_makes_the_conversation_incomplete(tmp_path: Path) -> None:
    saved(tmp_path, "20210114_100000_1_live.json", year_2023())
    saved(tmp_path, "20210114_100001_1_incomplete_live.json", year_2023(status="complete"))
    saved(tmp_path, "20210114_100002_1_live_incomplete.json", year_2023(status="incomplete", reason="left"))
    read = [read_conversation(source) for source in list_files([tmp_path]).sources]
    assert [chat.status for chat in read] == [Completion.COMPLETE, Completion.INCOMPLETE, Completion.INCOMPLETE]
    assert [chat.reason for chat in read] == [None, "the file is named incomplete", "left"]


def test_a_restart_counts_what_the_analysis_counts(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "chats"

    def of(make: Callable[..., dict[str, Any]], worker: str, **more: Any) -> dict[str, Any]:
        return make(worker=worker, assignment_ids=[f"AS-{worker}"], **more)

    for number, make in enumerate((january_2021, year_2023, image_chat)):
        store.add(of(make, f"D{number}"), "completed", f"d{number}")
        saved(folder, f"20210114_10000{number}_1_live.json", of(make, f"F{number}", task_name=TASK))
    saved(folder, "20210114_110000_1_live_incomplete.json", of(january_2021, "F9", task_name=TASK))
    saved(folder, "20210114_120000_1_live.json", of(january_2021, "F8"))
    kept = find_saved(folder, store.path, TASK)
    assert kept.complete() == {"blender_90M": 2 + 2, "image_model": 1 + 1}
    assert sorted(conversation.worker_id for conversation in kept if not conversation.complete) == ["F9"]
    assert kept.unnamed == 1  # F8 names no task


def test_the_image_stack_counts_what_the_analysis_counts(tmp_path: Path) -> None:
    saved(tmp_path, "20210114_100000_1_live.json", image_chat())
    saved(tmp_path, "20210114_100001_1_incomplete.json", image_chat(image_idx=4))
    assert _saved_places(list_files([tmp_path]).sources, "a task") == {(3, "image_model", "A1HUMAN")}


@PERIODS
def test_a_worker_is_forgotten_in_old_records_and_in_incomplete_ones(
    store: Store, make: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    files = [
        saved(tmp_path / "chats", name, make())
        for name in ("20210114_100000_1_live.json", "20210114_100001_1_incomplete.json")
    ]
    store.add(make(), "completed", "A1HUMAN")
    gone = forget_worker("A1HUMAN", store.path, [tmp_path / "chats"])
    assert (gone.files, gone.states) == (2, 1)
    for file in files:
        assert "A1HUMAN" not in file.read_text(encoding="utf-8")
        assert read_conversation(Source(str(file))).worker_id == gone.pseudonym

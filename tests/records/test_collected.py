"""What a task finds of its earlier runs: each conversation once, wherever it is kept."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from model_chat.records.collected import SavedConversation, find_saved, message_ids_of

from .original_files import image_chat, year_2023
from .test_reading_database import TASK, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def saved(folder: Path, number: int, conversation: dict[str, Any]) -> Path:
    day = folder / "2021_01_14"
    day.mkdir(parents=True, exist_ok=True)
    path = day / f"20210114_10{number:04d}_1_live.json"
    path.write_text(json.dumps(conversation), encoding="utf-8")
    return path


def chat(assignment: str, **more: Any) -> dict[str, Any]:
    return year_2023(assignment_ids=[assignment], **more)


def test_what_is_known_of_a_saved_conversation_is_what_its_file_says(tmp_path: Path) -> None:
    conversation = image_chat(task_name=TASK, assignment_ids=["AS1"])
    conversation["dialog"][1]["message_id"] = "m-1"
    conversation["dialog"][2]["message_id"] = 7
    path = saved(tmp_path, 1, conversation)
    assert list(find_saved(tmp_path, None, TASK)) == [
        SavedConversation(
            nickname="image_model",
            worker_id="A1HUMAN",
            assignment_id="AS1",
            image_idx=3,
            complete=True,
            message_ids=frozenset({"m-1"}),
            path=path,
        )
    ]


def test_a_conversation_in_both_records_is_one_and_keeps_its_file(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "chats"
    path = saved(folder, 1, chat("AS1", task_name=TASK))
    store.add(chat("AS1", task_name=TASK), "completed", "w1")
    store.add(chat("AS2", task_name=TASK), "completed", "w2")
    kept = find_saved(folder, store.path, TASK)
    assert sorted((one.assignment_id or "", one.path) for one in kept) == [("AS1", path), ("AS2", None)]
    assert kept.unnamed == 0


def test_the_same_words_under_two_assignments_are_two_conversations(tmp_path: Path) -> None:
    for number in (1, 2):
        saved(tmp_path, number, chat(f"AS{number}", task_name=TASK))
    assert sum(find_saved(tmp_path, None, TASK).complete().values()) == 2


@pytest.mark.parametrize("status", ["rejected", "soft_rejected"])
def test_what_was_rejected_is_collected_again_though_its_file_is_there(
    store: Store, tmp_path: Path, status: str
) -> None:
    folder = tmp_path / "chats"
    for number in (1, 2):
        saved(folder, number, chat(f"AS{number}", task_name=TASK))
    store.add(chat("AS1", task_name=TASK), status, "w1")
    store.add(chat("AS2", task_name=TASK), "approved", "w2")
    assert [one.assignment_id for one in find_saved(folder, store.path, TASK)] == ["AS2"]


def test_a_file_that_names_no_task_counts_only_if_the_database_knows_it(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "chats"
    saved(folder, 1, chat("AS1"))
    saved(folder, 2, chat("AS2"))
    saved(folder, 3, chat("AS3"))
    saved(folder, 4, chat("AS4", task_name="another_task"))
    store.add(chat("AS1"), "completed", "w1")
    kept = find_saved(folder, store.path, TASK)
    assert [(one.assignment_id, one.path) for one in kept] == [("AS1", None)]
    assert kept.unnamed == 2


def test_what_is_not_there_holds_nothing(tmp_path: Path) -> None:
    for folder, database in ((tmp_path / "none", None), (tmp_path / "none", tmp_path / "none.db")):
        kept = find_saved(folder, database, TASK)
        assert (list(kept), kept.unnamed, kept.complete()) == ([], 0, {})


def test_a_task_that_the_database_does_not_know_yet_has_nothing_there(store: Store, tmp_path: Path) -> None:
    store.add(chat("AS1"), "completed", "w1")
    path = saved(tmp_path / "chats", 1, chat("AS2", task_name="new_task"))
    assert [one.path for one in find_saved(tmp_path / "chats", store.path, "new_task")] == [path]


@pytest.mark.parametrize("value", [7, "half an emoji: \ud83d", ["half an emoji: \ud83d", 2**70]])
def test_the_order_of_keys_makes_no_other_conversation(store: Store, tmp_path: Path, value: Any) -> None:
    one, other = chat("AS1", task_name=TASK), chat("AS1", task_name=TASK)
    one["dialog"][0].update(more=value)
    other["dialog"][0] = dict(reversed(one["dialog"][0].items()))
    assert list(one["dialog"][0]) != list(other["dialog"][0])
    saved(tmp_path / "chats", 1, one)
    store.add(other, "completed", "w1")
    assert sum(find_saved(tmp_path / "chats", store.path, TASK).complete().values()) == 1


def test_who_left_early_is_no_warning_and_a_damaged_file_is_one(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "chats"
    saved(folder, 1, chat("AS1", task_name=TASK)).write_text("{", encoding="utf-8")
    store.add(None, "returned", "w1")
    store.add(chat("AS2", task_name=TASK), "completed", "w2")
    with caplog.at_level(logging.DEBUG, "model_chat.records.collected"):
        kept = find_saved(folder, store.path, TASK)
    assert [one.assignment_id for one in kept] == ["AS2"]
    levels = [record.levelno for record in caplog.records if record.name == "model_chat.records.collected"]
    assert levels == [logging.WARNING, logging.DEBUG]


def test_a_file_is_found_by_its_assignment_and_any_message_of_it(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "chats"
    paths = []
    for number in (1, 2):
        conversation = chat(f"AS{number}", task_name=TASK)
        conversation["dialog"][0]["message_id"] = f"first-{number}"
        conversation["dialog"][1]["message_id"] = f"second-{number}"
        paths.append(saved(folder, number, conversation))
    unsaved = chat("AS3", task_name=TASK)
    unsaved["dialog"][0]["message_id"] = "first-3"
    store.add(unsaved, "completed", "w3")
    kept = find_saved(folder, store.path, TASK)
    assert kept.find_file("AS1", frozenset({"second-1"})) == paths[0]
    assert kept.find_file("AS2", frozenset({"other", "first-2"})) == paths[1]
    assert kept.find_file("AS1", frozenset({"first-2"})) is None, "another assignment's"
    assert kept.find_file("AS1", frozenset({"other"})) is None, "another conversation of the same assignment"
    assert kept.find_file("AS1", frozenset()) is None
    assert kept.find_file("AS3", frozenset({"first-3"})) is None, "it has no file"


@pytest.mark.parametrize(
    ("dialog", "ids"),
    [
        (None, set()),
        ("text", set()),
        ({"message_id": "x"}, set()),
        ([], set()),
        ([{"message_id": "a"}, {"text": "no id"}, {"message_id": 4}, {"message_id": None}, "odd", None], {"a"}),
        ([{"message_id": "a"}, {"message_id": "b"}, {"message_id": "a"}], {"a", "b"}),
    ],
)
def test_the_ids_of_messages_are_those_of_whatever_was_saved(dialog: Any, ids: set[str]) -> None:
    assert message_ids_of(dialog) == ids

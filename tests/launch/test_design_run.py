"""What a design counts of what is saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_chat.errors import ConfigurationError
from model_chat.launch.design_run import conversations_left, hold_allocation, stratum_of
from model_chat.records.collected import SavedConversation, find_saved
from model_chat.tests.designs import BETWEEN, TASK, design_of, quota_of
from model_chat.tests.records.original_files import year_2023


def kept(conditions: dict[str, str] | None, complete: bool = True) -> SavedConversation:
    return SavedConversation("a", "w", None, None, complete, frozenset(), None, conditions=conditions)


def test_only_complete_conversations_of_cells_that_need_them_count(tmp_path: Path) -> None:
    path = tmp_path / "design.yaml"
    path.write_text(BETWEEN % 2)
    warm = {"model": "a", "prompt": "warm"}

    assert conversations_left(str(path), []) == 8
    assert (
        conversations_left(str(path), [kept(warm), kept(None), kept(warm, complete=False), kept({"model": "a"})]) == 7
    )
    assert conversations_left(str(path), [kept(warm)] * 3) == 6


def test_two_tasks_do_not_write_their_draws_to_one_file_at_once(tmp_path: Path) -> None:
    with (
        hold_allocation(tmp_path),
        pytest.raises(ConfigurationError, match="another task with a design is running"),
        hold_allocation(tmp_path),
    ):
        pass
    with hold_allocation(tmp_path):
        pass


STRATA = "strata: {age: {young: 2, old: 2}}\n"


def saved_with(folder: Path, name: str, answers: list[dict[str, object]]) -> None:
    conversation = year_2023(
        task_name=TASK, conditions={"model": "a", "prompt": "warm"}, answers=answers, assignment_ids=[name]
    )
    day = folder / "2026_11_28"
    day.mkdir(parents=True, exist_ok=True)
    (day / f"20261128_100000_{name}_live.json").write_text(json.dumps(conversation), encoding="utf-8")


def test_what_is_saved_counts_for_the_stratum_of_its_answer(tmp_path: Path) -> None:
    """The file of draws is gone: the records alone say which strata are full."""

    def answer(value: object, idx: int | None = None) -> dict[str, object]:
        return {"page": "about", "item": "age", "value": value, "utterance_idx": idx, "timestamp": 1.0}

    design = design_of(BETWEEN % 1 + STRATA)
    saved_with(tmp_path, "A1", [answer("young")])
    saved_with(tmp_path, "A2", [answer("old", 1)])  # about a reply: no answer from before the chat
    saved_with(tmp_path, "A3", [])
    found = [(kept.worker_id, 0, stratum_of(design, kept)) for kept in find_saved(tmp_path, None, TASK)]
    assert sorted(str(stratum) for _, _, stratum in found) == ["None", "None", "young"]
    quota = quota_of(design, tmp_path, finished=found)
    first = quota.take("new")
    second = quota.take("newer")
    assert first is not None and second is not None
    assert quota.enter_stratum(first, "young"), "one of two is saved"
    assert not quota.enter_stratum(second, "young"), "the other has just been given out"
    assert quota.enter_stratum(second, "old")


def test_without_strata_no_saved_conversation_has_one() -> None:
    assert stratum_of(design_of(BETWEEN % 2), kept({"model": "a", "prompt": "warm"})) is None

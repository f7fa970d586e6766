"""What a design counts of what is saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_chat.errors import ConfigurationError
from model_chat.launch.design_run import conversations_left, hold_allocation
from model_chat.records.collected import SavedConversation
from model_chat.tests.designs import BETWEEN


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

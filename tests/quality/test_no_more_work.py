"""Who has seen everything of an image study is not treated as one who did something wrong."""

from __future__ import annotations

from typing import Any

import pytest

from model_chat.quality import no_more_work
from model_chat.quality.blocks import (
    BLOCKED,
    NOTHING_LEFT,
    BlockReason,
    block_reasons,
    has_no_more_work,
    is_blocked,
    make_qualification,
    soft_block,
)
from model_chat.quality.no_more_work import note_no_more_work, readmit
from model_chat.tests.mephisto_run import Run

BLOCK = "blocked"


@pytest.fixture
def worker(mephisto_run: Run) -> Any:
    return mephisto_run.worker()


def test_they_get_the_block_qualification_with_a_value_that_is_no_violation(worker: Any) -> None:
    note_no_more_work(worker, BLOCK)
    note_no_more_work(worker, BLOCK)
    assert worker.get_granted_qualification(BLOCK).value == NOTHING_LEFT
    assert NOTHING_LEFT != BLOCKED
    assert has_no_more_work(worker, BLOCK)
    assert not is_blocked(worker, BLOCK)


def test_the_crowd_platform_is_not_told(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(type(worker), "grant_crowd_qualification", lambda *said: told.append(said))
    monkeypatch.setattr(type(worker), "revoke_crowd_qualification", lambda *said: told.append(said))
    note_no_more_work(worker, BLOCK)
    readmit(worker, BLOCK)
    assert told == []


def test_they_are_let_in_where_there_is_work(worker: Any) -> None:
    note_no_more_work(worker, BLOCK)
    readmit(worker, BLOCK)
    assert worker.get_granted_qualification(BLOCK) is None
    assert block_reasons(worker, BLOCK) == []
    assert not has_no_more_work(worker, BLOCK)


@pytest.mark.parametrize("reason", [reason for reason in BlockReason if reason is not BlockReason.NO_MORE_WORK])
@pytest.mark.parametrize("comes_first", [True, False])
def test_a_block_for_another_reason_stays(worker: Any, reason: BlockReason, comes_first: bool) -> None:
    if comes_first:
        soft_block(worker, BLOCK, reason)
    note_no_more_work(worker, BLOCK)
    if not comes_first:
        soft_block(worker, BLOCK, reason)
    readmit(worker, BLOCK)
    assert is_blocked(worker, BLOCK)
    assert not has_no_more_work(worker, BLOCK)
    assert worker.get_granted_qualification(BLOCK).value == BLOCKED


def test_a_violation_that_comes_while_they_are_let_in_blocks_them(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    note_no_more_work(worker, BLOCK)
    unmarked = no_more_work.unmark
    told: list[Any] = []

    def meanwhile(*marker: Any) -> None:
        soft_block(worker, BLOCK, BlockReason.ACCEPTABILITY)
        monkeypatch.setattr(type(worker), "grant_crowd_qualification", lambda *said: told.append(said))
        unmarked(*marker)

    monkeypatch.setattr(no_more_work, "unmark", meanwhile)
    readmit(worker, BLOCK)
    assert is_blocked(worker, BLOCK)
    assert worker.get_granted_qualification(BLOCK).value == BLOCKED
    assert told == [], "the violation itself tells the platform"


def test_what_an_earlier_version_granted_is_taken_back_on_the_platform_too(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft_block(worker, BLOCK, BlockReason.NO_MORE_WORK)
    told: list[str] = []
    monkeypatch.setattr(type(worker), "revoke_crowd_qualification", lambda self, name: told.append(name))
    readmit(worker, BLOCK)
    assert told == [BLOCK]
    assert worker.get_granted_qualification(BLOCK) is None


def test_a_block_that_was_not_made_here_stays(worker: Any) -> None:
    make_qualification(worker.db, BLOCK)
    worker.grant_qualification(BLOCK, BLOCKED)
    readmit(worker, BLOCK)
    assert is_blocked(worker, BLOCK)


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_block_qualification_nothing_happens(worker: Any, name: str | None) -> None:
    note_no_more_work(worker, name)
    readmit(worker, name)
    assert not has_no_more_work(worker, name)

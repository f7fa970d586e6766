"""Block lists, blocks with their reasons, and the reasons for which a worker gets no work, on the mock provider."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from model_chat.errors import ConfigurationError
from model_chat.quality.block_lists import block_listed, read_block_lists
from model_chat.quality.blocks import (
    BlockReason,
    block_for_conduct,
    block_reasons,
    find_worker,
    is_blocked,
    make_qualification,
    platform_id,
    prepare_qualifications,
    soft_block,
    unblock,
)
from model_chat.quality.failures import MOST_OF_A_WORKER, Failures
from model_chat.quality.refusals import TEXTS, Refusal, why_no_work
from model_chat.tests.mephisto_run import PASSED, Run

BLOCK = "blocked"


# --- lists ---


def test_several_lists_with_comments_and_blank_lines_are_read(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("\ufeffA1\n\n  A2  # rude\n# A9\nA1\n", encoding="utf-8")
    second.write_text("A3\r\nA2\r\n", encoding="utf-8")
    assert read_block_lists(f"{first}, {second},") == ["A1", "A2", "A3"]
    assert read_block_lists(None) == read_block_lists("") == []


def test_every_fault_of_every_list_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("A1\nA2, A3\nname of worker\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        read_block_lists(f"{file},{tmp_path / 'none.txt'}")
    faults = error.value.faults
    assert [fault.split(";")[1] for fault in faults] == [
        " write one worker id a line.",
        " write one worker id a line.",
        " give the path of a file.",
    ]
    assert "line 2" in faults[0]
    assert "line 3" in faults[1]
    assert all(fault.startswith("mturk.worker_blocklist_paths: ") for fault in faults)


def test_unknown_workers_of_a_list_are_blocked_and_reported(
    mephisto_run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    known = mephisto_run.worker()
    with caplog.at_level(logging.WARNING, "model_chat"):
        assert block_listed(mephisto_run.db, "mock", BLOCK, [known.worker_name, "newcomer"]) == ["newcomer"]
    assert "1 of 2 workers have never taken part here: newcomer." in caplog.text
    newcomer = find_worker(mephisto_run.db, "mock", "newcomer")
    assert newcomer is not None
    assert platform_id(newcomer) == "newcomer"
    assert is_blocked(known, BLOCK)
    assert block_reasons(newcomer, BLOCK) == [BlockReason.LISTED]


# --- blocks ---


def test_a_block_is_a_qualification_with_the_value_one(mephisto_run: Run) -> None:
    worker = mephisto_run.worker()
    assert soft_block(worker, BLOCK, BlockReason.BY_HAND)
    assert worker.get_granted_qualification(BLOCK).value == 1
    assert block_reasons(worker, BLOCK) == [BlockReason.BY_HAND]
    assert unblock(worker, BLOCK)
    assert worker.get_granted_qualification(BLOCK) is None
    assert block_reasons(worker, BLOCK) == []
    assert not unblock(worker, BLOCK)


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_qualification_nobody_is_blocked(mephisto_run: Run, name: str | None) -> None:
    worker = mephisto_run.worker()
    assert not soft_block(worker, name, BlockReason.ACCEPTABILITY)
    assert not is_blocked(worker, name)


def test_a_world_that_can_not_say_why_ends_no_conversation(mephisto_run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class OwnWorld:
        """A user's own, of before there were blocks."""

    block_for_conduct(OwnWorld(), mephisto_run.agent(), BLOCK, on_platform=False)
    assert "could not be blocked" in caplog.text


def test_all_qualifications_are_known_before_the_launch(mephisto_run: Run) -> None:
    class Shared:
        qualifications: list[dict[str, Any]] = []  # noqa: RUF012 (one object, used once)

    names = {"block_qualification": "b1", "onboarding_qualification": "o1", "allowed_worker_qualification": "a1"}
    prepare_qualifications(mephisto_run.db, names, Shared)
    known = {qualification.qualification_name for qualification in mephisto_run.db.find_qualifications()}
    assert {"b1", "o1", "o1-failed", "a1"} <= known
    assert [(one["qualification_name"], one["comparator"]) for one in Shared.qualifications] == [("a1", "Exists")]


# --- reasons ---


class Blueprint:
    """What the reasons are read from."""

    def __init__(self, run: Run, **flags: Any) -> None:
        self.args = run.args.copy()
        self.args.blueprint.update(flags)

    @staticmethod
    def get_failed_qual(name: str) -> str:
        return f"{name}-failed"


@pytest.mark.parametrize(
    ("reason", "refusal"),
    [
        (BlockReason.ACCEPTABILITY, Refusal.ACCEPTABILITY),
        (BlockReason.ATTENTION, Refusal.ATTENTION),
        (BlockReason.NO_MORE_WORK, Refusal.NOTHING_NEW),
        (BlockReason.LISTED, Refusal.BLOCKED),
        (BlockReason.BY_HAND, Refusal.BLOCKED),
    ],
)
def test_who_is_blocked_is_told_for_what(mephisto_run: Run, reason: BlockReason, refusal: Refusal) -> None:
    worker = mephisto_run.worker()
    soft_block(worker, BLOCK, reason)
    assert why_no_work(worker, mephisto_run.task_run, Blueprint(mephisto_run)) is refusal


def test_who_is_not_invited_or_failed_onboarding_is_told_so(mephisto_run: Run) -> None:
    make_qualification(mephisto_run.db, PASSED)
    invited = Blueprint(mephisto_run, allowed_worker_qualification="invited")
    worker = mephisto_run.worker()
    assert why_no_work(worker, mephisto_run.task_run, invited) is Refusal.NOT_INVITED
    worker.grant_qualification(PASSED, 0)
    assert why_no_work(worker, mephisto_run.task_run, Blueprint(mephisto_run)) is Refusal.ONBOARDING


def test_who_gets_no_more_since_their_chats_broke_down_is_told_that_it_is_not_their_fault(mephisto_run: Run) -> None:
    make_qualification(mephisto_run.db, PASSED)
    worker, failures = mephisto_run.worker(), Failures()
    told = partial(why_no_work, worker, mephisto_run.task_run, Blueprint(mephisto_run), failures)
    assert told() in (Refusal.ALL_TAKEN, Refusal.ALL_DONE)
    for _ in range(MOST_OF_A_WORKER):
        failures.failed(platform_id(worker))
    assert told() is Refusal.TROUBLE
    soft_block(worker, BLOCK, BlockReason.LISTED)
    assert told() is Refusal.BLOCKED


def test_each_reason_has_a_sentence_of_its_own() -> None:
    assert set(TEXTS) == set(Refusal)
    assert len(set(TEXTS.values())) == len(TEXTS)


def test_every_reason_is_in_the_protocol() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [refusal for refusal in Refusal if f"| `{refusal}` |" not in page] == []

"""Block lists, blocks with their reasons, and the reasons for which a worker gets no work, on the mock provider."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from model_chat.errors import ConfigurationError
from model_chat.quality.block_lists import block_listed, block_workers, read_block_lists
from model_chat.quality.blocks import (
    BlockReason,
    block_for_conduct,
    block_for_record,
    block_reasons,
    find_participant,
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


@pytest.mark.parametrize(
    ("provider", "given_id", "same"),
    [
        ("mock", "an\u200bn", True),
        ("mock", "ANN", False),
        ("mturk", "a1b2", True),
        ("mturk_sandbox", " a1b2", True),
    ],
)
def test_lists_and_pages_mean_the_same_worker(tmp_path: Path, provider: str, given_id: str, same: bool) -> None:
    db = Run(tmp_path).db
    own = "ann" if provider == "mock" else "A1B2"
    block_listed(db, provider, BLOCK, [given_id])
    found = find_participant(db, provider, own)
    assert (found is not None and is_blocked(found, BLOCK)) is same


def test_a_block_list_is_read_in_one_spelling(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("an\u200bn\nann \n\uff41nn\n\u200b\n", encoding="utf-8")
    assert read_block_lists(str(file)) == ["ann"]


def test_a_participant_is_not_found_by_mephistos_own_name(tmp_path: Path) -> None:
    db = Run(tmp_path).db
    db.new_worker("ann_sandbox", "mock")
    assert find_participant(db, "mock", "ann_sandbox") is None
    assert find_participant(db, "mock", "\u200b") is None
    found = find_worker(db, "mock", "ann_sandbox")
    assert found is not None
    assert platform_id(found) == "ann"


def test_of_several_earlier_spellings_the_first_one_is_the_worker(tmp_path: Path) -> None:
    db = Run(tmp_path).db
    first, _ = (db.new_worker(name, "mock") for name in ("an\u200bn_sandbox", "ann\u200b_sandbox"))
    found = find_participant(db, "mock", "ann\u200b")
    assert found is not None
    assert found.db_id == first


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


# --- who is told what, and when ---


@pytest.fixture
def told(mephisto_run: Run, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the crowd platform was told."""
    found: list[tuple[str, int]] = []
    worker_class = type(mephisto_run.worker())
    monkeypatch.setattr(
        worker_class, "grant_crowd_qualification", lambda self, name, value=1: found.append((name, value))
    )
    return found


def test_the_platform_is_told_of_the_block_and_never_of_the_reason(
    mephisto_run: Run, told: list[tuple[str, int]]
) -> None:
    worker = mephisto_run.worker()
    assert soft_block(worker, BLOCK, BlockReason.ACCEPTABILITY, on_platform=False)
    assert told == [] and is_blocked(worker, BLOCK)
    assert soft_block(worker, BLOCK, BlockReason.ACCEPTABILITY)
    assert told == [(BLOCK, 1)]


@pytest.mark.parametrize(("status", "blocked"), [("complete", True), ("incomplete", False), (None, False)])
def test_only_a_complete_conversation_of_an_earlier_run_speaks_against_its_worker(
    mephisto_run: Run, status: str | None, blocked: bool
) -> None:
    worker = mephisto_run.worker()
    block_for_record(worker, {"status": status, "acceptability_violations": ["all_caps"]}, BLOCK, None)
    assert is_blocked(worker, BLOCK) is blocked


def test_two_words_on_a_line_of_a_list_are_no_id(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A1 A2\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"line 1 .*'A1 A2'"):
        read_block_lists(str(tmp_path / "a.txt"))


def test_a_list_without_a_block_qualification_blocks_nobody(mephisto_run: Run) -> None:
    args = {"block_qualification": None}
    block_workers(mephisto_run.db, SimpleNamespace(mephisto=SimpleNamespace(blueprint=args)), ["A1"])
    assert find_worker(mephisto_run.db, "mock", "A1") is None


def test_the_listed_workers_of_a_task_are_blocked(mephisto_run: Run) -> None:
    mephisto = {
        "blueprint": {"block_qualification": BLOCK},
        "provider": {"requester_name": "requester", "_provider_type": "mock"},
    }
    block_workers(mephisto_run.db, OmegaConf.create({"mephisto": mephisto}), ["LISTED_1"])
    worker = find_worker(mephisto_run.db, "mock", "LISTED_1")
    assert worker is not None and is_blocked(worker, BLOCK)


@pytest.mark.parametrize("checks", [[{"turn": "second"}], 3])
def test_a_damaged_record_of_an_earlier_run_blocks_nobody_and_stops_nothing(
    mephisto_run: Run, caplog: pytest.LogCaptureFixture, checks: Any
) -> None:
    worker = mephisto_run.worker()
    block_for_record(worker, {"status": "complete", "attention_checks": checks}, BLOCK, None)
    assert not is_blocked(worker, BLOCK)
    assert f"Worker {worker.worker_name} could not be blocked" in caplog.text

"""manage_workers.py on panels without an API: what can be done here is done, and what to pay is a list."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from model_chat.crowd import adapters
from model_chat.crowd.ledger import PAID, SENDING, Ledger
from model_chat.crowd.transfers import Transfers, TransferState
from model_chat.quality.blocks import find_worker, is_blocked
from model_chat.tests.crowd.panel_task import TASK, PanelTask

NAMES = {
    "connect": "CloudResearch Connect",
    "sona": "SONA",
    "panel": "the panel",
    "link": "a link of one's own",
}
BONUS = ("bonus", "--all", "--amount", "0.75", "--reason", "Thank you.")


@pytest.fixture
def panel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> PanelTask:
    task = PanelTask(tmp_path, "panel", capsys, currency="EUR")
    task.chat("p1", "s1", study="study1")
    task.chat("p2", None, study=None)
    return task


class KilledError(Exception):
    """In the place of kill -9."""


def killed(*args: Any, **kwargs: Any) -> None:
    raise KilledError


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("provider", NAMES)
def test_approval_and_rejection_are_noted_and_the_requester_is_sent_to_the_panel(
    provider: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = PanelTask(tmp_path, provider, capsys)
    one, two = task.chat("p1"), task.chat("p2")
    note = f"(noted here; do it on {NAMES[provider]} too, which has no API for it)"
    said = task.command("approve", "p1")
    assert (said.code, said.out) == (0, f"p1, unit {one.unit_id} approved {note}\n")
    said = task.command("reject", "p2", "--reason", "copied")
    assert (said.code, said.out) == (0, f"p2, unit {two.unit_id} rejected: copied {note}\n")
    assert [task.status(agent) for agent in (one, two)] == ["approved", "rejected"]
    assert task.command("block", "p1").code == 0
    assert is_blocked(find_worker(task.db, provider, "p1"), "blocked")  # type: ignore[arg-type]  # found
    said = task.command("message", "p1", "--text", "Hi")
    assert (said.code, said.err) == (
        2,
        f"✗ message: {NAMES[provider]} has no API that sends messages; write to its participants on its own pages.\n",
    )
    said = task.command("top-up", "--places", "5")
    assert said.code == 2
    assert f"top-up: {NAMES[provider]} has no API for it; raise conversations_needed_string" in said.err


def test_bonuses_are_listed_once_in_a_file_to_hand_in(panel: PanelTask, tmp_path: Path) -> None:
    output = tmp_path / "pay.csv"
    said = panel.command(*BONUS)
    assert said.out == "2 bonuses, total €1.50, without a fee of the panel\n"
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["✗ --confirm", "✗ --output"]
    said = panel.command(*BONUS, "--confirm", "1.50", "--output", str(output))
    assert said.code == 0
    assert said.out.endswith(f"'{output}' lists 2 bonuses, €1.50; pay them on the panel\n")
    assert rows(output) == [
        ["participant", "session", "study", "amount", "currency", "reason"],
        ["p1", "s1", "study1", "0.75", "EUR", "Thank you."],
        ["p2", "", "", "0.75", "EUR", "Thank you."],
    ]
    assert output.stat().st_mode & 0o077 == 0
    again = panel.command(*BONUS, "--confirm", "1.50", "--output", str(tmp_path / "again.csv"))
    assert again.code == 0
    assert again.out.count("has had this bonus") == 2
    assert not (tmp_path / "again.csv").exists()


def test_no_list_replaces_another(panel: PanelTask, tmp_path: Path) -> None:
    output = tmp_path / "pay.csv"
    output.write_text("mine", encoding="utf-8")
    said = panel.command(*BONUS, "--confirm", "1.50", "--output", str(output))
    assert said.code == 2
    assert said.err == f"✗ --output: '{output}' exists; give a new file; each bonus is in one list only.\n"
    assert output.read_text(encoding="utf-8") == "mine"
    said = panel.command(*BONUS, "--confirm", "1.50", "--output", str(tmp_path / "no" / "pay.csv"))
    assert f"--output: there is no folder '{tmp_path / 'no'}'" in said.err
    assert Ledger(panel.folder).bonuses() == []


def test_a_list_that_can_not_be_written_pays_nothing(
    panel: PanelTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapters, "write_new_file", full)
    said = panel.command(*BONUS, "--confirm", "1.50", "--output", str(tmp_path / "pay.csv"))
    assert said.code == 2
    assert "can't be written (No space left on device); give another." in said.err
    assert Ledger(panel.folder).bonuses() == []
    assert Transfers(Ledger(panel.folder), "panel", TASK).with_state(*TransferState) == []


def test_a_process_that_dies_before_the_list_is_written_has_paid_nothing(
    panel: PanelTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(adapters, "write_new_file", killed)
        panel.command(*BONUS, "--confirm", "1.50", "--output", str(tmp_path / "pay.csv"))
    assert {bonus.state for bonus in Ledger(panel.folder).bonuses()} == {SENDING}
    said = panel.command(*BONUS, "--confirm", "1.50", "--output", str(tmp_path / "pay.csv"))
    assert said.code == 0
    assert len(rows(tmp_path / "pay.csv")) == 3
    assert {bonus.state for bonus in Ledger(panel.folder).bonuses()} == {PAID}


def test_a_list_that_a_process_wrote_before_it_died_counts(
    panel: PanelTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "pay.csv"
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(adapters.ListAdapter, "_close", killed)
        panel.command(*BONUS, "--confirm", "1.50", "--output", str(output))
    said = panel.command(*BONUS, "--confirm", "1.50", "--output", str(tmp_path / "again.csv"))
    assert said.code == 0
    assert f"'{output}' of an earlier command lists 2 bonuses" in said.out
    assert not (tmp_path / "again.csv").exists()
    assert {bonus.state for bonus in Ledger(panel.folder).bonuses()} == {PAID}


def test_no_cell_of_a_list_is_a_formula(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = PanelTask(tmp_path, "connect", capsys)
    task.chat("=cmd()", "@s", study="+1")
    output = tmp_path / "pay.csv"
    ask = ("bonus", "--all", "--amount", "1", "--reason", "＝1")
    assert task.command(*ask, "--confirm", "1", "--output", str(output)).code == 0
    assert rows(output)[1] == ["'=cmd()", "'@s", "'+1", "1.00", "USD", "'＝1"]


def test_flags_of_other_platforms_are_refused_together(panel: PanelTask) -> None:
    said = panel.command("reject", "p1", "--all", "--reason", "x", "--category", "OTHER")
    assert said.code == 2
    assert [line.partition(":")[0] for line in said.err.splitlines()] == [
        "✗ Name workers (or --file), or give --all for the units of everybody.",
        "✗ --category",
    ]
    assert (
        "settle: is for Prolific alone; of the panel every bonus is known."
        in panel.command("settle", "p1", "--paid").err
    )


def test_all_faults_of_a_bonus_are_said_at_once(panel: PanelTask, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    said = panel.command("wage", "--hourly", "x", "--cap", "0", "--output", str(tmp_path / "there"))
    assert said.code == 2
    assert [line.partition(":")[0] for line in said.err.splitlines()] == [
        "✗ Name workers (or --file), or give --all for the units of everybody.",
        "✗ --hourly",
        "✗ --cap",
        "✗ --output",
    ]


def test_a_dry_run_writes_nothing(panel: PanelTask, tmp_path: Path) -> None:
    said = panel.command(*BONUS, "--confirm", "1.50", "--output", str(tmp_path / "pay.csv"), "--dry-run")
    assert said.code == 0
    assert "2 bonuses, total €1.50" in said.out
    assert not (tmp_path / "pay.csv").exists()
    assert Ledger(panel.folder).bonuses() == []

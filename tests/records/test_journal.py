"""One conversation's journal: what was written is what is read, whatever was said."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.records import append_only_log
from model_chat.records import journal as journals
from model_chat.records.journal import Journal, read_journal


@pytest.mark.parametrize(
    "said",
    [
        "plain words",
        "zwei\nZeilen\u2028und noch eine\r",
        "naïve 🙂",
        "half an emoji: \ud83d",
        2**70,
        -(2**63) - 1,
        {"1": [None]},
    ],
)
def test_whatever_was_said_is_read_again(tmp_path: Path, said: Any) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append([{"message": {"text": "before"}}], durable=False)
    journal.append([{"message": {"text": said}}, {"message": {"text": "after"}}], durable=True)
    journal.close()
    assert [entry["message"]["text"] for entry in read_journal(path)] == ["before", said, "after"]


class FullDisk:
    """Lets the first half of each write through and fails then, as long as ``is_full``.

    ``shortens``: whether that half can be taken back in the meantime.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shortens: bool = False) -> None:
        self.is_full = False
        self.has_failed = False
        self.shortens = shortens
        self._write, self._truncate = os.write, os.ftruncate
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "ftruncate", self.truncate)
        monkeypatch.setattr(journals, "PAUSE_SECONDS", 0)

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.is_full:
            return self._write(descriptor, data)
        self.has_failed = True
        self._write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def truncate(self, descriptor: int, length: int) -> None:
        if self.is_full and self.has_failed and not self.shortens:
            raise OSError(errno.EIO, "Input/output error")
        self._truncate(descriptor, length)


def said(path: Path) -> list[Any]:
    return [entry["said"] for entry in read_journal(path)]


@pytest.mark.parametrize("shortens", [True, False])
@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("between", [lambda journal: None, Journal.close], ids=["open", "closed"])
def test_half_a_line_of_an_append_that_failed_spoils_no_later_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shortens: bool,
    durable: bool,
    between: Callable[[Journal], None],
) -> None:
    path = tmp_path / "journal.jsonl"
    journal, disk = Journal(path), FullDisk(monkeypatch, shortens)
    journal.append([{"said": "before"}], durable)
    disk.is_full = True
    with pytest.raises(OSError, match=r"No space|Input/output"):
        journal.append([{"said": "never acknowledged"}], durable)
    disk.is_full = False
    between(journal)
    journal.append([{"said": "after"}], durable)
    journal.append([{"said": "and after that"}], durable)
    assert said(path) == ["before", "after", "and after that"]
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3, "nothing is left of what failed"


def test_lines_that_are_written_but_not_on_disk_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append([{"said": "before"}], durable=True)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(journals, "PAUSE_SECONDS", 0)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.append([{"said": "never acknowledged"}], durable=True)
    assert said(path) == ["before"]
    journal.append([{"said": "after"}], durable=True)
    assert said(path) == ["before", "after"]


def test_a_journal_takes_back_nothing_that_another_has_written_since(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    old, new = Journal(path), Journal(path)
    old.append([{"said": "old"}], durable=True)
    new.append([{"said": "new"}], durable=True)
    old.close()
    new.append([{"said": "newer"}], durable=True)
    assert said(path) == ["old", "new", "newer"]


def test_half_a_line_of_a_power_cut_stays_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"said": "before"}\n{"said": "ha')
    Journal(path).append([{"said": "after"}], durable=True)
    assert said(path) == ["before", "after"]
    whole = tmp_path / "whole.jsonl"
    whole.write_bytes(b'{"said": "before"}\n')
    Journal(whole).append([{"said": "after"}], durable=True)
    assert whole.read_bytes() == b'{"said": "before"}\n{"said":"after"}\n'


def test_a_journals_name_is_made_durable_once_and_before_anything_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []

    def sync(folder: Path) -> None:
        synced.append(folder)
        if len(synced) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(append_only_log, "sync_folder", sync)
    monkeypatch.setattr(journals, "ATTEMPTS", 1)
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append([{"said": "by the server"}], durable=False)
    assert synced == [], "nothing of it has to survive a power cut"
    with pytest.raises(OSError, match="Input/output"):
        journal.append([{"said": "never acknowledged"}], durable=True)
    for _ in range(3):
        journal.append([{"said": "acknowledged"}], durable=True)
    assert synced == [tmp_path] * 2
    assert said(path) == ["by the server", *["acknowledged"] * 3]


def test_a_durable_append_is_tried_again_and_another_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def fail(descriptor: int, data: bytes) -> int:
        tries.append(data)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journals, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(os, "write", fail)
    for durable, expected in ((True, journals.ATTEMPTS), (False, 1)):
        tries.clear()
        with pytest.raises(OSError, match="No space"):
            Journal(tmp_path / f"{durable}.jsonl").append([{"said": "x"}], durable)
        assert len(tries) == expected


def test_a_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append([{"said": "x"}], durable=False)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_object_and_blank_lines_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.jsonl"
    assert read_journal(path) == []
    path.write_bytes(b'\n  \n[1]\n"x"\n{"said": 1}\n{"said": ' + b"[" * 100_000 + b"\n")
    assert said(path) == [1]
    assert "holds half a line" in caplog.text


def test_removing_a_journal_is_no_error_when_there_is_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.remove()
    journal.append([{"said": "x"}], durable=True)
    journal.remove()
    assert not journal.path.exists()
    journal.append([{"said": "y"}], durable=True)
    assert said(journal.path) == ["y"]


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_all_of_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    path = tmp_path / "journal.jsonl"
    Journal(path).append([{"said": "one"}, {"said": "two"}], durable=True)
    assert path.read_bytes() == b'{"said":"one"}\n{"said":"two"}\n'


@pytest.mark.parametrize("before", [b'{"said": "before"}\n', b'{"said": "before"}\n{"said": "ha'])
def test_what_was_there_before_is_no_part_of_what_a_failed_append_takes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(before)
    journal, disk = Journal(path), FullDisk(monkeypatch, shortens=True)
    journal.append([{"said": "first"}], durable=True)
    disk.is_full = True
    with pytest.raises(OSError, match="No space"):
        journal.append([{"said": "never acknowledged"}], durable=True)
    newline = b"" if before.endswith(b"\n") else b"\n"
    assert path.read_bytes() == before + newline + b'{"said":"first"}\n'


def test_a_durable_append_waits_between_attempts_and_succeeds_at_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    failures = journals.ATTEMPTS - 1
    pauses: list[float] = []

    def fail_at_first(descriptor: int, data: bytes) -> int:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", fail_at_first)
    monkeypatch.setattr("model_chat.records.journal.time.sleep", pauses.append)
    path = tmp_path / "journal.jsonl"
    Journal(path).append([{"said": "acknowledged"}], durable=True)
    assert said(path) == ["acknowledged"]
    assert pauses == [journals.PAUSE_SECONDS] * (journals.ATTEMPTS - 1)
    assert 1 <= sum(pauses) <= 2, "a worker waits for it"


def test_only_a_durable_append_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append([{"said": "by the server"}], durable=False)
    assert synced == []
    journal.append([{"said": "by the worker"}], durable=True)
    assert len(synced) == 1


class Descriptors:
    """Remembers which file descriptors are open of those that were opened while it watched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: list[int] = []
        self._open, self._close = os.open, os.close
        monkeypatch.setattr(os, "open", self._opened)
        monkeypatch.setattr(os, "close", self._closed)

    def _opened(self, *args: Any, **kwargs: Any) -> int:
        descriptor = self._open(*args, **kwargs)
        self.open.append(descriptor)
        return descriptor

    def _closed(self, descriptor: int) -> None:
        self._close(descriptor)
        self.open.remove(descriptor)


@pytest.mark.parametrize("end", [Journal.close, Journal.remove, Journal.__del__], ids=["close", "remove", "forgotten"])
def test_a_journal_that_is_done_with_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[Journal], None]
) -> None:
    descriptors = Descriptors(monkeypatch)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append([{"said": "x"}], durable=True)
    assert len(descriptors.open) == 1
    end(journal)
    end(journal)
    assert descriptors.open == []


def test_a_journal_that_can_not_be_opened_whole_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"said": "ha')
    descriptors, disk = Descriptors(monkeypatch), FullDisk(monkeypatch)
    disk.is_full = True
    journal = Journal(path)
    with pytest.raises(OSError, match="No space"):
        journal.append([{"said": "x"}], durable=False)
    assert descriptors.open == []
    disk.is_full = False
    journal.append([{"said": "after"}], durable=False)
    assert said(path) == ["after"]

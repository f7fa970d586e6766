"""The log beneath every journal: lines are there all or none, or the caller is told."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.records import append_only_log
from model_chat.records.append_only_log import AppendOnlyLog
from model_chat.records.journal import Journal, read_journal


def started(path: Path) -> AppendOnlyLog:
    return AppendOnlyLog.start(path, b"first\n")


def opened(path: Path) -> AppendOnlyLog:
    log = AppendOnlyLog(path)
    log.append_lines(b"first\n", durable=True)
    return log


MAKERS = pytest.mark.parametrize("make", [started, opened])


@MAKERS
def test_a_log_is_for_its_owner_alone_and_takes_further_lines(
    tmp_path: Path, make: Callable[[Path], AppendOnlyLog]
) -> None:
    before = os.umask(0)
    try:
        log = make(tmp_path / "log")
    finally:
        os.umask(before)
    log.append_lines(b"second\n", durable=True)
    log.append_lines(b"third\nfourth\n", durable=False)
    assert log.path.read_bytes() == b"first\nsecond\nthird\nfourth\n"
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@MAKERS
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_log_that_was_deleted_takes_no_lines(
    tmp_path: Path, make: Callable[[Path], AppendOnlyLog], is_replaced: bool
) -> None:
    log = make(tmp_path / "log")
    log.path.unlink()
    if is_replaced:
        log.path.write_bytes(b"of another\n")
    for durable in (True, False):
        with pytest.raises(FileNotFoundError, match="deleted"):
            log.append_lines(b"second\n", durable)
    assert log.path.exists() == is_replaced


@MAKERS
def test_an_interrupted_append_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], AppendOnlyLog]
) -> None:
    log, write = make(tmp_path / "log"), os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.append_lines(b"second\n", durable=True)
    log.append_lines(b"third\n", durable=True)
    assert log.path.read_bytes() == b"first\nthird\n"


@pytest.mark.parametrize("function", ["fsync", "replace", "dup"])
def test_a_log_that_can_not_be_started_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    descriptors = len(list(Path("/dev/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match="Input/output"):
            AppendOnlyLog.start(path, b"first\n")
    assert len(list(Path("/dev/fd").iterdir())) == descriptors, "nothing stays open"
    assert path.read_bytes() == b"before\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_started_log_has_its_name_synced_before_a_line_is_acknowledged_and_not_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(append_only_log, "sync_folder", synced.append)
    log = started(tmp_path / "log")
    assert synced == []
    for _ in range(2):
        log.append_lines(b"second\n", durable=True)
        assert synced == [tmp_path]


@pytest.mark.parametrize("durable", [True, False])
def test_a_conversations_journal_that_was_deleted_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(append_only_log, "sync_folder", synced.append)
    monkeypatch.setattr("model_chat.records.journal.PAUSE_SECONDS", 0)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append([{"said": "first"}], durable=True)
    journal.path.unlink()
    if durable:
        journal.append([{"said": "second"}], durable)
    else:  # its owner keeps what was refused for the next append
        with pytest.raises(FileNotFoundError):
            journal.append([{"said": "second"}], durable)
        journal.append([{"said": "second"}], durable)
    assert [entry["said"] for entry in read_journal(journal.path)] == ["second"]
    assert len(synced) == (2 if durable else 1), "the new file's name has to last, too"

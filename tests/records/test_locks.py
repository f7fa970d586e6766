"""Locks of the operating system: shared by runs, and held alone by who changes all records."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from model_chat.records import locks
from model_chat.records.locks import (
    DATA_LOCK,
    LOCKS_FOLDER,
    LockedError,
    hold,
    hold_alone_from_now,
    hold_data,
    runs_going_on,
    use_folder,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [(True, True, False), (True, False, False), (False, True, False), (False, False, True)],
)
@pytest.mark.parametrize("is_folder", [True, False])
def test_only_those_who_share_a_lock_hold_it_at_the_same_time(
    tmp_path: Path, first: bool, second: bool, allowed: bool, is_folder: bool
) -> None:
    path = tmp_path if is_folder else tmp_path / "a.lock"
    with hold(path, first):
        if allowed:
            with hold(path, second):
                pass
        else:
            with pytest.raises(LockedError, match=path.name), hold(path, second):
                pytest.fail("both hold it")
    with hold(path, alone=True):
        pass


def test_a_lock_is_freed_by_a_failure_in_its_block_and_its_descriptor_is_closed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), hold(tmp_path / "a.lock", alone=True) as descriptor:
        os.write(descriptor, b"123")
        raise KeyError
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with hold(tmp_path / "a.lock", alone=True):
        assert (tmp_path / "a.lock").read_bytes() == b"123", "who holds it may have written something"


def test_a_lock_and_its_folders_are_made_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lock"
    before = os.umask(0)
    try:
        with hold(path, alone=False):
            assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
        with hold_data(tmp_path / "data", alone=False):
            assert mode_of(tmp_path / "data" / LOCKS_FOLDER) == 0o700
        with use_folder(tmp_path / "chats" / "study"):
            assert [mode_of(tmp_path / "chats"), mode_of(tmp_path / "chats" / "study")] == [0o700, 0o700]
    finally:
        os.umask(before)


def test_without_make_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), hold(tmp_path / "new" / "a.lock", alone=False, make=False):
        pytest.fail("there is nothing to lock")
    with pytest.raises(FileNotFoundError), hold(tmp_path / "a.lock", alone=False, make=False):
        pytest.fail("there is nothing to lock")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with hold(tmp_path / "a.lock", alone=True), hold(tmp_path / "a.lock", alone=True):
        pass
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(OSError, match="No locks"), hold(tmp_path / "a.lock", alone=True, required=True):
        pytest.fail("there is no lock to hold")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_who_is_refused_is_told_what_the_holder_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_text("a longer note of an earlier run", encoding="utf-8")
    with hold(path, alone=True, note="process 1"), pytest.raises(LockedError) as refused, hold(path, alone=True):
        pytest.fail("both hold it")
    assert refused.value.holder == "process 1"
    with hold(tmp_path, alone=True), pytest.raises(LockedError) as refused, hold(tmp_path, alone=True):
        pytest.fail("both hold it")
    assert refused.value.holder == "", "a folder holds no note"


def test_a_shared_lock_becomes_one_held_alone_only_when_nobody_shares_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with hold(path, alone=False) as descriptor:
        with hold(path, alone=False):
            assert not hold_alone_from_now(descriptor)
            with hold(path, alone=False):
                pass
        assert hold_alone_from_now(descriptor)
        with pytest.raises(LockedError), hold(path, alone=False):
            pytest.fail("it is held alone")


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_file_that_is_removed_while_it_is_locked_is_locked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    path, lock = tmp_path / "a.lock", fcntl.flock
    locked: list[int] = []

    def removed_once(descriptor: int, operation: int) -> None:
        lock(descriptor, operation)
        if not locked:
            path.unlink()
            if is_replaced:
                path.touch()
        locked.append(descriptor)

    closed: list[int] = []
    close = os.close
    monkeypatch.setattr(fcntl, "flock", removed_once)
    monkeypatch.setattr(os, "close", lambda descriptor: (closed.append(descriptor), close(descriptor)))
    with hold(path, alone=True) as descriptor:
        assert len(locked) == 2
        assert locked[0] in closed
        assert os.path.samestat(os.fstat(descriptor), path.stat())
    monkeypatch.undo()
    with hold(path, alone=True):
        pass


def test_no_descriptor_stays_open_of_a_lock_that_is_not_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    closed: list[int] = []
    open_, close = os.open, os.close

    def watch_open(*args: Any) -> int:
        opened.append(open_(*args))
        return opened[-1]

    def watch_close(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    with hold(tmp_path / "a.lock", alone=True):
        monkeypatch.setattr(os, "open", watch_open)
        monkeypatch.setattr(os, "close", watch_close)
        with pytest.raises(LockedError), hold(tmp_path / "a.lock", alone=True):
            pytest.fail("both hold it")
        monkeypatch.undo()
    assert len(opened) == 1
    assert closed == opened


def test_runs_that_go_on_are_told_by_what_they_wrote_and_others_are_not(tmp_path: Path) -> None:
    folder = tmp_path / LOCKS_FOLDER
    assert runs_going_on(tmp_path) == []
    with (
        hold_data(tmp_path, alone=True),
        hold(folder / "b.lock", alone=True) as second,
        hold(folder / "a.lock", alone=True) as first,
        hold(folder / "empty.lock", alone=True),
        hold(folder / "other.txt", alone=True) as no_lock,
    ):
        os.write(first, b" 12\n")
        os.write(second, b"34")
        os.write(no_lock, b"56")
        (folder / "over.lock").write_text("78", encoding="ascii")
        (folder / DATA_LOCK).write_text("90", encoding="ascii")
        assert runs_going_on(tmp_path) == ["12", "34"]
    assert runs_going_on(tmp_path) == []


@pytest.mark.parametrize(("alone", "other"), [(True, False), (False, True), (True, True)])
def test_who_changes_all_records_is_alone_with_the_data(tmp_path: Path, alone: bool, other: bool) -> None:
    with hold_data(tmp_path, alone), pytest.raises(LockedError), hold_data(tmp_path, other):
        pytest.fail("both hold it")
    with hold_data(tmp_path, alone=False), hold_data(tmp_path, alone=False):
        assert (tmp_path / LOCKS_FOLDER / DATA_LOCK).is_file()


def test_folders_in_which_nothing_was_saved_are_removed_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "chats" / "study"
    with use_folder(folder), use_folder(folder), pytest.raises(LockedError), hold(folder, alone=True):
        pytest.fail("somebody saves there")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "chats").mkdir()
    with use_folder(folder):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["chats"], "what was there before stays"
    with use_folder(folder):
        (folder / "saved.json").touch()
    assert (folder / "saved.json").exists()
    with hold(folder, alone=True), pytest.raises(LockedError), use_folder(folder):
        pytest.fail("somebody changes what is there")
    assert (folder / "saved.json").exists()
    assert locks.STACK_LOCK != DATA_LOCK


def test_a_folder_that_another_run_makes_at_the_same_moment_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def made_by_another_first(folder: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        mkdir(folder, mode, parents=True, exist_ok=True)
        mkdir(folder, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", made_by_another_first)
    with use_folder(tmp_path / "chats" / "study"):
        assert (tmp_path / "chats" / "study").is_dir()

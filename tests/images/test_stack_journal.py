"""The journal of a stack: what is read of a damaged one, and when a change is confirmed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import psutil
import pytest

from model_chat.errors import ConfigurationError
from model_chat.images import _journal
from model_chat.images._journal import Change, DamagedJournalError, Header, Journal, Verb, read_journal
from model_chat.images.stack import ImageStack, Place, StackWriteError, find_stack_faults, read_stack
from model_chat.records import append_only_log
from model_chat.records.writing import replace_file
from model_chat.tests.images.scripted_stack import EVALS, IMAGES, MODELS, places_of, run_script

HEADER = Header(IMAGES, MODELS)
TAKEN = Change(Verb.TAKE, Place(0, "a", "w"))
FINISHED = Change(Verb.FINISH, Place(0, "a", "w"))


def test_a_journal_cut_off_at_any_byte_loads_with_the_changes_before(tmp_path: Path) -> None:
    source = tmp_path / "source"
    stack = ImageStack(IMAGES, MODELS, EVALS, source, rng=1, compact_after=1000)
    run_script(stack, lambda _: None)
    journal = (source / "stack.journal").read_bytes()
    snapshot = (source / "stack.json").read_bytes()
    stack.close()
    first_line = journal.index(b"\n") + 1
    earlier: set[int] = set()
    for length in range(len(journal) + 1):
        folder = tmp_path / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "stack.json").write_bytes(snapshot)
        (folder / "stack.journal").write_bytes(journal[:length])
        places = read_stack(folder)
        assert places is not None
        whole_lines = journal[first_line:length].count(b"\n") if length > first_line else 0
        if whole_lines not in earlier:  # a new line has become whole: open it for real, too
            earlier.add(whole_lines)
            with ImageStack(IMAGES, MODELS, EVALS, folder) as stack:
                assert stack.places() == places
        takes = journal[first_line:length].rsplit(b"\n", 1)[0].count(b'"take"') if whole_lines else 0
        gives = journal[first_line:length].rsplit(b"\n", 1)[0].count(b'"give back"') if whole_lines else 0
        assert len(places_of(places)) == takes - gives
    assert len(earlier) > 12


def test_a_journal_damaged_before_sound_lines_is_refused(tmp_path: Path) -> None:
    stack = ImageStack(IMAGES, MODELS, EVALS, tmp_path, compact_after=1000)
    run_script(stack, lambda _: None)
    journal = bytearray((tmp_path / "stack.journal").read_bytes())
    stack.close()
    journal[journal.index(b"take")] ^= 1
    (tmp_path / "stack.journal").write_bytes(journal)
    with pytest.raises(ConfigurationError, match=r"stack\.journal is damaged: line 2 is damaged, sound ones follow"):
        ImageStack(IMAGES, MODELS, EVALS, tmp_path)


def test_a_file_is_on_disk_before_it_has_its_name_and_the_name_is_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            assert (tmp_path / "stack.json").read_bytes() == b"[]"
            steps.append("folder")
        else:
            assert os.fstat(descriptor).st_size == 2 and not (tmp_path / "stack.json").exists()
            steps.append("content")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    replace_file(tmp_path / "stack.json", b"[]")
    assert steps == ["content", "folder"]


def test_damaged_lines_at_the_end_are_left_out_and_those_before_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "stack.journal"
    journal = Journal(path, HEADER)
    journal.append([TAKEN])
    journal.close()
    path.write_bytes(path.read_bytes() + b"00000000 []\nno checksum\n12345678")
    assert read_journal(path) == (HEADER, [TAKEN])


def test_a_journal_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_journal, "FORMAT", 2)
    Journal(tmp_path / "stack.journal", HEADER).close()
    monkeypatch.undo()
    with pytest.raises(DamagedJournalError, match="format 2; this version reads format 1"):
        read_journal(tmp_path / "stack.journal")


@pytest.mark.parametrize(("rest", "warned"), [(None, False), (b"", True), (b"0123", True)])
def test_only_a_journal_that_is_cut_off_in_its_first_line_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rest: bytes | None, warned: bool
) -> None:
    ImageStack(IMAGES, MODELS, EVALS, tmp_path).close()
    (tmp_path / "stack.journal").unlink()
    if rest is not None:
        (tmp_path / "stack.journal").write_bytes(rest)
    assert read_stack(tmp_path) is not None
    assert ("the journal is cut off in its first line" in caplog.text) == warned


def test_no_change_is_confirmed_before_the_name_of_its_journal_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []

    def fail(folder: Path) -> None:
        synced.append(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(tmp_path / "stack.journal", HEADER)
    monkeypatch.setattr(append_only_log, "sync_folder", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            journal.append([TAKEN])
    assert read_journal(tmp_path / "stack.journal") == (HEADER, [])
    assert synced == [tmp_path] * 2
    monkeypatch.setattr(append_only_log, "sync_folder", synced.append)
    journal.append([TAKEN])
    journal.append([FINISHED])
    journal.close()
    assert synced == [tmp_path] * 3
    assert read_journal(tmp_path / "stack.journal") == (HEADER, [TAKEN, FINISHED])


def test_a_change_that_was_refused_because_it_could_not_be_synced_is_not_read_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(tmp_path / "stack.journal", HEADER)
    journal.append([TAKEN])
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        journal.append([FINISHED])
    journal.close()
    assert read_journal(tmp_path / "stack.journal") == (HEADER, [TAKEN])


def test_a_refused_line_that_could_not_be_removed_at_once_is_removed_before_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(tmp_path / "stack.journal", HEADER)
    journal.append([TAKEN])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        broken.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.append([Change(Verb.GIVE_BACK, TAKEN.place)])
    journal.append([FINISHED])
    journal.close()
    assert read_journal(tmp_path / "stack.journal") == (HEADER, [TAKEN, FINISHED])


def test_a_journal_older_than_stack_json_changes_nothing(tmp_path: Path) -> None:
    """A crash between the two renames of a compaction: the changes are in stack.json already, and come again."""
    stack = ImageStack(IMAGES, MODELS, EVALS, tmp_path, rng=1, compact_after=1000)
    run_script(stack, lambda _: None)
    old_journal = (tmp_path / "stack.journal").read_bytes()
    before, in_flight = stack.places(), stack.in_flight()
    stack.close()
    (tmp_path / "stack.journal").write_bytes(old_journal)
    with ImageStack(IMAGES, MODELS, EVALS, tmp_path) as stack:
        assert places_of(stack.places()) == places_of(before)
        assert stack.in_flight() == in_flight


def test_a_journal_that_is_deleted_under_the_run_is_noticed(tmp_path: Path) -> None:
    stack = ImageStack(IMAGES, MODELS, EVALS, tmp_path)
    (tmp_path / "stack.journal").unlink()
    with pytest.raises(StackWriteError, match="deleted"):
        stack.get_next_image("w")
    stack.close()


def test_the_journal_is_folded_into_stack_json_now_and_then(tmp_path: Path) -> None:
    with ImageStack(50, ["a"], 1, tmp_path, compact_after=10) as stack:
        sizes = []
        for number in range(50):
            stack.get_next_image(f"w{number}")
            sizes.append((tmp_path / "stack.journal").stat().st_size)
            saved = json.loads((tmp_path / "stack.json").read_text(encoding="utf-8"))
            assert len(places_of(saved)) == (number + 1) // 10 * 10
        assert min(sizes[10:]) < max(sizes[:9])


def test_a_long_run_opens_no_more_and_more_files(tmp_path: Path) -> None:
    with ImageStack(40, ["a"], 1, tmp_path, compact_after=2) as stack:
        before = psutil.Process().num_fds()
        for number in range(40):
            stack.get_next_image(f"w{number}")
        assert psutil.Process().num_fds() <= before + 3, "20 journals were begun"


def test_ctrl_c_during_a_write_ends_this_draw_alone_and_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with ImageStack(1, ["a"], 1, tmp_path) as stack:
        with monkeypatch.context() as pressed:
            pressed.setattr(Journal, "append", interrupted)
            with pytest.raises(KeyboardInterrupt):
                stack.get_next_image("w")
        assert (stack.places(), stack.in_flight()) == ([{"a": []}], [])
        assert stack.get_next_image("v").image_idx == 0


def test_a_journal_of_another_stack_is_refused_and_said_before_the_launch(tmp_path: Path) -> None:
    for images in (2, 3):
        ImageStack(images, MODELS, EVALS, tmp_path / str(images)).close()
    shutil.copy(tmp_path / "3" / "stack.journal", tmp_path / "2" / "stack.journal")
    said = f"stack_folder={tmp_path / '2'}: stack.json has 2 images and its stack.journal is for 3"
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        ImageStack(2, MODELS, EVALS, tmp_path / "2")
    (fault,) = find_stack_faults(2, MODELS, EVALS, tmp_path / "2")
    assert said in fault

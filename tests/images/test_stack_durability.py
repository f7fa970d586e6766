"""What a crash, a full disk or a second run leave of the stack."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from model_chat.errors import ConfigurationError
from model_chat.images import _journal, _saved_stack
from model_chat.images._journal import Change, DamagedJournalError, Header, Journal, Verb, read_journal
from model_chat.images.stack import ImageStack, Place, StackWriteError, read_stack
from model_chat.records import append_only_log
from model_chat.records.writing import replace_file
from model_chat.tests import preloaded

DISK_CALLS = ("open", "fdopen", "write", "fsync", "fdatasync", "ftruncate", "replace")
"""Every function of ``os`` through which the stack reaches the disk (``Path.replace`` calls ``os.replace``)."""

EVALS = 2
MODELS = ["a", "b"]
IMAGES = 3
HEADER = Header(IMAGES, MODELS)
TAKEN = Change(Verb.TAKE, Place(0, "a", "w"))
FINISHED = Change(Verb.FINISH, Place(0, "a", "w"))


def run_script(stack: ImageStack, report: Callable[[list[Any]], None]) -> None:
    """Draw, finish and give back, saying before each step what is tried and after it what came of it."""
    for number in range(9):
        worker = f"w{number % 5}"
        report(["try draw", worker])
        draw = stack.get_next_image(worker)
        report(["drew", draw.image_idx, draw.model, worker])
        if draw.image_idx is None or draw.model is None:
            continue
        if number % 3 == 1:
            report(["try give back", draw.image_idx, draw.model, worker])
            stack.remove_worker(worker, draw.image_idx, draw.model)
            report(["gave back", draw.image_idx, draw.model, worker])
        elif number % 3 == 2:
            report(["try finish", draw.image_idx, draw.model, worker])
            stack.finish(worker, draw.image_idx, draw.model)
            report(["finished", draw.image_idx, draw.model, worker])


class Crash:
    """Counts the calls that reach the disk, and does something at the one chosen.

    Args:
        at: the call's number, from 1; 0: count only.
        action: called with the real function and its arguments in place of the call.
    """

    def __init__(self, at: int, action: Callable[..., Any]) -> None:
        self.calls, self.at, self.action = 0, at, action
        self.real = {name: getattr(os, name) for name in DISK_CALLS}

    def __enter__(self) -> Crash:
        for name in DISK_CALLS:
            setattr(os, name, self._counted(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self.real.items():
            setattr(os, name, function)

    def _counted(self, name: str) -> Callable[..., Any]:
        # Processes die here, not the power: the files are as real without waiting for the disk.
        real = self.real[name] if name not in ("fsync", "fdatasync") else lambda *_: None

        def counted(*args: Any, **keywords: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                return self.action(name, real, *args, **keywords)
            return real(*args, **keywords)

        return counted


def die_before(_name: str, _real: Callable[..., Any], *_args: Any, **_keywords: Any) -> None:
    os._exit(0)


def die_in_the_middle(name: str, real: Callable[..., Any], *args: Any, **keywords: Any) -> None:
    if name == "write":
        real(args[0], bytes(args[1])[: len(args[1]) // 2])
    else:
        real(*args, **keywords)
    os._exit(0)


def crash_run(folder: Path, at: int, action: Callable[..., Any]) -> tuple[list[list[Any]], bool]:
    """Run the script in a child that dies at a disk call. Returns what it reported, and whether it got to the end."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            write = os.write  # the real one: reporting is no disk call

            def report(line: list[Any]) -> None:
                write(write_end, json.dumps(line).encode() + b"\n")

            with Crash(at, action):
                stack = ImageStack(IMAGES, MODELS, EVALS, folder, rng=1, compact_after=4)
                run_script(stack, report)
                stack.close()
            report(["end"])
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        lines = [json.loads(line) for line in pipe]
    os.waitpid(child, 0)
    ended = bool(lines) and lines[-1] == ["end"]
    return lines[: len(lines) - ended], ended


def replay_reports(lines: list[list[Any]]) -> tuple[set[Place], set[Place], set[Place]]:
    """Return the places held, those finished, and those whose giving back was tried but not confirmed."""
    held: set[Place] = set()
    finished: set[Place] = set()
    open_question: set[Place] = set()
    for what, *details in lines:
        if what == "drew" and details[0] is not None:
            held.add(Place(*details))
        elif what == "try give back":
            open_question.add(Place(*details))
        elif what == "gave back":
            held.discard(Place(*details))
            open_question.discard(Place(*details))
        elif what == "finished":
            finished.add(Place(*details))
    return held, finished, open_question


def places_of(stack: list[dict[str, list[str]]]) -> set[Place]:
    return {
        Place(image_idx, model, worker)
        for image_idx, entry in enumerate(stack)
        for model, workers in entry.items()
        for worker in workers
    }


@pytest.mark.parametrize("action", [die_before, die_in_the_middle])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_crash_at_any_disk_call_loses_nothing_that_was_confirmed(tmp_path: Path, action: Callable[..., None]) -> None:
    at = 0
    ended = False
    while not ended:
        at += 1
        folder = tmp_path / f"{action.__name__}_{at}"
        lines, ended = crash_run(folder, at, action)
        held, finished, open_question = replay_reports(lines)
        with ImageStack(IMAGES, MODELS, EVALS, folder, rng=2) as stack:
            loaded = places_of(stack.places())
            assert held - open_question <= loaded, f"disk call {at}: a confirmed place is lost"
            surplus = loaded - held
            assert len(surplus) <= 1, f"disk call {at}: more than the one draw that was under way"
            assert surplus <= set(stack.in_flight()), f"disk call {at}: what nobody was told of can be settled"
            assert not finished & set(stack.in_flight()), f"disk call {at}: a finished conversation runs again"
            for entry in stack.places():
                holders = [worker for workers in entry.values() for worker in workers]
                assert len(holders) == len(set(holders))
                assert all(len(workers) <= EVALS for workers in entry.values())
            given_back = {Place(*details) for what, *details in lines if what == "gave back"}
            stack.settle(finished)
            noted = finished | {Place(*details) for what, *details in lines[-1:] if what == "try finish"}
            assert finished <= places_of(stack.places()) <= noted
            for place in given_back:  # still remembered as seen
                while not (draw := stack.get_next_image(place.worker)).no_more_work:
                    assert draw.image_idx != place.image_idx, f"disk call {at}: an image twice"
    assert at > 80, "the script reaches the disk this often; fewer would mean that the counting is broken"


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


@pytest.mark.parametrize("action", [die_before, die_in_the_middle])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_crash_while_a_stack_is_stretched_forgets_nobody(tmp_path: Path, action: Callable[..., None]) -> None:
    source = tmp_path / "source"
    with ImageStack(1, ["stays", "goes"], 1, source, rng=1, compact_after=1000) as stack:
        workers = {draw.model: name for name in ("w", "v") if (draw := stack.get_next_image(name))}
        journal = (source / "stack.journal").read_bytes()
        snapshot = (source / "stack.json").read_bytes()
    at, status = 0, 0
    while status == 0:
        at += 1
        folder = tmp_path / f"{action.__name__}_{at}"
        folder.mkdir()
        (folder / "stack.json").write_bytes(snapshot)  # as after a crash: the draws are in the journal only
        (folder / "stack.journal").write_bytes(journal)
        child = os.fork()
        if child == 0:
            with Crash(at, action):
                ImageStack(1, ["stays", "new"], 1, folder)
            os._exit(7)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with ImageStack(1, ["stays", "new"], 1, folder) as stack:
            assert stack.places() == [{"stays": [workers["stays"]], "new": []}]
            assert stack.get_next_image(workers["goes"]).no_more_work, f"disk call {at}: they have had this image"
    assert status == 7
    assert at > 15


@pytest.fixture
def full_disk_at() -> Iterator[Callable[[int], Crash]]:
    def fail(_name: str, _real: Callable[..., Any], *_args: Any, **_keywords: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fail_in_the_middle(name: str, real: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        if name == "write":
            real(args[0], bytes(args[1])[: len(args[1]) // 2])
        return fail(name, real, *args, **keywords)

    yield lambda at: Crash(at, fail_in_the_middle)


def test_a_disk_error_at_any_call_changes_nothing_and_the_next_try_works(
    tmp_path: Path, full_disk_at: Callable[[int], Crash]
) -> None:
    at, reached = 0, True
    while reached:
        at += 1
        folder = tmp_path / str(at)
        stack = ImageStack(IMAGES, MODELS, EVALS, folder, rng=1, compact_after=4)
        refused = 0
        with full_disk_at(at) as disk:
            for number in range(8):
                worker = f"w{number}"
                before = stack.places()
                try:
                    draw = stack.get_next_image(worker)
                except StackWriteError as error:
                    assert "No space left" in str(error)
                    assert stack.places() == before
                    assert worker not in str(stack.in_flight())
                    refused += 1
                    draw = stack.get_next_image(worker)
                assert draw.image_idx is not None
                assert draw.model is not None
                if number % 2:
                    try:
                        assert stack.remove_worker(worker, draw.image_idx, draw.model)
                    except StackWriteError:
                        assert Place(draw.image_idx, draw.model, worker) in places_of(stack.places())
                        refused += 1
                        assert stack.remove_worker(worker, draw.image_idx, draw.model)
            reached = disk.calls >= at
        assert refused <= 1
        assert read_stack(folder) is not None
        assert places_of(read_stack(folder) or []) == places_of(stack.places())
        stack.close()
        with ImageStack(IMAGES, MODELS, EVALS, folder) as again:
            assert len(places_of(again.places())) == 4
    assert at > 40


def test_a_launch_on_a_full_disk_says_so_and_keeps_no_lock(
    tmp_path: Path, full_disk_at: Callable[[int], Crash]
) -> None:
    ImageStack(IMAGES, MODELS, EVALS, tmp_path).close()
    seen_refusals = 0
    for at in range(1, 40):
        with full_disk_at(at) as disk:
            try:
                ImageStack(IMAGES, MODELS, EVALS, tmp_path).close()
            except ConfigurationError as error:
                assert "stack_folder" in str(error)
                seen_refusals += 1
            if disk.calls < at:
                break
        ImageStack(IMAGES, MODELS, EVALS, tmp_path).close()
    assert seen_refusals >= 4


def test_a_journal_that_is_deleted_under_the_run_is_noticed(tmp_path: Path) -> None:
    stack = ImageStack(IMAGES, MODELS, EVALS, tmp_path)
    (tmp_path / "stack.journal").unlink()
    with pytest.raises(StackWriteError, match="deleted"):
        stack.get_next_image("w")
    stack.close()


# Two runs on one folder


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    first = ImageStack(1, ["a"], 1, tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        ImageStack(1, ["a"], 1, tmp_path)
    told = str(raised.value)
    assert f"stack_folder={tmp_path}: another run (process {os.getpid()} on " in told
    assert told.endswith("wait for its end or name another folder.")
    assert first.get_next_image("w").image_idx == 0
    first.close()
    ImageStack(1, ["a"], 1, tmp_path).close()


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOLCK, "files can't be locked there; name a folder on a local disk."),
        (errno.EACCES, "it can't be made or written"),
    ],
)
def test_a_folder_that_can_not_be_locked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("model_chat.records.locks.fcntl.flock", fail)
    with pytest.raises(ConfigurationError) as raised:
        ImageStack(1, ["a"], 1, tmp_path)
    assert f"stack_folder={tmp_path}: {told}" in str(raised.value)


def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from model_chat.images.stack import ImageStack\n"
        f"stack = ImageStack(1, ['a'], 1, {str(tmp_path)!r})\n"
        "stack.get_next_image('w')\n"
        "print('drawn', flush=True)\n"
        "time.sleep(600)\n"
    )
    with preloaded.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "drawn\n"
        try:
            with pytest.raises(ConfigurationError, match=f"process {process.pid}"):
                ImageStack(1, ["a"], 1, tmp_path)
        finally:
            process.send_signal(signal.SIGKILL)
    with ImageStack(1, ["a"], 1, tmp_path) as stack:
        assert stack.places() == [{"a": ["w"]}]
        assert stack.in_flight() == [Place(0, "a", "w")]


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


def test_the_module_says_which_files_it_keeps(tmp_path: Path) -> None:
    with ImageStack(1, ["a"], 1, tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {
            _saved_stack.STACK_FILE,
            _saved_stack.JOURNAL_FILE,
            _saved_stack.LOCK_FILE,
        }


def test_what_names_workers_is_for_the_owner_alone(tmp_path: Path) -> None:
    with ImageStack(1, ["a"], 1, tmp_path) as stack:
        stack.get_next_image("w")
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}

"""What a crash, a full disk or a second run leave of the stack."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from model_chat.errors import ConfigurationError
from model_chat.images import _saved_stack
from model_chat.images.stack import ImageStack, Place, StackWriteError, read_stack
from model_chat.tests import preloaded
from model_chat.tests.images.scripted_stack import EVALS, IMAGES, MODELS, places_of, run_script

DISK_CALLS = ("open", "fdopen", "write", "fsync", "fdatasync", "ftruncate", "replace")
"""Every function of ``os`` through which the stack reaches the disk (``Path.replace`` calls ``os.replace``)."""


class Crash:
    """Counts the calls that reach the disk, and does something at the one chosen.

    Args:
        at: the call's number, from 1; 0: count only.
        action: called with the real function and its arguments in place of the call.
    """

    def __init__(self, at: int, action: Callable[..., Any], names: Sequence[str] = DISK_CALLS) -> None:
        self.calls, self.at, self.action, self.names = 0, at, action, names
        self.real = {name: getattr(os, name) for name in DISK_CALLS}

    def __enter__(self) -> Crash:
        for name in self.names:
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


def die_in_the_middle(_name: str, write: Callable[..., Any], descriptor: int, data: bytes) -> None:
    write(descriptor, bytes(data)[: len(data) // 2])
    os._exit(0)


CHANGES = ("open", "write", "fdatasync", "ftruncate", "replace")
"""Where processes die. ``fsync`` and ``fdopen`` change no file: a death before them is one before the next call."""


def crash_run(folder: Path, crash: Crash) -> tuple[list[list[Any]], bool]:
    """Run the script in a child that dies at a disk call. Returns what it reported, and whether it got to the end."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            write = os.write  # the real one: reporting is no disk call

            def report(line: list[Any]) -> None:
                write(write_end, json.dumps(line).encode() + b"\n")

            with crash:
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


@pytest.mark.parametrize(("action", "names", "least"), [(die_before, CHANGES, 60), (die_in_the_middle, ("write",), 15)])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_crash_at_any_disk_call_loses_nothing_that_was_confirmed(
    tmp_path: Path, action: Callable[..., None], names: Sequence[str], least: int
) -> None:
    at = 0
    ended = False
    while not ended:
        at += 1
        folder = tmp_path / f"{action.__name__}_{at}"
        lines, ended = crash_run(folder, Crash(at, action, names))
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
    assert at > least, "the script reaches the disk this often; fewer would mean that the counting is broken"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_crash_while_a_stack_is_stretched_forgets_nobody(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with ImageStack(1, ["stays", "goes"], 1, source, rng=1, compact_after=1000) as stack:
        workers = {draw.model: name for name in ("w", "v") if (draw := stack.get_next_image(name))}
        journal = (source / "stack.journal").read_bytes()
        snapshot = (source / "stack.json").read_bytes()
    at, status = 0, 0
    while status == 0:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "stack.json").write_bytes(snapshot)  # as after a crash: the draws are in the journal only
        (folder / "stack.journal").write_bytes(journal)
        child = os.fork()
        if child == 0:
            with Crash(at, die_before, CHANGES):
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

"""Conversation files: whole or not at all, and never in each other's place."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from model_chat.records import writing
from model_chat.records.writing import replace_file, save_conversation, write_new_file

CONVERSATION = {"dialog": [{"agent_idx": 0, "text": "Hello 你好 \ud800"}], "workers": ["w"]}


def everything_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def test_a_conversation_is_saved_under_day_second_and_kind(tmp_path: Path) -> None:
    for live, kind in ((True, "live"), (False, "sandbox")):
        path = save_conversation(tmp_path / "new" / "folder", CONVERSATION, live)
        assert path.parent.parent == tmp_path / "new" / "folder"
        assert re.fullmatch(r"\d{4}_\d\d_\d\d", path.parent.name)
        assert re.fullmatch(rf"\d{{8}}_\d{{6}}_[0-9a-f]{{32}}_{kind}\.json", path.name)
        assert path.name[:8] == path.parent.name.replace("_", "")


@pytest.mark.parametrize(
    "conversation",
    [CONVERSATION, {"text": "Hello 你好"}, {"number": 2**70, "float": 0.1, "none": None, "nested": {"a": [{}]}}],
)
def test_what_is_saved_is_what_was_given(tmp_path: Path, conversation: dict[str, Any]) -> None:
    path = save_conversation(tmp_path, conversation, live=False)
    assert json.loads(path.read_text(encoding="utf-8")) == conversation
    assert path.read_text(encoding="utf-8").count("\n") >= len(conversation)  # for people's eyes, too


@pytest.mark.parametrize("unsaveable", [float("nan"), float("inf"), object()])
def test_what_json_has_no_form_for_is_refused_rather_than_changed(tmp_path: Path, unsaveable: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        save_conversation(tmp_path, {"value": unsaveable}, live=False)
    assert everything_in(tmp_path) == []


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = save_conversation(tmp_path, CONVERSATION, live=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_thousand_files_in_one_second_from_sixteen_threads_are_a_thousand_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # speed; what it is for is tested below
    one_second = time.localtime(1_700_000_000)
    monkeypatch.setattr(writing.time, "localtime", lambda *args: one_second)
    start, saved, lock = threading.Barrier(16), [], threading.Lock()

    def save(thread: int) -> None:
        start.wait(30)
        for number in range(thread, 1000, 16):
            path = save_conversation(tmp_path, {"number": number}, live=True)
            with lock:
                saved.append(path)

    threads = [threading.Thread(target=save, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(saved)) == 1000
    assert sorted(everything_in(tmp_path)) == sorted(saved)
    assert {path.name[:15] for path in saved} == {time.strftime("%Y%m%d_%H%M%S", one_second)}
    assert sorted(json.loads(path.read_text())["number"] for path in saved) == list(range(1000))


@pytest.mark.parametrize("conversation", [{"x": object()}, {"x": float("nan")}, {"x": {1, 2}}, {(1, 2): "x"}])
def test_what_is_no_json_leaves_nothing_behind(tmp_path: Path, conversation: dict[Any, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        save_conversation(tmp_path, conversation, live=False)
    assert everything_in(tmp_path) == []


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = write_new_file(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        write_new_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert everything_in(tmp_path) == [path]


def no_space(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk:
    """A file that takes a few bytes and is then full."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._handle)

    def write(self, data: bytes) -> int:
        os.write(self._handle, data[:3])
        no_space()
        return 0


@pytest.mark.parametrize("function", ["fsync", "link", "fdopen"])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    failing = (lambda handle, mode: FullDisk(handle)) if function == "fdopen" else no_space
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing)
        with pytest.raises(OSError, match="No space left"):
            save_conversation(tmp_path, CONVERSATION, live=False)
    assert everything_in(tmp_path) == []
    path = save_conversation(tmp_path, CONVERSATION, live=False)
    assert everything_in(tmp_path) == [path], "the next one is saved all the same"


def test_a_failure_to_make_the_name_durable_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def fails_on_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            no_space()
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails_on_folders)
        with pytest.raises(OSError, match="No space left"):
            write_new_file(tmp_path / "file", b"data")
    assert everything_in(tmp_path) == [], "a file that was reported as not saved would be counted twice"


def test_the_data_are_on_disk_before_they_have_a_name_and_then_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def watch_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        known = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.stat().st_ino == status.st_ino]
        steps.append(f"sync folder {known[0].name}" if stat.S_ISDIR(status.st_mode) else "sync data")
        fsync(descriptor)

    def watch_link(source: str, target: Path) -> None:
        steps.append("name")
        link(source, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "link", watch_link)
    path = save_conversation(tmp_path / "chats", CONVERSATION, live=False)
    data, name, day = (steps.index(step) for step in ("sync data", "name", f"sync folder {path.parent.name}"))
    assert data < name < day
    assert {"sync folder chats", f"sync folder {tmp_path.name}"} <= set(steps), "new folders are durable, too"
    steps.clear()
    save_conversation(tmp_path / "chats", CONVERSATION, live=False)
    assert steps == ["sync data", "name", f"sync folder {path.parent.name}"], "no more than is needed"


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    path = tmp_path / "state"
    replace_file(path, b"first", durable)
    replace_file(path, b"second", durable)
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", lambda handle, mode: FullDisk(handle))
        with pytest.raises(OSError, match="No space left"):
            replace_file(path, b"third", durable)
    assert path.read_bytes() == b"second"
    assert everything_in(tmp_path) == [path]


@pytest.mark.parametrize("conversation", [CONVERSATION, {"number": 2**70, "nested": [{"a": 1}]}])
def test_what_orjson_cannot_write_has_the_same_layout_as_the_rest(tmp_path: Path, conversation: dict[str, Any]) -> None:
    path = save_conversation(tmp_path, conversation, live=False)
    assert path.read_text(encoding="ascii") == json.dumps(conversation, indent=2)


def test_every_new_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = save_conversation(tmp_path / "new" / "chats", CONVERSATION, live=False)
    finally:
        os.umask(before)
    folders = [tmp_path / "new", tmp_path / "new" / "chats", path.parent]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700, 0o700, 0o700]


def test_a_folder_that_another_saver_makes_at_the_same_moment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def made_by_another_first(folder: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        mkdir(folder, mode)
        mkdir(folder, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", made_by_another_first)
    path = save_conversation(tmp_path / "chats", CONVERSATION, live=False)
    assert json.loads(path.read_text(encoding="utf-8")) == CONVERSATION


@pytest.mark.parametrize(
    ("durable", "expected"), [(True, ["sync data", "name", "sync folder"]), (False, ["name"])], ids=["durable", "not"]
)
def test_a_replaced_file_is_synced_before_it_has_its_name_and_its_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, expected: list[str]
) -> None:
    steps: list[str] = []
    replace = Path.replace

    def watch_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            assert status.st_ino == tmp_path.stat().st_ino
            steps.append("sync folder")
        else:
            assert status.st_size == len(b"whole"), "what is synced is all of it"
            steps.append("sync data")

    def watch_replace(source: Path, target: Path) -> Path:
        steps.append("name")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(Path, "replace", watch_replace)
    replace_file(tmp_path / "state", b"whole", durable)
    assert steps == expected


@pytest.mark.parametrize("fails", [False, True])
def test_syncing_a_folder_leaves_no_file_descriptor_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    opened: list[int] = []
    closed: list[int] = []
    open_, close = os.open, os.close

    def watch_open(*args: Any, **kwargs: Any) -> int:
        opened.append(open_(*args, **kwargs))
        return opened[-1]

    def watch_close(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", watch_open)
        patch.setattr(os, "close", watch_close)
        if fails:
            patch.setattr(os, "fsync", no_space)
            with pytest.raises(OSError, match="No space left"):
                writing.sync_folder(tmp_path)
        else:
            writing.sync_folder(tmp_path)
    assert len(opened) == 1
    assert closed == opened

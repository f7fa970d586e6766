"""Forgetting a worker: afterwards no byte of a study names them, and all that was collected still counts."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.allocation import replay
from model_chat.errors import ConfigurationError
from model_chat.images.stack import ImageStack
from model_chat.launch.recovery import hold_task, use_chat_data
from model_chat.records import forget, locks
from model_chat.records.collected import find_saved
from model_chat.records.forget import forget_worker
from model_chat.records.journal import ALLOCATION_NAME, JOURNAL_NAME, read_journal
from model_chat.records.writing import save_conversation
from model_chat.tests.designs import MIXED, design_of, quota_of
from model_chat.tests.launch.test_recovery import TASK, begin, finished
from model_chat.tests.mephisto_run import Run

WHO = "worker-1"


def chat(run: Run, folder: Path) -> Any:
    """A finished conversation of a new worker, in both records."""
    agent = begin(run, "My name is worker-1, and I like tea.")
    record = {**finished(agent), "bad_workers": []}
    save_conversation(folder, record, live=False)
    agent.state.record_world_data({"custom_data": record})
    agent.state.finish()
    return agent


def mentions(folder: Path, name: str) -> list[str]:
    """Files that hold the name by itself, quoted or in a database."""
    quoted = f'"{name}"'.encode()
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
        and (quoted in path.read_bytes() or (path.suffix == ".db" and name.encode() in path.read_bytes()))
    ]


def test_no_record_names_the_worker_any_more_and_everything_still_counts(run: Run, tmp_path: Path) -> None:
    chats, stacks, database = tmp_path / "chats", tmp_path / "stack", Path(run.db.db_path)
    for _ in range(2):
        agent = chat(run, chats)
    cut_off = begin(run, "Unfinished.")
    run.db.update_agent(cut_off.db_id, status="in task")
    stack = ImageStack(
        num_images=2, models=["a"], evals_per_image_model_combo=2, stack_folder=stacks, rng=1, on_model_change="stop"
    )
    for who in (WHO, "worker-2"):
        image, model, _ = stack.get_next_image(who)
        stack.finish(who, image, model)
    stack.close()
    assert len(mentions(tmp_path, WHO)) >= 4
    dry = forget_worker(WHO, database, [chats], [stacks], dry_run=True)
    assert (dry.files, dry.states, dry.rows) == (1, 1, 1)
    assert dry.stacks >= 1
    assert len(mentions(tmp_path, WHO)) >= 4, "nothing was done yet"
    before = find_saved(chats, database, TASK).complete()
    gone = forget_worker(WHO, database, [chats], [stacks])
    assert (gone.files, gone.states, gone.rows, gone.stacks) == (1, 1, 1, dry.stacks)
    assert mentions(tmp_path, WHO) == []
    assert len(mentions(tmp_path, "worker-2")) >= 3, "nobody else is forgotten"
    assert find_saved(chats, database, TASK).complete() == before == {"a": 2}
    (changed,) = (
        record
        for record in map(json.loads, (path.read_text() for path in chats.glob("*/*.json")))
        if record["workers"] == [gone.pseudonym]
    )
    assert changed["dialog"][2]["text"] == "My name is worker-1, and I like tea.", "texts are for --delete"
    assert agent.get_worker().worker_name == "worker-2"
    again = ImageStack(
        num_images=2, models=["a"], evals_per_image_model_combo=2, stack_folder=stacks, rng=1, on_model_change="stop"
    )
    assert again.get_next_image(gone.pseudonym)[0] != 0, "the stack knows the pseudonym where it knew the worker"
    again.close()
    nothing = forget_worker(WHO, database, [chats], [stacks])
    assert (nothing.files, nothing.states, nothing.rows, nothing.stacks) == (0, 0, 0, 0)


def test_the_draws_of_a_design_name_the_worker_no_more_and_still_add_up(run: Run, tmp_path: Path) -> None:
    folder, design = tmp_path / "chats", design_of(MIXED % ("latin_square", 2))
    folder.mkdir()
    quota = quota_of(design, folder)
    for who in (WHO, "worker-2", WHO):
        place = quota.take(who)
        assert place is not None
        place.complete()
    quota.close()
    before = replay(design, read_journal(folder / ALLOCATION_NAME)).done

    dry = forget_worker(WHO, Path(run.db.db_path), [folder], dry_run=True)
    assert (dry.files, len(mentions(folder, WHO))) == (1, 1)
    gone = forget_worker(WHO, Path(run.db.db_path), [folder])

    assert mentions(folder, WHO) == []
    state = replay(design, read_journal(folder / ALLOCATION_NAME), check_draws=True)
    assert state.done == before
    assert set(state.workers) == {gone.pseudonym, "worker-2"}


def test_deleting_leaves_nothing_that_the_worker_wrote(run: Run, tmp_path: Path) -> None:
    chats = tmp_path / "chats"
    chat(run, chats)
    gone = forget_worker(WHO, Path(run.db.db_path), [chats], delete=True)
    assert (gone.files, gone.states, gone.rows) == (1, 1, 1)
    assert not any(b"I like tea" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert list(chats.glob("*/*.json")) == []


def test_a_worker_who_is_called_like_a_key_or_a_word_spoils_nothing(run: Run, tmp_path: Path) -> None:
    chats = tmp_path / "chats"
    agent = begin(run, "status")
    record = {**finished(agent), "workers": ["status"]}
    path = save_conversation(chats, record, live=False)
    forget_worker("status", Path(run.db.db_path), [chats])
    changed = json.loads(path.read_text())
    assert changed["workers"][0].startswith("forgotten-")
    assert {**changed, "workers": None} == {**record, "workers": None}


def journal_of(agent: Any) -> Path:
    return Path(agent.get_data_dir()) / JOURNAL_NAME


def test_lines_with_half_an_emoji_and_large_numbers_are_changed_like_others(run: Run, tmp_path: Path) -> None:
    agent = begin(run, "Unfinished.")
    head = {"workers": [WHO], "additional_context": "half a face: \ud83d", "number": 2**70}
    agent.state._journal.append([{"record_head": head}], durable=True)
    gone = forget_worker(WHO, Path(run.db.db_path))
    assert gone.states == 1 and gone.unread == ()
    assert mentions(tmp_path, WHO) == []
    assert read_journal(journal_of(agent))[-1] == {"record_head": {**head, "workers": [gone.pseudonym]}}


def test_a_line_that_a_crash_cut_off_goes_when_it_names_the_worker(run: Run) -> None:
    agent = begin(run, "Unfinished.")
    whole = journal_of(agent).read_bytes()
    cut = b'{"record_head": {"workers": ["worker-1"], "dia'
    journal_of(agent).write_bytes(cut + b"\n" + whole + b'{"half": "of another"\n' + cut)
    gone = forget_worker(WHO, Path(run.db.db_path))
    left = journal_of(agent).read_bytes()
    assert gone.unread == () and b"worker-1" not in left
    assert b'{"half": "of another"\n' in left, "it names nobody"
    assert left.endswith(b"\n") and len(left.splitlines()) == len(whole.splitlines()) + 1


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """The folder of an image stack in which the worker has a conversation, closed."""
    folder = tmp_path / "stack"
    made = ImageStack(
        num_images=2, models=["a"], evals_per_image_model_combo=2, stack_folder=folder, rng=1, on_model_change="stop"
    )
    image, model, _ = made.get_next_image(WHO)
    made.finish(WHO, image, model)
    made.close()
    return folder


def stack_line(content: Any) -> bytes:
    text = json.dumps(content).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def test_a_stacks_journal_is_changed_with_its_checksums(run: Run, stack: Path) -> None:
    journal = stack / "stack.journal"
    header = journal.read_bytes()
    taken, other = [["take", 0, "a", WHO]], [["take", 1, "a", "worker-2"]]
    journal.write_bytes(header + stack_line(taken) + stack_line(other) + stack_line(taken)[:-3])
    gone = forget_worker(WHO, Path(run.db.db_path), stack_folders=[stack])
    assert gone.unread == ()
    _, *changes = journal.read_bytes().splitlines(keepends=True)
    assert changes == [
        b"%08x %b\n" % (zlib.crc32(text), text)
        for text in (json.dumps([["take", 0, "a", gone.pseudonym]], separators=(",", ":")).encode(),)
    ] + [stack_line(other)]
    again = ImageStack(
        num_images=2, models=["a"], evals_per_image_model_combo=2, stack_folder=stack, rng=1, on_model_change="stop"
    )
    again.close()


def test_a_damaged_line_in_the_middle_of_a_stacks_journal_is_named_and_stays(run: Run, stack: Path) -> None:
    journal = stack / "stack.journal"
    damaged = b"00000000" + stack_line([["take", 0, "a", WHO]])[8:]
    with journal.open("ab") as file:
        file.write(damaged + stack_line([["take", 1, "a", "worker-2"]]))
    gone = forget_worker(WHO, Path(run.db.db_path), stack_folders=[stack])
    assert gone.unread == (str(journal),)
    assert damaged in journal.read_bytes()


@pytest.mark.parametrize(
    "content",
    ["{ cut off", "[" * 100_000, "9" * 5_000],
)
def test_a_file_that_names_the_worker_and_is_no_json_is_named(run: Run, tmp_path: Path, content: str) -> None:
    chats = tmp_path / "chats" / "2026_11_20"
    chats.mkdir(parents=True)
    (chats / "20261120_100000_x_live.json").write_text(f'{{"workers": ["{WHO}"], "more": {content}')
    (chats / "20261120_110000_x_live.json").write_text(f'{{"workers": ["somebody"], "more": {content}')
    run.worker()
    gone = forget_worker(WHO, Path(run.db.db_path), [chats.parent])
    assert gone.files == 0 and gone.rows == 1
    assert gone.unread == (str(chats / "20261120_100000_x_live.json"),)


@pytest.mark.parametrize("delete", [False, True])
def test_what_a_link_leads_to_is_changed(run: Run, tmp_path: Path, delete: bool) -> None:
    chats, record = tmp_path / "chats", tmp_path / "elsewhere" / "record.json"
    record.parent.mkdir()
    (chats / "2026_11_20").mkdir(parents=True)
    record.write_text(json.dumps({"workers": [WHO]}))
    (chats / "2026_11_20" / "20261120_100000_x_live.json").symlink_to(record)
    (chats / "2026_11_20" / "20261120_110000_x_live.json").symlink_to(tmp_path / "nothing")
    gone = forget_worker(WHO, Path(run.db.db_path), [chats], delete=delete)
    assert gone.files == 1
    assert record.exists() is not delete and mentions(tmp_path, WHO) == []


# --- beside a run ------------------------------------------------------------------------------------------------


def test_no_worker_is_forgotten_while_a_task_of_the_same_data_runs(run: Run, tmp_path: Path) -> None:
    chats, database = tmp_path / "chats", Path(run.db.db_path)
    chat(run, chats)
    before = mentions(tmp_path, WHO)
    with (
        hold_task(database.parent, "another task"),
        pytest.raises(ConfigurationError) as refused,
    ):
        forget_worker(WHO, database, [chats])
    assert str(refused.value) == (
        f"--database-path: a task of the database in '{database.parent}' is running (process {os.getpid()}), which would "
        "write workers' ids back; stop it first."
    )
    assert mentions(tmp_path, WHO) == before
    assert forget_worker(WHO, database, [chats]).files == 1, "afterwards they are"


def test_nor_while_a_run_of_another_database_saves_there_or_uses_the_stack(
    run: Run, tmp_path: Path, stack: Path
) -> None:
    chats, database = tmp_path / "chats", Path(run.db.db_path)
    chat(run, chats)
    before = mentions(tmp_path, WHO)
    open_stack = ImageStack(
        num_images=2, models=["a"], evals_per_image_model_combo=2, stack_folder=stack, rng=1, on_model_change="stop"
    )
    try:
        with use_chat_data(chats), pytest.raises(ConfigurationError) as refused:
            forget_worker(WHO, database, [chats], [stack], dry_run=True)
        assert list(refused.value.faults) == [
            f"--chat-data-folder: a run is writing to '{chats}', which would bring workers' ids back; stop it first.",
            f"--stack-folder: a run is writing to '{stack}', which would bring workers' ids back; stop it first.",
        ]
    finally:
        open_stack.close()
    assert mentions(tmp_path, WHO) == before


def test_no_run_starts_while_a_worker_is_forgotten(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: Path
) -> None:
    chats, database = tmp_path / "chats", Path(run.db.db_path)
    path = save_conversation(chats, finished(begin(run)), live=False)
    refused: list[str] = []

    def start_runs_meanwhile(*given: Any, **more: Any) -> None:
        for starting in (hold_task(database.parent, "study"), use_chat_data(chats)):
            with pytest.raises(ConfigurationError) as error, starting:
                pass
            refused.append(str(error.value))
        with pytest.raises(ConfigurationError) as error:
            ImageStack(
                num_images=2,
                models=["a"],
                evals_per_image_model_combo=2,
                stack_folder=stack,
                rng=1,
                on_model_change="stop",
            )
        refused.append(str(error.value))

    monkeypatch.setattr(forget, "replace_file", start_runs_meanwhile)
    forget_worker(WHO, database, [chats], [stack])
    told = "are being forgotten (manage_workers.py); start again when that is done."
    assert refused[:2] == [
        f"mephisto.datapath: workers in '{database.parent}' {told}",
        f"mephisto.blueprint.chat_data_folder: workers in '{chats}' {told}",
    ]
    assert "another run" in refused[2]
    assert path.exists()
    with hold_task(database.parent, "study"), use_chat_data(chats):
        pass


def test_a_folder_of_conversations_is_made_for_a_run_and_goes_when_nothing_was_saved(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "chats"
    with use_chat_data(folder):
        assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700
        with use_chat_data(folder):
            assert folder.is_dir(), "runs share it"
    assert list(tmp_path.iterdir()) == []
    with use_chat_data(folder):
        (folder / "saved").write_text("")
    assert (folder / "saved").exists()
    folder_before = tmp_path / "before"
    folder_before.mkdir()
    with use_chat_data(folder_before):
        pass
    assert folder_before.is_dir(), "it was the user's"


def test_where_nothing_can_be_locked_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*given: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locks.hold(tmp_path, alone=True), locks.hold(tmp_path / "file", alone=True):
        pass
    assert locks.runs_going_on(tmp_path) == []
    with pytest.raises(FileNotFoundError), locks.hold(tmp_path / "none", alone=True, make=False):
        pass

"""Forgetting a worker: afterwards no byte of a study names them, and all that was collected still counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.images.stack import ImageStack
from model_chat.records.collected import find_kept
from model_chat.records.forget import forget_worker
from model_chat.records.writing import save_conversation
from model_chat.tests.mephisto_run import Run
from model_chat.tests.test_recovery import TASK, begin, finished

WHO = "worker-1"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "mephisto"
    folder.mkdir()
    return Run(folder)


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
    before = find_kept(chats, database, TASK).complete()
    gone = forget_worker(WHO, database, [chats], [stacks])
    assert (gone.files, gone.states, gone.rows, gone.stacks) == (1, 1, 1, dry.stacks)
    assert mentions(tmp_path, WHO) == []
    assert len(mentions(tmp_path, "worker-2")) >= 3, "nobody else is forgotten"
    assert find_kept(chats, database, TASK).complete() == before == {"a": 2}
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

"""Conversations and results in a walk's copy of the repository."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model_chat.records.schema import Completion, Conversation, TaskDescription, Utterance
from model_chat.tests.docs.place import Walk
from model_chat.tests.mephisto_run import Run

BUCKETS = ("contradiction", "off_topic", "repetition", "unlikely_claim", "unkind", "none_all_good")


@contextmanager
def collected(walk: Walk, task_name: str, worker: str = "WORKER") -> Iterator[Run]:
    """A task with a conversation of one worker in both records: Mephisto's, in the home folder, and a file."""
    data = walk.home / ".mephisto/data"
    data.mkdir(parents=True)
    (data.parent / "config.yml").write_text(f"core:\n  main_data_directory: {data}\n", encoding="utf-8")
    run = Run(data, task_name)
    from mephisto.abstractions.providers.mock.mock_agent import MockAgent
    from mephisto.data_model.worker import Worker

    agent = MockAgent.new(run.db, Worker.get(run.db, run.db.new_worker(f"{worker}_sandbox", "mock")), run.unit())
    ticks = {bucket: bucket == "none_all_good" for bucket in BUCKETS}
    record = Conversation(
        dialog=[
            Utterance(agent_idx=0, text="I like to walk in the hills.", id="Speaker 1", timestamp=1_790_000_000.0),
            Utterance(agent_idx=1, text="Me too.", id="Speaker 2", problem_data=ticks, final_rating="4"),
        ],
        workers=[worker],
        hit_ids=["1"],
        assignment_ids=["1"],
        task_description=TaskDescription(model_nickname="m"),
        status=Completion.COMPLETE,
    ).to_dict()
    agent.state.record_world_data({"custom_data": record})
    agent.update_status("completed")
    day = walk.copy / "chat_data/2026_11_20"
    day.mkdir(parents=True)
    (day / "20261120_120000_1_sandbox.json").write_text(json.dumps(record), encoding="utf-8")
    try:
        yield run
    finally:
        run.db.shutdown()


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of one of the analysis' tables."""
    (file,) = folder.glob(f"{name}_*.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def has_results(walk: Walk, folder: str, conversations: int, models: int) -> None:
    """The analysis has counted so many, and written its report."""
    place = walk.copy / folder
    assert len(list(place.glob("report_*.html"))) == 1
    assert len({row["model_nickname"] for row in rows_of(place, "results")}) == models
    assert len({row["hit_id"] for row in rows_of(place, "results")}) == conversations


def records(walk: Walk, folder: str) -> list[dict[str, Any]]:
    """The conversations that were saved below a folder."""
    files = (walk.copy / folder).glob("*/*.json")
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]

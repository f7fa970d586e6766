"""A study with conditions, over the real wire: a 2 x 2 design with a kill in the middle, down to the records."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from model_chat.configuration.study_design import load_study_design
from model_chat.conversation.allocation import replay
from model_chat.records.journal import read_journal
from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.running_task import RunningTask

Start = Callable[..., RunningTask]
DESIGN = """
factors:
  model: [a, b]
  num_turns: {brief_condition: 1, lengthy_condition: 2}
between: [model]
within: [num_turns]
conversations_per_cell: 2
"""


def test_a_two_by_two_study_fills_its_cells_across_a_kill_and_tells_no_page_its_condition(
    start_task: Start, tmp_path: Path
) -> None:
    path = tmp_path / "design.yaml"
    path.write_text(DESIGN)
    flags = [f"mephisto.blueprint.design_path={path}", "mephisto.blueprint.conversations_needed_string=null"]
    task = start_task(*flags, needed="")
    first = asyncio.run(simulate(task.port, 1, [Behaviour()], conversations=2, prefix="first"))
    cut = asyncio.run(simulate(task.port, 2, [Behaviour(leave_after=0)], prefix="cut"))
    public = requests.get(f"{task.url}task_config.json", timeout=10).text
    assert [outcome.result for outcome in first] == ["complete"] * 2, task.log
    assert task.process is not None
    os.kill(task.process.pid, signal.SIGKILL)
    task.process.wait()

    again = start_task(*flags, f"mephisto.architect.port={task.port}", needed="")
    rest = [
        asyncio.run(simulate(task.port, 1, [Behaviour()], conversations=3, prefix=f"rest{number}"))
        for number in range(3)
    ]

    results = [[outcome.result.partition(":")[0] for outcome in outcomes] for outcomes in rest]
    assert results == [["complete", "complete", "no work"]] * 3, again.log
    assert again.wait() == 0, again.log
    design = load_study_design("design_path", str(path))
    for records in (again.conversations(), again.world_data()):
        complete = [chat for chat in records if chat["status"] == "complete"]
        cells = Counter(tuple(chat["conditions"].items()) for chat in complete)
        assert cells == {tuple(cell.conditions.items()): 2 for cell in design.cells}
        for chat in complete:
            own = [line for line in chat["dialog"] if line["agent_idx"] == 0 and not line.get("fake_start")]
            assert len(own) == {"brief_condition": 1, "lengthy_condition": 2}[chat["conditions"]["num_turns"]]
            assert chat["task_description"]["model_nickname"] == chat["conditions"]["model"]
    entries = read_journal(again.chats / "allocation.jsonl")
    assert replay(design, entries, check_draws=True).done == [2] * 4
    assert (again.chats / "allocation.jsonl").stat().st_mode & 0o077 == 0
    told = json.dumps([outcome.packets for outcomes in [first, cut, *rest] for outcome in outcomes]) + public
    assert "brief_condition" not in told
    assert "lengthy_condition" not in told
    assert "conditions" not in told
    with pytest.raises(AssertionError, match="Everything is collected that 'model_chat_local' asks for"):
        start_task(*flags, needed="")


def test_a_changed_design_is_refused_before_anything_is_offered(start_task: Start, tmp_path: Path) -> None:
    path = tmp_path / "design.yaml"
    path.write_text(DESIGN)
    flags = [f"mephisto.blueprint.design_path={path}", "mephisto.blueprint.conversations_needed_string=null"]
    task = start_task(*flags, needed="")
    asyncio.run(simulate(task.port, 1, [Behaviour()]))
    task.__exit__()

    path.write_text(DESIGN.replace("within: [num_turns]", "within: []").replace("[model]", "[model, num_turns]"))

    with pytest.raises(AssertionError, match="has begun with other factors"):
        start_task(*flags, needed="")

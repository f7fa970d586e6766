"""A study with conditions, over the real wire: a 2 x 2 design with a kill in the middle, down to the records."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from model_chat.analysis import compile_results
from model_chat.configuration.study_design import load_study_design
from model_chat.conversation.allocation import replay
from model_chat.records.journal import read_journal
from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.running_image_task import (
    NO_ANNOTATION,
    B,
    image_tasks,
    places_of_chats,
    places_of_stack,
)
from model_chat.tests.e2e.running_task import ROOT, RunningTask
from model_chat.tests.endpoint_server import serving

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
    public = requests.get(f"{task.url}task_config.json", timeout=60).text
    assert [outcome.result for outcome in first] == ["complete"] * 2, task.log
    assert task.process is not None
    os.kill(task.process.pid, signal.SIGKILL)
    task.process.wait()

    again = start_task(*flags, needed="")
    rest = [
        asyncio.run(simulate(again.port, 1, [Behaviour()], conversations=3, prefix=f"rest{number}"))
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


def test_the_example_of_the_page_on_designs_goes_from_file_to_report(
    start_task: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLE_KEY", "sk-example-0123456789")
    page = (ROOT / "docs" / "study-design.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"<!-- example: design -->\n```yaml\n(.*?)```", page, flags=re.DOTALL)
    text = text.replace("conversations_per_cell: 50", "conversations_per_cell: 2")
    path = tmp_path / "design.yaml"
    path.write_text(text, encoding="utf-8")
    design = load_study_design("design_path", str(path))
    models = tmp_path / "models.yaml"
    with serving() as server:
        one = {"base_url": server.url, "api_key_env": "EXAMPLE_KEY", "system_prompt": "You are a chat partner."}
        names = [str(design.value(cell, "model")) for cell in design.cells]
        models.write_text(json.dumps({name: {**one, "endpoint_model": f"served-{name}"} for name in names}))
        task = start_task(
            f"mephisto.blueprint.design_path={path}",
            "mephisto.blueprint.conversations_needed_string=null",
            f"mephisto.blueprint.model_opt_path={models}",
            "mephisto.blueprint.num_turns=2",
            needed="",
        )
        server.requests.clear()  # those before the launch
        outcomes = asyncio.run(simulate(task.port, 4, [Behaviour()], conversations=2))
        assert [outcome.result for outcome in outcomes] == ["complete"] * 8, task.log
        assert task.wait() == 0, task.log

    chats = task.conversations()
    asked = Counter(
        (exchange.body["model"], exchange.body["messages"][0]["content"])
        for exchange in server.requests
        if exchange.body["messages"][0]["role"] == "system"
    )
    replies = 2 * 3  # a cell has two conversations, each a greeting and two exchanges
    assert asked == {
        (f"served-{design.value(cell, 'model')}", f"You are a chat partner.\n\n{design.value(cell, 'prompt')}"): replies
        for cell in design.cells
    }
    told = json.dumps([outcome.packets for outcome in outcomes])
    assert not any(word in told for word in ("matter-of-fact", "warm", "neutral", "mine/"))
    orders: dict[str, list[str]] = {chat["workers"][0]: [] for chat in chats}
    for chat in sorted(chats, key=lambda chat: chat["dialog"][0]["timestamp"]):
        orders[chat["workers"][0]].append(chat["conditions"]["prompt"])
    assert Counter(map(tuple, orders.values())) == {("warm", "neutral"): 2, ("neutral", "warm"): 2}

    out = tmp_path / "results"
    folders = ["--results-folders", str(task.chats), "--output-folder", str(out)]
    flags = ["--problem-buckets", "none", "--min-word-count", "0", "--bootstrap", "200", "--permutations", "99"]
    assert compile_results.main([*folders, *flags]) == 0
    (statistics,) = out.glob("statistics_*.json")
    found = json.loads(statistics.read_text())
    cells = {(row["factor_model"], row["factor_prompt"]): row["conversations"] for row in found["conditions"]}
    assert cells == {(cell.conditions["model"], cell.conditions["prompt"]): 2 for cell in design.cells}
    kinds = {row["factor"]: row["kind"] for row in found["effects"]}
    assert kinds == {"model": "between", "prompt": "within"}
    assert '<h2 id="conditions">' in next(out.glob("report_*.html")).read_text()


IMAGE_DESIGN = """
factors:
  model: {near_condition: a|b, far_condition: b|b}
  num_turns: {brief_condition: 1, lengthy_condition: 2}
between: [model]
within: [num_turns]
conversations_per_cell: 2
"""


@pytest.mark.parametrize("method", ["per_turn", "paired"])
def test_pairs_and_images_fill_the_cells_across_a_kill_and_tell_no_page_their_condition(
    tmp_path: Path, method: str
) -> None:
    path = tmp_path / "design.yaml"
    path.write_text(IMAGE_DESIGN)
    flags = [f"{B}.design_path={path}", f"{B}.comparison={method}", f"{B}.comparison_allow_self=true", NO_ANNOTATION]
    with image_tasks(tmp_path) as start_task:
        task = start_task(*flags, conversations=8, images=4)
        first = asyncio.run(simulate(task.port, 1, [Behaviour()], conversations=2, prefix="first"))
        cut = asyncio.run(simulate(task.port, 2, [Behaviour(leave_after=0)], prefix="cut"))
        public = requests.get(f"{task.url}task_config.json", timeout=10).text
        assert [outcome.result for outcome in first] == ["complete"] * 2, task.log
        assert task.process is not None
        os.kill(task.process.pid, signal.SIGKILL)
        task.process.wait()

        again = start_task(*flags, f"mephisto.architect.port={task.port}", conversations=8)
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
            pair = {"near_condition": "a|b", "far_condition": "b|b"}[chat["conditions"]["model"]]
            assert chat["task_description"]["model_nickname"] == pair
            assert len(chat["comparisons"]) >= 1
        assert places_of_chats(complete) == places_of_stack(tmp_path / "stack")
        for worker in {chat["workers"][0] for chat in complete}:
            images = [chat["image_idx"] for chat in complete if chat["workers"] == [worker]]
            assert len(images) == len(set(images)) == 2
    assert replay(design, read_journal(again.chats / "allocation.jsonl"), check_draws=True).done == [2] * 4
    told = json.dumps([outcome.packets for outcomes in [first, cut, *rest] for outcome in outcomes]) + public
    assert not any(word in told for word in ("_condition", "conditions", "a|b", "b|b", "model_nickname"))

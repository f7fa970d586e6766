"""A study with pages, comparisons and models behind endpoints is killed: nothing that was taken is lost or counted twice."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_chat.records.schema import Conversation
from model_chat.scripts.simulate_workers import Behaviour, Outcome
from model_chat.tests.chaos.figures import FIGURES, KILLS
from model_chat.tests.chaos.stubborn import live
from model_chat.tests.chaos.test_chaos import check, killing
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.endpoint_server import serving

Start = Callable[..., RunningTask]
Taken = tuple[str, str]
"""What the server has said that it took: whose, and what."""
WORKERS = 4
STUDY_KILLS = max(1, KILLS // 2)
FLOW = """
pages:
  - {id: consent, kind: consent, text: We study chat partners.}
  - id: about
    kind: questions
    items:
      - {id: age_band, kind: choice, question: Age, options: [young, old]}
      - {id: years, kind: number, question: Years, min: 0, max: 80}
  - {id: chat, kind: chat, every_reply: [{id: trust, kind: scale, question: Trust, points: 7}]}
  - {id: after, kind: questions, items: [{id: warmth, kind: slider, question: Warmth}]}
"""


@pytest.fixture
def flags(tmp_path: Path) -> Iterator[list[str]]:
    """Pages before and after the chat, and two models behind one endpoint whose replies are compared."""
    (tmp_path / "flow.yaml").write_text(FLOW, encoding="utf-8")
    with serving() as endpoint:
        model = {"base_url": endpoint.url, "endpoint_model": "m"}
        (tmp_path / "models.yaml").write_text(json.dumps({"e": model, "f": model}), encoding="utf-8")
        yield [
            f"mephisto.blueprint.study_flow_path={tmp_path / 'flow.yaml'}",
            f"mephisto.blueprint.model_opt_path={tmp_path / 'models.yaml'}",
            "mephisto.blueprint.comparison=per_turn",
            "mephisto.blueprint.num_turns=2",
        ]


def taken(outcomes: Iterable[Outcome], prefix: str) -> set[Taken]:
    """The answers and judgements that workers were told had been taken."""
    found: set[Taken] = set()
    for number, outcome in enumerate(outcomes):
        for packet in outcome.packets:
            if packet.get("packet_type") != "client_bound_live_update":
                continue
            data = packet["data"].get("task_data") or {}
            if data.get("control") == "page_done":
                found |= {(f"{prefix}{number}", f"{item}={value}") for item, value in data["answers"].items()}
            elif data.get("control") == "comparison_done":
                found.add((f"{prefix}{number}", f"{data['turn_idx']} {data['pick']} {data['continued_with']}"))
    # Of who has only accepted to take part there is nothing that is worth keeping.
    answered = {worker for worker, what in found if what != "consent=accept"}
    return {(worker, what) for worker, what in found if worker in answered}


def saved(chats: Iterable[dict[str, Any]]) -> Counter[Taken]:
    """The same, as it was saved; answers about replies are left out."""
    found: Counter[Taken] = Counter()
    for chat in chats:
        record = Conversation.from_dict(chat)
        (worker,) = record.workers
        found.update(
            (worker, f"{answer.item}={answer.value}") for answer in record.answers or () if answer.utterance_idx is None
        )
        found.update((worker, f"{one.turn_idx} {one.pick} {one.continued_with}") for one in record.comparisons or ())
    return found


@pytest.mark.timeout(600 + 60 * STUDY_KILLS)
def test_a_study_is_killed_at_random_moments(start_task: Start, flags: list[str]) -> None:
    rng = random.Random(13)
    told: dict[str, str] = {}
    outcomes: list[Outcome] = []
    acknowledged: set[Taken] = set()
    needed = WORKERS * (STUDY_KILLS + 1)

    def begin() -> RunningTask:
        return start_task(*flags, needed=f"e|f:{needed}")

    def attend(task: RunningTask, workers: int, prefix: str, behaviour: Behaviour, trouble: Any = None) -> None:
        some, said = asyncio.run(live(task.port, workers, [behaviour], prefix, trouble))
        outcomes.extend(some)
        told.update(said)
        acknowledged.update(taken(some, prefix))

    for number in range(STUDY_KILLS):
        task = begin()
        moment = rng.uniform(0.3, 5.0)
        attend(task, WORKERS, f"k{number}-", Behaviour(think_time=0.2, step_timeout=60), killing(task, moment))
    task = begin()
    left = needed - sum(chat["status"] == "complete" for chat in task.conversations())
    for wave in range(0, left, WORKERS):
        attend(task, min(WORKERS, left - wave), f"last{wave}-", Behaviour())
    assert task.wait() == 0, task.log
    name = f"SIGKILL of a study with pages, comparisons and endpoints, {STUDY_KILLS} times"
    statuses = check(task, told, outcomes, name, kills=STUDY_KILLS)
    assert statuses["complete"] == needed
    kept = saved(task.conversations())
    lost = sorted(acknowledged - set(kept))
    assert lost == [], f"{lost}\n{task.log}"
    assert [one for one, times in kept.items() if times > 1] == []
    FIGURES[-1][1].update({"answers and judgements acknowledged": len(acknowledged), "of these lost or doubled": 0})
    assert len(acknowledged) > needed * 4
    assert sorted(map(json.dumps, task.world_data())) == sorted(map(json.dumps, task.conversations()))

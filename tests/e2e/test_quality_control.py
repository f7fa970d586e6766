"""Quality control over the real wire: who is kept out, and what they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.scripts.simulate_workers import Behaviour, Outcome, SimulatedWorker, simulate
from model_chat.tests.e2e.running_task import ROOT, RunningTask
from model_chat.tests.e2e.test_wire import DUMMY_ANNOTATION, DUMMY_ONBOARDING

Start = Callable[..., RunningTask]
ONE_TURN = "mephisto.blueprint.num_turns=1"
BLOCK = "mephisto.blueprint.block_qualification=test_block"
RIGHT = json.loads((ROOT / "task_config/dummy/onboard_task_data.json").read_text(encoding="utf-8"))


def come(task: RunningTask, prefix: str, conversations: int = 1, **behaviour: Any) -> list[Outcome]:
    """Let one worker, ``<prefix>0``, take part."""
    return asyncio.run(simulate(task.port, 1, [Behaviour(**behaviour)], conversations=conversations, prefix=prefix))


def refusal_of(outcome: Outcome) -> str:
    """The code with which a worker was turned away; the sentence must be the one that belongs to it."""
    data = next(data for packet in outcome.packets if (data := packet.get("data") or {}).get("failure_reason"))
    assert outcome.result == f"no work: {data['failure_reason']}"
    assert data["agent_id"] is None
    assert data["failure_reason"] == TEXTS[Refusal(data["refusal"])]
    return str(data["refusal"])


def test_what_a_worker_writes_is_judged_saved_and_keeps_them_out(start_task: Start) -> None:
    task = start_task(ONE_TURN, BLOCK, "mephisto.blueprint.check_acceptability=true", needed="a:3")
    rude, again = come(task, "rude", 2, lines=["SHUT UP YOU BASTARD NOW"])
    assert rude.result == "complete", task.log  # the work counts and is paid
    assert refusal_of(again) == "acceptability"
    (polite,) = come(task, "polite")
    assert polite.result == "complete"
    verdicts = {chat["workers"][0].removesuffix("0"): chat["acceptability_violations"] for chat in task.conversations()}
    assert verdicts == {"rude": ["too_much_all_caps,unsafe:1"], "polite": [""]}
    assert [chat["acceptability_violations"] for chat in task.world_data()].count([""]) == 1


def test_without_the_check_nobody_is_judged(start_task: Start) -> None:
    task = start_task(ONE_TURN, BLOCK, needed="a:2")
    results = [outcome.result for outcome in come(task, "rude", 2, lines=["SHUT UP YOU BASTARD NOW"])]
    assert results == ["complete", "complete"]
    assert [chat["acceptability_violations"] for chat in task.conversations()] == [[None], [None]]


def test_listed_workers_are_blocked_at_launch_and_unknown_ones_reported(start_task: Start, tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("# from the pilot\n\nlisted0  # writes nonsense\n", encoding="utf-8")
    second.write_text("listed0\nnobody\n", encoding="utf-8")
    lists = f'mturk.worker_blocklist_paths="{first},{second}"'
    task = start_task(ONE_TURN, BLOCK, lists, "mephisto.log_level=info", needed="a:1")
    (listed,) = come(task, "listed")
    assert listed.worker == "listed0"
    assert refusal_of(listed) == "blocked"
    assert "2 of 2 workers have never taken part here: listed0, nobody." in task.log.replace("\n", " ")
    (other,) = come(task, "other")
    assert other.result == "complete"


def test_only_invited_workers_get_in(start_task: Start) -> None:
    task = start_task(ONE_TURN, "mephisto.blueprint.allowed_worker_qualification=invited", needed="a:1")
    (stranger,) = come(task, "stranger")
    assert refusal_of(stranger) == "not_invited"


def test_each_end_of_the_work_has_its_own_words(start_task: Start) -> None:
    task = start_task(ONE_TURN, "mephisto.task.maximum_units_per_worker=1", needed="a:2")
    done, again = come(task, "keen", 2)
    assert done.result == "complete"
    assert refusal_of(again) == "maximum"
    waits = come(task, "slow", stay_silent=True)[0]
    assert waits.result == "left"  # the conversation stays open until its time is up
    assert refusal_of(come(task, "late")[0]) == "all_taken"

    async def in_another_tab() -> Outcome:
        async with httpx.AsyncClient(timeout=120) as http:
            return await SimulatedWorker(task.port, "slow0", "another", Behaviour(), 1, http).run()

    assert refusal_of(asyncio.run(in_another_tab())) == "concurrent"


def test_who_may_hold_one_chat_at_a_time_may_hold_one_after_the_other(start_task: Start) -> None:
    task = start_task(
        ONE_TURN, "mephisto.task.allowed_concurrent=1", "mephisto.task.maximum_units_per_worker=3", needed="a:5"
    )
    *first, fourth = come(task, "keen", 4)
    assert [outcome.result for outcome in first] == ["complete"] * 3
    assert refusal_of(fourth) == "maximum"


def test_failed_onboarding_is_told_as_such_in_every_later_try(start_task: Start) -> None:
    task = start_task(
        ONE_TURN,
        DUMMY_ANNOTATION,
        DUMMY_ONBOARDING,
        "mephisto.blueprint.onboarding_qualification=test_onboarding",
        needed="a:1",
    )
    (failed,) = come(task, "hasty")
    assert failed.result == "onboarding failed"
    # The same assignment again is a reconnection for Mephisto, another assignment a new worker.
    again, other = come(task, "hasty", 2, onboarding_answers=RIGHT)
    assert refusal_of(again) == refusal_of(other) == "onboarding"


def test_failed_attention_checks_are_saved_and_keep_a_worker_out(start_task: Start, tmp_path: Path) -> None:
    checks = tmp_path / "checks.json"
    text = "Attention check: please write the word orange."
    checks.write_text(json.dumps({"checks": [{"turn": 1, "text": text, "expect": ["orange"]}]}), encoding="utf-8")
    task = start_task(
        "mephisto.blueprint.num_turns=2",
        BLOCK,
        DUMMY_ANNOTATION,
        f"mephisto.blueprint.attention_checks_path={checks}",
        needed="a:2",
    )
    awake = come(task, "awake", lines=["I like long walks.", "An ORANGE, of course!", "What about you, my friend?"])[0]
    assert awake.result == "complete", task.log
    asleep, again = come(task, "asleep", 2)
    assert asleep.result == "complete", task.log
    assert refusal_of(again) == "attention"
    by_worker = {chat["workers"][0].removesuffix("0"): chat for chat in task.conversations()}
    (passed,), (failed,) = (by_worker[name]["attention_checks"] for name in ("awake", "asleep"))
    assert (passed["turn"], passed["text"], passed["answer"], passed["passed"]) == (
        1,
        text,
        "An ORANGE, of course!",
        True,
    )
    assert failed["passed"] is False
    said = [line["text"] for line in by_worker["awake"]["dialog"] if not line.get("fake_start")]
    assert said[1::2] == ["I like long walks.", "What about you, my friend?"]
    assert text not in said  # neither check nor answer is part of the dialogue

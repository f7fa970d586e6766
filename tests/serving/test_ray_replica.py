"""One copy of a model, in this process: loading, one batch at a time, and when it is given up; without Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_chat.serving.catalogue import ModelSource
from model_chat.serving.histories import Conversation
from model_chat.serving.ray_replica import ModelReplica, ReplicaPlan, faults_in
from model_chat.tests.parlai_agents import GATES, Gate
from model_chat.tests.serving.test_pool import heard, in_thread, wait_until

AGENTS = "model_chat.tests.parlai_agents"


def plan(folder: Path, agent: str, time_limit: float = 60, **opt: Any) -> ReplicaPlan:
    folder.mkdir(exist_ok=True)
    (folder / "model.opt").write_text(json.dumps({"model": f"{AGENTS}:{agent}", **opt}), encoding="utf-8")
    return ReplicaPlan(ModelSource("m", folder=folder), False, "the flag", time_limit, at_once=3)


def run(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


@pytest.fixture
def gate() -> Iterator[Gate]:
    GATES["gate"] = gate = Gate()
    yield gate
    gate.open.set()
    del GATES["gate"]


def test_a_copy_says_what_the_run_needs_to_know_and_no_secret(tmp_path: Path) -> None:
    description = run(ModelReplica(plan(tmp_path, "WitnessAgent", api_key="s3cret", dict_lower=False)).describe())
    assert description.takes_batches
    assert description.opt["dict_lower"] is False
    assert "s3cret" not in repr(description)
    assert not run(ModelReplica(plan(tmp_path, "CountingAgent")).describe()).takes_batches


def test_a_model_that_can_not_be_loaded_carries_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        ModelReplica(plan(tmp_path, "BrokenAgent"))
    (fault,) = faults_in(str(caught.value))
    assert fault.startswith("the flag: the model 'm' can't be loaded from ")
    assert fault.endswith("ValueError: the weights are of the wrong shape.")


@pytest.mark.parametrize(("batched", "most_at_once"), [(True, 1), (False, 2)])
def test_one_set_of_weights_works_on_one_batch_at_a_time(
    tmp_path: Path, gate: Gate, batched: bool, most_at_once: int
) -> None:
    agent = "GatedWitnessAgent" if batched else "GatedAgent"
    replica = ModelReplica(plan(tmp_path, agent, gate="gate", script=["a"]))
    asked = [
        in_thread(lambda: run(replica.answer([Conversation().turn([heard("hi")])]))),
        in_thread(lambda: run(replica.answer([Conversation().turn([heard("hi")])]))),
    ]
    for _ in range(most_at_once):
        assert gate.entered.acquire(timeout=60)
    assert not gate.entered.acquire(timeout=0.1)
    gate.open.set()
    assert [len(future.result(60)) for future in asked] == [1, 1]
    assert gate.most_at_once == most_at_once


def test_a_copy_that_hangs_is_given_up_and_one_that_only_waits_is_not(tmp_path: Path, gate: Gate) -> None:
    replica = ModelReplica(plan(tmp_path, "GatedAgent", time_limit=0.2, gate="gate"))
    run(replica.check_health())
    hanging = in_thread(lambda: run(replica.answer([Conversation().turn([heard("hi")])])))
    assert gate.entered.acquire(timeout=60)

    def is_given_up() -> bool:
        try:
            run(replica.check_health())
        except RuntimeError as error:
            return "m hangs" in str(error)
        return False

    wait_until(is_given_up)
    gate.open.set()
    hanging.result(60)
    run(replica.check_health())

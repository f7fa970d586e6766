"""Models that share weights are answered together, none is served before another, and one that hangs stops no other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from parlai.core.message import Message

from model_chat.serving.batching import Asked
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelFailureError, ModelPool
from model_chat.tests.parlai_agents import GATES, Gate
from model_chat.tests.serving.test_batching import BatchedAgent
from model_chat.tests.serving.test_pool import heard, in_thread, wait_until

NAMES = ("a", "b", "c", "d")
SHARED = object()
PATIENCE = 1.0


class Character(BatchedAgent):
    """One of several agents over the same weights; says its name, and hangs over "hang" until its gate is open."""

    shared_weights = SHARED

    def observe(self, observation: Any) -> Any:
        seen = super().observe(observation)
        seen.force_set("name", self.opt["name"])
        return seen

    def batch_act(self, observations: Any) -> list[Any]:
        names = [f"{seen['name']}:{seen['text']}" for seen in observations]
        RUNS.append(names)
        if (gate := GATES.get("gate")) and any("hang" in name for name in names):
            gate.pass_through()
        if (block := GATES.get("block")) and any("block" in name for name in names):
            block.pass_through()
        if any(name.endswith("!break") for name in names):
            raise MemoryError("no more memory")
        return [Message({"id": "c", "text": name, "episode_done": False}) for name in names]


class StrangerAgent(Character):
    """Has weights of its own."""

    shared_weights = object()


RUNS: list[list[str]] = []


@pytest.fixture(autouse=True)
def gate() -> Iterator[Gate]:
    RUNS.clear()
    GATES["gate"] = gate = Gate()
    yield gate
    gate.open.set()
    del GATES["gate"]


def models(*names: str, kind: type[Character] = Character) -> list[LoadedModel]:
    return [LoadedModel(name, kind({"script": [], "name": name}), None) for name in names]


def ask(pool: ModelPool, name: str, text: str) -> Future[Any]:
    """Ask in a thread of the conversation's own; return once the request waits or runs."""
    return in_thread(lambda: pool.reply(name, pool.model(name).clone(), [heard(text)])["text"])


def ask_in_order(pool: ModelPool, *asked: tuple[str, str]) -> list[Future[Any]]:
    """Ask one after another; each waits, or has been answered, before the next is asked."""
    futures: list[Future[Any]] = []
    for name, text in asked:
        before = pool._scheduler.waiting()
        future = ask(pool, name, text)
        futures.append(future)
        wait_until(lambda before=before, future=future: pool._scheduler.waiting() > before or future.done())
    return futures


def test_what_waits_for_the_same_weights_is_one_batch_oldest_first(gate: Gate) -> None:
    pool = ModelPool(models(*NAMES), 4, 60, max_batch_size=3)
    first = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    waiting = ask_in_order(pool, ("b", "1"), ("a", "2"), ("c", "3"), ("d", "4"), ("a", "5"))
    gate.open.set()
    assert [future.result(30) for future in [first, *waiting]] == ["a:hang", "b:1", "a:2", "c:3", "d:4", "a:5"]
    assert RUNS == [["a:hang"], ["b:1", "a:2", "c:3"], ["d:4", "a:5"]]
    pool.shutdown()


def test_what_is_asked_together_is_one_batch_though_the_weights_are_idle() -> None:
    pool = ModelPool(models("a", "b"), 4, 60)
    for number in range(5):
        pair = pool.ask([(name, Asked(pool.model(name).clone(), [heard(str(number))])) for name in ("a", "b")])
        assert [pool.wait_for(pending)["text"] for pending in pair] == [f"a:{number}", f"b:{number}"]
    assert [[f"a:{number}", f"b:{number}"] for number in range(5)] == RUNS
    pool.shutdown()


def test_what_is_asked_together_is_not_divided_between_two_batches(gate: Gate) -> None:
    pool = ModelPool(models(*NAMES), 4, 60, max_batch_size=3)
    first = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    early = ask_in_order(pool, ("a", "1"), ("b", "2"))
    pair = pool.ask([(name, Asked(pool.model(name).clone(), [heard("3")])) for name in ("c", "d")])
    late = ask_in_order(pool, ("a", "4"))
    gate.open.set()
    for future in [first, *early, *late]:
        future.result(30)
    for pending in pair:
        pool.wait_for(pending)
    assert RUNS == [["a:hang"], ["a:1", "b:2"], ["c:3", "d:3", "a:4"]]
    pool.shutdown()


def test_more_than_fits_one_batch_may_be_asked_together() -> None:
    pool = ModelPool(models(*NAMES), 4, 60, max_batch_size=3)
    asked = pool.ask([(name, Asked(pool.model(name).clone(), [heard("1")])) for name in NAMES])
    assert [pool.wait_for(pending)["text"] for pending in asked] == ["a:1", "b:1", "c:1", "d:1"]
    assert RUNS == [["a:1", "b:1", "c:1"], ["d:1"]]
    pool.shutdown()


def test_each_model_counts_its_own_replies_and_its_share_of_the_time(gate: Gate) -> None:
    pool = ModelPool(models("a", "b", "c"), 1, 60)
    first = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    waiting = ask_in_order(pool, ("a", "1"), ("a", "2"), ("b", "3"))
    gate.open.set()
    for future in [first, *waiting]:
        future.result(30)
    wait_until(lambda: pool.counts()["b"].replies == 1)
    counts = pool.counts()
    assert {name: (count.replies, count.batches) for name, count in counts.items()} == {
        "a": (3, 2),
        "b": (1, 1),
        "c": (0, 0),
    }
    assert counts["c"].seconds == 0
    assert 0 < counts["b"].seconds < counts["a"].seconds
    pool.shutdown()


def test_a_model_that_is_asked_a_lot_does_not_keep_another_waiting(gate: Gate) -> None:
    pool = ModelPool(models("a", "b"), 1, 60, max_batch_size=2)
    first = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    early = ask_in_order(pool, ("a", "1"), ("a", "2"), ("b", "3"))
    late = ask_in_order(pool, *(("a", str(number)) for number in range(4, 12)))
    gate.open.set()
    for future in [first, *early, *late]:
        future.result(30)
    assert "b:3" in RUNS[2], "it came third"
    pool.shutdown()


def test_a_row_that_breaks_its_batch_fails_alone(gate: Gate) -> None:
    pool = ModelPool(models(*NAMES), 1, 60)
    first = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    good, bad, other = ask_in_order(pool, ("a", "good"), ("b", "!break"), ("c", "other"))
    gate.open.set()
    assert (first.result(30), good.result(30), other.result(30)) == ("a:hang", "a:good", "c:other")
    with pytest.raises(ModelFailureError, match=r"^b raised MemoryError"):
        bad.result(30)
    pool.shutdown()


def test_models_with_weights_of_their_own_wait_for_nobody(gate: Gate) -> None:
    pool = ModelPool([*models("a"), *models("z", kind=StrangerAgent)], 2, 60)
    hangs = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    assert ask(pool, "z", "hi").result(30) == "z:hi"
    gate.open.set()
    assert hangs.result(30) == "a:hang"
    pool.shutdown()


def test_without_batches_models_that_share_weights_are_asked_one_by_one(gate: Gate) -> None:
    pool = ModelPool(models("a", "b"), 2, 60, max_batch_size=1)
    hangs = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    assert ask(pool, "b", "hi").result(30) == "b:hi"
    assert ask(pool, "a", "hi").result(30) == "a:hi"
    gate.open.set()
    assert hangs.result(30) == "a:hang"
    assert all(len(run) == 1 for run in RUNS)
    pool.shutdown()


def test_who_waits_behind_a_run_that_hangs_with_the_same_weights_is_served_in_time(gate: Gate) -> None:
    pool = ModelPool(models("a", "b"), 2, 2 * PATIENCE)
    hangs = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    assert ask(pool, "b", "hi").result(30) == "b:hi", "before its own time is up"
    with pytest.raises(ModelFailureError, match="a gave no reply"):
        hangs.result(30)
    assert not gate.open.is_set(), "a still hangs"
    pool.shutdown()


def test_a_model_that_hangs_keeps_its_own_requests_and_the_others_go_on(gate: Gate) -> None:
    pool = ModelPool(models(*NAMES), 1, PATIENCE)
    hangs = ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    with pytest.raises(ModelFailureError):
        hangs.result(30)
    assert ask(pool, "b", "hi").result(30) == "b:hi"
    with pytest.raises(ModelFailureError):
        ask(pool, "a", "and I?").result(30)
    assert ["a:and I?"] not in RUNS, "it hangs already; a second run would take a further thread"
    assert ask(pool, "c", "hi").result(30) == "c:hi"
    gate.open.set()
    wait_until(lambda: pool.counts()["a"].replies == 1)
    assert ask(pool, "a", "again").result(30) == "a:again"
    pool.shutdown()


def test_after_a_batch_of_several_models_hangs_each_has_batches_of_its_own(gate: Gate) -> None:
    """Nobody knows which of them it hangs over, so that a second time shows it."""
    GATES["block"] = block = Gate()
    pool = ModelPool(models(*NAMES), 2, 2 * PATIENCE)
    first = ask(pool, "c", "block")
    assert block.entered.acquire(timeout=30)
    both = ask_in_order(pool, ("a", "hang"), ("b", "hi"))
    block.open.set()
    del GATES["block"]
    assert first.result(30) == "c:block"
    for future in both:
        with pytest.raises(ModelFailureError):
            future.result(30)
    assert RUNS[1] == ["a:hang", "b:hi"]
    GATES["block"] = block = Gate()
    blocks = ask(pool, "c", "block")
    assert block.entered.acquire(timeout=30)
    answered = ask_in_order(pool, ("b", "on"), ("d", "on"), ("a", "on"))
    block.open.set()
    del GATES["block"]
    assert [future.result(30) for future in [blocks, *answered]] == ["c:block", "b:on", "d:on", "a:on"]
    assert RUNS[2] == ["c:block"]
    assert sorted(RUNS[3:]) == [["a:on"], ["b:on"], ["d:on"]], "on a busy machine two of them may overlap"
    again = ask(pool, "a", "hang")
    with pytest.raises(ModelFailureError):
        again.result(30)
    with pytest.raises(ModelFailureError):
        ask(pool, "a", "and I?").result(30)
    assert ask(pool, "b", "still here").result(30) == "b:still here"
    gate.open.set()
    wait_until(lambda: not pool._scheduler._runs)
    pool.shutdown()


def test_the_end_of_a_run_drops_what_waits_for_all_models_of_the_weights(gate: Gate) -> None:
    pool = ModelPool(models(*NAMES), 1, 60)
    ask(pool, "a", "hang")
    assert gate.entered.acquire(timeout=30)
    waiting = ask_in_order(pool, ("a", "1"), ("b", "2"), ("c", "3"))
    pool.interrupt()
    assert [type(future.exception(30)).__name__ for future in waiting] == ["StoppedError"] * 3
    pool.shutdown()

"""Asking models for replies: limits, failures, and the end of a run, with real ParlAI agents."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, ClassVar

import pytest
from parlai.core.message import Message
from parlai.core.opt import Opt

from model_chat.serving.loading import LoadedModel
from model_chat.serving.model import StoppedError
from model_chat.serving.pool import ModelFailureError, ModelPool
from model_chat.tests.parlai_agents import GATES, NO_TEXT, RAISE, Gate, GatedAgent, ScriptedAgent


def scripted(*script: str) -> LoadedModel:
    return LoadedModel("m", ScriptedAgent(Opt(script=list(script))), None)


def heard(text: str) -> Message:
    return Message({"id": "Speaker 1", "text": text, "episode_done": False})


@pytest.fixture
def gate() -> Iterator[Gate]:
    GATES["gate"] = gate = Gate()
    yield gate
    gate.open.set()  # no thread is left waiting
    del GATES["gate"]


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Run a conversation's part in a thread of its own."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


def test_a_clone_observes_in_order_and_answers() -> None:
    model = scripted()
    pool = ModelPool([model], 1, 30)
    clone = model.clone()
    act = pool.reply("m", clone, [heard("one"), heard("two")])
    assert act["text"] == "you said two"
    assert clone.seen == ["one", "two"]
    assert model.agent.seen == [], "the model that holds the weights has no history"
    pool.shutdown()


def test_clones_share_weights_and_no_history() -> None:
    model = scripted()
    first, second = model.clone(), model.clone()
    first.observe(heard("secret"))
    assert second.seen == []
    assert first.weights is second.weights is model.agent.weights


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (RAISE, "m raised RuntimeError('the weights are gone')."),
        (NO_TEXT, "m returned no text."),
        ("", "m returned no text."),
        (" \n\t", "m returned no text."),
        ("\u200b", "m returned no text."),
        ("\u00a0", "m returned no text."),
    ],
)
def test_a_model_that_gives_no_text_fails(line: str, message: str) -> None:
    model = scripted(line, "all right again")
    pool = ModelPool([model], 1, 30)
    clone = model.clone()
    with pytest.raises(ModelFailureError) as failure:
        pool.reply("m", clone, [heard("hi")])
    assert str(failure.value) == message
    assert pool.reply("m", clone, [])["text"] == "all right again", "the pool continues"
    pool.shutdown()


@pytest.mark.parametrize("act", [None, "text", 7, {}, {"text": None}, {"text": 7}, {"text": ["a"]}, {"text": b"a"}])
def test_what_is_no_act_fails(act: Any) -> None:
    model = scripted()
    pool = ModelPool([model], 1, 30)
    clone = model.clone()
    clone.act = lambda: act
    with pytest.raises(ModelFailureError, match="returned no text"):
        pool.reply("m", clone, [])
    pool.shutdown()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError()])
def test_a_model_that_tries_to_end_the_process_fails_alone(error: BaseException) -> None:
    model = scripted()
    pool = ModelPool([model], 1, 30)
    clone = model.clone()

    def act() -> Any:
        raise error

    clone.act = act
    with pytest.raises(ModelFailureError, match=type(error).__name__):
        pool.reply("m", clone, [])
    assert pool.reply("m", model.clone(), [heard("hi")])["text"] == "you said hi"
    pool.shutdown()


def test_a_model_that_hangs_fails_after_its_time(gate: Gate) -> None:
    model = LoadedModel("slow/one", GatedAgent(Opt(gate="gate")), None)
    pool = ModelPool([model], 1, 0.05)
    with pytest.raises(ModelFailureError) as failure:
        pool.reply("slow/one", model.clone(), [heard("hi")])
    assert str(failure.value) == "slow/one gave no reply within 0.05 s (mephisto.blueprint.max_model_response_time)."
    pool.shutdown()


def test_a_reply_that_was_given_up_while_it_waited_is_never_generated(gate: Gate) -> None:
    model = LoadedModel("m", GatedAgent(Opt(gate="gate")), None)
    pool = ModelPool([model], 1, 30)
    blocking, waiting = model.clone(), model.clone()
    first = in_thread(lambda: pool.reply("m", blocking, [heard("first")]))
    assert gate.entered.acquire(timeout=30)
    pool._response_timeout = 0.2  # for the second one only
    with pytest.raises(ModelFailureError):
        pool.reply("m", waiting, [heard("second")])
    pool._response_timeout = 30
    gate.open.set()
    first.exception(30)
    third = model.clone()
    assert pool.reply("m", third, [heard("third")])["text"] == "you said third"
    assert waiting.seen == []
    pool.shutdown()


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_models_generate_at_once_than_allowed_and_no_fewer(gate: Gate, limit: int) -> None:
    model = LoadedModel("m", GatedAgent(Opt(gate="gate")), None)
    other = LoadedModel("other", GatedAgent(Opt(gate="gate")), None)
    pool = ModelPool([model, other], limit, 60)
    asked = [
        in_thread(lambda source=source: pool.reply(source.nickname, source.clone(), [heard("hi")]))
        for source in (model, other, model, other, model, other)
    ]
    for _ in range(limit):
        assert gate.entered.acquire(timeout=30)
    wait_until(lambda: pool._scheduler.waiting() == 6 - limit)  # the rest have asked, and wait
    assert not gate.entered.acquire(blocking=False)
    gate.open.set()
    assert [future.result(30)["text"] for future in asked] == ["you said hi"] * 6
    assert gate.most_at_once == limit
    pool.shutdown()


@pytest.mark.parametrize("end", ["interrupt", "shutdown"])
def test_the_end_of_the_run_releases_conversations_that_wait_and_is_no_failure(gate: Gate, end: str) -> None:
    model = LoadedModel("m", GatedAgent(Opt(gate="gate")), None)
    pool = ModelPool([model], 1, 600)
    running = in_thread(lambda: pool.reply("m", model.clone(), [heard("hi")]))
    assert gate.entered.acquire(timeout=30)
    queued = [in_thread(lambda: pool.reply("m", model.clone(), [heard("hi")])) for _ in range(3)]
    wait_until(lambda: pool._scheduler.waiting() == 3)
    getattr(pool, end)()
    for future in (running, *queued):
        with pytest.raises(StoppedError, match="The run ended while m was asked for a reply"):
            future.result(30)
    with pytest.raises(StoppedError, match="The run ended"):
        pool.reply("m", model.clone(), [heard("late")])
    pool.shutdown()


def test_models_that_hang_do_not_keep_the_process() -> None:
    before = set(threading.enumerate())
    pool = ModelPool([scripted()], 3, 30)
    generators = set(threading.enumerate()) - before
    assert len(generators) == 3
    assert all(thread.daemon for thread in generators)
    pool.shutdown()


def test_an_unknown_nickname_is_an_error_of_the_caller() -> None:
    pool = ModelPool([scripted()], 1, 30)
    with pytest.raises(KeyError):
        pool.model("nobody")
    pool.shutdown()


class CostlyError(ModelFailureError):
    generation: ClassVar = {"cost_usd": 0.5}


class CostlyAgent(ScriptedAgent):
    """Fails after it has cost something, as a model elsewhere does."""

    def act(self) -> Any:
        raise CostlyError("no answer")


def test_what_a_failed_reply_has_cost_is_spent() -> None:
    model = LoadedModel("m", CostlyAgent(Opt(script=[])), None)
    pool = ModelPool([model], 1, 30)
    for total in (0.5, 1.0):
        with pytest.raises(CostlyError, match="no answer"):
            pool.reply("m", model.clone(), [heard("one")])
        assert pool.spent_usd() == {"m": total}
    pool.shutdown()

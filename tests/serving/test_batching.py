"""Conversations that are answered together get what each would get alone, with real ParlAI agents."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from parlai.core.agents import create_agent
from parlai.core.dict import DictionaryAgent
from parlai.core.message import Message
from parlai.core.params import ParlaiParser

from model_chat.serving.batching import takes_batches
from model_chat.serving.loading import LoadedModel, chat_overrides
from model_chat.serving.pool import ModelFailureError, ModelPool
from model_chat.tests.parlai_agents import GATES, Gate, GatedAgent, ScriptedAgent
from model_chat.tests.serving.test_pool import heard, in_thread, wait_until

CONVERSATIONS = 32
WORDS = [f"word{number}" for number in range(CONVERSATIONS)]


class BatchedAgent(ScriptedAgent):
    """Answers a batch; each clone's history is in what it observes. Records the sizes of its batches."""

    batched_serving = True

    def __init__(self, opt: Any, shared: Any = None) -> None:
        super().__init__(opt, shared)
        self.sizes: list[int] = shared["sizes"] if shared else []

    def share(self) -> Any:
        return {**super().share(), "sizes": self.sizes}

    def observe(self, observation: Any) -> Any:
        if observation["text"] == "!observe":
            raise RuntimeError("can't hear that")
        self.seen.append(observation["text"])
        self.observation = Message({**observation, "history": list(self.seen)})
        return self.observation

    def batch_act(self, observations: Sequence[Any]) -> list[Any]:
        if gate := GATES.get(self.opt.get("gate")):
            gate.pass_through()
        self.sizes.append(len(observations))
        if any(observation["text"] == "!break" for observation in observations):
            raise MemoryError("no more memory")
        return [Message({"id": "b", "text": " ".join(seen["history"]), "episode_done": False}) for seen in observations]

    def act(self) -> Any:
        reply = self.batch_act([self.observation])[0]
        self.self_observe(reply)
        return reply


class ComposedAgent(BatchedAgent):
    """Generates while it observes, as agents made of several models do, and doesn't say that it can be batched."""

    batched_serving = None  # type: ignore[assignment]  # as if it had never heard of it

    def observe(self, observation: Any) -> Any:
        seen = super().observe(observation)
        self.found = f"found {observation['text']}"
        return seen

    def act(self) -> Any:
        return Message({"id": "c", "text": self.found, "episode_done": False})


@pytest.fixture
def gate() -> Any:
    GATES["gate"] = gate = Gate()
    yield gate
    gate.open.set()
    del GATES["gate"]


def batched(**opt: Any) -> LoadedModel:
    return LoadedModel("m", BatchedAgent({"script": [], **opt}), None)


@pytest.fixture(scope="module")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    dictionary = DictionaryAgent(parser_opt(folder, "greedy", with_dict=False))
    for word in [*WORDS, "my", "secret", "is", "and", "what", "?"]:
        dictionary.add_to_dict([word])
    dictionary.save(str(folder / "model.dict"))
    return folder


def parser_opt(folder: Path, inference: str, with_dict: bool = True) -> Any:
    flags = (
        "--model transformer/generator --embedding-size 32 --ffn-size 64 --n-layers 1 --n-heads 2 --n-positions 128 "
        "--truncate 64 --dict-tokenizer space --dict-lower False --beam-min-length 3 --label-truncate 8 --no-cuda "
        f"--beam-size {4 if inference == 'beam' else 1} --inference {inference} --skip-generation False"
    ).split()
    if with_dict:
        flags += ["--dict-file", str(folder / "model.dict")]
    return ParlaiParser(add_parlai_args=True, add_model_args=True).parse_args(flags)


def generator(folder: Path, inference: str) -> LoadedModel:
    torch.manual_seed(3)
    opt = parser_opt(folder, inference)
    opt.update(chat_overrides(model_parallel=False))
    agent = create_agent(opt)
    with torch.no_grad():  # large weights, so that what it says hangs on all that it has heard
        for weights in agent.model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.3)
    return LoadedModel("m", agent, None)


def dialogue(pool: ModelPool, model: LoadedModel, word: str) -> list[str]:
    """Hold a conversation of three exchanges around a word of its own."""
    clone = model.clone()
    said = [f"my secret is {word}", "and what is my secret ?", f"is my secret {word} ?"]
    return [pool.reply("m", clone, [heard(text)])["text"] for text in said]


@pytest.mark.parametrize("inference", ["greedy", "beam"])
def test_a_generator_says_in_batches_what_it_says_alone(generator_folder: Path, inference: str) -> None:
    model = generator(generator_folder, inference)
    alone = ModelPool([model], 1, 60, max_batch_size=1)
    expected = [dialogue(alone, model, word) for word in WORDS]
    assert alone.counts()["m"].batches == 3 * CONVERSATIONS
    alone.shutdown()
    pool = ModelPool([model], 1, 60, max_batch_size=16, batch_wait_ms=50)
    with ThreadPoolExecutor(CONVERSATIONS) as threads:
        got = list(threads.map(lambda word: dialogue(pool, model, word), WORDS))
    count = pool.counts()["m"]
    pool.shutdown()
    assert count.replies == 3 * CONVERSATIONS
    assert count.batches <= count.replies / 4, "they were answered together"
    assert got == expected
    assert len({tuple(replies) for replies in expected}) > CONVERSATIONS / 2, "replies hang on the conversation"


def test_each_conversation_has_its_own_history() -> None:
    model = batched()
    pool = ModelPool([model], 1, 60, max_batch_size=8, batch_wait_ms=20)
    with ThreadPoolExecutor(CONVERSATIONS) as threads:
        got = list(threads.map(lambda word: dialogue(pool, model, word), WORDS))
    pool.shutdown()
    for word, replies in zip(WORDS, got, strict=True):
        first = f"my secret is {word}"
        assert replies[-1] == f"{first} and what is my secret ? is my secret {word} ?"
    assert max(model.agent.sizes) > 1


def together(pool: ModelPool, model: LoadedModel, gate: Gate, texts: Sequence[str]) -> list[Any]:
    """Ask for one reply, and while the model is busy with it, for one to each of the texts."""
    first = in_thread(lambda: pool.reply("m", model.clone(), [heard("first")]))
    assert gate.entered.acquire(timeout=30)
    asked = []
    for number, text in enumerate(texts, 1):
        asked.append(in_thread(lambda text=text: pool.reply("m", model.clone(), [heard(text)])))
        wait_until(lambda number=number: pool._scheduler.waiting() == number)
    gate.open.set()
    first.result(30)
    return asked


def test_what_comes_while_the_model_is_busy_is_answered_at_once(gate: Gate) -> None:
    model = batched(gate="gate")
    pool = ModelPool([model], 1, 60, max_batch_size=3)
    asked = together(pool, model, gate, ["a", "b", "c", "d"])
    assert [future.result(30)["text"] for future in asked] == ["a", "b", "c", "d"]
    assert model.agent.sizes == [1, 3, 1]
    pool.shutdown()


@pytest.mark.parametrize(("bad", "error"), [("!break", "MemoryError"), ("!observe", "can't hear that")])
def test_a_request_that_fails_does_not_fail_its_batch_mates(gate: Gate, bad: str, error: str) -> None:
    model = batched(gate="gate")
    pool = ModelPool([model], 1, 60)
    good, guilty, other = together(pool, model, gate, ["good", bad, "other"])
    assert good.result(30)["text"] == "good"
    assert other.result(30)["text"] == "other"
    with pytest.raises(ModelFailureError, match=error):
        guilty.result(30)
    pool.shutdown()


def test_an_agent_that_acts_while_it_observes_is_asked_alone_and_right(gate: Gate) -> None:
    model = LoadedModel("m", ComposedAgent({"script": []}), None)
    assert not takes_batches(model.agent)
    pool = ModelPool([model], 2, 60, batch_wait_ms=20)
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda word: pool.reply("m", model.clone(), [heard(word)])["text"], WORDS))
    assert replies == [f"found {word}" for word in WORDS]
    assert pool.counts()["m"].batches == CONVERSATIONS
    pool.shutdown()


def test_only_agents_known_to_keep_to_the_recipe_are_batched(generator_folder: Path) -> None:
    from model_chat.agents.hugging_face import HuggingFaceChatAgent

    assert HuggingFaceChatAgent.batched_serving
    model = generator(generator_folder, "greedy")
    assert takes_batches(model.agent)
    assert not takes_batches(ScriptedAgent({}))

    class Retriever(type(model.agent)):
        def observe(self, observation: Any) -> Any:
            return super().observe(observation)

    model.agent.__class__ = Retriever
    assert not takes_batches(model.agent)


def test_a_model_that_hangs_leaves_its_place_to_the_others(gate: Gate) -> None:
    hanging = LoadedModel("hanging", GatedAgent({"gate": "gate", "script": []}), None)
    fine = LoadedModel("fine", ScriptedAgent({"script": []}), None)
    pool = ModelPool([hanging, fine], 1, 0.2)
    with pytest.raises(ModelFailureError, match="hanging gave no reply"):
        pool.reply("hanging", hanging.clone(), [heard("hi")])
    pool._response_timeout = 30
    assert pool.reply("fine", fine.clone(), [heard("hi")])["text"] == "you said hi"
    threads = [thread for thread in threading.enumerate() if thread.name == "model-reply"]
    gate.open.set()
    wait_until(lambda: sum(thread.is_alive() for thread in threads) < len(threads))  # one too many now, so it ends
    assert pool.reply("hanging", hanging.clone(), [heard("again")])["text"] == "you said again"
    pool.shutdown()


def test_a_model_that_hangs_a_moment_less_than_its_requester_waited_leaves_its_place_all_the_same(gate: Gate) -> None:
    hanging = LoadedModel("hanging", GatedAgent({"gate": "gate", "script": []}), None)
    fine = LoadedModel("fine", ScriptedAgent({"script": []}), None)
    pool = ModelPool([hanging, fine], 1, 0.2)
    pool._scheduler._patience = 1.0  # as if the requester had waited 0.8 s in the queue
    with pytest.raises(ModelFailureError, match="hanging gave no reply"):
        pool.reply("hanging", hanging.clone(), [heard("hi")])
    pool._response_timeout = 30
    assert pool.reply("fine", fine.clone(), [heard("hi")])["text"] == "you said hi"
    gate.open.set()
    pool.shutdown()


def test_the_one_that_has_waited_longest_is_next_whatever_its_model(gate: Gate) -> None:
    busy = batched(gate="gate")
    order: list[str] = []

    class Noting(ScriptedAgent):
        def act(self) -> Any:
            order.append(self.seen[-1])
            return super().act()

    others = [LoadedModel(name, Noting({"script": []}), None) for name in ("x", "y")]
    pool = ModelPool([busy, *others], 1, 60)
    first = in_thread(lambda: pool.reply("m", busy.clone(), [heard("first")]))
    assert gate.entered.acquire(timeout=30)
    asked = []
    for number, (name, text) in enumerate([("y", "1"), ("x", "2"), ("y", "3"), ("x", "4")], 1):
        model = next(each for each in others if each.nickname == name)
        asked.append(in_thread(lambda m=model, t=text: pool.reply(m.nickname, m.clone(), [heard(t)])))
        wait_until(lambda number=number: pool._scheduler.waiting() == number)
    gate.open.set()
    for future in (first, *asked):
        future.result(30)
    assert order == ["1", "2", "3", "4"]
    pool.shutdown()

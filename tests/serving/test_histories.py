"""A reply is the same whichever copy of a model gives it, since each turn carries its history; without Ray."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from parlai.core.message import Message
from PIL import Image

from model_chat.serving.histories import Agents, Conversation, Failure, RemoteError, Turn, portable
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.serving.ray_replica import answer_turns
from model_chat.tests.parlai_agents import RAISE, CountingAgent, ScriptedAgent, WitnessAgent
from model_chat.tests.serving.test_batching import WORDS, dialogue, generator
from model_chat.tests.serving.test_batching import generator_folder as generator_folder
from model_chat.tests.serving.test_pool import heard


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of torch that wait for each other cost more here than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Copies:
    """Several copies of a model, asked in turns; what they are asked goes the way to another process and back."""

    def __init__(self, *models: LoadedModel, kept: int = 100) -> None:
        self._copies = [(model, Agents(model.clone, kept)) for model in models]
        self._asked = 0

    def ask(self, *turns: Turn) -> list[Any]:
        model, agents = self._copies[self._asked % len(self._copies)]
        self._asked += 1
        answers: list[Any] = pickle.loads(pickle.dumps(answer_turns(model, agents, pickle.loads(pickle.dumps(turns)))))
        return answers

    def reply(self, conversation: Conversation, *texts: str) -> str:
        turn = conversation.turn([heard(text) for text in texts])
        (act,) = self.ask(turn)
        conversation.answered(turn, act)
        text: str = act["text"]
        return text


def witness() -> LoadedModel:
    return LoadedModel("m", WitnessAgent({"script": []}), None)


def told(text: str) -> str:
    """What a witness says that it was told, without the process."""
    return text.partition(": ")[2]


@pytest.mark.parametrize("inference", ["greedy", "beam"])
def test_a_conversation_that_hops_between_copies_gets_what_one_model_in_here_says(
    generator_folder: Path, inference: str
) -> None:
    model = generator(generator_folder, inference)
    pool = ModelPool([model], 1, 60)
    expected = {word: dialogue(pool, model, word) for word in WORDS[:6]}
    pool.shutdown()
    assert len({tuple(replies) for replies in expected.values()}) > 3, "replies hang on the conversation"
    for kept in (0, 100):
        copies = Copies(model, model, kept=kept)  # the weights of copies are the same, what they know is not
        conversations = {word: Conversation() for word in expected}
        got: dict[str, list[str]] = {word: [] for word in expected}
        for at in range(3):
            for word, conversation in conversations.items():
                said = [f"my secret is {word}", "and what is my secret ?", f"is my secret {word} ?"][at]
                got[word].append(copies.reply(conversation, said))
            copies._asked += 1  # the next turn of each is another copy's
        assert got == expected


def test_persona_seeds_and_several_messages_before_a_reply_are_in_the_history() -> None:
    copies = Copies(witness(), witness())
    conversation = Conversation()
    conversation.observe(heard("your persona: I am a cat."))
    conversation.observe(heard("Hello!"))
    conversation.self_observe(Message({"text": "?: Meow."}))
    assert told(copies.reply(conversation, "a", "b")) == "5 your persona: I am a cat. | Hello! | I: Meow. | a | b"
    assert told(copies.reply(conversation, "c")).startswith("7 ")
    assert told(copies.reply(conversation, "d")).endswith(" | d")


def counted_agents() -> tuple[list[Any], Agents]:
    """The agents that a copy keeps, and those that it has made so far."""
    made: list[Any] = []

    def make() -> Any:
        made.append(WitnessAgent({"script": []}))
        return made[-1]

    return made, Agents(make, 10)


def test_a_kept_agent_is_used_only_for_the_history_that_it_was_told() -> None:
    made, agents = counted_agents()
    model = witness()
    conversation = Conversation()
    first = conversation.turn([heard("a")])
    (lost,) = answer_turns(model, agents, [first])
    # The reply got lost on its way, and another copy gave one; the agent here has been told something else.
    conversation.answered(first.again(), {"text": "?: other"})
    second = conversation.turn([heard("b")])
    (act,) = answer_turns(model, agents, [second])
    assert isinstance(lost, dict)
    assert isinstance(act, dict)
    assert told(act["text"]) == "3 a | I: other | b"
    assert len(made) == 2


def test_a_kept_agent_goes_on_where_nothing_has_come_between() -> None:
    made, agents = counted_agents()
    model = witness()
    conversation = Conversation()
    for text in ("a", "b", "c"):
        turn = conversation.turn([heard(text)])
        (act,) = answer_turns(model, agents, [turn])
        assert isinstance(act, dict)
        conversation.answered(turn, act)
    assert len(made) == 1


def test_an_agent_with_a_memory_of_its_own_keeps_it_while_its_copy_lives() -> None:
    model = LoadedModel("m", CountingAgent({"script": []}), None)
    alone, hopping, conversation = Copies(model), Copies(model, model), Conversation()
    assert [told(alone.reply(conversation, text)) for text in "abc"] == ["1", "2", "3"]
    other = Conversation()
    assert [told(hopping.reply(other, text)) for text in "abc"] == ["1", "1", "1"], "what no history tells is lost"


def test_turns_that_fail_leave_their_batch_mates_and_their_own_history_alone() -> None:
    copies = Copies(witness())
    good, bad = Conversation(), Conversation()
    copies.reply(bad, "before")
    turns = [good.turn([heard("hi")]), bad.turn([heard(RAISE)])]
    answers = copies.ask(*turns)
    assert told(answers[0]["text"]) == "1 hi"
    assert isinstance(answers[1], Failure)
    assert repr(RemoteError(answers[1])) == "RuntimeError('the weights are gone')"
    assert "parlai_agents.py" in answers[1].trace
    assert told(copies.reply(bad, "after")) == "3 before | I: 1 before | after"


def test_an_image_is_in_each_turn_and_once_in_each_request() -> None:
    image = Image.effect_noise((128, 128), 50)
    conversation = Conversation()
    for _ in range(4):
        conversation.observe({**heard("x"), "image": image})
    turn = conversation.turn([{**heard("y"), "image": image}])
    size = len(pickle.dumps(turn))
    assert size < 2 * 128 * 128
    restored = pickle.loads(pickle.dumps(turn))
    assert restored.heard[0]["image"].tobytes() == image.tobytes()
    assert restored.history[0].message["image"] is restored.heard[0]["image"]


def test_an_act_travels_as_plain_values() -> None:
    act = Message(
        {
            "text": "hi",
            "n": 1,
            "beam_texts": [("a", 0.5)],
            "logits": torch.zeros(2),
            "odd": {"deep": [object()]},
            "no": None,
        }
    )
    assert portable(act) == {"text": "hi", "n": 1, "beam_texts": [["a", 0.5]], "no": None}


def test_agents_that_keep_nothing_of_what_they_say_are_not_told() -> None:
    class Deaf(ScriptedAgent):
        self_observe = property()

        def __getattribute__(self, name: str) -> Any:
            if name == "self_observe":
                raise AttributeError(name)
            return super().__getattribute__(name)

    copies = Copies(LoadedModel("m", Deaf({"script": []}), None), kept=0)
    conversation = Conversation()
    assert [copies.reply(conversation, text) for text in ("a", "b")] == ["you said a", "you said b"]

"""Agents of one's own that tell their replies while they make them, alone and in batches (docs/models.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from parlai.core.message import Message
from parlai.core.opt import Opt

from model_chat.serving.batching import Asked
from model_chat.serving.loading import LoadedModel
from model_chat.tests.parlai_agents import ScriptedAgent


class TellingAgent(ScriptedAgent):
    """Tells what it will say word by word, if somebody wants to know."""

    streams = True

    def observe(self, observation: Any) -> Any:
        self.observation = Message(observation)
        return self.observation

    def batch_act(self, observations: Sequence[Any]) -> list[Any]:
        for observation in observations:
            words = observation["text"].split()
            if observation.get("tell") is not None:
                for count in range(1, len(words) + 1):
                    observation["tell"](" ".join(words[:count]))
        return [Message({"id": "t", "text": each["text"], "episode_done": False}) for each in observations]

    def act(self) -> Any:
        return self.batch_act([self.observation])[0]

    def self_observe(self, self_message: Any) -> None:
        pass


class BatchedTellingAgent(TellingAgent):
    batched_serving = True


class SilentAgent(BatchedTellingAgent):
    """Would tell, and does not say that it does: nothing is left in what it observes."""

    streams = False


def asked(model: LoadedModel, text: str, tell: Any) -> Asked:
    return Asked(model.clone(), [Message({"text": text, "episode_done": False})], tell)


@pytest.mark.parametrize("kind", [TellingAgent, BatchedTellingAgent])
def test_an_agent_that_streams_tells_whoever_asked(kind: type[TellingAgent]) -> None:
    model, told = LoadedModel("m", kind(Opt()), None), list[str]()
    (act,) = model.answer([asked(model, "I like tea", told.append)])
    assert act["text"] == "I like tea"
    assert told == ["I", "I like", "I like tea"]


def test_each_conversation_of_a_batch_is_told_its_own() -> None:
    model = LoadedModel("m", BatchedTellingAgent(Opt()), None)
    told: list[list[str]] = [[], []]
    model.answer([asked(model, "One", told[0].append), asked(model, "x", None), asked(model, "Two", told[1].append)])
    assert told == [["One"], ["Two"]]


def test_an_agent_that_does_not_stream_is_given_nobody_to_tell() -> None:
    model, told = LoadedModel("m", SilentAgent(Opt()), None), list[str]()
    model.answer([asked(model, "One", told.append)])
    model.answer([asked(model, "One", told.append), asked(model, "Two", told.append)])
    assert told == []


def test_an_agent_that_was_asked_once_more_tells_the_one_who_asks_now() -> None:
    model, first, second = LoadedModel("m", BatchedTellingAgent(Opt()), None), list[str](), list[str]()
    clone = model.clone()
    model.answer([Asked(clone, [Message({"text": "One", "episode_done": False})], first.append)])
    for again in ([Asked(clone, [], second.append)], [Asked(clone, [], None), asked(model, "x", None)]):
        model.answer(again)
    assert (first, second) == (["One"], ["One"])

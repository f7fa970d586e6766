"""Two replies to one message come together: neither tells by its time or its failure which model wrote it."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from parlai.core.message import Message
from parlai.core.opt import Opt

from model_chat.bot_agent import Reply
from model_chat.comparing.per_turn import ComparedBots, _reply
from model_chat.comparing.two_replies import CommonStart
from model_chat.conversation import growing_reply
from model_chat.conversation.growing_reply import GrowingReply
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.records.schema import Completion, Generation
from model_chat.serving.loading import LoadedModel
from model_chat.serving.model import StoppedError
from model_chat.serving.pool import ModelPool
from model_chat.tests.compared_models import TWO_TURNS, NamedAgent, options, talk
from model_chat.tests.parlai_agents import GATES, NO_TEXT, RAISE, Gate, GatedAgent
from model_chat.tests.scripted_human import ScriptedHuman, message, play
from model_chat.worlds import make_world


@pytest.mark.parametrize("failing", [RAISE, NO_TEXT])
@pytest.mark.parametrize("side", ["a", "b"])
def test_a_pair_has_failed_when_one_of_its_models_fails(side: str, failing: str) -> None:
    other = {"a": "b", "b": "a"}[side]
    models: dict[str, Any] = {side: {}, other: {"cost": 0.25}}
    human = ScriptedHuman(message("One."))
    world = make_world(options(models), [human])
    world.parley()
    assert isinstance(world.bot, ComparedBots)
    for bot in world.bot.bots:
        if bot.nickname == side:
            bot._clone.script = [failing]
    cost_before = sum(line.generation.cost_usd or 0 for line in world.dialog if line.generation)
    play(world)
    assert world.completion is Completion.INCOMPLETE
    assert world.reason is not None
    assert world.reason.startswith("model failed: ")
    assert human.controls("comparison") == [], "the reply of the other model is not shown"
    assert world.comparisons == []
    assert human.steps()[-1] == "model_failed"
    assert world.failed_generation is not None
    assert world.failed_generation.cost_usd == 0.25, "what the other reply has cost is counted"
    assert cost_before in (0, 0.25)


def test_neither_reply_is_shown_before_both_are_there() -> None:
    gate = GATES["comparing"] = Gate()
    human = ScriptedHuman(*TWO_TURNS)
    world = make_world(
        options({"a": {"kind": GatedAgent, "gate": "comparing"}, "b": {"script": []}}, start_mode="seeded"), [human]
    )
    world.parley()
    world.parley()  # the worker's message
    thread = threading.Thread(target=world.parley)
    thread.start()
    assert gate.entered.acquire(timeout=30)
    assert human.controls("comparison") == []
    gate.open.set()
    thread.join(30)
    assert len(human.controls("comparison")) == 1


class CharacterAgent(NamedAgent):
    """One of several agents over the same weights; records who is answered together."""

    batched_serving = True
    shared_weights = "the same"
    runs: ClassVar[list[list[str]]] = []

    def observe(self, observation: Any) -> Any:
        super().observe(observation)
        return Message({**observation, "name": self.opt["name"]})

    def batch_act(self, observations: Any) -> list[Any]:
        self.runs.append([seen["name"] for seen in observations])
        return [Message({"id": "c", "text": f"I am {seen['name']}."}) for seen in observations]

    def act(self) -> Any:
        return self.batch_act([{"name": self.opt["name"]}])[0]


def test_two_characters_of_one_model_reply_in_one_batch() -> None:
    CharacterAgent.runs.clear()
    kind = {"kind": CharacterAgent}
    talk(*TWO_TURNS, a=dict(kind), b=dict(kind), start_mode="seeded")
    assert [sorted(run) for run in CharacterAgent.runs] == [["a", "b"], ["a", "b"]]


def test_both_replies_are_held_back_to_one_pace() -> None:
    _, human = talk(*TWO_TURNS, delivery=ReplyDelivery(False, 50.0, 100.0))
    assert len(human.waits) == 5, "the opening, and two replies at each of two turns"


class TellingModel(LoadedModel):
    """Tells the beginning of each reply before it gives the whole."""

    def answer(self, batch: Any) -> Any:
        acts = super().answer(batch)
        for asked, act in zip(batch, acts, strict=True):
            if asked.tell is not None:
                asked.tell(act["text"][:1])
        return acts


def test_both_replies_grow_under_their_sides_and_no_part_tells_more(monkeypatch: pytest.MonkeyPatch) -> None:
    growing: list[GrowingReply] = []
    monkeypatch.setattr(growing_reply.SENDER, "add", growing.append)
    human = ScriptedHuman(*TWO_TURNS)
    models = [TellingModel(name, NamedAgent(Opt({"name": name, "dict_lower": False})), None) for name in "ab"]
    chat = replace(options({}, delivery=ReplyDelivery(stream=True)), models=ModelPool(models, 2, 60))
    hold_back = GrowingReply.hold_back

    def hold_back_and_send(reply: GrowingReply, text: str) -> None:
        hold_back(reply, text)
        reply.send_part()

    monkeypatch.setattr(GrowingReply, "hold_back", hold_back_and_send)
    play(make_world(chat, [human]))
    shown = human.controls("comparison")
    assert len(shown) == 2
    for told in shown:
        parts = [part for part in human.parts if part["utterance_idx"] == told["utterance_idx"]]
        assert {part["side"] for part in parts} == {"left", "right"}
        for part in parts:
            assert set(part) == {"control", "utterance_idx", "side", "part", "text"}
            assert told[part["side"]]["text"].startswith(part["text"])
    assert {part["side"] for part in human.parts} == {None, "left", "right"}, "the opening has no side"


def test_neither_side_is_shown_before_both_have_begun() -> None:
    """The faster model would show, where one side begins before the other."""
    told: list[tuple[str, str]] = []
    start = CommonStart()
    left = start.held("left", lambda text: told.append(("left", text)))
    right = start.held("right", lambda text: told.append(("right", text)))
    left("I")
    left("I like")
    assert told == []
    right("We")
    assert sorted(told) == [("left", "I like"), ("right", "We")], "the newest text of each"
    left("I like tea")
    assert told[2:] == [("left", "I like tea")]


@pytest.mark.parametrize("late", ["left", "right"])
def test_a_side_that_is_whole_or_has_failed_holds_nobody_back(late: str) -> None:
    told: list[str] = []
    start = CommonStart()
    early = "left" if late == "right" else "right"
    start.held(early, told.append)("I like tea.")
    start.begin(early)
    waiting = threading.Thread(target=start.wait)
    waiting.start()
    assert told == []
    start.begin(late)
    waiting.join(30)
    assert not waiting.is_alive()
    assert told == ["I like tea."]


def test_the_reply_of_the_faster_model_waits_for_the_other_one() -> None:
    start, has_told = CommonStart(), threading.Event()

    with GrowingReply(ScriptedHuman(), ReplyDelivery(stream=True), 1, side="left") as growing:
        assert growing.tell is not None
        tell = start.held("left", growing.tell)

        def fast() -> Reply:
            tell("I like")
            has_told.set()
            return Reply("I like tea.", Generation())

        replying = threading.Thread(target=_reply, args=(fast, growing, "left", start))
        replying.start()
        assert has_told.wait(30)
        replying.join(0.2)
        assert (replying.is_alive(), growing._text) == (True, "")
        start.begin("right")
        replying.join(30)
        assert (replying.is_alive(), growing._text) == (False, "I like tea.")


def test_a_run_that_is_stopped_while_both_models_write_waits_for_neither() -> None:
    gate = GATES["stopping"] = Gate()
    models: dict[str, Any] = {name: {"kind": GatedAgent, "gate": "stopping"} for name in "ab"}
    made = options(models, start_mode="seeded")
    world = make_world(made, [ScriptedHuman(message("One."))])
    world.parley()
    world.parley()
    ended: list[BaseException] = []

    def answer() -> None:
        try:
            world.parley()
        except StoppedError as stopped:
            ended.append(stopped)

    thread = threading.Thread(target=answer)
    thread.start()
    assert gate.entered.acquire(timeout=30)
    made.models.interrupt()
    thread.join(30)
    gate.open.set()
    assert len(ended) == 1


class DeafAgent(NamedAgent):
    """Raises when it is told what another model has said."""

    def self_observe(self, message: Any) -> None:
        raise RuntimeError("not mine")

    def act(self) -> Any:
        return Message({"id": "x", "text": "Hello.", "generation": {"cost_usd": 0.25}})


def test_an_opening_that_the_other_model_cannot_take_has_failed_and_its_cost_is_counted() -> None:
    models: dict[str, Any] = {name: {"kind": DeafAgent} for name in "ab"}
    human = ScriptedHuman()
    world = make_world(options(models), [human])
    play(world)
    assert (world.completion, human.steps()[-1]) == (Completion.INCOMPLETE, "model_failed")
    assert world.failed_generation is not None
    assert world.failed_generation.cost_usd == 0.25

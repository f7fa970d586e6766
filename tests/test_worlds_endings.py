"""However a conversation ends, what was said is kept, and its place counts or is given back."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from mephisto.data_model.exceptions import AgentDisconnectedError

from model_chat import worlds
from model_chat.conversation.contexts import ContextSource
from model_chat.conversation.quota import ModelCount
from model_chat.errors import ModelFailureError
from model_chat.records.schema import Completion, Generation
from model_chat.serving.model import StoppedError
from model_chat.tests.parlai_agents import NO_TEXT, RAISE
from model_chat.tests.scripted_chats import WHOLE, Contexts, begin, chat
from model_chat.tests.scripted_human import (
    NICKNAME,
    ScriptedHuman,
    chat_options,
    play,
)
from model_chat.worlds import (
    NoReservationLeftError,
    make_world,
)


@pytest.mark.parametrize("failure", [RAISE, NO_TEXT, ""])
@pytest.mark.parametrize("said_before", [0, 1, 2])
def test_a_model_that_fails_ends_the_conversation_and_the_worker_is_told(failure: str, said_before: int) -> None:
    script = (*["fine."] * said_before, failure)
    world, human = chat(*WHOLE[:said_before], model=script)
    assert human.steps()[-1] == "model_failed"
    (failed,) = human.controls("model_failed")
    assert "not your fault" in failed["reason"]
    assert world.completion is Completion.INCOMPLETE
    assert world.reason is not None
    assert world.reason.startswith("model failed: ")
    saved = world.get_custom_task_data()
    assert saved["status"] == "incomplete"
    assert len(saved["dialog"]) == 1 + 2 * said_before
    assert world.is_worth_keeping == (said_before > 0)


def test_a_model_that_fails_on_a_seed_utterance_ends_the_conversation() -> None:
    human = ScriptedHuman()
    world = begin(human, start_mode="blended_skill_talk", contexts=ContextSource(Contexts()))

    def self_observe(text: Any) -> None:
        raise RuntimeError("no history")

    world.bot._clone.self_observe = self_observe
    play(world)
    assert human.steps() == ["start", "What is tea?", "A drink.", "model_failed"]


@pytest.mark.parametrize("after", range(5))
def test_a_worker_who_leaves_at_any_time_leaves_an_incomplete_conversation(after: int) -> None:
    human = ScriptedHuman(*WHOLE[:after], AgentDisconnectedError("1"))
    world = begin(human)
    if after < 3:
        with pytest.raises(AgentDisconnectedError):
            play(world)
        world.abandon("disconnected: the page went away")
    else:
        play(world)
        world.abandon("too late to matter")
    assert world.episode_done()
    assert world.completion is (Completion.COMPLETE if after >= 3 else Completion.INCOMPLETE)
    assert world.reason == (None if after >= 3 else "disconnected: the page went away")
    assert world.is_worth_keeping == (after > 0)
    world.abandon("again")
    assert world.reason != "again"
    assert world.get_custom_task_data()["reason"] == world.reason


def test_a_conversation_can_be_abandoned_before_it_begins() -> None:
    world = begin(ScriptedHuman())
    world.abandon("run ended")
    assert world.episode_done()
    assert world.get_custom_task_data()["dialog"] == []


def test_a_conversation_takes_a_place_and_settles_it_once() -> None:
    options = chat_options()
    world = make_world(options, [ScriptedHuman(*WHOLE)])
    assert options.quota.counts() == [ModelCount(NICKNAME, 0, 1, 1)]
    with pytest.raises(NoReservationLeftError):
        make_world(options, [ScriptedHuman()])
    play(world)
    world.settle(collected=True)
    world.shutdown()
    world.settle(collected=False)
    assert options.quota.counts() == [ModelCount(NICKNAME, 1, 0, 1)]


@pytest.mark.parametrize("ending", ["settle", "shutdown"])
def test_a_conversation_that_does_not_count_gives_its_place_back(ending: str) -> None:
    options = chat_options()
    world = make_world(options, [ScriptedHuman()])
    if ending == "settle":
        world.settle(collected=False)
    world.shutdown()
    assert options.quota.counts() == [ModelCount(NICKNAME, 0, 0, 1)]


def test_a_world_that_cannot_be_made_holds_no_place() -> None:
    options = chat_options()

    def no_memory() -> Any:
        raise MemoryError("no room for a clone")

    options.models.model(NICKNAME).agent.share = no_memory
    with pytest.raises(MemoryError):
        make_world(options, [ScriptedHuman()])
    assert options.quota.counts() == [ModelCount(NICKNAME, 0, 0, 1)]


def test_what_is_known_of_a_reply_that_failed_is_saved_though_the_worker_has_said_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class CostlyFailureError(ModelFailureError):
        generation: ClassVar = {"cost_usd": 0.5, "retries": 2, "unknown": "left out"}

    def fail(*_: Any) -> None:
        raise CostlyFailureError("no")

    monkeypatch.setattr(worlds.BotAgent, "act", fail)
    world, _ = chat()
    assert world.is_worth_keeping
    assert world.get_custom_task_data()["failed_generation"] == {"cost_usd": 0.5, "retries": 2}


def test_a_conversation_in_which_the_worker_said_nothing_is_kept_if_it_has_cost_something() -> None:
    for cost, kept in ((0.5, True), (None, False)):
        world = begin(ScriptedHuman())
        world.parley()
        world.dialog[-1].generation = Generation(cost_usd=cost, seconds=1.0)
        assert world.is_worth_keeping is kept


def test_a_run_that_ends_while_the_model_replies_is_no_failure_of_the_model() -> None:
    options = chat_options()
    options.models.interrupt()
    human = ScriptedHuman()
    world = make_world(options, [human])
    with pytest.raises(StoppedError):
        world.parley()
    assert human.controls("model_failed") == []
    assert world.reason is None, "the task runner says why"

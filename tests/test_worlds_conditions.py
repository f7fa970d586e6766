"""What a condition changes in a conversation, and that no page is told."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from model_chat.agents._chat_history import ChatHistory
from model_chat.bot_agent import BotAgent
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.contexts import ContextSource
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.conversation.study_flow import FlowOptions
from model_chat.launch.design_checks import items_before_chat
from model_chat.records.schema import Completion
from model_chat.tests.designs import design_of, quota_of
from model_chat.tests.scripted_chats import Contexts
from model_chat.tests.scripted_human import ScriptedHuman, chat_options, message, play, rating
from model_chat.worlds import ModelChatWorld, make_world

MODEL = "secret-nickname/v2"
DESIGN = """
factors:
  prompt: {warm_level: Be very warm., cool_level: Be cool.}
  num_turns: {short_level: 1, long_level: 2}
within: [prompt, num_turns]
order: fixed
conversations_per_cell: 1
"""


def hold(world: ModelChatWorld) -> None:
    play(world)
    world.settle(collected=True)


def test_each_conversation_has_its_own_flags_and_saves_its_conditions(tmp_path: Path) -> None:
    quota = quota_of(design_of(DESIGN), tmp_path)
    quota._model = MODEL
    options = chat_options(["One.", "Two.", "Three."] * 4, quota=quota, annotations=None, num_turns=9)

    saved, told = [], ""
    for turns in (1, 2, 1, 2):
        human = ScriptedHuman(*[message() for _ in range(turns)], rating(3))
        world = make_world(options, [human])
        hold(world)
        saved.append(world.get_custom_task_data()["conditions"])
        assert {data["num_turns"] for data in human.controls("start", "your_turn")} == {turns}
        told += json.dumps(human.updates)

    assert saved == [cell.conditions for cell in quota.design.cells]
    assert options.num_turns == 9
    assert not any(word in told for word in ("_level", "prompt", "condition", "Be very warm"))


def test_each_conversation_has_its_own_pace(tmp_path: Path) -> None:
    design = (
        "factors: {reply_first_seconds: {at_once: 0, later: 0.5}, reply_chars_per_second: {slow: 20, fast: 1000}}\n"
        "within: [reply_first_seconds, reply_chars_per_second]\norder: fixed\nconversations_per_cell: 1\n"
    )
    quota = quota_of(design_of(design), tmp_path)
    quota._model = MODEL
    options = chat_options(["One."], quota=quota, delivery=ReplyDelivery(stream=True, first_seconds=9.0))
    found = []
    for _ in range(4):
        world = make_world(options, [ScriptedHuman()])
        assert isinstance(world, ModelChatWorld)
        found.append(world.options.delivery)
        world.settle(collected=True)
    assert found == [ReplyDelivery(True, first, rate) for first in (0.0, 0.5) for rate in (20.0, 1000.0)]
    assert options.delivery.first_seconds == 9.0


def test_the_prompt_reaches_the_model_before_anything_that_is_said(tmp_path: Path) -> None:
    quota = quota_of(design_of(DESIGN), tmp_path)
    quota._model = MODEL
    world = make_world(chat_options(["Hello."], quota=quota), [ScriptedHuman()])

    world.begin()

    assert isinstance(world.bot, BotAgent)
    assert world.bot._clone.seen[:2] == ["Be very warm.", "Hi!"]


@pytest.mark.parametrize("own", ["You are Ada.", ""])
def test_a_chat_model_adds_the_prompt_to_its_system_prompt(own: str) -> None:
    history = ChatHistory(own)
    history.observe({"id": "system_prompt", "text": "your persona: Be warm.\nAlways."})
    history.observe({"id": "Speaker 1", "text": "Hi!"})

    assert history.messages() == [
        {"role": "system", "content": f"{own}\n\nyour persona: Be warm.\nAlways.".strip()},
        {"role": "user", "content": "Hi!"},
    ]


def test_a_persona_is_a_condition_of_its_own(tmp_path: Path) -> None:
    text = (
        "factors: {include_persona: [true, false]}\nwithin: include_persona\norder: fixed\nconversations_per_cell: 1\n"
    )
    quota = quota_of(design_of(text), tmp_path)
    quota._model = MODEL
    options = chat_options(["One."] * 9, quota=quota, annotations=None, contexts=ContextSource(Contexts()))

    personas = []
    for _ in range(2):
        human = ScriptedHuman(message(), message(), rating(3))
        world = make_world(options, [human])
        hold(world)
        (start,) = human.controls("start")
        personas.append((bool(start["personas"]), world.get_custom_task_data()["personas"] is not None))

    assert personas == [(True, True), (False, False)]


def test_without_a_design_nothing_is_saved() -> None:
    world = make_world(chat_options(["One."]), [ScriptedHuman()])

    assert world.get_custom_task_data()["conditions"] is None


STRATA = """
factors: {time_extensions: {none: 0, one: 1}}
between: time_extensions
conversations_per_cell: 1
strata: {age: {young: 1, old: 1}}
"""
FLOW = """
pages:
  - {id: about, kind: questions, items: [{id: age, kind: choice, question: Age, options: [young, old, ancient]}]}
  - {id: chat, kind: chat}
"""


def test_whose_stratum_is_full_is_screened_out_and_gives_the_place_back(tmp_path: Path) -> None:
    quota = quota_of(design_of(STRATA), tmp_path)
    quota._model = MODEL
    flow = FlowOptions(parse_study_flow("flow", "flow.yaml", FLOW), 600, 42)
    options = chat_options(["One."] * 9, quota=quota, annotations=None, num_turns=1, study_flow=flow)

    numbers = count()

    def come(age: str) -> ModelChatWorld:
        answer = {
            "text": "",
            "task_data": {"message_id": f"{age}-{quota.remaining()}", "page": "about", "answers": {"age": age}},
        }
        human = ScriptedHuman(answer, message(), rating(3))
        human.worker_id = f"worker {next(numbers)}"
        world = make_world(options, [human])
        play(world)
        world.settle(collected=world.completion is Completion.COMPLETE)
        return world

    first, full, unwanted, other = [come(age) for age in ("young", "young", "ancient", "old")]
    assert [world.ending_kind for world in (first, full, unwanted, other)] == [
        None,
        "screened_out",
        "screened_out",
        None,
    ]
    assert (full.completion, full.dialog) == (Completion.INCOMPLETE, [])
    assert [answer.value for answer in full.flow.answers] == ["young"]  # type: ignore[union-attr]  # there is a flow
    assert quota.remaining() == 0


def test_strata_are_of_a_choice_that_everybody_makes_before_the_chat(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(
        FLOW.replace("items: [", "items: [{id: maybe, kind: choice, question: M, options: [a, b], required: false}, "),
        encoding="utf-8",
    )
    args = OmegaConf.create({"study_flow_path": str(path)})
    assert items_before_chat(args) == {"age": ["young", "old", "ancient"]}
    assert items_before_chat(OmegaConf.create({"study_flow_path": ""})) == {}

"""One conversation about an image: shown once to the page, every turn to the model, and never saved."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mephisto.data_model.exceptions import AgentTimeoutError
from parlai.core.opt import Opt
from PIL import Image

from model_chat.configuration.comparison import ComparisonSettings
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation import growing_reply
from model_chat.conversation.growing_reply import GrowingReply
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.conversation.study_flow import FlowOptions
from model_chat.images.contexts import ImageContexts, ImageContextsWriter
from model_chat.images.design_quota import ImageDesignQuota
from model_chat.images.inputs import ImageInput
from model_chat.images.quota import ImageQuota
from model_chat.images.stack import ImageStack, read_stack
from model_chat.mephisto_task.agent_state import ModelChatAgentState
from model_chat.quality.acceptability import SHIPPED_WORDS, AcceptabilityChecker, offensive_matcher
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.designs import design_of
from model_chat.tests.image_agents import ChoosingAgent, LookingAgent
from model_chat.tests.mephisto_run import Run
from model_chat.tests.scripted_human import MODEL_FILE, NICKNAME, SHORT_CHAT, ScriptedHuman, message, play, rating
from model_chat.worlds import NoReservationLeftError, State
from model_chat.worlds_image_chat import (
    ComparedImageBots,
    ImageChatOptions,
    ModelImageChatWorld,
    PairedImageBots,
    make_world,
)


class Study:
    """Two images, one model that looks at them, a stack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with ImageContextsWriter(folder / "images.parquet") as writer:
            for number, context in enumerate(({"task": "shapes", "alt": "Grey"}, {})):
                writer.add(Image.new("RGB", (40, 30), (number, 20, 30)), {"labels": ["secret caption"]}, context)
        self.images = ImageContexts(folder / "images.parquet")
        self.stack = ImageStack(2, [NICKNAME], 1, folder / "stack", rng=1)
        self.quota = ImageQuota(self.stack, 2)

    def options(self, **changes: Any) -> ImageChatOptions:
        opt = {"image_mode": "raw", "my_api_key": "sk-secret", "dict_lower": False}
        model = LoadedModel(NICKNAME, LookingAgent(Opt(opt)), MODEL_FILE)
        settings: dict[str, Any] = {
            "models": ModelPool([model], 1, 60),
            "quota": self.quota,
            "images": self.images,
            "inputs": {NICKNAME: ImageInput(model, self.images)},
            **SHORT_CHAT,
        }
        return ImageChatOptions(**{**settings, **changes})


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    made = Study(tmp_path)
    yield made
    made.quota.close()
    made.images.close()


WHOLE = (message("What else?", "bucket_0"), message("Anything more?", "bucket_1"), rating(4, ticks="none_all_good"))


def whole_chat(study: Study, **changes: Any) -> tuple[ModelImageChatWorld, ScriptedHuman]:
    human = ScriptedHuman(*WHOLE)
    world = make_world(study.options(**changes), [human])
    play(world)
    return world, human


def test_the_page_gets_the_image_once_and_first_of_all(study: Study) -> None:
    _, human = whole_chat(study)
    start = human.updates[0]["task_data"]
    assert start["control"] == "start"
    head, _, data = start["image"].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).getpixel((0, 0)) == (0, 20, 30)
    assert start["image_alt"] == "Grey"
    assert "base64" not in json.dumps(human.updates[1:])
    assert "secret caption" not in json.dumps(human.updates)


def test_the_model_has_the_first_word_and_sees_the_image_on_every_turn(study: Study) -> None:
    world, human = whole_chat(study)
    assert human.steps()[:3] == ["start", "40 by 30, 0 20 30; you said nothing.", "your_turn"]
    shown = world.bot._clone.shown
    assert [image.size for image in shown] == [(40, 30)] * 3
    assert len({id(image) for image in shown}) == 1, "it is decoded once a conversation"
    assert [line.text for line in world.dialog if line.agent_idx == 1] == [
        "40 by 30, 0 20 30; you said nothing.",
        "40 by 30, 0 20 30; you said What else?.",
        "40 by 30, 0 20 30; you said Anything more?.",
    ]


ACT = {
    "id": "image_chat",
    "text": "Cheerful",
    "label_candidates": ["How grey!", "Nothing else.", "No."],
    "personality": "Cheerful",
    "image_id": "g1",
    "labels": ["How grey!"],
    "eval_labels": ["How grey!"],
    "reward": None,
    "episode_done": True,
}


def chat_about(act: dict[str, Any], folder: Path) -> tuple[ModelImageChatWorld, ScriptedHuman]:
    """Play a whole chat about one grey image with a model that chooses among candidates."""
    with ImageContextsWriter(folder / "one.parquet") as writer:
        writer.add(Image.new("RGB", (4, 3)), act, {})
    model = LoadedModel(NICKNAME, ChoosingAgent(Opt({"image_mode": "raw", "dict_lower": False})), MODEL_FILE)
    with (
        ImageContexts(folder / "one.parquet") as images,
        ImageStack(1, [NICKNAME], 1, folder / "stack1", rng=1) as stack,
    ):
        options = ImageChatOptions(
            models=ModelPool([model], 1, 60),
            quota=ImageQuota(stack, 1),
            images=images,
            inputs={NICKNAME: ImageInput(model, images)},
            **SHORT_CHAT,
        )
        human = ScriptedHuman(*WHOLE)
        world = make_world(options, [human])
        play(world)
        return world, human


def test_the_model_gets_the_teachers_whole_act_first_and_all_but_its_text_again_on_every_turn(tmp_path: Path) -> None:
    world, _ = chat_about(ACT, tmp_path)
    assert [line.text for line in world.dialog if line.agent_idx == 1] == ACT["label_candidates"]
    first, *later = world.bot._clone.observed
    kept = {"label_candidates": ACT["label_candidates"], "personality": "Cheerful", "image_id": "g1"}
    image = first.pop("image")
    assert first == {"id": "image_chat", "text": "Cheerful", "episode_done": False, **kept}
    assert [message.pop("image") for message in later] == [image, image]
    assert later == [
        {"id": "Speaker 1", "text": text, "episode_done": False, **kept} for text in ("What else?", "Anything more?")
    ]


def test_what_the_teacher_says_reaches_neither_the_page_nor_the_dialogue(tmp_path: Path) -> None:
    world, human = chat_about(ACT, tmp_path)
    assert "Cheerful" not in json.dumps(human.updates)
    assert "Cheerful" not in json.dumps(world.get_custom_task_data()["dialog"])


def test_an_act_cannot_take_the_place_of_the_image_or_of_what_the_worker_says(tmp_path: Path) -> None:
    world, _ = chat_about({**ACT, "image": "no picture", "text": "first"}, tmp_path)
    assert [message["text"] for message in world.bot._clone.observed] == ["first", "What else?", "Anything more?"]


def test_what_is_saved_names_the_image_and_does_not_hold_it(study: Study) -> None:
    world, _ = whole_chat(study)
    saved = world.get_custom_task_data()
    assert saved["image_idx"] == 0
    assert saved["status"] == "complete"
    assert saved["context_dataset"] == "shapes"
    assert len(json.loads(saved["additional_context"])["sha256"]) == 64
    assert not any("image" in line for line in saved["dialog"])
    assert "base64" not in json.dumps(saved)
    assert "sk-secret" not in json.dumps(saved)
    ticked = [
        [key for key, on in line["problem_data"].items() if on] for line in saved["dialog"] if line["agent_idx"] == 1
    ]
    assert ticked == [["bucket_0"], ["bucket_1"], ["none_all_good"]]
    assert saved["dialog"][-1]["final_rating"] == "4"


def test_an_opening_greeting_is_a_violation_since_the_model_has_spoken(study: Study) -> None:
    human = ScriptedHuman(message("Hello, how are you?", "bucket_0"), *WHOLE[1:])
    checker = AcceptabilityChecker(offensive_matcher(str(SHIPPED_WORDS)))
    world = make_world(study.options(acceptability=checker), [human])
    play(world)
    assert "starts_with_greeting" in (world.acceptability_violations() or "")


def test_a_conversation_that_is_not_finished_gives_its_place_back(study: Study) -> None:
    world = make_world(study.options(), [ScriptedHuman(WHOLE[0], AgentTimeoutError("x", "y"))])
    with pytest.raises(AgentTimeoutError):
        play(world)
    world.shutdown()
    assert read_stack(study.folder / "stack") == [{NICKNAME: []}, {NICKNAME: []}]
    # Who has seen the image gets the next one.
    assert make_world(study.options(), [ScriptedHuman()]).reservation.subject == 1


def test_one_that_was_never_shown_the_image_may_have_it_again(study: Study) -> None:
    make_world(study.options(), [ScriptedHuman()]).shutdown()
    assert make_world(study.options(), [ScriptedHuman()]).reservation.subject == 0


def test_nobody_gets_a_conversation_that_breaks_a_rule(study: Study) -> None:
    for _ in range(2):
        whole_chat(study)[0].settle(collected=True)
    with pytest.raises(NoReservationLeftError):
        make_world(study.options(), [ScriptedHuman()])
    assert read_stack(study.folder / "stack") == [{NICKNAME: ["worker-7"]}, {NICKNAME: ["worker-7"]}]


def test_a_world_that_cannot_be_made_holds_no_place(study: Study) -> None:
    class Broken(ModelImageChatWorld):
        def __init__(self, *args: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_world(study.options(), [ScriptedHuman()], world_class=Broken)
    assert study.stack.in_flight() == []


def test_it_goes_through_the_states_of_text_chat(study: Study) -> None:
    world = make_world(study.options(num_turns=1), [ScriptedHuman(WHOLE[0], WHOLE[2])])
    seen = []
    while not world.episode_done():
        world.parley()
        seen.append(world.state)
    assert seen == [State.HUMAN_TURN, State.MODEL_TURN, State.FINAL_RATING, State.ENDED]


def test_a_reload_shows_the_image_again_though_no_file_holds_it(mephisto_run: Run) -> None:
    agent = mephisto_run.agent()
    agent.state.set_init_state({})
    human = HumanAgent(agent)
    human.control("start", image="data:image/png;base64,AAAA", image_alt="Grey")
    human.say("Speaker 2", "I see grey.", utterance_idx=0, agent_idx=1)
    told = agent.state.get_init_state()["past_live_updates"]
    assert told[0]["task_data"] == {"control": "start", "image": "data:image/png;base64,AAAA", "image_alt": "Grey"}
    agent.state.save_data()
    folder = Path(agent.state._get_expected_data_file()).parent
    assert not [path for path in folder.rglob("*") if path.is_file() and b"base64" in path.read_bytes()]
    read_again = ModelChatAgentState(agent)
    assert read_again.messages[0]["task_data"] == {"control": "start", "image_alt": "Grey"}


FLOW = """
pages:
  - {id: consent, kind: consent, text: Please.}
  - {id: chat, kind: chat, every_reply: [{id: trust, kind: scale, question: Trust}]}
  - {id: after, kind: questions, items: [{id: warmth, kind: slider, question: Warmth}]}
"""


def on_page(page: str, **answers: Any) -> Any:
    return {"text": "", "task_data": {"message_id": f"page {page}", "page": page, "answers": answers}}


def test_a_study_flow_goes_around_a_chat_about_an_image(study: Study) -> None:
    flow = FlowOptions(parse_study_flow("flow", "flow.yaml", FLOW), max_page_time=60)
    rated = rating(4, ticks="none_all_good")
    rated["task_data"]["reply_answers"] = {"trust": 5}
    human = ScriptedHuman(
        on_page("consent", consent="accept"),
        message("One.", "bucket_0", reply_answers={"trust": 1}),
        message("Two.", "bucket_0", reply_answers={"trust": 2}),
        rated,
        on_page("after", warmth=9),
    )
    world = make_world(study.options(study_flow=flow), [human])
    world.parley()
    assert human.updates == []
    play(world)
    saved = world.get_custom_task_data()
    assert saved["status"] == "complete"
    assert [(answer["item"], answer["value"], answer["utterance_idx"]) for answer in saved["answers"]] == [
        ("consent", "accept", None),
        ("trust", 1, 0),
        ("trust", 2, 2),
        ("trust", 5, 4),
        ("warmth", 9, None),
    ]


def test_who_declines_has_not_seen_the_image(study: Study) -> None:
    flow = FlowOptions(parse_study_flow("flow", "flow.yaml", FLOW), max_page_time=60)
    world = make_world(study.options(study_flow=flow), [ScriptedHuman(on_page("consent", consent="decline"))])
    play(world)
    world.settle(collected=False)
    world.shutdown()
    assert world.ending_kind == "declined"
    assert read_stack(study.folder / "stack") == [{NICKNAME: []}, {NICKNAME: []}]
    assert study.quota.take(world.human.worker_id) is not None, "the worker may come again"


def test_a_pair_of_models_is_compared_about_an_image_by_the_rules_of_the_stack(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.quota.close()
    stack = ImageStack(2, ["x|y"], 1, tmp_path / "pairs", rng=1)
    models = [
        LoadedModel(name, LookingAgent(Opt({"image_mode": "raw", "dict_lower": False})), MODEL_FILE) for name in "xy"
    ]
    options = study.options(
        models=ModelPool(models, 1, 60),
        quota=ImageQuota(stack, 2),
        inputs={model.nickname: ImageInput(model, study.images) for model in models},
        comparison=ComparisonSettings(),
        annotations=None,
        num_turns=1,
    )
    human = ScriptedHuman(message("What else?"), message("", comparison={"pick": "left"}), rating(4))
    world = make_world(options, [human])
    play(world)
    world.settle(collected=True)
    assert isinstance(world.bot, ComparedImageBots)
    for bot in world.bot.bots:
        assert len(bot._clone.shown) == 2, "both have seen the image first of all, and with the message"
        assert None not in bot._clone.shown
    saved = world.get_custom_task_data()
    assert saved["task_description"]["model_nickname"] == "x|y"
    assert len(saved["comparisons"]) == 1
    places = read_stack(tmp_path / "pairs")
    assert places is not None
    assert [place["x|y"] for place in places] == [["worker-7"], []]
    assert make_world(options, [ScriptedHuman()]).reservation.subject == 1, "no worker gets an image twice"
    with pytest.raises(NoReservationLeftError):
        make_world(options, [ScriptedHuman()])
    options.quota.close()
    study.images.close()


def test_two_chats_about_one_image_are_compared_by_the_rules_of_the_stack(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.quota.close()
    stack = ImageStack(2, ["x|y"], 1, tmp_path / "pairs", rng=1)
    models = [
        LoadedModel(name, LookingAgent(Opt({"image_mode": "raw", "dict_lower": False})), MODEL_FILE) for name in "xy"
    ]
    options = study.options(
        models=ModelPool(models, 1, 60),
        quota=ImageQuota(stack, 2),
        inputs={model.nickname: ImageInput(model, study.images) for model in models},
        comparison=ComparisonSettings(is_paired=True),
        annotations=None,
        num_turns=1,
    )
    done = {"chat_done": True}
    human = ScriptedHuman(
        message("What else?"), message("", **done), message("And here?"), message("", **done),
        message("", comparison=[{"pick": "left"}]),
    )  # fmt: skip
    world = make_world(options, [human])
    play(world)
    world.settle(collected=True)
    assert isinstance(world.bot, PairedImageBots)
    for bot in world.bot.bots:
        assert len(bot._clone.shown) == 2, "each has seen the image first of all, and with the message"
        assert None not in bot._clone.shown
    assert len(human.controls("start")) == 1, "the page gets the image once"
    saved = world.get_custom_task_data()
    assert [line["chat_idx"] for line in saved["dialog"]] == [0, 0, 0, 1, 1, 1]
    assert len(saved["comparisons"]) == 1
    places = read_stack(tmp_path / "pairs")
    assert places is not None
    assert [place["x|y"] for place in places] == [["worker-7"], []]
    options.quota.close()
    study.images.close()


def test_the_replies_of_image_chat_grow_too(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_back = GrowingReply.hold_back

    def hold_back_and_send(reply: GrowingReply, text: str) -> None:
        hold_back(reply, text)
        reply.send_part()

    monkeypatch.setattr(growing_reply.SENDER, "add", lambda reply: None)
    monkeypatch.setattr(GrowingReply, "hold_back", hold_back_and_send)
    world, human = whole_chat(study, delivery=ReplyDelivery(stream=True))
    said = [(at, line.text) for at, line in enumerate(world.dialog) if line.agent_idx == 1]
    assert [(part["utterance_idx"], part["text"]) for part in human.parts] == said
    assert {part["side"] for part in human.parts} == {None}
    assert "data:image" not in json.dumps(human.parts)


DESIGN = """
factors:
  prompt: {warm_level: Be very warm., cool_level: Be cool.}
  num_turns: {short_level: 1, long_level: 2}
within: [num_turns]
between: [prompt]
order: fixed
conversations_per_cell: 1
"""


def test_conditions_are_saved_with_the_image_and_no_page_is_told(study: Study, tmp_path: Path) -> None:
    study.stack.close()
    study.stack = ImageStack(2, [NICKNAME], 2, tmp_path / "stack of two", rng=1)
    study.quota.close()
    quota = ImageDesignQuota(study.stack, design_of(DESIGN), tmp_path / "allocation.jsonl", "t", model=NICKNAME)
    saved, told = [], ""
    for turns in (1, 2):
        ticked = [message("What else?", "bucket_0") for _ in range(turns)]
        human = ScriptedHuman(*ticked, rating(4, ticks="none_all_good"))
        world = make_world(study.options(quota=quota), [human])
        (first,) = world.bot._unseen
        assert (first["text"] in ("Be very warm.", "Be cool."), "image" in first) == (True, False)
        play(world)
        world.settle(collected=True)
        saved.append(world.get_custom_task_data())
        told += json.dumps(human.updates)

    assert [record["conditions"]["num_turns"] for record in saved] == ["short_level", "long_level"]
    assert [record["image_idx"] for record in saved] == [0, 1]
    assert not any(word in told for word in ("_level", "prompt", "condition", "Be very warm", "Be cool", NICKNAME))
    assert study.stack.in_flight() == []
    quota.close()


def test_a_world_that_cannot_be_made_gives_cell_and_image_back(study: Study, tmp_path: Path) -> None:
    quota = ImageDesignQuota(study.stack, design_of(DESIGN), tmp_path / "allocation.jsonl", "t", model=NICKNAME)
    with pytest.raises(KeyError):
        make_world(study.options(quota=quota, inputs={}), [ScriptedHuman()])
    assert study.stack.in_flight() == []
    assert sum(count.in_flight for count in quota.counts()) == 0


@pytest.mark.parametrize("method", ["per_turn", "paired"])
def test_both_models_of_a_pair_get_the_prompt_of_the_condition(study: Study, tmp_path: Path, method: str) -> None:
    pair = f"{NICKNAME}|{NICKNAME}"
    study.stack.close()
    stack = ImageStack(2, [pair], 2, tmp_path / "stack of pairs", rng=1)
    quota = ImageDesignQuota(stack, design_of(DESIGN), tmp_path / "allocation.jsonl", "t", model=pair)
    comparison = ComparisonSettings(is_paired=method == "paired")
    world = make_world(study.options(quota=quota, comparison=comparison), [ScriptedHuman()])
    assert isinstance(world.bot, ComparedImageBots | PairedImageBots)
    for bot in world.bot.bots:
        assert [(act["id"], act["text"] in ("Be very warm.", "Be cool."), "image" in act) for act in bot._unseen] == [
            ("system_prompt", True, False)
        ]
    quota.close()

"""Replies that grow on the page, and their pace, in whole conversations with a scripted worker."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar

import pytest
from parlai.core.opt import Opt

from model_chat.configuration import redaction
from model_chat.conversation import growing_reply
from model_chat.conversation.contexts import ContextSource
from model_chat.conversation.growing_reply import GrowingReply
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.quality.attention import AttentionConfig
from model_chat.records.schema import Completion
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.parlai_agents import RAISE, ScriptedAgent
from model_chat.tests.scripted_chats import WHOLE, Contexts, begin, chat
from model_chat.tests.scripted_human import MODEL_FILE, NICKNAME, ScriptedHuman, chat_options, message, play, rating
from model_chat.worlds import ModelChatWorld, make_world


class TellingModel(LoadedModel):
    """Tells each reply word by word before it gives it, and lets the test look meanwhile."""

    look: ClassVar[Any] = staticmethod(lambda text: None)

    def answer(self, batch: Any) -> Any:
        acts = super().answer(batch)
        for asked, act in zip(batch, acts, strict=True):
            words = act["text"].split(" ") if not isinstance(act, BaseException) else ["Half", "of"]
            for count in range(1, len(words) + 1):
                if asked.tell is not None:
                    asked.tell(" ".join(words[:count]))
                    self.look(words[count - 1])
        return acts


def telling(*script: str, monkeypatch: pytest.MonkeyPatch, human: ScriptedHuman, **changes: Any) -> ModelChatWorld:
    """A world whose model tells what it writes; a part is made of each word at once."""
    open_replies: list[GrowingReply] = []
    monkeypatch.setattr(growing_reply.SENDER, "add", open_replies.append)
    monkeypatch.setattr(TellingModel, "look", staticmethod(lambda word: open_replies[-1].send_part()))
    model = TellingModel(NICKNAME, ScriptedAgent(Opt({"script": list(script), "dict_lower": False})), MODEL_FILE)
    return make_world(chat_options(models=ModelPool([model], 1, 60), **changes), [human])


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held back because it could begin a secret that another test has told."""
    monkeypatch.setattr(redaction, "_known", redaction._Known())


def test_a_reply_grows_on_the_page_under_the_index_of_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    human = ScriptedHuman(*WHOLE)
    world = telling(
        "Hello.", "I like tea.", "Bye.", monkeypatch=monkeypatch, human=human, delivery=ReplyDelivery(stream=True)
    )
    play(world)
    grown = [(part["utterance_idx"], part["part"], part["text"]) for part in human.parts]
    assert grown == [(1, 1, "Hello."), (3, 1, "I"), (3, 2, "I like"), (3, 3, "I like tea."), (5, 1, "Bye.")]
    said = {update["task_data"]["utterance_idx"]: update["text"] for update in human.updates if update["text"]}
    assert said == {0: "Hi!", 1: "Hello.", 2: "One.", 3: "I like tea.", 4: "Two.", 5: "Bye."}
    assert "reply_part" not in json.dumps([human.updates, world.get_custom_task_data()])
    assert all(line.generation.paced is None for line in world.dialog if line.generation is not None)


def test_nobody_is_told_unless_replies_are_to_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    human = ScriptedHuman(*WHOLE)
    play(telling(monkeypatch=monkeypatch, human=human, delivery=ReplyDelivery(first_seconds=50.0)))
    assert human.parts == []


def test_a_model_that_fails_in_the_middle_leaves_its_parts_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    human = ScriptedHuman(message("One.", "bucket_0"))
    world = telling("Hello.", RAISE, monkeypatch=monkeypatch, human=human, delivery=ReplyDelivery(True, 50.0, 10.0))
    play(world)
    assert human.steps()[-2:] == ["One.", "model_failed"]
    assert len(human.waits) == 1, "a failure is not held back"
    assert [line.text for line in world.dialog] == ["Hi!", "Hello.", "One."]
    assert world.completion is Completion.INCOMPLETE


def test_every_reply_of_a_model_is_paced_and_says_whether_it_kept_the_pace() -> None:
    world, human = chat(*WHOLE, delivery=ReplyDelivery(first_seconds=50.0, chars_per_second=10.0))
    assert len(human.waits) == 3, "that to the greeting too, which was shown as said at once"
    assert [line.generation.paced for line in world.dialog if line.generation is not None] == [True] * 3
    saved = world.get_custom_task_data()["dialog"]
    assert [line["generation"]["paced"] for line in saved if line["agent_idx"] == 1] == [True] * 3
    assert "paced" not in json.dumps(human.updates), "the page learns nothing of how a reply was made"


def test_what_was_never_generated_and_attention_checks_are_not_paced() -> None:
    checks = [{"turn": 1, "text": "Please write 'yes'.", "expect": ["yes"]}]
    _, human = chat(
        message("One."),
        message("yes"),
        message("Two.", "bucket_1"),
        rating(4, ticks="none_all_good"),
        start_mode="blended_skill_talk",
        contexts=ContextSource(Contexts()),
        delivery=ReplyDelivery(first_seconds=50.0),
        attention=AttentionConfig.model_validate({"checks": checks}),
    )
    assert len(human.waits) == 2, "of two replies"


def test_without_a_pace_nothing_is_said_of_it() -> None:
    world, human = chat(*WHOLE)
    assert human.waits == []
    assert "paced" not in json.dumps(world.get_custom_task_data())


def test_the_pace_takes_nothing_from_the_workers_time() -> None:
    class Waiting(ScriptedHuman):
        def wait(self, until: float) -> None:
            time.sleep(0.05)
            super().wait(until)

    human = Waiting(*WHOLE)
    asked = time.monotonic()
    play(begin(human, delivery=ReplyDelivery(first_seconds=50.0)))
    assert len(human.deadlines) == 3
    assert human.deadlines[0] - asked >= 100 + 0.05, "the turn's seconds begin once the reply has been sent"

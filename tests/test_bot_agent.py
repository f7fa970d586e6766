"""The model's side: what reaches a real ParlAI agent, and how its text comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from parlai.core.opt import Opt

from model_chat.bot_agent import BotAgent
from model_chat.configuration.redaction import learn_secrets
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelFailureError, ModelPool
from model_chat.tests.parlai_agents import RAISE, ScriptedAgent


def bot_agent(*script: str, **opt: Any) -> BotAgent:
    model = LoadedModel("m", ScriptedAgent(Opt({"script": list(script), **opt})), "/models/m/model")
    return BotAgent(ModelPool([model], 1, 30), "m")


def test_what_is_observed_reaches_the_model_with_the_request_for_its_reply() -> None:
    bot = bot_agent()
    bot.observe_persona(["your persona: I like tea.", "your persona: I am old."])
    bot.observe({"id": "Speaker 1", "text": "Hello."})
    assert bot._clone.seen == []
    assert bot.act().text == "You said hello."
    assert bot._clone.seen == ["your persona: I like tea.\nyour persona: I am old.", "Hello."]
    bot.observe({"id": "Speaker 1", "text": "Again."})
    bot.act()
    assert bot._clone.seen[2:] == ["Again."], "nothing is observed twice"


def test_no_persona_is_no_observation() -> None:
    bot = bot_agent()
    bot.observe_persona([])
    bot.observe({"id": "Speaker 1", "text": "Hello."})
    bot.act()
    assert bot._clone.seen == ["Hello."]


def test_a_seed_reply_stands_in_the_models_history() -> None:
    bot = bot_agent()
    bot.observe({"id": "Speaker 1", "text": "What is tea?"})
    bot.has_said("A drink.")
    assert (bot._clone.seen, bot._clone.said) == (["What is tea?"], ["A drink."])
    bot.observe({"id": "Speaker 1", "text": "Really?"})
    bot.act()
    assert bot._clone.seen == ["What is tea?", "Really?"]


@pytest.mark.parametrize(
    ("opt", "text"),
    [
        ({}, "Well , I'm here . who are you ?"),
        ({"dict_lower": True}, "Well , I'm here . who are you ?"),
        ({"dict_lower": None}, "Well , I'm here . who are you ?"),
    ],
)
def test_replies_are_normalised(opt: dict[str, Any], text: str) -> None:
    assert bot_agent(text, **opt).act().text == "Well, I'm here. Who are you?"


def test_a_model_with_dict_lower_false_keeps_its_own_spelling() -> None:
    assert bot_agent("NASA , they say .", dict_lower=False).act().text == "NASA , they say ."


@pytest.mark.parametrize(
    "text", ["Well , I'm here . who are you ? i am fine .", "It 's 5 . o'clock , is n't it ?", "no"]
)
def test_what_is_shown_of_a_normalised_reply_while_it_grows_is_its_beginning(text: str) -> None:
    bot = bot_agent(text)
    bot.observe({"id": "Speaker 1", "text": "Hello."})
    whole = bot.act().text
    shown = [bot.so_far(text[:end]) for end in range(len(text) + 1)]
    assert all(whole.startswith(each) for each in shown)
    assert whole.startswith(shown[-1]) and len(whole) - len(shown[-1]) <= len(text.split()[-1]) + 1


def test_what_is_shown_while_a_reply_grows_holds_no_secret_and_no_half_character() -> None:
    learn_secrets({"api_key": "kq83-model-key"})
    bot = bot_agent(dict_lower=False)
    assert bot.so_far("The key is kq83-mod") == "The key is"
    assert bot.so_far("The key is kq83-model-key.") == "The key is [secret]."
    assert bot.so_far(" Tea \ufffd") == "Tea"


def test_failures_are_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFailureError, match="m raised RuntimeError"):
        bot_agent(RAISE).act()
    bot = bot_agent()

    def self_observe(text: Any) -> None:
        raise ValueError("no history")

    monkeypatch.setattr(bot._clone, "self_observe", self_observe)
    with pytest.raises(ModelFailureError, match="on a seed utterance"):
        bot.has_said("A drink.")


def test_two_conversations_have_two_histories() -> None:
    pool = ModelPool([LoadedModel("m", ScriptedAgent(Opt()), None)], 1, 30)
    first, second = BotAgent(pool, "m"), BotAgent(pool, "m")
    first.observe({"id": "Speaker 1", "text": "Secret."})
    second.observe({"id": "Speaker 1", "text": "Hello."})
    assert [first.act().text, second.act().text] == ["You said secret.", "You said hello."]
    assert second._clone.seen == ["Hello."]


def test_the_opt_is_exported_without_secrets() -> None:
    bot = bot_agent(api_key="sk-1", override={"auth_token": "sk-2", "beam_size": 3})
    assert bot.model_file == "/models/m/model"
    assert bot.exported_opt["override"] == {"beam_size": 3}
    assert "sk-" not in json.dumps(bot.exported_opt)


def test_the_opt_is_exported_once_for_all_conversations_of_a_model() -> None:
    pool = ModelPool(
        [LoadedModel("a", ScriptedAgent(Opt(x=1)), None), LoadedModel("b", ScriptedAgent(Opt(x=2)), None)], 1, 30
    )
    first, second, other = BotAgent(pool, "a"), BotAgent(pool, "a"), BotAgent(pool, "b")
    assert first.exported_opt is second.exported_opt
    assert (first.exported_opt["x"], other.exported_opt["x"]) == (1, 2)

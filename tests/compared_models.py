"""Conversations with two models between which the worker chooses."""

from __future__ import annotations

from typing import Any

from parlai.core.message import Message
from parlai.core.opt import Opt

from model_chat.configuration.comparison import ComparisonSettings
from model_chat.conversation.quota import ConversationQuota
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.parlai_agents import NO_TEXT, RAISE, ScriptedAgent
from model_chat.tests.scripted_human import SHORT_CHAT, ScriptedHuman, message, play, rating
from model_chat.worlds import ChatOptions, make_world


class NamedAgent(ScriptedAgent):
    """Says what it is called and what it remembers; each reply costs what its opt says."""

    def act(self) -> Any:
        line = self.script.pop(0) if self.script else ""
        if line in (RAISE, NO_TEXT):
            self.script.insert(0, line)
            return super().act()
        text = f"{self.opt['name']}{len(self.seen)}"
        self.self_observe({"text": text})
        return Message({"id": "x", "text": text, "generation": {"cost_usd": self.opt.get("cost", 0.0)}})


class SeedContexts:
    """A ParlAI ``ContextGenerator`` of one context, with an opening of two lines."""

    def get_context(self) -> dict[str, Any]:
        return {
            "context_dataset": "x",
            "persona_1_strings": ["I am the human."],
            "persona_2_strings": ["I am the model."],
            "person1_seed_utterance": "What is tea?",
            "person2_seed_utterance": "A drink.",
            "additional_context": None,
        }


def options(models: dict[str, Any], pair: str = "a|b", **changes: Any) -> ChatOptions:
    settings = changes.pop("comparison", {})
    loaded = []
    for name, opt in models.items():
        kind = opt.pop("kind", NamedAgent)
        loaded.append(LoadedModel(name, kind(Opt({"name": name, "dict_lower": False, **opt})), f"/models/{name}"))
    chat: dict[str, Any] = {
        **SHORT_CHAT,
        "annotations": None,
        "models": ModelPool(loaded, 2, 60),
        "quota": ConversationQuota({pair: 1}),
        "comparison": ComparisonSettings(**settings),
    }
    return ChatOptions(**{**chat, **changes})


def pick(side: str, **more: Any) -> Any:
    return message("", comparison={"pick": side, **more})


def talk(*sent: Any, a: dict[str, Any] | None = None, b: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Hold a conversation between models ``a`` and ``b`` to its end."""
    human = ScriptedHuman(*sent)
    world = make_world(options({"a": a or {}, "b": b or {}}, **changes), [human])
    play(world)
    return world, human


TWO_TURNS = (message("One."), pick("left"), message("Two."), pick("right"), rating(4))

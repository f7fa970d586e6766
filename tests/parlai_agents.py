"""Small ParlAI agents for tests, named as ``model_chat.tests.parlai_agents:<Class>`` in a ``model.opt``."""

from __future__ import annotations

import threading
from typing import Any

from parlai.core.agents import Agent
from parlai.core.message import Message

RAISE = "!raise"
NO_TEXT = "!no text"


class ScriptedAgent(Agent):
    """Says one entry of its opt's ``script`` after another (``RAISE`` raises, ``NO_TEXT`` says nothing), then echoes.

    Clones have their own history: ``seen`` (what was observed) and ``said`` (what it was told it had said).
    """

    def __init__(self, opt: Any, shared: Any = None) -> None:
        super().__init__(opt, shared)
        self.id = "ScriptedAgent"
        self.script = list(opt.get("script") or [])
        self.seen: list[str] = []
        self.said: list[str] = []
        self.weights = shared["weights"] if shared else object()

    def share(self) -> Any:
        return {**super().share(), "weights": self.weights}

    def observe(self, observation: Any) -> Any:
        self.seen.append(observation["text"])
        return super().observe(observation)

    def self_observe(self, self_message: Any) -> None:
        self.said.append(self_message["text"])

    def act(self) -> Any:
        line = self.script.pop(0) if self.script else f"you said {self.seen[-1]}"
        if line == RAISE:
            raise RuntimeError("the weights are gone")
        if line == NO_TEXT:
            return Message({"id": self.id, "episode_done": False})
        return Message({"id": self.id, "text": line, "episode_done": False})


class Gate:
    """What a :class:`GatedAgent` waits at, and how many do. ``_lock`` guards the counts."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def pass_through(self) -> None:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        self.entered.release()
        self.open.wait(60)
        with self._lock:
            self._now -= 1


GATES: dict[str, Gate] = {}
"""By the name that an opt holds: ParlAI copies opts, and a gate can't be copied."""


class GatedAgent(ScriptedAgent):
    """Replies only once the gate that its opt names is open."""

    def act(self) -> Any:
        GATES[self.opt["gate"]].pass_through()
        return super().act()


class HungryAgent(ScriptedAgent):
    """An agent with a flag of its own, as users write them."""

    @classmethod
    def add_cmdline_args(cls, parser: Any, partial_opt: Any = None) -> Any:
        parser.add_argument_group("Hungry").add_argument("--dish", type=str, default="soup")
        return parser

    def act(self) -> Any:
        return Message({"id": self.id, "text": f"I eat {self.opt['dish']}.", "episode_done": False})


class BrokenAgent(Agent):
    """An agent that can't be made."""

    def __init__(self, opt: Any, shared: Any = None) -> None:
        raise ValueError("the weights\nare of the wrong shape")

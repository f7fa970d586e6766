"""Small ParlAI agents for tests, named as ``model_chat.tests.parlai_agents:<Class>`` in a ``model.opt``."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from parlai.core.agents import Agent
from parlai.core.message import Message

RAISE = "!raise"
NO_TEXT = "!no text"


class ScriptedAgent(Agent):
    """Says one entry of its opt's ``script`` after another (``RAISE`` raises, ``NO_TEXT`` gives no text), then echoes.

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


class ShortSightedAgent(ScriptedAgent):
    """Takes messages of ten characters at most, and breaks on a longer one; asked about "?!" it breaks as well."""

    def takes_text(self, text: str) -> bool:
        if text == "?!":
            raise RuntimeError("what is that?")
        return len(text) <= 10

    def act(self) -> Any:
        if len(self.seen[-1]) > 10:
            raise RuntimeError("too long for me")
        return super().act()


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


class WitnessAgent(ScriptedAgent):
    """Tells which process it is in and all that it has been told; for models that run in processes of their own.

    ``!wait FILE``: makes the file, and replies once it is gone. ``!die``: ends its process.
    """

    batched_serving = True

    def observe(self, observation: Any) -> Any:
        self.seen.append(observation["text"])
        self.observation = Message({**observation, "told": list(self.seen)})
        return self.observation

    def self_observe(self, self_message: Any) -> None:
        self.seen.append(f"I: {self_message['text'].partition(': ')[2]}")

    def batch_act(self, observations: Any) -> list[Any]:
        return [self._reply(observation) for observation in observations]

    def _reply(self, observation: Any) -> Any:
        command, _, argument = observation["text"].partition(" ")
        if command == "!die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "!wait":
            file = Path(argument)
            file.write_text(str(os.getpid()), encoding="utf-8")
            while file.exists():
                time.sleep(0.01)
        elif command == RAISE:
            raise RuntimeError("the weights are gone")
        text = f"{os.getpid()}: {len(observation['told'])} {' | '.join(observation['told'])[-300:]}"
        return Message({"id": self.id, "text": text, "episode_done": False, "odd": object()})

    def act(self) -> Any:
        reply = self.batch_act([self.observation])[0]
        self.self_observe(reply)
        return reply


class CountingAgent(ScriptedAgent):
    """Keeps something that no history tells: how often it has acted. Not to be batched."""

    def act(self) -> Any:
        self.acts = getattr(self, "acts", 0) + 1
        return Message({"id": self.id, "text": f"{os.getpid()}: {self.acts}", "episode_done": False})


class GatedWitnessAgent(WitnessAgent):
    """A witness that replies only once the gate that its opt names is open."""

    def batch_act(self, observations: Any) -> list[Any]:
        GATES[self.opt["gate"]].pass_through()
        return super().batch_act(observations)

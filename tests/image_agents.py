"""Small ParlAI agents for tests of image chat, named as ``model_chat.tests.image_agents:<Class>`` in a ``model.opt``."""

from __future__ import annotations

from typing import Any

from parlai.core.agents import Agent
from parlai.core.message import Message


class LookingAgent(Agent):
    """Says of the picture that it sees how large it is and what its middle looks like, and what it has just been told.

    ``shown`` is every image that it was shown.
    """

    def __init__(self, opt: Any, shared: Any = None) -> None:
        super().__init__(opt, shared)
        self.id = "LookingAgent"
        self.name = opt.get("says", "")
        self.shown: list[Any] = []

    def observe(self, observation: Any) -> Any:
        self.shown.append(observation.get("image"))
        return super().observe(observation)

    def act(self) -> Any:
        image = self.observation["image"]
        red, green, blue = image.getpixel((image.width // 2, image.height // 2))
        said = self.observation["text"] or "nothing"
        text = f"{self.name}{image.width} by {image.height}, {red} {green} {blue}; you said {said}."
        return Message({"id": self.id, "text": text, "episode_done": False})


class ChoosingAgent(LookingAgent):
    """Chooses among the candidates of each message, as retrieval models with ``--eval-candidates inline`` do.

    ``observed`` is every message, as it was when it came.
    """

    def __init__(self, opt: Any, shared: Any = None) -> None:
        super().__init__(opt, shared)
        self.observed: list[dict[str, Any]] = []

    def observe(self, observation: Any) -> Any:
        self.observed.append(dict(observation))
        return super().observe(observation)

    def act(self) -> Any:
        self.observation["image"].getpixel((0, 0))
        turn = len(self.observed) - 1
        return Message({"id": self.id, "text": self.observation["label_candidates"][turn], "episode_done": False})


class SendsAwayAgent(Agent):
    """Looks in a way that can't be observed, and declares it."""

    takes_images = True

    def act(self) -> Any:
        return Message({"id": "SendsAwayAgent", "text": "A nice picture.", "episode_done": False})


class FeaturesAgent(Agent):
    """Calculates with features."""

    def act(self) -> Any:
        total = float(self.observation["image"].sum())
        return Message({"id": "FeaturesAgent", "text": f"They sum up to {total:.1f}.", "episode_done": False})


class SilentAgent(LookingAgent):
    """Has nothing to say when nothing was said."""

    def act(self) -> Any:
        act = super().act()
        if not self.observation["text"]:
            act.force_set("text", "")
        return act


class BlindAgent(Agent):
    """A text model: passes over images."""

    def act(self) -> Any:
        return Message({"id": "BlindAgent", "text": "How are you?", "episode_done": False})

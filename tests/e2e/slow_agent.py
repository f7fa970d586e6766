"""A model that takes its time."""

from __future__ import annotations

import time
from typing import Any

from parlai.core.agents import Agent
from parlai.core.message import Message


class SlowAgent(Agent):
    """Replies after as many ``seconds`` as its opt says."""

    def __init__(self, opt: Any, shared: Any = None) -> None:
        super().__init__(opt, shared)
        self.id = "slow"

    def act(self) -> Any:
        time.sleep(self.opt["seconds"])
        return Message({"id": self.id, "text": "At last.", "episode_done": False})

"""A ParlAI agent whose every reply takes as long as its opt says, for benchmarks: ``{"reply_seconds": 2.0}``."""

from __future__ import annotations

import time
from typing import Any

from parlai.core.agents import Agent


class TimedAgent(Agent):
    """Sleeps, as a model does that another machine computes, and answers."""

    def act(self) -> dict[str, Any]:
        """Return a reply after ``reply_seconds``."""
        time.sleep(float(self.opt["reply_seconds"]))
        return {"id": "TimedAgent", "text": "That is what I think, too.", "episode_done": False}

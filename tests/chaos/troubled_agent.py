"""A ParlAI agent in trouble: its second reply, and every fifth after it, fails in the way that its opt names."""

from __future__ import annotations

import itertools
import time
from typing import Any

from parlai.core.agents import Agent

_replies = itertools.count(1)
_real_time = time.time


class TroubledAgent(Agent):
    """Modes: ``raise``, ``nothing``, ``hang``, ``memory``, and ``clock``, which sets the process's clock back an hour."""

    def act(self) -> dict[str, Any]:
        number = next(_replies)
        if number % 5 == 2:
            mode = self.opt["trouble"]
            if mode == "raise":
                raise RuntimeError("broken on purpose")
            if mode == "nothing":
                return {"id": "agent"}
            if mode == "hang":
                time.sleep(3600)
            if mode == "memory":
                raise MemoryError
            if mode == "clock":
                time.time = lambda: _real_time() - 3600
        return {"id": "agent", "text": f"Reply number {number}."}

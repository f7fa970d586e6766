"""A ParlAI agent that breaks down once, in its second reply, and works ever after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parlai.core.agents import Agent


class FailsOnceAgent(Agent):
    """Counts its replies; the marker file says that it has failed already."""

    def __init__(self, opt: dict[str, Any], shared: Any = None) -> None:
        super().__init__(opt, shared)
        self._replies = 0

    def act(self) -> dict[str, Any]:
        self._replies += 1
        marker = Path(self.opt["marker"])
        if self._replies == 2 and not marker.exists():
            marker.touch()
            raise RuntimeError("broken on purpose")
        return {"id": "agent", "text": f"Reply number {self._replies}."}

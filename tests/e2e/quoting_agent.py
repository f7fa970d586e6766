"""A ParlAI agent as of a hosted model that is careless with its key: it quotes it in replies and in errors."""

from __future__ import annotations

from typing import Any

from parlai.core.agents import Agent


class QuotingAgent(Agent):
    """Breaks down in its third reply if the worker has asked for it."""

    def __init__(self, opt: dict[str, Any], shared: Any = None) -> None:
        super().__init__(opt, shared)
        self._replies = 0

    def act(self) -> dict[str, Any]:
        self._replies += 1
        if self._replies == 3:
            raise RuntimeError(f"401: incorrect API key provided: {self.opt['api_key']}, see {self.opt['endpoint']}")
        return {"id": "agent", "text": f"Reply {self._replies}. My key is {self.opt['api_key']}."}

"""An answer that goes on: server-sent events, counted from when they are granted until nobody reads them any more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """Server-sent events.

    Args:
        ended: is called once when nobody reads them any more, even if nobody ever did.
    """

    def __init__(self, events: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, 200, headers, "text/event-stream")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, and say when that is over."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()

"""Simulated workers who don't give up: they do what the page does when the connection or the server is gone for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, WebSocketException

from model_chat.scripts.simulate_workers import Behaviour, Outcome, SimulatedWorker

RETRY_SECONDS = 0.3
_FAILURES = (httpx.HTTPError, OSError, WebSocketException, RuntimeError, KeyError, TimeoutError)


class StubbornWorker(SimulatedWorker):
    """Connects again, catches up, and sends again what has not come back; notes what it was told had arrived."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.acknowledged: dict[str, str] = {}
        self._pending: tuple[str, dict[str, Any], Any] | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._has_left = False

    async def send_update(self, task_data: dict[str, Any], text: Any = "", message_id: str | None = None) -> str:
        if message_id is None:
            message_id = f"{self.worker}-{self.assignment}-{len(self._seen)}-{len(self.acknowledged)}"
        self._pending = (message_id, task_data, text)
        with contextlib.suppress(ConnectionClosed, RuntimeError):  # it is sent when the connection is back
            await super().send_update(task_data, text, message_id)
        return message_id

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path != "submit_task":
            return await super().post(path, body)
        self._has_left = True
        for _ in range(100):
            try:
                return await super().post(path, body)
            except httpx.HTTPError:
                await asyncio.sleep(RETRY_SECONDS)
        raise TimeoutError

    def _take(self, update: dict[str, Any]) -> None:
        data = update.get("task_data") or {}
        if self._pending is not None and (
            data.get("message_id") == self._pending[0] or data.get("control") in ("ended", "model_failed")
        ):
            self._pending = None
        if "message_id" in data and "control" not in data:
            self.acknowledged[data["message_id"]] = update["text"]
        super()._take(update)

    async def _listen(self) -> None:
        await super()._listen()
        if not self._has_left and (self._reconnecting is None or self._reconnecting.done()):
            self._reconnecting = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        while not self._has_left:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self.register()
                if self._pending is not None:
                    message_id, task_data, text = self._pending
                    await super().send_update(task_data, text, message_id)
                return
            except _FAILURES:
                continue

    async def end(self) -> None:
        """Leave for good."""
        self._has_left = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        await self.disconnect()


async def live(
    port: int, workers: int, behaviours: Sequence[Behaviour], prefix: str, trouble: Any = None
) -> tuple[list[Outcome], dict[str, str]]:
    """Let stubborn workers live through a task while trouble happens.

    Args:
        port: where their pages connect.
        workers: how many, one conversation each.
        behaviours: of worker ``i``: ``behaviours[i % len(behaviours)]``.
        prefix: of their names.
        trouble: a coroutine function, run beside them; when it returns True, the workers leave at once.

    Returns:
        what became of them, and the messages that they were told had arrived (id -> text).
    """
    async with httpx.AsyncClient(timeout=60) as http:
        everybody = [
            StubbornWorker(port, f"{prefix}{n}", f"{prefix}-{n}", behaviours[n % len(behaviours)], n, http)
            for n in range(workers)
        ]
        running = asyncio.gather(*(worker.run() for worker in everybody))
        if trouble is not None and await trouble():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        else:
            await running
        for worker in everybody:
            await worker.end()
        told: dict[str, str] = {}
        for worker in everybody:
            told |= worker.acknowledged
        return [worker.outcome for worker in everybody], json.loads(json.dumps(told))

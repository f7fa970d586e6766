"""An OpenAI-compatible endpoint on loopback that misbehaves as it is told, request by request, at the level of sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Behaviour = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request, and the connection to answer on."""

    headers: dict[str, str]
    body: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    keep: bool = False
    """Whether the connection stays open for the next request."""

    def send(self, content: bytes) -> None:
        self.writer.write(content)

    def head(self, status: int, kind: str, **headers: str) -> None:
        lines = [
            f"HTTP/1.1 {status} Whatever",
            f"Content-Type: {kind}",
            f"Connection: {'keep-alive' if self.keep else 'close'}",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def whole(self, status: int, content: object, kind: str = "application/json", **headers: str) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.head(status, kind, Content_Length=str(len(text.encode())), **headers)
        self.send(text.encode())

    def event(self, data: object) -> None:
        self.send(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())

    def delta(self, finish: str | None = None, model: str = "served-model", **delta: str) -> None:
        self.event({"model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


@dataclass
class EndpointServer:
    """Answers with the queued behaviours in order, then with :func:`reply` for ever."""

    url: str = ""
    queue: deque[Behaviour] = field(default_factory=deque)
    requests: list[Exchange] = field(default_factory=list)
    default: Behaviour | None = None
    open_now: int = 0
    connections: int = 0
    open_at_most: int = 0
    closed_by_client: int = 0

    def then(self, *behaviours: Behaviour) -> EndpointServer:
        self.queue.extend(behaviours)
        return self

    def wait_for_requests(self, number: int, seconds: float = 60) -> None:
        """Wait until so many requests have come."""
        end = time.monotonic() + seconds
        while len(self.requests) < number:
            assert time.monotonic() < end, f"{len(self.requests)} of {number} requests have come"
            time.sleep(0.02)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_now += 1
        self.connections += 1
        self.open_at_most = max(self.open_at_most, self.open_now)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed_by_client += 1
        finally:
            self.open_now -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection stays open for another."""
        begin = await reader.read(1)
        if not begin:
            return False
        if begin == b"\x16":  # TLS, which a server without it takes for a bad request
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return False
        head = begin + await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
        headers = {name.lower(): value for name, value in headers.items()}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        exchange = Exchange(headers, body, reader, writer)
        self.requests.append(exchange)
        behaviour = self.queue.popleft() if self.queue else self.default or reply()
        await behaviour(exchange)
        await writer.drain()
        return exchange.keep


def reply(
    text: str = "Hello there.", prompt: int = 10, completion: int = 5, model: str = "served-model", wait: float = 0
) -> Behaviour:
    """A good reply, streamed if asked for, else whole."""

    async def behave(exchange: Exchange) -> None:
        await asyncio.sleep(wait)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        if not exchange.body.get("stream"):
            message = {"role": "assistant", "content": text}
            exchange.whole(
                200, {"model": model, "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
            )
            return
        exchange.head(200, "text/event-stream; charset=utf-8")
        exchange.send(b": keep-alive\r\n\r\n")
        exchange.event({"model": model, "choices": []})
        for word in text.split(" "):
            exchange.delta(content=word + " ", model=model)
        exchange.delta("stop", model=model)
        if exchange.body.get("stream_options"):
            exchange.event({"model": model, "choices": [], "usage": usage})
        exchange.event("[DONE]")

    return behave


def status(code: int, content: object = None, kind: str = "application/json", **headers: str) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        exchange.whole(
            code, content if content is not None else {"error": {"message": f"said {code}"}}, kind, **headers
        )

    return behave


def events(*items: object, finish: bool = True) -> Behaviour:
    """Raw events; bytes are sent as they are."""

    async def behave(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        for item in items:
            if isinstance(item, bytes):
                exchange.send(item)
                await exchange.writer.drain()
            elif isinstance(item, float):
                await asyncio.sleep(item)
            else:
                exchange.event(item)
        if finish:
            exchange.event("[DONE]")

    return behave


def text_event(text: str, finish: str | None = None, **more: object) -> dict[str, Any]:
    return {"model": "served-model", "choices": [{"delta": {"content": text, **more}, "finish_reason": finish}]}


async def kept_open(exchange: Exchange) -> None:
    """A good reply, streamed, on a connection that stays open for the next."""
    exchange.keep = True
    body = f"data: {json.dumps(text_event('Hello there.', 'stop'))}\n\ndata: [DONE]\n\n"
    exchange.head(200, "text/event-stream", Content_Length=str(len(body)))
    exchange.send(body.encode())


async def hang_up(exchange: Exchange) -> None:
    """Close without an answer."""
    exchange.writer.transport.abort()


async def endless(exchange: Exchange) -> None:
    """Stream for ever."""
    exchange.head(200, "text/event-stream")
    while True:
        exchange.delta(content="and on ")
        await exchange.writer.drain()
        await asyncio.sleep(0.001)


async def silent(exchange: Exchange) -> None:
    """Take the request and never answer; ends when the client goes."""
    await exchange.reader.read()


@contextmanager
def serving(certificate: tuple[Path, Path] | None = None) -> Iterator[EndpointServer]:
    """Run the server in a thread, over TLS with a certificate and its key; nothing is left when it ends."""
    loop, server = asyncio.new_event_loop(), EndpointServer()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(start(), loop).result()
    port = listening.sockets[0].getsockname()[1]
    server.url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}/v1"
    try:
        yield server
    finally:

        async def stop() -> None:
            listening.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

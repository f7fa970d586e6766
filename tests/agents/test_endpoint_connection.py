"""How the connections of endpoints' HTTP clients are read, plain, over TLS and through a proxy, on real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_chat.agents._endpoint_connection import EndpointConnection
from model_chat.agents._gathered_reads import GatheredReads
from model_chat.tests.agents.endpoint_models import make, say
from model_chat.tests.agents.test_endpoint_faults import self_signed
from model_chat.tests.endpoint_server import EndpointServer

TOKENS = [f"data: {number}\n\n".encode() for number in range(40)]


class TokenServer:
    """Answers each request with tokens, each a chunk and, over TLS, a record, when it is told that the head has come."""

    def __init__(self) -> None:
        self.connections = 0
        self.closed = asyncio.Event()
        self.head_has_come, self.all_is_sent = asyncio.Event(), asyncio.Event()
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                await self.head_has_come.wait()
                for token in TOKENS:
                    writer.write(b"%x\r\n%b\r\n" % (len(token), token))
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                self.all_is_sent.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def read(server: TokenServer, client: httpx.AsyncClient, connection: EndpointConnection, url: str) -> list[bytes]:
    """The pieces in which a response comes whose body has been sent before it is read."""
    server.head_has_come.clear()
    server.all_is_sent.clear()
    async with client.stream("GET", url, extensions={"trace": connection.trace}) as response:
        server.head_has_come.set()
        await server.all_is_sent.wait()
        return [piece async for piece in response.aiter_raw()]


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP proxy that knows CONNECT."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
        target.close()

    request = await reader.readuntil(b"\r\n\r\n")
    host, port = request.split()[1].decode().split(":")
    from_there, to_there = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
    await asyncio.gather(copy(reader, to_there), copy(from_there, writer))


@pytest.mark.parametrize("way", ["plain", "tls", "tls through a proxy"])
def test_tokens_that_came_together_are_read_together(way: str, tmp_path: Path) -> None:
    tls = trusting = None
    if way != "plain":
        certificate = self_signed(tmp_path)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
        trusting = ssl.create_default_context(cafile=str(certificate[0]))

    async def work() -> None:
        server, connection = TokenServer(), EndpointConnection(GatheredReads())
        async with listening(server, tls) as port, listening(tunnel) as proxy:
            url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/"
            client = httpx.AsyncClient(
                trust_env=False,
                verify=trusting or False,
                proxy=f"http://127.0.0.1:{proxy}" if "proxy" in way else None,
            )
            for _ in range(2):
                pieces = await read(server, client, connection, url)
                assert b"".join(pieces) == b"".join(TOKENS)
                assert len(pieces) < len(TOKENS) / 4
            assert server.connections == 1, "it is kept for the next request"
            await client.aclose()
            await asyncio.wait_for(server.closed.wait(), 60)
            assert connection._socket is None, "the duplicate is closed, too"

    asyncio.run(work())


def test_a_stream_that_is_gathered_waits_until_it_is_due() -> None:
    """And a response that is given up closes its connection, though the read waits."""

    class NeverDue(GatheredReads):
        async def until_due(self, stream: Any) -> None:
            asked.set()
            await asyncio.Event().wait()

    asked = asyncio.Event()

    async def work() -> None:
        server, connection = TokenServer(), EndpointConnection(NeverDue())
        async with listening(server) as port, httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{port}/"
            async with client.stream("GET", url, extensions={"trace": connection.trace}) as response:
                connection.gather(10)
                server.head_has_come.set()
                reading = asyncio.create_task(response.aread())
                await asyncio.wait_for(asked.wait(), 60)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            await asyncio.wait_for(server.closed.wait(), 60)

    asyncio.run(work())


def test_replies_of_endpoints_are_gathered(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, every stream would be read token by token, which nothing else would show."""
    lengths: list[int] = []
    begin = GatheredReads.begin

    def noting(reads: GatheredReads, descriptor: int, event_bytes: int) -> Any:
        lengths.append(event_bytes)
        return begin(reads, descriptor, event_bytes)

    monkeypatch.setattr(GatheredReads, "begin", noting)
    assert say(make(server))["text"] == "Hello there."
    (length,) = lengths
    assert length > 0

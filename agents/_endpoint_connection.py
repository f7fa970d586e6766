"""The connection of an endpoint's HTTP client: what is streamed over it is read in few, larger pieces, and at little cost.

Reading through the event loop's transport and anyio costs more than all that is done with what is read.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from model_chat.agents._chunk_joining import ChunkJoiner

if TYPE_CHECKING:
    from model_chat.agents._gathered_reads import GatheredReads, StreamReads

MAX_RECORD_BYTES = 16_384


class Read(Protocol):
    """As :meth:`httpcore.AsyncNetworkStream.read`."""

    def __call__(self, max_bytes: int, timeout: float | None = None) -> Awaitable[bytes]:
        """Return what has come, b"" at the end alone; ``timeout`` in seconds."""


class EndpointConnection:
    """Reads for an HTTP client that has one connection at a time and one request at a time.

    Its :meth:`trace` is given to each request as httpx's extension of that name, which tells of the network streams that are
    opened; their method ``read`` is replaced. Were httpx not to tell, responses would be read as they come.

    Args:
        reads: of the event loop on which the client is used.
    """

    def __init__(self, reads: GatheredReads) -> None:
        self._reads = reads
        self._stream: Any = None
        self._is_new = False
        self._socket: socket.socket | None = None
        """From which the stream is read, where it is not encrypted: a duplicate, since the event loop refuses to wait for
        a socket that belongs to a transport. The transport itself never reads from it."""
        self._descriptor: int | None = None
        """Of the stream's own socket; asking anyio for it takes longer than a read."""
        self._joiner = ChunkJoiner()
        self._gathered: StreamReads | None = None

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of what httpx does; see https://www.python-httpx.org/advanced/extensions/#trace."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._close_socket()
            self._stream, self._is_new = info["return_value"], True
        elif event == "http11.send_request_headers.started":
            self._joiner = ChunkJoiner()
            if self._is_new:
                self._is_new = False
                self._take_over(self._stream)

    def _take_over(self, stream: Any) -> None:
        records, connection = stream.get_extra_info("ssl_object"), stream.get_extra_info("socket")
        self._descriptor = None if connection is None else connection.fileno()
        if records is not None:
            read: Read = partial(_read_records, records, stream.read)
        elif connection is not None:
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))
            self._socket.setblocking(False)
            read = partial(_receive, self._socket)
            stream.aclose = partial(self._close, stream.aclose)
        else:
            return
        stream.read = partial(self._read, read)

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _close(self, close: Any) -> None:
        self._close_socket()
        await close()

    def gather(self, event_bytes: int | None) -> None:
        """Read what comes now together with others' streams, given the length of its events, or at once (None)."""
        if event_bytes is None or self._descriptor is None:
            self._gathered = None
        else:
            self._gathered = self._reads.begin(self._descriptor, event_bytes)

    async def _read(self, read: Read, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._gathered is not None:
            await self._reads.until_due(self._gathered)
        while True:
            data = await read(max_bytes, timeout)
            passed_on = self._joiner.feed(data)
            if passed_on or not data:
                return passed_on


async def _receive(connection: socket.socket, max_bytes: int, timeout: float | None = None) -> bytes:
    import httpcore

    try:
        try:
            return connection.recv(max_bytes)
        except BlockingIOError:
            async with asyncio.timeout(timeout):
                return await asyncio.get_running_loop().sock_recv(connection, max_bytes)
    except TimeoutError as error:
        raise httpcore.ReadTimeout from error
    except OSError as error:
        raise httpcore.ReadError(str(error)) from error


async def _read_records(records: ssl.SSLObject, read: Read, max_bytes: int, timeout: float | None = None) -> bytes:
    """Read over TLS; a read of httpx brings one record at most, and a server sends each token as one."""
    pieces = [await read(max_bytes, timeout)]
    try:
        while pieces[-1]:
            pieces.append(records.read(MAX_RECORD_BYTES))
    except ssl.SSLError:  # mostly: nothing more is there. A fault comes again at the next read.
        pass
    return b"".join(pieces)

"""Joining the chunks of a response that have come together, before httpx reads them.

Servers of models send each token as a chunk of the chunked transfer coding (RFC 9112, section 7.1), and httpx and the
packages below it need several times as long for a chunk as for the token in it.
"""

from __future__ import annotations

import re
from enum import Enum, auto

MAX_HEAD_BYTES = 16_384
"""Of a longer head of a response, and of what follows it, nothing is looked at."""
_HEAD_END = re.compile(rb"\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)\d\d[ \r]")
_OK = re.compile(rb"HTTP/1\.1 200[ \r]")
_CODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n(?![ \t])", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_BEGINNING_OF_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,8}\r?")


class _State(Enum):
    HEAD = auto()
    CHUNKS = auto()
    AS_IT_IS = auto()
    """The rest of the response is passed on."""


class ChunkJoiner:
    """Rewrites the bytes of one response: whole chunks that follow each other become one.

    A reader of HTTP sees the same response, and the same fault at the same place of it; only the number of chunks differs.
    It is rewritten while it has the plainest form: status 200 of HTTP/1.1, chunked and nothing else, sizes without
    extensions. From where it has not, it is passed on as it is.
    """

    def __init__(self) -> None:
        self._state = _State.HEAD
        self._head = b""
        self._held = b""
        """The beginning of a chunk's size."""
        self._rest = 0
        """Bytes to come of a chunk whose beginning has been passed on, the line end behind it included."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they have come, b"" for their end; return those to be passed on, which may be none as yet."""
        if self._state is _State.HEAD and data:
            return self._read_head(data)
        if self._state is _State.CHUNKS:
            return self._join(data)
        return data

    def _read_head(self, data: bytes) -> bytes:
        self._head += data
        while end := _HEAD_END.search(self._head):
            head, body = self._head[: end.end()], self._head[end.end() :]
            if not _INTERIM.match(head):
                self._head = b""
                if not _OK.match(head) or len(_CODING.findall(head)) != 1 or end[0] != b"\n\r\n":
                    break
                self._state = _State.CHUNKS
                return data[: len(data) - len(body)] + self._join(body)
            self._head = body
        else:
            if len(self._head) <= MAX_HEAD_BYTES:
                return data
        self._state = _State.AS_IT_IS
        return data

    def _join(self, data: bytes) -> bytes:
        if not data:
            data, self._held = self._held, b""
            return data
        data, self._held = self._held + data, b""
        start = at = min(self._rest, len(data))
        self._rest -= at
        contents = []
        while at < len(data):
            chunk = _CHUNK.match(data, at)
            size = 0 if chunk is None else int(chunk[1], 16)
            if chunk is None and _BEGINNING_OF_CHUNK.fullmatch(data, at):
                self._held, data = data[at:], data[:at]
            elif chunk is None or size == 0:  # the last chunk, or what is not understood
                self._state = _State.AS_IT_IS
            elif len(data) < chunk.end() + size + 2:
                self._rest = chunk.end() + size + 2 - len(data)
            elif data[chunk.end() + size : chunk.end() + size + 2] != b"\r\n":
                self._state = _State.AS_IT_IS
            else:
                contents.append(data[chunk.end() : chunk.end() + size])
                at = chunk.end() + size + 2
                continue
            break
        if len(contents) < 2:
            return data
        joined = b"".join(contents)
        return b"%b%x\r\n%b\r\n%b" % (data[:start], len(joined), joined, data[at:])

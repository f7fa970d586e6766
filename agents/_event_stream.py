"""Reading server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), their data alone."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator

from model_chat.errors import ModelChatError

MAX_EVENT_BYTES = 1 << 20
MAX_PIECE_BYTES = 4 << 20
"""Of what one read brings. Only a compressed stream can bring more; to look through it would hold up all other replies."""


class EventTooLargeError(ModelChatError, ValueError):
    """An event is longer than :data:`MAX_EVENT_BYTES`, or a piece of a stream than :data:`MAX_PIECE_BYTES`."""


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    r"""Yield the data of each event, decoded.

    Lines end with ``\n``, ``\r\n`` or ``\r`` alone; other characters that Python takes for line ends (U+2028) do not end
    one, so bytes are split, not text. A byte order mark before the first line is skipped. An event that the end of the
    stream cuts off is dropped, as the standard says, unless it is whole but for the empty line.

    Raises:
        EventTooLargeError: see there.
    """
    data: list[bytes] = []
    begins = True
    pieces: list[bytes] = []  # of a line that has not ended
    waiting, size = 0, 0
    async for chunk in chunks:
        if len(chunk) > MAX_PIECE_BYTES:
            raise EventTooLargeError(f"A piece of the stream is unpacked to more than {MAX_PIECE_BYTES} bytes.")
        pieces.append(chunk)
        waiting += len(chunk)
        if b"\n" not in chunk and b"\r" not in chunk and not pieces[0].endswith(b"\r"):
            _check_size(waiting + size)
            continue
        buffered = b"".join(pieces)
        if begins:
            buffered = buffered.removeprefix(codecs.BOM_UTF8)
            begins = False
        # A lone \r may be the first half of \r\n.
        keep = buffered[-1:] if buffered.endswith(b"\r") else b""
        lines = (buffered[: len(buffered) - len(keep)]).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        pieces = [lines.pop() + keep]
        waiting = len(pieces[0])
        for line in lines:
            if not line:
                if data:
                    yield b"\n".join(data).decode("utf-8", errors="replace")
                data, size = [], 0
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                size += len(line)
                _check_size(size)
        _check_size(waiting + size)
    last = b"".join(pieces).strip(b"\r")
    if begins:
        last = last.removeprefix(codecs.BOM_UTF8)
    if last.startswith(b"data:"):
        data.append(last[5:].removeprefix(b" "))
    if data:
        yield b"\n".join(data).decode("utf-8", errors="replace")


def _check_size(size: int) -> None:
    if size > MAX_EVENT_BYTES:
        raise EventTooLargeError(f"An event is longer than {MAX_EVENT_BYTES} bytes.")

"""Server-sent events, whatever the pieces in which a stream comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.agents._event_stream import MAX_PIECE_BYTES, EventTooLargeError, event_data


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_are_read_whatever_the_line_ends_and_pieces(size: int) -> None:
    stream = (
        'data: {"a": "\u2028é"}\n\n: ping\r\n\r\ndata:two\r\ndata: lines\r\n\r\nevent: x\nid: 1\ndata: last'.encode()
    )

    async def pieces() -> Any:
        for at in range(0, len(stream), size):
            yield stream[at : at + size]

    async def read() -> list[str]:
        return [data async for data in event_data(pieces())]

    assert asyncio.run(read()) == ['{"a": "\u2028é"}', "two\nlines", "last"]


@pytest.mark.parametrize("size", [1, 2, 4, 1000])
@pytest.mark.parametrize("end", [b"\n\n", b""])
def test_a_byte_order_mark_does_not_hide_the_first_event(size: int, end: bytes) -> None:
    mark = b"\xef\xbb\xbf"
    stream = mark + b"data: " + mark + b"one" + end

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(stream), size):
            yield stream[at : at + size]

    async def read() -> list[str]:
        return [data async for data in event_data(pieces())]

    assert asyncio.run(read()) == ["\ufeffone"], "the mark within the data is part of it"


@given(
    st.lists(
        st.tuples(st.sampled_from([b"data: ", b"data:", b": ", b"event: ", b""]), st.sampled_from([b"x", b"", b"a:b"]))
    ),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1),
    st.lists(st.integers(1, 7), min_size=1),
)
def test_events_do_not_depend_on_where_a_stream_is_cut(
    lines: list[tuple[bytes, bytes]], ends: list[bytes], sizes: list[int]
) -> None:
    stream = b"".join(field + value + ends[at % len(ends)] for at, (field, value) in enumerate(lines))

    async def read(cut: list[int]) -> list[str]:
        async def pieces() -> Any:
            at, number = 0, 0
            while at < len(stream):
                size = cut[number % len(cut)]
                yield stream[at : at + size]
                at, number = at + size, number + 1

        return [data async for data in event_data(pieces())]

    assert asyncio.run(read(sizes)) == asyncio.run(read([max(1, len(stream))]))


def test_an_event_that_does_not_end_is_broken_off_and_many_small_ones_in_one_piece_are_not() -> None:
    async def read(*pieces: bytes) -> int:
        async def chunks() -> Any:
            for piece in pieces:
                yield piece

        return len([data async for data in event_data(chunks())])

    assert asyncio.run(read(b"data: x\n\n" * 200_000)) == 200_000
    for too_long in ([b"data: " + b"x" * 1000] * 2000, [b"data: " + b"x" * 1000 + b"\n"] * 2000):
        with pytest.raises(EventTooLargeError):
            asyncio.run(read(*too_long))


def test_a_piece_that_unpacks_to_millions_of_lines_is_not_looked_through() -> None:
    """All endpoints' replies are read in one thread."""

    async def read() -> None:
        async def chunks() -> Any:
            yield b"\n" * (MAX_PIECE_BYTES + 1)

        assert [data async for data in event_data(chunks())] == []

    with pytest.raises(EventTooLargeError, match="A piece of the stream"):
        asyncio.run(read())

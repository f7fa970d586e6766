"""Joining chunks: whatever comes, h11, which httpx reads with, finds the same response in what is passed on."""

from __future__ import annotations

import random

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.agents._chunk_joining import MAX_HEAD_BYTES, ChunkJoiner

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def seen_by_h11(pieces: list[bytes]) -> tuple[list[object], int]:
    """What a client sees of a response that comes in pieces, b"" for its end, and in how many pieces it gets the body."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    found: list[object] = []
    body, parts = b"", 0
    try:
        for piece in pieces:
            client.receive_data(piece)
            while (event := client.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Data):
                    body += event.data
                    parts += 1
                    continue
                found.append((type(event), list(getattr(event, "headers", [])), getattr(event, "status_code", None)))
                if isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                    return [*found, body], parts
    except h11.RemoteProtocolError as error:
        found.append(str(error))
    return [*found, body], parts


def joined(pieces: list[bytes]) -> list[bytes]:
    """As the connection passes them on: an empty piece would be taken for the end."""
    joiner = ChunkJoiner()
    passed_on: list[bytes] = []
    for piece in pieces:
        out = joiner.feed(piece)
        if piece == b"" and out:
            passed_on += [out, joiner.feed(b"")]
        elif out or piece == b"":
            passed_on.append(out)
    return passed_on


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    while at < len(stream):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(stream[at : at + size])
        at += size
    return pieces


def test_chunks_that_come_together_are_passed_on_as_one() -> None:
    tokens = [f"data: {number}\n\n".encode() for number in range(30)]
    pieces = [HEAD + chunk(tokens[0]), b"".join(map(chunk, tokens[1:])), b"0\r\n\r\n"]
    whole, parts = seen_by_h11(joined(pieces))
    assert whole == seen_by_h11(pieces)[0]
    assert b"".join(tokens) in whole
    assert parts == 2


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 40, 200])
@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"0\r\nX-Trailer: 1\r\n\r\n", b""], ids=["end", "trailer", "cut off"])
def test_a_response_is_the_same_wherever_it_is_cut(size: int, end: bytes) -> None:
    stream = HEAD + b"".join(chunk(b"x" * number) for number in (1, 15, 16, 17, 300, 2)) + end
    pieces = [*cut(stream, [size]), b""]
    assert seen_by_h11(joined(pieces))[0] == seen_by_h11(pieces)[0]


@pytest.mark.parametrize(
    "body",
    [
        b"5;name=value\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"1_0\r\n0123456789abcdef\r\n",
        b"-5\r\nhello\r\n",
        b"\r\n5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\r\n5\r\nhellO!\r\n0\r\n\r\n",
        b"5\r\nhello\r\n5\r\nhello\n\n0\r\n\r\n",
        b"000000005\r\nhello\r\n",
        b"00000000000000000000005\r\nhello\r\n",
        b"ffffffff\r\nhello",
        b"zz\r\n",
        b"5\rhello",
        b"",
    ],
)
def test_what_is_not_understood_is_refused_or_read_as_h11_does(body: bytes) -> None:
    for pieces in ([HEAD + body, b""], [HEAD, body], [HEAD, *cut(chunk(b"a") + chunk(b"b") + body, [1]), b""]):
        whole = [piece for number, piece in enumerate(pieces) if piece or number == len(pieces) - 1]
        assert seen_by_h11(joined(whole))[0] == seen_by_h11(whole)[0]


def test_a_fault_is_passed_on_as_soon_as_it_is_there() -> None:
    joiner = ChunkJoiner()
    joiner.feed(HEAD)
    assert joiner.feed(b"zz\r\n") == b"zz\r\n"


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"chunked", b"gzip, chunked"),
        HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 12"),
        HEAD.replace(b"Transfer-Encoding: chunked\r\n", b""),
        HEAD.replace(b"Transfer-Encoding: chunked", b"X: a\r\n Transfer-Encoding: chunked"),
        HEAD.replace(b"chunked", b"chunked\r\n , gzip"),
        HEAD.replace(b"chunked", b"chunked\r\nX: b\r\nTransfer-Encoding: chunked"),
        HEAD.replace(b"\r\n", b"\n"),
        HEAD.replace(b"Transfer", b"Content-Length: 3\r\nTransfer"),
        HEAD.replace(b"200", b"204"),
        HEAD.replace(b"200", b"304"),
        HEAD.replace(b"200", b"500"),
        HEAD.replace(b"1.1", b"1.0"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD,
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + HEAD,
        b"HTTP/1.1 101 Switching\r\n\r\n" + HEAD,
        b"\r\n" + HEAD,
        b"no HTTP\r\n\r\n" + HEAD,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD_BYTES + b"\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_of_any_head_the_response_is_the_same(head: bytes, size: int) -> None:
    size = max(size, len(head) // 100)
    pieces = [*cut(head + b"".join(map(chunk, (b"abc", b"de", b"f"))) + b"0\r\n\r\n", [size]), b""]
    assert seen_by_h11(joined(pieces))[0] == seen_by_h11(pieces)[0]


@given(st.integers(), st.lists(st.integers(1, 90), min_size=1, max_size=9), st.booleans())
def test_damaged_responses_are_the_same(seed: int, sizes: list[int], closed: bool) -> None:
    rng = random.Random(seed)
    stream = bytearray(HEAD)
    for _ in range(rng.randrange(8)):
        stream += chunk(rng.randbytes(rng.choice((1, 2, 15, 16, 17, 90))))
    stream += rng.choice((b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"", b"00\r\n\r\n", b"0;x\r\n\r\n"))
    for _ in range(rng.choice((0, 0, 1, 3))):
        at = rng.randrange(0 if rng.random() < 0.2 else len(HEAD) - 5, len(stream) + 1)
        stream[at : at + rng.randrange(3)] = rng.choice(
            (b"", b"\r", b"\n", b"\r\n", b"0", b"f", b" ", b";", b"\r\n\r\n")
        )
    pieces = [*cut(bytes(stream), sizes), *([b""] if closed else [])]
    assert seen_by_h11(joined(pieces))[0] == seen_by_h11(pieces)[0]

"""Replies a second from an endpoint that takes a second for each: the models of a run beside a bare asyncio client.

    python benchmarks/endpoints.py [--conversations 256] [--replies 4] [--seconds 1.0] [--rounds 3]

The endpoint runs in a process of its own and streams a short reply. All conversations ask at the same time, a thread each,
as in a run; the bare client sends the same requests with httpx from one event loop and reads the same bytes, with a client
for each conversation, since the work of httpx's pool grows with the cube of its connections (--one-pool). Both take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time

import httpx
from _process import served_endpoint
from parlai.core.message import Message

from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import load_model
from model_chat.serving.pool import ModelPool

WORDS = ["Hello", "there,", "how", "is", "your", "day", "going", "so", "far", "today?"]


async def serve(seconds: float) -> None:
    """Answer every request after so long; print the port, and end with the standard input."""
    parts = [{"model": "m", "choices": [{"delta": {"content": f"{word} "}, "finish_reason": None}]} for word in WORDS]
    body = "".join(f"data: {json.dumps(part)}\n\n" for part in parts)
    usage = {"prompt_tokens": 10, "completion_tokens": len(WORDS)}
    body += f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
    body += f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                await asyncio.sleep(seconds)
                writer.write(answer)
                await writer.drain()
        except (
            asyncio.IncompleteReadError,
            ConnectionError,
            asyncio.CancelledError,
        ):  # the last: the end of this server
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def with_pool(url: str, conversations: int, replies: int) -> float:
    """Return the seconds that the models of a run take."""
    settings = {"base_url": url, "endpoint_model": "x", "requests_at_once": conversations}
    pool = ModelPool([load_model(ModelSource("e", endpoint=settings), False)], 1, 120)

    ended: list[None] = []

    def chat() -> None:
        clone = pool.model("e").clone()
        for _ in range(replies):
            act = pool.reply("e", clone, [Message({"id": "Speaker 1", "text": "Hi!", "episode_done": False})])
            if act["text"].split() != WORDS:
                raise RuntimeError(f"another reply came: {act['text']}")
        ended.append(None)

    threads = [threading.Thread(target=chat) for _ in range(conversations)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    if len(ended) != conversations:
        raise RuntimeError("not every conversation came to its end")
    pool.shutdown()
    return took


async def bare(url: str, conversations: int, replies: int, one_pool: bool = False) -> float:
    """Return the seconds that httpx alone takes."""
    unused = httpx.create_ssl_context()  # 20 ms each time, if every client made its own
    shared = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=120, trust_env=False, verify=unused)

    async def chat() -> None:
        client = shared if one_pool else httpx.AsyncClient(timeout=120, trust_env=False, verify=unused)
        messages: list[dict[str, str]] = []
        for _ in range(replies):
            messages.append({"role": "user", "content": "Hi!"})
            body = {"model": "x", "messages": messages, "stream": True}
            async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
                text = ""
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        for choice in json.loads(line[6:])["choices"]:
                            text += choice["delta"].get("content", "")
            messages.append({"role": "assistant", "content": text})
        if not one_pool:
            await client.aclose()

    started = time.monotonic()
    await asyncio.gather(*(chat() for _ in range(conversations)))
    took = time.monotonic() - started
    await shared.aclose()
    return took


def main() -> None:
    """Print a line for each round, and the ratio of the best ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--conversations", type=int, default=256)
    parser.add_argument("--replies", type=int, default=4, help="in each conversation")
    parser.add_argument("--seconds", type=float, default=1.0, help="that the endpoint takes for a reply")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one-pool", action="store_true", help="the bare client has one pool of connections for all")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.seconds))
        return
    with served_endpoint(__file__, "--seconds", str(args.seconds)) as port:
        run(f"http://127.0.0.1:{port}/v1", args.conversations, args.replies, args.rounds, args.one_pool)


def run(url: str, conversations: int, replies: int, rounds: int, one_pool: bool) -> None:
    """Measure both by turns."""
    count = conversations * replies
    with_pool(url, min(8, conversations), 1)  # what is imported and made once
    best = {"pool": 0.0, "bare client": 0.0}
    for number in range(rounds):
        for name, took in (
            ("pool", with_pool(url, conversations, replies)),
            ("bare client", asyncio.run(bare(url, conversations, replies, one_pool))),
        ):
            best[name] = max(best[name], count / took)
            print(
                f"round {number + 1}, {name}: {count} replies in {took:.2f} s, {count / took:.1f} replies/s", flush=True
            )
    print(f"{conversations} conversations: {best['pool'] / best['bare client']:.3f} of the bare client's replies/s")


if __name__ == "__main__":
    main()

"""Replies that grow on the page: how late parts and messages come, what that costs, and what other workers notice of it.

    python benchmarks/streaming.py [--streams 64] [--others 16] [--tokens 150] [--rate 30] [--turns 4] [--json FILE]

A run (node router, SQLite, annotation off) with a model behind an endpoint, which runs in a process of its own and sends
each reply at a rate of tokens a second, and with one that answers at once. All workers come at the same moment over the real
wire, from a process of their own; those with the endpoint's model hardly think, so that about as many replies are being
streamed all the time; the tokens a second that the endpoint sent while the cores were measured show it. The first and the
last token of a reply say when they were sent. The cores are those of run.py and its router. It is run twice, with
`stream_replies` and without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from _figures import add_json_flag, print_table, write_json
from _process import processor_seconds, served_endpoint
from many_workers import Task, _warm_up

from model_chat.scripts.simulate_workers import Behaviour, SimulatedWorker, quantile

FIRST, LAST = re.compile(r"first:(\d+\.\d+)"), re.compile(r"last:(\d+\.\d+)")
SETTLING_SECONDS = 1.0
THINKS, OTHERS_THINK = 0.2, 3.0
"""Mean seconds before a message: of those with the endpoint's model, and of the others."""
B = "mephisto.blueprint"


async def serve(tokens: int, rate: float) -> None:
    """Stream replies at a rate of tokens a second; print the address, and end with the standard input.

    As servers of models do: each event is a chunk, and connections stay open for the next request.
    """

    def chunk(data: str) -> bytes:
        event = f"data: {data}\n\n".encode()
        return b"%x\r\n%s\r\n" % (len(event), event)

    def event(**content: Any) -> bytes:
        return chunk(json.dumps(content))

    sent = 0

    async def reply(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        started = time.monotonic()
        for number in range(tokens):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            word = f"word{number} "
            if number in (0, tokens - 1):
                word = f"{'first' if number == 0 else 'last'}:{time.time():.6f} "
            writer.write(event(model="m", choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}]))
            sent += 1
            await writer.drain()
        writer.write(event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        writer.write(event(choices=[], usage={"prompt_tokens": 10, "completion_tokens": tokens}))
        writer.write(chunk("[DONE]") + b"0\r\n\r\n")
        await writer.drain()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"get "):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d" % (len(str(sent)), sent))
                    continue
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                await reply(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class TimedWorker(SimulatedWorker):
    """Takes note of when it hears what; ``begun`` is called with its first reply."""

    def __init__(self, *args: Any, begun: Any) -> None:
        super().__init__(*args)
        self._begun = begun
        self._growing: set[int] = set()
        self._is_with_endpoint: bool | None = None
        self.first_parts: list[float] = []
        self.wholes: list[float] = []
        self.parts = 0

    def _take(self, update: dict[str, Any]) -> None:
        now, data = time.time(), update.get("task_data") or {}
        if data.get("control") == "reply_part":
            self.parts += 1
            if data["utterance_idx"] not in self._growing and (found := FIRST.match(data["text"])):
                self._growing.add(data["utterance_idx"])
                self.first_parts.append(now - float(found[1]))
            self._know(True)
        elif data.get("agent_idx") == 1:
            if found := LAST.search(update["text"]):
                self.wholes.append(now - float(found[1]))
            self._know(bool(found))
        super()._take(update)

    def _know(self, is_with_endpoint: bool) -> None:
        if self._is_with_endpoint is None:
            self._is_with_endpoint = is_with_endpoint
            self._begun()

    async def _think(self) -> bool:
        return await self._pause(self._rng.expovariate(1 / (THINKS if self._is_with_endpoint else OTHERS_THINK)))

    def heard(self) -> dict[str, Any]:
        """What is to be known of this worker."""
        return {
            "result": self.outcome.result,
            "with_endpoint": self._is_with_endpoint,
            "turns": self.outcome.turns,
            "first_parts": self.first_parts,
            "wholes": self.wholes,
            "parts": self.parts,
        }


def simulate(port: int, workers: int, begun: Any, results: Any) -> None:
    """Hold a conversation with each worker; in a process of its own."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    results.put(asyncio.run(_everybody(port, workers, begun)))


async def _everybody(port: int, workers: int, begun: Any) -> list[dict[str, Any]]:
    await _warm_up(port)
    waiting = set(range(workers))

    def note(number: int) -> None:
        waiting.discard(number)
        if not waiting:
            begun.set()

    async def one(number: int) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as http:
            worker = TimedWorker(
                port, f"w{number}", "1", Behaviour(step_timeout=300), number, http, begun=lambda: note(number)
            )
            await worker.run()
            return worker.heard()

    return await asyncio.gather(*(one(number) for number in range(workers)))


def all_processor_seconds(pid: int) -> float:
    """Return what a process and its children, whichever of its threads started them, have used."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [child for each in lists for child in each.read_text(encoding="ascii").split()]
    return processor_seconds(pid) + sum(all_processor_seconds(int(child)) for child in children)


def use(pid: int, url: str, seconds: float) -> dict[str, float]:
    """Return how many cores a run uses for so long, and how many tokens the endpoint sends; NaN where it ends before."""
    try:
        sent, before, since = int(httpx.get(url, trust_env=False).text), all_processor_seconds(pid), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - since
        cores = (all_processor_seconds(pid) - before) / took
        return {"cores": cores, "tokens_per_s": (int(httpx.get(url, trust_env=False).text) - sent) / took}
    except OSError:
        return {"cores": float("nan"), "tokens_per_s": float("nan")}


def measure(url: str, streams: int, others: int, turns: int, seconds: float, stream: bool) -> dict[str, Any]:
    """Run it once; return the figures."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        models = Path(temporary) / "models.yaml"
        settings = {"base_url": url, "endpoint_model": "m", "requests_at_once": streams, "whole_sentences": False}
        models.write_text(json.dumps({"e": settings}), encoding="utf-8")
        flags = [
            f'{B}.conversations_needed_string="e:{streams},fixed:{others}"',
            f"{B}.model_opt_path={models}",
            f"{B}.annotations_config_path=''",
            f"{B}.onboarding_qualification=null",
            f"{B}.stream_replies={str(stream).lower()}",
        ]
        with Task(Path(temporary), streams + others, turns, flags) as task:
            begun, results = context.Event(), context.Queue()
            process = context.Process(target=simulate, args=(task.port, streams + others, begun, results))
            process.start()
            if not begun.wait(120):
                raise RuntimeError("not everybody has got a reply")
            time.sleep(SETTLING_SECONDS)
            used = use(task.process.pid, url, seconds)
            heard = results.get(timeout=600)
            process.join()
    return figures(heard, stream) | used


def figures(heard: list[dict[str, Any]], stream: bool) -> dict[str, Any]:
    """Summarise what the workers heard."""
    wrong = [each["result"] for each in heard if each["result"] != "complete"]
    if wrong:
        raise RuntimeError(f"{len(wrong)} conversations were not complete: {wrong[0]}")

    def ordered(key: str, with_endpoint: bool) -> list[float]:
        return sorted(value for each in heard if each["with_endpoint"] is with_endpoint for value in each[key])

    found: dict[str, Any] = {"stream_replies": str(stream).lower(), "parts": sum(each["parts"] for each in heard)}
    for name, values in (
        ("first_part", ordered("first_parts", with_endpoint=True)),
        ("whole", ordered("wholes", with_endpoint=True)),
        ("other_turn", ordered("turns", with_endpoint=False)),
    ):
        found[f"{name}_p50_s"], found[f"{name}_p95_s"] = quantile(values, 0.5), quantile(values, 0.95)
        found[f"{name}s"] = len(values)
    return found


COLUMNS = {
    "stream_replies": "{stream_replies}",
    "parts": "{parts}",
    "first part p50": "{first_part_p50_s:.3f} s",
    "p95": "{first_part_p95_s:.3f} s",
    "whole p50": "{whole_p50_s:.3f} s",
    "p95 ": "{whole_p95_s:.3f} s",
    "others' turn p50": "{other_turn_p50_s:.3f} s",
    "p95  ": "{other_turn_p95_s:.3f} s",
    "tokens/s": "{tokens_per_s:.0f}",
    "cores": "{cores:.2f}",
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=64, help="replies that grow at the same time")
    parser.add_argument("--others", type=int, default=16, help="workers beside them whose model answers at once")
    parser.add_argument("--tokens", type=int, default=150, help="of a reply")
    parser.add_argument("--rate", type=float, default=30.0, help="tokens a second of each reply")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="for which the cores are measured")
    add_json_flag(parser)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.tokens, args.rate))
        return
    found = []
    with served_endpoint(__file__, "--tokens", str(args.tokens), "--rate", str(args.rate)) as url:
        for stream in (False, True):
            found.append(measure(url, args.streams, args.others, args.turns, args.seconds, stream))
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    title = (
        f"{args.streams} replies of {args.tokens} tokens at {args.rate:g} a second each, {args.others} other workers"
    )
    print_table(title, COLUMNS, found, width=150)
    write_json(args.json, found)


if __name__ == "__main__":
    main()

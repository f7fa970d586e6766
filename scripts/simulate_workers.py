"""Simulated workers over the real wire: they do what the page does (docs/protocol.md), without a browser.

    python scripts/simulate_workers.py --port 3000 --workers 10 --think-time 0.5

Prints a table of latencies (p50, p95, maximum), and counts failures and doubled messages. Use it to try out a study, and
to load a running task; it talks to this machine only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

HEARTBEAT_SECONDS = 3.0
MEPHISTO_TASK_VERSION = "2.0.3"
"""What the router expects pages to say; anything else is logged."""
NONE_ALL_GOOD = "none_all_good"
LINES = (
    "Hello there, how are you doing today?",
    "I like long walks in the hills. What do you like?",
    "That sounds interesting, please tell me more about it.",
    "I had soup for lunch and it was very good.",
    "Do you think it will rain tomorrow?",
    "My sister plays the violin in an orchestra.",
    "I have never been to the sea, have you?",
    "What kind of music do you listen to?",
)


@dataclass
class Behaviour:
    """What a simulated worker does.

    Attributes:
        think_time: mean seconds before each message (exponentially distributed); 0 for none.
        leave_after: leaves without a word after so many messages; None stays to the end.
        lines: what the worker says, in order and then from the beginning; None draws from :data:`LINES`.
        onboarding_answers: the content of ``onboard_task_data.json``, to pass onboarding with; None ticks the first box of
            each reply and so mostly fails.
        stay_silent: accepts and never writes.
        rating: answered to every question; None is drawn at random.
        step_timeout: seconds to wait for anything from the server before giving up.
    """

    think_time: float = 0.0
    leave_after: int | None = None
    lines: Sequence[str] | None = None
    onboarding_answers: dict[str, Any] | None = None
    stay_silent: bool = False
    rating: int | None = None
    step_timeout: float = 120.0


@dataclass
class Outcome:
    """What became of one simulated worker.

    Attributes:
        worker: the worker's name.
        result: ``complete``, ``incomplete``, ``left``, ``no work: <why>``, ``onboarding failed``, or ``error: <what>``.
        turns: seconds from sending each message to the model's reply.
        replied_at: when each of these replies came, on the clock of :func:`time.monotonic`, seconds.
        first_message: seconds from arriving to the model's first reply, or None.
        doubles: messages of the conversation that arrived twice under different update ids.
        refused: codes of what the server did not take.
        packets: everything that the server sent, decoded (for tests).
    """

    worker: str
    result: str = "error: never started"
    turns: list[float] = field(default_factory=list)
    replied_at: list[float] = field(default_factory=list)
    first_message: float | None = None
    doubles: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    packets: list[dict[str, Any]] = field(default_factory=list)


class SimulatedWorker:
    """One worker on one assignment of a task that runs at ``http://localhost:<port>``.

    Args:
        port: the router's port.
        worker: the worker's name.
        assignment: any string; worker and assignment together are one conversation.
        behaviour: what the worker does.
        seed: of their words, ticks and ratings.
        http: HTTP client.
    """

    def __init__(
        self, port: int, worker: str, assignment: str, behaviour: Behaviour, seed: int, http: httpx.AsyncClient
    ) -> None:
        self.base = f"localhost:{port}"
        self.worker = worker
        self.assignment = assignment
        self.behaviour = behaviour
        self.outcome = Outcome(worker)
        self._rng = random.Random(seed)
        self._http = http
        self._socket: ClientConnection | None = None
        self._seen: set[str] = set()
        self._updates: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.agent_id: str | None = None
        self.config: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.disconnect()

    # --- the wire ---

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to the router and return its answer."""
        response = await self._http.post(f"http://{self.base}/{path}", json=body, timeout=self.behaviour.step_timeout)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        self.outcome.packets.append(answer)
        return answer

    async def load_config(self) -> dict[str, Any]:
        """Fetch what every page is told."""
        response = await self._http.get(
            f"http://{self.base}/task_config.json", params={"mephisto_task_version": MEPHISTO_TASK_VERSION}
        )
        response.raise_for_status()
        self.config = response.json()
        return self.config

    async def register(self) -> dict[str, Any]:
        """Ask for work; return the agent's details."""
        answer = await self.post(
            "request_agent",
            {
                "provider_data": {
                    "worker_name": self.worker,
                    "agent_registration_id": f"{self.assignment}-{self.worker}",
                    "assignment_id": self.assignment,
                    "provider_type": "mock",
                },
                "client_timestamp": time.time(),
            },
        )
        return await self.adopt(answer)

    async def adopt(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Become the agent that an answer names, and connect as it."""
        details: dict[str, Any] = answer["data"]
        self.agent_id = details.get("agent_id")
        if self.agent_id is not None:
            for update in (details.get("init_task_data") or {}).get("past_live_updates") or []:
                self._take(update)
            await self.connect()
        return details

    async def connect(self) -> None:
        """Open the socket, say which agent this is, and listen."""
        await self.disconnect()
        self._socket = await connect(f"ws://{self.base}/", max_size=None, ping_interval=None)
        await self.send_packet("alive", {})
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._beat())]

    async def disconnect(self) -> None:
        """Close the socket, as a page does that is closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def send_packet(self, packet_type: str, data: Any, **more: Any) -> None:
        """Send one packet of Mephisto's protocol."""
        if self._socket is None:
            raise RuntimeError("not connected")
        packet = {
            "packet_type": packet_type,
            "subject_id": self.agent_id,
            "data": data,
            "client_timestamp": time.time(),
        }
        await self._socket.send(json.dumps({**packet, **more}))

    async def send_update(self, task_data: dict[str, Any], text: Any = "", message_id: str | None = None) -> str:
        """Send a live update as the page does; return its message id."""
        message_id = message_id or str(uuid4())
        data = {
            "text": text,
            "id": "Speaker 1",
            "episode_done": False,
            "update_id": message_id,
            "task_data": {"message_id": message_id, **task_data},
        }
        await self.send_packet("mephisto_bound_live_update", data)
        return message_id

    async def _listen(self) -> None:
        socket = self._socket
        if socket is None:
            return
        with contextlib.suppress(ConnectionClosed):
            async for raw in socket:
                packet = json.loads(raw)
                self.outcome.packets.append(packet)
                if packet.get("packet_type") == "client_bound_live_update":
                    self._take(packet["data"])
                elif packet.get("packet_type") == "update_status":
                    self._updates.put_nowait({"status": packet["data"]["status"]})

    async def _beat(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.send_packet("heartbeat", {})
                await asyncio.sleep(HEARTBEAT_SECONDS)

    def _take(self, update: dict[str, Any]) -> None:
        if update.get("update_id") in self._seen:
            return
        self._seen.add(update["update_id"])
        self._updates.put_nowait(update)

    # --- the person ---

    async def run(self) -> Outcome:
        """Live through the whole task and return what became of it."""
        started = time.monotonic()
        try:
            await self.load_config()
            details = await self.register()
            if self.agent_id is not None and self.agent_id.startswith("onboarding_"):
                if not await self._do_onboarding(details):
                    self.outcome.result = "onboarding failed"
                    return self.outcome
                details = await self.adopt(
                    await self.post("submit_onboarding", {"provider_data": {"USED_AGENT_ID": self.agent_id}})
                )
            if self.agent_id is None:
                self.outcome.result = f"no work: {details.get('failure_reason')}"
                return self.outcome
            self.outcome.result = await self._chat(started)
        except TimeoutError:
            self.outcome.result = "error: nothing came from the server"
        except (httpx.HTTPError, ConnectionClosed, OSError, KeyError) as error:
            self.outcome.result = f"error: {error!r}"
        finally:
            await self.disconnect()
        return self.outcome

    async def next_update(self) -> dict[str, Any]:
        """Return the next new thing that the server said."""
        return await asyncio.wait_for(self._updates.get(), self.behaviour.step_timeout)

    async def _do_onboarding(self, details: dict[str, Any]) -> bool:
        dialogs = details["init_task_data"]["task_data"]["dialogs"]
        while True:
            update = await self.next_update()
            control = update.get("task_data", {}).get("control")
            if control in ("onboarding_start", "onboarding_retry"):
                await self._think()
                await self.send_update({"onboarding_answers": self._onboarding_form(dialogs)})
            elif control == "refused":
                self.outcome.refused[update["task_data"]["code"]] += 1
                return False
            elif control in ("onboarding_passed", "onboarding_failed"):
                return bool(control == "onboarding_passed")
            elif update.get("status") in ("disconnect", "timeout", "rejected"):
                return False

    def _onboarding_form(self, dialogs: list[list[dict[str, Any]]]) -> list[list[list[str] | None]]:
        right = self.behaviour.onboarding_answers
        if right is not None:
            return [[line.get("answers") for line in dialog] for dialog in right["dialog"]]
        first = self.config["annotation"]["buckets"][0]["value"]
        return [[[first] if line["agent_idx"] == 1 else None for line in dialog] for dialog in dialogs]

    async def _chat(self, started: float) -> str:
        texts: list[tuple[int, str]] = []
        said = 0
        sent_at: float | None = None
        to_annotate = False
        while True:
            update = await self.next_update()
            data = update.get("task_data") or {}
            control = data.get("control")
            if "status" in update:
                if update["status"] in ("disconnect", "timeout", "expired", "returned"):
                    return f"error: {update['status']}"
                continue
            if control is None and update.get("text"):
                key = (data["utterance_idx"], update["text"])
                self.outcome.doubles += key in texts
                texts.append(key)
                if data["agent_idx"] == 1:
                    to_annotate = not update.get("fake_start", False) and data.get("annotate", True)
                    now = time.monotonic()
                    if self.outcome.first_message is None:
                        self.outcome.first_message = now - started
                    if sent_at is not None:
                        self.outcome.turns.append(now - sent_at)
                        self.outcome.replied_at.append(now)
                        sent_at = None
            elif control == "refused":
                self.outcome.refused[data["code"]] += 1
                return f"error: refused {data['code']}"
            elif control == "your_turn":
                if self.behaviour.stay_silent or (
                    self.behaviour.leave_after is not None and said >= self.behaviour.leave_after
                ):
                    return "left"
                await self._think()
                answer: dict[str, Any] = {}
                if self.config.get("annotation") and to_annotate:
                    answer["problem_data_for_prior_message"] = self._ticks()
                    to_annotate = False
                if data["ask"] == "final_rating":
                    answer["final_rating"] = [
                        self.behaviour.rating or self._rng.randint(1, 5) for _ in self.config["final_rating_questions"]
                    ]
                    await self.send_update(answer)
                else:
                    sent_at = time.monotonic()
                    lines = self.behaviour.lines
                    text = self._rng.choice(LINES) if lines is None else lines[said % len(lines)]
                    await self.send_update(answer, text=text)
                    said += 1
            elif control == "ended":
                await self.post("submit_task", {"USED_AGENT_ID": self.agent_id, "final_data": {}})
                return str(data["outcome"])

    def _ticks(self) -> dict[str, bool]:
        values = [bucket["value"] for bucket in self.config["annotation"]["buckets"]]
        ticked = self._rng.choice(values)
        return {value: value == ticked for value in values}

    async def _think(self) -> None:
        if self.behaviour.think_time:
            await asyncio.sleep(self._rng.expovariate(1 / self.behaviour.think_time))


async def simulate(
    port: int,
    workers: int,
    behaviours: Sequence[Behaviour],
    conversations: int = 1,
    seed: int = 0,
    arrival_gap: float = 0.0,
    prefix: str = "simulated",
) -> list[Outcome]:
    """Let workers arrive and live through the task.

    Args:
        port: the router's port on this machine.
        workers: how many there are; worker ``i`` behaves as ``behaviours[i % len(behaviours)]``.
        behaviours: at least one.
        conversations: how many each has, one after the other.
        seed: of everything random.
        arrival_gap: seconds between two arrivals; 0: all at once.
        prefix: of the workers' names.

    Returns:
        one outcome for each conversation.
    """
    outcomes: list[Outcome] = []
    unused = ssl.create_default_context()  # 20 ms each time, if every client made its own

    async def live(number: int) -> None:
        await asyncio.sleep(number * arrival_gap)
        # A client each, as browsers are; besides, the work of httpx's pool grows with the square of its connections.
        async with httpx.AsyncClient(timeout=120, verify=unused, trust_env=False) as http:
            for conversation in range(conversations):
                worker = SimulatedWorker(
                    port,
                    f"{prefix}{number}",
                    f"{prefix}-{number}-{conversation}",
                    behaviours[number % len(behaviours)],
                    seed * 1_000_003 + number * 1_009 + conversation,
                    http,
                )
                outcomes.append(await worker.run())

    await asyncio.gather(*(live(number) for number in range(workers)))
    return outcomes


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of ``values`` don't exceed; NaN for no values."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def _quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """The quantiles of the report as JSON has them: null for no values."""
    shares = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {name: quantile(values, share) if values else None for name, share in shares.items()}


def report(outcomes: Sequence[Outcome], seconds: float, console: Console) -> None:
    """Print latencies, results, and what went wrong."""
    turns = [latency for outcome in outcomes for latency in outcome.turns]
    firsts = [outcome.first_message for outcome in outcomes if outcome.first_message is not None]
    table = Table(title=f"{len(outcomes)} conversations in {seconds:.1f} s, {len(turns) / seconds:.1f} turns/s")
    table.add_column("seconds")
    for column in ("n", "p50", "p95", "max"):
        table.add_column(column, justify="right")
    for name, values in (("a turn", turns), ("first model message", firsts)):
        table.add_row(
            name,
            str(len(values)),
            *(f"{quantile(values, share):.3f}" for share in (0.5, 0.95, 1.0)),
        )
    console.print(table)
    results = Counter(outcome.result for outcome in outcomes)
    for result, number in results.most_common():
        console.print(f"  {number:5d}  {result}", highlight=False, markup=False)
    refused = sum((outcome.refused for outcome in outcomes), Counter[str]())
    console.print(
        f"  failures: {sum(outcome.result.startswith('error') for outcome in outcomes)}, "
        f"doubled messages: {sum(outcome.doubles for outcome in outcomes)}, refused: {dict(refused) or 'none'}",
        highlight=False,
        markup=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 when no simulated worker failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--port", type=int, default=3000, help="port of the running task (default: 3000)")
    parser.add_argument("--workers", type=int, default=10, help="how many workers (default: 10)")
    parser.add_argument("--conversations", type=int, default=1, help="conversations of each worker (default: 1)")
    parser.add_argument("--think-time", type=float, default=0.0, help="mean seconds before each message (default: 0)")
    parser.add_argument("--arrival-gap", type=float, default=0.0, help="seconds between two arrivals (default: 0)")
    parser.add_argument(
        "--leaving", type=int, default=0, help="how many of the workers leave after their first message"
    )
    parser.add_argument("--onboarding-file", type=Path, help="onboard_task_data.json to take the right answers from")
    parser.add_argument("--failing", type=int, default=0, help="how many of the workers fail onboarding")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--prefix", default="simulated", help="of the workers' names (default: simulated)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args(arguments)
    answers = None
    if args.onboarding_file is not None:
        try:
            answers = json.loads(args.onboarding_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            parser.error(f"--onboarding-file: '{args.onboarding_file}' can't be read ({error}).")
    if args.workers < 1 or args.conversations < 1:
        parser.error("--workers and --conversations must be at least 1.")
    behaviours = [
        Behaviour(
            think_time=args.think_time,
            leave_after=1 if number < args.leaving else None,
            onboarding_answers=None if args.leaving <= number < args.leaving + args.failing else answers,
        )
        for number in range(args.workers)
    ]
    started = time.monotonic()
    try:
        outcomes = asyncio.run(
            simulate(
                args.port, args.workers, behaviours, args.conversations, args.seed, args.arrival_gap, prefix=args.prefix
            )
        )
    except KeyboardInterrupt:
        return 130
    seconds = time.monotonic() - started
    report(outcomes, seconds, Console())
    if args.json is not None:
        turns = [latency for outcome in outcomes for latency in outcome.turns]
        firsts = [outcome.first_message for outcome in outcomes if outcome.first_message is not None]
        figures = {
            "seconds": seconds,
            "results": Counter(outcome.result for outcome in outcomes),
            "turns_per_second": len(turns) / seconds,
            "turn": _quantiles(turns),
            "first": _quantiles(firsts),
            "doubles": sum(outcome.doubles for outcome in outcomes),
        }
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 1 if any(outcome.result.startswith("error") for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())

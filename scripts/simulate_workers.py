"""Simulated workers over the real wire: they do what the page does (docs/protocol.md), without a browser.

    python scripts/simulate_workers.py --port 3000 --workers 10 --think-time 0.5

Prints a table of latencies (p50, p95, maximum), and counts failures and doubled messages. Use it to try out a study, and
to load a running task; it talks to this machine only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from model_chat.configuration.exit_codes import ExitCode, exit_with, reports_faults
from model_chat.errors import ConfigurationError
from model_chat.router.public_address import FLAG, parse_public_url
from model_chat.scripts._played_people import LLM_FLAG, PERSONAS_FLAG, PlayedPeople, read_personas
from model_chat.scripts._simulated_person import LINES, Behaviour, Outcome
from model_chat.scripts._simulated_worker import SimulatedWorker

__all__ = ["LINES", "Behaviour", "Outcome", "SimulatedWorker", "main", "quantile", "report", "simulate"]


async def simulate(
    port: int,
    workers: int,
    behaviours: Sequence[Behaviour],
    conversations: int = 1,
    seed: int = 0,
    arrival_gap: float = 0.0,
    prefix: str = "simulated",
    address: str | None = None,
    public_url: str | None = None,
    people: PlayedPeople | None = None,
) -> list[Outcome]:
    """Let workers arrive and live through the task.

    Args:
        workers: how many there are; worker ``i`` behaves as ``behaviours[i % len(behaviours)]``.
        conversations: how many each has, one after the other.
        arrival_gap: seconds between two arrivals; 0: all at once.
        address: what a panel adds to the study's address, from ``?`` on, with ``{participant}`` and ``{session}``; "" for
            visitors of a link; None: the provider mock.
        public_url: the task's ``mephisto.architect.public_url``, if it has one.
        people: who play the workers; None: chance.

    Returns:
        one outcome for each conversation.
    """
    outcomes: list[Outcome] = []
    unused = ssl.create_default_context()  # 20 ms each time, if every client made its own

    async def live(number: int) -> None:
        await asyncio.sleep(number * arrival_gap)
        # A client each, as browsers are; besides, the work of httpx's pool grows with the square of its connections.
        async with httpx.AsyncClient(timeout=120, verify=unused, trust_env=False) as http:
            visitor: str | None = None
            for conversation in range(conversations):
                session = f"{prefix}-{number}-{conversation}"
                query = None if address is None else address.format(participant=f"{prefix}{number}", session=session)
                behaviour = behaviours[number % len(behaviours)]
                own_seed = seed * 1_000_003 + number * 1_009 + conversation
                worker = SimulatedWorker(
                    port,
                    f"{prefix}{number}",
                    f"{prefix}-{number}-{conversation}",
                    behaviour,
                    own_seed,
                    http,
                    person=None if people is None else people.make(behaviour, random.Random(own_seed)),
                    query=query,
                    public_url=public_url,
                )
                worker.visitor = visitor  # one browser each
                outcomes.append(await worker.run())
                visitor = worker.visitor

    await asyncio.gather(*(live(number) for number in range(workers)))
    return outcomes


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of ``values`` don't exceed; NaN for no values."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def _latencies(outcomes: Sequence[Outcome]) -> tuple[list[float], list[float]]:
    """Seconds of all turns, and those to each worker's first reply."""
    turns = [latency for outcome in outcomes for latency in outcome.turns]
    return turns, [outcome.first_message for outcome in outcomes if outcome.first_message is not None]


def _quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """The quantiles of the report as JSON has them: null for no values."""
    shares = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {name: quantile(values, share) if values else None for name, share in shares.items()}


def report(outcomes: Sequence[Outcome], seconds: float, console: Console) -> None:
    """Print latencies, results, and what went wrong."""
    turns, firsts = _latencies(outcomes)
    table = Table(title=f"{len(outcomes)} conversations in {seconds:.1f} s, {len(turns) / seconds:.1f} turns/s")
    table.add_column("seconds")
    for column in ("n", "p50", "p95", "max"):
        table.add_column(column, justify="right")
    for name, values in (("a turn", turns), ("first model message", firsts)):
        table.add_row(name, str(len(values)), *(f"{quantile(values, share):.3f}" for share in (0.5, 0.95, 1.0)))
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


@reports_faults
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 when no simulated worker failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--port", type=int, default=3000, help="port of the running task (default: 3000)")
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="the task's mephisto.architect.public_url, if it has one: its router answers to no other name",
    )
    parser.add_argument("--workers", type=int, default=10, help="how many workers (default: 10)")
    parser.add_argument("--conversations", type=int, default=1, help="conversations of each worker (default: 1)")
    parser.add_argument("--think-time", type=float, default=0.0, help="mean seconds before each message (default: 0)")
    parser.add_argument("--arrival-gap", type=float, default=0.0, help="seconds between two arrivals (default: 0)")
    parser.add_argument(
        "--leaving", type=int, default=0, help="how many of the workers leave after their first message"
    )
    parser.add_argument("--onboarding-file", type=Path, help="onboard_task_data.json to take the right answers from")
    parser.add_argument("--failing", type=int, default=0, help="how many of the workers fail onboarding")
    parser.add_argument(
        "--declining", type=int, default=0, help="how many of the workers decline to take part (with a study flow)"
    )
    parser.add_argument(
        "--invalid-answers",
        action="store_true",
        help="send answers that have to be refused before the valid ones (with a study flow)",
    )
    parser.add_argument(
        "--prefer-longer",
        action="store_true",
        help="where two replies or chats are compared, pick the longer one (else any answer)",
    )
    parser.add_argument(
        LLM_FLAG,
        metavar="FILE",
        help="let models behind endpoints play the workers: YAML file of their settings (docs/models.md)",
    )
    parser.add_argument(
        PERSONAS_FLAG, metavar="FILE", help='with --llm: whom they play, JSON Lines of {"id", "persona"}'
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--prefix", default="simulated", help="of the workers' names (default: simulated)")
    parser.add_argument(
        "--address",
        help="what a panel adds to the study's address, such as "
        "'?PROLIFIC_PID={participant}&STUDY_ID=s&SESSION_ID={session}'; "
        "'?' for visitors of a link (default: the provider mock)",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args(arguments)
    answers = None
    if args.onboarding_file is not None:
        try:
            answers = json.loads(args.onboarding_file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            parser.error(f"--onboarding-file: '{args.onboarding_file}' can't be read ({error}).")
    if args.workers < 1 or args.conversations < 1:
        parser.error("--workers and --conversations must be at least 1.")
    try:
        (args.address or "").format(participant="p", session="s")
    except (ValueError, KeyError, IndexError):
        parser.error(f"--address: '{args.address}' may hold {{participant}} and {{session}}; double other braces.")
    try:
        if args.public_url is not None:
            parse_public_url(args.public_url)
    except ConfigurationError as error:
        parser.error(" ".join(error.faults).replace(FLAG, "--public-url"))
    behaviours = [
        Behaviour(
            think_time=args.think_time,
            leave_after=1 if number < args.leaving else None,
            declines=number >= args.workers - args.declining,
            sends_invalid=args.invalid_answers,
            prefers_longer=args.prefer_longer,
            onboarding_answers=None if args.leaving <= number < args.leaving + args.failing else answers,
        )
        for number in range(args.workers)
    ]
    people: PlayedPeople | None = None
    if args.llm is not None:
        people = PlayedPeople(args.llm, read_personas(args.personas))
    elif args.personas is not None:
        raise ConfigurationError(f"{PERSONAS_FLAG}: needs {LLM_FLAG}, the models that play them; give it as well.")
    started = time.monotonic()
    try:
        outcomes = asyncio.run(
            simulate(
                args.port,
                args.workers,
                behaviours,
                args.conversations,
                args.seed,
                args.arrival_gap,
                args.prefix,
                args.address,
                public_url=args.public_url,
                people=people,
            )
        )
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    finally:
        if people is not None:
            people.close()
    seconds = time.monotonic() - started
    report(outcomes, seconds, Console(emoji=False))
    if people is not None:
        print(f"  {people.sentence()}")
    if all(outcome.result.startswith("error: ConnectError") for outcome in outcomes):
        print(
            f"✗ Nothing answers on port {args.port}: start a task first, or give its port with --port.", file=sys.stderr
        )
    if any("421 Misdirected Request" in outcome.result for outcome in outcomes):
        print("✗ The task answers to its public address alone: give it with --public-url.", file=sys.stderr)
    if args.json is not None:
        turns, firsts = _latencies(outcomes)
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
    exit_with(main)

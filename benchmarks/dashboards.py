"""What open dashboards cost the workers: the same run with none and with some that follow it live.

Usage: ``python benchmarks/dashboards.py [--workers 64] [--dashboards 5] [--rounds 3] [--think-time 1] [--json FILE]``

In each round a fresh ``run.py`` is started without a dashboard, and one with a dashboard that so many pages follow: each
reads the stream of events, and asks for the list of conversations and for one conversation every two seconds. As many
simulated workers as given come at the same moment, pass onboarding and hold one conversation each, as in
``many_workers.py``. Workers and readers run on the same machine and are part of the load.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

import httpx
from _figures import add_json_flag, print_table, write_json
from many_workers import Task, _simulate, figures

LOOK_SECONDS = 2.0


def watch(link: str, dashboards: int, stop: Any, results: Any) -> None:
    """Follow a run on so many pages until told to stop; in a process of its own."""
    results.put(asyncio.run(_watch(link, dashboards, stop)))


async def _watch(link: str, dashboards: int, stop: Any) -> int:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    base = link.partition("login?")[0]
    events = 0

    async def page() -> None:
        nonlocal events
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=60) as http:
            await http.get(link)
            study = (await http.get("api/session")).json()["studies"][0]["id"]

            async def look() -> None:
                while True:
                    listed = (await http.get(f"api/studies/{study}/conversations")).json()["items"]
                    if listed:
                        await http.get(f"api/studies/{study}/conversations/{listed[0]['id']}")
                    await asyncio.sleep(LOOK_SECONDS)

            looking = asyncio.create_task(look())
            try:
                async with http.stream("GET", f"api/studies/{study}/events") as stream:
                    async for line in stream.aiter_lines():
                        events += line.startswith("data:")
            finally:
                looking.cancel()

    pages = [asyncio.create_task(page()) for _ in range(dashboards)]
    while not stop.is_set():
        await asyncio.sleep(0.1)
    for one in pages:
        one.cancel()
    await asyncio.gather(*pages, return_exceptions=True)
    return events


def measure(workers: int, turns: int, think_time: float, dashboards: int) -> dict[str, Any]:
    """Hold the conversations with so many dashboards open; return the figures."""
    context = multiprocessing.get_context("spawn")
    flags = ["mephisto.blueprint.dashboard_port=0"] if dashboards else []
    with tempfile.TemporaryDirectory() as temporary, Task(Path(temporary), workers, turns, flags) as task:
        stop, seen, results = context.Event(), context.Queue(), context.Queue()
        watching = None
        if dashboards:
            (link,) = re.findall(r"Dashboard: +(\S+)", task.log.read_text(encoding="utf-8"))
            httpx.get(link.partition("login?")[0] + "healthz", timeout=60, trust_env=False)  # its process is up
            watching = context.Process(target=watch, args=(link, dashboards, stop, seen))
            watching.start()
        process = context.Process(target=_simulate, args=(task.port, workers, think_time, results))
        process.start()
        outcomes, seconds = results.get(timeout=1200)
        process.join()
        stop.set()
        events = seen.get(timeout=60) if watching is not None else 0
        if watching is not None:
            watching.join()
        return figures(outcomes, seconds) | {
            "dashboards": dashboards,
            "events": events,
            "peak_mb": task.peak_mb,
            "server_cpu_s": task.cpu_seconds,
        }


COLUMNS = {
    "round": "{round:d}",
    "dashboards": "{dashboards:d}",
    "turn p50": "{turn_p50_s:.3f} s",
    "turn p95": "{turn_p95_s:.3f} s",
    "turn max": "{turn_max_s:.3f} s",
    "first reply p95": "{first_p95_s:.2f} s",
    "whole": "{seconds:.1f} s",
    "run's memory": "{peak_mb:.0f} MB",
    "run's CPU": "{server_cpu_s:.1f} s",
    "events read": "{events:d}",
}


def main() -> None:
    """Run the benchmark."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--dashboards", type=int, default=5)
    parser.add_argument("--turns", type=int, default=6, help="exchanges of a conversation (default: %(default)s)")
    parser.add_argument("--think-time", type=float, default=1.0, help="mean seconds before a message (default: 1)")
    parser.add_argument("--rounds", type=int, default=3)
    add_json_flag(parser)
    args = parser.parse_args()
    found = []
    for number in range(args.rounds):
        for dashboards in (0, args.dashboards) if number % 2 == 0 else (args.dashboards, 0):
            row = measure(args.workers, args.turns, args.think_time, dashboards)
            found.append({"round": number + 1, **row})
    title = f"{args.workers} workers, {args.turns} turns, think time {args.think_time:g} s, {os.cpu_count()} cores"
    print_table(title, COLUMNS, found, width=160)
    for what in ("turn_p50_s", "turn_p95_s", "server_cpu_s"):
        without, with_some = (
            statistics.median(row[what] for row in found if bool(row["dashboards"]) is some) for some in (False, True)
        )
        print(f"{what}: {without:.3f} without, {with_some:.3f} with {args.dashboards}, ratio {with_some / without:.2f}")
    write_json(args.json, found)


if __name__ == "__main__":
    main()

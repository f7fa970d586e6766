"""A task that runs for long: memory, threads, file descriptors and latency at the start and at the end.

    python benchmarks/long_run.py                         5,000 conversations or two hours, what comes first
    python benchmarks/long_run.py --conversations 400     a bounded form

Simulated workers arrive at a real run (run script, router, SQLite), some leave in the middle, and each conversation is a new
worker's. Prints a row for each tenth of the run, and whether the last ones differ from the early ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from _process import status_of
from many_workers import Task

from model_chat.scripts.simulate_workers import Behaviour, Outcome, SimulatedWorker, quantile


@dataclass
class Figures:
    """One look at the run."""

    finished: int
    seconds: float
    memory_mb: float
    threads: int
    descriptors: int
    router_mb: float
    router_descriptors: int
    p50: float
    p95: float

    def row(self) -> str:
        """A line of the table."""
        return (
            f"| {self.finished} | {self.seconds:.0f} | {self.memory_mb:.0f} | {self.threads} | {self.descriptors} | "
            f"{self.router_mb:.0f} | {self.router_descriptors} | {self.p50:.3f} | {self.p95:.3f} |"
        )


HEADER = (
    "| conversations | s | server MB | threads | descriptors | router MB | router descriptors | turn p50 s | turn p95 s |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def look(pid: int) -> tuple[float, int, int]:
    """Memory in MB, threads and open file descriptors of a process."""
    status = status_of(pid)
    return status["VmRSS"] / 1024, status["Threads"], len(list(Path(f"/proc/{pid}/fd").iterdir()))


def router_of(pid: int) -> int:
    """The router's process."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    return next(int(line.split()[0]) for line in found.stdout.splitlines() if "server.js" in line)


async def run(task: Task, conversations: int, at_once: int, leaving: float, limit: float) -> list[Figures]:
    """Let workers come and go until enough have finished, or the time is up."""
    pid, rng, started = task.process.pid, random.Random(1), time.monotonic()
    router = router_of(pid)
    figures: list[Figures] = []
    outcomes: list[Outcome] = []
    done = 0
    numbers = iter(range(10**9))
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as http:

        async def worker() -> None:
            nonlocal done
            while done < conversations and time.monotonic() - started < limit:
                number = next(numbers)
                leaves = rng.random() < leaving
                behaviour = Behaviour(think_time=0.05, leave_after=1 if leaves else None)
                worker = SimulatedWorker(task.port, f"w{number}", str(number), behaviour, number, http)
                outcome = await worker.run()
                worker.outcome.packets.clear()
                outcomes.append(outcome)
                done += outcome.result == "complete"
                if outcome.result.startswith("no work"):
                    await asyncio.sleep(0.5)
                if len(figures) < 10 * done // conversations:
                    memory, threads, descriptors = look(pid)
                    router_memory, _, router_descriptors = look(router)
                    turns = [seconds for outcome in outcomes for seconds in outcome.turns]
                    outcomes.clear()
                    figures.append(
                        Figures(
                            done,
                            time.monotonic() - started,
                            memory,
                            threads,
                            descriptors,
                            router_memory,
                            router_descriptors,
                            quantile(turns, 0.5),
                            quantile(turns, 0.95),
                        )
                    )
                    print(figures[-1].row(), flush=True)

        await asyncio.gather(*(worker() for _ in range(at_once)))
    return figures


def main() -> int:
    """Run the benchmark; return its exit code: 1 if something grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--conversations", type=int, default=5000)
    parser.add_argument("--at-once", type=int, default=8, help="workers at any time (default: 8)")
    parser.add_argument("--leaving", type=float, default=0.1, help="share who leave after a message (default: 0.1)")
    parser.add_argument("--hours", type=float, default=2.0, help="at most (default: 2)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    flags = [
        "mephisto.blueprint.annotations_config_path=''",
        "mephisto.blueprint.onboarding_qualification=null",
        "mephisto.blueprint.max_resp_time=5",
        "mephisto.task.max_num_concurrent_units=100",
    ]
    wanted = args.conversations + 10 * args.at_once
    with tempfile.TemporaryDirectory() as folder:
        print(HEADER)
        with Task(Path(folder), wanted, 3, flags) as task:
            figures = asyncio.run(run(task, args.conversations, args.at_once, args.leaving, 3600 * args.hours))
    if args.json is not None:
        args.json.write_text(json.dumps([vars(row) for row in figures], indent=1), encoding="utf-8")
    if len(figures) < 3:
        return 0
    first, last = figures[1], figures[-1]
    per = (last.memory_mb - first.memory_mb) / max(1, last.finished - first.finished) * 1000
    print(
        f"From {first.finished} to {last.finished} conversations: memory {per:+.1f} kB a conversation, threads "
        f"{last.threads - first.threads:+d}, descriptors {last.descriptors - first.descriptors:+d}, p95 of a turn "
        f"{first.p95:.3f} -> {last.p95:.3f} s."
    )
    return int(last.threads > first.threads + 20 or last.descriptors > first.descriptors + 50)


if __name__ == "__main__":
    sys.exit(main())

"""How a task holds up under many workers at once: latency, throughput, memory, launch.

Usage: ``python benchmarks/many_workers.py [--workers 1,8,32,64,128] [--think-time 0] [--flow-items N] [--json FILE]``

For each number of workers a fresh ``run.py`` is started (node router, SQLite, onboarding, annotation, a model that answers
at once) and as many simulated workers come at the same moment over the real wire; each passes onboarding and holds one
conversation. The workers run in a process of their own on the same machine, and are thus part of the load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from _figures import add_json_flag, print_table, write_json
from _process import processor_seconds, status_of
from rich.console import Console
from websockets.asyncio.client import connect

from model_chat.router.local_architect import free_port
from model_chat.scripts.simulate_workers import Behaviour, Outcome, quantile, simulate

ROOT = Path(__file__).resolve().parents[1]
ANNOTATIONS = ROOT / "task_config/annotations_config.json"
ONBOARDING = ROOT / "task_config/onboard_task_data.json"
START_SECONDS = 120.0


class Task:
    """A running task whose memory and threads are watched; a context manager that leaves no process behind."""

    def __init__(
        self, folder: Path, conversations: int, turns: int, flags: Sequence[str], model_seconds: float = 0.0
    ) -> None:
        model = folder / "models" / "fixed"
        model.mkdir(parents=True)
        opt: dict[str, Any] = {"model": "fixed_response", "fixed_response": "That is what I think, too."}
        if model_seconds:
            opt = {"model": "model_chat.benchmarks.timed_agent:TimedAgent", "reply_seconds": model_seconds}
        (model / "model.opt").write_text(json.dumps(opt), encoding="utf-8")
        self.port = free_port()
        self.log = folder / "run.log"
        self.flags = [
            f"mephisto.datapath={folder / 'mephisto'}",
            f"mephisto.blueprint.chat_data_folder={folder / 'conversations'}",
            f"mephisto.blueprint.base_model_folder={folder / 'models'}",
            f'mephisto.blueprint.conversations_needed_string="fixed:{conversations}"',
            f"mephisto.blueprint.num_turns={turns}",
            "mephisto.blueprint.onboarding_qualification=many_workers",
            f"mephisto.blueprint.annotations_config_path={ANNOTATIONS}",
            f"mephisto.blueprint.onboard_task_data_path={ONBOARDING}",
            f"mephisto.architect.port={self.port}",
            *flags,
        ]
        self.folder = folder
        self.launch_seconds = float("nan")
        self.peak_mb = 0.0
        self.peak_threads = 0
        self.cpu_seconds = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Task:
        started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "run.py", *self.flags],
                cwd=ROOT,
                env={**os.environ, "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while b"The task is up" not in self.log.read_bytes():
                if self.process.poll() is not None or time.monotonic() - started > START_SECONDS:
                    raise RuntimeError(f"run.py did not come up:\n{self.log.read_text(encoding='utf-8')}")
                time.sleep(0.02)
        except BaseException:
            self.__exit__()
            raise
        self.launch_seconds = time.monotonic() - started
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            try:
                status = status_of(self.process.pid)
                self.cpu_seconds = processor_seconds(self.process.pid)
            except OSError:
                return
            self.peak_mb = max(self.peak_mb, status.get("VmHWM", 0) / 1024)
            self.peak_threads = max(self.peak_threads, status.get("Threads", 0))

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def _simulate(port: int, workers: int, think_time: float, results: Any) -> None:
    """Run the workers; in a process of its own, so that they don't take turns with what watches the server."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    answers = json.loads(ONBOARDING.read_text(encoding="utf-8"))
    behaviour = Behaviour(think_time=think_time, onboarding_answers=answers, step_timeout=300)
    asyncio.run(_warm_up(port))
    started = time.monotonic()
    outcomes = asyncio.run(simulate(port, workers, [behaviour]))
    for outcome in outcomes:
        outcome.packets.clear()
    results.put((outcomes, time.monotonic() - started))


async def _warm_up(port: int) -> None:
    """Let the libraries import what they import on first use: people's browsers are running already."""
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get(f"http://localhost:{port}/is_alive")
    async with connect(f"ws://localhost:{port}/"):
        pass


def measure(
    workers: int, turns: int, think_time: float, flags: Sequence[str], model_seconds: float = 0.0
) -> dict[str, Any]:
    """Hold one conversation with each of so many workers who come at once; return the figures."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        Task(Path(temporary), workers, turns, flags, model_seconds) as task,
    ):
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        process = context.Process(target=_simulate, args=(task.port, workers, think_time, results))
        process.start()
        outcomes, seconds = results.get(timeout=1200)
        process.join()
        return figures(outcomes, seconds) | {
            "launch_s": task.launch_seconds,
            "peak_mb": task.peak_mb,
            "threads": task.peak_threads,
            "server_cpu_s": task.cpu_seconds,
        }


def figures(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """Summarise what the workers saw."""
    turns = sorted(turn for outcome in outcomes for turn in outcome.turns)
    replies = sorted(at for outcome in outcomes for at in outcome.replied_at)
    firsts = sorted(outcome.first_message for outcome in outcomes if outcome.first_message is not None)
    return {
        "workers": len(outcomes),
        "results": dict(Counter(outcome.result for outcome in outcomes)),
        "doubles": sum(outcome.doubles for outcome in outcomes),
        "turns": len(turns),
        "turn_p50_s": quantile(turns, 0.5),
        "turn_p95_s": quantile(turns, 0.95),
        "turn_max_s": quantile(turns, 1.0),
        "first_p50_s": quantile(firsts, 0.5),
        "first_p95_s": quantile(firsts, 0.95),
        "seconds": seconds,
        "turns_per_s": len(turns) / seconds if seconds else float("nan"),
        "chat_turns_per_s": rate_of_middle(replies),
    }


def rate_of_middle(times: Sequence[float]) -> float:
    """How many of the sorted times there are a second in their middle half, when most workers chat; NaN for too few."""
    low, high = len(times) // 4, 3 * len(times) // 4
    return (high - low) / (times[high] - times[low]) if high > low else float("nan")


COLUMNS = {
    "workers": "{workers:d}",
    "turn p50": "{turn_p50_s:.3f} s",
    "turn p95": "{turn_p95_s:.3f} s",
    "turn max": "{turn_max_s:.3f} s",
    "first reply p50": "{first_p50_s:.2f} s",
    "first reply p95": "{first_p95_s:.2f} s",
    "turns/s in all": "{turns_per_s:.0f}",
    "turns/s chatting": "{chat_turns_per_s:.0f}",
    "whole": "{seconds:.1f} s",
    "launch": "{launch_s:.1f} s",
    "peak memory": "{peak_mb:.0f} MB",
    "threads": "{threads:d}",
    "server CPU": "{server_cpu_s:.1f} s",
}


def flow_of(items: int) -> str:
    """Write a study flow: a fifth of the items about each reply, the others on pages before and after the chat."""
    scales = [{"id": f"i{at}", "kind": "scale", "question": f"Question {at}", "points": 7} for at in range(items)]
    about_reply, before, after = scales[: items // 5], scales[items // 5 : items // 5 * 3], scales[items // 5 * 3 :]
    pages = [
        {"id": "consent", "kind": "consent", "text": "We study chat partners."},
        {"id": "before", "kind": "questions", "items": before},
        {"id": "chat", "kind": "chat", "every_reply": about_reply},
        {"id": "after", "kind": "questions", "items": after},
    ]
    return json.dumps({"pages": pages})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", default="1,8,32,64,128", help="numbers of workers (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=6, help="exchanges of a conversation (default: %(default)s)")
    parser.add_argument("--think-time", type=float, default=0.0, help="mean seconds before a message (default: 0)")
    parser.add_argument("--model-seconds", type=float, default=0.0, help="how long a reply takes (default: 0)")
    parser.add_argument("--flow-items", type=int, help="with a study flow of so many items, at least 5")
    add_json_flag(parser)
    parser.add_argument("flags", nargs="*", help="further flags for run.py")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.flow_items is not None:
            flow = Path(folder) / "flow.json"
            flow.write_text(flow_of(args.flow_items), encoding="utf-8")
            args.flags.append(f"mephisto.blueprint.study_flow_path={flow}")
        found = list(_measure_all(args))
    title = f"{args.turns} turns, onboarding, think time {args.think_time:g} s, a reply in {args.model_seconds:g} s"
    print_table(f"{title}, {os.cpu_count()} cores", COLUMNS, found, width=190)
    write_json(args.json, found)


def _measure_all(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for workers in (int(part) for part in args.workers.split(",")):
        row = measure(workers, args.turns, args.think_time, args.flags, args.model_seconds)
        yield row
        complete = row["results"].get("complete", 0)
        if complete != workers or row["doubles"]:
            Console(stderr=True).print(f"[red]{workers} workers: {row['results']}, {row['doubles']} doubles[/]")


if __name__ == "__main__":
    main()

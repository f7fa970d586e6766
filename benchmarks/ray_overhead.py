"""What a reply costs more when the model is on Ray: the same model, batch and conversation, in this process and there.

Usage: ``python benchmarks/ray_overhead.py [--model demo/blender_tiny] [--conversations 1,8] [--address HOST:PORT]``

Conversations of six turns are held with the model in this process and with its copy on Ray, in turns with each other, so
that both see the same machine. Beside the model that ``--model`` names there is one that replies at once, whose figures
are what the way to Ray and back costs. Torch has as many threads here as there.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _figures import add_json_flag, print_table, write_json

from model_chat.bot_agent import BotAgent
from model_chat.scripts.simulate_workers import LINES
from model_chat.serving.catalogue import ModelSource, models_in_folder
from model_chat.serving.loading import load_model
from model_chat.serving.pool import ModelPool
from model_chat.serving.ray_options import RayOptions

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = "replies at once"
TURNS = 6


def hold(pool: ModelPool, nickname: str, number: int) -> list[float]:
    """Hold a conversation; return the seconds of each reply."""
    bot = BotAgent(pool, nickname)
    seconds = []
    for turn in range(TURNS):
        bot.observe({"id": "Speaker 1", "text": LINES[(number + turn) % len(LINES)]})
        started = time.perf_counter()
        bot.act()
        seconds.append(time.perf_counter() - started)
    return seconds


def measure(pools: dict[str, ModelPool], nickname: str, conversations: int, rounds: int) -> dict[str, Any]:
    """Hold so many conversations at once, ``rounds`` times in each place."""
    latencies: dict[str, list[float]] = {place: [] for place in pools}
    rates: dict[str, list[float]] = {place: [] for place in pools}
    with ThreadPoolExecutor(conversations) as threads:
        for each in range(rounds + 1):
            for place, pool in pools.items():
                started = time.perf_counter()
                found = list(threads.map(lambda number, pool=pool: hold(pool, nickname, number), range(conversations)))
                if each:  # the first round warms up
                    rates[place].append(conversations * TURNS / (time.perf_counter() - started))
                    latencies[place] += [seconds for chat in found for seconds in chat]
    here, there = (statistics.median(latencies[place]) for place in ("here", "ray"))
    return {
        "model": nickname,
        "conversations": conversations,
        "here_ms": here * 1000,
        "ray_ms": there * 1000,
        "overhead_ms": (there - here) * 1000,
        "ratio": there / here,
        "here_replies_per_s": statistics.median(rates["here"]),
        "ray_replies_per_s": statistics.median(rates["ray"]),
    }


COLUMNS = {
    "model": "{model}",
    "conversations": "{conversations}",
    "here": "{here_ms:.1f} ms",
    "Ray": "{ray_ms:.1f} ms",
    "overhead": "{overhead_ms:.1f} ms",
    "Ray / here": "{ratio:.2f}",
    "replies/s here": "{here_replies_per_s:.1f}",
    "replies/s Ray": "{ray_replies_per_s:.1f}",
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-model-folder", type=Path, default=ROOT / "models")
    parser.add_argument("--model", default="demo/blender_tiny", help="default: %(default)s")
    parser.add_argument("--conversations", default="1,8", help="numbers of conversations (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--address", help="of a running cluster; default: a Ray for this benchmark alone")
    add_json_flag(parser)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    sources = models_in_folder("--base-model-folder", str(args.base_model_folder))
    if args.model not in sources:
        parser.error(
            f"--model: there is no '{args.model}' in {args.base_model_folder}; 'make models' makes the demo's."
        )
    if importlib.util.find_spec("ray") is None:
        parser.error("Ray is not installed; install it with: pip install 'model-chat[ray]' (docs/ray.md).")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray has it for a copy with one processor
    from model_chat.serving.ray_serving import ModelsOnRay

    wanted = {args.model: sources[args.model]}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as closing:
        at_once = Path(folder) / "model.opt"
        at_once.write_text(json.dumps({"model": "fixed_response", "fixed_response": "I see."}), encoding="utf-8")
        wanted[AT_ONCE] = ModelSource(AT_ONCE, folder=Path(folder))
        options = RayOptions(args.address, 1, 1.0, None, 600.0, 600.0, 2)
        with contextlib.redirect_stdout(sys.stderr):  # ParlAI prints while it loads
            started = time.perf_counter()
            on_ray = ModelsOnRay(wanted, False, "--model", options)
            seconds_up = time.perf_counter() - started
            closing.callback(on_ray.close)
            here = [load_model(source, model_parallel=False) for source in wanted.values()]
        pools = {"here": ModelPool(here, 2, 600), "ray": ModelPool(on_ray.models, 2, 600)}
        for pool in pools.values():
            closing.callback(pool.shutdown)
        rows = [
            measure(pools, nickname, int(part), args.rounds)
            for nickname in (AT_ONCE, args.model)
            for part in args.conversations.split(",")
        ]
    title = f"a reply here and on Ray, medians ({os.cpu_count()} cores; Ray and models up in {seconds_up:.1f} s)"
    print_table(title, COLUMNS, rows, width=120)
    write_json(args.json, {"seconds_up": seconds_up, "rows": rows})


if __name__ == "__main__":
    main()

"""What joining conversations in batches brings, and what it costs: the model pool against the model's bare ``batch_act``.

Usage: ``python benchmarks/batching.py [--models demo/blender_tiny] [--conversations 1,4,16] [--json FILE]``

For each number of conversations: so many threads, as a run has them, ask the pool for replies at once; the same batch goes
straight to ``batch_act``, in turns with it, so that both see the same machine. One conversation shows the overhead of a
reply that nobody joins.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from parlai.core.message import Message
from rich.console import Console
from rich.table import Table

from model_chat.scripts.simulate_workers import LINES
from model_chat.serving.catalogue import models_in_folder
from model_chat.serving.loading import LoadedModel, load_model
from model_chat.serving.pool import ModelPool

ROOT = Path(__file__).resolve().parents[1]


def seconds_of(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def observation(number: int) -> Message:
    """What the worker of a conversation says."""
    return Message({"id": "Speaker 1", "text": LINES[number % len(LINES)], "episode_done": False})


def measure(model: LoadedModel, conversations: int, rounds: int) -> dict[str, Any]:
    """Let a model reply to so many conversations at once, bare and through the pool.

    Args:
        model: loaded.
        conversations: how many, each with a history of its own that begins anew in every round.
        rounds: how often; the medians count.
    """
    pool = ModelPool([model], 1, 600, max_batch_size=conversations, batch_wait_ms=20 if conversations > 1 else 0)
    bare, pooled, one_by_one = [], [], []
    before = pool.counts()[model.nickname]
    with ThreadPoolExecutor(conversations) as threads:
        list(threads.map(lambda _: time.sleep(0.01), range(conversations)))  # the threads are there
        for turn in range(rounds + 1):
            clones = [model.clone() for _ in range(conversations)]

            def raw(clones: list[Any] = clones) -> None:
                seen = [clone.observe(observation(number)) for number, clone in enumerate(clones)]
                for clone, act in zip(clones, model.agent.batch_act(seen), strict=True):
                    clone.self_observe(act)

            spent = [seconds_of(raw)]
            clones = [model.clone() for _ in range(conversations)]

            def pooled_round(clones: list[Any] = clones) -> None:
                def ask(number: int) -> Any:
                    return pool.reply(model.nickname, clones[number], [observation(number)])

                list(threads.map(ask, range(conversations)))

            spent.append(seconds_of(pooled_round))
            if turn == 0:
                before = pool.counts()[model.nickname]  # the first round warms up
                continue
            bare.append(spent[0])
            pooled.append(spent[1])
            if turn == 1:
                for alone in range(conversations):
                    clone = model.clone()
                    clone.observe(observation(alone))
                    one_by_one.append(seconds_of(clone.act))
    after = pool.counts()[model.nickname]
    pool.shutdown()
    raw_seconds, pool_seconds = statistics.median(bare), statistics.median(pooled)
    return {
        "model": model.nickname,
        "conversations": conversations,
        "one_by_one_replies_per_s": conversations / sum(one_by_one),
        "raw_replies_per_s": conversations / raw_seconds,
        "pool_replies_per_s": conversations / pool_seconds,
        "pool_to_raw": raw_seconds / pool_seconds,
        "overhead_ms": (pool_seconds - raw_seconds) * 1000,
        "mean_batch": (after.replies - before.replies) / max(1, after.batches - before.batches),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-model-folder", type=Path, default=ROOT / "models")
    parser.add_argument("--models", default="demo/blender_tiny", help="default: %(default)s")
    parser.add_argument("--conversations", default="1,4,16", help="numbers of conversations (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    sources = models_in_folder("--base-model-folder", str(args.base_model_folder))
    rows = []
    for nickname in args.models.split(","):
        if nickname not in sources:
            parser.error(
                f"--models: there is no '{nickname}' in {args.base_model_folder}; 'make models' makes the demo's."
            )
        with contextlib.redirect_stdout(sys.stderr):  # ParlAI prints while it loads
            model = load_model(sources[nickname], model_parallel=False)
        rows += [measure(model, int(part), args.rounds) for part in args.conversations.split(",")]
    table = Table(title=f"replies a second ({os.cpu_count()} cores)")
    for title in ("model", "conversations", "one by one", "batch_act", "pool", "pool / batch_act", "overhead", "batch"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["conversations"]),
            f"{row['one_by_one_replies_per_s']:.2f}",
            f"{row['raw_replies_per_s']:.2f}",
            f"{row['pool_replies_per_s']:.2f}",
            f"{row['pool_to_raw']:.2f}",
            f"{row['overhead_ms']:.1f} ms",
            f"{row['mean_batch']:.1f}",
        )
    Console(width=120).print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

"""How many workers one run serves with a model that takes so long for a reply: measured beside the formula.

Usage: ``python benchmarks/capacity.py [--model-seconds 1] [--think-time 8] [--at-once 1] [--workers 4,9,18] [--json FILE]``

People think, write and read for Z seconds a turn, the model replies in t seconds, c replies at a time. These are the
asymptotic bounds of a closed system with one queue (E. D. Lazowska et al., Quantitative System Performance, 1984,
chapter 5): with N workers a reply takes at least ``max(t, N t / c - Z)``, and up to ``N* = c (t + Z) / t`` workers hardly
wait for each other.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from _figures import add_json_flag, print_table, write_json
from many_workers import measure


def most_without_waiting(model_seconds: float, think_time: float, at_once: int) -> float:
    """N*, the number of workers from which on they wait for each other.

    Args:
        model_seconds: t, of one reply; positive.
        think_time: Z, seconds a turn.
        at_once: c, replies at a time.
    """
    return at_once * (model_seconds + think_time) / model_seconds


def least_wait(workers: int, model_seconds: float, think_time: float, at_once: int) -> float:
    """The least mean time that a reply can take, seconds."""
    return max(model_seconds, workers * model_seconds / at_once - think_time)


COLUMNS = {
    "workers": "{workers}",
    "least by the formula": "{least_s:.2f} s",
    "reply p50": "{turn_p50_s:.2f} s",
    "reply p95": "{turn_p95_s:.2f} s",
    "server CPU": "{server_cpu_s:.1f} s",
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-seconds", type=float, default=1.0, help="t (default: %(default)s)")
    parser.add_argument("--think-time", type=float, default=8.0, help="Z, mean seconds (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=1, help="c, max_concurrent_responses (default: %(default)s)")
    parser.add_argument("--workers", help="numbers of workers (default: half of N*, N*, twice N*)")
    parser.add_argument("--turns", type=int, default=6, help="exchanges of a conversation (default: %(default)s)")
    add_json_flag(parser)
    args = parser.parse_args()
    knee = most_without_waiting(args.model_seconds, args.think_time, args.at_once)
    numbers = (
        [int(part) for part in args.workers.split(",")] if args.workers else [round(knee * k) for k in (0.5, 1, 2)]
    )
    flags = [f"mephisto.blueprint.max_concurrent_responses={args.at_once}"]
    found: list[dict[str, Any]] = []
    for workers in numbers:
        row = measure(workers, args.turns, args.think_time, flags, args.model_seconds)
        row["least_s"] = least_wait(workers, args.model_seconds, args.think_time, args.at_once)
        found.append(row)
    title = f"t = {args.model_seconds:g} s, Z = {args.think_time:g} s, c = {args.at_once}: N* = {knee:.1f}"
    print_table(f"{title} ({os.cpu_count()} cores)", COLUMNS, found, width=120)
    write_json(args.json, found)


if __name__ == "__main__":
    main()

"""How long one draw from the image stack takes, in memory and on disk.

Usage: ``python benchmarks/image_stack.py [--images 100000] [--folder FOLDER]``

Three groups of times, each the mean over the draws of a scenario, the median and the 99th percentile (on a busy machine
the mean and the last hold the waits for a core as well):

* *memory*: choosing and noting the place, with the lock held (``Bookkeeping.reserve``);
* *call*: all of ``get_next_image`` but the wait for the disk (``fsync`` and ``fdatasync`` replaced by nothing);
* *durable*: ``get_next_image`` as it is; this is the disk's figure more than ours.

The last rows are a linear scan over the images, as a plain implementation of the rules would do it, for comparison.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.table import Table

from model_chat.images.stack import ImageStack

MODELS = ["model_1", "model_2"]
EVALS = 3


@contextmanager
def without_waiting_for_the_disk() -> Iterator[None]:
    """Replace ``os.fsync`` and ``os.fdatasync`` by nothing."""
    with mock.patch.object(os, "fsync", lambda _: None), mock.patch.object(os, "fdatasync", lambda _: None):
        yield


def timed(draw: Callable[[str], object], workers: list[str]) -> list[float]:
    """Return the seconds of each draw."""
    seconds = []
    for worker in workers:
        start = time.perf_counter()
        draw(worker)
        seconds.append(time.perf_counter() - start)
    return seconds


def in_memory(stack: ImageStack, worker: str) -> None:
    """The part of a draw that needs no disk."""
    with stack._lock:
        stack._books.reserve(worker)


def advance(stack: ImageStack, worker: str, images: int) -> None:
    """Let a worker have so many images, without the disk."""
    for _ in range(images):
        in_memory(stack, worker)


def fresh(stack: ImageStack) -> list[str]:
    """Workers who take turns."""
    return [f"w{number % 50}" for number in range(5_000)]


def deep(stack: ImageStack) -> list[str]:
    """One worker far into a stack of which every image still has free places."""
    advance(stack, "deep", stack.num_images * 9 // 10)
    return ["deep"] * (stack.num_images // 20)


def storm(stack: ImageStack) -> list[str]:
    """One worker far into the stack, 1,000 of whose places were just given back, and others who take them."""
    advance(stack, "deep", stack.num_images * 9 // 10)
    for image_idx in range(0, stack.num_images * 9 // 10, max(1, stack.num_images * 9 // 10 // 1_000)):
        taken = stack._books.places[image_idx]
        model = next(model for model in stack.models if taken and "deep" in taken[model])
        stack.remove_worker("deep", image_idx, model)
    return [name for number in range(1_000) for name in ("deep", f"other {number}")]


def exhausted(stack: ImageStack) -> list[str]:
    """A worker who has had every image and asks again, while others give places back."""
    advance(stack, "all", stack.num_images)
    return ["all"] * 1_000


SCENARIOS: dict[str, Callable[[ImageStack], list[str]]] = {
    "50 workers take turns": fresh,
    "one worker, 90 % through": deep,
    "after 1,000 places given back": storm,
    "worker without anything left": exhausted,
}


class LinearScan:
    """The same rules without any index."""

    def __init__(self, images: int) -> None:
        self.places: list[dict[str, list[str]]] = [{model: [] for model in MODELS} for _ in range(images)]
        self.rng = random.Random(0)

    def draw(self, worker: str) -> None:
        """Look at every image from the first."""
        for entry in self.places:
            if any(worker in workers for workers in entry.values()):
                continue
            needed = [model for model in MODELS if len(entry[model]) < EVALS]
            if needed:
                entry[self.rng.choice(needed)].append(worker)
                return


def cells(seconds: list[float]) -> list[str]:
    """Mean, median and 99th percentile in µs."""
    return [
        f"{statistics.fmean(seconds) * 1e6:,.1f}",
        f"{statistics.median(seconds) * 1e6:,.1f}",
        f"{statistics.quantiles(seconds, n=100)[98] * 1e6:,.1f}",
    ]


def threads(images: int, folder: Path, number: int) -> tuple[float, float, int]:
    """Let threads draw at once. Returns draws a second, draws a sync, and all draws."""
    each = 200
    syncs = 0
    real = os.fdatasync

    def counted(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        real(descriptor)

    with ImageStack(images, MODELS, EVALS, folder, rng=0) as stack, mock.patch.object(os, "fdatasync", counted):
        crowd = [
            threading.Thread(target=lambda name=f"w{n}": [stack.get_next_image(name) for _ in range(each)])
            for n in range(number)
        ]
        start = time.perf_counter()
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        seconds = time.perf_counter() - start
    return each * number / seconds, each * number / max(1, syncs), each * number


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Times of one draw from the image stack.")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to write (its disk is what is measured)")
    parser.add_argument("--no-linear-scan", action="store_true", help="leave the slow comparison out")
    args = parser.parse_args()

    console = Console(width=140)
    table = Table(
        title=f"One draw at {args.images:,} images × {len(MODELS)} models × {EVALS} evaluations, µs "
        f"(load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
    )
    table.add_column("scenario")
    for name in ("memory mean", "p50", "p99", "call mean", "p50", "p99", "durable mean", "p50", "p99"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        for number, (name, prepare) in enumerate(SCENARIOS.items()):
            row: list[str] = []
            for column in ("memory", "call", "durable"):
                # Compaction is left out here; the table below has it.
                folder = Path(scratch) / f"{number}_{column}"
                stack = ImageStack(args.images, MODELS, EVALS, folder, rng=0, compact_after=10**9)
                with without_waiting_for_the_disk():
                    workers = prepare(stack)
                if column == "memory":
                    row += cells(timed(lambda worker, s=stack: in_memory(s, worker), workers))  # type: ignore[misc]  # mypy infers no lambda with a default
                elif column == "call":
                    with without_waiting_for_the_disk():
                        row += cells(timed(stack.get_next_image, workers))
                else:
                    row += cells(timed(stack.get_next_image, workers[:1_000]))
                stack.close()
            table.add_row(name, *row)
        if not args.no_linear_scan:
            scan = LinearScan(args.images)
            table.add_row(
                "linear scan: 50 workers take turns", *cells(timed(scan.draw, [f"w{n % 50}" for n in range(5_000)]))
            )
            for entry in scan.places[: args.images * 9 // 10]:
                entry[MODELS[0]] = ["deep"]
            table.add_row("linear scan: one worker, 90 % through", *cells(timed(scan.draw, ["deep"] * 20)))
        console.print(table)

        table = Table(title="Threads that draw at once, durable")
        for name in ("threads", "draws", "draws a second", "draws a sync"):
            table.add_column(name, justify="right")
        for number in (1, 8, 64):
            rate, shared, draws = threads(args.images, Path(scratch) / f"threads_{number}", number)
            table.add_row(str(number), f"{draws:,}", f"{rate:,.0f}", f"{shared:.1f}")
        console.print(table)

        with ImageStack(args.images, MODELS, EVALS, Path(scratch) / "compact", rng=0) as stack:
            for number in range(args.images // 1_000):
                advance(stack, f"w{number}", 1_000)
            start = time.perf_counter()
            stack._take_turn()
            stack._compact()
            stack._end_turn()
            seconds = time.perf_counter() - start
            size = (Path(scratch) / "compact" / "stack.json").stat().st_size
        console.print(
            f"Writing stack.json anew ({size / 1e6:.1f} MB, once every {max(100, args.images):,} changes): "
            f"{seconds * 1e3:,.0f} ms"
        )
        start = time.perf_counter()
        ImageStack(args.images, MODELS, EVALS, Path(scratch) / "compact").close()
        console.print(f"Opening and closing that stack: {(time.perf_counter() - start) * 1e3:,.0f} ms")


if __name__ == "__main__":
    main()

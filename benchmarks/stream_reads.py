"""How often a streamed reply is read, and how late its end is: the rule of agents/_gathered_reads.py, simulated.

    python benchmarks/stream_reads.py [--tokens 150]

No clock and no socket: the figures are the same on any machine. Tokens come evenly, each late by up to a jitter; the loop
looks every 25 ms, late by 2 ms on average. A reply ends with three events (reason, usage, `[DONE]`), two or one.
"""

from __future__ import annotations

import argparse
import random

from _figures import print_table

from model_chat.agents._gathered_reads import SECONDS_BETWEEN, StreamReads
from model_chat.scripts.simulate_workers import quantile

EVENT_BYTES, WIRE_BYTES, LAST_BYTES = 95, 109, 24
"""Of an event's data, of an event on the wire, and of the mark of the end."""
REPLIES, MEAN_LATE = 400, 0.002


def read(tokens: int, rate: float, jitter: float, ends: int, rng: random.Random) -> tuple[int, float]:
    """Simulate one reply; return the number of reads, and the seconds from its last event to the last read."""
    events = sorted((number / rate + rng.uniform(0, jitter), WIRE_BYTES) for number in range(tokens))
    last = events[-1][0]
    events += [(last, LAST_BYTES if number == 2 else WIRE_BYTES) for number in range(ends)]
    now = events.pop(0)[0]
    stream, waiting, reads = StreamReads(0, EVENT_BYTES, now), 0, 0
    now += rng.uniform(0, SECONDS_BETWEEN)
    while True:
        while events and events[0][0] <= now:
            waiting += events.pop(0)[1]
        if stream.is_due(waiting, now):
            if not waiting:  # the read waits for what comes next
                now, waiting = events.pop(0)
            reads, waiting = reads + 1, 0
            if not events:
                return reads, now - last
        now += SECONDS_BETWEEN + rng.expovariate(1 / MEAN_LATE)


def main() -> None:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=150, help="of a reply")
    tokens, rng, rows = parser.parse_args().tokens, random.Random(1), []
    for rate in (10, 30, 60, 100):
        for jitter in (0.0, 0.02, 0.06):
            for ends in (3, 2, 1):
                found = [read(tokens, rate, jitter, ends, rng) for _ in range(REPLIES)]
                late = sorted(seconds for _, seconds in found)
                reads = sum(number for number, _ in found) / REPLIES
                rows.append(
                    {"rate": rate, "jitter": jitter, "ends": ends, "reads": reads, "late": quantile(late, 0.95)}
                )
    columns = {
        "tokens/s": "{rate}",
        "jitter": "{jitter} s",
        "events of the end": "{ends}",
        "reads": "{reads:.1f}",
        "end p95": "{late:.3f} s",
    }
    print_table(f"replies of {tokens} tokens", columns, rows, width=100)


if __name__ == "__main__":
    main()

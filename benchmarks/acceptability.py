"""Memory and time of the offensive-language matcher for many conversations: one each, as the original does, or one for all.

    python benchmarks/acceptability.py [--conversations 64] [--list-size 400]

Each way runs in a process of its own, so that neither profits from the other. ``shared`` is what this project does. The
shipped list of words is short; with ``--list-size 400`` a list of that many made-up words stands in for ParlAI's own.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _figures import print_table
from _process import status_of

MESSAGES = (
    "I like long walks in the hills. What do you like?",
    "That sounds interesting, please tell me more about it.",
    "My sister plays the violin in an orchestra.",
    "Do you think it will rain tomorrow?",
    "I had soup for lunch and it was very good.",
    "What kind of music do you listen to?",
)

COLUMNS = {
    "matcher": "{matcher}",
    "made in s": "{seconds:.3f}",
    "memory MB": "{mb:.1f}",
    "ms a check": "{check_ms:.3f}",
}


def measure(way: str, conversations: int, words: Path) -> dict[str, float]:
    """Make the checkers of so many simultaneous conversations, and check one conversation with each.

    Args:
        way: ``each`` or ``shared``.

    Returns:
        seconds and MB for making them, and milliseconds a check.
    """
    from model_chat import compat as compat
    from model_chat.quality.acceptability import AcceptabilityChecker, offensive_matcher

    from parlai.utils.safety import OffensiveStringMatcher  # isort: skip  (imported before anything is measured)

    memory, started = status_of()["VmRSS"] / 1000, time.perf_counter()
    if way == "each":
        checkers = [
            AcceptabilityChecker(OffensiveStringMatcher(str(words)).contains_offensive_language)
            for _ in range(conversations)
        ]
    else:
        checkers = [AcceptabilityChecker(offensive_matcher(str(words))) for _ in range(conversations)]
    made, grown = time.perf_counter() - started, status_of()["VmRSS"] / 1000 - memory
    started = time.perf_counter()
    for checker in checkers:
        checker.violations(MESSAGES, begun_before=True)
    return {"seconds": made, "mb": grown, "check_ms": (time.perf_counter() - started) / conversations * 1000}


def make_list(folder: str, size: int) -> Path:
    """Write so many words of letters drawn at random."""
    rng, file = random.Random(0), Path(folder) / "words.txt"
    words = {"".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(4, 9))) for _ in range(size)}
    file.write_text("\n".join(sorted(words)), encoding="utf-8")
    return file


def main() -> None:
    """Measure both ways and print a table."""
    from model_chat.quality.acceptability import read_words

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--conversations", type=int, default=64)
    parser.add_argument("--list-size", type=int, default=0, help="made-up words; 0: the shipped list")
    parser.add_argument("--way", choices=["each", "shared"], help=argparse.SUPPRESS)
    parser.add_argument("--words", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way is not None:
        print(json.dumps(measure(args.way, args.conversations, args.words)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.list_size:
            words = make_list(folder, args.list_size)
        else:
            from model_chat.quality.acceptability import SHIPPED_WORDS

            words = Path(folder) / "words.txt"
            words.write_text("\n".join(read_words(str(SHIPPED_WORDS))), encoding="utf-8")
        number = len(words.read_text(encoding="utf-8").splitlines())
        rows = []
        for way, name in (("each", "one a conversation"), ("shared", "one for the process")):
            command = [sys.executable, "-W", "ignore", __file__, "--way", way, "--words", str(words)]
            command += ["--conversations", str(args.conversations)]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append({"matcher": name, **json.loads(run.stdout.splitlines()[-1])})
        print_table(f"{args.conversations} conversations, {number} words", COLUMNS, rows, width=80)


if __name__ == "__main__":
    main()

"""How long a model of the base folder takes to load and to reply, by threads and by how these wait for each other.

Usage: ``python benchmarks/reply_time.py [--nickname demo/smollm2] [--replies 12] [--tokens 40] [--threads 1,2] [--short]``

Each row is a process of its own, since the way of waiting is read when torch is loaded. It loads the model as a run does
and holds conversations of six turns with it. Every reply has exactly ``--tokens`` tokens, so that rows compare; the prompt
grows with the conversation, as it does in a run. Seconds are wall-clock, and beside them stand the processor's: on a busy
machine the first grow with the others' work, the second hardly do when threads wait passively.

*waiting* is OpenMP's ``OMP_WAIT_POLICY``: actively (threads spin, the default) or passively (they sleep). *kept* is whether
what the model has read of a conversation is kept from one turn to the next (``--prompt-cache-mb``).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _figures import print_table

MODELS_DIR = Path(__file__).resolve().parent.parent / "models"
SAID = (
    "Hi!",
    "I'm fine. I just came back from a walk with my dog, it was lovely outside.",
    "She is a beagle and seven years old. Do you have any pets?",
    "What do you like to cook when friends come over for dinner?",
    "I don't eat meat, so I would have to change that a little. What else is there?",
    "That was nice. I have to go now, but thank you for talking to me!",
)
COLUMNS = {
    "threads": "{threads}",
    "waiting": "{waiting}",
    "kept": "{kept}",
    "load": "{loaded:.1f}",
    "first reply": "{first:.2f}",
    "median": "{median:.2f}",
    "slowest": "{slowest:.2f}",
    "CPU a reply": "{cpu:.2f}",
    "tokens/s": "{rate:.1f}",
    "machine's load": "{machine}",
}


def main() -> None:
    """Run every row in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models-dir", type=Path, default=MODELS_DIR, help="the base model folder")
    parser.add_argument("--nickname", default="demo/smollm2", help="a model that has the Hugging Face agent")
    parser.add_argument("--replies", type=int, default=12, help="replies a row, six a conversation")
    parser.add_argument("--tokens", type=int, default=40, help="tokens a reply")
    parser.add_argument("--threads", default="1,2", help="numbers of torch's threads, separated by commas")
    parser.add_argument("--short", action="store_true", help="one row: as many threads as cores, passive, kept")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # the process of one row: its settings as JSON
    given = parser.parse_args()
    if given.row:
        print(json.dumps(measure(given.models_dir, given.nickname, given.tokens, **json.loads(given.row))))
        return
    rows = [
        {"threads": int(threads), "waiting": waiting, "kept": kept, "replies": given.replies}
        for threads in given.threads.split(",")
        for waiting, kept in (("passive", True), ("passive", False), ("active", True))
        if not (waiting == "active" and int(threads) == 1)  # one thread waits for nobody
    ]
    if given.short:
        rows = [{"threads": os.cpu_count() or 1, "waiting": "passive", "kept": True, "replies": 6}]
    title = f"{given.nickname}: replies of {given.tokens} tokens, seconds ({os.cpu_count()} cores)"
    print_table(title, COLUMNS, [figures(row, given.tokens) for row in rows], width=120)


def figures(row: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Measure a row, and summarise it."""
    result = run_row(row)
    seconds = result["seconds"]
    return {
        **row,
        "kept": "yes" if row["kept"] else "no",
        "loaded": result["load"],
        "first": seconds[0],
        "median": statistics.median(seconds),
        "slowest": max(seconds),
        "cpu": result["cpu"],
        "rate": tokens / statistics.median(seconds),
        "machine": f"{result['load_before']:.1f} to {os.getloadavg()[0]:.1f}",
    }


def run_row(row: dict[str, Any]) -> dict[str, Any]:
    """Measure one row in a new process."""
    command = [sys.executable, *sys.argv, "--row", json.dumps(row)]
    environment = {**os.environ, "OMP_WAIT_POLICY": str(row["waiting"])}
    load_before = os.getloadavg()[0]
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(finished.stdout.splitlines()[-1]), "load_before": load_before}


def measure(
    models_dir: Path, nickname: str, tokens: int, threads: int, waiting: str, kept: bool, replies: int
) -> dict[str, Any]:
    """Load the model and talk to it; returns seconds: to load, of each reply, and of the processor for a reply."""
    del waiting  # in the environment already
    logging.disable(logging.WARNING)
    started = time.perf_counter()
    import torch

    from model_chat.serving.catalogue import models_in_folder
    from model_chat.serving.loading import load_model

    torch.set_num_threads(threads)
    source = models_in_folder("--models-dir", str(models_dir)).get(nickname)
    if source is None:
        sys.exit(
            f"--nickname: there is no model '{nickname}' in {models_dir}; scripts/make_demo_models.py makes the demo models."
        )
    model = load_model(source, model_parallel=False)
    loaded = time.perf_counter() - started
    chat_model = model.agent._chat_model
    chat_model._stop_ids = frozenset()  # each reply runs to its last token
    if not kept:
        chat_model._cache._max_bytes = 0
    model.opt["max_new_tokens"] = tokens  # type: ignore[index]  # the agent's own dictionary, which clones read
    seconds: list[float] = []
    cpu_started = time.process_time()
    while len(seconds) < replies:
        clone = model.clone()
        for said in SAID[: replies - len(seconds)]:
            asked = time.perf_counter()
            clone.observe({"text": said, "episode_done": False})
            clone.act()
            seconds.append(time.perf_counter() - asked)
    return {"load": loaded, "seconds": seconds, "cpu": (time.process_time() - cpu_started) / replies}


if __name__ == "__main__":
    main()

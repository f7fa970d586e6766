"""What joining conversations in batches brings, and what it costs: the model pool against the model's bare ``batch_act``.

Usage: ``python benchmarks/batching.py [--models demo/blender_tiny,demo/smollm2] [--conversations 1,4,16] [--json FILE]``, or
with ``--blender-90m`` a generator of that shape with random weights. On a machine with a GPU the models use it; there, say
``--conversations 16,64,256``.

For each number of conversations: so many threads, as a run has them, ask the pool for replies at once; the same batch goes
straight to ``batch_act``, in turns with it, so that both see the same machine. One conversation shows the overhead of a
reply that nobody joins.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from _figures import add_json_flag, print_table, write_json
from _shaped_model import NICKNAME, make_blender_90m
from parlai.core.message import Message

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


def count_tokens(agent: Any, text: str) -> int:
    """How many tokens of the model's own a reply has."""
    tokenizer = getattr(agent, "tokenizer", None)
    return len(agent.dict.txt2vec(text) if tokenizer is None else tokenizer(text)["input_ids"])


def measure(model: LoadedModel, conversations: int, rounds: int) -> dict[str, Any]:
    """Let a model reply to so many conversations at once, bare and through the pool.

    Args:
        conversations: how many, each with a history of its own that begins anew in every round.
        rounds: how often; the medians count.
    """
    pool = ModelPool([model], 1, 600, max_batch_size=conversations, batch_wait_ms=20 if conversations > 1 else 0)
    bare, pooled, one_by_one = [], [], []
    tokens: list[int] = []
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

                tokens.extend(count_tokens(model.agent, act["text"]) for act in threads.map(ask, range(conversations)))

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
        "tokens_per_reply": statistics.fmean(tokens),
        "pool_tokens_per_s": statistics.fmean(tokens) * conversations / pool_seconds,
        "overhead_ms": (pool_seconds - raw_seconds) * 1000,
        "mean_batch": (after.replies - before.replies) / max(1, after.batches - before.batches),
    }


COLUMNS = {
    "model": "{model}",
    "conversations": "{conversations}",
    "one by one": "{one_by_one_replies_per_s:.2f}",
    "batch_act": "{raw_replies_per_s:.2f}",
    "pool": "{pool_replies_per_s:.2f}",
    "pool / batch_act": "{pool_to_raw:.2f}",
    "overhead": "{overhead_ms:.1f} ms",
    "batch": "{mean_batch:.1f}",
    "tokens/s": "{pool_tokens_per_s:.0f}",
}


def main() -> None:
    """Run the benchmark."""
    with contextlib.ExitStack() as scratch:
        run(scratch)


def run(scratch: contextlib.ExitStack) -> None:
    """Run the benchmark; temporary folders go with ``scratch``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-model-folder", type=Path, default=ROOT / "models")
    parser.add_argument("--models", default="demo/blender_tiny", help="default: %(default)s")
    parser.add_argument("--blender-90m", action="store_true", help="a generator of that shape with random weights, too")
    parser.add_argument("--conversations", default="1,4,16", help="numbers of conversations (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    add_json_flag(parser)
    args = parser.parse_args()
    sources = models_in_folder("--base-model-folder", str(args.base_model_folder))
    nicknames = [nickname for nickname in args.models.split(",") if nickname]
    rows = []
    if args.blender_90m:
        made = Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="blender_90m_")))
        with contextlib.redirect_stdout(sys.stderr):
            make_blender_90m(made)
        sources = {**sources, **models_in_folder("--blender-90m", str(made))}
        nicknames.append(NICKNAME)
    for nickname in nicknames:
        if nickname not in sources:
            parser.error(
                f"--models: there is no '{nickname}' in {args.base_model_folder}; 'make models' makes the demo's."
            )
        with contextlib.redirect_stdout(sys.stderr):  # ParlAI prints while it loads
            model = load_model(sources[nickname], model_parallel=False)
        rows += [measure(model, int(part), args.rounds) for part in args.conversations.split(",")]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    print_table(f"replies a second ({device})", COLUMNS, rows, width=130)
    write_json(args.json, rows)


if __name__ == "__main__":
    main()

"""What several characters of one model cost beside one: memory, replies, and throughput.

Usage: ``python benchmarks/shared_weights.py [--model-folder models/demo/smollm2] [--rounds 5] [--apart] [--json FILE]``.

The characters differ in their system prompts alone. Memory is that of a process of its own for each row, after loading and
one reply; ``--apart`` adds a row with a copy of the weights for each character. For the throughput so many threads, as a run
has them, ask the pool for replies at once: in each round first of one character (each in turn), then of all, so that both
see the same machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from _figures import add_json_flag, print_table, write_json
from _process import status_of
from parlai.core.message import Message

from model_chat.agents._weights import LoadedWeights, Weights
from model_chat.scripts.simulate_workers import LINES
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import LoadedModel, load_model
from model_chat.serving.pool import ModelPool

ROOT = Path(__file__).resolve().parents[1]
AGENT = "model_chat.agents.hugging_face:HuggingFaceChatAgent"
CHARACTERS = {
    "warm": "You are a warm and curious friend. Answer in two sentences.",
    "curt": "You are a curt and busy clerk. Answer in two sentences.",
    "wise": "You are an old and wise teacher. Answer in two sentences.",
    "glum": "You are a glum and tired sailor. Answer in two sentences.",
}


def load(folder: Path, names: Sequence[str], tokens: int) -> list[LoadedModel]:
    """Load characters that reply greedily, ``tokens`` tokens at most."""
    flags = f"--model {AGENT} --hf-model {folder} --do-sample False --whole-sentences False --max-new-tokens {tokens}"
    return [
        load_model(ModelSource(name, flags=f"{flags} --system-prompt {json.dumps(CHARACTERS[name])}"), False)
        for name in names
    ]


def heard(number: int) -> Message:
    """What the worker of a conversation says."""
    return Message({"id": "Speaker 1", "text": LINES[number % len(LINES)], "episode_done": False})


# --- memory ---


def mebibytes_of_this_process() -> dict[str, float]:
    """All of its memory, and what of it no file backs."""
    status = status_of()
    return {"rss_mib": status["VmRSS"] / 1024, "anonymous_mib": status["RssAnon"] / 1024}


class WeightsApart(LoadedWeights):
    """Loads a copy for everyone who asks."""

    def get(self, identity: Hashable, load: Callable[[], Weights]) -> Weights:
        """Return what ``load`` makes."""
        del identity
        return load()


def memory_with(folder: Path, names: Sequence[str], shared: bool) -> dict[str, Any]:
    """Load characters, let each reply once, and say what this process then has; in a process of its own."""
    loaded = LoadedWeights() if shared else WeightsApart()
    with mock.patch("model_chat.agents._model_files.LOADED", loaded):
        started = time.perf_counter()
        models = load(folder, names, tokens=8)
        seconds = time.perf_counter() - started
    for model in models:
        clone = model.clone()
        clone.observe(heard(0))
        clone.act()
    return {**mebibytes_of_this_process(), "load_seconds": seconds}


def measure_memory(folder: Path, apart: bool) -> list[dict[str, Any]]:
    """The memory of one character, of all with one set of weights, and of all with a set each."""
    plan = [("one character", 1, True), (f"{len(CHARACTERS)} characters", len(CHARACTERS), True)]
    if apart:
        plan.append((f"{len(CHARACTERS)} copies of the weights", len(CHARACTERS), False))
    rows: list[dict[str, Any]] = []
    for title, count, shared in plan:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            row = process.apply(memory_with, (folder, list(CHARACTERS)[:count], shared))
        first = rows[0] if rows else row
        rows.append({"title": title, **row, "ratio": row["rss_mib"] / first["rss_mib"]})
    return rows


# --- replies and throughput ---


class Round:
    """Asks a pool for one reply in each of some new conversations at once."""

    def __init__(self, models: Sequence[LoadedModel], conversations: int) -> None:
        self._models = {model.nickname: model for model in models}
        self._conversations = conversations
        self._threads = ThreadPoolExecutor(conversations)
        self._pool = ModelPool(models, 1, 600, max_batch_size=conversations, batch_wait_ms=200)

    def run(self, names: Sequence[str]) -> tuple[float, list[Any]]:
        """Ask characters by turns; return the seconds and the acts."""
        clones = [
            (number, name, self._models[name].clone())
            for number in range(self._conversations)
            for name in [names[number % len(names)]]
        ]
        started = time.perf_counter()
        acts = list(self._threads.map(lambda each: self._pool.reply(each[1], each[2], [heard(each[0])]), clones))
        return time.perf_counter() - started, acts

    def alone(self, names: Sequence[str]) -> list[str]:
        """What the same conversations get one by one."""
        texts = []
        for number in range(self._conversations):
            clone = self._models[names[number % len(names)]].clone()
            clone.observe(heard(number))
            texts.append(str(clone.act()["text"]))
        return texts

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        self._threads.shutdown()


def tokens_in(acts: Sequence[Any]) -> int:
    """How many tokens the model wrote."""
    return sum(act["generation"].completion_tokens for act in acts)


def measure_throughput(folder: Path, conversations: int, tokens: int, rounds: int) -> tuple[list[dict[str, Any]], int]:
    """Compare conversations over one character with as many over all; return the rows, and how many replies were equal."""
    names = list(CHARACTERS)
    asking = Round(load(folder, names, tokens), conversations)
    _, acts = asking.run(names)  # the first round warms up
    equal = sum(act["text"] == text for act, text in zip(acts, asking.alone(names), strict=True))
    rates: dict[str, list[float]] = {"one": [], "all": []}
    replies: dict[str, list[float]] = {"one": [], "all": []}
    for number in range(rounds):
        for title, asked in (("one", [names[number % len(names)]]), ("all", names)):
            seconds, acts = asking.run(asked)
            rates[title].append(tokens_in(acts) / seconds)
            replies[title].append(conversations / seconds)
    asking.close()
    ratios = [there / here for here, there in zip(rates["one"], rates["all"], strict=True)]
    rows = [
        {
            "title": title,
            "conversations": conversations,
            "replies_per_s": statistics.median(replies[name]),
            "tokens_per_s": statistics.median(rates[name]),
            "ratio": ratio,
        }
        for title, name, ratio in (
            ("one character", "one", 1.0),
            (f"{len(names)} characters", "all", statistics.median(ratios)),
        )
    ]
    return rows, equal


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-folder", type=Path, default=ROOT / "models" / "demo" / "smollm2")
    parser.add_argument("--conversations", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=24, help="tokens of a reply at most (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="default: %(default)s")
    parser.add_argument(
        "--apart", action="store_true", help="measure the memory of a copy of the weights for each, too"
    )
    add_json_flag(parser)
    args = parser.parse_args()
    folder = args.model_folder.resolve()
    memory = measure_memory(folder, args.apart)
    throughput, equal = measure_throughput(folder, args.conversations, args.tokens, args.rounds)
    print_table(
        "Memory of a process",
        {
            "characters": "{title}",
            "RSS": "{rss_mib:,.0f} MiB",
            "anonymous": "{anonymous_mib:,.0f} MiB",
            "loaded in": "{load_seconds:.1f} s",
            "RSS ratio": "{ratio:.3f}",
        },
        memory,
        width=100,
    )
    print_table(
        f"Throughput; {equal} of {args.conversations} replies of a mixed batch equal those one by one",
        {
            "characters": "{title}",
            "conversations": "{conversations}",
            "replies/s": "{replies_per_s:.2f}",
            "tokens/s": "{tokens_per_s:.1f}",
            "tokens/s ratio": "{ratio:.3f}",
        },
        throughput,
        width=100,
    )
    write_json(args.json, {"memory": memory, "throughput": throughput, "equal": equal, "cores": os.cpu_count()})


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()

"""How fast, and in how much memory, conversations are compiled: `python benchmarks/compile_results.py`.

Makes conversations of 14 utterances with annotations, ratings, timing and a model's whole opt (8 kB each), as JSON
files in date folders or as a Mephisto database, compiles them in a process of their own, and prints time and peak
memory. Several sizes show whether time grows linearly. With `--comparisons`, two of the models answer each message, and
the worker says which reply is better: seven judgements a conversation, with a ranking.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

EXCHANGES = 7
BUCKETS = ("bucket_0", "bucket_1", "bucket_2", "bucket_3", "bucket_4", "none_all_good")
MODELS = ("blender/blender_90M", "blender/blender_3B", "poly/one", "poly/two")
_TEXT = (
    "i you we they think like want know tea coffee books music films really very much today tomorrow yesterday because "
    "people family work city country summer winter happy tired great bad new old good never always often house dog cat"
)
_WORDS = _TEXT.split()
_START = 1_790_000_000.0


def conversations(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Make that many conversations: workers of differing severity, models of differing quality."""
    chance = random.Random(seed)
    workers = max(2, count // 8)
    severity = [chance.betavariate(2, 8) for _ in range(workers)]
    quality = {name: 0.4 + 0.4 * i for i, name in enumerate(MODELS)}
    opt = {f"option_{i}": f"value {i}" for i in range(200)}
    for number in range(count):
        worker, model = chance.randrange(workers), MODELS[number % len(MODELS)]
        problem = min(0.9, severity[worker] * quality[model])
        dialog: list[dict[str, Any]] = []
        now = _START + number
        bad = 0
        for _ in range(EXCHANGES):
            text = " ".join(chance.choices(_WORDS, k=chance.randint(4, 14))) + chance.choice((".", "?", "!"))
            timing = {"shown": now, "first_key": now + 1, "sent": now + 2 + chance.random() * 20}
            dialog.append({"agent_idx": 0, "id": "Speaker 1", "text": text, "timestamp": now, "timing": timing})
            ticks = {bucket: chance.random() < problem for bucket in BUCKETS[:-1]}
            ticks[BUCKETS[-1]] = not any(ticks.values())
            bad += not ticks[BUCKETS[-1]]
            text = " ".join(chance.choices(_WORDS, k=chance.randint(6, 18))) + "."
            dialog.append(
                {"agent_idx": 1, "id": "Speaker 2", "text": text, "timestamp": now + 9, "problem_data": ticks}
            )
            now += 30
        dialog[-1]["final_rating"] = str(max(1, min(5, round(5 - bad / 2 + chance.gauss(0, 0.7)))))
        yield {
            "dialog": dialog,
            "workers": [f"WORKER{worker:06d}"],
            "bad_workers": [],
            "acceptability_violations": [""],
            "hit_ids": [str(number)],
            "assignment_ids": [str(number)],
            "task_description": {
                "annotations_config": "{}" * 200,
                "model_nickname": model,
                "model_file": f"/models/{model}/model",
                "model_opt": opt,
            },
            "personas": [["i like tea.", "i have a dog."], ["i live in a city.", "i read books."]],
            "context_dataset": "blended_skill_talk",
            "person1_seed_utterance": None,
            "person2_seed_utterance": None,
            "additional_context": None,
            "image_idx": None,
            "status": "complete",
            "reason": None,
        }


def comparisons(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Make that many conversations in which the replies of two models are compared, by workers with tastes of their own."""
    chance = random.Random(seed)
    strength = {name: 0.4 * number for number, name in enumerate(MODELS)}
    for conversation in conversations(count, seed):
        pair = chance.sample(MODELS, 2)
        taste = random.Random(conversation["workers"][0])
        liked = {name: strength[name] + taste.gauss(0, 0.5) for name in MODELS}
        judged = []
        for turn_idx, reply in enumerate(conversation["dialog"][1::2]):
            left, right = chance.sample(pair, 2)
            odds = math.exp(liked[left] - liked[right])
            pick = chance.choices(("left", "right", "tie"), (odds, 1, 0.5))[0]
            goes_on = chance.choice(("left", "right")) if pick == "tie" else pick
            other = " ".join(chance.choices(_WORDS, k=chance.randint(6, 18))) + "."
            texts = {side: reply["text"] if side == goes_on else other for side in ("left", "right")}
            sides = {
                side: {"model_nickname": name, "text": texts[side], "generation": None}
                for side, name in (("left", left), ("right", right))
            }
            reply["model_nickname"] = sides[goes_on]["model_nickname"]
            kept = {"strength": None, "reason": None, "continued_with": goes_on, "timestamp": reply["timestamp"]}
            judged.append({"turn_idx": turn_idx, **sides, "pick": pick, **kept})
        conversation["task_description"]["model_nickname"] = "|".join(pair)
        yield {**conversation, "comparisons": judged}


def make_files(folder: Path, made: Iterable[dict[str, Any]]) -> None:
    """Write conversations as JSON files, 5,000 a day."""
    for number, conversation in enumerate(made):
        day = 1 + number // 5000 % 28
        place = folder / f"2026_11_{day:02d}"
        if number % 5000 == 0:
            place.mkdir(parents=True, exist_ok=True)
        second = number % 5000
        name = f"202611{day:02d}_{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}_{number}_live.json"
        (place / name).write_bytes(orjson.dumps(conversation))


def make_database(folder: Path, made: Iterable[dict[str, Any]]) -> Path:
    """Write conversations as Mephisto 1.1 keeps them: rows, and a state file an agent."""
    path = folder / "database.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE projects (project_id INTEGER PRIMARY KEY, project_name TEXT, creation_date DATETIME);
        CREATE TABLE tasks (task_id INTEGER PRIMARY KEY, task_name TEXT, task_type TEXT, project_id INTEGER);
        CREATE TABLE workers (worker_id INTEGER PRIMARY KEY, worker_name TEXT, provider_type TEXT);
        CREATE TABLE agents (agent_id INTEGER PRIMARY KEY, worker_id INTEGER, unit_id INTEGER, task_id INTEGER,
          task_run_id INTEGER, assignment_id INTEGER, task_type TEXT, provider_type TEXT, status TEXT,
          creation_date DATETIME);
        INSERT INTO tasks VALUES (1, 'bench', 'model_chat_blueprint', NULL);
        INSERT INTO workers VALUES (1, 'worker', 'mock');
        """
    )
    for number, conversation in enumerate(made, 1):
        connection.execute(
            "INSERT INTO agents VALUES (?, 1, ?, 1, 1, ?, 'model_chat_blueprint', 'mock', 'completed', '2026-11-20')",
            (number, number, number),
        )
        place = folder / "data" / "runs" / "NO_PROJECT" / "1" / str(number) / str(number)
        place.mkdir(parents=True)
        said: list[dict[str, Any]] = [
            {"id": turn["id"], "text": turn["text"], "timestamp": turn["timestamp"], "task_data": {}}
            for turn in conversation["dialog"]
        ]
        said.append({"id": "SUBMIT_WORLD_DATA", "WORLD_DATA": {"custom_data": conversation}, "text": ""})
        state = {"outputs": {"messages": said, "final_submission": {}}, "inputs": {}, "metadata": {}}
        (place / "state.json").write_bytes(orjson.dumps(state))
    connection.commit()
    connection.close()
    return path


_MEASURED = """
import resource, sys, time
started = time.perf_counter()
from model_chat.analysis.compile_results import main
imported, cpu = time.perf_counter(), time.process_time()
status = main(sys.argv[1:])
ended = time.perf_counter()
own, child = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
used = own.ru_utime + own.ru_stime + child.ru_utime + child.ru_stime - cpu
print(f"MEASURED {imported - started} {ended - imported} {used} {own.ru_maxrss} {child.ru_maxrss}", file=sys.stderr)
sys.exit(status)
"""


def compile_once(arguments: list[str]) -> tuple[float, float, float, float, float]:
    """Compile in a fresh process.

    Returns:
        Seconds to import, seconds to compile, processor seconds to compile (all processes), peak MB of the process and
        of the largest of its children.
    """
    command = [sys.executable, "-c", _MEASURED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    line = next(line for line in done.stderr.splitlines() if line.startswith("MEASURED"))
    imported, compiled, cpu, own, child = (float(value) for value in line.split()[1:])
    return imported, compiled, cpu, own / 1024, child / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--conversations", default="1000,10000", help="sizes, comma-separated (default: %(default)s)")
    parser.add_argument("--comparisons", action="store_true", help="conversations in which two models are compared")
    parser.add_argument("--sources", default="files,database", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="the best of so many counts (default: %(default)s)")
    parser.add_argument("--format", choices=("csv", "json", "parquet"), default="csv")
    parser.add_argument("--extra", default="", help="more flags for compile_results, as one string")
    options = parser.parse_args()
    head = (
        "source",
        "conversations",
        "utterances",
        "seconds",
        "ms a conversation",
        "CPU ms a conv.",
        "import s",
        "peak MB",
        "child MB",
    )
    print("  ".join(f"{name:>17}" for name in head))
    for source in options.sources.split(","):
        for count in (int(part) for part in options.conversations.split(",")):
            with tempfile.TemporaryDirectory(prefix="compile_bench_") as temporary:
                folder = Path(temporary)
                started = time.perf_counter()
                content = comparisons(count) if options.comparisons else conversations(count)
                if source == "files":
                    make_files(folder / "in", content)
                    read = ["--results-folders", str(folder / "in")]
                else:
                    (folder / "in").mkdir()
                    read = ["--task-name", "bench", "--database-path", str(make_database(folder / "in", content))]
                made = time.perf_counter() - started
                best: tuple[float, float, float, float, float] | None = None
                for _ in range(options.runs):
                    out = folder / "out"
                    arguments = [*read, "--output-folder", str(out), "--results-format", options.format]
                    figures = compile_once(arguments + options.extra.split())
                    best = figures if best is None or figures[1] < best[1] else best
                    shutil.rmtree(out)
            if best is not None:
                imported, compiled, cpu, own, child = best
                cells = (
                    source,
                    f"{count:,}",
                    f"{count * EXCHANGES * 2:,}",
                    f"{compiled:.2f}",
                    f"{compiled / count * 1000:.3f}",
                    f"{cpu / count * 1000:.3f}",
                    f"{imported:.2f}",
                    f"{own:.0f}",
                    f"{child:.0f}",
                )
                print("  ".join(f"{cell:>17}" for cell in cells), f"  (made in {made:.0f} s)", flush=True)


if __name__ == "__main__":
    main()

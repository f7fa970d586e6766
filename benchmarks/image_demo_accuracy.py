"""How much of what is in a held-out picture the demo's image models name, and how they answer questions.

Usage: ``python benchmarks/image_demo_accuracy.py [--base-model-folder models] [--models demo/shapes_a,demo/shapes_b]``

Measured on the task's test pictures, none of which was trained on; every second one has a colour and a shape that no
training picture puts together. The model is asked as in image chat: it gets the picture and says the first word, then it is
asked about the colours, shapes, numbers and places.

*Colours right*: of the colours that are in the picture or in the reply, the share that is in both (each as often as it
occurs: ``|both| / max(|picture|, |reply|)``), a mean over the pictures. *Shapes right* likewise; *things right*: colour and
shape together. A model that names nothing scores 0, one that lists everything scores low; what can be had without looking
is in the row "says what it said of another": the same replies, each held against the next picture.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from model_chat.benchmarks._figures import print_table
from model_chat.tasks.shapes.scenes import COLOURS, NUMBERS, SHAPES, Scene, dialogue, draw, make_scene

PICTURES = 150
WHATS = ("colours", "shapes", "things")
OTHER = " (said of another picture)"
COLUMNS = {"model": "{model}", "pictures": "{pictures}", **{f"{what} right": f"{{{what}:.1%}}" for what in WHATS}}
DETAILS = {"model": "{model}", "question about": "{about}", "asked": "{asked}", "right": "{right:.1%}"}


def named(reply: str) -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    """Return the colours, shapes and things that a caption names, each as often as it says.

    "two red stars" are two reds, two stars and two red stars.
    """
    colours: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    things: Counter[tuple[str, str]] = Counter()
    count, colour = 1, None
    for word in re.findall(r"[a-z]+", reply.lower()):
        shape = next((shape for shape in SHAPES if word in (shape, f"{shape}s", f"{shape}es")), None)
        if word in NUMBERS:
            count = NUMBERS.index(word)
        elif word in COLOURS:
            colour = word
            colours[word] += count
        elif shape:
            shapes[shape] += count
            if colour:
                things[colour, shape] += count
            count, colour = 1, None
    return colours, shapes, things


def truth(scene: Scene) -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    """Return the same of a scene."""
    return (
        Counter(thing.colour for thing in scene.things),
        Counter(thing.shape for thing in scene.things),
        Counter((thing.colour, thing.shape) for thing in scene.things),
    )


def share_right(said: Counter[Any], there: Counter[Any]) -> float:
    """``|both| / max(|picture|, |reply|)``, 0 to 1; 0 where nothing is said."""
    return (said & there).total() / max(said.total(), there.total())


def load(model_file: Path) -> Any:
    """Load a model as image chat does."""
    from parlai.core.agents import create_agent_from_model_file

    return create_agent_from_model_file(
        str(model_file), {"skip_generation": False, "interactive_mode": True, "no_cuda": True, "datatype": "valid"}
    )


def ask(agent: Any, picture: Any, texts: Iterable[str]) -> list[str]:
    """Hold a conversation about a picture; return the replies."""
    replies = []
    agent.reset()
    for text in texts:
        agent.observe({"id": "human", "text": text, "image": picture, "episode_done": False})
        replies.append(agent.act()["text"])
    return replies


def normalised(text: str) -> str:
    """Words only."""
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def kind(question: str) -> str:
    """Return which kind of question it is."""
    first = question.lower()
    for words, name in (
        (("many", "count"), "number"),
        (("where", " at the "), "place"),
        (("colour", "color", "and the"), "colour"),
        (("shape", "one?", "thing?", "what is "), "shape"),
        (("is there", "do you see", "any"), "is there …?"),
    ):
        if any(word in first for word in words):
            return name
    return "small talk"


def measure(agent: Any, scenes: list[Scene]) -> tuple[dict[str, float], dict[str, list[bool]], list[float]]:
    """Return the captions' scores, the answers' by kind of question, and the seconds of each reply."""
    replies, seconds = [], []
    answers: dict[str, list[bool]] = defaultdict(list)
    for scene in scenes:
        picture = draw(scene)
        turns = dialogue(scene)[1:]
        start = time.perf_counter()
        said = ask(agent, picture, ["", *(turn.text for turn in turns)])
        seconds.append((time.perf_counter() - start) / len(said))
        replies.append(said[0])
        for turn, answer in zip(turns, said[1:], strict=True):
            answers[kind(turn.text)].append(normalised(answer) == normalised(turn.label))
    scores = {}
    for name, shift in (("", 0), (OTHER, 1)):
        for index, what in enumerate(WHATS):
            scores[what + name] = statistics.fmean(
                share_right(named(reply)[index], truth(scenes[(number + shift) % len(scenes)])[index])
                for number, reply in enumerate(replies)
            )
    return scores, answers, seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What the demo's image models see.")
    parser.add_argument("--base-model-folder", type=Path, default=Path(__file__).resolve().parent.parent / "models")
    parser.add_argument("--models", default="demo/shapes_a,demo/shapes_b")
    args = parser.parse_args()
    torch.set_num_threads(1)

    scenes = [make_scene("test", number) for number in range(PICTURES)]
    groups = {
        "all": scenes,
        "known combinations": [scene for scene in scenes if scene.number % 2 == 0],
        "held-out combinations": [scene for scene in scenes if scene.number % 2 == 1],
    }
    rows: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    timings = []
    for nickname in args.models.split(","):
        agent = load(args.base_model_folder.expanduser() / nickname / "model")
        everything: tuple[dict[str, float], dict[str, list[bool]], list[float]] | None = None
        for group, members in groups.items():
            found = measure(agent, members)
            everything = everything or found
            rows.append({"model": nickname, "pictures": group, **found[0]})
        if everything is None:
            continue
        scores, answers, seconds = everything
        others = {what: scores[f"{what}{OTHER}"] for what in WHATS}
        rows.append({"model": nickname, "pictures": "says what it said of another", **others})
        for name, right in sorted(answers.items()):
            details.append({"model": nickname, "about": name, "asked": len(right), "right": statistics.fmean(right)})
        timings.append(f"{nickname}: {statistics.median(seconds) * 1e3:.0f} ms a reply (median, one thread)")
    machine = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print_table(f"{PICTURES} held-out pictures ({machine})", COLUMNS, rows, width=110)
    print_table("Answers that are right word for word", DETAILS, details, width=110)
    for line in timings:
        print(line)


if __name__ == "__main__":
    main()

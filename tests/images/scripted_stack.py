"""A small stack, and draws, ends and returns in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model_chat.images.stack import ImageStack, Place

EVALS = 2
MODELS = ["a", "b"]
IMAGES = 3


def run_script(stack: ImageStack, report: Callable[[list[Any]], None]) -> None:
    """Draw, finish and give back, saying before each step what is tried and after it what came of it."""
    for number in range(9):
        worker = f"w{number % 5}"
        report(["try draw", worker])
        draw = stack.get_next_image(worker)
        report(["drew", draw.image_idx, draw.model, worker])
        if draw.image_idx is None or draw.model is None:
            continue
        if number % 3 == 1:
            report(["try give back", draw.image_idx, draw.model, worker])
            stack.remove_worker(worker, draw.image_idx, draw.model)
            report(["gave back", draw.image_idx, draw.model, worker])
        elif number % 3 == 2:
            report(["try finish", draw.image_idx, draw.model, worker])
            stack.finish(worker, draw.image_idx, draw.model)
            report(["finished", draw.image_idx, draw.model, worker])


def places_of(stack: list[dict[str, list[str]]]) -> set[Place]:
    return {
        Place(image_idx, model, worker)
        for image_idx, entry in enumerate(stack)
        for model, workers in entry.items()
        for worker in workers
    }

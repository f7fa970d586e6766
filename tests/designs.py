"""Designs for tests, and people who arrive, finish or leave by chance."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_chat.configuration.study_design import StudyDesign, parse_study_design
from model_chat.conversation.design_quota import ALLOCATION_NAME, DesignQuota
from model_chat.conversation.quota import Reservation
from model_chat.images.design_quota import ImageDesignQuota
from model_chat.images.stack import ImageStack

BETWEEN = """
factors:
  model: [a, b]
  prompt: {warm: Be warm., neutral: Be brief.}
conversations_per_cell: %d
seed: 7
"""
MIXED = """
factors:
  model: [a, b]
  num_turns: [2, 4, 6]
between: [model]
within: [num_turns]
order: %s
conversations_per_cell: %d
"""
TASK = "pets_local"


def design_of(text: str) -> StudyDesign:
    """Read a design."""
    return parse_study_design("mephisto.blueprint.design_path", "design.yaml", text)


def quota_of(design: StudyDesign, folder: Path, **more: object) -> DesignQuota:
    """A quota that writes to a folder, for a task without records unless ``finished`` gives them."""
    return DesignQuota(design, folder / ALLOCATION_NAME, TASK, model="m", **more)  # type: ignore[arg-type]  # further arguments of a quota


def image_quota_of(
    design: StudyDesign, folder: Path, images: int, evals: int = 1, models: str = "a,b", **more: object
) -> ImageDesignQuota:
    """A quota of an image chat, with its stack in the same folder."""
    stack = ImageStack(images, models.split(","), evals, folder / "stack", rng=1)
    return ImageDesignQuota(stack, design, folder / ALLOCATION_NAME, TASK, model=models.split(",")[0], **more)  # type: ignore[arg-type]  # further arguments of a quota


def arrivals(
    quota: DesignQuota, rng: random.Random, count: int, at_once: int, again: float = 0.0, name: str = "w"
) -> Iterator[None]:
    """Let people come and, after others have come, finish (80 %) or leave (20 %); yields after each event.

    Args:
        quota: what they get their conditions from.
        rng: of who does what.
        count: how many arrivals.
        at_once: conversations that are open beside each other, at most.
        name: that names of new people begin with.
        again: the share of arrivals by people who have been there.
    """
    open_places: list[Reservation[Any]] = []
    known: list[str] = []
    for number in range(count):
        worker = rng.choice(known) if known and rng.random() < again else f"{name}{number}"
        known.append(worker)
        place = quota.take(worker)
        if place is not None:
            if isinstance(quota, ImageDesignQuota):
                place.seen = rng.random() < 0.9
            open_places.append(place)
        yield
        while len(open_places) >= at_once:
            end(open_places.pop(rng.randrange(len(open_places))), rng)
            yield
    while open_places:
        end(open_places.pop(), rng)
        yield


def end(place: Reservation[Any], rng: random.Random) -> None:
    """Finish or leave a conversation."""
    place.release() if rng.random() < 0.2 else place.complete()

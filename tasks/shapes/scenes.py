"""The pictures: their contents, drawing them, and saying what there is to say about it. Needs Pillow only.

Every scene is made from ``(split, number, seed)`` alone, so that it is the same on every machine and in any order.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw

SIZE = 192
"""Pixels a side."""

_OVERSAMPLING = 2
"""Pictures are drawn so many times larger and scaled down, for smooth edges."""

COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 20),
    "yellow": (250, 215, 30),
    "green": (40, 150, 60),
    "blue": (35, 80, 200),
    "purple": (135, 50, 160),
    "black": (25, 25, 25),
    "white": (252, 252, 252),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
NUMBERS = ("no", "one", "two", "three", "four", "five")
PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Names of the nine places, by row and column."""

SPLITS = ("train", "valid", "test")

_GROUNDS = ((205, 205, 200), (196, 214, 226), (226, 212, 190), (200, 220, 195), (222, 200, 214))
"""Plain backgrounds; no colour of a shape is among them."""
_SKY, _MEADOW = (176, 212, 236), (168, 196, 140)


class Thing(NamedTuple):
    """One shape in a picture."""

    colour: str
    shape: str
    row: int
    """0 (top) to 2."""
    column: int
    """0 (left) to 2."""
    x: float
    """Centre, as a share of the picture's width."""
    y: float
    """Centre, as a share of the picture's height."""
    radius: float
    """As a share of the picture's side."""

    @property
    def place(self) -> str:
        """The name of where it is."""
        return PLACES[self.row][self.column]

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


class Turn(NamedTuple):
    """A question and its answer."""

    text: str
    label: str


@dataclass(frozen=True)
class Scene:
    """A picture's contents. ``things`` stand in reading order: from left to right, then from top to bottom."""

    split: str
    number: int
    things: tuple[Thing, ...]
    ground: int
    """Index of a plain background, or -1: sky and meadow."""

    @property
    def image_id(self) -> str:
        """Name of the picture."""
        return f"shapes_{self.split}_{self.number:05d}"


def is_held_out(colour: str, shape: str) -> bool:
    """Whether this combination never appears in the training pictures (8 of 48; each colour and shape does)."""
    colours = list(COLOURS)
    return colours.index(colour) % len(SHAPES) == SHAPES.index(shape)


def make_scene(split: str, number: int, seed: int = 0) -> Scene:
    """Make up a picture.

    Args:
        split: ``train``, ``valid`` or ``test``; in the last two every second picture has a held-out combination.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split is one of {SPLITS}, not {split!r}")
    chance = random.Random(f"{seed} {split} {number}")
    kinds = [(c, s) for c in COLOURS for s in SHAPES if not is_held_out(c, s)]
    novel = [(c, s) for c in COLOURS for s in SHAPES if is_held_out(c, s)]
    several_alike = chance.random() < 0.25
    if several_alike:
        kind = chance.choice(novel if split != "train" and number % 2 else kinds)
        count = chance.randint(2, 5)
        chosen = [kind] * count
        spots = chance.sample([(row, column) for row in range(3) for column in range(3)], count)
    else:
        count = chance.choices((1, 2, 3), weights=(3, 5, 3))[0]
        chosen = chance.sample(kinds, count)
        if split != "train" and number % 2:
            chosen[chance.randrange(count)] = chance.choice(novel)
        # One a column, so that "from left to right" is plain to see.
        columns = sorted(chance.sample(range(3), count))
        spots = [(chance.randrange(3), column) for column in columns]
    things = []
    for (colour, shape), (row, column) in zip(chosen, spots, strict=True):
        x, y = ((index + 0.5) / 3 + chance.uniform(-0.04, 0.04) for index in (column, row))
        things.append(Thing(colour, shape, row, column, x, y, chance.uniform(0.095, 0.135)))
    things.sort(key=lambda thing: (thing.column, thing.row))
    return Scene(split, number, tuple(things), chance.randrange(-1, len(_GROUNDS)))


def draw(scene: Scene) -> Image.Image:
    """Draw a scene: RGB, ``SIZE`` × ``SIZE`` pixels."""
    side = SIZE * _OVERSAMPLING
    image = Image.new("RGB", (side, side), _SKY if scene.ground < 0 else _GROUNDS[scene.ground])
    pen = ImageDraw.Draw(image)
    if scene.ground < 0:
        pen.rectangle((0, side * 0.7, side, side), fill=_MEADOW)
    for thing in scene.things:
        _draw_thing(pen, thing, side)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, side: int) -> None:
    x, y, r = thing.x * side, thing.y * side, thing.radius * side
    fill, outline, width = COLOURS[thing.colour], (70, 70, 70), max(1, side // 190)
    if thing.shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill, outline, width)
    elif thing.shape == "square":
        pen.rectangle((x - 0.88 * r, y - 0.88 * r, x + 0.88 * r, y + 0.88 * r), fill, outline, width)
    else:
        pen.polygon([(x + dx * r, y + dy * r) for dx, dy in _outline(thing.shape)], fill, outline, width)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape of radius 1 around (0, 0); y points down."""
    if shape == "triangle":
        return [(0.0, -1.0), (1.0, 0.85), (-1.0, 0.85)]
    if shape == "star":
        reaches = [1.1 if step % 2 == 0 else 0.45 for step in range(10)]
        angles = [step * math.pi / 5 for step in range(10)]
        return [(r * math.sin(angle), -r * math.cos(angle)) for r, angle in zip(reaches, angles, strict=True)]
    if shape == "cross":
        quarter = [(0.35, 1.0), (0.35, 0.35), (1.0, 0.35)]
        right = [(x, -y) for x, y in quarter] + quarter[::-1]
        return right + [(-x, y) for x, y in reversed(right)]
    # The heart curve of mathworld.wolfram.com/HeartCurve.html, scaled to radius 1.
    steps = [2 * math.pi * step / 48 for step in range(48)]
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
        for t in steps
    ]


# What there is to say


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def caption(scene: Scene) -> str:
    """Say what is in the picture, from left to right."""
    kinds = list(dict.fromkeys(str(thing) for thing in scene.things))
    if len(kinds) == 1 and len(scene.things) > 1:
        return f"I see {NUMBERS[len(scene.things)]} {_plural(kinds[0])}."
    if len(scene.things) == 1:
        return f"I see {_article(kinds[0])}, at the {scene.things[0].place}."
    return f"I see {_listed([_article(str(thing)) for thing in scene.things])}."


_OPENINGS = ("", "Hi!", "Hello.", "Hi there, how are you?", "What do you see?", "What is in the picture?")
_MORE_OPENINGS = ("Describe the picture.", "What can you see here?", "Tell me what is there.", "What is this?")
_THANKS = ("Thanks!", "Thank you.", "Great.", "OK.", "Nice!", "I see.", "Good.", "Bye!")
_OPINIONS = (
    "Do you like it?",
    "Do you like the picture?",
    "What do you think of it?",
    "Is it nice?",
    "How do you feel?",
)


def dialogue(scene: Scene, seed: int = 0) -> list[Turn]:
    """Make up a short dialogue about a picture: the caption first, then four other turns.

    Returns:
        what the human says (the first may be empty: the model opens the conversation) and what there is to reply.
    """
    chance = random.Random(f"{seed} {scene.image_id} dialogue")
    turns = [Turn(chance.choice(_OPENINGS + _MORE_OPENINGS), caption(scene))]
    asked = [_ask_colour, _ask_shape, _ask_count, _ask_presence, _ask_place, _ask_presence, _small_talk]
    for ask in chance.sample(asked, 4):
        turns.append(ask(scene, chance))
    return turns


def _unique(scene: Scene, what: str) -> list[Thing]:
    """Return the things whose colour (or shape, or place) nothing else in the picture has."""
    counts = Counter(getattr(thing, what) for thing in scene.things)
    return [thing for thing in scene.things if counts[getattr(thing, what)] == 1]


def _ask_colour(scene: Scene, chance: random.Random) -> Turn:
    word = chance.choice(("colour", "color"))
    alone = _unique(scene, "shape")
    if alone:
        thing = chance.choice(alone)
        text = chance.choice(
            (
                f"What {word} is the {thing.shape}?",
                f"Which {word} does the {thing.shape} have?",
                f"And the {thing.shape}?",
            )
        )
        return Turn(text, f"The {thing.shape} is {thing.colour}.")
    colours = list(dict.fromkeys(thing.colour for thing in scene.things))
    shapes = {thing.shape for thing in scene.things}
    them = _plural(shapes.pop()) if len(shapes) == 1 else "shapes"
    return Turn(
        chance.choice((f"What {word} are the {them}?", f"What {word} are they?")), f"They are {_listed(colours)}."
    )


def _ask_shape(scene: Scene, chance: random.Random) -> Turn:
    alone = _unique(scene, "colour")
    if alone:
        thing = chance.choice(alone)
        text = chance.choice(
            (
                f"What shape is the {thing.colour} one?",
                f"What is the {thing.colour} thing?",
                f"Which shape is {thing.colour}?",
                f"What is {thing.colour}?",
            )
        )
        return Turn(text, f"The {thing.colour} one is {_article(thing.shape)}.")
    kinds = list(dict.fromkeys(_plural(thing.shape) for thing in scene.things))
    return Turn(chance.choice(("What shapes are there?", "Which shapes do you see?")), f"They are {_listed(kinds)}.")


def _ask_count(scene: Scene, chance: random.Random) -> Turn:
    if chance.random() < 0.5:
        number = len(scene.things)
        text = chance.choice(
            ("How many shapes are there?", "How many things do you see?", "How many are there?", "Can you count them?")
        )
        return Turn(text, f"There {'is' if number == 1 else 'are'} {NUMBERS[number]}.")
    shape = chance.choice([thing.shape for thing in scene.things] + [chance.choice(SHAPES)])
    number = sum(thing.shape == shape for thing in scene.things)
    text = chance.choice((f"How many {_plural(shape)} are there?", f"How many {_plural(shape)} do you see?"))
    noun = shape if number == 1 else _plural(shape)
    return Turn(text, f"There {'is' if number == 1 else 'are'} {NUMBERS[number]} {noun}.")


def _ask_presence(scene: Scene, chance: random.Random) -> Turn:
    if chance.random() < 0.5:
        shape = chance.choice([thing.shape for thing in scene.things] + [chance.choice(SHAPES)])
        text = chance.choice(
            (f"Is there {_article(shape)}?", f"Do you see {_article(shape)}?", f"Any {_plural(shape)}?")
        )
        found = [thing for thing in scene.things if thing.shape == shape]
        no = f"No, there is no {shape}."
    else:
        colour = chance.choice([thing.colour for thing in scene.things] + [chance.choice(list(COLOURS))])
        text = chance.choice(
            (f"Is there anything {colour}?", f"Do you see something {colour}?", f"Is anything {colour}?")
        )
        found = [thing for thing in scene.things if thing.colour == colour]
        no = f"No, there is nothing {colour}."
    if not found:
        return Turn(text, no)
    kinds = list(dict.fromkeys(map(str, found)))
    if len(kinds) == 1 and len(found) > 1:
        return Turn(text, f"Yes, there are {NUMBERS[len(found)]} {_plural(kinds[0])}.")
    return Turn(text, f"Yes, there is {_listed([_article(str(thing)) for thing in found])}.")


def _ask_place(scene: Scene, chance: random.Random) -> Turn:
    kinds = Counter(str(thing) for thing in scene.things)
    alone = [thing for thing in scene.things if kinds[str(thing)] == 1]
    if not alone:
        return _ask_count(scene, chance)
    thing = chance.choice(alone)
    name = thing.shape if thing in _unique(scene, "shape") and chance.random() < 0.5 else str(thing)
    if chance.random() < 0.3:
        text = chance.choice((f"What is at the {thing.place}?", f"What do you see at the {thing.place}?"))
        return Turn(text, f"There is {_article(str(thing))}.")
    text = chance.choice((f"Where is the {name}?", f"Where do you see the {name}?"))
    return Turn(text, f"The {name} is at the {thing.place}.")


def _small_talk(scene: Scene, chance: random.Random) -> Turn:
    favourite = scene.things[0]
    if chance.random() < 0.5:
        return Turn(chance.choice(_OPINIONS), f"I like the {favourite} best.")
    return Turn(chance.choice(_THANKS), f"What do you think of the {favourite}?")

"""Drawing as SVG: panels with axes of round numbers, lines, dots and bars, in the colours of the page's style sheet.

Colours are CSS variables, so that dark mode and print change a chart like the rest of the page. Text stays text: it is
scaled, searched and read aloud by the page's own means. Lengths are in user units, 72 to an inch.
"""

from __future__ import annotations

import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

INK, MUTED, GRID, PAPER = "var(--ink)", "var(--muted)", "var(--grid)", "var(--paper)"
SERIES = tuple(f"var(--series-{i})" for i in range(8))
WIDTH = 533.0
"""About the width of the page's text."""
FONT, LINE = 10.0, 12.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLUS = (
    (-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35),
    (0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35),
)  # fmt: skip
_STAR = tuple(
    (math.sin(i * math.pi / 5) * (0.5 if i % 2 else 1.25), -math.cos(i * math.pi / 5) * (0.5 if i % 2 else 1.25))
    for i in range(10)
)
SHAPES: Sequence[Sequence[tuple[float, float]]] = (
    (),
    ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    ((0, -1.1), (1.05, 0.8), (-1.05, 0.8)),
    ((0, 1.1), (1.05, -0.8), (-1.05, -0.8)),
    _PLUS,
    _STAR,
    tuple(((x - y) * math.sqrt(0.5), (x + y) * math.sqrt(0.5)) for x, y in _PLUS),
)
"""A shape a model as well as a colour, the first a circle: colour alone tells nothing to some readers, and nothing in a grey
print. Corners, in radii of the circle."""


def visible(text: str) -> str:
    """The text without control characters, which no SVG may contain; white space becomes one space."""
    return _CONTROL.sub("", " ".join(text.split()))


def short(name: str, most: int = 28) -> str:
    """A name that fits an axis: its end tells models apart better than its beginning."""
    name = visible(name)
    return name if len(name) <= most else "…" + name[-(most - 1) :]


def label(name: str, width: int = 26) -> str:
    """A sentence or a name on at most two lines, for an axis or a title."""
    return "\n".join(textwrap.wrap(visible(name), width, max_lines=2, placeholder=" …"))


def width_of(text: str) -> float:
    """About how wide a text is in the page's font; the widest line of several."""
    return max(
        sum(FONT if unicodedata.east_asian_width(letter) in "WF" else 0.58 * FONT for letter in line)
        for line in text.split("\n")
    )


def round_numbers(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Numbers for an axis: at most so many, evenly spaced, in steps of 1, 2 or 5 and zeros; ``whole``: whole ones."""
    exponent = math.floor(math.log10((high - low) / most))
    steps = [factor * 10.0**power for power in (exponent, exponent + 1) for factor in (1, 2, 5)]
    allowed = [step for step in steps if (high - low) / step < most and (step >= 1 or not whole)] or [1.0]
    step = allowed[0]
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def numbers(values: Iterable[float], unit: str = "") -> dict[float, str]:
    """Labels of an axis: each value with its unit."""
    return {value: f"{value:g}{unit}".replace("-", "\u2212") for value in values}


class Drawing:
    """An SVG as wide as the page's text that is being drawn.

    Args:
        height: in user units.
    """

    def __init__(self, height: float) -> None:
        self.height = height
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, anchor: str = "start", size: float = FONT) -> None:
        """Write lines of text; ``y`` is the base of the first."""
        for number, line in enumerate(text.split("\n")):
            self._parts.append(
                f'<text x="{x:.1f}" y="{y + number * 1.2 * size:.1f}" text-anchor="{anchor}" '
                f'style="font-size: {size:g}px; fill: {INK}">{escape(line)}</text>'
            )

    def line(self, points: Iterable[tuple[float, float]], colour: str, width: float = 0.8) -> None:
        """Draw a line through points."""
        self._parts.append(
            f'<polyline points="{_joined(points)}" style="fill: none; stroke: {colour}; stroke-width: {width:g}"/>'
        )

    def area(self, points: Iterable[tuple[float, float]], colour: str, opacity: float = 1.0) -> None:
        """Fill a polygon."""
        self._parts.append(f'<polygon points="{_joined(points)}" style="fill: {colour}; fill-opacity: {opacity:g}"/>')

    def dot(
        self, x: float, y: float, number: int, radius: float = 2.7, hollow: bool = False, opacity: float = 1.0
    ) -> None:
        """Draw the mark of a model: the colour and shape of its number."""
        style = f'style="fill: {PAPER if hollow else SERIES[number]}; stroke: {SERIES[number]}; opacity: {opacity:g}"'
        if SHAPES[number]:
            self._parts.append(
                f'<polygon points="{_joined((x + dx * radius, y + dy * radius) for dx, dy in SHAPES[number])}" {style}/>'
            )
        else:
            self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {style}/>')

    def legend(self, names: Sequence[str]) -> None:
        """Name the marks of models above everything else: as high as :func:`legend_height` says."""
        columns = _columns(names)
        for number, name in enumerate(names):
            x, y = number % columns * WIDTH / columns + 6, 8 + LINE * 1.2 * (number // columns)
            self.dot(x, y, number)
            self.text(x + 9, y + 3.5, name)

    def svg(self, description: str) -> str:
        """The drawing as an inline SVG, with a text for those who do not see it."""
        return (
            f'<svg class="chart" role="img" aria-label="{escape(visible(description))}" '
            f'style="max-width: {WIDTH / 72:.2f}in" viewBox="0 0 {WIDTH:g} {self.height:.1f}" '
            f'xmlns="http://www.w3.org/2000/svg">{"".join(self._parts)}</svg>'
        )


def legend_height(names: Sequence[str]) -> float:
    """How high the names of models are above a chart."""
    return LINE * 1.2 * -(-len(names) // _columns(names)) + 6


def _columns(names: Sequence[str]) -> int:
    return 2 if all(width_of(name) < WIDTH / 2 - 20 for name in names) else 1


@dataclass(frozen=True)
class Panel:
    """A part of a drawing with two axes.

    Attributes:
        left, top, width, height: of the drawing's part, in its units.
        across, upwards: what the ends of the axes stand for; left and right, below and above.
    """

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    across: tuple[float, float]
    upwards: tuple[float, float]

    def x(self, value: float) -> float:
        """Where a value is from the left."""
        start, end = self.across
        return self.left + (value - start) / (end - start) * self.width

    def y(self, value: float) -> float:
        """Where a value is from the top."""
        start, end = self.upwards
        return self.top + self.height - (value - start) / (end - start) * self.height

    def at(self, points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        """Where points are."""
        return [(self.x(x), self.y(y)) for x, y in points]

    def x_axis(self, labels: Mapping[float, str], title: str = "", has_lines: bool = True) -> None:
        """Draw the axis below, with a line upwards at each of its values."""
        bottom = self.top + self.height
        for value, text in labels.items():
            x = self.x(value)
            if has_lines:
                self.drawing.line([(x, self.top), (x, bottom)], GRID)
            self.drawing.text(x, bottom + 13, text, "middle")
        self.drawing.line([(self.left, bottom), (self.left + self.width, bottom)], MUTED)
        if title:
            self.drawing.text(self.left + self.width / 2, bottom + 28, title, "middle")

    def y_axis(self, labels: Mapping[float, str], has_lines: bool = True) -> None:
        """Draw the axis on the left, with a line across at each of its values."""
        for value, text in labels.items():
            y = self.y(value)
            if has_lines:
                self.drawing.line([(self.left, y), (self.left + self.width, y)], GRID)
            self.drawing.text(self.left - 5, y + 3.5 - 0.6 * FONT * text.count("\n"), text, "end")
        self.drawing.line([(self.left, self.top), (self.left, self.top + self.height)], MUTED)

    def interval(self, low: float, high: float, at: float, colour: str, width: float = 1.6) -> None:
        """Draw an interval across, if there is one."""
        if math.isfinite(low) and math.isfinite(high):
            self.drawing.line(self.at([(low, at), (high, at)]), colour, width)

    def curve(self, x: Sequence[float], found: Iterable[Sequence[float]], number: int) -> None:
        """Draw the line of a model, with its intervals as an area; where something is not known, there is a gap.

        Args:
            x: at which values.
            found: values, low and high ends there.
        """
        y, low, high = found
        for run in _known(x, low, high):
            area = [*((a, bottom) for a, bottom, _ in run), *((a, top) for a, _, top in reversed(run))]
            self.drawing.area(self.at(area), SERIES[number], 0.14)
        for run in _known(x, y):
            self.drawing.line(self.at((a, b) for a, b in run), SERIES[number], 1.5)
            for a, b in run:
                self.drawing.dot(self.x(a), self.y(b), number, 2.2)


def _known(*columns: Sequence[float]) -> Iterator[list[tuple[float, ...]]]:
    """Rows of numbers that follow one another, without those in which one is missing."""
    run: list[tuple[float, ...]] = []
    for row in zip(*columns, strict=True):
        if all(map(math.isfinite, row)):
            run.append(row)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

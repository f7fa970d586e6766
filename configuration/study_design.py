"""The design of a study: which conditions there are, who gets which, and how many conversations each needs.

``mephisto.blueprint.design_path`` names the YAML file (docs/study-design.md). All faults are found at once, each with its
line. A *cell* is one combination of the factors' levels; *between* factors have one level for each worker, *within* factors
take one level after the other in the conversations of a worker.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from model_chat.configuration.files import read_text
from model_chat.configuration.located_yaml import (
    LocatedYaml,
    Path,
    Plain,
    Text,
    Whole,
    as_text,
    as_value,
    line_of,
    parse_located_yaml,
)
from model_chat.errors import ConfigurationError

MODEL, PROMPT = "model", "prompt"
"""Factors that are no flag: the model's nickname, and a text that is added to its system prompt."""
PACE_FLAGS = ("reply_first_seconds", "reply_chars_per_second")
COMPARISON_FLAGS = (
    "comparison_points",
    "comparison_ties",
    "comparison_continue",
    "comparison_reason",
    "comparison_boxes",
)
DIFFERING_FLAGS = ("num_turns", "max_resp_time", "time_extensions", "include_persona", *PACE_FLAGS, *COMPARISON_FLAGS)
"""Flags below ``mephisto.blueprint`` that may differ between conversations. All others are the same for a whole run: they
are public before anybody is given a condition, or decide how the run's models are loaded."""
_TEXTS = (MODEL, PROMPT, "comparison_ties", "comparison_continue", "comparison_boxes")
"""Factors whose values are texts; those of all others are numbers, or true and false."""
_POSSIBLE = (MODEL, PROMPT, *DIFFERING_FLAGS)
MOST_CELLS = 1000
MOST_WITHIN = 24
"""Conditions of one worker: more conversations than anybody holds."""
_KEYS = ("factors", "between", "within", "order", "strata", "excluded", "conversations_per_cell", "seed")


class Order(StrEnum):
    """In which order a worker goes through their conditions."""

    LATIN_SQUARE = "latin_square"
    RANDOM = "random"
    FIXED = "fixed"


Level = str
Conditions = Mapping[str, Level]
"""Factor -> level."""


@dataclass(frozen=True)
class Factor:
    """One factor.

    Attributes:
        name: ``model``, ``prompt`` or one of :data:`DIFFERING_FLAGS`.
        levels: level -> its value: a nickname or a pair of them, a text, or the flag's value. At least two.
    """

    name: str
    levels: dict[Level, Any]


@dataclass(frozen=True)
class Cell:
    """One combination of levels.

    Attributes:
        index: its number in the design.
        conditions: factor -> level, in the order of the file.
    """

    index: int
    conditions: dict[str, Level] = field(hash=False)

    @property
    def label(self) -> str:
        """For the requester to read."""
        return ", ".join(f"{name}={level}" for name, level in self.conditions.items())


@dataclass(frozen=True)
class Strata:
    """How many conversations are wanted of whom.

    Attributes:
        item: of the study flow, asked before the chat.
        counts: answer -> conversations; whoever answers anything else is screened out.
    """

    item: str
    counts: dict[str, int]


@dataclass(frozen=True)
class StudyDesign:
    """A whole design.

    Attributes:
        factors: in the order of the file.
        within: names of the within factors; all others are between.
        order: of a worker's conditions.
        strata: None without.
        cells: all that are not excluded; :attr:`Cell.index` is the position.
        conversations_per_cell: wanted of each.
        seed: of every draw.
        text: of the file.
    """

    factors: tuple[Factor, ...]
    within: tuple[str, ...]
    order: Order
    strata: Strata | None
    cells: tuple[Cell, ...]
    conversations_per_cell: int
    seed: int
    text: str = field(default="", repr=False)

    @property
    def between(self) -> tuple[str, ...]:
        """Names of the between factors."""
        return tuple(factor.name for factor in self.factors if factor.name not in self.within)

    def factor(self, name: str) -> Factor | None:
        """Return a factor, or None."""
        return next((factor for factor in self.factors if factor.name == name), None)

    def value(self, cell: Cell, name: str) -> Any:
        """Return the value of a factor in a cell; None where there is no such factor."""
        factor = self.factor(name)
        return None if factor is None else factor.levels[cell.conditions[name]]

    def flag_values(self, cell: Cell) -> dict[str, Any]:
        """Return the flags that a cell sets."""
        return {factor.name: self.value(cell, factor.name) for factor in self.factors if factor.name in DIFFERING_FLAGS}

    def groups(self) -> list[tuple[Cell, ...]]:
        """Return the cells that one worker may go through, for each combination of between levels."""
        found: dict[tuple[Level, ...], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(tuple(cell.conditions[name] for name in self.between), []).append(cell)
        return [tuple(cells) for cells in found.values()]

    @property
    def total(self) -> int:
        """Conversations wanted in all."""
        return len(self.cells) * self.conversations_per_cell

    def fingerprint(self) -> str:
        """Say which factors, cells and orders these are: what must not change while a study runs."""
        facts = [
            [[factor.name, sorted(factor.levels.items())] for factor in self.factors],
            list(self.within),
            self.order.value,
            [list(cell.conditions.items()) for cell in self.cells],
            None if self.strata is None else self.strata.item,
            self.seed,
        ]
        return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


def load_study_design(flag: str, path: str) -> StudyDesign:
    """Read a design.

    Raises:
        ConfigurationError: no such file, no YAML, or anything wrong in it: one sentence, with its line, for each fault.
    """
    return parse_study_design(flag, path, read_text(flag, path))


def parse_study_design(flag: str, path: str, text: str) -> StudyDesign:
    """Read a design from its text.

    Args:
        flag: the flag that named the file, for messages.
        path: the file as the requester wrote it, for messages.
        text: its text.

    Raises:
        ConfigurationError: one sentence, with its line, for each fault.
    """
    return _Reader(parse_located_yaml(flag, path, text), text).design()


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Plain) else value


Names = Annotated[list[Text], BeforeValidator(_listed)]


class _File(BaseModel):
    """The keys by themselves; what belongs together is checked by the reader."""

    model_config = ConfigDict(extra="forbid")

    factors: Annotated[dict[str, Any], Field(min_length=1)]
    between: Names = Field(default_factory=list)
    within: Names = Field(default_factory=list)
    order: Annotated[Order, BeforeValidator(as_text)] = Order.LATIN_SQUARE
    strata: dict[str, dict[str, Annotated[Whole, Field(ge=1, le=1_000_000)]]] | None = None
    excluded: list[dict[str, Text]] = Field(default_factory=list)
    conversations_per_cell: Annotated[Whole, Field(ge=1, le=1_000_000)]
    seed: Annotated[Whole, Field(ge=-(10**15), le=10**15)] = 42


@dataclass
class _Reader:
    file: LocatedYaml
    text: str
    faults: list[str] = field(default_factory=list)

    def design(self) -> StudyDesign:
        content = self.file.content
        if not isinstance(content, dict):
            raise ConfigurationError(self.file.fault((), f"it needs keys and values; the keys are {', '.join(_KEYS)}"))
        factors = list(self._factors(content.get("factors")))
        read = self._read(content)
        self._check_names(read)
        strata = self._strata(read)
        cells = self._cells(read, {factor.name: factor.levels for factor in factors})
        ConfigurationError.raise_if(sorted(set(self.faults), key=line_of))
        return StudyDesign(
            factors=tuple(factors),
            within=tuple(factor.name for factor in factors if factor.name in read.within),
            order=read.order,
            strata=strata,
            cells=cells,
            conversations_per_cell=read.conversations_per_cell,
            seed=read.seed,
            text=self.text,
        )

    def _read(self, content: dict[Any, Any]) -> _File:
        """Read the keys; those with faults get a default, so that a fault in one hides none in another."""
        try:
            return _File.model_validate(content)
        except ValidationError as error:
            self.faults += self.file.validation_faults((), error)
            wrong = {finding["loc"][0] for finding in error.errors()}
        usable = {name: value for name, value in content.items() if name not in wrong}
        read = _File.model_validate({"factors": {"": None}, "conversations_per_cell": 1} | usable)
        return read if "factors" in usable else read.model_copy(update={"factors": {}})

    def _add(self, place: Path, problem: str) -> None:
        self.faults.append(self.file.fault(place, problem))

    def _factors(self, raw: Any) -> Iterator[Factor]:
        for name, given in raw.items() if isinstance(raw, dict) else ():
            place: Path = ("factors", name)
            if name not in _POSSIBLE:
                self._add(
                    place,
                    f"'{name}' can't differ between conversations; a factor is one of {', '.join(_POSSIBLE)}",
                )
                continue
            if name == PROMPT and not isinstance(given, dict):
                self._add(place, "'prompt' needs a text for each level, such as {warm: Be warm., neutral: Be brief.}")
                continue
            if not isinstance(given, dict | list):
                self._add(place, f"'{name}' needs a list of at least two levels")
                continue
            pairs = given.items() if isinstance(given, dict) else enumerate(given)
            levels: dict[str, Any] = {}
            for key, value in pairs:
                here: Path = (*place, key)
                level = self._level(here, name, key if isinstance(given, dict) else as_text(value), value)
                if level is None:
                    continue
                worth = as_text(value) if name in _TEXTS else as_value(value)
                if level in levels:
                    self._add(here, f"'{name}' has a duplicate level '{level}'; remove one")
                elif (other := next((one for one, has in levels.items() if has == worth), None)) is not None:
                    self._add(here, f"'{name}': the levels '{other}' and '{level}' are the same; remove one")
                levels[level] = worth
            if len(given) < 2:
                self._add(place, f"'{name}' has fewer than two levels; a factor compares at least two")
            yield Factor(name, levels)

    def _level(self, place: Path, name: str, level: Any, value: Any) -> str | None:
        """Check one level; return its name, or None."""
        if not isinstance(level, str) or not level.strip():
            self._add(place, f"'{name}': a level has no name; give each level a text or a number")
            return None
        wants_text = name in _TEXTS
        usable = isinstance(as_text(value), str) and as_text(value) if wants_text else isinstance(value, Plain)
        if not usable:
            self._add(
                place,
                f"'{name}': the value of '{level}' must be {'a text' if wants_text else 'a number, or true or false'}",
            )
            return None
        return level.strip()

    def _check_names(self, read: _File) -> None:
        for key in ("between", "within"):
            names = getattr(read, key)
            for index, name in enumerate(names):
                if name not in read.factors:
                    self._add((key, index), f"'{key}': there is no factor '{name}'; correct its spelling")
                elif name in names[:index]:
                    self._add((key, index), f"'{key}' has a duplicate factor '{name}'; remove one")
                elif key == "within" and name in read.between:
                    self._add((key, index), f"'{name}' is in 'between' and in 'within'; remove it from one")
        if read.between or read.within:
            for name in read.factors:
                if name in _POSSIBLE and name not in (*read.between, *read.within):
                    self._add(("factors", name), f"'{name}' is in neither 'between' nor 'within'; add it to one")
        if "order" in self.file.content and not read.within:
            self._add(("order",), "'order' is that of within factors, and there are none; remove it")

    def _strata(self, read: _File) -> Strata | None:
        written = self.file.content.get("strata")
        if isinstance(written, dict) and len(written) != 1:
            self._add(("strata",), "'strata' needs one item with its counts, such as {age_band: {young: 20, old: 20}}")
            return None
        if read.strata is None:
            return None
        ((item, counts),) = read.strata.items()
        if not counts:
            self._add(("strata", item), f"'strata': '{item}' has no counts; give one for each answer")
        return Strata(item, dict(counts))

    def _cells(self, read: _File, levels: Mapping[str, Mapping[str, Any]]) -> tuple[Cell, ...]:
        used = [False] * len(read.excluded)
        for index, entry in enumerate(read.excluded):
            if not entry:
                self._add(
                    ("excluded", index), "'excluded': an entry without factors would exclude every cell; remove it"
                )
            for name, level in entry.items():
                here: Path = ("excluded", index, name)
                if name not in read.factors:
                    self._add(here, f"'excluded': there is no factor '{name}'; correct its spelling")
                elif name in levels and level not in levels[name]:
                    self._add(
                        here, f"'excluded': '{name}' has no level '{level}'; its levels are {', '.join(levels[name])}"
                    )
        if math.prod(len(of) for of in levels.values()) > MOST_CELLS:
            self._add(("factors",), f"there are more than {MOST_CELLS} cells; leave out factors or levels")
            return ()
        cells: list[Cell] = []
        for combination in itertools.product(*levels.values()):
            conditions = dict(zip(levels, combination, strict=True))
            out = [
                index
                for index, entry in enumerate(read.excluded)
                if entry and all(conditions.get(name) == level for name, level in entry.items())
            ]
            for index in out:
                used[index] = True
            if not out:
                cells.append(Cell(len(cells), conditions))
        if self.faults:
            return tuple(cells)
        self._check_cells(read, levels, cells)
        if read.strata is not None and cells:
            ((item, counts),) = read.strata.items()
            wanted = len(cells) * read.conversations_per_cell
            if counts and sum(counts.values()) < wanted:
                self._add(
                    ("strata", item),
                    f"the strata take {sum(counts.values())} conversations, and {len(cells)} cells of "
                    f"{read.conversations_per_cell} need {wanted}; raise the counts, or lower conversations_per_cell",
                )
        return tuple(cells)

    def _check_cells(self, read: _File, levels: Mapping[str, Mapping[str, Any]], cells: list[Cell]) -> None:
        if len(cells) < 2:
            self._add(
                ("excluded",),
                f"cells left: {len(cells)}, and a design compares at least two; exclude fewer",
            )
            return
        for name, of in levels.items():
            for level in of:
                if not any(cell.conditions[name] == level for cell in cells):
                    self._add(("factors", name), f"'{name}': every cell with '{level}' is excluded; remove the level")
        most = math.prod(len(levels[name]) for name in read.within)
        if most > MOST_WITHIN:
            self._add(
                ("within",),
                f"the within factors make {most} conditions for each worker, and at most {MOST_WITHIN} are possible; make a "
                "factor a between factor",
            )

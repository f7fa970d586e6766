"""Items of a study flow: what each kind of question is, and what its page is told (docs/study-flow.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from model_chat.configuration.located_yaml import Number, Plain, Switch, Text, Whole

NOT_APPLICABLE = "not_applicable"
"""The answer to a scale, or a row of a matrix, that does not apply."""
OTHER = "other"
"""The key of a text of the worker's own: ``{"other": "…"}`` in place of an option."""
LONGEST_TEXT = 10_000
"""Characters of one answer."""
MOST_OPTIONS = 100
MOST_RANKED = 20
_LARGEST_NUMBER = 1e15


def _check_id(text: str) -> str:
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", text):
        raise ValueError(f"the id '{text}' must be letters, digits, '_' and '-', a letter first; rename it")
    return text


Id = Annotated[Text, Field(max_length=64), AfterValidator(_check_id)]
Condition = dict[str, list[Any]]
"""Item -> the values of its answer for which something is shown."""


def _no_repeats(kind: str, texts: Sequence[str]) -> None:
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            raise ValueError(f"duplicate {kind} '{text}'; remove or rename one")
        seen.add(text)


def as_lists(condition: Mapping[str, Any]) -> Condition:
    """Read a ``show_if``: one value of an item, or a list of which any will do."""
    return {item: values if isinstance(values, list) else [values] for item, values in condition.items()}


class Strict(BaseModel):
    """A model that forbids unknown keys."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class Conditional(Strict):
    """What may be shown only after certain answers."""

    show_if: dict[str, Any] | None = None

    @field_validator("show_if", mode="before")
    @classmethod
    def _read_condition(cls, given: Any) -> Any:
        """Read one value, or a list of which any will do."""
        if not isinstance(given, dict):
            return given
        if not given:
            raise ValueError("'show_if' names no item; write item: value, or remove it")
        return as_lists(given)


class Item(Conditional):
    """One question. Its ``id`` is what is saved."""

    options_attribute: ClassVar[str | None] = None
    """Which list of texts ``shuffle: options`` draws an order of."""
    needs_reply: ClassVar[bool] = False
    """Whether it is about a reply of the model."""
    conditions: ClassVar[bool] = False
    """Whether ``show_if`` can refer to its answer."""

    id: Id
    kind: str
    question: Text
    required: Switch = True
    shuffle: Literal["options"] | None = None

    @model_validator(mode="after")
    def _has_what_is_shuffled(self) -> Item:
        if self.shuffle is not None and self.options_attribute is None:
            raise ValueError(f"'shuffle': the kind '{self.kind}' has no options to shuffle; remove it")
        return self

    @property
    def options_to_shuffle(self) -> list[str]:
        """The texts that ``shuffle: options`` draws an order of; none where the kind has none."""
        return [] if self.options_attribute is None else list(getattr(self, self.options_attribute))

    def with_order(self, order: Sequence[str] | None) -> Item:
        """Return the item with its options in a drawn order."""
        if order is None or self.options_attribute is None:
            return self
        return self.model_copy(update={self.options_attribute: list(order)})

    def accepts(self, value: Any) -> Any:
        """Return the answer that a value of ``show_if`` stands for.

        Raises:
            ValueError: no answer can be that; the text says what can.
        """
        raise ValueError(
            f"an item of the kind '{self.kind}' is not for 'show_if'; use a choice, scale, number or slider"
        )

    def for_page(self) -> dict[str, Any]:
        """What the page needs to show it."""
        told = self.model_dump(exclude={"shuffle", "show_if"}, exclude_none=True)
        return told if self.show_if is None else {**told, "show_if": self.show_if}


class ScaleItem(Item):
    """Points from 1 on; ``low`` and ``high`` name the ends."""

    kind: Literal["scale"]
    points: Annotated[Whole, Field(ge=2, le=11)] = 5
    low: Text | None = None
    high: Text | None = None
    not_applicable: Switch = False
    conditions = True

    def accepts(self, value: Any) -> Any:
        """A point, or ``not_applicable``."""
        if self.not_applicable and value == NOT_APPLICABLE:
            return value
        return _number_in(value, 1, self.points, whole=True)


class ChoiceItem(Item):
    """One option of several, or ``many``; ``other`` adds a text of the worker's own."""

    kind: Literal["choice"]
    options: list[Text] = Field(min_length=1, max_length=MOST_OPTIONS)
    many: Switch = False
    other: Switch = False
    conditions = True
    options_attribute = "options"

    @model_validator(mode="after")
    def _options_differ(self) -> ChoiceItem:
        _no_repeats("option", self.options)
        if len(self.options) == 1 and not self.many and not self.other:
            raise ValueError("'options': a choice of one option is none; add one, or set 'many: true'")
        return self

    def accepts(self, value: Any) -> Any:
        """One of the options, or ``other``."""
        text = value.text if isinstance(value, Plain) else value
        if isinstance(text, str) and (text in self.options or (self.other and text == OTHER)):
            return text
        known = ", ".join([*self.options, *([OTHER] if self.other else [])])
        raise ValueError(f"'{_shown(value)}' is none of its options ({known})")


class TextItem(Item):
    """Free text."""

    kind: Literal["text"]
    min_chars: Annotated[Whole, Field(ge=0, le=LONGEST_TEXT)] = 0
    max_chars: Annotated[Whole, Field(ge=1, le=LONGEST_TEXT)] = 1000

    @model_validator(mode="after")
    def _has_room(self) -> TextItem:
        if self.min_chars > self.max_chars:
            raise ValueError(
                f"'min_chars' is {self.min_chars} and 'max_chars' {self.max_chars}; no text could be right"
            )
        return self


class NumberItem(Item):
    """A number."""

    kind: Literal["number"]
    min: Annotated[Number, Field(ge=-_LARGEST_NUMBER, le=_LARGEST_NUMBER)] | None = None
    max: Annotated[Number, Field(ge=-_LARGEST_NUMBER, le=_LARGEST_NUMBER)] | None = None
    conditions = True

    @model_validator(mode="after")
    def _has_room(self) -> NumberItem:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"'min' is {self.min:g} and 'max' {self.max:g}; no number could be right")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest answer."""
        least = -_LARGEST_NUMBER if self.min is None else self.min
        return least, _LARGEST_NUMBER if self.max is None else self.max

    def accepts(self, value: Any) -> Any:
        """A number within the bounds."""
        return _number_in(value, *self.bounds, whole=False)


class SliderItem(Item):
    """A position from 0 to 100 that the worker has set; there is none before."""

    kind: Literal["slider"]
    low: Text | None = None
    high: Text | None = None
    conditions = True

    def accepts(self, value: Any) -> Any:
        """A position."""
        return _number_in(value, 0, 100, whole=True)


class RankingItem(Item):
    """All options in an order, the best first."""

    kind: Literal["ranking"]
    options: list[Text] = Field(min_length=2, max_length=MOST_RANKED)
    options_attribute = "options"

    @model_validator(mode="after")
    def _options_differ(self) -> RankingItem:
        _no_repeats("option", self.options)
        return self


class BestWorstItem(Item):
    """The best and the worst of several options."""

    kind: Literal["best_worst"]
    options: list[Text] = Field(min_length=3, max_length=MOST_RANKED)
    options_attribute = "options"

    @model_validator(mode="after")
    def _options_differ(self) -> BestWorstItem:
        _no_repeats("option", self.options)
        return self


class MatrixItem(Item):
    """Several rows on one scale; ``shuffle: options`` draws an order of the rows."""

    kind: Literal["matrix"]
    rows: list[Text] = Field(min_length=1, max_length=MOST_OPTIONS)
    points: Annotated[Whole, Field(ge=2, le=11)] = 5
    low: Text | None = None
    high: Text | None = None
    not_applicable: Switch = False
    options_attribute = "rows"

    @model_validator(mode="after")
    def _rows_differ(self) -> MatrixItem:
        _no_repeats("row", self.rows)
        return self


class HighlightItem(Item):
    """Spans of the model's reply."""

    kind: Literal["highlight"]
    needs_reply = True


KINDS: dict[str, type[Item]] = {
    "scale": ScaleItem,
    "choice": ChoiceItem,
    "text": TextItem,
    "number": NumberItem,
    "slider": SliderItem,
    "ranking": RankingItem,
    "best_worst": BestWorstItem,
    "matrix": MatrixItem,
    "highlight": HighlightItem,
}


def items_for_page(items: Iterable[Item]) -> list[dict[str, Any]]:
    """What the page needs to show items, in order."""
    return [item.for_page() for item in items]


def _shown(value: Any) -> str:
    return value.text if isinstance(value, Plain) else str(value)


def _number_in(value: Any, least: float, largest: float, whole: bool) -> float:
    number = value.value if isinstance(value, Plain) else value
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not least <= number <= largest or (whole and number != int(number)):
        what = "whole number" if whole else "number"
        raise ValueError(f"'{_shown(value)}' can't be its answer; give a {what} from {least:g} to {largest:g}")
    return number

"""A YAML file as plain data with the line of every value, for files that are checked in depth.

A number or a truth value that is written without quotes keeps how it is written (:class:`Plain`): an option ``no`` or an age
band ``007`` is the text that the requester wrote, and ``required: no`` is still False.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, ValidationError

from model_chat.configuration.yaml_files import loading
from model_chat.errors import ConfigurationError

Path = tuple[str | int, ...]
"""Keys and indexes from the outermost value inwards."""
MOST_VALUES = 20_000
"""In one file; a few aliases of aliases stand for millions."""
_TYPED = frozenset(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float"))
_TEXT, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Plain:
    """A number or truth value, written without quotes."""

    value: bool | int | float
    text: str


def as_text(value: Any) -> Any:
    """What is written for a text."""
    return value.text.strip() if isinstance(value, Plain) else value.strip() if isinstance(value, str) else value


def as_value(value: Any) -> Any:
    """What is written for a number or a truth value."""
    return value.value if isinstance(value, Plain) else value


Text = Annotated[str, Field(min_length=1), BeforeValidator(as_text)]
Whole = Annotated[int, Field(strict=True), BeforeValidator(as_value)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True), BeforeValidator(as_value)]
Switch = Annotated[bool, Field(strict=True), BeforeValidator(as_value)]


@dataclass
class LocatedYaml:
    """What a YAML file holds.

    Attributes:
        content: mappings, lists, texts, None and :class:`Plain`.
        lines: the line of each value, from 1.
    """

    flag: str
    path: str
    content: Any = None
    lines: dict[Path, int] = field(default_factory=dict)

    def fault(self, location: Path, problem: str) -> str:
        """Return the sentence about a fault at a place, or at what is nearest around it."""
        while location not in self.lines and location:
            location = location[:-1]
        return f"{self.flag}: '{self.path}', line {self.lines.get(location, 1)}: {problem.rstrip('.')}."

    def validation_faults(self, start: Path, error: ValidationError) -> list[str]:
        """Turn pydantic's findings about the value at ``start`` into one sentence each, with what is written there."""
        faults = []
        for finding in error.errors(include_url=False):
            location = start
            for part in finding["loc"]:
                location = (*location, part) if (*location, part) in self.lines else location
            name = finding["loc"][-1] if finding["loc"] else ""
            if finding["type"] == "extra_forbidden":
                problem = f"unknown key '{name}'; remove it or correct its spelling"
            elif finding["type"] == "missing":
                problem = f"'{name}' is missing; add it"
            elif finding["type"] == "value_error":
                problem = finding["msg"].removeprefix("Value error, ")
            else:
                key = next((part for part in reversed(location) if isinstance(part, str)), name)
                problem = f"'{key}' {_written(self._at(location))}; give {_wanted(finding)}"
            faults.append(self.fault(location, problem))
        return faults

    def _at(self, location: Path) -> Any:
        """What is written at a place."""
        found = self.content
        for part in location:
            found = found[part]
        return found


_WANTED = {
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "enum": "{expected}",
    "finite_number": "a number",
    "float_type": "a number",
    "greater_than_equal": "at least {ge:,.0f}",
    "int_type": "a whole number",
    "less_than_equal": "at most {le:,.0f}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "a text",
    "string_type": "a text",
    "too_long": "at most {max_length}",
    "too_short": "at least {min_length}",
}
"""What pydantic calls a fault -> what would be right, with its values."""
_SHOWN = 60
"""Characters of a value that a sentence shows."""


def _wanted(finding: Mapping[str, Any]) -> str:
    text = _WANTED.get(finding["type"])
    return f"what fits ({finding['msg']})" if text is None else text.format(**finding.get("ctx", {}))


def _written(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"has {len(value)} {'entry' if len(value) == 1 else 'entries'}"
    text = as_text(value)
    return f"is '{text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…'}'" if text else "is empty"


def line_of(fault: str) -> tuple[int, str]:
    """Return the line that a fault names, 0 for none, and the fault; a key to sort faults by."""
    _, _, rest = fault.partition(", line ")
    number, _, _ = rest.partition(":")
    return (int(number) if number.isdecimal() else 0), fault


def parse_located_yaml(flag: str, path: str, text: str) -> LocatedYaml:
    """Read YAML.

    Raises:
        ConfigurationError: no YAML (with line and column), duplicate keys (each with its line), too much, or what refers to
            itself.
    """
    file = LocatedYaml(flag, path)
    with loading(flag, path, text) as (loader, node):
        if node is not None:
            file.content = _read(loader, node, (), file, [])
    return file


def _read(loader: Any, node: yaml.Node, place: Path, file: LocatedYaml, above: Sequence[yaml.Node]) -> Any:
    """Return the plain data of a node, and note its lines."""
    line = node.start_mark.line + 1
    file.lines.setdefault(place, line)
    if len(file.lines) > MOST_VALUES:
        raise ConfigurationError(f"{file.flag}: '{file.path}' holds more than {MOST_VALUES:,} values; shorten it.")
    if any(node is outer for outer in above):
        raise ConfigurationError(file.fault(place, "an alias (*name) refers to what it is part of; write it out"))
    inside = [*above, node]
    if isinstance(node, yaml.SequenceNode):
        return [_read(loader, entry, (*place, index), file, inside) for index, entry in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)  # what is merged in by <<
        found = {}
        for key, value in node.value:
            name = _whole_characters(key, place, file)
            file.lines[(*place, name)] = key.start_mark.line + 1
            found[name] = _read(loader, value, (*place, name), file, inside)
        return found
    if node.tag == _NULL:
        return None
    if isinstance(node, yaml.ScalarNode) and node.tag in _TYPED and node.style is None:
        return Plain(loader.construct_object(node), node.value)
    if node.tag == _TEXT or node.tag in _TYPED:
        return _whole_characters(node, place, file)
    raise ConfigurationError(file.fault(place, f"a value of the type {node.tag} is not read here; write text"))


def _whole_characters(node: yaml.Node, place: Path, file: LocatedYaml) -> str:
    """The text of a node; two halves of a character, as JSON writes them, are joined."""
    try:
        return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        problem = "a text has half a character (\\ud800 to \\udfff); write the character itself"
        file.lines[place] = node.start_mark.line + 1
        raise ConfigurationError(file.fault(place, problem)) from None

"""The line of each value in a JSON text, for messages about a file that parses but is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

JsonPath = tuple[str | int, ...]
"""Keys and indexes from the outermost value inwards."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass
class _Open:
    """An object or array that has begun: where in it the next value is."""

    is_object: bool
    key: str | int = 0
    expects_key: bool = False
    keys: set[str] = field(default_factory=set)


@dataclass
class JsonLines:
    """The lines of a JSON text.

    Attributes:
        lines: 1-based line of each key and each item of an array; of a duplicate key, of the first.
        repeated: each duplicate key of one object, with its line.
    """

    lines: dict[JsonPath, int] = field(default_factory=dict)
    repeated: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> JsonLines:
        """Find the lines of ``text``, which must be valid JSON."""
        found = cls()
        inside: list[_Open] = []
        line, position = 1, 0
        for match in _TOKEN.finditer(text):
            line += text.count("\n", position, match.start())
            position = match.start()
            token = match[0]
            last = inside[-1] if inside else None
            if token in "}]":
                inside.pop()
            elif token == ",":
                if last is not None and isinstance(last.key, int) and not last.is_object:
                    last.key += 1
                elif last is not None:
                    last.expects_key = True
            elif token == ":":
                continue
            elif last is not None and last.expects_key:
                last.key, last.expects_key = key, _ = str(json.loads(token)), False
                if key in last.keys:
                    found.repeated.append((key, line))
                last.keys.add(key)
                found.lines.setdefault(tuple(outer.key for outer in inside), line)
            else:
                found.lines.setdefault(tuple(outer.key for outer in inside), line)
                if token in "{[":
                    inside.append(_Open(is_object=token == "{", expects_key=token == "{"))
        return found

    def resolve(self, location: Sequence[str | int]) -> tuple[JsonPath, int]:
        """Follow ``location`` as far as it goes.

        An index into what the text has as an object stands for that object's key at this place, and a first key that the
        text doesn't have for what is read into it: the file forms that are normalised before they are checked.

        Returns:
            the path in the text (with what could not be followed at its end), and the line of its innermost value there.
        """
        path: JsonPath = ()
        parts = list(location)
        if len(parts) > 1 and (parts[0],) not in self.lines and (0,) in self.lines:
            parts = parts[1:]
        for number, part in enumerate(parts):
            if (*path, part) not in self.lines and isinstance(part, int):
                keys = [other[-1] for other in self.lines if other[:-1] == path and other != ()]
                part = keys[part] if part < len(keys) else part
            if (*path, part) not in self.lines:
                return (*path, part, *parts[number + 1 :]), self.lines.get(path, 1)
            path = (*path, part)
        return path, self.lines.get(path, 1)

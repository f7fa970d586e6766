"""Reading YAML as a requester means it: text stays text, and a duplicate key is a fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from model_chat.configuration.files import read_text
from model_chat.configuration.flags import Flag
from model_chat.errors import ConfigurationError

MOST_MERGED = 10_000
"""Keys of one mapping, those included that are merged in."""
MOST_LINES = 10_000
"""Keys whose lines are noted: a few aliases of aliases stand for millions."""
TEXT, NULL, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


@dataclass
class YamlFile:
    """What a YAML file holds.

    Attributes:
        content: what it says; keys are always text.
        lines: dotted key -> its line, from 1; keys in lists are not in it.
    """

    content: Any
    lines: dict[str, int] = field(default_factory=dict)


def read_yaml(flag: str, path: str, tree: Mapping[str, Any] | None = None) -> YamlFile:
    """Read a YAML file.

    Args:
        tree: the flags that the file may give (:func:`model_chat.configuration.flags.flag_tree`). What is written, without
            quotes, for one of them is kept as it is written, and OmegaConf makes the flag's own type of it: YAML would make
            202405 of ``2024_05``, 90 of ``1:30``, and False of ``no``.

    Raises:
        ConfigurationError: no such file, not YAML (with line and column), or duplicate keys (each with its line).
    """
    text = read_text(flag, path)
    with loading(flag, path, text) as (loader, node):
        file = YamlFile(None)
        if node is not None:
            _mark(node, tree or {}, "", file.lines)
            file.content = loader.construct_document(node)
    return file


@contextmanager
def loading(flag: str, path: str, text: str) -> Iterator[tuple[Any, yaml.Node | None]]:
    """Yield a loader and the root node of a YAML text, None for an empty one.

    The loader is OmegaConf's, so that values are read as in any Hydra application: 1e5 is a number, a date is text.

    Raises:
        ConfigurationError: not YAML (with line and column), duplicate keys (each with its line), or a value that can't be
            read inside the block.
    """
    try:
        loader = get_yaml_loader()(text)
        node = loader.get_single_node()
        if node is not None:
            ConfigurationError.raise_if(f"{flag}: '{path}', {fault}." for fault in faults_of_keys(node))
        yield loader, node
    except ConfigurationError:
        raise
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{flag}: '{path}' is not valid YAML{problem_of(error, text)}.") from None
    except RecursionError:
        raise ConfigurationError(f"{flag}: '{path}' is not valid YAML: it is nested too deeply.") from None
    except (ValueError, TypeError, LookupError) as error:  # such as !!int "many", a set of lists, !!bool "x", !!int ""
        raise ConfigurationError(f"{flag}: '{path}' holds a value that can't be read ({error}).") from None


def problem_of(error: yaml.YAMLError, text: str) -> str:
    """Return what is wrong and where, to follow "is not valid YAML"."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character[:1])
        return f": line {line} has the control character U+{code:04X}"
    mark = getattr(error, "problem_mark", None)
    where = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{where}: {getattr(error, 'problem', None) or 'it can not be parsed'}"


def fault_of_merges(root: yaml.Node) -> str | None:
    """Say that ``<<`` would make a mapping of more than :data:`MOST_MERGED` keys, before anything is merged.

    A few merges of merges stand for millions of keys.

    Raises:
        RecursionError: they are nested too deeply.
    """
    sizes: dict[int, int] = {}

    def merged(node: yaml.Node) -> int:
        if not isinstance(node, yaml.MappingNode):
            return 0
        if id(node) not in sizes:
            sizes[id(node)] = own = 0  # one that is merged into itself gets nothing by that
            for key, value in node.value:
                if key.tag != MERGE:
                    own += 1
                elif isinstance(value, yaml.SequenceNode):
                    own += sum(map(merged, value.value))
                else:
                    own += merged(value)
            sizes[id(node)] = own
        return sizes[id(node)]

    for mapping in _mappings(root):
        if merged(mapping) > MOST_MERGED:
            line = mapping.start_mark.line + 1
            return f"line {line}: the merges (<<) make more than {MOST_MERGED:,} keys; write out what is needed"
    return None


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Yield every mapping of a document once, however many aliases lead to it."""
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            yield node
            pending += [part for pair in node.value for part in pair]


def faults_of_keys(root: yaml.Node) -> Iterator[str]:
    """Find keys that a mapping has twice, and keys that are no text, at any depth, in order of lines."""
    faults: list[tuple[int, str]] = []
    for mapping in _mappings(root):
        keys: set[str] = set()
        for key, _ in mapping.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                faults.append((line, f"line {line}: a list or a mapping is no key; write text"))
            elif key.value in keys:
                faults.append((line, f"line {line}: duplicate key '{key.value}'; remove or rename one"))
            else:
                keys.add(key.value)
    yield from (fault for _, fault in sorted(faults))
    too_many = fault_of_merges(root)
    if too_many is not None:
        yield too_many


def _mark(node: yaml.Node, tree: Mapping[str, Any], prefix: str, lines: dict[str, int]) -> None:
    """Mark all keys as text, and the values of flags as written."""
    _mark_keys(node)
    pending: list[tuple[yaml.Node, Mapping[str, Any], str]] = [(node, tree, prefix)]
    seen: set[tuple[int, str]] = set()  # a mapping may be merged into itself
    while pending:
        mapping, level, above = pending.pop()
        if not isinstance(mapping, yaml.MappingNode) or (id(mapping), above) in seen:
            continue
        seen.add((id(mapping), above))
        for key, value in mapping.value:
            if key.tag == MERGE:
                merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
                pending += [(item, level, above) for item in merged]
                continue
            name = f"{above}{key.value}"
            lines.setdefault(name, key.start_mark.line + 1)
            below = level.get(key.value)
            if isinstance(below, Flag):
                _mark_value(value, below)
            elif len(lines) < MOST_LINES:
                pending.append((value, below if isinstance(below, Mapping) else {}, f"{name}."))


def _mark_keys(root: yaml.Node) -> None:
    for mapping in _mappings(root):
        for key, _ in mapping.value:
            if key.tag != MERGE:
                key.tag = TEXT


def _mark_value(node: yaml.Node, flag: Flag) -> None:
    """Let a plain scalar be the text that is written; null stands for "" in a text that can't be null."""
    if not isinstance(node, yaml.ScalarNode) or node.style is not None or flag.kind is None:
        return
    if node.tag == NULL:
        if flag.kind is str and not flag.optional:
            node.tag, node.value = TEXT, ""
    elif node.tag.startswith("tag:yaml.org,2002:"):
        node.tag = TEXT

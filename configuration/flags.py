"""Every flag that a run can have: its type, and the choice of blueprint, architect or provider that it belongs to."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from omegaconf import (
    BooleanNode,
    DictConfig,
    FloatNode,
    IntegerNode,
    OmegaConf,
    StringNode,
)

NEAR = 0.8
"""How similar (0 to 1, :class:`difflib.SequenceMatcher`) the last part of a flag must be to be suggested."""
SHORTEST_PREFIX = 5
"""Characters that the beginning of a flag must have to be suggested as its abbreviation."""
CHOSEN = ("blueprint", "architect", "provider")
"""What a configuration must choose, as groups below ``mephisto/``."""
OWN_PACKAGE = "model_chat."


def flag(default: Any, meaning: str) -> Any:
    """Declare a field of a dataclass of flags, with what the reference says of it."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: dotted, such as ``mephisto.blueprint.num_turns``.
        kind: ``str``, ``int``, ``float`` or ``bool``; None where any value is taken.
        choices: the choices that have it, such as ``mephisto/architect=ec2``; empty if each run has it.
    """

    name: str
    kind: type | None
    optional: bool
    choices: frozenset[str] = frozenset()


def all_flags() -> Mapping[str, Flag]:
    """Return every flag by its name, whichever blueprint, architect and provider a run chooses."""
    from hydra.core.config_store import ConfigStore  # the analysis imports this module, and needs no flags

    from model_chat import model_chat_blueprint as model_chat_blueprint  # registers what there is to choose from

    groups = ConfigStore.instance().repo.get("mephisto", {})
    return _all_flags(
        tuple((group, file) for group, files in groups.items() for file in (files if isinstance(files, dict) else ()))
    )


@lru_cache(maxsize=2)
def _all_flags(registered: tuple[tuple[str, str], ...]) -> Mapping[str, Flag]:
    """Find all flags; anew when something further has been registered."""
    from hydra.core.config_store import ConfigStore

    from model_chat.configuration.hydra import TaskConfig

    found = {flag.name: flag for flag in _flags_of(OmegaConf.structured(TaskConfig), "", frozenset())}
    for group, configs in ConfigStore.instance().repo.get("mephisto", {}).items():
        for file, config in configs.items() if isinstance(configs, dict) else ():
            kind = OmegaConf.get_type(config.node)
            if group == "blueprint" and not getattr(kind, "__module__", "").startswith(OWN_PACKAGE):
                continue
            choice = frozenset({f"mephisto/{group}={file.removesuffix('.yaml')}"})
            for flag in _flags_of(config.node, f"mephisto.{group}.", choice):
                known = found.get(flag.name)
                others = frozenset() if known is None else known.choices
                found[flag.name] = Flag(flag.name, flag.kind, flag.optional, others | flag.choices)
    parents = {name.rpartition(".")[0] for name in found}  # `mephisto.blueprint` is a group and no flag
    usual = (name for name in sorted(found) if name not in parents and not name.startswith(("hydra", "defaults")))
    return MappingProxyType({name: found[name] for name in usual if "._" not in name})


def _flags_of(node: DictConfig, prefix: str, choices: frozenset[str]) -> Iterator[Flag]:
    for key in map(str, node):
        child = node._get_node(key)
        if isinstance(child, DictConfig) and len(child) and not child._is_none() and not child._is_missing():
            yield from _flags_of(child, f"{prefix}{key}.", choices)
        else:
            yield Flag(f"{prefix}{key}", kind_of(child), child is None or child._is_optional(), choices)


def kind_of(node: Any) -> type | None:
    """Return the type of a flag's values; None where any value is taken."""
    for node_type, kind in ((StringNode, str), (IntegerNode, int), (FloatNode, float), (BooleanNode, bool)):
        if isinstance(node, node_type):
            return kind
    return None


def flag_tree(flags: Mapping[str, Flag]) -> dict[str, Any]:
    """Return the flags as nested dictionaries, one level for each part of a name, with a :class:`Flag` as each leaf."""
    tree: dict[str, Any] = {}
    for name, flag in flags.items():
        *parents, last = name.split(".")
        level = tree
        for part in parents:
            level = level.setdefault(part, {})
        level[last] = flag
    return tree


def nearest_flag(wrong: str, choices: Mapping[str, str] | None = None) -> str | None:
    """Return the flag that ``wrong`` was probably meant to be, or None if none is near.

    Args:
        choices: ``mephisto/blueprint`` and so on, with what the run has chosen; flags of other choices are not suggested.
    """
    last = wrong.rpartition(".")[2].lower().replace("-", "_")

    def likeness(name: str) -> tuple[float, float]:
        own = name.rpartition(".")[2]
        is_beginning = len(last) >= SHORTEST_PREFIX and own.startswith(last)
        return max(_ratio(last, own), NEAR if is_beginning else 0.0), _ratio(wrong, name)

    usable = [name for name, flag in all_flags().items() if choices is None or is_available(flag, choices)]
    best = max(usable, key=likeness)
    return best if likeness(best)[0] >= NEAR else None


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def is_available(flag: Flag, choices: Mapping[str, str]) -> bool:
    """Whether a run with these choices has the flag."""
    if not flag.choices:
        return True
    return any(choices.get(group) in (None, choice) for group, _, choice in (c.partition("=") for c in flag.choices))

"""The command line of the run scripts: help and configuration to read, and Hydra's complaints as one sentence each.

Hydra names the internal type that a wrong flag was not found in; a requester wants to know which flag is right.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from model_chat.configuration.hydra import ROOT, TaskConfig, register, store_conf_files
from model_chat.errors import ConfigurationError

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Hydra's environment variable: let exceptions out of ``hydra.main`` instead of printing them."""
CLOSE = 0.6
"""How similar (0 to 1, :class:`difflib.SequenceMatcher`) a flag must be to be suggested."""
KINDS = {"to Integer": "a whole number", "to Float": "a number", "a valid bool": "true or false"}
OWN_PACKAGE = "model_chat."


class Wish(StrEnum):
    """What the command line asks for."""

    RUN = "run"
    HELP = "help"
    CONFIG = "configuration"


def read_arguments(arguments: Sequence[str]) -> tuple[Wish, list[str]]:
    """Tell what is asked for, and what is left for Hydra.

    ``--help`` and ``-c job`` are taken out, for they are answered by :mod:`model_chat.configuration.help`; all other
    options are Hydra's own.

    Raises:
        ConfigurationError: an option that Hydra doesn't have; flags of a run have no dashes.
    """
    parser = get_args_parser()
    if {"-h", "--help"} & set(arguments):
        left = [word for word in arguments if word not in ("-h", "--help")]
        _check_options(parser, left)
        return Wish.HELP, _offer_config_dir(left)
    _check_options(parser, arguments)
    arguments = _offer_config_dir(arguments)
    parsed = parser.parse_args(list(arguments))
    if parsed.cfg == "job" and parsed.package is None and not parsed.resolve:
        left, words = [], iter(arguments)
        for word in words:
            if word in ("-c", "--cfg"):
                next(words)
            elif word not in ("-cjob", "--cfg=job"):
                left.append(word)
        return Wish.CONFIG, left
    return Wish.RUN, list(arguments)


def _offer_config_dir(arguments: Sequence[str]) -> list[str]:
    """Offer the files of ``conf/`` in the folder of ``--config-dir`` as those of the task's own ``conf/`` are offered.

    Hydra would take them, too, but only with a comment in the first line that says ``@package _global_``, which a copy of
    a shipped file has not; and what it finds in such a folder goes before what is offered here. So the option is left to
    Hydra only if the folder holds something else for it.
    """
    left, words, folder = [], iter(arguments), None
    for word in words:
        if word in ("--config-dir", "-cd"):
            folder = next(words, None)
        elif word.startswith("--config-dir="):
            folder = word.partition("=")[2]
        else:
            left.append(word)
    place = Path(folder) if folder else None
    if place is None or not (place / "conf").is_dir():
        return list(arguments)
    store_conf_files(place / "conf")
    others = [path for path in place.rglob("*.yaml") if path.relative_to(place).parts[0] != "conf"]
    return list(arguments) if others else left


def _check_options(parser: Any, arguments: Sequence[str]) -> None:
    options = sorted(parser._option_string_actions)
    faults = []
    for number, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if not word.startswith("--") or any(option.startswith(name) for option in options):
            continue
        if not equals:
            value = next(iter(arguments[number + 1 : number + 2]), "")
        near = difflib.get_close_matches(name, options, n=1, cutoff=CLOSE)
        flag = nearest_flag(name.lstrip("-").replace("-", "_"))
        if near:
            faults.append(f"{name}: there is no such option; did you mean {near[0]}?")
        elif flag is not None:
            faults.append(f"{name}: flags have no dashes here; write {flag}={value or '…'}")
        else:
            faults.append(f"{name}: there is no such option; see --help for what there is.")
    ConfigurationError.raise_if(faults)


def call(run: Callable[[], None], arguments: Sequence[str]) -> None:
    """Call what ``hydra.main`` made, with ``arguments`` as the command line.

    Raises:
        ConfigurationError: what Hydra had to say about flags and files, in one sentence for each fault.
    """
    sys.argv[1:] = arguments
    wants_all = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"
    try:
        check_added(arguments)
        run()
    except (CompactHydraException, OmegaConfBaseException) as error:
        if wants_all:
            raise
        raise ConfigurationError(sentence_for(error, arguments)) from error
    finally:
        if not wants_all:
            os.environ.pop(FULL_ERROR, None)


def compose_config(default_conf: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration as the run scripts do, for commands that look at a task without running it.

    Args:
        default_conf: what ``conf`` is unless an override names another.
        overrides: as on the command line; of Hydra's options, --config-dir with a folder of conf/ alone.

    Raises:
        ConfigurationError: one sentence for each flag that is wrong.
    """
    from model_chat import task_run as task_run  # registers the blueprints, architects and providers to choose from

    GlobalHydra.instance().clear()
    name = register(default_conf)
    _, left = read_arguments(overrides)
    check_added(left)
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose(name, overrides=get_args_parser().parse_args(left).overrides)
    except (CompactHydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(sentence_for(error, left)) from error


def overrides_in(arguments: Sequence[str]) -> list[Override]:
    """Parse the overrides among the arguments; what can't be parsed is left for Hydra to refuse."""
    found = []
    for word in get_args_parser().parse_known_args(list(arguments))[0].overrides:
        try:
            found += OverridesParser.create().parse_overrides([word])
        except CompactHydraException:
            continue
    return found


def check_added(arguments: Sequence[str]) -> None:
    """Refuse ``+flag=value`` where nothing reads such a flag: Hydra would take it, and a typing error would go unseen.

    Raises:
        ConfigurationError: one sentence for each.
    """
    known = known_flags()
    faults = []
    for override in overrides_in(arguments):
        key = str(override.key_or_group)
        free = any(key.startswith(f"{flag}.") for flag in known) or key.startswith("hydra.")
        if override.is_add() and "/" not in key and key not in known and key != "conf" and not free:
            faults.append(_unknown(f"+{key}", key))
    ConfigurationError.raise_if(faults)


def sentence_for(error: Exception, arguments: Sequence[str]) -> str:
    """Say in one sentence what is wrong and what would be right.

    Args:
        error: Hydra's or OmegaConf's.
        arguments: the command line.
    """
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        near = difflib.get_close_matches(choice, error.options, n=1, cutoff=CLOSE)
        remedy = f"did you mean {group}={near[0]}?" if near else f"there is: {', '.join(error.options) or 'none'}."
        return f"{group}={choice}: there is no such file; {remedy}"
    if isinstance(error, OverrideParseException) and "=" not in error.override:
        return f"{error.override}: has no value; write flag=value, and see --help for the flags."
    if isinstance(error, OverrideParseException):
        return f"{error.override}: can't be read; put quotes around a value with signs in it: {_quoted(error.override)}"
    if ambiguous := re.match("Ambiguous value for argument '(.*)'$", text.splitlines()[0]):
        return f"{ambiguous[1]}: with a comma it could be several values; put it in quotes: {_quoted(ambiguous[1])}"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        return _unknown_key(str(cause.full_key), arguments)
    if isinstance(cause, ValidationError) and cause.full_key:
        key, problem = str(cause.full_key), str(cause).splitlines()[0].rstrip(".")
        kind = next((words for name, words in KINDS.items() if name in problem), None)
        if kind is not None and (value := re.match("Value '(.*?)' (?:of type|could not|is not)", problem)):
            return f"{key}: '{value[1]}' is not {kind}; give {kind}{_place(key, arguments)}."
        return f"{key}: {problem}{_place(key, arguments)}; see --help."
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0].rstrip('.')}; see --help."
    # Files that are no YAML, search paths and the like: Hydra's first line says which.
    return f"{' '.join(text.split()).rstrip('.')}; see --help."


def _unknown_key(key: str, arguments: Sequence[str]) -> str:
    """Say that there is no flag ``key``; OmegaConf names the first part of a flag that it doesn't find."""
    given = {str(override.key_or_group): override for override in overrides_in(arguments)}
    whole = next((name for name in given if name == key or name.startswith(f"{key}.")), None)
    if whole is None:
        parent = next((name for name in given if key.startswith(f"{name}.")), None)
        whole = parent if parent is not None else key
    if any(whole == flag or whole.startswith(f"{flag}.") for flag in known_flags()) and whole in given:
        return f"{whole}: is open for keys of your own; to add one, write '+{given[whole].input_line}'"
    return _unknown(whole, whole, _place(whole, arguments))


def _place(key: str, arguments: Sequence[str]) -> str:
    """Where a key stands that is not on the command line."""
    if any(str(override.key_or_group) == key for override in overrides_in(arguments)):
        return ""
    conf = next((word for word in arguments if word.startswith("conf=")), None)
    return f" (it stands in the file of {conf})" if conf else " (it stands in the file under conf/)"


def _unknown(shown: str, key: str, place: str = "") -> str:
    flag = nearest_flag(key)
    remedy = "see --help for what there is." if flag is None else f"did you mean {flag}?"
    return f"{shown}: there is no such flag{place}; {remedy}"


def _quoted(override: str) -> str:
    key, _, value = override.partition("=")
    bare = value.strip("\"'")
    return f"'{key}=\"{bare}\"'"


def nearest_flag(wrong: str) -> str | None:
    """Return the known flag that resembles ``wrong`` most, by its whole name or by its last part; None if none does."""
    last = wrong.rpartition(".")[2]

    def likeness(flag: str) -> tuple[float, float]:
        own, whole = _ratio(last, flag.rpartition(".")[2]), _ratio(wrong, flag)
        return max(own, whole), whole

    best = max(known_flags(), key=likeness)
    return best if likeness(best)[0] >= CLOSE else None


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def known_flags() -> list[str]:
    """Return every flag that a run can have, whichever blueprint, architect and provider it chooses."""
    flags = set(_leaves(OmegaConf.structured(TaskConfig), ""))
    for group, configs in ConfigStore.instance().repo.get("mephisto", {}).items():
        for config in configs.values() if isinstance(configs, dict) else ():
            kind = OmegaConf.get_type(config.node)
            if group != "blueprint" or getattr(kind, "__module__", "").startswith(OWN_PACKAGE):
                flags.update(_leaves(config.node, f"mephisto.{group}."))
    flags -= {
        flag.rpartition(".")[0] for flag in flags
    }  # `mephisto.blueprint` is no flag, though it has no value at first
    return sorted(flag for flag in flags if not flag.startswith(("hydra", "defaults")) and "._" not in flag)


def _leaves(node: DictConfig, prefix: str) -> Iterator[str]:
    for key in map(str, node):
        child = node._get_node(key)
        if isinstance(child, DictConfig) and len(child) and not child._is_none() and not child._is_missing():
            yield from _leaves(child, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"

"""The words of a command line: options and overrides told apart, and overrides written so that Hydra reads what is meant."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import CompactHydraException

from model_chat.configuration.flags import all_flags
from model_chat.errors import ConfigurationError

CONF_OPTIONS = ("--conf", "--config-name", "-cn")
"""Options that are taken for ``conf=NAME``; of the last two Hydra would make a configuration without our flags."""


class _Parser:
    """Hydra's parser of options, whose faults are sentences."""

    def __init__(self) -> None:
        self.parser = get_args_parser()
        self.options: dict[str, argparse.Action] = dict(self.parser._option_string_actions)
        self.parser.error = self._fail  # type: ignore[method-assign]  # it would print its usage and exit

    @staticmethod
    def _fail(message: str) -> Any:
        raise ConfigurationError(f"{message.rstrip('.')}; see --help for what there is.")

    def find(self, word: str) -> tuple[argparse.Action | None, str | None]:
        """Return the option that a word gives, and its value if the word holds it."""
        name, equals, value = word.partition("=")
        if name in self.options:
            return self.options[name], value if equals else None
        if word.startswith("--"):
            found = {id(action): action for option, action in self.options.items() if option.startswith(name)}
            return (next(iter(found.values())), value if equals else None) if len(found) == 1 else (None, None)
        # -cjob, -cdFOLDER: the longest option that the word begins with
        fitting = [option for option in self.options if not option.startswith("--") and word.startswith(option)]
        if not fitting:
            return None, None
        longest = max(fitting, key=len)
        return self.options[longest], word.removeprefix(longest).removeprefix("=")


def split_arguments(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Tell Hydra's options from overrides, in whatever order they come.

    Args:
        words: the command line. ``--conf NAME`` and ``--config-name NAME`` are taken for ``conf=NAME``.

    Returns:
        the options, and the overrides as they are written.

    Raises:
        ConfigurationError: an option that there is not, or one without its value.
    """
    parser, options, overrides = _Parser(), [], []
    faults: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            overrides += left
            break
        if not word.startswith("-") or word == "-":
            overrides.append(word)
            continue
        name, equals, value = word.partition("=")
        if name in CONF_OPTIONS:
            if not equals and (not left or left[0].startswith("-")):
                faults.append(f"{name}: has no value; give the name of a file under conf/, such as conf=example.")
                continue
            overrides.append(f"conf={value if equals else left.pop(0)}")
            continue
        action, own = parser.find(word)
        if action is None:
            faults.append(unknown_option(name, value if equals else next(iter(left[:1]), ""), list(parser.options)))
        elif isinstance(action.nargs, int) and action.nargs == 0:
            options.append(word)
        elif own is not None or action.nargs == "?":
            options.append(word if own is None else f"{action.option_strings[0]}={own}")
        elif not left:
            faults.append(f"{name}: has no value; see --help for what it takes.")
        else:
            options.append(f"{action.option_strings[0]}={left.pop(0)}")
    ConfigurationError.raise_if(faults)
    return parser.parser.parse_args(options), overrides


def unknown_option(name: str, value: str, options: Sequence[str]) -> str:
    """Say that there is no such option, and what to write: another option, or the flag of that name."""
    import difflib

    from model_chat.configuration.flags import NEAR, nearest_flag

    near = difflib.get_close_matches(name, sorted(options), n=1, cutoff=NEAR)
    flag = nearest_flag(name.lstrip("-").replace("-", "_"))
    if near:
        return f"{name}: there is no such option; did you mean {near[0]}?"
    if flag is not None:
        given = shell_quoted(flag, value) if value else f"{flag}=…"
        return f"{name}: flags have no dashes here; write {given}"
    return f"{name}: there is no such option; see --help for what there is."


def parsed(word: str) -> Override | None:
    """Return an override as Hydra reads it, None where it can't."""
    try:
        return next(iter(OverridesParser.create().parse_overrides([word])), None)
    except CompactHydraException:
        return None


def as_meant(word: str) -> str:
    """Return an override so that Hydra reads what is meant.

    A flag that is text keeps what is written, though Hydra would make a number of ``2024_05`` or a truth value of ``true``;
    it may begin with ``~``, which Hydra can't read; ``null`` stands for "" where the flag can't be null.
    """
    key, equals, value = word.partition("=")
    if key == "conf" and equals:  # the name of a file
        name = value.removesuffix(".yaml")
        override = parsed(f"{key}={name}")
        is_other = override is not None and (override._value is None or isinstance(override._value, bool | int | float))
        return f"{key}={hydra_quoted(name) if is_other else name}"
    flag = all_flags().get(key.lstrip("+"))
    if not equals or flag is None or flag.kind is not str:
        return word
    override = parsed(word)
    if override is None:
        # With another first character Hydra says whether the rest is one value.
        rest = parsed(f"{key}=x{value[1:]}") if value.startswith("~") else None
        return f"{key}={hydra_quoted(value)}" if rest is not None and isinstance(rest._value, str) else word
    if override._value is None:
        return word if flag.optional else f"{key}=''"
    if isinstance(override._value, bool | int | float):
        return f"{key}={hydra_quoted(value.strip())}"
    return word


def hydra_quoted(text: str) -> str:
    """Return text in quotes, so that Hydra reads exactly it; ``${…}`` in it still refers to another flag."""
    quote = "'" if '"' in text else '"'
    # Within quotes Hydra takes backslashes as they are, but for those before a quote.
    escaped = re.sub(rf"(\\*)({quote}|\Z)", lambda m: m[1] * 2 + (f"\\{m[2]}" if m[2] else ""), text)
    return f"{quote}{escaped}{quote}"


def shell_quoted(key: str, value: str) -> str:
    """Return ``key=value`` as it can be pasted into a shell, for Hydra to read exactly ``value``."""
    bare = f"{key}={value}"
    override = parsed(bare)
    read = None if override is None else override._value
    # Of a flag, what Hydra makes a number of is taken as it is written (as_meant).
    if read != value and not (isinstance(read, bool | int | float) and key.lstrip("+") in all_flags()):
        bare = f"{key}={hydra_quoted(value)}"
    if "'" in bare and not set(bare) & set("$`!\\"):  # easier to read than what shlex makes of apostrophes
        escaped = bare.replace('"', '\\"')
        return f'"{escaped}"'
    return shlex.quote(bare)


def without_quotes(value: str) -> str:
    """Return what somebody meant who put quotes around a whole value, or around none of it."""
    override = parsed(f"a={value}")
    if override is not None and isinstance(override._value, QuotedString):
        return str(override._value.text)
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def config_dir_of(options: argparse.Namespace) -> Path | None:
    """Return the folder of ``--config-dir``, None without one.

    Raises:
        ConfigurationError: there is no such folder.
    """
    if options.config_dir is None:
        return None
    from model_chat.configuration.files import expand

    folder = expand(options.config_dir).absolute()
    if not folder.is_dir():
        raise ConfigurationError(
            f"--config-dir: the folder '{options.config_dir}' does not exist; give the folder that holds conf/."
        )
    return folder

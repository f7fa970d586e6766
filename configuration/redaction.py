"""Keep keys and passwords out of written data: found by the names of their options, and by how they look."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

REDACTED = "[secret]"
"""Stands in the place of a secret."""
SHORTEST, LONGEST_WORD = 8, 16
"""Characters; a shorter value, or shorter letters, are not looked for in texts, for they could stand there by chance."""

_NAME = re.compile(
    r"passw(or)?d|passphrase|(^|[_\-.])(secret|credentials?|cookie|pwd)($|[_\-.])|(?-i:[a-z]Secret($|[A-Z_\-.]))"
    r"|api[_\-]?key|(access|private|secret|account|subscription|openai|anthropic|azure|cohere|google|gemini|mistral|groq"
    r"|replicate|together|hugging_?face|hf|ngc|wandb|aws)[_\-]?key"
    r"|(auth|access|bearer|hf|api|refresh|session|github|secret)[_\-]?token|^token$|^authorization$",
    re.IGNORECASE,
)
_SHAPE = re.compile(
    r"\bsk-(?=[\w\-]*\d)[\w\-]{20,}"  # OpenAI, Anthropic
    r"|\b(?:hf|gh[pos]|r8|gsk)_[A-Za-z0-9]{30,}"  # Hugging Face, GitHub, Replicate, Groq
    r"|\b(?:glpat|xox[abp])-[\w\-]{20,}"  # GitLab, Slack
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_\-]{35}"  # Amazon, Google
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/\-]{16,}=*"  # RFC 6750, section 2.1
)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
"""User and password in an address (RFC 3986, section 3.2.1)."""
_FLAG = re.compile(r"""(?P<name>--?[A-Za-z][\w\-]*)(?P<between>[\s=]+)(?P<value>"[^"]*"|'[^']*'|[^\s"'\-]\S*)""")


class _Known:
    """The values that have been given as secrets. ``_lock`` guards them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self.pattern: re.Pattern[str] | None = None
        self.values: tuple[str, ...] = ()
        self.short_beginnings: frozenset[str] = frozenset()

    def add(self, values: set[str]) -> None:
        with self._lock:
            if values <= self._values:
                return
            self._values |= values
            longest_first = sorted(self._values, key=lambda value: (-len(value), value))
            self.pattern = re.compile("|".join(map(re.escape, longest_first)))
            self.values = tuple(longest_first)
            self.short_beginnings = frozenset(value[:end] for value in self._values for end in range(1, SHORTEST))


_known = _Known()


def is_secret(name: str) -> bool:
    """Whether a value under this name must not be written (API keys, passwords, access tokens).

    A name that ends in ``_env`` holds the name of an environment variable, which is no secret.
    """
    return not name.lower().endswith("_env") and _NAME.search(name) is not None


def learn_secrets(*given: Mapping[Any, Any]) -> None:
    """Remember the secrets among options, at any depth, and those of the environment: no text holds them from now on.

    Args:
        given: names and values, such as a model's opt.
    """
    found: set[str] = set()
    for options in (*given, os.environ):
        _collect(options, found)
    _known.add(found)


def learn_values(values: Iterable[str]) -> None:
    """Remember values that no text is to hold from now on."""
    _known.add({value.strip() for value in values if _is_unmistakable(value.strip())})


def learn_flags(flags: str) -> None:
    """Remember the secrets among command-line flags."""
    learn_secrets({found["name"].lstrip("-"): found["value"].strip("\"'") for found in _FLAG.finditer(flags)})


def _collect(value: Any, found: set[str], secret: bool = False) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _collect(inner, found, secret or is_secret(str(name)))
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _collect(inner, found, secret)
    elif secret and isinstance(value, str) and _is_unmistakable(value.strip()):
        found.add(value.strip())


def _is_unmistakable(value: str) -> bool:
    """Whether a secret can be looked for in texts: it is no place, and no word (`password`, say) that people use, too."""
    return len(value) >= (LONGEST_WORD if value.isalpha() else SHORTEST) and not os.path.exists(value)  # noqa: PTH110 (any text)


def redacted(text: str) -> str:
    """Return a text without secrets: those that are known, what looks like a key, and passwords in addresses."""
    pattern = _known.pattern
    if pattern is not None:
        text = pattern.sub(REDACTED, text)
    return _IN_ADDRESS.sub(REDACTED, _SHAPE.sub(REDACTED, text))


def without_known(text: str) -> str:
    """Return a text without the secrets that are known; everything else stays as it is."""
    pattern = _known.pattern
    return text if pattern is None else pattern.sub(REDACTED, text)


def without_known_so_far(text: str) -> str:
    """Return the same of a text that still grows: without an end, too, that could be the beginning of a known secret."""
    text = without_known(text)
    cut = len(text)
    for value in _known.values:
        at = text.find(value[:SHORTEST])
        while 0 <= at < cut:
            if value.startswith(text[at:]):
                cut = at
            at = text.find(value[:SHORTEST], at + 1)
    for begin in range(max(0, len(text) - SHORTEST + 1), cut):
        if text[begin:] in _known.short_beginnings:
            return text[:begin]
    return text[:cut]


def redacted_flags(flags: str) -> str:
    """Return command-line flags without the values of those whose names are those of secrets."""

    def hide(found: re.Match[str]) -> str:
        return f"{found['name']}{found['between']}{REDACTED}" if is_secret(found["name"].lstrip("-")) else found[0]

    return redacted(_FLAG.sub(hide, flags))


def without_secrets(value: Any) -> Any:
    """Return configuration of JSON types with each secret replaced, at any depth."""
    if isinstance(value, Mapping):
        return {
            name: REDACTED if is_secret(str(name)) and inner not in (None, "") else without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


def keep_secrets_out(db: Any) -> None:
    """Let Mephisto's database, which keeps the whole configuration of each run, be given it without secrets.

    Args:
        db: Mephisto's; its ``new_task_run`` is replaced.
    """
    new_task_run = db.new_task_run

    def new_task_run_without_secrets(task_id: str, requester_id: str, init_params: str, *rest: Any, **more: Any) -> str:
        given = yaml.safe_load(json.loads(init_params))
        learn_secrets(given)
        kept = without_secrets(given)
        if kept != given:
            init_params = json.dumps(yaml.safe_dump(kept, sort_keys=False))
        run_id: str = new_task_run(task_id, requester_id, init_params, *rest, **more)
        return run_id

    db.new_task_run = new_task_run_without_secrets

"""A model's opt as it is saved with each conversation: JSON types only, and no secrets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(
    r"passw(or)?d|passphrase|(^|[_\-.])(secret|credentials?)($|[_\-.])|(?-i:[a-z]Secret($|[A-Z_\-.]))"
    r"|api[_\-]?key|(access|private|secret)[_\-]?key|(auth|access|bearer|hf|api|refresh)[_\-]?token|^token$|^authorization$",
    re.IGNORECASE,
)


def is_secret(key: str) -> bool:
    """Whether a value under this key must not be saved (API keys, passwords, access tokens)."""
    return _SECRET.search(key) is not None


def exportable_opt(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``opt`` with JSON types only and without secrets, at any depth.

    Values that JSON has no type for become their ``str``; NaN and infinities become their names; sets become sorted lists.
    """
    return {str(key): _exportable(value) for key, value in opt.items() if not is_secret(str(key))}


def _exportable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return exportable_opt(value)
    if isinstance(value, set | frozenset):
        return sorted((_exportable(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [_exportable(item) for item in value]
    return str(value)

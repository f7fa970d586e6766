"""A model's opt as saved with each conversation: JSON types only, without secrets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from model_chat.configuration.redaction import is_secret, redacted


def exportable_opt(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``opt`` with JSON types only and without secrets, at any depth: what is named like one is left out, and what
    looks like one, or is known to be one, is replaced.

    Values that JSON has no type for become their ``str``; NaN and infinities become their names; sets become sorted lists.
    """
    return {str(key): _exportable(value) for key, value in opt.items() if not is_secret(str(key))}


def _exportable(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return exportable_opt(value)
    if isinstance(value, set | frozenset):
        return sorted((_exportable(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [_exportable(item) for item in value]
    return redacted(str(value))

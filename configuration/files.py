"""Reading the files that flags point to, with errors that say where the fault is and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from model_chat.errors import ConfigurationError


def expand(path: str) -> Path:
    """Return ``path`` with ``~`` and environment variables expanded."""
    return Path(os.path.expandvars(path)).expanduser()


def read_text(flag: str, path: str) -> str:
    """Return the text of a UTF-8 file (a byte order mark is dropped).

    Raises:
        ConfigurationError: there is no such file, or it is not UTF-8 text.
    """
    file = expand(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigurationError(f"{flag}: the file '{path}' {what}; give the path of a file.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{flag}: '{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{flag}: '{path}' can't be read ({error.strerror}); check its permissions.") from None


class _DuplicateKeyError(ValueError):
    """A key that stands twice in one JSON object."""


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found


def parse_json(flag: str, path: str, text: str) -> Any:
    """Parse JSON in which no object may hold a key twice.

    Raises:
        ConfigurationError: not JSON (with line and column), or a key stands twice (with its line).
    """
    try:
        return json.loads(text, object_pairs_hook=_refuse_duplicates)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{flag}: '{path}' is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}."
        ) from None
    except _DuplicateKeyError as duplicate:
        key = str(duplicate)
        raise ConfigurationError(
            f"{flag}: '{path}', line {line_of_key(text, key, last=True)}: '{key}' stands twice; remove or rename one."
        ) from None


def read_json(flag: str, path: str) -> Any:
    """Read and parse a JSON file; see :func:`read_text` and :func:`parse_json` for what is raised."""
    return parse_json(flag, path, read_text(flag, path))


def read_yaml(flag: str, path: str) -> Any:
    """Read a YAML file.

    Raises:
        ConfigurationError: no such file, or not YAML (with line and column).
    """
    text = read_text(flag, path)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be parsed"
        raise ConfigurationError(f"{flag}: '{path}' is not valid YAML{where}: {problem}.") from None


def line_of_key(text: str, key: str, last: bool = False) -> int:
    """Return the 1-based line on which ``"key"`` stands in a JSON text (the first, or the last one); 1 if nowhere."""
    lines = [number for number, line in enumerate(text.splitlines(), 1) if f'"{key}"' in line]
    return (lines[-1] if last else lines[0]) if lines else 1


def validation_faults(flag: str, path: str, text: str, error: ValidationError) -> list[str]:
    """Turn pydantic's findings into one sentence each, with the line of the key where it can be told.

    Args:
        flag: the flag that named the file.
        path: the file as the requester wrote it.
        text: the file's text.
        error: what pydantic found.
    """
    faults = []
    for finding in error.errors():
        keys = [part for part in finding["loc"] if not _is_pydantic_tag(part)]
        named = [part for part in keys if isinstance(part, str)]
        line = line_of_key(text, named[-1]) if named else 1
        where = ".".join(str(part) for part in keys) or "the file"
        if finding["type"] == "extra_forbidden":
            problem = f"unknown key '{where}'; remove it or correct its spelling"
        elif finding["type"] == "missing":
            problem = f"'{where}' is missing; add it"
            line = line_of_key(text, named[-2]) if len(named) > 1 else 1
        else:
            problem = f"'{where}': {finding['msg'].removeprefix('Value error, ')}"
        faults.append(f"{flag}: '{path}', line {line}: {problem.rstrip('.')}.")
    return faults


def _is_pydantic_tag(part: str | int) -> bool:
    """Whether a part of an error's location names a member of a union rather than a key of the file."""
    return isinstance(part, str) and (part.startswith(("list[", "dict[")) or "function-" in part)

"""Reading the files that flags point to, with errors that say where the fault is and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_chat.configuration.json_lines import JsonLines
from model_chat.errors import ConfigurationError, ModelChatError


def expand(path: str) -> Path:
    """Return ``path`` with ``~`` and environment variables expanded; a ``~name`` of nobody stays as it is."""
    return Path(os.path.expanduser(os.path.expandvars(path)))  # noqa: PTH111  # Path.expanduser raises for such a name


def read_text(flag: str, path: str) -> str:
    """Return the text of a UTF-8 file (a byte order mark is dropped).

    Raises:
        ConfigurationError: there is no such file, or it is not UTF-8 text.
    """
    if not path.strip():
        raise ConfigurationError(f"{flag}: is empty; give the path of a file.")
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


class _DuplicateKeyError(ModelChatError, ValueError):
    """A JSON object has a key twice."""


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DuplicateKeyError
    return found


def parse_json(flag: str, path: str, text: str) -> Any:
    """Parse JSON in which no object may hold a key twice.

    Raises:
        ConfigurationError: not JSON (with line and column), or keys that are duplicates (each with its line).
    """
    try:
        return _parsed(flag, path, text, object_pairs_hook=_refuse_duplicates)
    except _DuplicateKeyError:
        _parsed(flag, path, text)  # what is wrong behind the duplicate key
        raise ConfigurationError(
            *(
                f"{flag}: '{path}', line {line}: duplicate key '{key}'; remove or rename one."
                for key, line in JsonLines.of(text).repeated
            )
        ) from None


def _parsed(flag: str, path: str, text: str, **how: Any) -> Any:
    try:
        return json.loads(text, **how)
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        problem = "it is nested too deeply"
    except _DuplicateKeyError:
        raise
    except ValueError:  # Python reads no number of more digits (sys.set_int_max_str_digits)
        problem = "a number has thousands of digits"
    raise ConfigurationError(f"{flag}: '{path}' is not valid JSON: {problem}.")


def validation_faults(flag: str, path: str, text: str, error: ValidationError) -> list[str]:
    """Turn pydantic's findings into one sentence each, with the line.

    Args:
        text: the file's text, valid JSON.
        error: what pydantic found. A validator that knows which item of a list is wrong names it by raising a
            ``PydanticCustomError`` with that ``index`` in its context.
    """
    lines = JsonLines.of(text)
    faults = []
    for finding in error.errors():
        index = finding.get("ctx", {}).get("index")
        location = (*finding["loc"], *([] if index is None else [index]))
        keys, line = lines.resolve(location)
        where = ".".join(map(str, keys)) or "the file"
        if finding["type"] == "extra_forbidden":
            problem = f"unknown key '{where}'; remove it or correct its spelling"
        elif finding["type"] == "missing":
            problem = f"'{where}' is missing; add it"
        else:
            problem = f"'{where}': {finding['msg'].removeprefix('Value error, ')}"
        faults.append(f"{flag}: '{path}', line {line}: {problem.rstrip('.')}.")
    return faults

"""Further conversations that a requester asked a running task for: later runs of the task want them as well."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from model_chat.errors import ConfigurationError
from model_chat.records.append_only_log import AppendOnlyLog

EXTENSIONS_NAME = "extensions.jsonl"
"""Beside the conversations."""
NUM_CONVERSATIONS = "num_conversations"
"""In place of a model: the conversations of an image chat."""


class _Extension(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    task_name: str
    configured: dict[str, PositiveInt]
    wanted: dict[str, PositiveInt]


class Extensions:
    """How many conversations a task wants in all, by model or pair.

    An extension counts as long as the configuration asks for what it asked for then: whoever has raised or lowered the
    number there since gets that number. Not thread-safe; its owner, the quota, locks.

    Args:
        folder: of the conversations.
        configured: nickname, or pair -> conversations, as the configuration has it.
        resumes: whether what earlier runs have collected counts; else their extensions don't, either.
    """

    def __init__(self, folder: Path, task_name: str, configured: Mapping[str, int], resumes: bool = True) -> None:
        self._path, self._task_name, self._configured = folder / EXTENSIONS_NAME, task_name, dict(configured)
        self._resumes = resumes

    def wanted(self) -> dict[str, int]:
        """Read what is wanted: what the configuration asks for, or more.

        Raises:
            ConfigurationError: the file can't be read.
        """
        try:
            lines = self._path.read_bytes().split(b"\n") if self._resumes else []
        except (FileNotFoundError, NotADirectoryError):  # a fault of the folder is named by itself
            lines = []
        except OSError as error:
            raise ConfigurationError(
                f"mephisto.blueprint.chat_data_folder: '{self._path}' can't be read ({error.strerror}), which says how many "
                "conversations were asked for on the dashboard; change its permissions."
            ) from None
        wanted, asked_then = self._configured, _by_pair(self._configured)
        for line in lines:
            with contextlib.suppress(ValidationError):  # cut off by a crash, before anybody was told
                found = _Extension.model_validate_json(line)
                if found.task_name == self._task_name:
                    is_as_then = _by_pair(found.configured) == asked_then
                    more = _by_pair(found.wanted)
                    wanted = {
                        name: more.get(_pair(name), number) if is_as_then else number
                        for name, number in self._configured.items()
                    }
        return dict(wanted)

    def save(self, wanted: Mapping[str, int]) -> None:
        """Write what is wanted from now on; it is on disk when this returns.

        Raises:
            OSError: it can't be written; what was wanted before is wanted still.
        """
        entry = {"task_name": self._task_name, "configured": self._configured, "wanted": dict(wanted)}
        log = AppendOnlyLog(self._path)
        try:
            log.append_lines(json.dumps(entry).encode("ascii") + b"\n", durable=True)
        finally:
            log.close()

    def sentence(self) -> str:
        """Say what is wanted beside what the configuration asks for; empty if it is the same."""
        more = [
            f"{name} {number} in place of {self._configured[name]}"
            for name, number in self.wanted().items()
            if number != self._configured[name]
        ]
        return f"Extended on the dashboard: {', '.join(more)}." if more else ""


def _pair(name: str) -> str:
    """A pair of models is the same in whatever order they are named."""
    return "|".join(sorted(name.split("|")))


def _by_pair(numbers: Mapping[str, int]) -> dict[str, int]:
    return {_pair(name): number for name, number in numbers.items()}

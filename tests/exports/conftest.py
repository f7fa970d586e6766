"""A study to export, and the command on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.scripts import export
from model_chat.tests.analysis.conftest import make_conversation, saver

WORKER = "A1B2C3D4E5F6G7"
CONSENT = {"page": "consent", "item": "consent", "value": "accept", "utterance_idx": None, "timestamp": 1.0}


def comparison(
    pick: str = "left", turn_idx: int | None = 0, left: str = "reply 0", right: str = "other", **more: Any
) -> Any:
    """A judgement of two replies; the conversation went on with the left one."""
    return {
        "turn_idx": turn_idx,
        "question": None,
        "left": {"model_nickname": "a", "text": left},
        "right": {"model_nickname": "b", "text": right},
        "pick": pick,
        "strength": 1,
        "reason": "",
        "continued_with": "left",
        "timestamp": 2.0,
        **more,
    }


class Place:
    """A folder with results, and exports of them.

    Args:
        folder: fresh.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.results.mkdir()
        self.output = folder / "out"
        self._save = saver(folder)

    def add(self, content: Any = None, **more: Any) -> None:
        """Save a conversation, or one that is made of ``more``."""
        self._save(make_conversation(**more) if content is None else content)

    def run(self, format_name: str, *flags: str) -> int:
        """Run the command on the results; return its exit code."""
        sources = [] if "--task-name" in flags else ["--results-folders", str(self.results)]
        return export.main([*sources, "--output", str(self.output), "--format", format_name, *flags])

    def rows(self, format_name: str, *flags: str) -> list[Any]:
        """The rows of an export in a format of lines."""
        assert self.run(format_name, *flags) == 0
        path = self.output / f"{format_name}.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def manifest(self, format_name: str) -> Any:
        return json.loads((self.output / f"manifest-{format_name}.json").read_text(encoding="utf-8"))

    def content(self) -> dict[str, bytes]:
        """Every file of the output folder."""
        return {
            str(path.relative_to(self.output)): path.read_bytes() for path in self.output.rglob("*") if path.is_file()
        }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty study, with a configuration folder of its own for the salt."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    return Place(tmp_path)

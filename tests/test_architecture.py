"""ARCHITECTURE.md and CONTRIBUTING.md are true to the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imports_of(folder: str) -> set[str]:
    """What the modules of a room (or one module) import, as dotted names; functions' own imports included."""
    place = ROOT / folder
    found: set[str] = set()
    for file in [place] if place.is_file() else set(place.rglob("*.py")) - {COMMANDS.get(folder)}:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
                if node.module == "model_chat":
                    found.update(f"model_chat.{alias.name}" for alias in node.names)
    return found


COMMANDS = {"analysis": ROOT / "analysis/compile_results.py"}
"""A room's command, which may read a study's configuration for it."""


def rooms_of(folder: str) -> set[str]:
    """The rooms (or top-level modules) of ours that a room imports."""
    return {name.split(".")[1] for name in imports_of(folder) if name.startswith("model_chat.")}


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("analysis", {"analysis", "records", "quality", "configuration", "errors"}),
        ("records", {"records", "errors"}),
        ("serving", {"serving", "agents", "records", "errors", "configuration", "visible_text"}),
        ("compat", {"compat"}),
    ],
)
def test_a_room_imports_only_what_it_may(folder: str, allowed: set[str]) -> None:
    assert rooms_of(folder) <= allowed


@pytest.mark.parametrize("folder", ["serving", "agents", "analysis", "records"])
def test_models_records_and_analysis_know_nothing_of_mephisto(folder: str) -> None:
    assert [name for name in imports_of(folder) if name.split(".")[0] == "mephisto"] == []


@pytest.mark.parametrize("module", ["worlds.py", "conversation/onboarding_world.py"])
def test_a_conversation_knows_nothing_of_files_batches_or_http(module: str) -> None:
    beneath = {"pathlib", "json", "os", "shutil", "requests", "httpx", "tornado", "websockets", "mephisto"}
    assert {name.split(".")[0] for name in imports_of(module)} & beneath == set()
    assert {"writing", "batching"} & {name.rpartition(".")[2] for name in imports_of(module)} == set()


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"```bash.*?```", "", text, flags=re.DOTALL)
    names = set(re.findall(r"[\w/-]+/(?=[\s\"<·,`])|[\w/.-]+\.(?:py|md|tsx?|lock)\b", text))
    folders = [ROOT, *(ROOT / room for room in ("serving", "records", "images", "analysis"))]
    # Mermaid's boxes name a room once, then its modules; models/ is made by make.
    missing = {name for name in names - {"models/"} if not any((folder / name).exists() for folder in folders)}
    assert len(names) >= (1 if page == "CHANGELOG.md" else 15)
    assert missing == set()


def test_every_room_and_top_level_module_stands_in_the_architecture() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = {file.parent.name + "/" for file in ROOT.glob("*/__init__.py")}
    modules = {file.name for file in ROOT.glob("*.py")} - {"__init__.py", "setup.py"}
    assert {name for name in rooms | modules if name not in text} == set()

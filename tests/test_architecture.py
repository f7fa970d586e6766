"""ARCHITECTURE.md and CONTRIBUTING.md name what exists; the contracts in pyproject.toml check imports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {file.parent.name for file in ROOT.glob("*/__init__.py")}
MODULES = {file.stem for file in ROOT.glob("*.py")} - {"__init__", "setup"}


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"```bash.*?```", "", text, flags=re.DOTALL)
    names = set(re.findall(r"[\w/-]+/(?=[\s\"<·,`])|[\w/.-]+\.(?:py|md|tsx?|lock)\b", text))
    # A box of the diagram names a package once, then only its modules.
    folders = [ROOT, *(ROOT / package for package in ("serving", "records"))]
    missing = {name for name in names if not any((folder / name).exists() for folder in folders)}
    assert len(names) >= (1 if page == "CHANGELOG.md" else 15)
    assert missing == set()


def test_every_package_and_top_level_module_has_a_purpose_in_the_table() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (`.*?) \| \S.*\|$", text.partition("## Packages")[2].partition("\n## ")[0], flags=re.MULTILINE
    )
    named = [name for row in rows for name in re.findall("`(.*?)`", row)]
    assert len(named) == len(set(named))
    assert {f"{name}/" for name in PACKAGES} | {f"{name}.py" for name in MODULES} <= set(named)


def test_every_package_and_top_level_module_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    named = {name.strip().removeprefix("model_chat.") for layer in layers for name in layer.split("|")}
    assert named == (PACKAGES | MODULES) - {"tests", "benchmarks"}

"""What must be true of the repository as a whole."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST_BYTES = 1_000_000


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listing.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    # Put together here so that this file does not find itself.
    forbidden = re.compile(
        "|".join(
            ["/work" + "/", "registry" + r"\.npmjs", "files" + r"\.pythonhosted", "pypi" + r"\.org", "/ro" + "ot/"]
        )
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        if (match := forbidden.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert found == []


def test_no_large_or_generated_file_is_tracked() -> None:
    files = tracked_files()
    large = [path.name for path in files if path.stat().st_size > LARGEST_BYTES]
    assert large == []
    generated = [
        path for path in files if {"node_modules", "dist", "models", ".venv"} & set(path.relative_to(ROOT).parts)
    ]
    assert generated == []


def test_nothing_of_the_original_task_is_imported() -> None:
    original = re.compile(r"(from|import)\s+parlai\.crowd" + "sourcing")
    importing = [path for path in tracked_files() if path.suffix == ".py" and original.search(path.read_text("utf-8"))]
    assert importing == []


def test_whatever_is_waved_through_says_why() -> None:
    marked = re.compile(r"#\s*(?:type: ignore|noqa)\b.*")
    reasoned = re.compile(
        r"#\s*(?:type: ignore\[[\w-]+(?:, ?[\w-]+)*\]|noqa: [A-Z0-9]+(?:, ?[A-Z0-9]+)*)\s*(?:#|\().{6,}"
    )
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        if path.suffix == ".py" and path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := marked.search(line)) and "`" not in line and not reasoned.match(found[0])
    ]
    assert bare == []

"""Python 3.11 to 3.13: said alike wherever it is said, and no command asks for one of them by name."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from model_chat.scripts import doctor, setup_env

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_description_of_the_package_names_each_version() -> None:
    setup = text_of("setup.py")
    assert tuple(re.findall(r'"Programming Language :: Python :: (\d\.\d+)"', setup)) == VERSIONS
    assert f'python_requires=">={VERSIONS[0]}"' in setup
    tools = tomllib.loads(text_of("pyproject.toml"))["tool"]
    assert tools["mypy"]["python_version"] == VERSIONS[0], "checked as the oldest sees it"
    assert tools["ruff"]["target-version"] == "py" + VERSIONS[0].replace(".", "")


def test_set_up_and_doctor_take_each_version() -> None:
    for module in (doctor, setup_env):
        oldest, newest = module.OLDEST_PYTHON, module.NEWEST_PYTHON
        assert (".".join(map(str, oldest)), ".".join(map(str, newest))) == (VERSIONS[0], VERSIONS[-1])


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_pages_name_each_version(page: str) -> None:
    assert "Python 3.11, 3.12 or 3.13" in text_of(page)


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_no_command_asks_for_one_version() -> None:
    asking = []
    for name in tracked():
        if name.startswith("tests/") or Path(name).suffix not in ("", ".py", ".md", ".sh", ".yaml", ".toml", ".json"):
            continue
        text = text_of(name).replace("python3 python3.13 python3.12 python3.11 python", "")  # the Makefile tries all
        asking += [name for _ in re.finditer(r"python3\.\d+", text)]
    assert asking == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        ({"python3": True, "python3.12": True}, "python3"),
        ({"python3": False, "python3.12": True, "python3.11": True}, "python3.12"),
        ({"python3": False, "python3.13": True}, "python3.13"),
        ({"python3": False}, None),
        ({}, None),
    ],
)
def test_the_makefile_takes_a_python_that_is_supported_and_no_other(
    tmp_path: Path, programs: dict[str, bool], expected: str | None
) -> None:
    for name, is_supported in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {0 if is_supported else 1}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "show.mk").write_text("show:\n\t@: ; echo '$(PYTHON)'\n", encoding="utf-8")
    done = subprocess.run(
        [str(shutil.which("make")), "-f", str(ROOT / "Makefile"), "-f", str(tmp_path / "show.mk"), "show"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ("" if expected is None else str(tmp_path / expected))


def test_no_module_uses_what_only_some_of_the_versions_have() -> None:
    """What Python 3.12 and 3.13 removed is imported nowhere."""
    removed = {
        "asynchat", "asyncore", "distutils", "imp", "smtpd",
        "aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev",
        "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib", "lib2to3",
    }  # fmt: skip
    found = []
    texts = {name: text_of(name) for name in tracked() if name.endswith(".py")}
    for name, text in texts.items():
        if removed.isdisjoint(re.findall(r"\w+", text)):
            continue  # which spares reading most of them as Python
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found += [(name, module) for module in names if module.split(".")[0] in removed]
    assert found == []

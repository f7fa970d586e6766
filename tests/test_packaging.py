"""What is shipped is whole: source distribution, wheel, and the description of the container.

That the wheel runs the task from another folder: tests/docs/test_pages_about_running.py, as docs/installing.md has it.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from model_chat.launch.command_line import compose_config
from model_chat.scripts.setup_env import OLDEST_NODE, OLDEST_PYTHON, read_lock

ROOT = Path(__file__).resolve().parents[1]
DATA = (
    "conf",
    "task_config",
    "instruments",
    "frontend/src/texts",
    "frontend/dist",
    "analysis/templates",
    "exports/templates",
    "router/package.json",
    "router/package-lock.json",
)
WRAPPER = "mephisto_task/wrap_panel.js"
ROUTER = tuple(f"router/{file.name}" for file in ROOT.glob("router/*.js"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Source distribution and wheel, built without network from what git tracks and the built page."""
    folder = tmp_path_factory.mktemp("source")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(ROOT / "frontend/dist", folder / "frontend/dist")
    out = tmp_path_factory.mktemp("dist")
    build = (
        "import sys; from setuptools import build_meta as b; "
        "out = sys.argv[1]; b.build_sdist(out); b.build_wheel(out)"  # setuptools changes sys.argv
    )
    done = subprocess.run(
        [sys.executable, "-c", build, str(out)], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def files_of(*names: str) -> set[str]:
    """The repository's files at or below ``names``."""
    found: set[Path] = set()
    for name in names:
        place = ROOT / name
        found.update({place} if place.is_file() else {file for file in place.rglob("*") if file.is_file()})
    return {file.relative_to(ROOT).as_posix() for file in found}


@pytest.mark.slow
def test_both_distributions_hold_what_a_run_needs(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name.removeprefix("model_chat/") for name in archive.namelist()}
    needed = files_of(*DATA, *ROUTER)
    assert len(needed) > 15
    assert needed - in_wheel == set()
    assert needed - in_sdist == set()
    assert {"LICENSE", "requirements.lock", "Makefile", "scripts/setup_env.py", "frontend/src/main.tsx"} <= in_sdist
    not_shipped = {name for name in in_wheel if name.startswith(("tests/", "frontend/src", "models/", "benchmarks/"))}
    assert {name for name in not_shipped if not name.startswith("frontend/src/texts/")} == set()


def docker_steps() -> list[str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", " ", re.sub("^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [line for line in lines if line.strip()]


def test_the_container_is_built_in_stages_from_pinned_images_of_versions_that_run_it() -> None:
    images = [step.split()[1] for step in docker_steps() if step.startswith("FROM ")]
    assert len(images) == 3
    for image in images:
        name, version = image.split(":")
        oldest = (OLDEST_NODE,) if name == "node" else OLDEST_PYTHON
        assert tuple(map(int, version.split("-")[0].split("."))) >= oldest


def test_the_container_copies_what_exists_runs_as_nobody_special_and_says_whether_it_is_well() -> None:
    steps = docker_steps()
    stages = {step.split()[3] for step in steps if step.startswith("FROM ") and " AS " in step}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for step in steps:
        if not step.startswith("COPY "):
            continue
        sources = step.split()[1:-1]
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        assert [source for source in sources if not (ROOT / source).exists() or source in ignored] == []
    last = steps[max(number for number, step in enumerate(steps) if step.startswith("FROM ")) :]
    assert [step.split()[1] for step in last if step.startswith("USER ")] == ["worker"]
    assert any(step.startswith("HEALTHCHECK ") and "/healthz" in step for step in last)
    entry = next(step for step in last if step.startswith("ENTRYPOINT "))
    _, script, *flags = json.loads(entry.removeprefix("ENTRYPOINT "))
    assert script == "run.py"
    cfg = compose_config("example", flags)
    assert cfg.mephisto.blueprint.chat_data_folder.startswith("/data/")
    assert cfg.mephisto.datapath.startswith("/data/")


def test_what_is_large_or_secret_stays_out_of_the_container() -> None:
    ignored = set((ROOT / ".dockerignore").read_text(encoding="utf-8").split())
    assert {".git", ".venv", "models", "data", "**/node_modules"} <= ignored


BROUGHT_BY = {
    "botocore": "boto3",
    "pydantic_core": "pydantic",
    "hydra": "hydra-core",
    "PIL": "pillow",
    "yaml": "pyyaml",
}
OPTIONAL = {"mephisto", "parlai", "ray"}
"""What setup_env installs (the ranges that the first two declare fit no supported Python), and what an extra names."""


def test_the_wheel_declares_what_the_modules_import_in_ranges_that_the_lock_satisfies() -> None:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (ranges,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and "RUN_TIME" in ast.unparse(node))
    declared = {requirement.name: requirement for requirement in map(Requirement, ast.literal_eval(ranges))}
    locked = {pin.split("==")[0]: pin.split("==")[1] for pin in read_lock()["run"]}
    assert {name for name, requirement in declared.items() if not requirement.specifier.contains(locked[name])} == set()
    imported = set()
    packages = [file.parent for file in ROOT.glob("*/__init__.py") if file.parent.name not in ("tests", "benchmarks")]
    for file in [
        *ROOT.glob("[!s]*.py"),
        *(file for package in packages for file in package.glob("**/*.py") if "node_modules" not in file.parts),
    ]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    others = imported - set(sys.stdlib_module_names) - OPTIONAL - {"model_chat"}
    assert {BROUGHT_BY.get(name, name).replace("_", "-") for name in others} == set(declared)

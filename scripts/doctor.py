"""Check whether a task can run here, and say what to do where it can't:  make doctor  [ARGS="conf=my_study flag=value …"]

    python scripts/doctor.py [--load-models] [conf=NAME] [flag=value …]

Launches nothing and writes nothing. The exit code is 0 when a run would
start, 1 when something has to be put right first. It begins with the standard library alone, so that it can say what is
missing where nothing is installed yet.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
LOCK = ROOT / "requirements.lock"
OLDEST_PYTHON, NEWEST_PYTHON, OLDEST_NODE = (3, 11), (3, 13), 20
# An installed wheel has no Makefile.
SET_UP = "run 'make setup'" if (ROOT / "Makefile").is_file() else "run 'python -m model_chat.scripts.setup_env'"


class Mark(StrEnum):
    """How a check ended; compared by value, since a script is imported once more by its name."""

    FINE = "✓"
    WARNING = "!"
    FAULT = "✗"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        mark: whether it keeps a run from starting (FAULT), may surprise (WARNING), or is in order.
        text: what was found and, unless it is fine, what to do.
    """

    mark: Mark
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.mark.value} {self.subject}: {self.text}"


fine, warning, fault = partial(Finding, Mark.FINE), partial(Finding, Mark.WARNING), partial(Finding, Mark.FAULT)
"""Each makes a finding of a subject and a text."""


# --- what is installed: the standard library alone ---


def check_python(running: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Check the version of Python."""
    name = ".".join(map(str, running))
    if running < OLDEST_PYTHON:
        return fault(
            "Python",
            f"{name} is too old; install Python 3.11, 3.12 or 3.13, and call 'make PYTHON=/path/to/python setup'.",
        )
    if running[:2] > NEWEST_PYTHON:
        return warning("Python", f"{name} is newer than what this is tested with; should something fail, take 3.13.")
    return fine("Python", name)


def check_node(search_path: str | None = None) -> Finding:
    """Check that there is a Node.js that the router runs with."""
    remedy = f"install Node.js {OLDEST_NODE} or newer"
    node = shutil.which("node", path=search_path)
    if node is None:
        return fault("Node.js", f"there is no 'node' on the PATH; {remedy}.")
    try:
        said = subprocess.run(
            [node, "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout.strip()
        major = int(said.lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return fault("Node.js", f"{node} does not say its version ({type(error).__name__}); {remedy}.")
    if major < OLDEST_NODE:
        return fault("Node.js", f"{said} is too old; {remedy}.")
    return fine("Node.js", said.lstrip("v"))


def check_home(home: Path) -> Finding:
    """Check that Mephisto can keep its configuration; it does so on import, and fails with a traceback otherwise."""
    folder = home / ".mephisto"
    place = folder if folder.exists() else home
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return fault("Home folder", f"'{place}' can't be written to, where Mephisto keeps its configuration; set HOME.")
    return fine("Home folder", f"{place} can be written to")


def check_place() -> list[Finding]:
    """Check that Python finds this folder as the package model_chat, whatever lies beside run.py; nothing if it does."""
    beside = [path for path in (ROOT / "model_chat", ROOT / "model_chat.py") if path.exists()]
    searched = [entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, ROOT / "scripts")]
    found = PathFinder.find_spec("model_chat", searched)
    if beside and (found is None or found.origin is None):
        return [fault("The package", f"'{beside[0]}' is found in its place; {SET_UP} once more, or rename that.")]
    return []


def check_packages(lock: Path = LOCK) -> Finding:
    """Compare the installed Python packages with the lock's group ``run``."""
    if importlib.util.find_spec("model_chat") is None:
        return fault("Python packages", f"not installed for {sys.executable}; {SET_UP}.")
    if not lock.is_file():
        return warning("Python packages", "there is no requirements.lock here to compare with.")
    group = lock.read_text(encoding="utf-8").split("# --- group: run ---")[-1].split("# --- group:")[0]
    missing, other = [], []
    for line in group.splitlines():
        name, _, wanted = line.split("#")[0].strip().partition("==")
        if not name:
            continue
        try:
            installed = version(name).split("+")[0]  # "+cpu" is torch's build, not its version
        except PackageNotFoundError:
            missing.append(name)
            continue
        if installed != wanted:
            other.append(f"{name} {installed} instead of {wanted}")
    if missing:
        return fault("Python packages", f"missing: {', '.join(missing)}; {SET_UP}.")
    if other:
        return warning("Python packages", f"not as locked: {', '.join(other)}; {SET_UP} to have them so.")
    return fine("Python packages", "as locked")


def check_page(dist: Path = ROOT / "frontend" / "dist") -> Finding:
    """Check that the worker's page is built, and whole."""
    index = dist / "index.html"
    if not index.is_file():
        return fault("The worker's page", f"is not built; {SET_UP}.")
    html = index.read_text(encoding="utf-8")
    lost = [part for part in html.split('"') if part.startswith("./") and not (dist / part).is_file()]
    if lost:
        return fault("The worker's page", f"lacks {', '.join(lost)}; remove {dist} and {SET_UP}.")
    return fine("The worker's page", "built")


def check_router(folder: Path = ROOT / "router") -> Finding:
    """Check that the router's packages are installed."""
    wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    missing = [name for name in wanted if not (folder / "node_modules" / name / "package.json").is_file()]
    if missing:
        return fault("The router's packages", f"missing: {', '.join(missing)}; {SET_UP}.")
    return fine("The router's packages", "installed")


# --- the command ---


def examine(arguments: list[str], load_models: bool, say: Callable[[Finding], None]) -> bool:
    """Make every check that can be made.

    Returns:
        whether a run would start.
    """
    sound = True

    def note(*findings: Finding) -> None:
        nonlocal sound
        for finding in findings:
            sound = sound and finding.mark != Mark.FAULT
            say(finding)

    needed = [check_python(), check_packages(), *check_place(), check_home(Path.home())]
    note(*needed, check_node(), check_page(), check_router())
    if any(finding.mark == Mark.FAULT for finding in needed):
        return False  # nothing further can be imported
    from rich.console import Console

    from model_chat.errors import ConfigurationError
    from model_chat.launch.checks import check_task
    from model_chat.launch.command_line import CannotComposeError, compose_config
    from model_chat.launch.logs import set_up_logging
    from model_chat.scripts import _doctor_task as task_checks

    set_up_logging("warning", Console(stderr=True))

    try:
        cfg = compose_config("example", arguments)
    except CannotComposeError as error:
        note(*(fault("Configuration", text) for text in error.with_faults_of(check_task).faults))
        return False
    except ConfigurationError as error:
        note(*(fault("Configuration", text) for text in error.faults))
        return False
    port, data = task_checks.check_port(cfg), task_checks.check_mephisto_data(cfg)
    note(port, *task_checks.check_public_address(cfg), task_checks.check_disk(cfg), *data)
    task, findings = task_checks.check_task_configuration(cfg)
    # The launch's own checks find the port, the data folder, the page and the router again.
    said = (
        port.text,
        data[0].text,
        "The worker's page is not built",
        "mephisto.architect: there is no 'node'",
        "mephisto.architect: the router's packages",
    )
    note(*(finding for finding in findings if not finding.text.startswith(said)))
    if task is not None:
        note(*task_checks.check_panel(cfg, task))
        note(*task_checks.check_models(task, cfg.mephisto.blueprint.task_model_parallel, load_models))
    return sound


def main() -> int:
    """Run the command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):  # as in compat/terminal.py, which may not be there yet
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a stream of Python's own
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split(":")[0] + ".", epilog="Flags are those of run.py: see python run.py --help."
    )
    parser.add_argument("--load-models", action="store_true", help="load every model and let it answer once")
    args, flags = parser.parse_known_args()
    if VENV_PYTHON.exists() and Path(sys.prefix).resolve() != VENV_PYTHON.parent.parent.resolve():
        # What is to be checked is the Python that 'make run' takes.
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), __file__, *sys.argv[1:]])
    sound = examine(flags, args.load_models, lambda finding: print(finding, flush=True))
    print("\nA run would start." if sound else "\nPut right what is marked ✗, and run this again.")
    sys.stdout.flush()
    return 0 if sound else 1


if __name__ == "__main__":
    code = main()
    os._exit(code)  # some libraries of models leave threads behind

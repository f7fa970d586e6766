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
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parent.parent
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
LOCK = ROOT / "requirements.lock"
OLDEST_PYTHON, NEWEST_PYTHON, OLDEST_NODE = (3, 11), (3, 13), 20
LEAST_FREE_BYTES = 1_000_000_000
# An installed wheel has no Makefile.
SET_UP = "run 'make setup'" if (ROOT / "Makefile").is_file() else "run 'python -m model_chat.scripts.setup_env'"


class Mark(Enum):
    """How a check ended."""

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


def fine(subject: str, text: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(Mark.FINE, subject, text)


def warning(subject: str, text: str) -> Finding:
    """Return a finding that keeps no run from starting."""
    return Finding(Mark.WARNING, subject, text)


def fault(subject: str, text: str) -> Finding:
    """Return a finding that has to be put right."""
    return Finding(Mark.FAULT, subject, text)


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


# --- the task: with what is installed ---


def check_task_configuration(cfg: DictConfig) -> tuple[Any | None, list[Finding]]:
    """Check the whole configuration as a launch does; return it, checked, or None, and what was found."""
    from model_chat.configuration.text_files import language_remarks
    from model_chat.configuration.worker_texts import ENGLISH
    from model_chat.errors import ConfigurationError
    from model_chat.launch.checks import check_task

    try:
        task = check_task(cfg)
    except ConfigurationError as error:
        return None, [fault("Configuration", text) for text in error.faults]
    counts = ", ".join(f"{nickname} {count}" for nickname, count in task.needed.items())
    if task.design is not None:
        design = task.design.design
        counts += f" ({len(design.cells)} cells of the design, {design.conversations_per_cell} each)"
    found = [fine("Configuration", f"in order; conversations to collect: {counts or 'by image'}")]
    if task.logs is not None:
        number, annotators = len(task.logs.conversations), task.logs.annotators
        found.append(fine("Finished conversations", f"{number}, each to be annotated by {annotators} workers"))
    if task.study_flow is not None:
        items = sum(1 for _ in task.study_flow.items())
        pages = ", ".join(page.id for page in task.study_flow.pages)
        found.append(fine("Study flow", f"{len(task.study_flow.pages)} pages ({pages}) with {items} items"))
    if task.texts.language != ENGLISH:
        found.append(fine("Language", f"{task.texts.language}, written {task.texts.direction}"))
    found += [warning("Language", remark) for remark in language_remarks(task.texts)]
    compared = cfg.mephisto.blueprint.comparison
    if compared is not None:
        points, ties = cfg.mephisto.blueprint.comparison_points, cfg.mephisto.blueprint.comparison_ties
        found.append(fine("Comparisons", f"{compared}, on {points} points, further answers: {ties}"))
    return task, found


def check_port(cfg: DictConfig) -> Finding:
    """Check that the page's port is free."""
    from model_chat.router.local_architect import fault_of_port

    if cfg.mephisto.architect._architect_type != "local":
        return fine("Port", f"none is needed here with mephisto/architect={cfg.mephisto.architect._architect_type}")
    port = str(cfg.mephisto.architect.port)
    text = None if port == "0" else fault_of_port(port)
    return fine("Port", "any free one" if port == "0" else f"{port} is free") if text is None else fault("Port", text)


def check_public_address(cfg: DictConfig) -> list[Finding]:
    """Say where workers will find the page behind a reverse proxy; nothing without one, or where its address is faulty."""
    from model_chat.errors import ConfigurationError
    from model_chat.router.public_address import public_address_of

    architect = cfg.mephisto.architect
    if architect._architect_type != "local":
        return []
    try:
        address = public_address_of(architect)
    except ConfigurationError:
        return []  # a fault of the configuration
    if address is None:
        return []
    to = f"{architect.bind_address}:{architect.port}"
    return [fine("Public address", f"{address.url}, which the reverse proxy has to pass on to {to}")]


def check_disk(cfg: DictConfig) -> Finding:
    """Check that conversations have room."""
    from model_chat.configuration.files import expand

    given = cfg.mephisto.blueprint.get("chat_data_folder", None)  # None for "???", too
    if not given or not given.strip():
        return warning("Conversations", "no folder is given for them.")  # a fault of the configuration
    folder = expand(given)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK):
        return fault(
            "Conversations", f"'{place}' can't be written to; give another mephisto.blueprint.chat_data_folder."
        )
    free = shutil.disk_usage(place).free
    text = f"{folder} has {free / 1e9:.1f} GB left"
    return fine("Conversations", text) if free >= LEAST_FREE_BYTES else warning("Conversations", f"{text}; make room.")


def check_mephisto_data(cfg: DictConfig) -> list[Finding]:
    """Check Mephisto's configuration, data folder and database, without making or changing any of them."""
    from model_chat.configuration.mephisto_data import DATABASE, data_folder_fault, find_data_folder

    subject = "Mephisto's data folder"
    problem = data_folder_fault(cfg)
    if problem is not None:
        return [fault(subject, problem)]
    folder, source, _ = find_data_folder(cfg)
    if not folder.exists():
        return [fine(subject, f"{folder} ({source}) will be made by the first run")]
    return [fine(subject, f"{folder} ({source})"), *_check_database(folder / DATABASE)]


def _check_database(file: Path) -> Iterator[Finding]:
    subject = "Mephisto's database"
    if not file.exists():
        yield fine(subject, "will be made by the first run")
        return
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            runs = connection.execute("SELECT COUNT(*) FROM task_runs").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        yield fault(
            subject, f"{file} can't be read ({error}); restore it from a copy, or set another mephisto.datapath."
        )
        return
    if said == "ok":
        yield fine(subject, f"in order, {runs} task run{'' if runs == 1 else 's'}")
    else:
        yield fault(subject, f"{file} is damaged ({said}); restore it from a copy, or set another mephisto.datapath.")


def check_panel(cfg: DictConfig, task: Any) -> Iterator[Finding]:
    """Say what a study costs on its panel; Prolific is asked where the configuration has a token."""
    from model_chat.configuration.mephisto_data import DATABASE, find_data_folder
    from model_chat.crowd.money import to_minor
    from model_chat.crowd.panel_launch import cost_sentences
    from model_chat.crowd.panel_pay import PANELS, PanelPay
    from model_chat.errors import ConfigurationError
    from model_chat.scripts._manage_study import places_left

    provider = cfg.mephisto.provider
    if provider._provider_type not in PANELS:
        return
    pay = PanelPay.of(provider._provider_type, provider)
    try:
        places = places_left(cfg, task.chat_data_folder, find_data_folder(cfg).path / DATABASE, task.task_name)
        sentences = cost_sentences(pay, to_minor(cfg.mephisto.task.task_reward, pay.currency), places)
    except ConfigurationError as error:
        yield from (fault("Panel", text) for text in error.faults)
        return
    for sentence in sentences:
        is_warning = sentence.startswith("! ")
        yield warning("Panel", sentence.removeprefix("! ")) if is_warning else fine("Panel", sentence)


def check_models(task: Any, model_parallel: bool, load: bool) -> Iterator[Finding]:
    """Check that the agents of all models can be imported and their files be read; with ``load``, load each and ask it."""
    models: list[Any] = []  # all are kept, as in a run, so that those of the same weights share them
    for nickname, source in task.sources.items():
        subject = f"Model {nickname}"
        if source.is_endpoint:
            yield _probe_model(subject, source, model_parallel)
            continue
        try:
            yield _try_model(subject, source, model_parallel, models) if load else _look_at_model(subject, source)
        except (Exception, SystemExit) as error:  # a model's own code may raise anything
            reason = " ".join(str(error).split())[:500] or "no reason given"
            yield fault(subject, f"{type(error).__name__}: {reason}")
    if models:
        from model_chat.serving.backend import shared_sentence, sharing

        for nicknames in sharing(models):
            yield fine("Weights", shared_sentence(nicknames).rstrip("."))


def _probe_model(subject: str, source: Any, model_parallel: bool) -> Finding:
    """Ask a model behind an endpoint for a first reply, which costs a few tokens."""
    import time

    from model_chat.errors import ConfigurationError
    from model_chat.serving.loading import load_model

    start = time.monotonic()
    try:
        load_model(source, model_parallel).probe()
    except ConfigurationError as error:
        return fault(subject, " ".join(error.faults))
    return fine(subject, f"its endpoint answers, after {time.monotonic() - start:.1f} s")


def _look_at_model(subject: str, source: Any) -> Finding:
    from parlai.core.loader import load_agent_module
    from parlai.core.params import ParlaiParser

    if source.folder is None:
        import shlex

        opt = ParlaiParser(add_parlai_args=True, add_model_args=True).parse_args(shlex.split(source.flags))
        name, model_file = opt.get("model"), opt.get("model_file")
    else:
        opt = json.loads((source.folder / "model.opt").read_text(encoding="utf-8"))
        name, model_file = opt["model"], source.model_file
    agent = load_agent_module(name) if name else None
    if model_file and Path(model_file).is_file():
        size = Path(model_file).stat().st_size
        if size == 0:
            return fault(subject, f"{model_file} is empty; copy the model again.")
        with Path(model_file).open("rb") as stream:
            if stream.read(8) == b"version ":
                return fault(subject, f"{model_file} is a Git LFS pointer and no model; fetch the file itself.")
        return fine(subject, f"{_name(agent)}, {size / 1e6:,.0f} MB")
    return fine(subject, f"{_name(agent)}, no file 'model' (its agent finds its own); --load-models tries it out")


def _name(agent: Any) -> str:
    return "agent" if agent is None else agent.__name__


def _try_model(subject: str, source: Any, model_parallel: bool, models: list[Any]) -> Finding:
    """Load a model, add it to ``models``, and ask it."""
    import time

    from parlai.core.message import Message

    from model_chat.serving.loading import load_model

    start = time.monotonic()
    model = load_model(source, model_parallel)
    models.append(model)
    loaded = time.monotonic()
    clone = model.clone()
    clone.observe(Message({"id": "Speaker 1", "text": "Hi!", "episode_done": False}))
    reply = " ".join(str(clone.act()["text"]).split())
    took = time.monotonic() - loaded
    return fine(subject, f"loaded in {loaded - start:.1f} s; answers 'Hi!' with '{reply:.80}' after {took:.1f} s")


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
            sound = sound and finding.mark is not Mark.FAULT
            say(finding)

    needed = [check_python(), check_packages(), *check_place(), check_home(Path.home())]
    note(*needed, check_node(), check_page(), check_router())
    if any(finding.mark is Mark.FAULT for finding in needed):
        return False  # nothing further can be imported
    from rich.console import Console

    from model_chat.errors import ConfigurationError
    from model_chat.launch.checks import check_task
    from model_chat.launch.command_line import CannotComposeError, compose_config
    from model_chat.launch.logs import set_up_logging

    set_up_logging("warning", Console(stderr=True))

    try:
        cfg = compose_config("example", arguments)
    except CannotComposeError as error:
        note(*(fault("Configuration", text) for text in error.with_faults_of(check_task).faults))
        return False
    except ConfigurationError as error:
        note(*(fault("Configuration", text) for text in error.faults))
        return False
    port, data = check_port(cfg), check_mephisto_data(cfg)
    note(port, *check_public_address(cfg), check_disk(cfg), *data)
    task, findings = check_task_configuration(cfg)
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
        note(*check_panel(cfg, task))
        note(*check_models(task, cfg.mephisto.blueprint.task_model_parallel, load_models))
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

"""A copy of the repository, set up, in which a page's commands are typed as they stand there.

A shell runs the very line. What differs from a stranger's machine: a home folder of its own, PYTHONPATH in place of the
editable installation, tiny models instead of the demo's, and what :data:`CHANGED_LINES` and :data:`CHANGED_FILES` say.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from model_chat.agents.hugging_face import HuggingFaceChatAgent
from model_chat.scripts.make_demo_models import install, make_blender_tiny
from model_chat.tests import preloaded
from model_chat.tests.docs.pages import ROOT, commands_of
from model_chat.tests.ports import own_port

SECONDS = 300.0
"""For a command to end, or to say that it is up, on a machine that does much else."""
STOPPED = 130
"""The exit code of a run that Ctrl-C has ended."""
OF_THE_TESTS = ("MODEL_CHAT_", "PYTEST_", "MAKE", "MFLAGS")
"""How variables begin that belong to whoever runs the tests: 'make test' says more within another make."""

RUN = r"^(\S*/)?python (-m model_chat\.run(?=.)|run(_image_chat)?\.py)( (?!--help|-c job)|$)"
CHANGED_LINES = (
    ("the port is a free one", RUN, "mephisto.architect.port={port}"),
    ("the port is a free one", r"preview\.py", "--port {port}"),
    ("the port is a free one", r"npm run dev", "-- --port {port}"),
    ("the port is a free one", r"scripts/dashboard\.py", "--port {port}"),
    ("another port than that of the next test", r"dashboard_port=9200", "mephisto.blueprint.dashboard_port=0"),
    (
        "the port is a free one",
        r"^make (PYTHON=\S+ )?(run|image|doctor)\b",
        "ARGS='{args} mephisto.architect.port={port}'",
    ),
    ("where a task was started before", r"simulate_workers\.py", "--port {port}"),
    ("named only", r"benchmarks/(many_workers|dashboards|streaming|reply_time)\.py", "--help"),
    ("of a size for a test", r"benchmarks/endpoints\.py", "--conversations 2 --replies 1 --seconds 0.1 --rounds 1"),
    ("of a size for a test", r"benchmarks/capacity\.py", "--workers 2 --turns 2 --model-seconds 0.1 --think-time 0.1"),
    ("of a size for a test", r"benchmarks/batching\.py", "--rounds 1 --conversations 1"),
    ("of a size for a test", r"benchmarks/shared_weights\.py", "--conversations 2 --rounds 1 --tokens 2"),
    ("of a size for a test", r"benchmarks/compile_results\.py", "--conversations 20 --runs 1 --sources files"),
    ("of a size for a test", r"benchmarks/image_stack\.py", "--images 100"),
    ("one model instead of two", r"make_image_demo\.py", "--only demo/shapes_b"),
    ("one model instead of two", r"image_demo_accuracy\.py", "--models demo/shapes_b"),
    ("one screen instead of forty", r"dev/look\.py", "--only midway"),
    ("named only", r"^python -m model_chat\.(run(_image_chat)?|analysis\.compile_results)$", "--help"),
)
"""Why, which lines, and what is added at their end; the last of two values counts.

Of the benchmarks that are named only, which start several tasks or several Pythons each, imports and flags are tested;
benchmarks/capacity.py, which simulates workers with the same code, is run.
"""

CHANGED_FILES = (
    ("trained for a test", "scripts/make_image_demo.py", r"Effort\([\d_, ]+\)", "Effort(64, 1, 3)"),
    ("trained for a test", "scripts/make_image_demo.py", r'"shapes_pictures": [\d_]+', '"shapes_pictures": 20'),
    ("of a size for a test", "benchmarks/image_demo_accuracy.py", r"PICTURES = \d+", "PICTURES = 4"),
    ("of a size for a test", "benchmarks/_shaped_model.py", r"WORDS = [\d_]+", "WORDS = 500"),
    ("of a size for a test", "benchmarks/_shaped_model.py", r'"n_layers": \d+', '"n_layers": 1'),
    (
        "which need not import torch again",
        "benchmarks/shared_weights.py",
        r'get_context\("spawn"\)',
        'get_context("fork")',
    ),
)
"""Why, which file of the copy, a pattern, and what is there instead: where a line has no flag for it."""


@dataclass
class Running:
    """A command that was started; what it says is in a file."""

    line: str
    log_file: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def said(self) -> str:
        """Everything that it has printed so far, errors included."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def hears(self, pattern: str) -> str:
        """Wait until it has said something; return what matched, or the pattern's group."""
        end = time.monotonic() + SECONDS
        while True:
            over = self.process.poll() is not None
            said = self.said
            found = re.search(pattern, said if over else said[: said.rfind("\n") + 1])  # whole lines
            if found:
                return found[found.re.groups]
            assert not over, f"{self.line}\nended before it said {pattern!r}:\n{self.said}"
            assert time.monotonic() < end, f"{self.line}\nhas not said {pattern!r}:\n{self.said}"
            time.sleep(0.05)

    def ends(self, code: int = 0) -> str:
        """Wait until it has ended by itself; return what it said."""
        try:
            ended = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.line}\nhas not ended:\n{self.said}") from None
        assert ended == code, f"{self.line}\nended with {ended}, not {code}:\n{self.said}"
        return self.said

    def stop(self, code: int = STOPPED) -> str:
        """Press Ctrl-C: all that the line has started gets the signal, as from a terminal."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.ends(code)


class Walk:
    """One page, walked through from top to bottom in a copy of the repository.

    Args:
        page: its name, from the repository's root.
        folder: fresh; the copy, its home folder and the commands' output go there.

    Attributes:
        copy: the copy of the repository, in which the commands are typed unless a test says where.
        home: the home folder.
        port: where the line that was typed last serves something.
        environment: of the commands.
    """

    def __init__(self, page: str, folder: Path) -> None:
        self.page = page
        self.copy = folder / "model_chat"
        self.home = folder / "home"
        self.port = own_port()
        self._logs = folder / "logs"
        self._lines = [command.line for command in commands_of(ROOT / page)]
        self._at = 0
        _copy_repository(self.copy)
        for _, name, pattern, replacement in CHANGED_FILES:
            file = self.copy / name
            text, times = re.subn(pattern, replacement, file.read_text(encoding="utf-8"))
            assert times, f"{name} has no {pattern!r}"
            file.write_text(text, encoding="utf-8")
        # What 'make models' leaves there; a test that wants more of its models than an answer has others.
        self.has_model("demo/smollm2", {"model": "fixed_response", "fixed_response": "That is what I think, too."})
        for new in (self.home, self._logs):
            new.mkdir()
        opener = folder / "browser"
        opener.write_text(f'#!/bin/sh\necho "$1" >> {shlex.quote(str(self.home))}/opened\n', encoding="utf-8")
        opener.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_TESTS)}
        self.environment = kept | {
            "HOME": str(self.home),
            "PATH": f"{self.copy}/.venv/bin:{os.environ['PATH']}",  # as after 'source .venv/bin/activate'
            "PYTHONPATH": str(folder),  # the copy is a package by its name
            "PYTHONWARNINGS": "ignore",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",  # which would ask the network
            "BROWSER": str(opener),
            "COLUMNS": "200",
        }

    def has_model(self, nickname: str, opt: Mapping[str, object], made: Path | None = None) -> None:
        """Put a model into the copy's folder of models, as make_demo_models.py does.

        Args:
            nickname: its folder.
            opt: its options.
            made: a folder with its other files.
        """
        folder = self.copy / "models" / nickname
        folder.mkdir(parents=True, exist_ok=True)
        install(made or folder, sorted(path.name for path in made.iterdir()) if made else [], folder, opt)

    def has_chat_model(self, nickname: str, made: Path) -> None:
        """Put a model of Hugging Face's ``transformers`` there.

        Args:
            nickname: its folder.
            made: a folder with its files.
        """
        agent = f"{HuggingFaceChatAgent.__module__}:{HuggingFaceChatAgent.__name__}"
        self.has_model(nickname, {"model": agent, "hf_model": ".", "dict_lower": False}, made)

    def has_fixed_models(self, folder: Path) -> None:
        """Let each model of a study that new_study.py has made always say the same: the README's walk has it chat."""
        files = list(folder.glob("*/model.opt"))
        assert files
        for file in files:
            file.write_text('{"model": "fixed_response", "fixed_response": "I see."}', encoding="utf-8")

    def has_parlai_model(self, nickname: str) -> None:
        """Put ParlAI's own model of the demo there, hardly trained."""
        (self.copy / "models" / nickname).mkdir(parents=True)
        make_blender_tiny(self.copy / "models" / nickname, steps=1)

    def line(self, start: str, **placeholders: str) -> str:
        """The page's next line that begins so, with what a test adds and with its placeholders filled in."""
        self._at = find(self.page, self._lines, start, self._at)
        line = self._lines[self._at]
        for name, value in placeholders.items():
            assert name in line
            line = line.replace(name, value)
        args = re.search(r'ARGS="([^"]*)"', line)
        for why, pattern, added in CHANGED_LINES:
            if re.search(pattern, line):
                if why == "the port is a free one":
                    self.port = own_port()
                line += " " + added.format(port=self.port, args=args[1] if args else "")
        if line.startswith("make "):
            self._is_set_up()
        return line

    def _is_set_up(self) -> None:
        """Make sure that 'make setup' has nothing to do: the packages that the copy links to are this repository's own."""
        description = importlib.util.spec_from_file_location("setup_of_copy", self.copy / "scripts/setup_env.py")
        assert description is not None and description.loader is not None
        setup = importlib.util.module_from_spec(description)
        description.loader.exec_module(setup)

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("this repository is not set up, or is set up for other packages: make setup-dev")

        setup.run = setup.install = refuse
        for step in (lambda: setup.make_venv(setup.RUN_GROUPS, "auto"), setup.make_router, setup.make_page):
            step()

    @contextmanager
    def runs(self, start: str, cwd: Path | None = None, **placeholders: str) -> Iterator[Running]:
        """Type the line that begins so; whatever it has started is gone afterwards."""
        with self.types(self.line(start, **placeholders), cwd) as running:
            yield running

    def _has_python_of_the_tests(self) -> bool:
        """Whether ``python`` is the one that runs the tests, and not that of an environment of the walk's own."""
        found = shutil.which("python", path=self.environment["PATH"])
        return found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()

    @contextmanager
    def types(self, line: str, cwd: Path | None = None) -> Iterator[Running]:
        """Type a line, wherever it comes from."""
        log_file = self._logs / f"{len(list(self._logs.iterdir()))}.log"
        words = _words_of(line)
        with log_file.open("wb") as log:
            start = {
                "cwd": cwd or self.copy,
                "env": self.environment,
                "stdin": subprocess.DEVNULL,
                "stdout": log,
                "stderr": subprocess.STDOUT,
                "start_new_session": True,
            }
            process = (
                preloaded.Popen([sys.executable, *words], **start)
                if words and self._has_python_of_the_tests()
                else subprocess.Popen(["bash", "-c", line], preexec_fn=_hear_ctrl_c, **start)
            )
        try:
            yield Running(line, log_file, process)
        finally:
            with contextlib.suppress(ProcessLookupError):  # usually there is nobody left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, start: str, code: int = 0, cwd: Path | None = None, **placeholders: str) -> str:
        """Type the line that begins so, and wait for its end; return what it said."""
        with self.runs(start, cwd, **placeholders) as running:
            return running.ends(code)

    def opens(self, start: str, code: int = STOPPED, cwd: Path | None = None, **placeholders: str) -> str:
        """Start a run, look whether its page is served, and stop it; return what it said."""
        with self.runs(start, cwd, **placeholders) as running:
            running.hears("The task is up")
            assert '<div id="root">' in fetch(f"http://localhost:{self.port}/")
            return running.stop(code)


def walks(page: str) -> pytest.MarkDecorator:
    """The page that a test walks through."""
    return pytest.mark.parametrize("walk", [page], indirect=True)


def _words_of(line: str) -> list[str]:
    """What a shell gives to ``python``, where a line is one such command and nothing else; else nothing.

    Of ``make doctor``, the README's line without arguments of its own is left to make.
    """
    line = re.sub(r"^make doctor ARGS=\"[^\"]*\" ARGS='([^']*)'$", r"python scripts/doctor.py \1", line)
    line = re.sub(r"^(\.\./)?\.venv/bin/python (?!-)", "python ", line)
    if not line.startswith("python ") or re.search(r"[|&;<>()`$\n]", re.sub(r"'[^']*'", "", line)):
        return []
    shell = subprocess.run(
        ["bash", "-c", f"python() {{ printf '%s\\0' \"$@\"; }}; {line}"], capture_output=True, check=True
    )
    return shell.stdout.decode().split("\0")[:-1]


def find(page: str, lines: Sequence[str], start: str, at: int) -> int:
    """Where the next of a page's lines is that is so, or else that begins so, from ``at`` on."""
    for fits in (str.__eq__, str.startswith):
        for number in range(at, len(lines)):
            if fits(lines[number], start):
                return number
    above = any(line.startswith(start) for line in lines)
    raise AssertionError(f"{page}: '{start}…' " + ("stands above what was run before it" if above else "is no command"))


def _hear_ctrl_c() -> None:
    """What a shell starts in the background is born deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def fetch(url: str) -> str:
    """What is served at an address."""
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return str(answer.read().decode())


def _copy_repository(copy: Path) -> None:
    """What git would clone (and what is new here), with what 'make setup' makes."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listing.split("\0")):
        source, target = ROOT / name, copy / name
        if not source.is_file() or name.startswith(("tests/", "docs/images/")):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        for compiled in (source.parent / "__pycache__").glob(f"{source.stem}.{sys.implementation.cache_tag}.pyc"):
            (target.parent / "__pycache__").mkdir(exist_ok=True)
            shutil.copy2(compiled, target.parent / "__pycache__")
    (copy / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    for name in ("router/node_modules", "frontend/node_modules"):
        (copy / name).symlink_to(ROOT / name, target_is_directory=True)
    shutil.copytree(ROOT / "frontend/dist", copy / "frontend/dist")

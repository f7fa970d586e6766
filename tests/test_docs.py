"""Commands, links and files that README.md and docs/ name are there, and the commands' arguments are taken.

A command is checked by the program's own parser, and flags of a run by Hydra's real composition; :data:`RUN_BY` says which
tests run each program for real. A block that can't be tried here is preceded by a comment that begins with ``needs``.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from model_chat.analysis.compile_results import ModelChatResultsCompiler
from model_chat.configuration import hydra as hydra_module
from model_chat.configuration.command_line import Wish, compose_config, known_flags, read_arguments
from model_chat.scripts.manage_workers import SUBCOMMANDS
from model_chat.scripts.new_study import lay_out

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "frontend/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
PROGRAMS = r"(?:\S*/)?python(?:3(?:\.11)?)?"
NEEDS = re.compile(r"<!-- (needs [a-z' ]+) -->\s*$")
RUN_BY = {
    "run.py": "tests/e2e/running_task.py",
    "run_image_chat.py": "tests/e2e/running_image_task.py",
    "analysis/compile_results.py": "tests/analysis/test_command.py",
    "scripts/doctor.py": "tests/scripts/test_doctor.py",
    "scripts/make_demo_models.py": "tests/scripts/test_make_demo_models.py",
    "scripts/make_image_demo.py": "tests/scripts/test_make_image_demo.py",
    "scripts/manage_workers.py": "tests/crowd/test_manage_workers.py",
    "scripts/mephisto_cli.py": "tests/crowd/test_going_live.py",
    "scripts/new_study.py": "tests/scripts/test_new_study.py",
    "scripts/preview.py": "tests/e2e/test_preview.py",
    "scripts/save_image_contexts.py": "tests/scripts/test_save_image_contexts.py",
    "scripts/setup_env.py": "tests/scripts/test_setup_env.py",
    "scripts/simulate_workers.py": "tests/scripts/test_simulate_workers.py",
    "scripts/write_reference.py": "tests/configuration/test_reference.py",
    "benchmarks": "Makefile",
}
"""Program -> the file whose tests (or, for benchmarks, whose target ``bench``) run it."""


@dataclass(frozen=True)
class Command:
    """One command on a page."""

    page: str
    words: tuple[str, ...]
    needs: str | None = None

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Shell blocks, fenced by ```bash, each with the line before it."""
    inside, lines, before = None, list[str](), ""
    for line in text.splitlines():
        fence = line.strip().startswith("```")
        if inside is None and fence:
            inside, lines = line.strip().removeprefix("```"), []
        elif inside is not None and fence:
            if inside == "bash":
                yield before, "\n".join(lines)
            inside = None
        elif inside is not None:
            lines.append(line)
        elif line.strip():
            before = line


def inline(text: str) -> Iterator[str]:
    """Commands within a sentence, unless they have a placeholder."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    for found in re.findall(r"`((?:python|make|pip|npm) [^`]+)`", text):
        if not re.search(r"…|\b(?:NAME|FILE|FOLDER|COMMAND)\b", found):
            yield " ".join(found.split())


def commands() -> list[Command]:
    """Every command of every page."""
    found = []
    for page in PAGES:
        for line in inline(page.read_text(encoding="utf-8")):
            account = "needs an account" if "mephisto_cli.py" in line else None
            found.append(Command(page.relative_to(ROOT).as_posix(), tuple(shlex.split(line)), account))
        for before, block in blocks(page.read_text(encoding="utf-8")):
            marked = NEEDS.search(before)
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                try:
                    words = shlex.split(line, comments=True)
                except ValueError as error:
                    raise AssertionError(f"{page.name}: {line}: {error}") from None
                while words:  # && joins commands
                    end = words.index("&&") if "&&" in words else len(words)
                    found.append(Command(page.relative_to(ROOT).as_posix(), tuple(words[:end]), marked and marked[1]))
                    words = words[end + 1 :]
    return found


COMMANDS = commands()


class ParsedError(Exception):
    """Raised in place of what a program does once its arguments have been taken."""


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the study of the README, as ``conf=my_study``."""
    folder = tmp_path_factory.mktemp("place")
    lay_out("my_study", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydra_module, "work_dir", lambda: folder)
        yield folder
    check_flags.cache_clear()


@cache
def check_flags(*arguments: str) -> None:
    """Let Hydra compose what run.py is given."""
    wish, left = read_arguments(arguments)
    if wish is Wish.RUN:
        compose_config("example", left)


def parse(module: str, arguments: list[str]) -> None:
    """Let a program take its arguments, and stop it there; what it leaves over goes to Hydra."""
    depth = 0

    def stopping(original: Any) -> Any:
        def taking(*given: Any, **more: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                taken = original(*given, **more)
            finally:
                depth -= 1
            if depth == 0:  # one of both calls the other, and parsers of subcommands call it again
                raise ParsedError(taken)
            return taken

        return taking

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ParsedError) as parsed:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # they import each other as scripts do
        program: Any = importlib.import_module(module)
        for name in ("parse_args", "parse_known_args"):
            patch.setattr(argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))
        patch.setattr(sys, "argv", [module, *arguments])
        program.main()
    if isinstance(parsed.value.args[0], tuple):
        check_flags(*parsed.value.args[0][1])


def python_command(words: list[str]) -> None:
    """Check ``python …``."""
    if words[0] == "-m":
        module, arguments = words[1], words[2:]
        if module == "pytest":
            check_pytest(arguments)
            return
        if module in ("pip", "venv"):
            return
        assert module.startswith("model_chat."), module
        script = module.removeprefix("model_chat.").replace(".", "/") + ".py"
    else:
        script, arguments = words[0].removeprefix("./"), words[1:]
        module = "model_chat." + script.removesuffix(".py").replace("/", ".")
    assert (ROOT / script).is_file(), script
    runner = RUN_BY["benchmarks" if script.startswith("benchmarks/") else script]
    assert (ROOT / runner).is_file()
    if script in ("run.py", "run_image_chat.py"):
        check_flags(*(["conf=example_image_chat"] if "image" in script else []), *arguments)
    elif script == "scripts/save_image_contexts.py" or script == "scripts/manage_workers.py":
        importlib.import_module(module).make_parser().parse_args(arguments)
    elif arguments or script != "analysis/compile_results.py":  # which is named, too, without what it asks for
        parse(module, arguments)


def check_pytest(arguments: list[str]) -> None:
    """Paths exist, and marks are declared."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for number, word in enumerate(arguments):
        if number and arguments[number - 1] == "-m":
            marks = set(re.findall(r"\w+", word)) - {"not", "and", "or"}
            assert [mark for mark in marks if f'"{mark}: ' not in settings] == []
        elif not word.startswith("-"):
            assert (ROOT / word).exists(), word


def can_be_checked(command: Command) -> bool:
    """Whether the arguments can be tried here; of what needs an account, they can where the program is ours."""
    ours = any(word in RUN_BY for word in command.words) and "scripts/mephisto_cli.py" not in command.words
    return command.needs is None or ours


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


@pytest.mark.parametrize("command", [command for command in COMMANDS if can_be_checked(command)], ids=str)
def test_a_command_on_a_page_is_one_that_works(command: Command) -> None:
    first, *rest = command.words
    if re.fullmatch(PROGRAMS, first):
        python_command(rest)
    elif first == "make":
        assignments = dict(word.split("=", 1) for word in rest if "=" in word)
        assert {word for word in rest if "=" not in word} <= make_targets()
        check_flags(*(word for word in assignments.get("ARGS", "").split() if word != "--load-models"))
    elif first in ("npm", "node"):
        scripts = json.loads((ROOT / "frontend/package.json").read_text(encoding="utf-8"))["scripts"]
        assert rest[0] in ("ci", "test") or rest[1] in scripts
    elif first == "pip":
        extras = re.findall(r"model-chat\[(\w+)\]", " ".join(rest))
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        assert [extra for extra in extras if f'"{extra}": [' not in setup] == []
    elif first in ("cp", "cd"):
        assert (ROOT / rest[0]).exists() or rest[0].startswith("~"), rest[0]
    else:
        assert first in ("source", "mkdir"), f"what is {first}? Mark what can't be tried here: <!-- needs … -->"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_blocks_that_are_checked(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    checked = "\n".join(block for _, block in blocks(text))
    starts = re.findall(r"^ *(?:python|make|pip|\.venv/bin/python) .*$", text, flags=re.MULTILINE)
    assert [line for line in starts if line not in checked] == []


def test_there_are_commands_to_check_and_few_that_cannot_be() -> None:
    assert len(COMMANDS) > 60
    assert {command.needs for command in COMMANDS} <= {
        None,
        "needs an account",
        "needs docker",
        "needs the network",
        "needs a cluster",
    }
    assert sum(command.needs is not None for command in COMMANDS) < 20


def test_the_tests_that_run_each_program_name_it() -> None:
    for program, runner in RUN_BY.items():
        text = (ROOT / runner).read_text(encoding="utf-8")
        stem = Path(program).stem
        assert stem in text, f"{runner} does not run {program}"


# --- links and files ---


def slug(heading: str) -> str:
    """GitHub's anchor of a heading."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^( *)```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_ours_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    rooms = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = set(re.findall(rf"`((?:{rooms})/[\w./-]*\w)`", text)) - {"models/demo/smollm2"}
    made = ("data/", "models/", "frontend/dist", "build/")  # by a run, or by make
    unknown = {name for name in named if not (ROOT / name).exists() and not name.startswith(made)}
    own = {"conf/NAME.yaml", "conf/my_study.yaml", "scripts/NAME"}
    assert unknown - own == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_that_a_page_names_exist(page: Path) -> None:
    flag = r"\bmephisto\.(?:blueprint|task|architect|provider)\.[a-z_]+\b(?!\.\w)|\bmturk\.[a-z_]+_[a-z_]+"
    named = set(re.findall(flag, page.read_text(encoding="utf-8")))
    assert named - set(known_flags()) == set()


def test_the_page_on_the_analysis_names_every_flag_and_no_other() -> None:
    parser = ModelChatResultsCompiler.setup_args()
    flags = {flag for flag in parser._option_string_actions if flag.startswith("--")} - {"--help"}
    named = set(re.findall(r"`[^`\n]*?(--[a-z][a-z-]*)", (ROOT / "docs/analysis.md").read_text(encoding="utf-8")))
    assert flags - named == set()
    assert named - flags == set()


def test_the_page_on_quality_control_names_every_command_for_workers() -> None:
    text = (ROOT / "docs/quality-control.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", text.partition("| command | what it does |")[2], flags=re.MULTILINE)
    named = {name for cell in cells for name in re.findall("`(.*?)`", cell)}
    assert named == set(SUBCOMMANDS)


def test_every_page_can_be_reached_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f"docs/{page.name}" not in text] == []


def test_screenshots_are_small_and_shown() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for picture in (ROOT / "docs/images").iterdir():
        assert picture.stat().st_size < 200_000
        assert f"docs/images/{picture.name}" in text


# --- troubleshooting ---


def texts_of_the_program() -> list[str]:
    """Every string of the program, with … for what differs."""
    found = []
    for file in ROOT.rglob("*.py"):
        if file.relative_to(ROOT).parts[0] in ("tests", ".venv", "build", "frontend", "router", "benchmarks"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[a-z]", "…", node.value))
    return [*found, (ROOT / "frontend/src/texts.ts").read_text(encoding="utf-8")]


def test_what_troubleshooting_quotes_is_what_the_program_says() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)`", page, flags=re.MULTILINE)
    assert len(quoted) > 40
    program = texts_of_the_program()
    for sentence in set(quoted) - {"No module named …"}:
        parts = [part for part in re.split("…", sentence) if len(part.strip()) > 7]
        assert parts, sentence
        for part in parts:
            assert any(part in text for text in program), f"nothing says {part!r} ({sentence})"


def test_the_criterion_of_the_onboarding_page_is_one(tmp_path: Path) -> None:
    from model_chat.configuration.onboarding import OnboardingConfig
    from model_chat.configuration.world_file import load_world
    from model_chat.tests.seats import BUCKETS, ScriptedHuman
    from model_chat.worlds import OnboardingOptions

    page = (ROOT / "docs/onboarding.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"<!-- example: criterion -->\n```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "my_onboarding.py").write_text(example, encoding="utf-8")
    module = load_world("flag", str(tmp_path / "my_onboarding.py"))
    dialogs = [[{"agent_idx": 1, "text": "…", "answers": ["bucket_0"]}]] * 2
    config = OnboardingConfig.model_validate(
        {"min_correct": 2, "max_incorrect": 0, "max_failures_allowed": 0, "dialog": dialogs}
    )
    world = module.make_onboarding_world(OnboardingOptions(config, BUCKETS, 10), ScriptedHuman())
    assert world.check_onboarding_answers([[["bucket_0"]], [["bucket_1"]]])
    assert not world.check_onboarding_answers([[["bucket_1"]], [["bucket_1"]]])

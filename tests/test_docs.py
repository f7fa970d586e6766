"""Links, files and flags that README.md and docs/ name are there, and errors that they quote are said.

Their commands are typed in tests/docs; of those that need what no test has, the arguments are checked here.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest

from model_chat.analysis.compile_results import ModelChatResultsCompiler
from model_chat.configuration.flags import all_flags
from model_chat.exports import settings as export_settings
from model_chat.launch.command_line import compose_config
from model_chat.scripts import manage_workers, save_image_contexts
from model_chat.scripts.manage_workers import SUBCOMMANDS
from model_chat.scripts.new_study import lay_out
from model_chat.tests.docs.pages import COMMANDS, PAGES, ROOT, Command, blocks

# --- commands that can't be run here ---

NOT_OURS = ("mephisto_cli.py", "-c", "-m", "docker", "heroku", "npm", "pip", "ray")


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.needs], ids=str)
def test_the_arguments_of_what_cannot_be_run_here_are_taken(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = itertools.dropwhile(lambda word: re.fullmatch("[A-Z_]+=.*", word), shlex.split(command.line, comments=True))
    program, *arguments = words
    if Path(program).name == "python":
        program, *arguments = arguments
    if program == "run.py":
        lay_out("my_study", tmp_path)
        monkeypatch.setattr("model_chat.configuration.hydra.work_dir", lambda: tmp_path)
        compose_config("example", arguments)
    elif program == "scripts/manage_workers.py":
        manage_workers.make_parser().parse_args(arguments)
    elif program == "scripts/save_image_contexts.py":
        save_image_contexts.make_parser().parse_args(arguments)
    elif program == "analysis/compile_results.py":
        ModelChatResultsCompiler.setup_args().parse_args(arguments)
    elif Path(program).name == "pip":
        extras = re.findall(r"\[(\w+)\]", command.line)
        assert [
            extra for extra in extras if f'"{extra}": [' not in (ROOT / "setup.py").read_text(encoding="utf-8")
        ] == []
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(arguments) <= set(targets)
    else:
        assert Path(program).name in NOT_OURS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_blocks_that_are_read(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    read = "\n".join(block for _, block, _ in blocks(text))
    starts = re.findall(r"^ *(?:python|make|pip|\.venv/bin/python) .*$", text, flags=re.MULTILINE)
    assert [line for line in starts if line not in read] == []


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
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = set(re.findall(rf"`((?:{folders})/[\w./-]*\w)`", text)) - {"models/demo/smollm2"}
    made = ("data/", "models/", "frontend/dist", "build/")  # by a run, or by make
    unknown = {name for name in named if not (ROOT / name).exists() and not name.startswith(made)}
    own = {"conf/NAME.yaml", "conf/my_study.yaml", "scripts/NAME", "deploy/.env", "deploy/secrets.env"}
    assert unknown - own == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_that_a_page_names_exist(page: Path) -> None:
    flag = r"\bmephisto\.(?:blueprint|task|architect|provider)\.[a-z_]+\b(?!\.\w)|\bmturk\.[a-z_]+_[a-z_]+"
    named = set(re.findall(flag, page.read_text(encoding="utf-8")))
    assert named - set(all_flags()) == set()


def test_the_page_on_the_analysis_names_every_flag_and_no_other() -> None:
    parser = ModelChatResultsCompiler.setup_args()
    flags = {flag for flag in parser._option_string_actions if flag.startswith("--")} - {"--help"}
    named = set(re.findall(r"`[^`\n]*?(--[a-z][a-z-]*)", (ROOT / "docs/analysis.md").read_text(encoding="utf-8")))
    assert flags - named == set()
    assert named - flags == set()


def test_the_page_on_exports_names_every_flag_and_no_other() -> None:
    parser = export_settings.add_flags(argparse.ArgumentParser())
    flags = {flag for flag in parser._option_string_actions if flag.startswith("--")} - {"--help"}
    named = set(re.findall(r"`[^`\n]*?(--[a-z][a-z-]*)", (ROOT / "docs/exports.md").read_text(encoding="utf-8")))
    assert flags - named == set()
    assert named - flags == {"--delete", "--help"}


def test_the_page_on_pay_names_every_command_for_workers() -> None:
    text = (ROOT / "docs/paying-workers.md").read_text(encoding="utf-8")
    table = text.partition("| command | what it does |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    named = {name for cell in cells for name in re.findall("`(.*?)`", cell)}
    assert named == set(SUBCOMMANDS)


def test_the_index_has_every_page_once_and_the_readme_leads_to_it() -> None:
    assert "](docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(re.findall(r"\]\(([\w-]+\.md)\)", index)) == sorted(pages)


def test_screenshots_are_small_and_shown() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (ROOT / "docs/images").iterdir():
        assert picture.stat().st_size < 200_000
        assert f"images/{picture.name})" in text


# --- troubleshooting ---


def texts_of_the_program() -> list[str]:
    """Every string of the program, with … for what differs."""
    found = []
    for file in ROOT.rglob("*.py"):
        parts = file.relative_to(ROOT).parts
        if parts[0] in ("tests", "build", "benchmarks") or parts[0].startswith(".") or "node_modules" in parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[a-z]", "…", node.value))
    scripts = [ROOT / "frontend/src/texts/en.json", *(ROOT / "router").glob("*.js")]
    return [*found, *(file.read_text(encoding="utf-8") for file in scripts)]


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
    from model_chat.tests.scripted_human import BUCKETS, ScriptedHuman
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

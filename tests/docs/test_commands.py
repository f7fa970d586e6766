"""Every command of a page is typed by a test of its page, or is run elsewhere, or says what it needs.

What is not typed is marked on its page as needing something that no test has, or stands in :data:`RUN_ELSEWHERE`.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_chat.tests.docs.elsewhere import MAKEFILE, RUN_ELSEWHERE
from model_chat.tests.docs.pages import COMMANDS, NEEDS, ROOT, commands_of
from model_chat.tests.docs.place import find


def sources_of_tests() -> Iterator[ast.FunctionDef]:
    """The tests of this folder, as source."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        yield from (node for node in body if isinstance(node, ast.FunctionDef))


def typed() -> set[str]:
    """The lines that tests type: each gives the beginning of a line."""
    found = set()
    for test in sources_of_tests():
        for mark in test.decorator_list:
            if not (isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "walks"):
                continue
            page = ast.literal_eval(mark.args[0])
            lines, at = [command.line for command in commands_of(ROOT / page)], 0
            calls = [
                node for node in ast.walk(test) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            ]
            for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
                if isinstance(call.func, ast.Attribute) and call.func.attr in ("run", "runs", "opens") and call.args:
                    at = find(page, lines, ast.literal_eval(call.args[0]), at)
                    found.add(lines[at])
    return found


def test_every_command_is_typed_or_run_elsewhere_or_says_what_it_needs() -> None:
    there = {command.line for command in COMMANDS if command.needs is None}
    assert len(there) > 70
    known = typed() | RUN_ELSEWHERE.keys()
    assert sorted(str(command) for command in COMMANDS if command.needs is None and command.line not in known) == []
    assert sorted(RUN_ELSEWHERE.keys() - there) == [], "no page has it any more"
    assert sorted(RUN_ELSEWHERE.keys() & typed()) == []


def test_what_a_command_needs_is_something_that_no_test_has() -> None:
    assert {command.needs for command in COMMANDS} - {None} <= NEEDS
    assert sum(command.needs is not None for command in COMMANDS) < len(COMMANDS) / 3


@functools.cache
def what_make_runs(*targets: str) -> str:
    """The commands of these targets, whatever was given to a make that runs these tests."""
    of_make = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "COVERAGE", "PAGE_IS_TESTED"}
    return subprocess.run(
        ["make", "--dry-run", *targets],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in of_make},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_make_image_runs_what_its_page_types() -> None:
    commands = [" ".join(line.split()) for line in what_make_runs("image").replace("\\\n", "").splitlines()]
    assert [line.partition(".venv/bin/python ")[2] for line in commands if "image" in line] == [
        "scripts/make_demo_models.py --image",
        "scripts/save_image_contexts.py --task model_chat.tasks.shapes --datatype test --num-examples 20",
        "run_image_chat.py || [ $? -eq 130 ]",
    ]


@pytest.mark.parametrize("line", RUN_ELSEWHERE)
def test_what_is_run_elsewhere_is_run_there(line: str) -> None:
    file, there, _ = RUN_ELSEWHERE[line]
    text = (ROOT / file).read_text(encoding="utf-8")
    if file == MAKEFILE:  # in what CI makes, or a test of a page
        of_ci = re.findall(r"^make (.*)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), flags=re.MULTILINE)
        made = {word for line in of_ci for word in line.split() if re.fullmatch(r"[a-z][a-z-]*", word)}
        assert {"test", "lint-python", "lint-page", "test-page"} <= made
        made |= {line.removeprefix("make ") for line in typed() if re.fullmatch(r"make \w+", line)} | {"image"}
        text = what_make_runs(*sorted(made))
    assert there in text


def test_make_test_prints_branch_coverage_unless_told_otherwise_and_repeated_tests_do_not_change_it() -> None:
    measured = what_make_runs("test")
    assert measured.count("--cov ") == 1
    quick, repeated = next(line for line in measured.splitlines() if "--cov " in line).split("||")
    assert "--cov " in quick
    assert "--last-failed" in repeated
    assert re.search(r"--cov .*\n\S*coverage report ", measured)
    assert "cov" not in what_make_runs("COVERAGE=", "test")

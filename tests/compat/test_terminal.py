"""No command ends in a traceback for the encoding of the terminal that it is typed in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.places import ROOT
from model_chat.tests import preloaded

SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("run*.py"), *ROOT.glob("scripts/*.py"), ROOT / "analysis/compile_results.py"]
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
STARTED_BY_WALKS = ("run.py", "run_image_chat.py", "scripts/make_image_demo.py", "analysis/compile_results.py")
"""Commands of an installed package that tests/docs/test_pages_about_running.py starts."""
C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def typed(
    *words: str, cwd: Path = ROOT, start: Any = preloaded.run, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    done: subprocess.CompletedProcess[bytes] = start(
        [sys.executable, *words],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done


def test_there_are_scripts() -> None:
    assert {"run.py", "run_image_chat.py", "scripts/doctor.py", "analysis/compile_results.py"} < set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_can_be_read_on_a_terminal_that_knows_ascii_alone(script: str, tmp_path: Path) -> None:
    if script == "scripts/write_reference.py":
        pytest.skip("takes no arguments: it would write")
    # A new Python for each command, as a user starts it, but where the pages' walks have started one.
    start = preloaded.run if script in STARTED_BY_WALKS else subprocess.run
    done = typed(script, "--help", start=start, PYTHONIOENCODING="ascii", HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"sage: " in done.stdout  # argparse's or click's
    assert done.stdout.isascii()


# All streams are opened in one place, so that each command is tried with one encoding, and one with each.
@pytest.mark.parametrize(
    ("scripts", "environment"),
    [
        (("run.py", "scripts/doctor.py"), {"PYTHONIOENCODING": "ascii"}),
        (("run.py",), {"PYTHONIOENCODING": "cp1252"}),
        (("run.py",), C_LOCALE),
    ],
    ids=["ascii", "cp1252", "C"],
)
def test_faults_can_be_read_on_any_terminal(
    scripts: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> None:
    given = hostile_study(tmp_path)
    for script in scripts:
        done = typed(script, *given, **environment, HOME=str(tmp_path))
        assert done.returncode in (1, 2)
        assert b"Traceback" not in done.stderr
        assert b"nowhere.html" in done.stdout + done.stderr


def test_values_can_be_read_on_any_terminal(tmp_path: Path) -> None:
    done = typed("run.py", "-c", "job", *hostile_study(tmp_path), PYTHONIOENCODING="ascii", HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"task_title" in done.stdout


def hostile_study(tmp_path: Path) -> tuple[str, ...]:
    """Words that choose a study with a title that few terminals can show, and with a fault."""
    (tmp_path / "conf").mkdir()
    text = (ROOT / "conf/example.yaml").read_text(encoding="utf-8")
    text = text.replace('task_title: "Chat with a partner', 'task_title: "你好 ✗ \\ud83d')
    (tmp_path / "conf/mine.yaml").write_text(text, encoding="utf-8")
    return ("--config-dir", str(tmp_path), "conf=mine", "mephisto.blueprint.left_pane_text_path=nowhere.html")


def test_what_a_terminal_has_is_written_as_it_is_and_the_rest_is_not_lost() -> None:
    code = "import model_chat; print('\\u2717 na\\xefve \\u2026 \\u4f60 \\ud83d')"
    for encoding, expected in {
        "ascii": b"x na\\xefve ... \\u4f60 \\ud83d\n",
        "latin-1": b"x na\xefve ... \\u4f60 \\ud83d\n",
        "utf-8": "✗ naïve … 你 \\ud83d\n".encode(),
        "ascii:replace": b"? na?ve ? ? ?\n",
    }.items():
        assert typed("-c", code, PYTHONIOENCODING=encoding).stdout == expected

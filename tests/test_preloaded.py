"""A command that is forked is what a start of Python would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import coverage
import pytest

from model_chat.tests import preloaded

TELLS = """
import os, sys, signal, warnings
import __main__
print(sys.argv, sys.orig_argv, [p for p in sys.path if p], os.getcwd(), __name__, __main__.__dict__.get("__file__"))
print(sorted(os.environ.items()))
print(oct(os.umask(0)), sys.warnoptions, warnings.filters[-5:], sys.dont_write_bytecode, sys.flags.utf8_mode)
print(sys.stdin.read())
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream.name, stream.mode, stream.encoding, stream.errors, stream.line_buffering, stream.write_through)
print(signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGPIPE))
print([name for name in sys.modules if name.split(".")[0] in ("model_chat", "mephisto", "parlai")])
print(sorted(os.listdir("/proc/self/fd"))[:3], "wrong", file=sys.stderr)
"""
ENDS = {
    "end": "print('said')",
    "code": "raise SystemExit(7)",
    "large code": "raise SystemExit(256 + 3)",
    "sentence": "raise SystemExit('a sentence')",
    "error": "print('said'); raise ValueError('wrong')",
    "ctrl-c": "raise KeyboardInterrupt",
    "signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "at exit": "import atexit; atexit.register(print, 'last')",
    "at once": "import os; os._exit(4)",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()",
    "syntax": "this is no code",
}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "programs" / "tells.py"
    path.parent.mkdir()
    path.write_text(TELLS, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["programs/tells.py", "a", "--b"], {}),
        (["-m", "programs.tells", "a"], {"PYTHONWARNINGS": "ignore"}),
        (["-c", TELLS, "a"], {"PYTHONWARNINGS": "error,ignore::UserWarning", "PYTHONPATH": "x:/y", "NEW": "é"}),
        (["programs/tells.py"], {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}),
        (["programs/tells.py"], {"PYTHONIOENCODING": "ascii:replace"}),
        (["programs/tells.py"], {"PYTHONIOENCODING": "latin-1"}),
        (["programs/tells.py"], {"PYTHONUNBUFFERED": "", "PYTHONDONTWRITEBYTECODE": ""}),
    ],
    ids=["script", "module", "code", "set", "encoding and errors", "encoding", "not set"],
)
def test_it_has_what_a_start_gives(words: list[str], more: Mapping[str, str], program: Path, tmp_path: Path) -> None:
    said: list[Any] = []
    for run in (subprocess.run, preloaded.run):
        done = run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**os.environ, **more},
            input="given",
            capture_output=True,
            text=True,
            check=False,
        )
        said.append((done.returncode, done.stdout.splitlines(), done.stderr.replace("'3'", "")))
    assert said[0] == said[1]
    assert (said[0][0], "given" in said[0][1]) == (0, True)


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_it_ends_as_a_start_does(code: str) -> None:
    ends = []
    for run in (subprocess.run, preloaded.run):
        done = run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        ends.append((done.returncode, done.stdout, done.stderr.splitlines()[-1:]))
    assert ends[0] == ends[1]


def test_it_is_forked_and_knows_its_own_descriptors_and_session(tmp_path: Path) -> None:
    read, write = os.pipe()
    code = f"import os, sys; os.write({write}, b'%d %d' % (os.getsid(0), 'torch' in sys.modules))"
    process = preloaded.Popen([sys.executable, "-c", code], pass_fds=[write], start_new_session=True)
    os.close(write)
    assert process.wait(60) == 0
    assert os.read(read, 99) == b"%d 1" % process.pid
    assert os.read(read, 99) == b""  # nobody else holds it
    os.close(read)


def test_it_has_the_umask_of_whoever_starts_it() -> None:
    command = [sys.executable, "-c", "import os; print(oct(os.umask(0)))"]
    preloaded.run(command, stdout=subprocess.DEVNULL)  # what it is forked from has the earlier one
    before = os.umask(0o027)
    try:
        assert preloaded.run(command, capture_output=True, text=True).stdout == "0o27\n"
    finally:
        os.umask(before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_can_be_sent_signals(number: int) -> None:
    code = "import time; print('up', flush=True); time.sleep(600)"
    with preloaded.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait(60) == -number
    assert process.poll() == -number
    process.kill()  # has ended: no signal goes to whoever has its number now


def test_several_run_beside_each_other() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    first, second = (preloaded.Popen(command, stdin=subprocess.PIPE) for _ in range(2))
    for process, other in ((second, first), (first, None)):
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert other is None or other.poll() is None


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ([sys.executable, "-I", "-c", "import sys; print('torch' in sys.modules)"], {}),
        ([sys.executable, "-c", "import sys; print('torch' in sys.modules)"], {"PYTHONUTF8": "1"}),
        ([sys.executable, "-c", "import sys; print('torch' in sys.modules)"], {"LC_ALL": "C"}),
        (["echo", "False"], {}),
    ],
    ids=["option", "encoding", "locale", "program"],
)
def test_what_a_fork_cannot_give_is_started(command: list[str], more: Mapping[str, str]) -> None:
    done = preloaded.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_imports_set_does_not_count() -> None:
    code = "import sys; print('torch' in sys.modules)"
    # Once a test has imported run.py, torch's compiler, and scikit-learn.
    variables = {"TORCHINDUCTOR_CACHE_DIR": "/tmp/x", "KMP_INIT_AT_FORK": "FALSE", "KMP_DUPLICATE_LIB_OK": "True"}
    for more in ({}, {"OMP_WAIT_POLICY": "PASSIVE"}, variables):
        environment = {**os.environ, **more}
        done = preloaded.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"


def test_a_folder_that_is_missing_is_an_error_as_ever(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        preloaded.run([sys.executable, "-c", ""], cwd=tmp_path / "none")


def test_a_script_that_is_missing_is_an_error_as_ever() -> None:
    assert preloaded.run([sys.executable, "none.py"], stderr=subprocess.DEVNULL).returncode == 2


@pytest.mark.parametrize("of_a_copy", [False, True])
def test_a_command_is_measured_for_coverage_where_pytest_is_unless_it_runs_a_copy(
    program: Path, tmp_path: Path, of_a_copy: bool
) -> None:
    measured = coverage.Coverage(data_file=str(tmp_path / "data"), source=[str(program.parent)], config_file=False)
    measured.set_option("run:parallel", True)
    measured.start()
    try:
        copy = {"PYTHONPATH": str(tmp_path)} if of_a_copy else {}
        done = preloaded.run(
            [sys.executable, program], cwd="/", env={**os.environ, **copy}, input="", capture_output=True, text=True
        )
    finally:
        measured.stop()
    assert "COVERAGE_PROCESS" not in done.stdout, "its own commands are not measured"
    assert done.stderr.endswith("wrong\n"), "no warning"
    lines: set[int] = set()
    for file in tmp_path.glob("data.*"):
        data = coverage.CoverageData(str(file))
        data.read()
        lines |= set(data.lines(str(program.resolve())) or ())
    assert (len(lines) > 10) is not of_a_copy

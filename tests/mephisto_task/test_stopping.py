"""Signals: what the first, the second and the third mean, and that a run which hangs is ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from model_chat.configuration.exit_codes import MEANINGS, ExitCode, exit_with
from model_chat.conversation.quota import ConversationQuota
from model_chat.launch.task_run import exit_code
from model_chat.mephisto_task.stopping import STOP_SIGNALS, stop_on_signals
from model_chat.tests import preloaded

ROOT = Path(__file__).parents[2]
HANGS = """
import os, signal, sys, time
from model_chat.mephisto_task import stopping
with stopping.stop_on_signals() as stop:
    stop.end_seconds = 0.3
    for number in range(int(sys.argv[1])):
        os.kill(os.getpid(), signal.SIGINT)
    if sys.argv[2] == "end":
        stop.begin_end()
    time.sleep(float(sys.argv[3]))
    print("still here")
"""


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_the_first_signal_is_a_request_the_second_an_order(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with stop_on_signals() as stop:
        assert (stop.requested, stop.is_requested(), stop.at_once) == (False, False, False)
        os.kill(os.getpid(), signum)
        assert (stop.requested, stop.is_requested(), stop.at_once) == (True, True, False)
        os.kill(os.getpid(), signum)
        assert (stop.requested, stop.at_once) == (True, True)
    assert signal.getsignal(signum) is before


def hang(signals: int, end: str, seconds: float) -> tuple[int, str]:
    command = [sys.executable, "-c", HANGS, str(signals), end, str(seconds)]
    done = preloaded.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(("signals", "end"), [(2, ""), (1, "end"), (3, "")])
def test_a_run_that_does_not_end_in_its_time_is_ended(signals: int, end: str) -> None:
    began = time.monotonic()
    assert hang(signals, end, 50) == (ExitCode.INTERRUPTED, "")
    assert time.monotonic() - began < 40


def test_one_signal_ends_nothing_by_itself() -> None:
    assert hang(1, "", 1) == (0, "still here\n")


@pytest.mark.parametrize(
    ("done", "interrupted", "code"), [(2, False, 0), (1, False, 3), (0, False, 3), (2, True, 130), (1, True, 130)]
)
def test_the_exit_code_says_whether_everything_was_collected(done: int, interrupted: bool, code: int) -> None:
    assert exit_code(ConversationQuota({"a": 2}, {"a": done}), interrupted) == code


def test_every_exit_code_has_a_meaning() -> None:
    assert {code.value for code in MEANINGS} == {0, 1, 2, 3, 130}


def interrupted() -> int:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("command", "code"), [(lambda: 0, 0), (lambda: ExitCode.CONFIGURATION, 2), (interrupted, 130)])
def test_commands_end_with_their_code(command: object, code: int) -> None:
    with pytest.raises(SystemExit) as end:
        exit_with(command)  # type: ignore[arg-type]  # one of the above
    assert end.value.code == code

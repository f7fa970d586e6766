"""A real task for tests: run.py as a process of its own, on a free port, with fresh folders."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from model_chat.router.local_architect import fault_of_port
from model_chat.tests import preloaded
from model_chat.tests.ports import own_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
STOP_SECONDS = 60.0
UP = "Ctrl-C stops the run after the open chats"
"""In the last of the lines by which a run says that it is up, and where."""
FINISHING = "Stopping: no new workers are admitted."
"""What a run says once it has taken note of the first signal while somebody chats."""


def make_fixed_model(folder: Path, reply: str = "That is what I think, too.") -> None:
    """Make a real ParlAI model that always says the same."""
    folder.mkdir(parents=True)
    opt = {"model": "fixed_response", "fixed_response": reply}
    (folder / "model.opt").write_text(json.dumps(opt), encoding="utf-8")


def wait_until(holds: Callable[[], bool], otherwise: Callable[[], object] = lambda: "", seconds: float = 60.0) -> None:
    """Wait for something that happens in another process or thread; fail with ``otherwise`` if it does not."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {otherwise()}"
        time.sleep(0.05)


class RunningTask:
    """``python run.py`` with the given flags; a context manager that leaves no process behind.

    Args:
        folder: fresh; Mephisto's data, the conversations and the log go there.
        flags: Hydra overrides.
        script: the run script.
        forked: from a process that has imported the libraries (:mod:`model_chat.tests.preloaded`); else Python starts.
    """

    def __init__(self, folder: Path, flags: Sequence[str], script: str = "run.py", forked: bool = True) -> None:
        self.folder = folder
        self.port = own_port()
        self.data = folder / "mephisto"
        self.chats = folder / "conversations"
        self.log_file = folder / "run.log"
        self._flags = [
            f"mephisto.datapath={self.data}",
            f"mephisto.blueprint.chat_data_folder={self.chats}",
            f"mephisto.architect.port={self.port}",
            "monitoring_log_rate=1",
            *flags,
        ]
        self._script = script
        self._start = preloaded.Popen if forked else subprocess.Popen
        self._signals = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_file.unlink(missing_ok=True)  # of an earlier run of the same task
        self._signals = 0
        # The router of a run that was killed ends by itself, and then leaves the port.
        wait_until(lambda: fault_of_port(str(self.port)) is None, lambda: f"port {self.port} is still taken")
        environment = {**os.environ, "HOME": str(self.folder), "PYTHONWARNINGS": "ignore"}
        with self.log_file.open("ab") as log:
            self.process = self._start(
                [sys.executable, self._script, *self._flags],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_up(self) -> None:
        def is_up() -> bool:
            over = self.process is None or self.process.poll() is not None
            if UP in self.log:
                return True
            assert not over, f"run.py ended before it was up:\n{self.log}"
            return False

        wait_until(is_up, lambda: f"run.py is not up:\n{self.log}", START_SECONDS)

    def __exit__(self, *exc_info: object) -> None:
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            # The first lets conversations finish that workers of the test have left in the middle, the second ends them.
            # A third would end the process in the middle of that.
            try:
                if self._signals == 0:
                    self.interrupt()
                wait_until(lambda: process.poll() is not None or FINISHING in self.log, lambda: self.log, STOP_SECONDS)
                if self._signals == 1:
                    self.interrupt()
                process.wait(STOP_SECONDS)
            except (AssertionError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise AssertionError(f"run.py did not stop on Ctrl-C:\n{self.log}") from None

    def interrupt(self, signum: int = signal.SIGINT) -> None:
        """Send a signal, as Ctrl-C does; one that has ended gets none."""
        if self.process is not None and self.process.poll() is None:
            self._signals += 1
            self.process.send_signal(signum)

    @property
    def log(self) -> str:
        """Everything that run.py has printed."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://localhost:{self.port}/"

    def worker_url(self, worker: str, assignment: str = "1") -> str:
        """The address at which a worker takes part."""
        return f"{self.url}?worker_id={worker}&assignment_id={assignment}"

    def stop_slowly(self, signum: int = signal.SIGINT) -> None:
        """Send the first signal while somebody chats, and wait until the run has taken note of it.

        Python merges signals that come faster than it handles them: two in a row may count as one.
        """
        self.interrupt(signum)
        self.wait_for_log(FINISHING)

    def wait_for_log(self, text: str, seconds: float = 60.0) -> None:
        """Wait until run.py has printed something."""
        wait_until(lambda: text in self.log, lambda: self.log, seconds)

    def wait(self, seconds: float = 120.0) -> int:
        """Wait until run.py has ended by itself; return its exit code."""
        if self.process is None:
            raise RuntimeError("not started")
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"run.py has not ended after {seconds:g} s:\n{self.log}") from None

    def conversations(self) -> list[dict[str, Any]]:
        """Every conversation saved as a file."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.chats.glob("*/*.json"))]

    def world_data(self) -> list[dict[str, Any]]:
        """Every conversation saved in Mephisto's data folder."""
        found = []
        for path in sorted(self.data.glob("data/runs/*/*/*/*/state.json")):
            state = json.loads(path.read_text(encoding="utf-8"))
            found += [
                message["WORLD_DATA"]["custom_data"]
                for message in state["outputs"]["messages"]
                if "WORLD_DATA" in message and "dialog" in message["WORLD_DATA"]["custom_data"]
            ]
        return found

    def agent_statuses(self) -> list[str]:
        """The status of every agent in Mephisto's database."""
        return self.rows("SELECT status FROM agents")

    def unit_statuses(self) -> list[str]:
        """The status of every unit in Mephisto's database."""
        return self.rows("SELECT status FROM units")

    def rows(self, query: str) -> list[str]:
        """The first column of a query to Mephisto's database."""
        connection = sqlite3.connect(f"file:{self.data / 'database.db'}?mode=ro", uri=True, timeout=60)
        try:
            return [row[0] for row in connection.execute(query)]
        finally:
            connection.close()

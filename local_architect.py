"""Serves the worker's page from this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from mephisto.abstractions.architects.local_architect import LocalArchitect, LocalArchitectArgs
from mephisto.abstractions.architects.router.build_router import NODE_SERVER_SOURCE_ROOT, build_router
from mephisto.operations.registry import register_mephisto_abstraction

from model_chat.errors import ConfigurationError

if TYPE_CHECKING:
    from mephisto.abstractions.blueprint import SharedTaskState
    from mephisto.abstractions.database import MephistoDB
    from mephisto.data_model.task_run import TaskRun
    from omegaconf import DictConfig

ROUTER_PACKAGES = Path(__file__).parent / "router" / "node_modules"
"""The router's npm packages, installed once by the set-up."""
START_SECONDS = 20.0
AWAY_SECONDS = 60
"""A worker whose page has been silent for so long has left."""
STOP_SECONDS = 5.0
LAST_PORT = 65535


@register_mephisto_abstraction()
class TaskLocalArchitect(LocalArchitect):  # type: ignore[misc]  # mephisto has no types
    """Mephisto's architect ``local``, in whose place it is registered, with the same flags.

    It runs Mephisto's node router from a temporary folder of its own, with packages that the set-up has installed: no npm
    at launch, nothing written into site-packages, two runs beside each other don't meet, and a router that does not come
    up, or a port that is taken, is said in one sentence. The port 0 stands for any free one.
    """

    ArgsClass = LocalArchitectArgs
    server_dir: str | None
    running_dir: str | None
    port: str | None
    server_process: subprocess.Popen[bytes] | None
    ARCHITECT_TYPE = "local"

    def __init__(
        self, db: MephistoDB, args: DictConfig, shared_state: SharedTaskState, task_run: TaskRun, build_dir_root: str
    ) -> None:
        super().__init__(db, args, shared_state, task_run, build_dir_root)
        self._log: Any = None

    def prepare(self) -> str:
        """Put the router together in a temporary folder; return that folder.

        Raises:
            ConfigurationError: the set-up has not installed the router's packages.
        """
        if self.server_type != "node":
            other: str = super().prepare()
            return other
        if not ROUTER_PACKAGES.is_dir():
            raise ConfigurationError(
                f"The router's packages are not installed ({ROUTER_PACKAGES}); run 'make setup' once."
            )
        source = Path(tempfile.mkdtemp(prefix="model_chat_router_")) / "server"
        shutil.copytree(
            self.server_source_path or NODE_SERVER_SOURCE_ROOT, source, ignore=shutil.ignore_patterns("node_modules")
        )
        _mend_router(source / "server.js")
        built: str = build_router(self.build_dir, self.task_run, version="node", server_source_path=str(source))
        shutil.rmtree(source.parent)
        self.server_dir = built
        return built

    def deploy(self) -> str:
        """Start the router and wait until it answers; return its address, ``host:port``.

        Raises:
            ConfigurationError: the port is taken, there is no node, or the router does not come up.
        """
        if self.server_type != "node":
            address: str = super().deploy()
            return address
        if str(self.port) == "0":
            self.port = str(free_port())
        port_fault = fault_of_port(str(self.port))
        if port_fault is not None:
            raise ConfigurationError(port_fault)
        self.running_dir = tempfile.mkdtemp(prefix="model_chat_server_")
        shutil.copytree(str(self.server_dir), self.running_dir, symlinks=True, dirs_exist_ok=True)
        packages = Path(self.running_dir) / "node_modules"
        packages.symlink_to(ROUTER_PACKAGES, target_is_directory=True)
        self._log = (Path(self.running_dir) / "router.log").open("wb")
        try:
            self.server_process = subprocess.Popen(
                ["node", "server.js"],
                cwd=self.running_dir,
                env={**os.environ, "PORT": str(self.port)},
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches the run script, which stops the router in order
            )
        except FileNotFoundError:
            self.shutdown()
            raise ConfigurationError("There is no 'node' on the PATH; install Node.js 20 or newer.") from None
        self.server_process_pid = self.server_process.pid
        self._wait_until_up()
        return f"{self.hostname}:{self.port}"

    def _wait_until_up(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.server_process is not None and self.server_process.poll() is not None:
                break
            try:
                if requests.get(f"http://127.0.0.1:{self.port}/is_alive", timeout=1).ok:
                    return
            except requests.RequestException:
                time.sleep(0.05)
        log = (Path(str(self.running_dir)) / "router.log").read_text(encoding="utf-8", errors="replace")
        self.shutdown()
        said = " ".join(line.strip() for line in log.splitlines() if line.strip() and not line.startswith("    at "))
        raise ConfigurationError(
            f"mephisto.architect.port={self.port}: the router did not come up: {said[-500:] or 'it said nothing'}"
        )

    def cleanup(self) -> None:
        """Remove the built folder, which :meth:`deploy` has copied."""
        if self.server_dir is not None:
            shutil.rmtree(self.server_dir, ignore_errors=True)

    def shutdown(self) -> None:
        """Stop the router and remove its folder; a second call does nothing."""
        process, self.server_process = self.server_process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self._log is not None:
            self._log.close()
        if self.running_dir is not None:
            shutil.rmtree(self.running_dir, ignore_errors=True)


ROUTER_MENDS = {
    # It takes everything but `undefined` for an error of its first attempt to send, and sends again after half a second;
    # Node >= 15 reports success as `null`. Every packet came twice, and a worker's request for work took two units.
    "if (error === undefined)": "if (!error)",
    "if (error2 === undefined)": "if (!error2)",
    # A worker without a heartbeat for 15 s was gone for good; a tunnel, or a change of network, outlasts that.
    "const FAILED_PING_TIME = 15000;": f"const FAILED_PING_TIME = {AWAY_SECONDS * 1000};",
    # A packet that can't be written as JSON (nested too deep) took along all others of the same 50 ms.
    "function _send_message(socket, packet) {": """function _send_message(socket, packet) {
  try {
    _try_to_send_message(socket, packet);
  } catch (error) {
    console.log("Dropped a packet that can't be sent", String(error));
  }
}

function _try_to_send_message(socket, packet) {""",
    # What came before the page's socket waits for the next tick; what came between socket and tick overtook it.
    """  if (socket) {
    _send_message(socket, packet);""": """  if (socket) {
    for (const earlier of agent.get_sendable_messages()) {
      _send_message(socket, earlier);
    }
    _send_message(socket, packet);""",
}
"""Changes to mephisto 1.1.1's ``server.js``: text as it stands there -> text in its place."""


def _mend_router(server_js: Path) -> None:
    """Apply :data:`ROUTER_MENDS` to our copy of the router; what a router of the user's own does otherwise stays."""
    text = server_js.read_text(encoding="utf-8")
    for original, mended in ROUTER_MENDS.items():
        text = text.replace(original, mended, 1)
    server_js.write_text(text, encoding="utf-8")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fault_of_port(port: str) -> str | None:
    """Say what is wrong with the port of the local architect: no number, out of range, or taken; None if nothing."""
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= LAST_PORT:
        return f"mephisto.architect.port: '{port:.40}' is not a port; give a number from 1 to {LAST_PORT}."
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", int(port)))
        except OSError as error:
            other = int(port) + 1 if int(port) < LAST_PORT else 3000
            return f"mephisto.architect.port: {port} can't be used ({error.strerror}); try {other}."
    return None

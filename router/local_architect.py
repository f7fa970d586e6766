"""Serves the worker's page from this machine."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import random
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mephisto.abstractions.architects.local_architect import LocalArchitect, LocalArchitectArgs
from mephisto.abstractions.architects.router.build_router import build_router
from mephisto.operations.registry import register_mephisto_abstraction

from model_chat.configuration.flags import flag
from model_chat.configuration.places import set_up_command
from model_chat.errors import ConfigurationError
from model_chat.router.addresses import LOOPBACK, entries_of, host_of, proxies_of
from model_chat.router.own_router import ROUTER_SOURCE, OwnRouter, router_source
from model_chat.router.public_address import LAST_PORT, public_address_of
from model_chat.router.router_process import fault_at_start, start_router, stop_router

if TYPE_CHECKING:
    from mephisto.abstractions.blueprint import SharedTaskState
    from mephisto.abstractions.database import MephistoDB
    from mephisto.data_model.task_run import TaskRun
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

ROUTER_PACKAGES = ROUTER_SOURCE / "node_modules"
"""The router's npm packages, installed once by the set-up."""
STOP_SECONDS = 5.0
MOST_RESTARTS, RESTARTS_SECONDS = 5, 60.0
"""A router that ends more often in so many seconds is not started again."""
QUIET_PORTS = range(20_000, 32_768)
"""Above those of Ray's workers, below those that systems lend to outgoing connections."""


@dataclass
class TaskLocalArchitectArgs(LocalArchitectArgs):
    """Mephisto's arguments of the architect ``local``, and those of our router."""

    bind_address: str = flag(
        LOOPBACK,
        "Address of this machine on which the page is served. Unless you change it, only this machine reaches "
        "the page; 0.0.0.0 stands for every network that the machine is in.",
    )
    allowed_hosts: str = flag(
        "",
        "Comma-separated names under which the page may be asked for, besides hostname, localhost and IP "
        "addresses; .example.org stands for all names below it, * for any name.",
    )
    trusted_proxies: str = flag(
        "",
        "Comma-separated addresses or networks (10.0.0.0/8) of your reverse proxies. Limits then count for the "
        "address that these report in X-Forwarded-For; nobody else's X-Forwarded-For is believed.",
    )
    public_url: str = flag(
        "",
        "The page's address behind a reverse proxy with TLS, such as https://study.example.org/pets/ "
        "(docs/self-hosting.md). Links follow it, and requests for any other host or from any other site are refused; "
        "the proxy may pass the path on or leave it out. Empty: no such proxy.",
    )


@register_mephisto_abstraction()
class TaskLocalArchitect(OwnRouter, LocalArchitect):
    """Mephisto's architect ``local``, in whose place it is registered, with the same flags.

    It runs our own router (``router/server.js``), which speaks Mephisto's protocol and lets nobody into a conversation who
    has not been given it, from a temporary folder of its own, with packages that the set-up has installed: no npm at
    launch, nothing written into site-packages, two runs beside each other don't meet, and a router that does not come up,
    or a port that is taken, is said in one sentence. The port 0 stands for any free one. A router that ends is started
    again, at the same port and with the same key, so that pages continue; when this process ends, however it does, so does
    the router. ``_lock`` guards the process.
    """

    ArgsClass = TaskLocalArchitectArgs
    server_dir: str | None
    running_dir: str | None
    port: str | None
    server_process: subprocess.Popen[bytes] | None
    ARCHITECT_TYPE = "local"

    def __init__(
        self, db: MephistoDB, args: DictConfig, shared_state: SharedTaskState, task_run: TaskRun, build_dir_root: str
    ) -> None:
        super().__init__(db, args, shared_state, task_run, build_dir_root)
        options = args.architect
        self.bind_address = str(options.get("bind_address") or LOOPBACK)
        self.public_address = public_address_of(options)
        hosts = [host_of(self.hostname or ""), *entries_of(options.get("allowed_hosts"))]
        self._settings = {
            "bind": self.bind_address,
            "hosts": [host for host in hosts if host],
            "proxies": proxies_of(options),
            "publicUrl": None if self.public_address is None else self.public_address.url,
        }
        self._lock = threading.RLock()
        self._is_stopping = False
        self._starts: deque[float] = deque(maxlen=MOST_RESTARTS + 1)
        self.is_lost = False
        """Whether the router has ended too often to be started again."""

    def _get_socket_urls(self) -> list[str]:
        """Where the run script connects: on this machine, whatever name workers use for it."""
        urls = super()._get_socket_urls()
        if not self.has_own_router:
            return urls
        path = urls[0].split("://", 1)[1].partition("/")[2]
        return [f"ws://{self._own_address}/{path}"]

    @property
    def _own_address(self) -> str:
        """Address and port at which this machine reaches the router."""
        address = ipaddress.ip_address(self.bind_address)
        if address.is_unspecified:
            address = ipaddress.ip_address(LOOPBACK if address.version == 4 else "::1")
        return f"[{address}]:{self.port}" if address.version == 6 else f"{address}:{self.port}"

    @property
    def page_url(self) -> str:
        """Where workers find the page; ends in a slash."""
        if self.public_address is not None:
            return self.public_address.url
        return f"http://{host_of(self.hostname or '')}:{self.port}/"

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
                f"The router's packages are not installed ({ROUTER_PACKAGES}); run '{set_up_command()}' once."
            )
        with router_source(self.server_source_path) as source:
            built: str = build_router(self.build_dir, self.task_run, version="node", server_source_path=str(source))
        self.server_dir = built
        return built

    def deploy(self) -> str:
        """Start the router and wait until it answers; return its address: the public one, or ``host:port``.

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
        Path(str(self.server_dir)).chmod(0o700)  # the copy gets the mode of what is copied
        shutil.copytree(str(self.server_dir), self.running_dir, symlinks=True, dirs_exist_ok=True)
        packages = Path(self.running_dir) / "node_modules"
        packages.symlink_to(ROUTER_PACKAGES, target_is_directory=True)
        self._is_stopping = False
        self._start()
        if self.server_process is not None:
            fault = fault_at_start(self.server_process, Path(self.running_dir), self._own_address)
            if fault is not None:
                self.shutdown()
                raise ConfigurationError(f"mephisto.architect.port={self.port}: the router did not come up: {fault}")
        threading.Thread(target=self._watch, name="router watch", daemon=True).start()
        return f"{self.hostname}:{self.port}" if self.public_address is None else self.public_address.url

    def _start(self) -> None:
        """Start the process.

        Raises:
            ConfigurationError: there is no node.
        """
        try:
            process = start_router(Path(str(self.running_dir)), str(self.port), self._key, self._settings)
        except ConfigurationError:
            self.shutdown()
            raise
        self._starts.append(time.monotonic())
        self.server_process, self.server_process_pid = process, process.pid

    def _watch(self) -> None:
        """Start the router again whenever it ends without having been asked to."""
        while True:
            process = self.server_process
            if process is None:
                return
            code = process.wait()
            with self._lock:
                if self._is_stopping:
                    return
                if len(self._starts) > MOST_RESTARTS and time.monotonic() - self._starts[0] < RESTARTS_SECONDS:
                    logger.error(
                        "The router has ended %d times within a minute, last with code %d.", MOST_RESTARTS, code
                    )
                    self.is_lost = True
                    return
                logger.error(
                    "The router has ended with code %d and is started again; pages reconnect by themselves.", code
                )
                if process.stdin is not None:
                    process.stdin.close()
                self._start()

    def cleanup(self) -> None:
        """Remove the built folder, which :meth:`deploy` has copied."""
        if self.server_dir is not None:
            shutil.rmtree(self.server_dir, ignore_errors=True)

    def shutdown(self) -> None:
        """Stop the router and remove its folder; a second call does nothing."""
        with self._lock:
            self._is_stopping = True
            process, self.server_process = self.server_process, None
        if process is not None:
            stop_router(process, STOP_SECONDS)
        if self.running_dir is not None:
            shutil.rmtree(self.running_dir, ignore_errors=True)


def free_port() -> int:
    """Return a port that is free, and that nobody else is likely to be given before it is used.

    Raises:
        OSError: there is none.
    """
    for port in random.SystemRandom().sample(QUIET_PORTS, 100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
    raise OSError(errno.EADDRNOTAVAIL, f"no free port found from {QUIET_PORTS.start} to {QUIET_PORTS.stop - 1}")


def fault_of_port(port: str, flag: str = "mephisto.architect.port", host: str = "0.0.0.0") -> str | None:
    """Say what is wrong with a port of this machine: no number, out of range, or taken; None if nothing."""
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= LAST_PORT:
        return f"{flag}: '{port:.40}' is not a port; give a number from 1 to {LAST_PORT}."
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            other = int(port) + 1 if int(port) < LAST_PORT else 3000
            return f"{flag}: {port} can't be used ({error.strerror}); try {other}."
    return None

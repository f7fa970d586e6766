"""A router (``router/server.js``) as a process on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import requests

from model_chat.configuration.redaction import is_secret
from model_chat.errors import ConfigurationError

START_SECONDS = 20.0
LOG_NAME = "router.log"
"""In the router's folder."""


def operator_path(key: str) -> str:
    """Return the path at which the operator connects, which nobody can guess who doesn't know the router's key."""
    digest = hmac.new(key.encode(), b"operator", hashlib.sha256).digest()
    return "operator/" + base64.urlsafe_b64encode(digest).decode().rstrip("=")[:32]


def start_router(folder: Path, port: str, key: str, settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the router that lies in a folder with its packages; it ends with this process, however that ends.

    Args:
        folder: its output goes into :data:`LOG_NAME` there.
        key: the secret that it shares with its operator, at least 32 characters.
        settings: see ``router/settings.js``.

    Raises:
        ConfigurationError: there is no node.
    """
    with (folder / LOG_NAME).open("ab") as log:
        try:
            return subprocess.Popen(
                ["node", "server.js"],
                cwd=str(folder),
                env={
                    **{name: value for name, value in os.environ.items() if not is_secret(name)},
                    "PORT": port,
                    "MODEL_CHAT_ROUTER_KEY": key,
                    "MODEL_CHAT_ROUTER_SETTINGS": json.dumps(settings),
                    "MODEL_CHAT_PARENT": "stdin",
                },
                stdin=subprocess.PIPE,  # never written to: it ends with this process, and then so does the router
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches this process, which stops the router in order
            )
        except FileNotFoundError:
            raise ConfigurationError("There is no 'node' on the PATH; install Node.js 20 or newer.") from None


def fault_at_start(process: subprocess.Popen[bytes], folder: Path, address: str) -> str | None:
    """Wait until a router answers at ``host:port``; return None, or what it has printed if it does not."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(f"http://{address}/is_alive", timeout=1).ok:
                return None
        except requests.RequestException:
            time.sleep(0.02)
    log = (folder / LOG_NAME).read_text(encoding="utf-8", errors="replace")
    printed = " ".join(line.strip() for line in log.splitlines() if line.strip() and not line.startswith("    at "))
    return printed[-500:] or "it printed nothing"


def stop_router(process: subprocess.Popen[bytes], patience: float) -> None:
    """Stop a router; after ``patience`` seconds it is killed."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

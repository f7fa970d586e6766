"""The preview's page: the built page with a bar, served by the task's own router."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_chat.configuration.places import set_up_command
from model_chat.configuration.worker_texts import Texts
from model_chat.errors import ConfigurationError
from model_chat.model_chat_blueprint import FRONTEND_DIST
from model_chat.records.writing import replace_file
from model_chat.router.local_architect import ROUTER_PACKAGES, free_port
from model_chat.router.own_router import ROUTER_SOURCE
from model_chat.router.router_process import fault_at_start, operator_path, start_router, stop_router

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
STOP_SECONDS = 2.0
OWN_FILES = Path(__file__).resolve().parent / "page"
CONFIG_NAME, STATE_NAME = "task_config.json", "preview_state.json"


class ServedPage:
    """The router with the page, on this machine only.

    Args:
        folder: fresh; the router and the page are copied there.
        port: 0 stands for any free one.

    Raises:
        ConfigurationError: the port is taken, the router's packages or node are missing, or it does not come up.
    """

    def __init__(self, folder: Path, port: int) -> None:
        if not ROUTER_PACKAGES.is_dir():
            raise ConfigurationError(f"The router's packages are not installed; run '{set_up_command()}' once.")
        if port:
            _check_port(port)
        self._folder = folder
        self._port = port or free_port()
        self._key = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None
        self._built: object = None
        self._texts: dict[str, bytes] = {}
        self._language = Texts()
        self._index = ""
        shutil.copytree(ROUTER_SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "static", "*.py"))
        (folder / "node_modules").symlink_to(ROUTER_PACKAGES, target_is_directory=True)

    @property
    def address(self) -> str:
        """The page's, with a slash at the end."""
        return f"http://{HOST}:{self._port}/"

    @property
    def operator_url(self) -> str:
        """Where the operator connects."""
        return f"ws://{HOST}:{self._port}/{operator_path(self._key)}"

    def show(self, page_config: Mapping[str, Any], state: Mapping[str, Any], texts: Texts | None = None) -> None:
        """Change what the page is told; it asks for the state twice a second.

        Args:
            page_config: ``task_config.json`` of docs/protocol.md.
            state: ``version`` and ``faults`` of the preview, and the ``parts`` of the study that can be looked at.
            texts: of the page; None: English.
        """
        self._language = texts or Texts()
        self._texts = {
            CONFIG_NAME: json.dumps({**page_config, "is_preview": True}).encode(),
            STATE_NAME: json.dumps(state).encode(),
        }
        self._write_texts()

    def _write_texts(self) -> None:
        static = self._folder / "static"
        if static.is_dir():
            for name, text in self._texts.items():
                replace_file(static / name, text, durable=False)
            replace_file(static / "index.html", self._language.put_into(self._index).encode(), durable=False)

    def keep_running(self) -> None:
        """Start the router if it isn't running; again after a new build of the page, of which it knows the old files.

        Raises:
            ConfigurationError: there is no node, or it does not come up.
        """
        built = (FRONTEND_DIST / "index.html").stat().st_mtime_ns
        if self._process is not None and self._process.poll() is None and built == self._built:
            return
        self.stop()
        self._built = built
        static = self._folder / "static"
        shutil.rmtree(static, ignore_errors=True)
        shutil.copytree(FRONTEND_DIST, static)
        shutil.copytree(OWN_FILES, static, dirs_exist_ok=True)
        html = (static / "index.html").read_text(encoding="utf-8")
        self._index = html.replace("</body>", '<script src="preview.js"></script></body>')
        self._write_texts()
        self._process = start_router(self._folder, str(self._port), self._key, {"bind": HOST})
        fault = fault_at_start(self._process, self._folder, f"{HOST}:{self._port}")
        if fault is not None:
            self.stop()
            raise ConfigurationError(f"--port={self._port}: the router did not come up: {fault}")

    def stop(self) -> None:
        """Stop the router."""
        process, self._process = self._process, None
        if process is not None:
            stop_router(process, STOP_SECONDS)


def _check_port(port: int) -> None:
    """Check that the port is free.

    Raises:
        ConfigurationError: it isn't.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "it is no port"
            raise ConfigurationError(f"--port: {port} can't be used ({reason}); try {port + 1}, or 0.") from None

"""Real Chromium for tests, what it receives, axe-core, and a network that can be cut."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Error, Page, Response, WebSocket, expect, sync_playwright

from model_chat.scripts.setup_env import find_chromium
from model_chat.tests.e2e.running_task import ROOT

AXE = ROOT / "frontend/node_modules/axe-core/axe.min.js"
STEP_MILLISECONDS = 60_000
expect.set_options(timeout=STEP_MILLISECONDS)  # 5 s are too few on a busy machine


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start headless Chromium."""
    path = find_chromium()
    if path is None:
        raise AssertionError("Chromium is missing; 'make test' installs it on Debian, else install it or set CHROMIUM.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=LOOK.ARGS)
        try:
            yield browser
        finally:
            browser.close()


class Received:
    """Everything that a browser context is sent: bodies of answers and frames of sockets, as text.

    Attributes:
        parts: all of it.
        frames: of sockets.
        console: errors of the pages.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.parts: list[str] = []
        self.frames: list[str] = []
        self.console: list[str] = []
        context.on("response", self._on_response)
        context.on("page", self._on_page)

    def _on_page(self, page: Page) -> None:
        page.set_default_timeout(STEP_MILLISECONDS)
        page.on("websocket", self._on_socket)
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))
        page.on("console", lambda message: self.console.append(message.text) if message.type == "error" else None)

    def _on_socket(self, web_socket: WebSocket) -> None:
        web_socket.on("framereceived", lambda frame: self._take_frame(str(frame)))

    def _take_frame(self, frame: str) -> None:
        self.parts.append(frame)
        self.frames.append(frame)

    def _on_response(self, response: Response) -> None:
        with contextlib.suppress(Error):  # redirects and aborted requests have no body
            self.parts.append(response.text())

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.parts)


STILL = """() => Promise.all(
  document.getAnimations()
    .filter((animation) => animation.effect.getComputedTiming().endTime !== Infinity)
    .map((animation) => animation.finished.catch(() => undefined))
)"""
"""Waits until what fades in has faded in: half transparent text has too little contrast for as long as that takes."""


def axe_findings(page: Page) -> list[str]:
    """Run axe-core on what the page shows now; return one line a finding."""
    page.evaluate(STILL)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {violation['help']}: {json.dumps([node['html'][:200] for node in violation['nodes']])}"
        for violation in result["violations"]
    ]


class CuttableProxy:
    """A TCP proxy to a port of this machine whose connections can be cut, and restored.

    Args:
        target: the port behind it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and let none through until :meth:`restore`."""
        with self._lock:
            self._cut = True
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._cut = False

    def close(self) -> None:
        """Stop for good."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                cut = self._cut
            if cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()

    @staticmethod
    def _pump(client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, client, server:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            try:
                while True:
                    for key, _ in selector.select():
                        source: Any = key.fileobj
                        data = source.recv(65536)
                        if not data:
                            return
                        key.data.sendall(data)
            except OSError:
                return


def _load_look() -> Any:
    """The list of screens, and the scripted run that shows them."""
    spec = importlib.util.spec_from_file_location("look", ROOT / "frontend/dev/look.py")
    if spec is None or spec.loader is None:
        raise AssertionError("frontend/dev/look.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOOK = _load_look()

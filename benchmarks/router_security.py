"""The same attacks over the wire against Mephisto's own node router and against ours.

    python benchmarks/router_security.py

Each attack is made over the wire by somebody who knows nothing but the port; "open" means that it worked.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from model_chat import compat as compat  # the mends, before mephisto
from model_chat.local_architect import ROUTER_PACKAGES, ROUTER_SOURCE, free_port

KEY = "k" * 40
AGENT = "7"


@contextmanager
def router(source: Path) -> Iterator[int]:
    """Run a router; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "router"
        shutil.copytree(source, place, ignore=shutil.ignore_patterns("node_modules"))
        (place / "static").mkdir(exist_ok=True)
        (place / "static/task_config.json").write_text("{}", encoding="utf-8")
        (place / "node_modules").symlink_to(ROUTER_PACKAGES, target_is_directory=True)
        environment = {**os.environ, "PORT": str(port), "MODEL_CHAT_ROUTER_KEY": KEY}
        process = subprocess.Popen(
            ["node", "server.js"], cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            for _ in range(200):
                with contextlib.suppress(requests.RequestException):
                    if requests.get(f"http://127.0.0.1:{port}/is_alive", timeout=1).ok:
                        break
                time.sleep(0.05)
            yield port
        finally:
            process.kill()
            process.wait()


def say(connection: ClientConnection, kind: str, subject: str, data: Any = None) -> None:
    """Send a packet."""
    connection.send(json.dumps({"packet_type": kind, "subject_id": subject, "data": data or {}}))


def hears(connection: ClientConnection, kind: str, text: str = "", seconds: float = 0.5) -> bool:
    """Whether a packet of a kind, with this text in it, arrives."""
    end = time.monotonic() + seconds
    with contextlib.suppress(TimeoutError, WebSocketException):
        while (left := end - time.monotonic()) > 0:
            packet = json.loads(connection.recv(timeout=left))
            if packet["packet_type"] == kind and text in json.dumps(packet):
                return True
    return False


def attacks(port: int, operator_path: str) -> dict[str, bool]:
    """Make every attack; return which worked."""
    base, wire = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    found: dict[str, bool] = {}
    with connect(wire + operator_path) as operator:
        say(operator, "alive", "mephisto")
        page_id = AGENT
        if operator_path != "/":
            answers: list[Any] = []
            body = {"provider_data": {"worker_name": "w", "agent_registration_id": "r", "assignment_id": "1"}}
            ask = threading.Thread(
                target=lambda: answers.append(requests.post(f"{base}/request_agent", json=body, timeout=10).json())
            )
            ask.start()
            request_id = json.loads(operator.recv(timeout=10))["data"]["request_id"]
            say(operator, "agent_details", request_id, {"request_id": request_id, "agent_id": AGENT})
            ask.join()
            page_id = answers[0]["data"]["agent_id"]
        with connect(wire) as page:
            say(page, "alive", page_id)
            hears(page, "update_status")

            def attempt(name: str, attack: Callable[[ClientConnection], bool]) -> None:
                try:
                    with connect(wire) as attacker:
                        found[name] = attack(attacker)
                except (WebSocketException, OSError):
                    found[name] = False

            def read(attacker: ClientConnection) -> bool:
                say(attacker, "alive", AGENT)
                time.sleep(0.1)
                say(operator, "client_bound_live_update", AGENT, {"text": "private"})
                return hears(attacker, "client_bound_live_update")

            attempt("read another worker's conversation from a second socket", read)
            say(page, "alive", page_id)

            def post(attacker: ClientConnection) -> bool:
                say(attacker, "mephisto_bound_live_update", AGENT, {"text": "forged"})
                return hears(operator, "mephisto_bound_live_update")

            attempt("say something in another worker's name", post)

            def pose(attacker: ClientConnection) -> bool:
                say(attacker, "client_bound_live_update", AGENT, {"text": "forged"})
                return hears(page, "client_bound_live_update", "forged")

            attempt("send a worker's page what looks like the server's", pose)

            def flood(attacker: ClientConnection) -> bool:
                packet = json.dumps({"packet_type": "log_error", "subject_id": AGENT, "data": {"text": "x"}})
                with contextlib.suppress(WebSocketException):
                    for _ in range(20_000):
                        attacker.send(packet)
                    return True
                return False

            attempt("flood the operator with 20,000 packets", flood)

            def large(attacker: ClientConnection) -> bool:
                attacker.send("x" * 5_000_000)
                with contextlib.suppress(TimeoutError):
                    attacker.recv(timeout=0.5)
                return True

            attempt("send a packet of 5 MB", large)

            def foreign(_: ClientConnection) -> bool:
                with connect(wire, origin="http://evil.example"):  # type: ignore[arg-type]  # a plain string is what it takes
                    return True

            attempt("connect from a page of another site", foreign)

            def hand_in(_: ClientConnection) -> bool:
                body = {"USED_AGENT_ID": AGENT, "final_data": {"files": [{"filename": "../x"}]}}
                return requests.post(f"{base}/submit_task", json=body, timeout=5).ok

            attempt("hand in another worker's conversation", hand_in)

            def fetch(_: ClientConnection) -> bool:
                with tempfile.NamedTemporaryFile(dir="/tmp", prefix="door-") as file:
                    file.write(b"private")
                    file.flush()
                    return b"private" in requests.get(f"{base}/download_file/{Path(file.name).name}", timeout=5).content

            attempt("fetch a file of the host's temporary folder", fetch)

            def take_over(attacker: ClientConnection) -> bool:
                say(attacker, "alive", "mephisto")
                time.sleep(0.1)
                say(page, "mephisto_bound_live_update", page_id, {"text": "private"})
                return hears(attacker, "mephisto_bound_live_update")

            attempt("become the operator of all conversations", take_over)
            headers = requests.get(f"{base}/is_alive", timeout=5).headers
            found["no Content-Security-Policy"] = "Content-Security-Policy" not in headers
    return found


def main() -> int:
    """Print the table; return 1 if anything is open in our router."""
    import base64
    import hashlib
    import hmac

    from mephisto.abstractions.architects.router.build_router import NODE_SERVER_SOURCE_ROOT

    digest = hmac.new(KEY.encode(), b"operator", hashlib.sha256).digest()
    secret = base64.urlsafe_b64encode(digest).decode().rstrip("=")[:32]
    with router(Path(NODE_SERVER_SOURCE_ROOT)) as port:
        theirs = attacks(port, "/")
    with router(ROUTER_SOURCE) as port:
        ours = attacks(port, f"/operator/{secret}")
    print("| attack | Mephisto's router | ours |\n|---|---|---|")
    for name, is_open in theirs.items():
        print(f"| {name} | {'open' if is_open else 'closed'} | {'open' if ours[name] else 'closed'} |")
    return int(any(ours.values()))


if __name__ == "__main__":
    sys.exit(main())

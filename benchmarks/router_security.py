"""The same attacks over the wire against Mephisto's own node router and against ours.

    python benchmarks/router_security.py

Each attack is made over the wire by somebody who knows nothing but the port; "open" means that it worked. A second table
has what two floods of requests cost the router.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
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
from _process import processor_seconds, status_of
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from model_chat import compat as compat  # the patches, before mephisto
from model_chat.router.local_architect import ROUTER_PACKAGES, free_port
from model_chat.router.own_router import ROUTER_SOURCE

KEY = "k" * 40
AGENT = "7"


@contextmanager
def router(source: Path) -> Iterator[tuple[int, int]]:
    """Run a router; yields its port and its process id."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "router"
        shutil.copytree(source, place, ignore=shutil.ignore_patterns("node_modules"))
        (place / "static").mkdir(exist_ok=True)
        (place / "static/task_config.json").write_text("{}", encoding="utf-8")
        Path(folder, "secret.txt").write_text("private", encoding="utf-8")
        (place / "static/link.txt").symlink_to(Path(folder, "secret.txt"))
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
            yield port, process.pid
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
                with connect(wire, origin="http://evil.example"):  # type: ignore[call-overload]  # a plain string will do
                    return True

            attempt("connect from a page of another site", foreign)

            def hand_in(_: ClientConnection) -> bool:
                body = {"USED_AGENT_ID": AGENT, "final_data": {"files": [{"filename": "../x"}]}}
                return requests.post(f"{base}/submit_task", json=body, timeout=5).ok

            attempt("hand in another worker's conversation", hand_in)

            def fetch(_: ClientConnection) -> bool:
                with tempfile.NamedTemporaryFile(dir="/tmp", prefix="probe-") as file:
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


def post(port: int, path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    lines = (f"POST /{path} HTTP/1.1", f"Host: localhost:{port}", "Content-Type: application/json")
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def answers(port: int, request: bytes, seconds: float) -> int:
    """How many answers come to what is sent on one connection."""
    received, end = b"", time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), 5) as connection, contextlib.suppress(OSError):
        threading.Thread(target=_send, args=(connection, request), daemon=True).start()
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
    return received.count(b"HTTP/1.1 ")


def _send(connection: socket.socket, request: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(request)


DEEP = b'{"error_data":' + b"[" * 8_000 + b"]" * 8_000 + b"}"
WORK = {"provider_data": {"worker_name": "w", "agent_registration_id": "r", "assignment_id": "1"}}


def floods(port: int, operator_path: str) -> dict[str, bool]:
    """Make every attack on the router's resources; return which worked."""
    base, wire = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"

    def nested() -> bool:
        return requests.post(
            f"{base}/log_error", data=DEEP, headers={"Content-Type": "application/json"}, timeout=10
        ).ok

    def tips() -> bool:
        body = {"USED_AGENT_ID": AGENT, "metadata": {"tips": {"header": "h", "text": "x" * 20_000}}}
        return requests.post(f"{base}/submit_metadata", json=body, timeout=5).ok

    def pipelined() -> bool:
        return answers(port, post(port, "log_error", b"{}") * 1_000, 5) > 10

    def sockets() -> bool:
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(connect(wire))
            return True

    def silent() -> bool:
        with connect(wire) as connection, contextlib.suppress(TimeoutError):
            connection.recv(timeout=10)
        return True

    def half_a_request() -> bool:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"POST /log_error HTTP/1.1\r\nHost: localhost\r\n")
            connection.settimeout(25)
            with contextlib.suppress(OSError):
                connection.recv(1000)
                return False
            return True

    def fragments() -> bool:
        with connect(wire) as connection:
            connection.send(iter("x" * 20_000))
            connection.ping().wait(2)
            connection.send("{}")
        return True

    def pings() -> bool:
        with connect(wire) as connection:
            for _ in range(20_000):
                connection.ping()
        return True

    def rebinding() -> bool:
        return requests.get(f"{base}/is_alive", headers={"Host": "evil.example"}, timeout=5).ok

    def other_address() -> bool:
        with socket.create_connection(("127.0.0.2", port), 5):
            return True

    def link() -> bool:
        return b"private" in requests.get(f"{base}/link.txt", timeout=5).content

    def one_name() -> bool:
        with connect(wire + operator_path) as operator:
            say(operator, "alive", "mephisto")
            time.sleep(0.2)
            for _ in range(100):
                threading.Thread(target=_ask, args=(f"{base}/request_agent",), daemon=True).start()
            heard, end = 0, time.monotonic() + 3
            with contextlib.suppress(TimeoutError):
                while (left := end - time.monotonic()) > 0:
                    heard += json.loads(operator.recv(timeout=left))["packet_type"] == "register_agent"
            return heard > 10

    table: dict[str, Callable[[], bool]] = {
        "have JSON parsed that is nested 8,000 deep": nested,
        "store tips of 20,000 characters (/submit_metadata)": tips,
        "have 1,000 requests handled that were sent at once on one connection": pipelined,
        "hold 300 silent sockets from one address": sockets,
        "hold a silent socket for 10 s": silent,
        "hold half a request for 25 s": half_a_request,
        "send a packet in 20,000 fragments": fragments,
        "send 20,000 pings": pings,
        "reach the page under a name of another site (DNS rebinding)": rebinding,
        "reach it from another network than this machine": other_address,
        "read a file through a symbolic link in the page's folder": link,
        "ask for work 100 times at once in one worker's name": one_name,
    }
    found = {}
    for name, attack in table.items():
        try:
            found[name] = attack()
        except (WebSocketException, OSError, requests.RequestException):
            found[name] = False
    return found


def _ask(url: str) -> None:
    with contextlib.suppress(requests.RequestException):
        requests.post(url, json=WORK, timeout=5)


def cost(port: int, pid: int) -> dict[str, str]:
    """What floods of requests cost the router: time of its processor, and memory."""
    before = processor_seconds(pid)
    nested = b"[" * 30_000
    with requests.Session() as session, contextlib.suppress(requests.RequestException):
        for _ in range(100):
            session.post(
                f"http://127.0.0.1:{port}/log_error",
                data=nested,
                headers={"Content-Type": "application/json"},
                timeout=10,
            )
    a_request = (processor_seconds(pid) - before) / 100
    threads = [
        threading.Thread(target=answers, args=(port, post(port, "log_error", b"[" * 30_000) * 1_200, 15))
        for _ in range(8)
    ]
    before, started = processor_seconds(pid), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "a body of 30,000 brackets, processor": f"{1000 * a_request:.2f} ms",
        "9,600 such requests pipelined on 8 connections, processor": f"{processor_seconds(pid) - before:.2f} s",
        "likewise, until all connections are over (at most 15 s)": f"{time.monotonic() - started:.1f} s",
        "most memory of all": f"{status_of(pid)['VmHWM'] / 1024:.0f} MB",
    }


def main() -> int:
    """Print the table; return 1 if anything is open in our router."""
    import base64
    import hashlib
    import hmac

    from mephisto.abstractions.architects.router.build_router import NODE_SERVER_SOURCE_ROOT

    digest = hmac.new(KEY.encode(), b"operator", hashlib.sha256).digest()
    secret = base64.urlsafe_b64encode(digest).decode().rstrip("=")[:32]
    with router(Path(NODE_SERVER_SOURCE_ROOT)) as (port, pid):
        theirs = {**attacks(port, "/"), **floods(port, "/")}
        theirs_cost = cost(port, pid)
    with router(ROUTER_SOURCE) as (port, pid):
        ours = {**attacks(port, f"/operator/{secret}"), **floods(port, f"/operator/{secret}")}
        ours_cost = cost(port, pid)
    print("| attack | Mephisto's router | ours |\n|---|---|---|")
    for name, is_open in theirs.items():
        print(f"| {name} | {'open' if is_open else 'closed'} | {'open' if ours[name] else 'closed'} |")
    print("\n| flood | Mephisto's router | ours |\n|---|---|---|")
    for name, figure in theirs_cost.items():
        print(f"| {name} | {figure} | {ours_cost[name]} |")
    return int(any(ours.values()))


if __name__ == "__main__":
    sys.exit(main())

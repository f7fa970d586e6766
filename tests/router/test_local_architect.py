"""Serving the page from this machine: the real router, in a folder of its own, on a free port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from mephisto.abstractions.architects.router.build_router import NODE_SERVER_SOURCE_ROOT
from omegaconf import OmegaConf
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from model_chat import model_chat_blueprint, worlds
from model_chat.configuration import places
from model_chat.errors import ConfigurationError
from model_chat.model_chat_blueprint import FRONTEND_DIST, ModelChatSharedState
from model_chat.router import local_architect
from model_chat.router.local_architect import QUIET_PORTS, ROUTER_PACKAGES, TaskLocalArchitect, fault_of_port, free_port
from model_chat.tests.mephisto_run import Run

FLAG = "mephisto.architect.port"


# --- ports ---


@pytest.mark.parametrize("port", ["", "http", "0", "-1", "65536", "3000.0", "²", "٣", "1e3", " 3000", "9" * 5000])
def test_what_is_no_port_is_said(port: str) -> None:
    fault = fault_of_port(port)
    assert fault == f"{FLAG}: '{port[:40]}' is not a port; give a number from 1 to 65535."


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_said(address: str) -> None:
    with socket.socket() as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        fault = fault_of_port(str(port))
    assert fault == f"{FLAG}: {port} can't be used (Address already in use); try {port + 1 if port < 65535 else 3000}."


def test_a_free_port_has_no_fault() -> None:
    port = free_port()
    assert fault_of_port(str(port)) is None
    assert fault_of_port(str(port)) is None, "asking doesn't take it"


def test_a_free_port_is_none_that_the_system_lends_to_connections_meanwhile() -> None:
    assert QUIET_PORTS.stop <= 32_768, "where Linux begins to lend, unless its administrator says otherwise"
    assert {free_port() for _ in range(20)} <= set(QUIET_PORTS)


def test_beyond_the_last_port_there_is_none_to_try() -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 65535))
        except OSError:
            pytest.skip("port 65535 is in use by somebody else")
        taken.listen()
        assert fault_of_port("65535") == f"{FLAG}: 65535 can't be used (Address already in use); try 3000."


# --- the router ---


class Served:
    """A built and running router."""

    def __init__(self, architect: TaskLocalArchitect) -> None:
        self.architect = architect
        self.base = f"localhost:{architect.port}"

    @contextmanager
    def operator(self) -> Iterator[ClientConnection]:
        """A connection of the run script."""
        (url,) = self.architect._get_socket_urls()
        with connect(url, max_queue=None) as connection:  # a pong is never kept waiting behind packets
            connection.send(json.dumps({"packet_type": "alive", "subject_id": "mephisto", "data": {}}))
            yield connection

    @contextmanager
    def page(self, page_id: str) -> Iterator[ClientConnection]:
        """A connection of the page of an agent."""
        with connect(f"ws://{self.base}/", max_queue=None) as connection:
            connection.send(json.dumps({"packet_type": "alive", "subject_id": page_id, "data": {}}))
            yield connection

    def register(self, operator: ClientConnection, agent_id: str) -> str:
        """Ask for work as a page does, let the operator give this agent, and return the id that the page gets."""
        answers: list[Any] = []
        body = {"provider_data": {"worker_name": "w", "agent_registration_id": f"r-{agent_id}", "assignment_id": "1"}}
        asking = threading.Thread(
            target=lambda: answers.append(requests.post(f"http://{self.base}/request_agent", json=body, timeout=30))
        )
        asking.start()
        while (packet := json.loads(operator.recv(timeout=60)))["packet_type"] != "register_agent":
            pass
        data = {"request_id": packet["data"]["request_id"], "agent_id": agent_id}
        operator.send(json.dumps({"packet_type": "agent_details", "subject_id": data["request_id"], "data": data}))
        asking.join(60)
        page_id: str = answers[0].json()["data"]["agent_id"]
        return page_id


def make_architect(run: Run, folder: Path, port: int | str = 0, **flags: Any) -> TaskLocalArchitect:
    folder.mkdir(parents=True, exist_ok=True)
    shared = ModelChatSharedState(world_module=worlds, page_config={"num_turns": 6, "chat_title": "A chat"})
    local = {"_architect_type": "local", "server_type": "node", "hostname": "localhost", "port": str(port), **flags}
    args = OmegaConf.create({"architect": local})
    run.task_run.get_blueprint(args=OmegaConf.create(run.args), shared_state=shared)
    return TaskLocalArchitect(run.db, args, shared, run.task_run, str(folder))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    assert ROUTER_PACKAGES.is_dir(), "the router's packages are needed: run 'make setup' first"
    assert (FRONTEND_DIST / "index.html").is_file(), "the built page is needed: run 'make setup' first"
    folder = tmp_path_factory.mktemp("served")
    architect = make_architect(Run(folder), folder / "build")
    architect.prepare()
    try:
        architect.deploy()
        yield Served(architect)
    finally:
        architect.shutdown()


def settle(*connections: ClientConnection) -> None:
    """Wait until the router has handled what each of these has sent, and each has what the router sent to it by then.

    The router handles a packet when it comes, and answers a ping after everything that came before it on that connection.
    """
    for connection in connections:
        with suppress(ConnectionClosed):
            assert connection.ping(ack_on_close=True).wait(60)


def arrived(connection: ClientConnection, *senders: ClientConnection) -> list[Any]:
    """All packets that the router has sent to a connection by the time it has handled what ``senders`` have sent."""
    settle(*senders, connection)
    found: list[Any] = []
    while True:
        try:
            found.append(json.loads(connection.recv(timeout=0)))
        except (TimeoutError, ConnectionClosed):
            return found


def packets(connection: ClientConnection, kind: str, *senders: ClientConnection) -> list[Any]:
    """Those of a kind among what has :func:`arrived`."""
    return [packet for packet in arrived(connection, *senders) if packet["packet_type"] == kind]


def test_port_zero_stands_for_any_free_one(served: Served) -> None:
    assert served.architect.port not in (None, "0")
    assert requests.get(f"http://{served.base}/is_alive", timeout=60).ok


def test_the_page_and_its_configuration_are_served(served: Served) -> None:
    page = requests.get(f"http://{served.base}/", timeout=60)
    assert page.text == (FRONTEND_DIST / "index.html").read_text(encoding="utf-8")
    config = requests.get(f"http://{served.base}/task_config.json?mephisto_task_version=2.0.3", timeout=60).json()
    assert (config["num_turns"], config["chat_title"]) == (6, "A chat")


def test_nothing_is_written_into_mephistos_own_folder(served: Served) -> None:
    assert not (Path(NODE_SERVER_SOURCE_ROOT) / "node_modules").exists()


def test_the_router_sends_each_packet_once(served: Served) -> None:
    with served.operator() as operator, served.page(served.register(operator, "1")) as page:
        settle(page)
        packet = {"packet_type": "client_bound_live_update", "subject_id": "1", "data": {"text": "Once.", "n": 1}}
        operator.send(json.dumps(packet))
        got = packets(page, "client_bound_live_update", operator)
        with pytest.raises(TimeoutError):  # Mephisto's own router sends a second time after half a second
            page.recv(timeout=1.0)
    assert [packet["data"] for packet in got] == [{"text": "Once.", "n": 1}]


def test_a_packet_that_cannot_be_sent_takes_no_other_along(served: Served) -> None:
    kind = "mephisto_bound_live_update"
    deep = "[" * 100_000 + "]" * 100_000
    with served.operator() as operator:
        page_id = served.register(operator, "2")
        with served.page(page_id) as page:
            page.send(f'{{"packet_type": "{kind}", "subject_id": "{page_id}", "data": {{"text": {deep}}}}}')
            page.send(json.dumps({"packet_type": kind, "subject_id": page_id, "data": {"text": "Good."}}))
            got = packets(operator, kind, page)
    assert [(packet["subject_id"], packet["data"]) for packet in got] == [("2", {"text": "Good."})]


def test_a_page_gets_packets_in_order_whenever_it_connects(served: Served) -> None:
    kind = "client_bound_live_update"
    with served.operator() as operator:
        for number in range(10):
            subject = f"1{number}"
            page_id = served.register(operator, subject)

            def say(n: int, subject: str = subject) -> None:
                operator.send(json.dumps({"packet_type": kind, "subject_id": subject, "data": {"n": n}}))

            for n in range(5):
                say(n)
            with served.page(page_id) as page:
                first = json.loads(page.recv(timeout=60))  # the router knows the socket from now on
                for n in range(5, 10):
                    say(n)
                got = [packet for packet in [first, *arrived(page, operator)] if packet["packet_type"] == kind]
            assert [packet["data"]["n"] for packet in got] == list(range(10))


def test_every_tab_of_a_worker_gets_every_packet(served: Served) -> None:
    kind = "client_bound_live_update"
    with served.operator() as operator:
        page_id = served.register(operator, "3")
        with served.page(page_id) as first, served.page(page_id) as second:
            settle(first, second)
            operator.send(json.dumps({"packet_type": kind, "subject_id": "3", "data": {"n": 1}}))
            assert len(packets(first, kind, operator)) == len(packets(second, kind)) == 1


def test_a_router_that_is_killed_comes_back_for_the_same_pages(mephisto_run: Run, tmp_path: Path) -> None:
    architect = make_architect(mephisto_run, tmp_path / "build")
    architect.prepare()
    architect.deploy()
    try:
        served = Served(architect)
        with served.operator() as operator:
            page_id = served.register(operator, "1")
        first = architect.server_process
        assert first is not None
        first.kill()
        first.wait()
        end = time.monotonic() + 90
        while time.monotonic() < end:
            try:
                if requests.get(f"http://{served.base}/is_alive", timeout=10).ok:
                    break
            except requests.RequestException:
                time.sleep(0.02)
        assert architect.server_process is not first
        with served.operator() as operator, served.page(page_id) as page:
            settle(page)
            packet = {"packet_type": "client_bound_live_update", "subject_id": "1", "data": {"n": 1}}
            operator.send(json.dumps(packet))
            assert len(packets(page, "client_bound_live_update", operator)) == 1
    finally:
        architect.shutdown()


def test_a_router_that_keeps_ending_is_given_up(
    mephisto_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_architect, "MOST_RESTARTS", 1)
    architect = make_architect(mephisto_run, tmp_path / "build")
    architect._starts = deque(maxlen=2)
    architect.prepare()
    architect.deploy()
    try:
        (Path(str(architect.running_dir)) / "server.js").write_text("process.exit(3);\n", encoding="utf-8")
        assert architect.server_process is not None
        architect.server_process.kill()
        end = time.monotonic() + 90
        while not architect.is_lost and time.monotonic() < end:
            time.sleep(0.02)
        assert architect.is_lost
    finally:
        architect.shutdown()


def test_a_port_that_was_taken_meanwhile_is_said_and_nothing_is_left(
    mephisto_run: Run, tmp_path: Path, served: Served
) -> None:
    architect = make_architect(mephisto_run, tmp_path / "build", str(served.architect.port))
    architect.prepare()
    with pytest.raises(ConfigurationError) as error:
        architect.deploy()
    assert str(error.value).startswith(f"{FLAG}: {served.architect.port} can't be used (Address already in use)")
    assert architect.server_process is None
    assert architect.running_dir is None
    architect.shutdown()


def test_a_router_that_does_not_come_up_is_said_with_its_own_words(
    mephisto_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architect = make_architect(mephisto_run, tmp_path / "build")
    built = Path(architect.prepare())
    (built / "server.js").write_text("throw new Error('no such luck');\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"the router did not come up: .*Error: no such luck"):
        architect.deploy()
    assert architect.server_process is None
    assert not Path(str(architect.running_dir)).exists()


def test_no_node_is_said_and_nothing_is_left(
    mephisto_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architect = make_architect(mephisto_run, tmp_path / "build")
    architect.prepare()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError) as error:
        architect.deploy()
    assert str(error.value) == "There is no 'node' on the PATH; install Node.js 20 or newer."
    assert not Path(str(architect.running_dir)).exists()


@pytest.mark.parametrize(
    ("is_checkout", "command"), [(True, "make setup"), (False, "python -m model_chat.scripts.setup_env")]
)
def test_parts_that_are_not_installed_are_said_with_the_command_that_installs_them(
    mephisto_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_checkout: bool, command: str
) -> None:
    monkeypatch.setattr(places, "is_checkout", lambda: is_checkout)
    monkeypatch.setattr(local_architect, "ROUTER_PACKAGES", tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=f"run '{command}' once."):
        make_architect(mephisto_run, tmp_path / "build").prepare()
    monkeypatch.setattr(model_chat_blueprint, "FRONTEND_DIST", tmp_path / "nowhere")
    builder = model_chat_blueprint.ModelChatTaskBuilder(mephisto_run.task_run, OmegaConf.create())
    with pytest.raises(ConfigurationError, match=f"page is not built .*run '{command}' once."):
        builder.build_in_dir(str(tmp_path / "build"))


def test_shutting_down_ends_the_process_and_removes_its_folder_once(mephisto_run: Run, tmp_path: Path) -> None:
    architect = make_architect(mephisto_run, tmp_path / "build")
    architect.prepare()
    architect.deploy()
    process, folder, port = architect.server_process, Path(str(architect.running_dir)), architect.port
    assert process is not None
    architect.cleanup()
    assert not Path(str(architect.server_dir)).exists()
    assert requests.get(f"http://localhost:{port}/is_alive", timeout=60).ok, "it runs from a copy"
    architect.shutdown()
    assert process.poll() is not None
    assert not folder.exists()
    architect.shutdown()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    assert fault_of_port(str(port)) is None


def test_a_router_that_ignores_the_signal_is_killed(
    mephisto_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architect = make_architect(mephisto_run, tmp_path / "build")
    monkeypatch.setattr(local_architect, "STOP_SECONDS", 0.2)
    code = "process.on('SIGTERM', () => {}); console.log('up'); setInterval(() => {}, 1000);"
    process = subprocess.Popen(["node", "-e", code], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    architect.server_process = process
    architect.shutdown()
    assert process.poll() == -9
    process.stdout.close()

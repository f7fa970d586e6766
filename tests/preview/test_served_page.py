"""The preview is served by the task's own router, on this machine, and answers no other site's page."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from model_chat.configuration.hydra import ROOT
from model_chat.errors import ConfigurationError
from model_chat.model_chat_blueprint import FRONTEND_DIST
from model_chat.preview import served_page
from model_chat.preview.operator import Operator
from model_chat.preview.served_page import ServedPage
from model_chat.preview.session import Preview

B = "mephisto.blueprint"
PROVIDER = {"worker_name": "w", "agent_registration_id": "w-chat", "assignment_id": "chat", "provider_type": "mock"}


class Served:
    """A preview with its page and operator."""

    def __init__(self, folder: Path) -> None:
        texts = shutil.copytree(ROOT / "task_config", folder / "texts")
        flags = [f"{B}.task_config_path={texts}", f"{B}.num_turns=1"]
        self.preview = Preview(flags, "Fixed.", True, Console(file=io.StringIO()))
        self.page = ServedPage(folder / "router", 0)
        self.page.show(self.preview.study.shared.page_config, self.preview.state)
        self.page.keep_running()
        self.operator = Operator(self.page.operator_url, self.preview)
        self.preview.send = self.operator.send

    def close(self) -> None:
        self.operator.close()
        self.page.stop()
        self.preview.close()

    def get(self, name: str, **more: Any) -> requests.Response:
        return requests.get(self.page.address + name, timeout=30, **more)

    def post(self, name: str, body: dict[str, Any], **headers: str) -> requests.Response:
        return requests.post(self.page.address + name, json=body, headers=headers, timeout=30)

    def agent_id(self) -> str:
        return str(self.post("request_agent", {"provider_data": PROVIDER}).json()["data"]["agent_id"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("served"))
    yield made
    made.close()


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_page_chats_with_the_studys_own_world_through_the_router(served: Served) -> None:
    page_id = served.agent_id()
    with connect(served.page.address.replace("http", "ws"), proxy=None) as page:

        def send(packet_type: str, data: dict[str, Any]) -> None:
            page.send(json.dumps({"packet_type": packet_type, "subject_id": page_id, "data": data}))

        def receive(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            while True:
                packet = json.loads(page.recv(timeout=30))
                if packet["packet_type"] == "client_bound_live_update" and wanted(packet["data"]):
                    return dict(packet["data"])

        send("alive", {})
        receive(lambda update: update["task_data"].get("control") == "your_turn")
        task_data = {"message_id": "m1", "turn_idx": 0, "problem_data_for_prior_message": {"none_all_good": True}}
        send("mephisto_bound_live_update", {"text": "I like tea.", "update_id": "m1", "task_data": task_data})
        assert receive(lambda update: update["text"] == "I like tea.")["task_data"]["message_id"] == "m1"
        assert receive(lambda update: update["id"] == "Speaker 2")["text"] == "Fixed."
    again = served.post("request_agent", {"provider_data": PROVIDER}).json()["data"]
    assert again["agent_id"] == page_id
    assert "I like tea." in [update["text"] for update in again["init_task_data"]["past_live_updates"]]


@pytest.mark.parametrize("name", ["", "task_config.json", "preview_state.json", "preview.js", "request_agent"])
def test_a_name_of_another_site_that_leads_here_is_not_answered(served: Served, name: str) -> None:
    for host in ("evil.example", f"localhost.evil.example:{served.page.address.rsplit(':', 1)[1].strip('/')}"):
        assert served.get(name, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_another_sites_page_changes_nothing(served: Served, origin: str) -> None:
    agents = dict(served.preview._agents)
    body = {"provider_data": {**PROVIDER, "agent_registration_id": origin}}
    for name in ("request_agent", "submit_onboarding", "submit_task", "log_error"):
        assert served.post(name, body, Origin=origin).status_code == 403
    with pytest.raises(InvalidStatus, match="403"):
        connect(served.page.address.replace("http", "ws"), proxy=None, origin=origin)  # type: ignore[arg-type]  # a string
    assert served.preview._agents == agents


def test_another_site_can_not_read_what_is_served(served: Served) -> None:
    for name in ("", "task_config.json", "preview_state.json", "preview.js"):
        answer = served.get(name)
        assert answer.ok
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"


def test_only_this_machine_is_served(served: Served) -> None:
    port = int(served.page.address.rsplit(":", 1)[1].strip("/"))
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", port))


def test_what_the_page_is_told_changes_with_the_study(served: Served) -> None:
    assert served.get("task_config.json").json()["is_preview"] is True
    served.page.show({"num_turns": 9}, {"version": 7, "faults": ["a fault"], "parts": [""]})
    assert served.get("task_config.json").json() == {"num_turns": 9, "is_preview": True}
    assert served.get("preview_state.json").json()["faults"] == ["a fault"]
    served.page.show(served.preview.study.shared.page_config, served.preview.state)


def test_an_error_report_is_one_printable_line(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        served.post("log_error", {"USED_AGENT_ID": None, "error_data": "\x1b[2J\n" + "x" * 9000})
        eventually(lambda: any("reports an error" in record.getMessage() for record in caplog.records))
    (record,) = [record for record in caplog.records if "reports an error" in record.getMessage()]
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 2100


def test_a_router_that_ends_is_started_again_for_the_same_pages(served: Served) -> None:
    page_id = served.agent_id()
    process = served.page._process
    assert process is not None
    process.kill()
    process.wait()
    served.page.keep_running()
    eventually(lambda: served.operator._connection is not None)
    assert served.agent_id() == page_id


def test_a_new_build_of_the_page_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Path(shutil.copytree(FRONTEND_DIST, tmp_path / "dist"))
    monkeypatch.setattr(served_page, "FRONTEND_DIST", built)
    page = ServedPage(tmp_path / "router", 0)
    page.show({}, {})
    try:
        page.keep_running()
        running = page._process
        page.keep_running()
        assert page._process is running, "nothing has changed"
        (built / "new.js").write_text("// new", encoding="utf-8")
        later = time.time_ns() + 5_000_000_000
        os.utime(built / "index.html", ns=(later, later))
        page.keep_running()
        assert requests.get(f"{page.address}new.js", timeout=30).text == "// new"
        assert requests.get(f"{page.address}preview_state.json", timeout=30).json() == {}
    finally:
        page.stop()
    assert running is not None
    assert running.poll() is not None


@pytest.mark.parametrize("port", [65536, -1])
def test_what_is_no_port_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"--port: {port} can't be used \(it is no port\)"):
        ServedPage(tmp_path / "router", port)


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"--port: {port} can't be used \(Address already in use\)"):
            ServedPage(tmp_path / "router", port)


def test_missing_packages_of_the_router_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_page, "ROUTER_PACKAGES", tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="router's packages are not installed"):
        ServedPage(tmp_path / "router", 0)

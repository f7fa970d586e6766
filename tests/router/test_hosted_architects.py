"""What is sent to EC2 and Heroku: our router with the page, put together by Mephisto's own architects and started as there.

Only what needs an account is stood in for: Amazon's calls and the copying to the server, and Heroku's command, which here
gives git a folder to push to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from mephisto.abstractions.architects import heroku_architect
from mephisto.abstractions.architects.ec2 import ec2_architect
from mephisto.operations.registry import get_architect_from_type
from omegaconf import OmegaConf
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from model_chat import worlds
from model_chat.model_chat_blueprint import FRONTEND_DIST, ModelChatSharedState
from model_chat.router.hosted_architects import TaskEC2Architect, TaskHerokuArchitect
from model_chat.router.local_architect import free_port
from model_chat.router.own_router import ROUTER_SOURCE
from model_chat.tests.mephisto_run import Run
from model_chat.tests.router.test_local_architect import Served, arrived, packets, settle

LIVE, SAID = "mephisto_bound_live_update", "client_bound_live_update"
HEROKU = """#!/bin/sh
case "$1" in
  create) git init -q --bare "$HEROKU_REPOSITORY" && git remote add heroku "$HEROKU_REPOSITORY" ;;
  *) echo "$@" >> "$HEROKU_REPOSITORY.log" ;;
esac
"""


class Hosted(Served):
    """A router that was deployed, and runs on what was sent there."""

    def __init__(self, architect: Any, built: Path, sent: Path, address: str) -> None:
        self.architect = architect
        self.built = built
        self.sent = sent
        self.address = address
        self.port = free_port()
        self.base = f"localhost:{self.port}"

    def on_this_machine(self, url: str) -> str:
        """Where the test finds what stands at an address of the host."""
        return url.replace(self.address.replace("https://", "wss://"), f"ws://{self.base}")

    @contextmanager
    def operator(self) -> Iterator[ClientConnection]:
        (url,) = self.architect._get_socket_urls()
        with connect(self.on_this_machine(url), max_queue=None) as connection:
            connection.send(json.dumps({"packet_type": "alive", "subject_id": "mephisto", "data": {}}))
            yield connection

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start it as the host does, with nothing of ours in its environment."""
        # In place of 'npm install' there.
        (self.sent / "node_modules").symlink_to(ROUTER_SOURCE / "node_modules", target_is_directory=True)
        environment = {"PATH": os.environ["PATH"], "PORT": str(self.port)}
        with subprocess.Popen(["node", "server.js"], cwd=self.sent, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert b"Listening" in process.stdout.readline()
            try:
                yield
            finally:
                process.kill()


def architect_on(kind: str, folder: Path, **settings: Any) -> Any:
    run = Run(folder / "data")
    shared = ModelChatSharedState(world_module=worlds, page_config={"num_turns": 6, "chat_title": "A chat"})
    args = OmegaConf.create({"architect": {"_architect_type": kind, "server_type": "node", **settings}})
    run.task_run.get_blueprint(args=OmegaConf.create(run.args), shared_state=shared)
    (folder / "build").mkdir()
    return get_architect_from_type(kind)(run.db, args, shared, run.task_run, str(folder / "build"))


def on_ec2(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    (folder / "servers").mkdir(parents=True)
    (folder / "data").mkdir()
    fallback = folder / "servers" / "fallback.json"
    vpc = {"subnet_1_id": "s", "vpc_id": "v"}
    details = {"domain": "study.example", "key_pair_name": "k", "security_group_id": "g", "vpc_details": vpc}
    fallback.write_text(json.dumps({**details, "listener_arn": "l"}), encoding="utf-8")
    credentials = folder / "credentials"
    credentials.write_text("[router]\naws_access_key_id = none\naws_secret_access_key = none\n", encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setattr(ec2_architect, "DEFAULT_FALLBACK_FILE", str(fallback))
    monkeypatch.setattr(ec2_architect, "DEFAULT_SERVER_DETAIL_LOCATION", str(folder / "servers"))
    helpers = ec2_architect.ec2_helpers
    monkeypatch.setattr(helpers, "create_instance", lambda *args, **more: "instance")
    monkeypatch.setattr(helpers, "register_instance_to_listener", lambda *args: ("group", "rule"))
    monkeypatch.setattr(
        helpers,
        "deploy_to_routing_server",
        lambda session, server, key, push: shutil.copytree(Path(push).parent, folder / "sent"),
    )
    return architect_on("ec2", folder, subdomain="study_1", profile_name="router", instance_type="t2.micro", **settings)


def on_heroku(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    command = folder / "heroku-cli-1" / "bin" / "heroku"
    command.parent.mkdir(parents=True)
    (folder / "data").mkdir()
    command.write_text(HEROKU, encoding="utf-8")
    command.chmod(0o700)
    netrc = folder / ".netrc"
    netrc.write_text("machine api.heroku.com\n  login me\n  password none\n", encoding="utf-8")
    netrc.chmod(0o600)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "me")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "me@study.example")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("HEROKU_REPOSITORY", str(folder / "pushed.git"))
    monkeypatch.setattr(heroku_architect, "HEROKU_TMP_DIR", str(folder))
    monkeypatch.setattr(heroku_architect, "HEROKU_WAIT_TIME", 0)
    return architect_on("heroku", folder, heroku_app_name="study-1", heroku_config_args={}, use_hobby=False, **settings)


@pytest.fixture(scope="module", params=["ec2", "heroku"])
def hosted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as monkeypatch:
        architect = (on_ec2 if request.param == "ec2" else on_heroku)(folder, monkeypatch)
        built = Path(architect.prepare())
        address = architect.deploy()
    if request.param == "ec2":
        sent = folder / "sent" / "routing_server" / "router"
    else:
        sent = folder / "sent"
        subprocess.run(["git", "clone", "-q", "-b", "main", str(folder / "pushed.git"), str(sent)], check=True)
    server = Hosted(architect, built, sent, address)
    with server.running():
        yield server


def test_mephisto_takes_ours_for_its_own() -> None:
    assert get_architect_from_type("ec2") is TaskEC2Architect
    assert get_architect_from_type("heroku") is TaskHerokuArchitect


def test_the_page_is_served_with_the_headers_of_our_router(hosted: Hosted) -> None:
    page = requests.get(f"http://{hosted.base}/", timeout=60)
    assert page.text == (FRONTEND_DIST / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    config = requests.get(f"http://{hosted.base}/task_config.json", timeout=60).json()
    assert (config["num_turns"], config["chat_title"]) == (6, "A chat")
    assert requests.get(f"http://{hosted.base}/wrap_crowd_source.js", timeout=60).ok


def test_the_run_script_and_a_worker_reach_each_other(hosted: Hosted) -> None:
    assert hosted.architect._get_socket_urls()[0].startswith(f"{hosted.address.replace('https', 'wss')}/operator/")
    with hosted.operator() as operator:
        page_id = hosted.register(operator, "7")
        with hosted.page(page_id) as page:
            page.send(json.dumps({"packet_type": LIVE, "subject_id": page_id, "data": {"text": "Hi."}}))
            assert [packet["subject_id"] for packet in packets(operator, LIVE, page)] == ["7"]
            operator.send(json.dumps({"packet_type": SAID, "subject_id": "7", "data": {"text": "Hello."}}))
            assert [packet["data"] for packet in packets(page, SAID, operator)] == [{"text": "Hello."}]


def test_strangers_hear_say_and_hand_in_nothing(hosted: Hosted) -> None:
    with hosted.operator() as operator:
        page_id = hosted.register(operator, "7")
        for guess in ("7", "mephisto", page_id[:-1], f"8{page_id[1:]}"):
            with connect(f"ws://{hosted.base}/") as attacker:
                attacker.send(json.dumps({"packet_type": "alive", "subject_id": guess, "data": {}}))
                attacker.send(json.dumps({"packet_type": LIVE, "subject_id": guess, "data": {"text": "forged"}}))
                settle(attacker)
                operator.send(json.dumps({"packet_type": SAID, "subject_id": "7", "data": {"text": "private"}}))
                assert arrived(attacker, operator) == []
            body = {"USED_AGENT_ID": guess, "final_data": {}}
            assert requests.post(f"http://{hosted.base}/submit_task", json=body, timeout=60).status_code == 403
        assert packets(operator, LIVE) == []
        for path in ("operator/", f"operator/{'A' * 32}"):
            with pytest.raises(InvalidStatus):
                connect(f"ws://{hosted.base}/{path}")


def test_the_key_is_sent_to_the_server_and_to_nobody_else(hosted: Hosted) -> None:
    settings = hosted.sent / "router.json"
    key = json.loads(settings.read_bytes())["key"]
    assert len(key) >= 32
    holders = [file for file in hosted.sent.rglob("*") if file.is_file() and "node_modules" not in file.parts]
    assert [file.name for file in holders if ".git" not in file.parts and key.encode() in file.read_bytes()] == [
        "router.json"
    ]
    for path in ("router.json", "../router.json", ".git/config", "server.js", "setup/init_server.sh"):
        assert requests.get(f"http://{hosted.base}/{path}", timeout=60).status_code == 404
    assert (hosted.built / "router.json").stat().st_mode & 0o077 == 0
    assert not (hosted.built / "node_modules").exists()


def test_an_address_that_floods_shuts_out_no_other(hosted: Hosted) -> None:
    def report(seen_from: str) -> None:
        headers = {"X-Forwarded-For": seen_from}  # the host's proxy writes the last address, others may be anything
        requests.post(f"http://{hosted.base}/log_error", json={"error_data": seen_from}, headers=headers, timeout=60)

    with hosted.operator() as operator:
        for number in range(40):
            report(f"forged-{number}, 203.0.113.5")
        report("203.0.113.6")
        texts = [packet["data"]["text"] for packet in packets(operator, "log_error")]
    assert 0 < sum("203.0.113.5" in text for text in texts) <= 25
    assert sum("203.0.113.6" in text for text in texts) == 1


def test_what_was_built_goes_and_no_file_is_fetched(hosted: Hosted) -> None:
    with pytest.raises(ValueError, match="none has uploaded"):
        hosted.architect.download_file("../../etc/passwd", "/tmp")
    hosted.architect.cleanup()
    assert not hosted.built.exists()


def test_a_router_of_the_requesters_own_is_sent_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    (own / "static").mkdir(parents=True)
    (own / "server.js").write_text("// mine\n", encoding="utf-8")
    architect = on_ec2(tmp_path / "ec2", monkeypatch, server_source_path=str(own))
    built = Path(architect.prepare())
    assert (built / "server.js").read_text(encoding="utf-8") == "// mine\n"
    assert not (built / "router.json").exists()
    assert architect._get_socket_urls() == ["wss://study-1.study.example/"]

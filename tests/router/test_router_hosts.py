"""By which names and from which networks the router is reached, and which files it serves."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from model_chat.router.addresses import faults_of_addresses
from model_chat.tests.mephisto_run import Run
from model_chat.tests.router.running_router import everything_from, exchange, raw, router, url
from model_chat.tests.router.test_local_architect import Served, make_architect


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    hosts = "study.example.org, .lab.example"
    with router(tmp_path_factory.mktemp("named"), hostname="own.example", allowed_hosts=hosts) as running:
        running.base = f"127.0.0.1:{running.architect.port}"
        yield running


def ask_as(served: Served, host: str) -> int:
    headers = {"Host": host} if host else {}
    status = requests.get(url(served, "is_alive"), headers=headers, timeout=60).status_code
    posted = requests.post(url(served, "request_agent"), json={}, headers=headers, timeout=60).status_code
    assert posted == (400 if status == 200 else status)
    head = (
        f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    )
    with raw(served) as connection:
        connection.sendall(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        line = connection.recv(100).split(b"\r\n")[0]
    assert line.startswith(b"HTTP/1.1 101" if status == 200 else b"HTTP/1.1 421")
    return status


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "study.example.org.evil.example",
        "xlab.example",
        "lab.example",
        "1.2.3.4.evil.io",
    ],
)
def test_another_name_for_this_machine_gets_nothing(named: Served, host: str) -> None:
    assert ask_as(named, host) == 421
    assert ask_as(named, f"{host}:{named.architect.port}") == 421


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1",
        "[::1]:3000",
        "192.0.2.7:99",
        "own.example",
        "study.example.org",
        "Study.Example.org.",
        "a.b.lab.example",
    ],
)
def test_names_that_are_allowed_and_addresses_are_answered(named: Served, host: str) -> None:
    assert ask_as(named, host) == 200


def test_a_request_names_exactly_one_host(named: Served) -> None:
    for hosts in (
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: \r\n",
        "Host: local host\r\n",
        "Host: a@localhost\r\n",
    ):
        answer = exchange(named, f"GET /is_alive HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
        assert answer.split()[1] in (b"400", b"421"), hosts


def test_it_listens_on_this_machine_only_unless_told_otherwise(tmp_path: Path) -> None:
    with router(tmp_path / "one") as served:
        with raw(served, "127.0.0.1"):
            pass
        with pytest.raises(ConnectionRefusedError), raw(served, "127.0.0.2"):
            pass
    with router(tmp_path / "all", bind_address="0.0.0.0") as served, raw(served, "127.0.0.2") as connection:
        connection.sendall(f"GET /is_alive HTTP/1.1\r\nHost: {served.base}\r\nConnection: close\r\n\r\n".encode())
        assert everything_from(connection).startswith(b"HTTP/1.1 200")
        with served.operator() as operator:
            assert served.register(operator, "1")


def test_the_run_script_connects_on_this_machine_whatever_the_hosts_name(named: Served) -> None:
    assert named.architect._get_socket_urls()[0].startswith(f"ws://127.0.0.1:{named.architect.port}/operator/")
    with named.operator() as operator:
        assert named.register(operator, "1")


def test_the_folder_is_the_accounts_alone(named: Served) -> None:
    folder = Path(str(named.architect.running_dir))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_symbolic_links_and_hidden_files_are_not_served(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("private", encoding="utf-8")
    architect = make_architect(Run(tmp_path), tmp_path / "build")
    static = Path(architect.prepare()) / "static"
    (static / "link.txt").symlink_to(secret)
    (static / "folder").symlink_to(tmp_path)
    (static / ".hidden").write_text("private", encoding="utf-8")
    (static / "plain.txt").write_text("public", encoding="utf-8")
    architect.deploy()
    try:
        served = Served(architect)
        for path in (
            "link.txt",
            "folder/secret.txt",
            "folder/",
            ".hidden",
            "%2ehidden",
            "link%2etxt",
            "plain.txt/../link.txt",
        ):
            assert requests.get(url(served, path), timeout=60).status_code == 404, path
        assert requests.get(url(served, "plain.txt"), timeout=60).text == "public"
        assert requests.get(url(served, ""), timeout=60).ok
    finally:
        architect.shutdown()


@pytest.mark.parametrize(
    ("flags", "faults"),
    [
        ({}, []),
        (
            {"bind_address": "0.0.0.0", "allowed_hosts": "a.example,.b.example,*,localhost", "trusted_proxies": "::1"},
            [],
        ),
        ({"trusted_proxies": "10.0.0.0/8, 192.168.1.7"}, []),
        ({"bind_address": "localhost"}, ["bind_address: 'localhost' is not an IP address"]),
        ({"bind_address": "fe80::1%eth0"}, ["bind_address: 'fe80::1%eth0' is not an IP address"]),
        ({"allowed_hosts": "https://a.example"}, ["allowed_hosts: 'https://a.example' is not a host name"]),
        ({"allowed_hosts": "a.example:443"}, ["allowed_hosts: 'a.example:443' is not a host name"]),
        ({"trusted_proxies": "proxy.example"}, ["trusted_proxies: 'proxy.example' is neither"]),
        (
            {"trusted_proxies": "10.0.0.0/33,*"},
            ["trusted_proxies: '10.0.0.0/33' is neither", "trusted_proxies: '*' is"],
        ),
    ],
)
def test_faults_of_addresses_are_all_said(flags: dict[str, str], faults: list[str]) -> None:
    found = faults_of_addresses(flags)  # type: ignore[arg-type]  # a mapping is what it needs
    assert len(found) == len(faults)
    for sentence, beginning in zip(found, faults, strict=True):
        assert sentence.startswith(f"mephisto.architect.{beginning}")

"""The page behind a reverse proxy: what the proxy passes on is answered, whatever else comes is refused, over the wire."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from omegaconf import OmegaConf
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from model_chat.errors import ConfigurationError
from model_chat.model_chat_blueprint import FRONTEND_DIST
from model_chat.router.addresses import faults_of_addresses
from model_chat.router.local_architect import TaskLocalArchitectArgs
from model_chat.router.public_address import parse_public_url
from model_chat.tests.router.running_router import asks_for_work, hears_from, live, router
from model_chat.tests.router.test_local_architect import Served

PUBLIC = "https://study.lab.example/pets/"
HOST, ORIGIN = "study.lab.example", "https://study.lab.example"
MODES = pytest.mark.parametrize("prefix", ["/pets/", "/"], ids=["the proxy passes the path on", "the proxy strips it"])
FLAG = "mephisto.architect.public_url"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with router(tmp_path_factory.mktemp("public"), public_url=PUBLIC) as running:
        running.base = f"127.0.0.1:{running.architect.port}"
        yield running


def get(served: Served, path: str, host: str = HOST, **more: Any) -> requests.Response:
    """What the proxy gets for a path, with the Host header of the browser."""
    return requests.get(f"http://{served.base}{path}", headers={"Host": host}, timeout=60, **more)


def post(served: Served, path: str, body: Any, host: str = HOST, origin: str | None = ORIGIN) -> requests.Response:
    headers = {"Host": host} if origin is None else {"Host": host, "Origin": origin}
    return requests.post(f"http://{served.base}{path}", json=body, headers=headers, timeout=60)


def open_socket(served: Served, path: str, host: str = HOST, origin: str | None = ORIGIN) -> ClientConnection:
    """A page's socket as a proxy passes it on: the connection is to this machine, the names are the browser's."""
    connection = socket.create_connection(("127.0.0.1", int(str(served.architect.port))), 10)
    return connect(f"ws://{host}{path}", sock=connection, origin=origin)  # type: ignore[arg-type]  # it takes a string


def refusal(served: Served, path: str, **names: Any) -> int:
    """The status with which a socket is refused; 101: it is not."""
    try:
        with open_socket(served, path, **names):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


# --- what the proxy passes on ---


@MODES
def test_page_files_requests_and_socket_work_below_the_prefix(served: Served, prefix: str) -> None:
    page = get(served, f"{prefix}?worker_id=me&assignment_id=1")
    assert page.text == (FRONTEND_DIST / "index.html").read_text(encoding="utf-8")
    files = [part.removeprefix("./") for part in page.text.split('"') if part.startswith("./")]
    assert any(file.startswith("assets/") for file in files)
    for file in [*files, "wrap_crowd_source.js", "task_config.json"]:
        answer = get(served, prefix + file)
        assert answer.ok, file
        is_asset = file.startswith("assets/")
        assert answer.headers["Cache-Control"] == ("public, max-age=31536000, immutable" if is_asset else "no-store")
    with served.operator() as operator:
        answers: list[requests.Response] = []
        body = asks_for_work("w", prefix)
        asking = threading.Thread(target=lambda: answers.append(post(served, f"{prefix}request_agent", body)))
        asking.start()
        while (packet := json.loads(operator.recv(timeout=60)))["packet_type"] != "register_agent":
            pass
        data = {"request_id": packet["data"]["request_id"], "agent_id": "5"}
        operator.send(json.dumps({"packet_type": "agent_details", "subject_id": data["request_id"], "data": data}))
        asking.join(60)
        page_id = answers[0].json()["data"]["agent_id"]
        with open_socket(served, prefix) as web_socket:
            web_socket.send(json.dumps({"packet_type": "alive", "subject_id": page_id, "data": {}}))
            web_socket.send(live(page_id, {"text": "from below"}))
            assert hears_from(operator, "5", "from below")
    assert post(served, f"{prefix}log_error", {"error_data": {}}).ok


def test_the_page_has_no_address_that_begins_at_the_root() -> None:
    text = (FRONTEND_DIST / "index.html").read_text(encoding="utf-8")
    assert 'src="/' not in text
    assert 'href="/' not in text
    scripts = "".join(file.read_text(encoding="utf-8") for file in FRONTEND_DIST.glob("assets/*.css"))
    assert "url(/" not in scripts


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        ("/pets", "/pets/"),
        ("/pets?worker_id=me&assignment_id=a%2Fb", "/pets/?worker_id=me&assignment_id=a%2Fb"),
        ("/pets?//evil.example", "/pets/?//evil.example"),
    ],
)
def test_an_address_without_the_last_slash_leads_to_the_page_with_its_query(
    served: Served, asked: str, location: str
) -> None:
    answer = get(served, asked, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (308, location)


@pytest.mark.parametrize("path", ["/petsx", "/pets/petsx", "/Pets/", "/pets.html", "/pets//", "/pet", "/pets/%2e%2e/x"])
def test_paths_beside_the_prefix_are_not_found(served: Served, path: str) -> None:
    answer = get(served, path, allow_redirects=False)
    assert answer.status_code == 404
    assert "Location" not in answer.headers


def test_the_policy_allows_encrypted_sockets_of_the_public_host_alone(served: Served) -> None:
    policy = get(served, "/pets/").headers["Content-Security-Policy"]
    assert "connect-src 'self' wss://study.lab.example;" in policy
    assert "ws://" not in policy


# --- hosts ---


def statuses(served: Served, host: str) -> set[int]:
    """How the page, a request and a socket are answered under a Host header."""
    return {
        get(served, "/pets/", host).status_code,
        post(served, "/pets/log_error", {"error_data": {}}, host).status_code,
        refusal(served, "/pets/", host=host),
    }


@pytest.mark.parametrize(
    "host", ["study.lab.example", "Study.Lab.Example", "study.lab.example.", "study.lab.example:443"]
)
def test_the_public_host_is_answered(served: Served, host: str) -> None:
    assert get(served, "/pets/", host).ok
    assert post(served, "/pets/log_error", {"error_data": {}}, host).ok
    assert refusal(served, "/pets/", host=host) == 101


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "192.0.2.7",
        "evil.example",
        "lab.example",
        "x.study.lab.example",
        "study.lab.example.evil.example",
        "study.lab.example:8443",
        "study.lab.example:3000",
    ],
)
def test_any_other_host_is_refused_with_the_remedy(served: Served, host: str) -> None:
    assert statuses(served, host) == {421}
    assert "A reverse proxy must pass the Host header on" in get(served, "/pets/", host).text


def test_a_port_of_the_public_address_belongs_to_its_host(tmp_path: Path) -> None:
    with router(tmp_path / "port", public_url="https://Study.Lab.Example:8443") as served:
        served.base = f"127.0.0.1:{served.architect.port}"
        assert get(served, "/", "study.lab.example:8443").ok
        assert get(served, "/", "study.lab.example").ok  # nginx's $host leaves the port out
        assert get(served, "/", "study.lab.example:443").status_code == 421
        policy = get(served, "/", "study.lab.example:8443").headers["Content-Security-Policy"]
        assert "connect-src 'self' wss://study.lab.example:8443;" in policy
        assert post(served, "/log_error", {"error_data": {}}, "study.lab.example:8443", ORIGIN).status_code == 403
        own = "https://study.lab.example:8443"
        assert post(served, "/log_error", {"error_data": {}}, "study.lab.example:8443", own).ok


# --- origins ---


@MODES
@pytest.mark.parametrize(
    "origin",
    [
        "http://study.lab.example",
        "https://study.lab.example:8443",
        "https://evil.example",
        "https://x.study.lab.example",
        "https://study.lab.example.evil.example",
        "https://localhost",
        "null",
    ],
)
def test_other_sites_and_the_unencrypted_page_are_refused(served: Served, prefix: str, origin: str) -> None:
    assert post(served, f"{prefix}log_error", {"error_data": {}}, origin=origin).status_code == 403
    assert refusal(served, prefix, origin=origin) == 403


def test_a_program_that_names_no_site_is_answered(served: Served) -> None:
    assert post(served, "/pets/log_error", {"error_data": {}}, origin=None).ok
    assert refusal(served, "/pets/", origin=None) == 101


@MODES
def test_nobody_becomes_the_operator_through_the_proxy(served: Served, prefix: str) -> None:
    assert refusal(served, f"{prefix}operator/{'A' * 32}", origin=None) == 403
    (own,) = served.architect._get_socket_urls()
    path = "/" + own.split("/", 3)[3]
    assert refusal(served, prefix + path[1:]) == 403  # a page, should it have got hold of the address


# --- addresses ---


def test_limits_count_for_the_address_that_the_proxy_on_this_machine_reports(tmp_path: Path) -> None:
    limits = {"requestsAtOnce": 1, "requestsPerSecond": 0.001}

    def status(served: Served, forwarded: str) -> int:
        headers = {"Host": HOST, "X-Forwarded-For": forwarded}
        address = f"http://127.0.0.1:{served.architect.port}/pets/request_agent"
        return requests.post(address, json={}, headers=headers, timeout=60).status_code

    with router(tmp_path / "here", limits, public_url=PUBLIC) as served:
        assert [status(served, f"203.0.113.{n}") for n in (1, 2, 2)] == [400, 400, 429]
    # Given, the list of proxies is taken as it is.
    with router(tmp_path / "there", limits, public_url=PUBLIC, trusted_proxies="10.1.2.3,::1") as served:
        assert [status(served, f"203.0.113.{n}") for n in (1, 2)] == [400, 429]


# --- health ---


def health(served: Served, path: str = "/healthz", host: str = "127.0.0.1") -> tuple[int, Any]:
    answer = get(served, path, host)
    return answer.status_code, answer.json() if "json" in answer.headers["Content-Type"] else None


GONE = (503, {"status": "unavailable", "router": True, "operator": False})
HERE = (200, {"status": "ok", "router": True, "operator": True})


def test_health_says_whether_the_run_is_connected_and_nothing_else(tmp_path: Path) -> None:
    with router(tmp_path / "health", public_url=PUBLIC) as served:
        served.base = f"127.0.0.1:{served.architect.port}"
        assert health(served) == GONE
        with served.operator() as operator:
            assert served_health_becomes(served, HERE)
            assert health(served, "/pets/healthz", HOST) == health(served, "/healthz", HOST) == HERE
            answer = get(served, "/healthz", "localhost")
            assert answer.headers["Cache-Control"] == "no-store"
            assert requests.head(f"http://{served.base}/healthz", headers={"Host": HOST}, timeout=60).ok
            operator.close()
        assert served_health_becomes(served, GONE)
        assert health(served, host="evil.example")[0] == 421
        assert get(served, "/is_alive", "127.0.0.1").ok


def served_health_becomes(served: Served, wanted: tuple[int, Any]) -> bool:
    """Whether the router soon reports this; opening and closing a socket take their time."""
    return any(health(served) == wanted for _ in range(200))


def test_a_run_that_has_fallen_silent_is_not_healthy(tmp_path: Path) -> None:
    with router(tmp_path / "silent", {"secondsOperatorSilent": 0.2}) as served, served.operator() as operator:
        assert served_health_becomes(served, GONE)
        operator.send(json.dumps({"packet_type": "alive", "subject_id": "mephisto", "data": {}}))
        assert served_health_becomes(served, HERE)


# --- the flag ---


@pytest.mark.parametrize(
    ("text", "url", "origin"),
    [
        ("https://study.lab.edu/pets/", "https://study.lab.edu/pets/", "https://study.lab.edu"),
        ("https://study.lab.edu/pets", "https://study.lab.edu/pets/", "https://study.lab.edu"),
        ("HTTPS://Study.Lab.EDU:443", "https://study.lab.edu/", "https://study.lab.edu"),
        (
            "https://study.lab.edu:8443/a/b-c_d.e~f/",
            "https://study.lab.edu:8443/a/b-c_d.e~f/",
            "https://study.lab.edu:8443",
        ),
        ("https://prüfung.uni.de/", "https://xn--prfung-4ya.uni.de/", "https://xn--prfung-4ya.uni.de"),
        ("https://192.0.2.7/", "https://192.0.2.7/", "https://192.0.2.7"),
        ("https://[2001:DB8::1]:8443/x/", "https://[2001:db8::1]:8443/x/", "https://[2001:db8::1]:8443"),
        ("http://localhost:8080/pets/", "http://localhost:8080/pets/", "http://localhost:8080"),
        ("http://127.0.0.1/", "http://127.0.0.1/", "http://127.0.0.1"),
        ("http://[::1]:80/", "http://[::1]/", "http://[::1]"),
    ],
)
def test_a_public_address_is_read_as_browsers_write_it(text: str, url: str, origin: str) -> None:
    address = parse_public_url(text)
    assert (address.url, address.origin) == (url, origin)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("study.lab.edu", ["does not begin with https://"]),
        ("ftp://study.lab.edu/", ["does not begin with https://"]),
        ("http://study.lab.edu/", ["is not encrypted"]),
        ("http://localhost.evil.edu/", ["is not encrypted"]),
        ("https:///pets/", ["names no host"]),
        ("https://study.lab.edu/?a=1", ["has a query or a fragment"]),
        ("https://study.lab.edu/?", ["has a query or a fragment"]),
        ("https://study.lab.edu/#x", ["has a query or a fragment"]),
        ("https://me:hidden@study.lab.edu/", ["has a user name or a password"]),
        ("https://@study.lab.edu/", ["has a user name or a password"]),
        (" https://study.lab.edu/", ["has a space or a line break"]),
        ("https://study.lab.edu/a b/", ["has a space or a line break"]),
        ("https://study.lab.edu/\n", ["has a space or a line break"]),
        ("https://*.lab.edu/", ["has a wildcard"]),
        ("https://*/", ["has a wildcard"]),
        ("https://-lab.edu/", ["is no host name"]),
        ("https://lab..edu/", ["is no host name"]),
        ("https://study.lab.edu./", ["is no host name"]),
        ("https://1.2.3/", ["is no host name"]),
        ("https://study;x.edu/", ["is no host name"]),
        ("https://[::1/", ["is no address"]),
        ("https://study.lab.edu:99999/", ["is no address"]),
        ("https://study.lab.edu:x/", ["is no address"]),
        ("https://study.lab.edu:0/", ["has no usable port"]),
        ("https://study.lab.edu:/", ["has no usable port"]),
        ("https://study.lab.edu//pets/", ["is not plain"]),
        ("https://study.lab.edu/a/../b/", ["is not plain"]),
        ("https://study.lab.edu/./", ["is not plain"]),
        ("https://study.lab.edu/%70ets/", ["is not plain"]),
        ("https://study.lab.edu/pêts/", ["is not plain"]),
        ("https://study.lab.edu/a;b/", ["is not plain"]),
        ("https://study.lab.edu/assets/", ["is the router's own"]),
        ("https://study.lab.edu/operator", ["is the router's own"]),
        (
            "http://me@*.lab.edu:0//x/?q",
            [
                "is not encrypted",
                "has a user name",
                "has a query",
                "has a wildcard",
                "has no usable port",
                "is not plain",
            ],
        ),
    ],
)
def test_each_fault_of_a_public_address_is_said(text: str, faults: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_public_url(text)
    assert len(error.value.faults) == len(faults), error.value.faults
    for sentence, words in zip(error.value.faults, faults, strict=True):
        assert sentence.startswith(f"{FLAG}: ")
        assert words in sentence
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "faults"),
    [
        ({}, []),
        ({"allowed_hosts": HOST, "hostname": HOST}, []),
        ({"bind_address": "127.0.0.1", "trusted_proxies": "127.0.0.1"}, []),
        ({"bind_address": "::1", "trusted_proxies": "10.0.0.5, ::1"}, []),
        ({"bind_address": "0.0.0.0", "trusted_proxies": "10.0.0.5"}, []),
        ({"allowed_hosts": "*"}, ["allowed_hosts: '*' is not the host of"]),
        ({"allowed_hosts": f"{HOST},.lab.example"}, ["allowed_hosts: '.lab.example' is not the host of"]),
        ({"hostname": "other.example"}, ["hostname: 'other.example' is not the host of"]),
        ({"hostname": f"https://{HOST}"}, []),
        ({"server_source_path": "/own/router"}, ["server_source_path: only the router that ships knows"]),
        ({"bind_address": "0.0.0.0"}, ["trusted_proxies: is empty"]),
        ({"bind_address": "10.0.0.4"}, ["trusted_proxies: is empty"]),
        ({"trusted_proxies": "10.0.0.5"}, ["bind_address: 127.0.0.1 is for this machine alone"]),
        ({"trusted_proxies": "proxy.example"}, ["trusted_proxies: 'proxy.example' is neither"]),
        ({"bind_address": "x"}, ["bind_address: 'x' is not an IP address"]),
        (
            {"public_url": "http://study.lab.example/?", "bind_address": "0.0.0.0"},
            ["public_url: 'http://study", "public_url: 'http://study", "trusted_proxies: is empty"],
        ),
    ],
)
def test_flags_that_contradict_the_public_address_are_said(flags: dict[str, str], faults: list[str]) -> None:
    defaults = OmegaConf.structured(TaskLocalArchitectArgs)
    found = faults_of_addresses(OmegaConf.merge(defaults, {"public_url": PUBLIC, **flags}))  # type: ignore[arg-type]  # a union
    assert len(found) == len(faults), found
    for sentence, beginning in zip(found, faults, strict=True):
        assert sentence.startswith(f"mephisto.architect.{beginning}")


def test_the_launch_gives_out_the_public_address(served: Served) -> None:
    assert served.architect.page_url == PUBLIC

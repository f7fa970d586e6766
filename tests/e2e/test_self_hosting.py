"""The page behind a real reverse proxy with TLS, as deploy/ sets it up: in Chromium, through Caddy and nginx."""

from __future__ import annotations

import contextlib
import re
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from model_chat.tests import preloaded
from model_chat.tests.e2e.browser import Received, chromium
from model_chat.tests.e2e.reverse_proxy import caddy, find_nginx, running
from model_chat.tests.e2e.running_task import ROOT, RunningTask
from model_chat.tests.e2e.test_browser import NO_ANNOTATION, messages, rate_and_submit, say, wait_for_messages
from model_chat.tests.ports import own_port

Start = Callable[..., RunningTask]
STRIPPING = """{
	admin off
	skip_install_trust
	http_port {$HTTP_PORT}
	https_port {$HTTPS_PORT}
}
{$DOMAIN} {
	redir /pets /pets/?{query} 308
	handle_path /pets/* {
		reverse_proxy {$PETS}
	}
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


class Ports:
    """The ports of a proxy, as deploy/'s files take them from the environment."""

    def __init__(self) -> None:
        self.http, self.https = own_port(), own_port()
        self.origin = f"https://localhost:{self.https}"

    def variables(self, **upstreams: RunningTask) -> dict[str, str]:
        ports = {"DOMAIN": "localhost", "HTTP_PORT": str(self.http), "HTTPS_PORT": str(self.https)}
        return {**ports, **{name: f"127.0.0.1:{task.port}" for name, task in upstreams.items()}}


def link_of(task: RunningTask) -> str:
    """The worker's link that the run has printed."""
    (link,) = re.findall(r"Chat as a worker: +(\S+)", task.log)
    return str(link)


def chat_in_chromium(browser: Browser, link: str) -> None:
    """Go from the link to the submitted work, with a reload in the middle; nothing is blocked or refused on the way."""
    context = browser.new_context(ignore_https_errors=True)
    received = Received(context)
    sockets: list[str] = []
    page = context.new_page()
    page.on("websocket", lambda web_socket: sockets.append(web_socket.url))
    page.goto(link)
    wait_for_messages(page, 2)
    page.get_by_test_id("composer").fill("A draft that outlives a reload")
    page.reload()
    wait_for_messages(page, 2)
    expect(page.get_by_test_id("composer")).to_have_value("A draft that outlives a reload")
    say(page, "Encrypted all the way.")
    rate_and_submit(page, 4)
    assert received.console == []
    address = urlsplit(link)
    assert len(sockets) >= 2
    assert {urlsplit(url)._replace(query="").geturl() for url in sockets} == {f"wss://{address.netloc}{address.path}"}
    context.close()


def test_a_worker_goes_through_caddy_from_the_printed_link_to_the_submission(
    browser: Browser, start_task: Start, tmp_path: Path
) -> None:
    ports = Ports()
    task = start_task(
        f"mephisto.architect.public_url={ports.origin}/studies/pets/",
        f"mephisto.blueprint.metrics_port={(metrics := own_port())}",
        "mephisto.blueprint.num_turns=1",
        NO_ANNOTATION,
        needed="a:2",
    )
    link = link_of(task)
    assert link == f"{ports.origin}/studies/pets/?worker_id=me&assignment_id=1"
    with caddy(tmp_path / "caddy", ROOT / "deploy/Caddyfile", ports.https, ports.variables(UPSTREAM=task)) as root:
        trusting = ssl.create_default_context(cafile=str(root))
        with httpx.Client(verify=trusting, trust_env=False, timeout=60) as http:
            refused_and_answered_through_the_proxy(http, trusting, ports, task)
            plain = http.get(f"http://localhost:{ports.http}/studies/pets/?worker_id=x")
            assert plain.status_code == 308
            assert plain.headers["Location"].startswith("https://localhost")
            assert plain.headers["Location"].endswith("/studies/pets/?worker_id=x")
            bare = http.get(f"{ports.origin}/studies/pets?worker_id=x", follow_redirects=False)
            assert (bare.status_code, bare.headers["Location"]) == (308, "/studies/pets/?worker_id=x")
            assert http.get(f"{ports.origin}/studies/pets/healthz").json()["status"] == "ok"
        chat_in_chromium(browser, link)
        shown = httpx.get(f"http://127.0.0.1:{metrics}/metrics", trust_env=False, timeout=60).text
        assert 'model_chat_reply_seconds_count{model="a"} 2.0' in shown
        assert "worker_id" not in shown
    assert len(task.conversations()) == 1


def refused_and_answered_through_the_proxy(
    http: httpx.Client, trusting: ssl.SSLContext, ports: Ports, task: RunningTask
) -> None:
    """Pages of the public origin are answered; others, and whoever asks the router itself, are refused."""
    page = f"{ports.origin}/studies/pets/"
    for origin, status in (
        (ports.origin, 200),
        ("https://evil.example", 403),
        (ports.origin.replace("https", "http"), 403),
    ):
        answer = http.post(f"{page}log_error", json={"error_data": {}}, headers={"Origin": origin})
        assert answer.status_code == status, origin
        with contextlib.ExitStack() as stack:
            if status != 200:
                stack.enter_context(pytest.raises(InvalidStatus, match="403"))
            names = cast("Origin", origin)
            stack.enter_context(connect(page.replace("https", "wss"), ssl=trusting, origin=names))
    direct = http.get(f"http://localhost:{task.port}/studies/pets/")
    assert direct.status_code == 421
    assert http.get(f"http://127.0.0.1:{task.port}/healthz").json()["status"] == "ok"


def test_two_studies_behind_one_caddy_keep_apart_in_one_tab(
    browser: Browser, start_task: Start, tmp_path: Path
) -> None:
    ports = Ports()
    flags = ["mephisto.blueprint.num_turns=1", NO_ANNOTATION]
    pets = start_task(f"mephisto.architect.public_url={ports.origin}/pets/", *flags, folder="pets", needed="a:1")
    plants = start_task(f"mephisto.architect.public_url={ports.origin}/plants/", *flags, folder="plants", needed="b:1")
    variables = ports.variables(PETS=pets, PLANTS=plants)
    with caddy(tmp_path / "caddy", ROOT / "deploy/Caddyfile.two-studies", ports.https, variables):
        context = browser.new_context(ignore_https_errors=True)
        received = Received(context)
        page = context.new_page()
        for path in ("/", "/petsx/", "/other"):
            answer = page.request.get(f"{ports.origin}{path}")
            assert answer.status == 404, path
        # The same worker and the same assignment in both, in one tab, by turns.
        visit(page, link_of(pets), "Reply of the first one.", draft="about pets")
        visit(page, link_of(plants), "Reply of the second one.", draft="about plants")
        visit(page, link_of(pets), "Reply of the first one.", found="about pets")
        rate_after_saying(page, "A cat.")
        visit(page, link_of(plants), "Reply of the second one.", found="about plants")
        rate_after_saying(page, "A fern.")
        assert [text for text in received.console if "404" not in text] == []
        context.close()
    assert [conversation["dialog"][2]["text"] for conversation in pets.conversations()] == ["A cat."]
    assert [conversation["dialog"][2]["text"] for conversation in plants.conversations()] == ["A fern."]


def visit(page: Page, link: str, reply: str, draft: str | None = None, found: str = "") -> None:
    """Open a study, which goes on where it was; leave a draft."""
    page.goto(link)
    wait_for_messages(page, 2)
    assert reply in messages(page)[1]
    expect(page.get_by_test_id("composer")).to_have_value(found)
    if draft is not None:
        page.get_by_test_id("composer").fill(draft)


def rate_after_saying(page: Page, text: str) -> None:
    say(page, text)
    rate_and_submit(page, 5)


def test_a_proxy_that_strips_the_path_works_as_well(browser: Browser, start_task: Start, tmp_path: Path) -> None:
    ports = Ports()
    flags = ["mephisto.blueprint.num_turns=1", NO_ANNOTATION]
    pets = start_task(f"mephisto.architect.public_url={ports.origin}/pets/", *flags)
    caddyfile = tmp_path / "Caddyfile"
    caddyfile.write_text(STRIPPING, encoding="utf-8")
    with caddy(tmp_path / "caddy", caddyfile, ports.https, ports.variables(PETS=pets)):
        chat_in_chromium(browser, link_of(pets))


def simulated(*arguments: str) -> tuple[int, str]:
    """Run the simulated workers; return the exit code and what they have said of errors."""
    command = [sys.executable, "scripts/simulate_workers.py", *arguments]
    done = preloaded.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, done.stderr


def test_simulated_workers_ask_as_the_proxy_does(start_task: Start) -> None:
    public = "https://study.example.org/pets/"
    task = start_task(f"mephisto.architect.public_url={public}", "mephisto.blueprint.num_turns=1", needed="a:2")
    code, said = simulated("--port", str(task.port), "--workers", "1")
    assert code == 1
    assert "give it with --public-url" in said
    assert simulated("--port", str(task.port), "--workers", "2", "--public-url", public)[0] == 0
    assert len(task.conversations()) == 2
    code, said = simulated("--public-url", "http://study.example.org/")
    assert code == 2
    assert "--public-url: 'http://study.example.org/' is not encrypted" in said


# --- nginx ---


@pytest.fixture
def nginx() -> str:
    found = find_nginx()
    if found is None:
        pytest.skip("nginx is not installed; .ci/run fetches it")
    return found


def test_a_worker_goes_through_nginx_as_its_example_sets_it_up(
    nginx: str, browser: Browser, start_task: Start, tmp_path: Path
) -> None:
    ports = Ports()
    task = start_task(
        f"mephisto.architect.public_url={ports.origin}/pets/", "mephisto.blueprint.num_turns=1", NO_ANNOTATION
    )
    certificate, key = make_certificate(tmp_path)
    text = (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8")
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{ports.http};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{ports.https} ssl;"),
        ("server_name study.example.org;", "server_name localhost;"),
        ("/etc/letsencrypt/live/study.example.org/fullchain.pem", str(certificate)),
        ("/etc/letsencrypt/live/study.example.org/privkey.pem", str(key)),
        ("http://127.0.0.1:3000", f"http://127.0.0.1:{task.port}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "site.conf").write_text(text, encoding="utf-8")
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\n"
        f"http {{\n{folders}include {tmp_path}/site.conf;\n}}\n",
        encoding="utf-8",
    )
    command = [nginx, "-e", str(tmp_path / "error.log"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    with running(command, tmp_path / "nginx.log", ports.https):
        with httpx.Client(verify=False, trust_env=False, timeout=60) as http:  # its certificate is made for this test
            assert (
                http.get(f"http://localhost:{ports.http}/pets/?a=1").headers["Location"]
                == "https://localhost/pets/?a=1"
            )
            assert http.get(f"{ports.origin}/pets?a=1").headers["Location"] == "/pets/?a=1"
            assert http.get(f"{ports.origin}/petsx").status_code == http.get(f"{ports.origin}/").status_code == 404
        chat_in_chromium(browser, link_of(task))
    assert len(task.conversations()) == 1


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost; return its file and its key's."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files

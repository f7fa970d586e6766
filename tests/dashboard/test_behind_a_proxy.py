"""The dashboard behind the reverse proxies of docs/self-hosting.md, with a name of its own and below a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from model_chat.configuration.places import ROOT
from model_chat.dashboard.watch import Watched
from model_chat.tests.dashboard.conftest import TOKEN, Served
from model_chat.tests.dashboard.sample import SampleStudy
from model_chat.tests.e2e.reverse_proxy import find_caddy, find_nginx, running
from model_chat.tests.ports import own_port

Start = Callable[[str, str], str]


def lines_of_the_page(begin: str) -> str:
    """What docs/self-hosting.md has between braces, from the line ``begin`` on."""
    text = (ROOT / "docs/self-hosting.md").read_text(encoding="utf-8").partition("## The dashboard")[2]
    found = re.search(rf"^{re.escape(begin)} \{{\n(.*?)^\}}", text, re.DOTALL | re.MULTILINE)
    assert found is not None, begin
    return found[1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a proxy; returns its origin."""
    with ExitStack() as stack:

        def started(proxy: str, lines: str) -> str:
            port, binary = own_port(), find_nginx() if proxy == "nginx" else find_caddy()
            if binary is None:
                pytest.skip("nginx is not installed; .ci/run fetches it")
            config, error_log = tmp_path / proxy, str(tmp_path / "error.log")
            if proxy == "nginx":
                kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
                folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
                server = f"server {{\nlisten 127.0.0.1:{port};\n{lines}}}\n"
                text = f"daemon off;\npid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{folders}{server}}}\n"
                command = [binary, "-e", error_log, "-p", str(tmp_path), "-c", str(config)]
            else:
                text = f"{{\nadmin off\nauto_https off\n}}\nhttp://127.0.0.1:{port} {{\n{lines}}}\n"
                command = [binary, "run", "--config", str(config), "--adapter", "caddyfile"]
            config.write_text(text, encoding="utf-8")
            home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
            stack.enter_context(running(command, tmp_path / "log", port, home))
            return f"http://127.0.0.1:{port}"

        yield started


@pytest.mark.parametrize(("proxy", "place"), [("nginx", ""), ("nginx", "board/"), ("caddy", "board/")])
def test_all_of_it_works_behind_the_proxy_and_its_cookie_goes_nowhere_else(
    sample: SampleStudy, serve: Callable[..., Served], start: Start, proxy: str, place: str
) -> None:
    served = serve(Watched(sample.info()))
    upstream = served.base.removeprefix("http://").rstrip("/")
    if proxy == "caddy":
        lines = lines_of_the_page("tools.example.org")
    else:
        own = lines_of_the_page("location /")
        target = "http://127.0.0.1:9200"
        lines = f"location /{place} {{\n{own.replace(target, target + '/') if place else own}}}\n"
    assert "127.0.0.1:9200" in lines
    origin = start(proxy, lines.replace("127.0.0.1:9200", upstream))
    with httpx.Client(base_url=f"{origin}/{place}", follow_redirects=True, trust_env=False, timeout=60) as browser:
        page = browser.get("login", params={"token": TOKEN})
        assert str(page.url) == f"{origin}/{place}"
        assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert [browser.get(asset).status_code for asset in assets] == [200] * len(assets)
        assert [cookie.path for cookie in browser.cookies.jar] == [f"/{place}api"]
        session = browser.get("api/session").json()
        headers = {"Origin": origin, "X-CSRF-Token": session["csrf"]}
        with browser.stream("GET", f"api/studies/{session['studies'][0]['id']}/events") as events:
            assert next(events.iter_lines()) == "event: overview"
        assert browser.post("api/logout", headers={**headers, "Origin": "http://other.example"}).status_code == 403
        assert browser.post("api/logout", headers=headers).status_code == 200
        assert len(browser.cookies.jar) == 0

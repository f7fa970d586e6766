"""A participant of a panel in real Chromium: through Caddy, from the panel's address to the panel's completion page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from model_chat.tests.e2e.browser import Received, axe_findings, chromium
from model_chat.tests.e2e.reverse_proxy import caddy
from model_chat.tests.e2e.running_task import ROOT, RunningTask
from model_chat.tests.e2e.test_self_hosting import Ports

Start = Callable[..., RunningTask]
CODE = "C1DONE88"


class PanelSite:
    """A panel's own page, to which participants are led back."""

    def __init__(self) -> None:
        self.visited: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/done"):
                    outer.visited.append(self.path)
                body = b"<title>Panel</title><h1>Completed</h1>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def completion_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/done?cc={{code}}&p={{participant}}&s={{session}}"


@pytest.fixture
def site() -> Iterator[PanelSite]:
    panel = PanelSite()
    yield panel
    panel.server.shutdown()
    panel.server.server_close()


def screen(page: Page, name: str) -> None:
    """Wait until the page shows a screen."""
    expect(page.locator(".app")).to_have_attribute("data-screen", name)


def chat(page: Page) -> None:
    """Say one thing and rate the conversation."""
    screen(page, "chat")
    page.get_by_label("Your message").fill("I like long walks in the hills.")
    page.get_by_role("button", name="Send").click()
    screen(page, "rating")
    page.locator("input[type=radio]").nth(3).check(force=True)
    page.get_by_role("button", name="Send answers").click()


def test_from_the_panel_s_address_to_its_completion_page(start_task: Start, site: PanelSite, tmp_path: Path) -> None:
    ports = Ports()
    url = f"{ports.origin}/studies/pets/"
    task = start_task(
        f"mephisto.architect.public_url={url}",
        "mephisto/provider=prolific",
        f"mephisto.provider.codes.complete={CODE}",
        f'mephisto.provider.completion_url="{site.completion_url}"',
        "mephisto.provider.linger_seconds=60",
        "mephisto.blueprint.annotations_config_path=",
        "mephisto.blueprint.num_turns=1",
        needed="a:2",
    )
    address = f"{url}?PROLIFIC_PID=60ffe5c8371090c7041d43f8&STUDY_ID=s1&SESSION_ID=e1"
    proxy = caddy(tmp_path / "caddy", ROOT / "deploy/Caddyfile", ports.https, ports.variables(UPSTREAM=task))
    with proxy, chromium() as browser:
        context = browser.new_context(ignore_https_errors=True, permissions=["clipboard-read", "clipboard-write"])
        received = Received(context)
        page = context.new_page()
        for wrong, title in (
            (f"{url}?PROLIFIC_PID={{{{%PROLIFIC_PID%}}}}", "This address is not complete"),
            (f"{url}?PROLIFIC_PID=a&PROLIFIC_PID=b", "This address is not right"),
            (url, "This address does not say who you are"),
        ):
            page.goto(wrong)
            screen(page, "no-work")
            expect(page.get_by_role("heading", level=1)).to_have_text(title)
        assert task.agent_statuses() == []

        page.goto(address)
        screen(page, "chat")
        page.reload()
        other = browser.new_context(ignore_https_errors=True).new_page()
        other.goto(address)
        screen(other, "chat")
        assert len(task.agent_statuses()) == 1
        assert CODE not in received.text
        chat(page)
        # Both lead back by themselves soon, unless somebody says that they want to stay.
        for one in (page, other):
            screen(one, "ending")
            one.get_by_test_id("stay").click()
        expect(page.get_by_test_id("completion-code")).to_have_text(CODE)
        assert axe_findings(page) == []
        page.get_by_test_id("copy-code").click()
        expect(page.get_by_role("status")).to_have_text("The code is copied.")
        assert page.evaluate("() => navigator.clipboard.readText()") == CODE

        page.reload()
        screen(page, "ending")
        assert axe_findings(page) == []
        page.get_by_test_id("stay").click()
        expect(page.get_by_test_id("return-in")).to_have_count(0)
        page.reload()
        page.wait_for_url("**/done?**", timeout=30_000)  # by itself
        assert site.visited == [f"/done?cc={CODE}&p=60ffe5c8371090c7041d43f8&s=e1"]
        assert received.console == []
        other.get_by_test_id("return").click()
        other.wait_for_url("**/done?**")
    (saved,) = task.conversations()
    assert saved["participation"]["session"] == "e1"
    assert len(task.agent_statuses()) == 1


def test_visitors_of_a_link_are_known_by_their_browser(start_task: Start) -> None:
    task = start_task(
        "mephisto/provider=link",
        "mephisto.provider.codes.complete=THANKS-42",
        "mephisto.blueprint.annotations_config_path=",
        "mephisto.blueprint.num_turns=1",
        "mephisto.provider.linger_seconds=60",
        needed="a:2",
    )
    with chromium() as browser:
        context = browser.new_context()
        page = context.new_page()
        page.goto(task.url)
        screen(page, "chat")
        tab = context.new_page()
        tab.goto(task.url)
        screen(tab, "chat")
        tab.close()
        assert len(task.agent_statuses()) == 1  # another tab of the same browser is the same visitor
        stranger = browser.new_context().new_page()
        stranger.goto(page.url)
        screen(stranger, "chat")
        assert len(task.agent_statuses()) == 2  # another browser is somebody else
        chat(page)
        screen(page, "ending")
        expect(page.get_by_test_id("completion-code")).to_have_text("THANKS-42")
        expect(page.get_by_test_id("return")).to_have_count(0)
        page.reload()
        screen(page, "ending")

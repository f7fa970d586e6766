"""Markdown replies in real Chromium: in a whole task with the real router's policy, and growing, by the scripted server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from model_chat.tests.e2e.browser import STEP_MILLISECONDS, Received, axe_findings
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.e2e.test_browser import rate_and_submit
from model_chat.tests.e2e.test_endpoint import models_file
from model_chat.tests.e2e.test_foreign_changes import go_on, scenario
from model_chat.tests.e2e.test_page_layout import scrolled_up
from model_chat.tests.endpoint_server import EndpointServer, reply, serving

Start = Callable[..., RunningTask]
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
REPLY = """### A title

Some **bold** words, [a link](https://example.org/page) and <img src=x onerror="window.hacked = true">.
![a picture](https://example.org/pixel.png)

```python
def a_function_with_a_long_name(first: int, second: int, third: int) -> dict[str, int]:
    return {"a": first}
```

| A first column | A second column | A third column | A fourth column | A fifth column |
|---|---|---|---|---|
| something | something | something | something | something |
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointServer]:
    monkeypatch.setenv("TEST_ENDPOINT_KEY", "sk-markdown")
    with serving() as running:
        running.default = reply(REPLY)
        yield running


def is_as_wide_as_the_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_a_whole_task_with_markdown(
    start_task: Start, server: EndpointServer, browser: Browser, tmp_path: Path
) -> None:
    flags = (
        "mephisto.blueprint.num_turns=1",
        "mephisto.blueprint.reply_format=markdown",
        "mephisto.blueprint.annotations_config_path=''",
    )
    task = start_task(*flags, models_file(tmp_path, server.url), needed="e:1")
    context = browser.new_context(reduced_motion="reduce")
    received = Received(context)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    try:
        page = context.new_page()
        page.goto(f"{task.url}?worker_id=w1&assignment_id=1")
        said = page.locator("[data-testid=message][data-agent='1']").first
        expect(said.get_by_role("heading", name="A title")).to_be_visible()
        expect(said.locator("strong")).to_have_text("bold")
        expect(said).to_contain_text("a link (https://example.org/page)")
        expect(said).to_contain_text('<img src=x onerror="window.hacked = true">')
        expect(said).to_contain_text("[image: a picture]")
        expect(said.locator("a, img, svg, script")).to_have_count(0)
        expect(said.locator(".hljs-keyword").first).to_have_text("def")
        for width, height in SIZES.values():  # the phone's comes last
            page.set_viewport_size({"width": width, "height": height})
            assert is_as_wide_as_the_window(page)
            assert axe_findings(page) == []
        for part in (said.locator("pre"), said.locator(".wide:has(table)")):
            assert part.evaluate("(element) => element.scrollWidth > element.clientWidth"), "scrolls in its box"
            expect(part).to_have_attribute("tabindex", "0")
        page.get_by_test_id("composer").fill("I *write* plain text.")
        page.get_by_test_id("composer").press("Enter")
        own = page.locator("[data-testid=message][data-agent='0']").last
        expect(own).to_contain_text("I *write* plain text.")
        rate_and_submit(page, 4)
        assert page.evaluate("window.hacked") is None
        assert {url.split("?")[0] for url in asked if not url.startswith((task.url, "data:"))} == set()
        assert received.console == [], "nothing against the policy, and no error"
    finally:
        context.close()
    assert task.wait() == 0, task.log
    (chat,) = task.conversations()
    assert chat["dialog"][1]["text"] == REPLY.strip(), "what is saved is what the model wrote"


@pytest.mark.parametrize("size", SIZES)
def test_a_reply_grows_without_a_jump_and_ends_as_the_same_element(browser: Browser, scripted: str, size: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(STEP_MILLISECONDS)
    try:
        page.goto(scenario(scripted, "markdown-held"))
        growing = page.get_by_test_id("growing-reply")
        growing.wait_for()
        assert growing.get_attribute("aria-hidden") == "true"
        page.evaluate(
            """() => {
              const box = document.querySelector(".scroll");
              window.line = document.querySelector("[data-testid=growing-reply]");
              window.heading = window.line.querySelector("h3");
              window.tops = [];
              box.addEventListener("scroll", () => window.tops.push(box.scrollTop));
            }"""
        )
        boxes = page.get_by_test_id("annotation")
        assert boxes.count() == 0
        go_on(page, scripted, "markdown-held")
        boxes.wait_for(state="attached")
        expect(growing).to_have_count(0)
        assert page.evaluate("window.line === [...document.querySelectorAll('[data-testid=message]')].at(-1)")
        assert page.evaluate("window.line.contains(window.heading) && !window.line.hasAttribute('aria-hidden')")
        tops = page.evaluate("window.tops")
        assert tops == sorted(tops), "down, and never up"
        top = page.evaluate("window.line.getBoundingClientRect().top")
        assert top >= page.evaluate("document.querySelector('.scroll').getBoundingClientRect().top"), (
            "from its beginning"
        )
        assert page.evaluate("window.hacked") is None
        assert is_as_wide_as_the_window(page)
        assert axe_findings(page) == []
    finally:
        context.close()


def test_someone_who_reads_above_is_left_in_peace_while_a_reply_grows(browser: Browser, scripted: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 500}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(STEP_MILLISECONDS)
    try:
        page.goto(scenario(scripted, "markdown-held"))
        page.get_by_test_id("growing-reply").locator("pre").wait_for()
        scrolled_up(page)
        go_on(page, scripted, "markdown-held")
        page.get_by_test_id("annotation").wait_for(state="attached")
        assert page.locator(".scroll").evaluate("(element) => element.scrollTop") == 0
        expect(page.get_by_role("button", name="New reply")).to_be_visible()
    finally:
        context.close()

"""The requester's dashboard in Chromium, on a computer and on a phone, with its real server over a sample study."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from model_chat.tests import preloaded
from model_chat.tests.e2e.browser import STEP_MILLISECONDS, axe_findings

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard over 60 conversations of a run that is made up."""
    folder = tmp_path_factory.mktemp("dashboard") / "sample"
    command = [sys.executable, "-m", "model_chat.tests.dashboard.sample", "--live", "--port", "0"]
    command += ["--folder", str(folder), "--conversations", "60"]
    with preloaded.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if "login?token=" in line), "")
            assert line, "the server did not start"
            yield line.partition("login?token=")[0]
        finally:
            process.terminate()


@contextmanager
def logged_in(browser: Browser, address: str, viewport: dict[str, int], name: str, role: str) -> Iterator[Page]:
    context = browser.new_context(viewport=viewport, reduced_motion="reduce", bypass_csp=False)  # type: ignore[arg-type]  # a plain dict is what it takes
    page = context.new_page()
    page.set_default_timeout(STEP_MILLISECONDS)
    page.goto(address)
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Password").fill(f"{role}-password")
    page.get_by_role("button", name="Log in").click()
    try:
        yield page
    finally:
        context.close()


def fits(page: Page) -> bool:
    """Whether nothing makes the page wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def first_to_review(page: Page) -> None:
    """Open the first conversation that is to be reviewed, by keys."""
    # By its address, so that no rows of another list are there before it has arrived.
    page.evaluate("location.hash = '#/study/study_local/conversations?review=pending'")
    page.get_by_test_id("row").first.wait_for()
    page.locator("h1").first.click()
    page.keyboard.press("j")
    page.get_by_role("article").wait_for()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_reviewer_sees_the_study_reads_and_approves(
    browser: Browser, dashboard: str, viewport: dict[str, int]
) -> None:
    errors: list[str] = []
    with logged_in(browser, dashboard, viewport, "Ana", "pay") as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        expect(page.get_by_text("Will be complete")).to_be_visible()
        expect(page.get_by_role("heading", name="Money")).to_be_visible()
        assert fits(page)
        assert axe_findings(page) == []
        first_to_review(page)
        article = page.get_by_role("article")
        name = article.get_attribute("aria-label")
        assert fits(page)
        assert axe_findings(page) == []
        page.keyboard.press("a")
        expect(article.get_by_text("Approved", exact=True)).to_be_visible()
        page.keyboard.press("j")
        # Keys have no effect before the next conversation has arrived.
        expect(page.locator(f"article:not([aria-label={json.dumps(name)}])")).to_be_visible()
        page.keyboard.press("b")
        expect(page.get_by_label("Amount for each")).to_be_focused()
        page.keyboard.type("0.25")
        expect(page.get_by_test_id("consequence")).to_contain_text("$0.25 in all")
        assert axe_findings(page) == []
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Audit log").click()
        row = page.get_by_role("row").filter(has_text="Ana").filter(has_text="approve")
        expect(row.first).to_be_visible()
        assert fits(page)
        assert axe_findings(page) == []
        assert errors == []


def test_the_second_of_two_reviewers_is_told_what_the_first_did(browser: Browser, dashboard: str) -> None:
    with (
        logged_in(browser, dashboard, DESKTOP, "Ben", "review") as first,
        logged_in(browser, dashboard, DESKTOP, "Cleo", "review") as second,
    ):
        expect(second.get_by_role("button", name="Take no new workers")).to_have_count(0)
        first_to_review(first)
        first_to_review(second)
        name = str(second.get_by_role("article").get_attribute("aria-label"))
        expect(first.get_by_role("article", name=name, exact=True)).to_be_visible()
        first.keyboard.press("a")
        expect(first.get_by_role("article").get_by_text("Approved", exact=True)).to_be_visible()
        second.keyboard.press("a")
        article = second.get_by_role("article", name=name, exact=True)
        expect(article.get_by_text("Approved", exact=True)).to_be_visible()
        expect(article.locator(".note")).to_contain_text("Ben")


def test_what_workers_wrote_is_never_markup(browser: Browser, dashboard: str) -> None:
    with logged_in(browser, dashboard, PHONE, "Dora", "read") as page:
        page.get_by_role("link", name="Conversations").click()
        page.get_by_test_id("search").fill("<script>alert")
        page.wait_for_url("**q=**")
        expect(page.get_by_label("Pages of the list")).to_contain_text(re.compile(r"of (?!60\b)\d"))  # those found
        page.get_by_test_id("row").first.get_by_role("link").click()
        expect(page.get_by_role("article").get_by_text("<script>alert(1)</script>").first).to_be_visible()
        expect(page.locator("article b, article script")).to_have_count(0)
        expect(page.get_by_role("button", name="Approve")).to_have_count(0)

"""The page works on while a browser's translation or an extension changes it, on every screen and between them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from model_chat.tests.e2e.browser import LOOK, STEP_MILLISECONDS
from model_chat.tests.e2e.foreign_changes import CHANGES, script_of
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.e2e.test_browser import (
    ONBOARDING,
    fill_onboarding,
    on_screen,
    rate_and_submit,
    say,
    wait_for_messages,
)

Start = Callable[..., RunningTask]
every_change = pytest.mark.parametrize("change", list(CHANGES))


@contextmanager
def changed_context(browser: Browser, *changes: str, **options: Any) -> Iterator[BrowserContext]:
    """A context whose pages are changed from outside from their first element on."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce", **options)
    context.set_default_timeout(STEP_MILLISECONDS)
    for change in changes:
        context.add_init_script(script_of(change))
    try:
        yield context
    finally:
        context.close()


def watched_page(context: BrowserContext) -> tuple[Page, list[str]]:
    """A new page, and the errors in it."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "DOMException" in message.text else None)
    return page, errors


@contextmanager
def changed_page(browser: Browser, *changes: str) -> Iterator[tuple[Page, list[str]]]:
    """A page that is changed from outside from its first element on; and the errors in it."""
    with changed_context(browser, *changes) as context:
        yield watched_page(context)


def scenario(address: str, name: str) -> str:
    worker = "" if name == "preview" else f"&worker_id={uuid.uuid4()}&assignment_id=1"
    return f"{address}?scenario={name}{worker}"


def go_on(page: Page, address: str, name: str) -> None:
    """Let a script go on that waits to be told so."""
    assert page.request.get(f"{address}go-on?scenario={name}").ok


def pressed(locator: Locator) -> None:
    """Press something that may lie below what an extension has left there."""
    locator.dispatch_event("click")


@pytest.mark.parametrize("phone", [False, True], ids=["computer", "phone"])
def test_every_screen_is_shown(browser: Browser, scripted: str, phone: bool) -> None:
    failed = {}
    options = {"user_agent": LOOK.IPHONE} if phone else {}
    with changed_context(browser, "translated whole", "with insertions", **options) as context:
        page, errors = watched_page(
            context
        )  # one for all: a page of its own for each would cost more than what it shows
        for name, (script, steps) in LOOK.LOOKS.items():
            if (name == "mobile-blocked") != phone:
                continue
            page.goto(scenario(scripted, script))
            page.locator(".app").wait_for()
            page.wait_for_timeout(100)
            steps(page)
            page.wait_for_timeout(100)
            if errors or "Something went wrong" in page.locator("body").inner_text():
                failed[name] = [*errors]
            errors.clear()
            page.unroute_all()
            page.evaluate("sessionStorage.clear()")
    assert failed == {}


@every_change
def test_a_chat_goes_from_its_beginning_to_handing_in(browser: Browser, scripted: str, change: str) -> None:
    with changed_page(browser, change) as (page, errors):
        page.goto(scenario(scripted, "chat"))
        for turn in range(3):
            expect(page.get_by_test_id("message")).to_have_count(2 + 2 * turn)
            expect(page.get_by_test_id("progress")).to_contain_text(f"Turn {turn + 1} of 3")
            expect(page.get_by_test_id("time-left")).to_be_attached()  # it is their turn
            pressed(page.get_by_test_id("send"))  # nothing is ticked: this announces what is missing
            expect(page.get_by_test_id("announcement")).to_contain_text("tick at least one box")
            pressed(page.get_by_test_id("bucket-none_all_good"))
            page.get_by_test_id("composer").fill(f"Message number {turn}.")
            page.get_by_test_id("composer").press("Enter")
            expect(page.get_by_test_id("message").nth(2 + 2 * turn)).to_contain_text(f"Message number {turn}.")
        on_screen(page, "rating")
        pressed(page.get_by_test_id("bucket-none_all_good"))
        for question in range(2):
            pressed(page.get_by_test_id(f"rating-{question}-4"))
        pressed(page.get_by_test_id("send"))
        on_screen(page, "finished")
        pressed(page.get_by_test_id("submit"))
        expect(page.get_by_test_id("submitted")).to_be_visible()
        assert errors == []


@every_change
def test_a_wrong_try_of_the_onboarding_is_explained_and_a_right_one_leads_to_the_chat(
    browser: Browser, scripted: str, change: str
) -> None:
    with changed_page(browser, change) as (page, errors):
        page.goto(scenario(scripted, "onboarding"))
        pressed(page.get_by_test_id("onboarding-submit"))
        expect(page.get_by_test_id("announcement")).to_contain_text("4 replies still without a tick")
        for place in ("0-1", "0-3", "1-1", "2-1"):
            pressed(page.get_by_test_id(f"onboarding-{place}").get_by_test_id("bucket-none_all_good"))
        pressed(page.get_by_test_id("onboarding-submit"))
        expect(page.get_by_test_id("wrong-reply")).to_have_count(2)
        pressed(page.get_by_test_id("wrong-reply").first)
        pressed(page.get_by_test_id("onboarding-0-1").get_by_test_id("bucket-contradiction"))
        pressed(page.get_by_test_id("onboarding-submit"))
        on_screen(page, "chat")
        expect(page.get_by_test_id("message")).to_have_count(2)
        assert errors == []


def test_a_lost_connection_comes_and_goes_on_a_translated_page(browser: Browser, scripted: str) -> None:
    with changed_page(browser, "translated") as (page, errors):
        page.goto(scenario(scripted, "midway"))
        page.get_by_test_id("composer").wait_for()
        for _ in range(2):
            page.evaluate("window.dispatchEvent(new Event('offline'))")
            expect(page.get_by_test_id("connection-banner")).to_contain_text("The connection is lost.")
            page.evaluate("window.dispatchEvent(new Event('online'))")
            expect(page.get_by_test_id("connection-banner")).to_contain_text("Connected again.")
        assert errors == []


def test_what_is_judged_is_not_translated_and_all_else_can_be(browser: Browser, scripted: str) -> None:
    with changed_page(browser, "translated") as (page, _):
        page.goto(scenario(scripted, "chat"))
        expect(page.get_by_test_id("message")).to_have_count(2)
        page.get_by_test_id("bucket-none_all_good").check()
        page.get_by_test_id("composer").fill("Said by me.")
        page.get_by_test_id("composer").press("Enter")
        expect(page.get_by_test_id("message")).to_have_count(4)
        texts = page.locator(".plain").all_inner_texts()
        assert len(texts) == 4
        assert not any("«" in text for text in texts)
        for bubble in page.locator(".plain").all():
            assert (bubble.get_attribute("translate"), bubble.get_attribute("lang")) == ("no", "en")
        for place in (page.locator("legend"), page.get_by_test_id("pane"), page.get_by_test_id("frozen-annotation")):
            assert "«" in place.first.inner_text()
        page.goto(scenario(scripted, "onboarding"))
        page.get_by_test_id("onboarding-submit").wait_for()
        texts = page.locator(".plain").all_inner_texts()
        assert len(texts) == 8
        assert not any("«" in text for text in texts)


def test_a_real_task_is_done_on_a_translated_page(browser: Browser, start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2", ONBOARDING)
    with changed_page(browser, "translated whole") as (page, errors):
        page.goto(task.url)
        on_screen(page, "preview")
        page.goto(task.worker_url("translated"))
        fill_onboarding(page, right=False)
        expect(page.get_by_test_id("onboarding-retry")).to_contain_text("Tries left: 1")
        fill_onboarding(page, right=True)
        for turn in range(2):
            wait_for_messages(page, 2 + 2 * turn)
            say(page, f"I like long walks very much, {turn}.", tick="none_all_good")
        rate_and_submit(page, rating=4, tick="none_all_good")
        assert errors == []
    assert task.wait() == 0, task.log
    (saved,) = task.conversations()
    assert saved["status"] == "complete"
    assert not any("«" in utterance["text"] for utterance in saved["dialog"])

"""What workers see in real Chromium when a run stops, is gone, or is started again, and when their time runs out."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from model_chat.tests.e2e.browser import axe_findings
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.e2e.test_browser import on_screen, send

Start = Callable[..., RunningTask]
NO_ANNOTATION = "mephisto.blueprint.annotations_config_path=''"
PICTURES = os.environ.get("MODEL_CHAT_PICTURES")
"""A folder for pictures of the screens, to be looked at; unset: none are taken."""


SIZES = (1280, 800), (390, 780)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of the first size."""
    width, height = SIZES[0]
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


def look_at(page: Page, name: str) -> None:
    """Check what is on the screen for accessibility, on a phone and on a desktop, and take pictures of it."""
    for width, height in reversed(SIZES):
        page.set_viewport_size({"width": width, "height": height})
        assert axe_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if PICTURES:
            page.screenshot(path=str(Path(PICTURES) / f"{name}-{width}.png"))


def submit(page: Page) -> None:
    page.get_by_test_id("submit").click()
    expect(page.get_by_test_id("submitted")).to_be_visible(timeout=30_000)


def begin(page: Page, task: RunningTask, text: str = "I have a cat.") -> None:
    page.goto(task.worker_url("ann"))
    expect(page.get_by_test_id("message")).to_have_count(2, timeout=60_000)
    page.get_by_test_id("composer").fill(text)
    send(page)
    expect(page.get_by_test_id("message")).to_have_count(4, timeout=60_000)


def test_a_study_that_is_stopped_says_so_and_lets_the_worker_submit(start_task: Start, page: Page) -> None:
    task = start_task(NO_ANNOTATION)
    begin(page, task)
    task.stop_slowly()
    on_screen(page, "chat")
    task.interrupt()
    on_screen(page, "stopped")
    expect(page.get_by_test_id("reason")).to_contain_text("This is not your fault")
    look_at(page, "stopped")
    assert task.wait() == 130, task.log
    submit(page)
    (chat,) = task.conversations()
    assert chat["reason"].startswith("stopped: ")
    assert [line["text"] for line in chat["dialog"]][2] == "I have a cat."
    assert task.agent_statuses() == ["completed"]


def test_a_page_whose_run_is_gone_for_good_ends_with_a_way_to_submit(start_task: Start, page: Page) -> None:
    task = start_task(NO_ANNOTATION)
    page.clock.install()
    begin(page, task)
    assert task.process is not None
    os.kill(task.process.pid, signal.SIGKILL)
    task.process.wait()
    expect(page.locator('[data-connection="lost"]')).to_be_visible()
    page.clock.run_for(150_000)
    on_screen(page, "gone")
    look_at(page, "gone")
    submit(page)


def test_a_page_that_comes_back_to_a_new_chat_says_so(start_task: Start, page: Page) -> None:
    task = start_task(NO_ANNOTATION, needed="a:2")
    begin(page, task)
    assert task.process is not None
    os.kill(task.process.pid, signal.SIGKILL)
    task.process.wait()
    with task:
        expect(page.get_by_test_id("renewed")).to_be_visible(timeout=60_000)
        look_at(page, "renewed")
        page.get_by_test_id("renewed-accept").click()
        expect(page.get_by_test_id("renewed")).to_have_count(0)
        expect(page.get_by_test_id("message")).to_have_count(2, timeout=60_000)
        expect(page.get_by_test_id("composer")).to_be_enabled()
    kept = [chat for chat in task.conversations() if len(chat["dialog"]) > 2]
    assert [chat["dialog"][2]["text"] for chat in kept] == ["I have a cat."]


def test_time_that_runs_out_can_be_extended_once_and_then_what_there_is_is_handed_in(
    start_task: Start, page: Page
) -> None:
    task = start_task(NO_ANNOTATION, "mephisto.blueprint.max_resp_time=15")
    begin(page, task)
    page.get_by_test_id("composer").fill("I am not done yet")
    expect(page.get_by_test_id("time-warning")).to_be_visible()
    look_at(page, "more-time")
    page.get_by_test_id("more-time").click()
    expect(page.get_by_test_id("more-time")).to_have_count(0)
    expect(page.get_by_test_id("composer")).to_be_focused()
    expect(page.get_by_test_id("composer")).to_have_value("I am not done yet")
    expect(page.get_by_test_id("time-warning")).to_be_visible()  # when there is little left of the time added
    look_at(page, "last-time")
    on_screen(page, "timeout")
    look_at(page, "time-up")
    submit(page)
    (chat,) = task.conversations()
    assert chat["reason"].startswith("timeout: ")


def test_an_onboarding_that_is_stopped_says_so(start_task: Start, page: Page) -> None:
    task = start_task("mephisto.blueprint.onboarding_qualification=test_onboarding")
    page.goto(task.worker_url("ann"))
    on_screen(page, "onboarding")
    task.interrupt()
    on_screen(page, "stopped")
    look_at(page, "onboarding-stopped")
    assert task.wait() == 130, task.log
    submit(page)

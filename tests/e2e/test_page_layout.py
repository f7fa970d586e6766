"""The page on a phone, enlarged to 400 %, and before its script has arrived; shown by a scripted run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect

from model_chat.tests.e2e.browser import LOOK, STEP_MILLISECONDS, axe_findings
from model_chat.tests.e2e.test_foreign_changes import go_on, scenario

PHONE = {"width": 360, "height": 640}
ENLARGED = {"width": 320, "height": 256}
"""A window of 1,280 × 1,024 at 400 %."""


@contextmanager
def a_page(browser: Browser, viewport: dict[str, int], **options: Any) -> Iterator[Page]:
    context = browser.new_context(viewport=viewport, reduced_motion="reduce", bypass_csp=True, **options)  # type: ignore[arg-type]  # a plain dict is what it takes
    page = context.new_page()
    page.set_default_timeout(STEP_MILLISECONDS)
    try:
        yield page
    finally:
        context.close()


def box_of(locator: Locator) -> FloatRect:
    box = locator.bounding_box()
    if box is None:
        raise AssertionError(f"{locator} is not shown")
    return box


def bottom(box: FloatRect) -> float:
    return box["y"] + box["height"]


def scrolled_up(page: Page) -> None:
    """Scroll to the beginning; the page has heard of it when this returns."""
    page.locator(".scroll").evaluate(
        """async (element) => {
            element.scrollTo(0, 0);
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
        }"""
    )


def by_click(page: Page) -> None:
    page.get_by_test_id("send").click(force=True)  # it says that it is disabled; a worker presses it all the same


def by_enter(page: Page) -> None:
    page.get_by_test_id("composer").press("Enter")


@pytest.mark.parametrize("attempt", [by_click, by_enter])
def test_below_a_long_reply_the_boxes_come_into_sight_when_they_are_missing(
    browser: Browser, scripted: str, attempt: Callable[[Page], None]
) -> None:
    with a_page(browser, PHONE, has_touch=True) as page:
        page.goto(scenario(scripted, "odd"))
        boxes = page.get_by_test_id("annotation")
        boxes.wait_for(state="attached")
        assert box_of(boxes)["y"] > 640, "out of sight at first"
        page.get_by_test_id("composer").fill("What a long reply.")
        expect(page.get_by_test_id("send-reason")).to_contain_text("tick at least one box")  # it is their turn
        attempt(page)
        expect(page.get_by_test_id("announcement")).to_contain_text("tick at least one box")
        expect(boxes.get_by_role("checkbox").first).to_be_focused()
        shown, foot = box_of(boxes.get_by_role("checkbox").first), box_of(page.locator(".foot"))
        assert shown["y"] >= 0 and bottom(shown) <= foot["y"], "in sight, and not below the field"
        assert axe_findings(page) == []


@pytest.mark.parametrize(
    "name", ["midway", "send-blocked", "too-long", "rating", "image", "refused", "onboarding-retry"]
)
def test_enlarged_to_400_percent_the_bar_stays_and_leaves_room(browser: Browser, scripted: str, name: str) -> None:
    script, steps = LOOK.LOOKS[name]
    with a_page(browser, ENLARGED) as page:
        page.goto(scenario(scripted, script))
        page.locator(".bar").wait_for()
        steps(page)
        for _ in range(25):
            page.keyboard.press("Tab")
            bar = box_of(page.locator(".bar"))
            assert bar["y"] == 0
            assert page.evaluate("document.scrollingElement.scrollTop") == 0
        room = page.locator(".scroll, .page").evaluate("(element) => element.clientHeight")
        assert room >= 256 * 0.3, "for what is read"
        overlap = bottom(box_of(page.locator(".bar"))) - box_of(page.locator(".scroll, .page"))["y"]
        assert overlap <= 0
        assert bottom(box_of(page.locator(".foot"))) <= 256
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("viewport", [PHONE, ENLARGED, {"width": 1280, "height": 420}])
def test_the_button_for_a_new_reply_covers_nothing(browser: Browser, scripted: str, viewport: dict[str, int]) -> None:
    with a_page(browser, viewport) as page:
        page.goto(scenario(scripted, "chat-held"))
        expect(page.get_by_test_id("message")).to_have_count(2)
        page.get_by_test_id("bucket-none_all_good").dispatch_event("click")
        page.get_by_test_id("composer").fill("Line after line.\n" * 30)
        expect(page.get_by_test_id("send")).to_have_attribute("aria-disabled", "false")
        page.get_by_test_id("composer").press("Enter")
        expect(page.get_by_test_id("message")).to_have_count(3)
        scrolled_up(page)
        go_on(page, scripted, "chat-held")
        button = page.get_by_role("button", name="New reply")
        button.wait_for()
        shown, above, below = box_of(button), box_of(page.locator(".scroll")), box_of(page.locator(".foot"))
        assert bottom(above) <= shown["y"] and bottom(shown) <= below["y"]
        button.click()
        expect(button).to_have_count(0)
        reply = box_of(page.get_by_test_id("message").last)
        assert 0 <= reply["y"] < bottom(box_of(page.locator(".scroll")))


def test_on_a_phone_the_image_is_folded_away_and_the_chat_gets_its_room(browser: Browser, scripted: str) -> None:
    with a_page(browser, PHONE) as page:
        page.goto(scenario(scripted, "image"))
        picture = page.get_by_role("img", name="Green hills")
        picture.wait_for()
        picture.evaluate("(image) => image.decode()")
        before = box_of(page.locator(".scroll"))["height"]
        height = box_of(picture)["height"]
        page.get_by_test_id("image-fold").click()
        expect(picture).to_be_hidden()
        assert box_of(page.locator(".scroll"))["height"] >= before + height
        assert axe_findings(page) == []
        page.get_by_test_id("image-fold").click()
        expect(picture).to_be_visible()


def test_the_ring_is_drawn_where_keys_go_to(browser: Browser, scripted: str) -> None:
    ring = "() => getComputedStyle(document.querySelector('.composer-field')).boxShadow !== 'none'"
    with a_page(browser, {"width": 1280, "height": 800}) as page:
        page.goto(scenario(scripted, "midway"))
        page.get_by_test_id("composer").focus()
        assert page.evaluate(ring)
        page.get_by_test_id("send").focus()
        assert not page.evaluate(ring)


def test_something_can_be_read_before_the_script_has_arrived(browser: Browser, scripted: str) -> None:
    with a_page(browser, PHONE) as page:
        page.route("**/*.js", lambda route: route.abort())
        page.goto(scenario(scripted, "chat"))
        expect(page.get_by_role("heading", level=1)).to_have_text("Loading…")
        expect(page.get_by_text("please reload the page")).to_be_visible()
        expect(page.get_by_text("needs JavaScript")).to_have_count(0)
        assert axe_findings(page) == []


def test_the_boxes_stay_in_sight_when_the_field_grows(browser: Browser, scripted: str) -> None:
    with a_page(browser, {"width": 1280, "height": 700}) as page:
        page.goto(scenario(scripted, "midway"))
        boxes = page.get_by_test_id("annotation")
        boxes.wait_for()
        before = box_of(page.locator(".foot"))["height"]
        page.get_by_test_id("composer").fill("Line after line.\n" * 12)
        page.wait_for_function("(height) => document.querySelector('.foot').clientHeight > height + 100", arg=before)
        expect(boxes.get_by_role("checkbox").last).to_be_in_viewport()
        assert bottom(box_of(boxes)) <= box_of(page.locator(".foot"))["y"]

"""A worker compares replies in real Chromium: by keyboard, with reloads, and on a phone by touch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from model_chat.tests.e2e.browser import Received, axe_findings, chromium
from model_chat.tests.e2e.running_task import RunningTask, make_fixed_model

Start = Callable[..., RunningTask]
B = "mephisto.blueprint"
FLAGS = (f"{B}.comparison=per_turn", f"{B}.num_turns=2", f"{B}.annotations_config_path=''")
SCALE = (f"{B}.comparison_points=5", f"{B}.comparison_reason=true")
LONG = "Tea is a drink that is made of leaves. It is drunk all over the world, hot in winter and cold in summer."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two models that can be told from each other by their replies alone."""
    folder = tmp_path / "models"
    make_fixed_model(folder / "secret_a", "Tea is fine.")
    make_fixed_model(folder / "secret_b", LONG)
    return folder


def picture(page: Page, name: str) -> None:
    """Keep a picture for people to look at, where the environment names a folder."""
    if folder := os.environ.get("MODEL_CHAT_PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png")


def say(page: Page, text: str) -> None:
    page.get_by_test_id("composer").fill(text)
    expect(page.get_by_test_id("send")).to_have_attribute("aria-disabled", "false", timeout=60_000)  # it is their turn
    page.get_by_test_id("composer").press("Enter")
    expect(page.get_by_test_id("choices")).to_be_visible(timeout=60_000)


def is_beside(page: Page) -> bool:
    boxes = [page.get_by_test_id(f"reply-{number}").bounding_box() for number in (1, 2)]
    first, second = (box for box in boxes if box is not None)
    return second["x"] >= first["x"] + first["width"] and abs(first["y"] - second["y"]) < 1


def rate_and_submit(page: Page) -> None:
    page.get_by_test_id("rating-0-4").check()
    page.get_by_test_id("send").click()
    page.get_by_test_id("submit").click()
    expect(page.get_by_test_id("submitted")).to_be_visible()


def test_by_keyboard_alone_with_a_reload_before_and_after_the_choice(browser: Browser, start_task: Start) -> None:
    task = start_task(*FLAGS, *SCALE, needed="secret_a|secret_b:1")
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    received = Received(context)
    page = context.new_page()
    page.goto(task.worker_url("kim"))
    expect(page.get_by_test_id("composer")).to_be_enabled(timeout=60_000)
    say(page, "What do you think of tea?")
    assert is_beside(page)
    picture(page, "desktop")
    assert axe_findings(page) == []
    page.reload()
    expect(page.get_by_test_id("choices")).to_be_visible(timeout=60_000)
    page.keyboard.press("2")
    expect(page.get_by_test_id("choice-right-1")).to_be_checked()
    page.get_by_test_id("choice-right-1").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("choice-right-2")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.type("It says 1 thing more.")
    page.reload()
    expect(page.get_by_test_id("choice-right-2")).to_be_checked(timeout=60_000)
    picture(page, "desktop-chosen")
    assert axe_findings(page) == []
    chosen = page.get_by_test_id("reply-2").locator(".bubble").inner_text()
    page.get_by_test_id("send").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("message").last).to_contain_text(chosen, timeout=60_000)
    page.reload()
    expect(page.get_by_test_id("message").last).to_contain_text(chosen, timeout=60_000)
    say(page, "And of coffee?")
    page.get_by_test_id("choice-tie").check()
    page.get_by_test_id("send").click()
    rate_and_submit(page)
    assert task.wait() == 0, task.log
    (saved,) = task.conversations()
    first, second = saved["comparisons"]
    assert (first["pick"], first["strength"], first["reason"]) == ("right", 2, "It says 1 thing more.")
    assert first["right"]["text"] == chosen
    assert (second["pick"], second["strength"]) == ("tie", None)
    assert "secret_" not in received.text
    assert "secret_" not in page.content()
    context.close()


def test_on_a_phone_one_below_the_other_by_touch_with_boxes_for_both(browser: Browser, start_task: Start) -> None:
    task = start_task(*FLAGS[:2], f"{B}.comparison_boxes=both", needed="secret_a|secret_b:1")
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    Received(context)
    page = context.new_page()
    page.goto(task.worker_url("lee"))
    expect(page.get_by_test_id("composer")).to_be_enabled(timeout=60_000)
    page.get_by_test_id("bucket-none_all_good").tap()  # of the opening, which is not compared
    for number, (text, choice) in enumerate((("Tea?", "left"), ("Coffee?", "both_bad"))):
        say(page, text)
        assert not is_beside(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        if number == 0:
            picture(page, "phone")
            assert axe_findings(page) == []
        page.get_by_test_id(f"choice-{choice}").locator("xpath=..").tap()
        for reply, bucket in ((1, "contradiction"), (2, "none_all_good")):
            page.get_by_test_id(f"reply-{reply}").get_by_test_id(f"bucket-{bucket}").tap()
        if number == 0:
            picture(page, "phone-chosen")
        page.get_by_test_id("send").tap()
    rate_and_submit(page)
    assert task.wait() == 0, task.log
    (saved,) = task.conversations()
    assert [entry["pick"] for entry in saved["comparisons"]] == ["left", "both_bad"]
    for entry in saved["comparisons"]:
        ticked = {side: [key for key, on in entry[side]["problem_data"].items() if on] for side in ("left", "right")}
        assert ticked == {"left": ["contradiction"], "right": ["none_all_good"]}
    context.close()


def chat(page: Page, text: str) -> None:
    """One exchange of a chat, and its end."""
    page.get_by_test_id("composer").fill(text)
    expect(page.get_by_test_id("send")).to_have_attribute("aria-disabled", "false", timeout=60_000)
    page.get_by_test_id("composer").press("Enter")
    expect(page.get_by_test_id("composer")).to_have_count(0, timeout=60_000)


def test_two_whole_chats_by_keyboard_and_with_reloads(browser: Browser, start_task: Start) -> None:
    asked = f"{B}.final_rating_question='Who was kinder?|Who knew more?'"
    paired = (f"{B}.comparison=paired", f"{B}.num_turns=1", f"{B}.annotations_config_path=''", asked)
    task = start_task(*paired, f"{B}.comparison_points=3", needed="secret_a|secret_b:1")
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    received = Received(context)
    page = context.new_page()
    page.goto(task.worker_url("kim"))
    expect(page.get_by_test_id("composer")).to_be_enabled(timeout=60_000)
    expect(page.get_by_test_id("chat-number")).to_contain_text("Chat 1 of 2")
    chat(page, "What of tea?")
    picture(page, "paired-chat-over")
    page.reload()
    expect(page.get_by_test_id("send")).to_have_text("Go on to the second chat", timeout=60_000)
    page.get_by_test_id("send").press("Enter")
    expect(page.get_by_test_id("chat-number")).to_contain_text("Chat 2 of 2", timeout=60_000)
    expect(page.get_by_test_id("composer")).to_be_enabled(timeout=60_000)
    page.reload()
    expect(page.get_by_test_id("chat-number")).to_contain_text("Chat 2 of 2", timeout=60_000)
    expect(page.get_by_text("What of tea?")).to_have_count(0)
    picture(page, "paired-second")
    chat(page, "And of coffee?")
    expect(page.get_by_test_id("send")).to_have_attribute("aria-disabled", "false")
    page.get_by_test_id("send").press("Enter")
    expect(page.get_by_test_id("choices-1")).to_be_visible(timeout=60_000)
    boxes = [page.get_by_test_id(f"chat-{number}").bounding_box() for number in (1, 2)]
    first, second = (box for box in boxes if box is not None)
    assert second["x"] >= first["x"] + first["width"]
    assert axe_findings(page) == []
    picture(page, "paired-questions")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, "paired-phone")
    page.keyboard.press("2")
    page.keyboard.press("1")
    page.reload()
    expect(page.get_by_test_id("choices-1").get_by_test_id("choice-left-1")).to_be_checked(timeout=60_000)
    picture(page, "paired-phone-chosen")
    page.get_by_test_id("send").press("Enter")
    page.get_by_test_id("submit").click(timeout=60_000)
    expect(page.get_by_test_id("submitted")).to_be_visible()
    assert task.wait() == 0, task.log
    (saved,) = task.conversations()
    assert [(entry["question"], entry["pick"], entry["strength"]) for entry in saved["comparisons"]] == [
        ("Who was kinder?", "right", 1),
        ("Who knew more?", "left", 1),
    ]
    assert "secret_" not in received.text
    assert "secret_" not in page.content()
    context.close()

"""Image chat in real Chromium, as a worker goes through it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from model_chat.records.schema import Conversation
from model_chat.tests.e2e.browser import Received, axe_findings
from model_chat.tests.e2e.running_image_task import NO_ANNOTATION, B, Start, image_tasks
from model_chat.tests.e2e.test_browser import on_screen, rate_and_submit, say, wait_for_messages


@pytest.fixture
def start_image_task(tmp_path: Path) -> Iterator[Start]:
    with image_tasks(tmp_path) as start:
        yield start


def shown_image(page: Page) -> dict[str, Any]:
    """What the page shows of the image: whether it is decoded, where it is, how wide the page is."""
    found: dict[str, Any] = page.evaluate(
        """async () => {
            const image = document.querySelector('[data-testid="chat-image"] img');
            await image.decode();
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
            const box = image.getBoundingClientRect();
            return {natural: [image.naturalWidth, image.naturalHeight], width: box.width, height: box.height,
                top: box.top, right: box.right, bottom: box.bottom, alt: image.alt, view: [innerWidth, innerHeight],
                scroll: document.documentElement.scrollWidth};
        }"""
    )
    return found


def images_received(received: Received) -> int:
    """How often the image came as an update, and not with what was said before the page came."""
    return sum("data:image/png;base64" in frame for frame in received.frames)


def test_a_worker_chats_about_an_image_that_is_there_from_the_first_moment(
    browser: Browser, start_image_task: Start, tmp_path: Path
) -> None:
    task = start_image_task(f"{B}.num_turns=2", images=1, conversations=1, forked=False)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    received = Received(context)
    page = context.new_page()
    page.goto(task.url)
    on_screen(page, "preview")
    expect(page.get_by_text("Chat about an image").first).to_be_visible()
    page.goto(task.worker_url("alice"))
    # The model's word is there no sooner than the image.
    page.wait_for_selector('[data-testid="message"], [data-testid="chat-image"]')
    expect(page.get_by_test_id("chat-image")).to_be_visible()
    wait_for_messages(page, 1)
    expect(page.get_by_test_id("message").first).to_contain_text("300 by 200, 0 120 200; you said nothing.")
    image = shown_image(page)
    assert image["natural"] == [300, 200]
    assert image["alt"]
    assert image["bottom"] <= image["view"][1]
    assert axe_findings(page) == []

    page.get_by_test_id("chat-image").get_by_role("button").click()
    enlarged = page.get_by_role("dialog").get_by_role("img")
    expect(enlarged).to_be_visible()
    box = enlarged.bounding_box()
    assert box is not None
    assert box["width"] >= image["width"]
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)

    say(page, "What is in the middle?", tick="none_all_good")
    wait_for_messages(page, 3)
    assert images_received(received) == 1, "it is not sent again with messages"
    page.reload()
    wait_for_messages(page, 3)
    assert shown_image(page)["natural"] == [300, 200], "a reload shows it again"
    say(page, "Is it blue?", tick="wrong_about_image")
    rate_and_submit(page, rating=4, tick="none_all_good")
    assert task.wait() == 0, task.log
    context.close()

    (in_file,), (in_database,) = task.conversations(), task.world_data()
    assert in_file == in_database
    chat = Conversation.from_dict(in_file)
    assert (chat.status, chat.image_idx) == ("complete", 0)
    assert [line.agent_idx for line in chat.dialog] == [1, 0, 1, 0, 1]
    assert all("300 by 200, 0 120 200" in line.text for line in chat.dialog if line.agent_idx == 1)
    assert "base64" not in json.dumps(in_file)
    for path in (tmp_path / "task" / "mephisto").rglob("*.json"):
        assert "base64" not in path.read_text(encoding="utf-8", errors="replace"), path
    assert json.loads((tmp_path / "stack" / "stack.json").read_text()) in (
        [{"a": ["alice"], "b": []}],
        [{"a": [], "b": ["alice"]}],
    )
    assert "run_statistics: {'by_model': {" in task.log
    assert "'by_image': {'0': 1}" in task.log


def test_the_image_and_the_chat_work_at_the_width_of_a_phone(browser: Browser, start_image_task: Start) -> None:
    task = start_image_task(f"{B}.num_turns=1", NO_ANNOTATION, images=1, script="run_image_chat.py")
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(task.worker_url("phone"))
    wait_for_messages(page, 1)
    image = shown_image(page)
    assert image["natural"] == [300, 200]
    assert image["width"] > 100
    assert image["right"] <= 360
    assert 0 <= image["top"] < image["bottom"] <= 740
    assert image["scroll"] <= 360
    assert axe_findings(page) == []
    say(page, "I see a picture.")
    wait_for_messages(page, 3)
    image = shown_image(page)
    assert 0 <= image["top"] < image["bottom"] <= 740, "it stays in sight"
    context.close()

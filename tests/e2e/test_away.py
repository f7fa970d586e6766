"""Workers whose page goes away, in real Chromium: when they count as having left."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Browser, expect

from model_chat.tests.e2e.browser import CuttableProxy
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.e2e.test_browser import on_screen, rate_and_submit, say, wait_for_messages

Start = Callable[..., RunningTask]
FLAGS = (
    "mephisto.blueprint.annotations_config_path=''",
    "mephisto.blueprint.num_turns=1",
)


def test_a_worker_who_closes_the_page_has_left_when_the_turn_is_over_and_the_next_one_gets_the_place(
    browser: Browser, start_task: Start
) -> None:
    task = start_task(*FLAGS, "mephisto.blueprint.max_resp_time=20", needed="a:1")
    leaver, stayer = browser.new_context(), browser.new_context()
    page = leaver.new_page()
    page.goto(task.worker_url("leaver"))
    wait_for_messages(page, 2)
    leaver.close()
    page = stayer.new_page()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        page.goto(task.worker_url("stayer"))
        screen = page.locator('[data-screen="chat"], [data-screen="no-work"]')
        expect(screen).to_be_visible()
        if screen.get_attribute("data-screen") == "chat":
            break
        time.sleep(1)
    on_screen(page, "chat")
    wait_for_messages(page, 2)
    say(page, "I stay here.")
    rate_and_submit(page, 4)
    stayer.close()
    assert task.wait() == 0, task.log
    (kept,) = task.conversations()
    assert (kept["workers"], kept["status"]) == (["stayer"], "complete")
    assert "disconnect" not in task.agent_statuses()[:1], "by the time of the turn, and not by silence"


def test_a_page_without_a_connection_for_a_part_of_the_turn_goes_on(browser: Browser, start_task: Start) -> None:
    task = start_task(*FLAGS, "mephisto.blueprint.max_resp_time=120", needed="a:1")
    proxy = CuttableProxy(task.port)
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://localhost:{proxy.port}/?worker_id=tunnel&assignment_id=1")
        wait_for_messages(page, 2)
        proxy.cut()
        time.sleep(20)  # longer than Mephisto's router would wait
        proxy.restore()
        say(page, "Back again.")
        rate_and_submit(page, 5)
    finally:
        context.close()
        proxy.close()
    assert task.wait() == 0, task.log
    assert [chat["status"] for chat in task.conversations()] == ["complete"]

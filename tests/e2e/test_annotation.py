"""Finished conversations are annotated: over the real wire with drop-outs and a death, and in real Chromium."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from model_chat.records.schema import Conversation
from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.browser import Received, axe_findings
from model_chat.tests.e2e.running_task import RunningTask

B = "mephisto.blueprint"


def logs(folder: Path, number: int) -> Path:
    """Conversations with three replies each."""
    path = folder / "logs.jsonl"
    lines = [
        {
            "conversations": [
                {"from": "human", "value": f"What is {i} times two?"},
                {"from": "gpt", "value": "That is easy."},
                {"from": "human", "value": "And?"},
                {"from": "gpt", "value": f"It is {2 * i}."},
                {"from": "gpt", "value": "Anything else?"},
            ],
            "model": "secret-model",
        }
        for i in range(number)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def task_for(tmp_path: Path, number: int, annotators: int, *flags: str) -> RunningTask:
    return RunningTask(
        tmp_path / "task",
        [
            "conf=example_annotation",
            f"{B}.logs_path={logs(tmp_path, number)}",
            f"{B}.annotators_per_conversation={annotators}",
            *flags,
        ],
    )


def judged(chats: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(chat["workers"][0], chat["judged_conversation"]["id"]) for chat in chats]


def test_each_gets_exactly_its_annotators_though_some_leave_and_the_run_dies(tmp_path: Path) -> None:
    """Who leaves runs out of time, and somebody else gets the conversation. How long anything takes decides nothing."""
    task = task_for(tmp_path, 4, 2, f"{B}.max_resp_time=5", f"{B}.time_extensions=0")
    behaviours = [Behaviour(), Behaviour(leave_after=1), Behaviour()]
    with task:
        asyncio.run(simulate(task.port, 3, behaviours, conversations=1, prefix="first"))
        assert task.process is not None
        os.killpg(task.process.pid, signal.SIGKILL)
        task.process.wait()
    before = task.conversations()
    end = time.monotonic() + 180
    wave = 0
    with task:
        assert task.process is not None
        while task.process.poll() is None and time.monotonic() < end:
            asyncio.run(simulate(task.port, 3, behaviours, conversations=2, prefix=f"wave{wave}-"))
            wave += 1
        assert task.wait() == 0, task.log
    chats = task.conversations()
    assert len(chats) >= len(before)
    for chat in chats:
        Conversation.from_dict(chat)
    complete = [chat for chat in chats if chat["status"] == "complete"]
    assert Counter(log for _, log in judged(complete)) == {f"logs.jsonl:{line}": 2 for line in range(1, 5)}
    assert len(set(judged(chats))) == len(chats), "somebody was given a conversation twice"
    saved = {json.dumps(chat, sort_keys=True) for chat in chats}
    assert {json.dumps(chat, sort_keys=True) for chat in task.world_data()} == saved, "both records are the same"


def pages(browser: Browser, **options: Any) -> tuple[Page, Received]:
    context = browser.new_context(**options)
    received = Received(context)
    return context.new_page(), received


def picture(page: Page, name: str) -> None:
    """Keep a picture for people to look at, where the environment names a folder."""
    if folder := os.environ.get("MODEL_CHAT_PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png")


def tab_to(page: Page, test_id: str) -> None:
    """Press Tab until something with this beginning of its test id has the focus."""
    for _ in range(40):
        focused = page.evaluate("document.activeElement?.dataset?.testid ?? ''")
        if focused.startswith(test_id):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {test_id}")


@pytest.mark.parametrize("phone", [False, True], ids=["keyboard", "phone"])
def test_an_annotator_by_keyboard_with_reloads_and_one_on_a_phone_by_touch(
    browser: Browser, tmp_path: Path, phone: bool
) -> None:
    """By keyboard, the first reply in a wide window, and all that follows in a narrow one."""
    options: dict[str, Any] = {"viewport": {"width": 390 if phone else 1440, "height": 844}}
    name = "phone" if phone else "keyboard"
    with task_for(tmp_path, 1, 1) as task:
        page, received = pages(browser, **options, **({"has_touch": True, "is_mobile": True} if phone else {}))
        page.goto(task.worker_url("kim"))
        expect(page.get_by_test_id("message")).to_have_count(2, timeout=60_000)
        boxes = page.get_by_role("checkbox")
        for shown, box in ((2, 0), (4, 1)):
            expect(page.get_by_test_id("message")).to_have_count(shown, timeout=60_000)
            expect(boxes.first).to_be_visible()
            for width in (390,) if phone else (390, 1440) if shown == 2 else (1440, 390):
                if not phone:
                    page.set_viewport_size({"width": width, "height": 844})
                picture(page, f"{name}-{width}-{shown}")
                assert axe_findings(page) == []
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            if phone:
                boxes.nth(box).locator("xpath=..").tap()
                page.get_by_test_id("send").tap()
            else:
                page.keyboard.press(str(box + 1))
                expect(boxes.nth(box)).to_be_checked()
                page.reload()  # what is ticked stays
                expect(boxes.nth(box)).to_be_checked(timeout=60_000)
                expect(page.get_by_test_id("send")).to_be_focused()
                page.keyboard.press("Enter")
        expect(page.get_by_test_id("rating-0-4")).to_be_visible(timeout=60_000)
        picture(page, f"{name}-end")
        if phone:
            boxes.nth(5).locator("xpath=..").tap()
            page.get_by_test_id("rating-0-4").locator("xpath=..").tap()
            page.get_by_test_id("send").tap()
            page.get_by_test_id("submit").tap()
        else:
            page.keyboard.press("6")
            expect(boxes.nth(5)).to_be_checked()
            tab_to(page, "rating-0-")
            for _ in range(4):  # the first arrow selects, or moves on from, the radio button that has the focus
                if not page.get_by_test_id("rating-0-4").is_checked():
                    page.keyboard.press("ArrowRight")
            expect(page.get_by_test_id("rating-0-4")).to_be_checked()
            tab_to(page, "send")
            page.keyboard.press("Enter")
            expect(page.get_by_test_id("submit")).to_be_visible(timeout=60_000)
            tab_to(page, "submit")
            page.keyboard.press("Enter")
        expect(page.get_by_test_id("submitted")).to_be_visible()
        assert task.wait() == 0, task.log
        (chat,) = task.conversations()
        ticked = [[name for name, on in line.get("problem_data", {}).items() if on] for line in chat["dialog"]]
        assert [len(names) for names in ticked] == [0, 1, 0, 1, 1]
        assert ticked[-1] == ["none_all_good"]
        assert chat["dialog"][-1]["final_rating"] == "4"
        assert "secret-model" not in received.text
        page.context.close()

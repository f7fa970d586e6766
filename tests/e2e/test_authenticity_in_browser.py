"""Counts of how messages are written, from real Chromium to both records: typed, pasted, composed, dictated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from model_chat.tests.e2e.browser import axe_findings, chromium
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.e2e.test_browser import NO_ANNOTATION, rate_and_submit, wait_for_messages

FLOW = """
pages:
  - {id: consent, kind: consent, text: We study chats with a program.}
  - {id: chat, kind: chat}
"""
PASTED = "Some words from elsewhere, 🍵 too."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def send(page: Page, messages: int) -> None:
    page.get_by_test_id("composer").press("Enter")
    wait_for_messages(page, messages)


def test_what_is_typed_pasted_composed_and_dictated_is_told_apart(
    start_task: Callable[..., RunningTask], browser: Browser, tmp_path: Path
) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW, encoding="utf-8")
    task = start_task(
        f"mephisto.blueprint.study_flow_path={flow}",
        "mephisto.blueprint.record_authenticity=true",
        "mephisto.blueprint.num_turns=4",
        NO_ANNOTATION,
        needed="a:1",
    )
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=task.url.rstrip("/"))
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(task.worker_url("person"))
    expect(page.get_by_test_id("authenticity")).to_contain_text("Only these numbers are saved")
    assert axe_findings(page) == []
    page.get_by_test_id("accept").click()
    wait_for_messages(page, 2)
    field = page.get_by_test_id("composer")

    field.press_sequentially("Helo")  # half before a reload, half after it
    page.reload()
    wait_for_messages(page, 2)
    expect(field).to_have_value("Helo")
    field.press("End")
    field.press("Backspace")
    field.press_sequentially("lo!")
    send(page, 4)

    page.evaluate("text => navigator.clipboard.writeText(text)", PASTED)
    field.press("ControlOrMeta+v")
    expect(field).to_have_value(PASTED)
    send(page, 6)

    typing = context.new_cdp_session(page)
    field.focus()
    for part in ("n", "ni", "你"):
        typing.send("Input.imeSetComposition", {"text": part, "selectionStart": len(part), "selectionEnd": len(part)})
    typing.send("Input.insertText", {"text": "你好"})
    expect(field).to_have_value("你好")
    send(page, 8)

    page.keyboard.insert_text("Said, not written.")  # as dictation puts it in: no keys
    expect(field).to_have_value("Said, not written.")
    send(page, 10)
    rate_and_submit(page, 4)

    def counts(chat: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (chat["dialog"][one["utterance_idx"]]["text"], one["characters"], one["pasted_characters"], one["keys"])
            for one in chat["authenticity"]
        ]

    (chat,) = task.conversations()
    assert counts(chat) == [
        ("Hello!", 6, 0, 8),
        (PASTED, len(PASTED), len(PASTED), 0),
        ("你好", 2, 0, None),
        ("Said, not written.", 18, 0, None),
    ]
    assert [one["times_away"] for one in chat["authenticity"]] == [0, 0, 0, 0]
    assert task.world_data() == [chat]
    assert "Traceback" not in task.log

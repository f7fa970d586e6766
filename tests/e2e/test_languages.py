"""A study in another language, over the real wire: nothing that the worker reads is left in English."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from model_chat.configuration.worker_texts import ENGLISH_FILE
from model_chat.tests.e2e.browser import STEP_MILLISECONDS, axe_findings
from model_chat.tests.e2e.running_task import RunningTask, make_fixed_model

Start = Callable[..., RunningTask]

READ_BY_WORKERS = """() => {
    const found = [document.title];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const { parentElement, nodeValue } = walker.currentNode;
        if (parentElement.closest('script, style, noscript') === null) found.push(nodeValue);
    }
    for (const element of document.querySelectorAll('body *')) {
        for (const name of ['aria-label', 'aria-description', 'aria-valuetext', 'title', 'alt', 'placeholder']) {
            found.push(element.getAttribute(name) ?? '');
        }
    }
    return found.filter((text) => /[A-Za-z]/.test(text));
}"""


def disguised(value: Any) -> Any:
    """Texts with every letter replaced by one of another script; places for values stay."""
    if isinstance(value, str):
        return re.sub(r"\{\w+\}|[A-Za-z]", lambda found: found[0] if len(found[0]) > 1 else "ש", value)
    return {key: disguised(one) for key, one in value.items()}


def study(folder: Path) -> list[str]:
    """Write a study without a Latin letter; return its flags."""
    task_data = {
        "min_correct": 1,
        "max_incorrect": 0,
        "max_failures_allowed": 1,
        "dialog": [
            [{"text": "שלום", "agent_idx": 0}, {"text": "להתראות", "agent_idx": 1, "answers": ["none_all_good"]}]
        ],
    }
    boxes = {"none_all_good": {"name": "בסדר", "description": ""}, "wrong": {"name": "שגוי", "description": "לא נכון"}}
    flow = """
pages:
  - {id: consent, kind: consent, text: מחקר}
  - id: about
    kind: questions
    items:
      - {id: years, kind: number, question: שנים, min: 1, max: 9}
      - {id: trust, kind: scale, question: אמון, low: נמוך, high: גבוה}
  - {id: chat, kind: chat}
"""
    files = {
        "texts_path": json.dumps(
            {"language": "he", "page": disguised(ENGLISH_FILE["page"]), "server": disguised(ENGLISH_FILE["server"])}
        ),
        "onboard_task_data_path": json.dumps(task_data),
        "annotations_config_path": json.dumps({"config": boxes}),
        "study_flow_path": flow,
        "task_description_file": "<p>תיאור</p>",
        "left_pane_text_path": "<p>מידע</p>",
    }
    folder.mkdir()
    make_fixed_model(folder / "models" / "a", "אני מסכים")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [
        *(f"mephisto.blueprint.{name}={folder / name}" for name in files),
        f"mephisto.blueprint.base_model_folder={folder / 'models'}",
        "mephisto.blueprint.language=he",
        "mephisto.blueprint.onboarding_qualification=passed",
        "mephisto.blueprint.num_turns=1",
        'mephisto.task.task_title="שיחה"',
    ]


def nothing_is_english(page: Page) -> None:
    assert page.evaluate(READ_BY_WORKERS) == []


def test_no_english_is_left_from_onboarding_to_the_end(start_task: Start, tmp_path: Path, browser: Browser) -> None:
    task = start_task(*study(tmp_path / "study"))
    context = browser.new_context(viewport={"width": 390, "height": 844}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(STEP_MILLISECONDS)
    page.goto(task.worker_url("person"))
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "he")
    page.get_by_test_id("bucket-wrong").check()
    nothing_is_english(page)
    page.get_by_test_id("onboarding-submit").click()
    page.get_by_test_id("onboarding-retry").wait_for()  # the server's sentence
    nothing_is_english(page)
    page.get_by_test_id("bucket-wrong").uncheck()
    page.get_by_test_id("bucket-none_all_good").check()
    page.get_by_test_id("onboarding-submit").click()
    page.get_by_test_id("accept").wait_for()
    nothing_is_english(page)
    page.get_by_test_id("accept").click()
    page.get_by_test_id("item-years").get_by_role("textbox").fill("3")
    page.get_by_test_id("item-trust").locator(".scale-option").first.click()
    nothing_is_english(page)
    page.get_by_test_id("continue").click()
    for ask in ("chat", "rating"):
        page.locator(f"[data-screen={ask}]").wait_for()
        page.get_by_test_id("bucket-none_all_good").last.check()
        if ask == "chat":
            page.get_by_test_id("composer").fill("תודה")
        else:
            page.get_by_test_id("rating-0-4").check(force=True)  # of a question that no flag has set
        nothing_is_english(page)
        assert axe_findings(page) == []
        page.get_by_test_id("send").click()
    page.get_by_test_id("submit").wait_for()
    nothing_is_english(page)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    context.close()
    (saved,) = task.conversations()
    assert saved["status"] == "complete"

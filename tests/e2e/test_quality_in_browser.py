"""Attention checks and refused workers, as a worker sees them in real Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.tests.e2e.browser import axe_findings, chromium
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.e2e.test_browser import on_screen, rate_and_submit, say, wait_for_messages

WORDS = "Attention check: please write the word orange."
BOX = "Attention check: please tick only the last box."


@pytest.fixture
def context() -> Iterator[BrowserContext]:
    with chromium() as browser:
        yield browser.new_context(viewport={"width": 1280, "height": 800})


def test_attention_checks_are_answered_and_a_blocked_worker_reads_why(
    context: BrowserContext, start_task: Callable[..., RunningTask], tmp_path: Path
) -> None:
    checks = tmp_path / "checks.json"
    content = [
        {"turn": 1, "text": WORDS, "expect": ["orange"]},
        {"turn": 2, "text": BOX, "bucket": "none_all_good"},
    ]
    checks.write_text(json.dumps({"checks": content}), encoding="utf-8")
    task = start_task(
        "mephisto.blueprint.num_turns=2",
        "mephisto.blueprint.block_qualification=browser_block",
        f"mephisto.blueprint.attention_checks_path={checks}",
        needed="a:2",
    )
    page = context.new_page()
    page.goto(task.worker_url("eve"))
    wait_for_messages(page, 2)
    say(page, "I like long walks.", "off_topic")
    wait_for_messages(page, 4)
    expect(page.get_by_test_id("message").nth(3)).to_contain_text(WORDS)
    expect(page.get_by_test_id("composer")).to_be_editable()
    expect(page.get_by_test_id("bucket-off_topic")).to_have_count(0)  # nothing to tick for a question of words
    say(page, "An orange.")
    wait_for_messages(page, 6)
    say(page, "And what about you?", "repetition")
    wait_for_messages(page, 8)
    expect(page.get_by_test_id("message").nth(7)).to_contain_text(BOX)
    page.reload()  # a reloaded page knows where it is
    wait_for_messages(page, 8)
    say(page, "Here you are.", "off_topic")  # the wrong box
    wait_for_messages(page, 10)
    rate_and_submit(page, 4, tick="none_all_good")
    page.goto(task.worker_url("eve", "2"))
    on_screen(page, "blocked")
    expect(page.get_by_test_id("reason")).to_have_text(TEXTS[Refusal.ATTENTION])
    assert axe_findings(page) == []
    (chat,) = task.conversations()
    assert [check["passed"] for check in chat["attention_checks"]] == [True, False]
    ticked = [
        [bucket for bucket, on in line["problem_data"].items() if on]
        for line in chat["dialog"]
        if line.get("problem_data")
    ]
    assert ticked == [["off_topic"], ["repetition"], ["none_all_good"]]
    timing = [line["timing"] for line in chat["dialog"] if line["agent_idx"] == 0 and not line.get("fake_start")]
    for times in timing:  # from a real page, all three are there, in order
        assert times["shown"] <= times["first_key"] <= times["sent"]

"""A study flow over the real wire: simulated workers, real Chromium, and a run that is killed in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from model_chat.configuration.study_flow import load_study_flow
from model_chat.conversation.study_answers import check_answers
from model_chat.records.schema import Conversation
from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.browser import axe_findings, chromium
from model_chat.tests.e2e.running_task import RunningTask

Start = Callable[..., RunningTask]
FLOW = """
pages:
  - {id: consent, kind: consent, text: We study chat partners.}
  - id: about
    kind: questions
    shuffle: [items, options]
    items:
      - {id: age_band, kind: choice, question: Age, options: [young, old, very old]}
      - {id: uses, kind: choice, question: Uses, options: [phone, laptop], many: true, other: true}
      - {id: years, kind: number, question: Years, min: 0, max: 80}
      - {id: trusts, kind: scale, question: Trusts, points: 11, low: little, high: much, not_applicable: true}
      - {id: like, kind: slider, question: Like}
      - {id: order, kind: ranking, question: Order, options: [tone, facts, speed]}
      - {id: ends, kind: best_worst, question: Ends, options: [tone, facts, speed]}
      - {id: agree, kind: matrix, question: Agree, rows: [They are kind., They are clever.], points: 7}
      - {id: wish, kind: text, question: Wish, required: no}
  - id: chat
    kind: chat
    every_reply:
      - {id: trust, kind: scale, question: Trust, points: 7}
      - {id: wrong, kind: highlight, question: Wrong, required: no}
    last_reply: [{id: better, kind: text, question: Better, required: no}]
  - {id: after, kind: questions, items: [{id: warmth, kind: slider, question: Warmth}]}
  - {id: debrief, kind: text, text: Both were models.}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def flow(tmp_path: Path) -> str:
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW, encoding="utf-8")
    return f"mephisto.blueprint.study_flow_path={path}"


def test_simulated_workers_live_through_a_study_and_what_is_invalid_is_refused(start_task: Start, flow: str) -> None:
    # A place for each: whoever declines may come before or after the others.
    task = start_task(flow, "mephisto.blueprint.num_turns=2", needed="a:3,b:2")
    behaviours = [Behaviour(sends_invalid=True), Behaviour(), Behaviour(), Behaviour(), Behaviour(declines=True)]
    outcomes = asyncio.run(simulate(task.port, 5, behaviours, seed=3, arrival_gap=0.2))
    results = Counter(outcome.result.partition(":")[0] for outcome in outcomes)
    assert results == {"complete": 4, "declined": 1}, outcomes
    invalid = next(outcome for outcome in outcomes if outcome.refused)
    assert set(invalid.refused) <= {"answer_missing", "answer_invalid", "answer_unexpected"}
    assert sum(invalid.refused.values()) >= 5
    records = task.conversations()
    assert records == sorted(task.world_data(), key=records.index)
    parsed = load_study_flow("", flow.partition("=")[2])
    for record in records:
        saved = Conversation.from_dict(record)
        given = {answer.item: answer.value for answer in saved.answers or [] if answer.page == "about"}
        assert check_answers(parsed.pages[1].all_items, given, {}) == given
        replies = [answer.utterance_idx for answer in saved.answers or [] if answer.item == "trust"]
        assert replies == [1, 3, 5]
        assert (saved.study_orders or {})["about"]["items"]["items"] != []
    assert "Traceback" not in task.log


def test_kill_9_in_the_middle_of_a_study_keeps_each_answered_page(start_task: Start, flow: str) -> None:
    task = start_task(flow, "mephisto.blueprint.num_turns=3", needed="a:2")
    (cut,) = asyncio.run(simulate(task.port, 1, [Behaviour(leave_after=1)]))
    assert cut.result == "left"
    assert task.process is not None
    os.kill(task.process.pid, signal.SIGKILL)
    task.process.wait()
    done = [
        packet["data"]["task_data"]
        for packet in cut.packets
        if packet.get("packet_type") == "client_bound_live_update"
        and packet["data"]["task_data"].get("control") == "page_done"
    ]
    again = start_task(flow, "mephisto.blueprint.num_turns=3", needed="a:2")
    (saved,) = again.conversations()
    assert saved["status"] == "incomplete"
    kept = [(answer["page"], answer["item"], answer["value"]) for answer in saved["answers"]]
    told = [(data["page"], item, value) for data in done for item, value in data["answers"].items()]
    assert kept[: len(told)] == told
    assert [answer["item"] for answer in saved["answers"][len(told) :]].count("trust") == 1
    assert again.world_data() == [saved]


def fill(page: Page) -> None:
    """Answer the page of all kinds, by mouse."""

    def item(name: str) -> Any:
        return page.get_by_test_id(f"item-{name}")

    item("age_band").get_by_text("young", exact=True).click()
    item("uses").get_by_text("laptop").click()
    item("years").get_by_role("textbox").fill("3,5")
    item("trusts").locator(".scale-option").nth(3).click()
    item("like").locator("input").click()
    for _ in range(3):
        item("order").locator(".unranked-option").first.click()
    item("ends").locator(".scale-option").nth(0).click()
    item("ends").locator(".scale-option").nth(3).click()
    for row in range(2):
        item("agree").locator(".matrix-row").nth(row).locator(".scale-option").nth(4).click()
    item("wish").get_by_role("textbox").fill("More patience.")


@pytest.mark.parametrize("size", [(1280, 800), (360, 640), (320, 256)], ids=["desktop", "phone", "zoomed"])
def test_a_person_goes_through_the_study(start_task: Start, flow: str, browser: Browser, size: tuple[int, int]) -> None:
    task = start_task(flow, "mephisto.blueprint.num_turns=1", needed="a:1")
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, has_touch=size[0] < 500)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(task.worker_url("person"))
    page.get_by_test_id("accept").click()
    page.get_by_test_id("item-age_band").wait_for()
    page.get_by_test_id("continue").click(force=True)
    expect(page.locator(".item-problem")).to_have_count(8)
    assert axe_findings(page) == []
    fill(page)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.reload()  # what was filled in is kept
    expect(page.get_by_test_id("item-wish").get_by_role("textbox")).to_have_value("More patience.")
    assert axe_findings(page) == []
    page.get_by_test_id("continue").click()
    page.get_by_test_id("reply-items").wait_for()
    page.reload()  # and so is the place in the flow
    for ask in ("chat", "rating"):
        page.locator(f"[data-screen={ask}]").wait_for()
        page.get_by_test_id("bucket-none_all_good").last.check()
        page.get_by_test_id("item-trust").locator(".scale-option").nth(6).click()
        page.get_by_test_id("item-wrong").locator(".word").first.click()
        if ask == "chat":
            page.get_by_test_id("composer").fill("I like tea.")
        else:
            for question in page.locator("[data-answers=rating]").all():
                question.locator(".scale-option").nth(3).click()
        assert axe_findings(page) == []
        page.get_by_test_id("send").click()
    page.get_by_test_id("item-warmth").wait_for()
    page.get_by_test_id("item-warmth").get_by_role("slider").press("ArrowRight")
    page.get_by_test_id("continue").click()
    page.locator("[data-page=debrief]").wait_for()
    page.get_by_test_id("continue").click()
    page.get_by_test_id("submit").click()
    page.get_by_test_id("submitted").wait_for()
    context.close()
    (saved,) = task.conversations()
    answers = {answer["item"]: answer["value"] for answer in saved["answers"]}
    assert (saved["status"], answers["years"], answers["warmth"], answers["agree"]) == (
        "complete",
        3.5,
        51,
        {"They are kind.": 5, "They are clever.": 5},
    )
    assert answers["wrong"][0]["text"] == saved["dialog"][3]["text"][: answers["wrong"][0]["end"]]


def test_a_person_who_declines_is_told_so_also_after_a_reload(start_task: Start, flow: str, browser: Browser) -> None:
    task = start_task(flow, needed="a:1")
    page = browser.new_page()
    page.goto(task.worker_url("person"))
    page.get_by_test_id("decline").click()
    for _ in range(2):
        page.get_by_role("heading", name="You are not taking part").wait_for()
        assert axe_findings(page) == []
        page.reload()
        page.get_by_test_id("submit").wait_for()
    page.get_by_test_id("submit").click()
    page.get_by_test_id("submitted").wait_for()
    assert task.conversations() == task.world_data() == []
    task.interrupt()
    task.wait()
    assert "0 in flight; 1 declined to take part" in task.log

"""The whole task in real Chromium, as a worker goes through it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from model_chat.records.journal import JOURNAL_NAME, read_journal
from model_chat.records.schema import Conversation
from model_chat.tests.e2e.browser import CuttableProxy, Received, axe_findings
from model_chat.tests.e2e.running_task import ROOT, RunningTask, wait_until

Start = Callable[..., RunningTask]
SIZES = (1440, 900), (360, 740)
NO_ANNOTATION = "mephisto.blueprint.annotations_config_path=''"
ONBOARDING = "mephisto.blueprint.onboarding_qualification=test_onboarding"
DIALOGS = json.loads((ROOT / "task_config/onboard_task_data.json").read_text(encoding="utf-8"))["dialog"]


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    fresh = browser.new_context(viewport={"width": 1280, "height": 800})
    yield fresh
    fresh.close()


@pytest.fixture
def received(context: BrowserContext) -> Received:
    return Received(context)


def on_screen(page: Page, name: str) -> None:
    expect(page.locator(f'[data-screen="{name}"]')).to_be_visible(timeout=60_000)


def messages(page: Page) -> list[str]:
    return page.get_by_test_id("message").all_inner_texts()


def wait_for_messages(page: Page, count: int) -> None:
    expect(page.get_by_test_id("message")).to_have_count(count, timeout=60_000)


def say(page: Page, text: str, tick: str | None = None) -> None:
    """Annotate the last reply, if asked to, and send a message."""
    if tick is not None:
        page.get_by_test_id(f"bucket-{tick}").check()
    page.get_by_test_id("composer").fill(text)
    send(page)


def send(page: Page) -> None:
    """Send what is in the field. The reply may be there a moment before the worker's turn, which Enter waits for here."""
    expect(page.get_by_test_id("send")).to_have_attribute("aria-disabled", "false")
    page.get_by_test_id("composer").press("Enter")


def rate_and_submit(page: Page, rating: int, tick: str | None = None, questions: int = 1) -> None:
    on_screen(page, "rating")
    if tick is not None:
        page.get_by_test_id(f"bucket-{tick}").check()
    for question in range(questions):
        page.get_by_test_id(f"rating-{question}-{rating}").check()
    page.get_by_test_id("send").click()
    on_screen(page, "finished")
    page.get_by_test_id("submit").click()
    expect(page.get_by_test_id("submitted")).to_be_visible()


def replies_on_disk(task: RunningTask) -> int:
    """How many replies the only conversation of a task has, as far as it is written down."""
    entries = [entry for path in task.data.rglob(JOURNAL_NAME) for entry in read_journal(path)]
    return sum(entry.get("message", {}).get("task_data", {}).get("agent_idx") == 1 for entry in entries)


def fill_onboarding(page: Page, right: bool) -> None:
    """Tick the form with the right answers, or with wrong ones."""
    on_screen(page, "onboarding")
    number = 0
    for dialog in DIALOGS:
        for line in dialog:
            utterance = page.get_by_test_id("onboarding-utterance").nth(number)
            number += 1
            if line["agent_idx"] == 1:
                for box in utterance.locator('[data-testid^="bucket-"]:checked').all():
                    box.uncheck()  # the form keeps what was ticked in an earlier try
                for value in line["answers"] if right else ["unkind"]:
                    utterance.get_by_test_id(f"bucket-{value}").check()
    page.get_by_test_id("onboarding-submit").click()


def test_a_worker_goes_from_preview_to_submission_with_a_trained_model(
    context: BrowserContext, received: Received, tmp_path: Path
) -> None:
    flags = [
        f"mephisto.blueprint.base_model_folder={ROOT}/models",
        'mephisto.blueprint.conversations_needed_string="demo/blender_tiny:1"',
        "mephisto.blueprint.num_turns=3",
        NO_ANNOTATION,
    ]
    with RunningTask(tmp_path / "task", flags, forked=False) as task:
        page = context.new_page()
        page.goto(task.url)
        on_screen(page, "preview")
        expect(page.get_by_text("Chat with a partner").first).to_be_visible()
        page.goto(task.worker_url("alice"))
        wait_for_messages(page, 2)  # "Hi!" and the model's reply to it
        for turn in range(3):
            say(page, f"I like trees and birds, number {turn}.")
            if turn < 2:
                wait_for_messages(page, 4 + 2 * turn)
        rate_and_submit(page, rating=5)
        assert task.wait() == 0, task.log
    (in_file,), (in_database,) = task.conversations(), task.world_data()
    assert in_file == in_database
    chat = Conversation.from_dict(in_file)
    assert chat.status == "complete"
    assert [utterance.text for utterance in chat.dialog if utterance.agent_idx == 0] == [
        "Hi!",
        *(f"I like trees and birds, number {turn}." for turn in range(3)),
    ]
    assert len(chat.dialog) == 8
    assert chat.dialog[-1].final_rating == "5"
    assert chat.workers == ["alice"]
    assert chat.task_description.model_nickname == "demo/blender_tiny"
    assert task.agent_statuses() == ["completed"]
    assert chat.dialog[-1].text in received.text  # the recording does see what the page is sent
    for secret in ("blender_tiny", "model.opt", "transformer/generator", str(ROOT / "models"), "WORLD_DATA"):
        assert secret not in received.text
    assert received.console == []


def test_annotation_is_asked_for_each_reply_and_several_ratings_at_the_end(
    context: BrowserContext, received: Received, start_task: Start
) -> None:
    task = start_task(
        "mephisto.blueprint.num_turns=2", 'mephisto.blueprint.final_rating_question="How fluent?|How engaging?"'
    )
    page = context.new_page()
    page.goto(task.worker_url("bob"))
    wait_for_messages(page, 2)
    page.get_by_test_id("composer").fill("Not yet annotated.")
    page.get_by_test_id("composer").press("Enter")
    expect(page.get_by_test_id("send-reason")).to_contain_text("tick at least one box")
    assert len(messages(page)) == 2
    page.get_by_test_id("bucket-off_topic").check()
    page.get_by_test_id("bucket-none_all_good").check()
    expect(page.get_by_test_id("bucket-off_topic")).not_to_be_checked()  # "all good" excludes the rest
    page.get_by_test_id("bucket-repetition").check()
    expect(page.get_by_test_id("bucket-none_all_good")).not_to_be_checked()
    say(page, "First message.")
    wait_for_messages(page, 4)
    expect(page.get_by_test_id("frozen-annotation").first).to_be_visible()
    say(page, "Second message.", tick="none_all_good")
    rate_and_submit(page, rating=3, tick="unkind", questions=2)
    assert task.wait() == 0, task.log
    (saved,) = task.conversations()
    ticked = [
        [bucket for bucket, value in utterance["problem_data"].items() if value]
        for utterance in saved["dialog"]
        if utterance["agent_idx"] == 1
    ]
    assert ticked == [["repetition"], ["none_all_good"], ["unkind"]]
    assert saved["dialog"][-1]["final_rating"] == "3|3"
    typed = [utterance for utterance in saved["dialog"] if utterance.get("message_id")]
    assert all(utterance["timing"]["shown"] <= utterance["timing"]["sent"] for utterance in typed)
    assert received.console == []


def test_onboarding_is_failed_once_explained_then_passed(context: BrowserContext, start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=1", ONBOARDING)
    page = context.new_page()
    page.goto(task.worker_url("carol"))
    fill_onboarding(page, right=False)
    expect(page.get_by_test_id("onboarding-retry")).to_contain_text("Tries left: 1")
    expect(page.get_by_test_id("explanation").first).to_be_visible()
    replies = [line for dialog in DIALOGS for line in dialog if line["agent_idx"] == 1]
    wrong = [line for line in replies if line["answers"] != ["unkind"]]
    expect(page.get_by_test_id("wrong-reply")).to_have_count(len(wrong))
    expect(page.locator(".verdict.wrong")).to_have_count(len(wrong))
    assert axe_findings(page) == []
    page.get_by_test_id("wrong-reply").last.click()
    expect(page.get_by_role("checkbox").locator(":scope:focus")).to_have_count(1)
    page.reload()  # gives no new try
    on_screen(page, "onboarding")
    expect(page.get_by_text("last try")).to_be_visible()
    fill_onboarding(page, right=True)
    wait_for_messages(page, 2)
    say(page, "Hello again.", tick="none_all_good")
    rate_and_submit(page, rating=2, tick="none_all_good")
    assert task.wait() == 0, task.log
    assert task.rows("SELECT status FROM onboarding_agents") == ["approved"]


def test_onboarding_failed_for_good_is_final_in_every_tab(context: BrowserContext, start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=1", ONBOARDING)
    page = context.new_page()
    page.goto(task.worker_url("dave"))
    fill_onboarding(page, right=False)
    expect(page.get_by_test_id("onboarding-retry")).to_contain_text("Tries left: 1")
    fill_onboarding(page, right=False)
    on_screen(page, "failed")
    assert axe_findings(page) == []
    page.reload()
    expect(page.locator('[data-screen="blocked"], [data-screen="no-work"], [data-screen="failed"]')).to_be_visible()
    second = context.new_page()
    second.goto(task.worker_url("dave", "2"))
    expect(second.locator('[data-screen="blocked"], [data-screen="no-work"]')).to_be_visible()
    assert axe_findings(second) == []
    statuses = "SELECT status FROM onboarding_agents"
    wait_until(lambda: task.rows(statuses) == ["rejected"], lambda: task.rows(statuses))


def test_every_screen_is_accessible_and_fits(context: BrowserContext, start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=1", ONBOARDING)
    page = context.new_page()

    def check(screen: str) -> None:
        on_screen(page, screen)
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            assert axe_findings(page) == [], (screen, width)
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{screen} is {overflow} px too wide at {width}"

    page.goto(task.url)
    check("preview")
    page.goto(task.worker_url("erin"))
    check("onboarding")
    fill_onboarding(page, right=True)
    wait_for_messages(page, 2)
    check("chat")
    say(page, "A very long word: " + "Donaudampfschifffahrt" * 12, tick="none_all_good")
    check("rating")
    page.get_by_test_id("bucket-none_all_good").check()
    page.get_by_test_id("rating-0-4").check()
    page.get_by_test_id("send").click()
    check("finished")
    page.get_by_test_id("submit").click()
    expect(page.get_by_test_id("submitted")).to_be_visible()
    assert axe_findings(page) == []
    assert task.wait() == 0, task.log


def test_a_reload_at_any_moment_loses_nothing(context: BrowserContext, start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2")
    page = context.new_page()
    page.goto(task.worker_url("frank"))
    wait_for_messages(page, 2)
    page.get_by_test_id("bucket-off_topic").check()
    page.get_by_test_id("composer").fill("A draft that survives")
    page.reload()
    wait_for_messages(page, 2)
    expect(page.get_by_test_id("composer")).to_have_value("A draft that survives")
    expect(page.get_by_test_id("bucket-off_topic")).to_be_checked()
    send(page)
    page.reload()
    wait_for_messages(page, 4)
    assert "A draft that survives" in messages(page)[2]
    expect(page.get_by_test_id("composer")).to_have_value("")
    say(page, "The second one.", tick="none_all_good")
    on_screen(page, "rating")
    page.reload()
    rate_and_submit(page, rating=1, tick="none_all_good")
    assert task.wait() == 0, task.log
    (saved,) = task.conversations()
    assert [utterance["text"] for utterance in saved["dialog"] if utterance["agent_idx"] == 0] == [
        "Hi!",
        "A draft that survives",
        "The second one.",
    ]
    assert saved["dialog"][1]["problem_data"]["off_topic"] is True


def test_two_tabs_show_one_conversation_and_never_send_a_turn_twice(context: BrowserContext, start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2")
    first, second = context.new_page(), context.new_page()
    for page in (first, second):
        page.goto(task.worker_url("grace"))
        wait_for_messages(page, 2)
    for page in (first, second):
        page.get_by_test_id("bucket-none_all_good").check()
        page.get_by_test_id("composer").fill(f"From tab {1 if page is first else 2}.")
        expect(page.get_by_test_id("send")).to_have_attribute("aria-disabled", "false")
    first.get_by_test_id("composer").press("Enter")
    second.get_by_test_id("composer").press("Enter")
    first.bring_to_front()
    for page in (first, second):
        page.reload()
        wait_for_messages(page, 4)
    assert messages(first) == messages(second)
    say(first, "The last one.", tick="none_all_good")
    rate_and_submit(first, rating=5, tick="none_all_good")
    assert task.wait() == 0, task.log
    (saved,) = task.conversations()
    assert [utterance["agent_idx"] for utterance in saved["dialog"]] == [0, 1, 0, 1, 0, 1]
    assert len(re.findall(r"From tab \d", json.dumps(saved["dialog"]))) == 1


def test_a_reply_that_comes_while_there_is_no_network_is_not_lost(context: BrowserContext, start_task: Start) -> None:
    task = start_task("mephisto.blueprint.num_turns=2")
    proxy = CuttableProxy(task.port)
    try:
        page = context.new_page()
        page.goto(task.worker_url("heidi").replace(str(task.port), str(proxy.port)))
        wait_for_messages(page, 2)
        say(page, "Sent just before the tunnel.", tick="none_all_good")
        expect(page.get_by_test_id("message").nth(2)).to_be_visible()
        proxy.cut()
        expect(page.get_by_test_id("connection-banner")).to_be_visible()
        page.get_by_test_id("composer").fill("Typed in the tunnel.")
        wait_until(lambda: replies_on_disk(task) == 2, lambda: task.log)
        proxy.restore()
        wait_for_messages(page, 4)
        expect(page.get_by_test_id("composer")).to_have_value("Typed in the tunnel.")
        say(page, "Typed in the tunnel.", tick="none_all_good")
        rate_and_submit(page, rating=4, tick="none_all_good")
        assert task.wait() == 0, task.log
    finally:
        proxy.close()
    (saved,) = task.conversations()
    assert saved["status"] == "complete"
    assert [utterance["text"] for utterance in saved["dialog"] if utterance["agent_idx"] == 0][1:] == [
        "Sent just before the tunnel.",
        "Typed in the tunnel.",
    ]


def test_html_of_worker_and_model_is_shown_as_text(
    context: BrowserContext, received: Received, start_task: Start, models: Path
) -> None:
    attack = '<img src=x onerror="document.title=1"><b>bold</b>'
    (models / "a" / "model.opt").write_text(
        json.dumps({"model": "fixed_response", "fixed_response": attack, "dict_lower": False}), encoding="utf-8"
    )
    task = start_task("mephisto.blueprint.num_turns=1", NO_ANNOTATION)
    page = context.new_page()
    page.goto(task.worker_url("ivan"))
    wait_for_messages(page, 2)
    assert attack in messages(page)[1]
    title = page.title()
    say(page, attack)
    on_screen(page, "rating")
    assert page.title() == title
    assert page.locator('[data-testid="message"] img, [data-testid="message"] b').count() == 0
    (_,) = [part for part in received.parts if '"fake_start"' in part and "past_live" not in part][:1]


def test_personas_fill_the_side_pane_and_seed_utterances_count_as_said(
    context: BrowserContext, received: Received, start_task: Start
) -> None:
    task = start_task(
        "mephisto.blueprint.num_turns=1",
        "mephisto.blueprint.conversation_start_mode=model_chat.tasks.small_talk",
        "mephisto.blueprint.include_persona=true",
        "mephisto.blueprint.context_seed=7",
    )
    page = context.new_page()
    page.goto(task.worker_url("judy"))
    wait_for_messages(page, 2)
    assert page.get_by_test_id("bucket-none_all_good").count() == 0  # what was said before is not annotated
    pane = page.get_by_test_id("pane").inner_text()
    assert "persona_string" not in pane
    say(page, "Good to meet you.")
    rate_and_submit(page, rating=4, tick="none_all_good")
    assert task.wait() == 0, task.log
    (saved,) = task.conversations()
    human, model = saved["personas"]
    assert all(line in pane for line in human)
    assert not any(line in received.text for line in model)
    assert saved["context_dataset"] == "small_talk"
    assert [utterance["text"] for utterance in saved["dialog"][:2]] == [
        saved["person1_seed_utterance"],
        saved["person2_seed_utterance"],
    ]
    assert all(
        utterance["fake_start"] is True and utterance["episode_done"] is False for utterance in saved["dialog"][:2]
    )
    assert "problem_data" not in saved["dialog"][1]
    assert saved["dialog"][3]["problem_data"]["none_all_good"] is True

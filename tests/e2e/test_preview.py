"""The preview shows a study's own page, conversation and onboarding without a database, and follows its files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from model_chat.tests import preloaded
from model_chat.tests.e2e.browser import STEP_MILLISECONDS, axe_findings, chromium
from model_chat.tests.e2e.running_task import ROOT, START_SECONDS

REPLY = "A fixed reply, with a 'quote'."


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A copy of the shipped texts, to be changed."""
    return Path(shutil.copytree(ROOT / "task_config", tmp_path / "texts"))


def printed_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address the preview prints once it serves; the log is read from its file, since a pipe's reader buffers."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        found = re.search("^Preview: (.*)\n", log.read_text("utf-8"), re.MULTILINE)
        if found:
            return found[1].strip()
        assert process.poll() is None, log.read_text("utf-8")
        time.sleep(0.1)
    raise AssertionError(f"no address in {START_SECONDS:g} s: {log.read_text('utf-8')}")


@pytest.fixture
def address(tmp_path: Path, texts: Path) -> Iterator[str]:
    """A preview of two turns with onboarding, as a process of its own."""
    command = [sys.executable, "scripts/preview.py", "--config=example", f"--reply={REPLY}", "--onboarding", "--port=0"]
    flags = ["--no-browser", "mephisto.architect.public_url=https://study.example.org/pets/"]
    flags += [f"mephisto.blueprint.task_config_path={texts}", "mephisto.blueprint.num_turns=1"]
    home = tmp_path / "home"
    home.mkdir()
    log = tmp_path / "preview.log"
    with (
        log.open("w", encoding="utf-8") as stderr,
        preloaded.Popen(
            [*command, *flags], cwd=ROOT, env={**os.environ, "HOME": str(home), "TMPDIR": str(tmp_path)}, stderr=stderr
        ) as process,
    ):
        try:
            yield printed_address(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    said = log.read_text("utf-8")
    assert process.returncode == 0, said
    assert "Workers of the run: https://study.example.org/pets/" in said
    # No database and no conversation anywhere, and its own temporary files are gone.
    left = [path.name for path in tmp_path.rglob("*") if path.suffix == ".db" or "conversation" in path.name]
    assert left == []
    assert list(tmp_path.glob("model_chat_preview_*")) == []


def on_screen(page: Page, name: str) -> None:
    expect(page.locator(f'[data-screen="{name}"]')).to_be_visible()


def is_usable(page: Page, button: str) -> None:
    """On a phone and on a desk, with the bar: accessible, and the button is not covered by it."""
    before = page.viewport_size
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert axe_findings(page) == []
        bar, pressed = (
            page.get_by_label("Preview", exact=True).bounding_box(),
            page.get_by_test_id(button).bounding_box(),
        )
        if bar is None or pressed is None:
            raise AssertionError("the bar or the button is not shown")
        assert pressed["y"] + pressed["height"] <= bar["y"]
        assert bar["y"] + bar["height"] <= 800
    page.set_viewport_size(before or {"width": 1280, "height": 720})


def test_a_study_is_seen_as_workers_will_see_it_and_follows_its_files(address: str, texts: Path) -> None:
    dialogs = json.loads((texts / "onboard_task_data.json").read_text(encoding="utf-8"))["dialog"]
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(STEP_MILLISECONDS)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        on_screen(page, "onboarding")
        is_usable(page, "onboarding-submit")

        # A text changes: the page starts over with it.
        left_pane = texts / "left_pane_text.html"
        left_pane.write_text("<p>A wording that is new.</p>", encoding="utf-8")
        page.get_by_role("link", name="Chat", exact=True).click()
        on_screen(page, "chat")
        expect(page.get_by_text("A wording that is new.")).to_be_visible()
        expect(page.get_by_text(REPLY)).to_be_visible()
        left_pane.write_text("<p>Once more.</p>", encoding="utf-8")
        expect(page.get_by_text("Once more.")).to_be_visible()

        # A fault is said on the page, which stays as it is, and goes with its cause.
        annotations = texts / "annotations_config.json"
        before = annotations.read_text(encoding="utf-8")
        annotations.write_text(before.rstrip().removesuffix("}"), encoding="utf-8")
        alert = page.get_by_role("alert").filter(has_text="annotations_config.json")
        expect(alert).to_contain_text(re.compile("is not valid JSON: line [0-9]+"))
        expect(page.get_by_text("Once more.")).to_be_visible()
        is_usable(page, "send")
        annotations.write_text(before, encoding="utf-8")
        expect(alert).to_have_count(0)
        on_screen(page, "chat")

        # The whole conversation, refusals included, is the task's own.
        expect(page.get_by_text(REPLY)).to_have_count(1)
        page.get_by_test_id("bucket-none_all_good").check()
        page.get_by_test_id("composer").fill("I like tea.")
        page.get_by_test_id("composer").press("Enter")
        on_screen(page, "rating")
        expect(page.get_by_text(REPLY)).to_have_count(2)
        page.reload()
        on_screen(page, "rating")
        page.get_by_test_id("bucket-none_all_good").check()
        page.get_by_test_id("rating-0-4").check()
        page.get_by_test_id("send").click()
        on_screen(page, "finished")
        page.get_by_test_id("submit").click()
        expect(page.get_by_test_id("submitted")).to_be_visible()

        # Starting over begins a new conversation; onboarding is graded as in a run.
        page.get_by_role("link", name="Start over").click()
        on_screen(page, "chat")
        page.get_by_role("link", name="Onboarding").click()
        on_screen(page, "onboarding")
        lines = [line for dialog in dialogs for line in dialog]
        for number, line in enumerate(lines):
            for answer in line.get("answers", ()):
                page.get_by_test_id("onboarding-utterance").nth(number).get_by_test_id(f"bucket-{answer}").check()
        page.get_by_test_id("onboarding-submit").click()
        on_screen(page, "chat")

        # Once passed, a change elsewhere stays with the chat; the link leads to the onboarding again.
        left_pane.write_text("<p>After the onboarding.</p>", encoding="utf-8")
        expect(page.get_by_text("After the onboarding.")).to_be_visible()
        on_screen(page, "chat")
        page.get_by_role("link", name="Onboarding").click()
        on_screen(page, "onboarding")
        assert errors == []

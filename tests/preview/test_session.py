"""A preview follows its files, plays the task's own worlds, and keeps nothing."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.exceptions import AgentShutdownError, AgentTimeoutError
from rich.console import Console

from model_chat import worlds
from model_chat.bot_agent import BotAgent
from model_chat.configuration.hydra import ROOT
from model_chat.errors import ConfigurationError
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.preview.seat import PreviewHuman
from model_chat.preview.session import Preview
from model_chat.tests.endpoint_server import reply, serving
from model_chat.tests.seats import ScriptedHuman, chat_options, message, play

B = "mephisto.blueprint"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "task_config", tmp_path / "texts"))


@pytest.fixture
def preview(texts: Path) -> Iterator[Preview]:
    flags = [f"{B}.task_config_path={texts}", f"{B}.num_turns=1", "mephisto/provider=mturk"]
    made = Preview(flags, "Fixed.", True, Console(file=io.StringIO()))
    yield made
    made.close()


def write(file: Path, text: str) -> None:
    """Write a file so that its time differs, however coarse the file system's clock."""
    file.write_text(text, encoding="utf-8")
    later = time.time_ns() + 5_000_000_000
    os.utime(file, ns=(later, later))


def test_a_changed_file_starts_over_and_a_fault_leaves_what_was_there(preview: Preview, texts: Path) -> None:
    left_pane, buckets = texts / "left_pane_text.html", texts / "annotations_config.json"
    preview.look_for_changes()
    assert preview.version == 0
    write(left_pane, "<p>new</p>")
    preview.look_for_changes()
    assert preview.version == 1
    assert preview.study.shared.page_config["left_pane_text"] == "<p>new</p>"
    good = buckets.read_text(encoding="utf-8")
    write(buckets, "{")
    preview.look_for_changes()
    assert len(preview.faults) == 1
    assert f"{B}.annotations_config_path" in preview.faults[0]
    assert preview.version == 1
    write(buckets, good + "\n\n")
    preview.look_for_changes()
    assert (preview.version, preview.faults) == (2, ())


def test_all_faults_are_said_at_the_start_and_nothing_is_left_behind(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    flags = [f"{B}.left_pane_text_path=no.html", f"{B}.num_turns=0"]
    with pytest.raises(ConfigurationError) as caught:
        Preview(flags, "Fixed.", False, Console(file=io.StringIO()))
    assert len(caught.value.faults) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_page_learns_no_answers_and_no_model(preview: Preview) -> None:
    async def ask() -> Any:
        return preview.request_agent({"agent_registration_id": "preview-onboarding"})

    details = str(asyncio.run(ask())) + str(preview.study.shared.page_config)
    assert "Do you have any pets?" in details
    for secret in ("answers", "explanation", "fixed_response", "model_chat_preview"):
        assert secret not in details


def test_a_page_that_asks_again_gets_the_same_conversation_until_it_starts_over(preview: Preview) -> None:
    async def ask() -> list[str]:
        def agent_id() -> str:
            answer = preview.request_agent({"agent_registration_id": "preview-chat"})
            return str(answer["data"]["agent_id"])

        first, again = agent_id(), agent_id()
        preview.start_over()
        return [first, again, agent_id()]

    first, again, other = asyncio.run(ask())
    assert first == again != other


class Onboarded:
    """A page that has passed the preview's onboarding; to be used inside a running loop."""

    REGISTRATION = "preview-onboarding"

    def __init__(self, preview: Preview) -> None:
        self.preview = preview

    def agent_id(self, registration: str = REGISTRATION) -> str:
        return str(self.preview.request_agent({"agent_registration_id": registration})["data"]["agent_id"])

    @property
    def sees_onboarding(self) -> bool:
        return self.agent_id().startswith("onboarding")

    async def passes(self) -> None:
        agent_id = self.agent_id()
        human = self.preview.agent(agent_id)
        assert human is not None
        answers = self.preview.study.shared.onboarding_world_opt.config.right_answers()
        human.deliver({"update_id": "a", "task_data": {"message_id": "a", "onboarding_answers": answers}})
        while human.status != AgentState.STATUS_WAITING:
            await asyncio.sleep(0.01)
        assert not str(self.preview.submit_onboarding(agent_id)["data"]["agent_id"]).startswith("onboarding")


def test_who_has_passed_onboarding_sees_the_chat_after_a_change_elsewhere(preview: Preview, texts: Path) -> None:
    async def play() -> None:
        page = Onboarded(preview)
        assert page.sees_onboarding
        write(texts / "left_pane_text.html", "<p>before it is passed</p>")
        preview.look_for_changes()
        assert page.sees_onboarding
        await page.passes()
        for name in ("left_pane_text.html", "task_description.html"):
            write(texts / name, "<p>new</p>")
            preview.look_for_changes()
            assert not page.sees_onboarding, name

    asyncio.run(play())
    assert preview.version == 3


def test_a_changed_onboarding_is_shown_again(preview: Preview, texts: Path) -> None:
    async def play() -> None:
        page = Onboarded(preview)
        await page.passes()
        file = texts / "onboard_task_data.json"
        write(file, file.read_text(encoding="utf-8").replace("Do you have any pets?", "Have you any pets?"))
        preview.look_for_changes()
        assert page.sees_onboarding

    asyncio.run(play())


@pytest.mark.parametrize("again", ["start_over", "repeat_onboarding"])
def test_onboarding_can_be_seen_again_after_it_was_passed(preview: Preview, again: str) -> None:
    async def play() -> bool:
        page = Onboarded(preview)
        await page.passes()
        chat = page.agent_id("preview-chat")
        getattr(preview, again)()
        assert page.sees_onboarding
        return page.agent_id("preview-chat") == chat

    goes_on = asyncio.run(play())
    assert goes_on is (again == "repeat_onboarding"), "the other page's chat is not the onboarding's"


def test_the_seat_takes_a_packet_once_and_ends_as_a_workers_does() -> None:
    loop = asyncio.new_event_loop()
    human = PreviewHuman("1", loop)
    human.deliver({"update_id": "a", "text": "one"})
    human.deliver({"update_id": "a", "text": "one"})
    human.deliver({"update_id": "b", "text": "two"})
    assert human.receive(time.monotonic() + 5) == {"update_id": "a", "text": "one"}
    assert human.discard_waiting() == [{"update_id": "b", "text": "two"}]
    with pytest.raises(AgentTimeoutError):
        human.receive(time.monotonic())
    human.leave()
    with pytest.raises(AgentShutdownError):
        human.receive(time.monotonic() + 5)
    loop.close()


def test_one_can_talk_to_a_model_of_the_study_that_is_behind_an_endpoint(texts: Path, tmp_path: Path) -> None:
    with serving() as server:
        server.default = reply("From the endpoint.")
        models = tmp_path / "models.yaml"
        models.write_text(
            f"e: {{base_url: {server.url}, endpoint_model: x}}\nf: --model fixed_response\n", encoding="utf-8"
        )
        flags = [f"{B}.task_config_path={texts}", f"{B}.num_turns=1", f"{B}.model_opt_path={models}"]
        with pytest.raises(ConfigurationError, match="'f' is not behind an endpoint"):
            Preview(flags, "Fixed.", False, Console(file=io.StringIO()), "f")
        with pytest.raises(ConfigurationError, match="'nobody'"):
            Preview(flags, "Fixed.", False, Console(file=io.StringIO()), "nobody")
        made = Preview(flags, "Fixed.", False, Console(file=io.StringIO()), "e")
        try:
            bot = BotAgent(made.study.shared.world_opt.models, "e")
            bot.observe({"id": "Speaker 1", "text": "Hi!"})
            assert bot.act().text == "From the endpoint."
        finally:
            made.close()


def test_the_page_is_sent_parts_of_a_reply_which_are_not_kept() -> None:
    loop = asyncio.new_event_loop()
    human = PreviewHuman("1", loop)

    class Page:
        def __init__(self) -> None:
            self.got: list[Any] = []

        def send(self, packet: str) -> None:
            self.got.append(json.loads(packet))

    page = Page()
    human.sockets.add(page)
    assert human.send_part(lambda: {"control": "reply_part", "part": 1, "text": "I"})
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    (packet,) = page.got
    assert packet["packet_type"] == "client_bound_live_update"
    assert packet["data"]["task_data"] == {"control": "reply_part", "part": 1, "text": "I"}
    assert human.updates == []


def test_a_reply_that_is_held_back_ends_with_the_conversation() -> None:
    loop = asyncio.new_event_loop()
    human = PreviewHuman("1", loop)
    until = time.monotonic() + 0.1
    human.wait(until)
    assert time.monotonic() >= until
    waiting = threading.Thread(target=human.wait, args=(time.monotonic() + 60,))
    waiting.start()
    human.leave()
    waiting.join(30)
    loop.close()
    assert not waiting.is_alive()


def test_who_runs_out_of_time_sees_what_a_worker_would(preview: Preview) -> None:
    loop = asyncio.new_event_loop()
    human = PreviewHuman("1", loop)
    shared = ModelChatSharedState(world_module=worlds, world_opt=chat_options(max_resp_time=1))
    chat = threading.Thread(target=preview._run_chat, args=(shared, human, "1-chat"))
    chat.start()

    def controls() -> list[Any]:
        return [update["task_data"] for update in list(human.updates) if "control" in update["task_data"]]

    while not any(data["control"] == "your_turn" for data in controls()):
        time.sleep(0.01)
    human.deliver(message("I like tea.", "bucket_0"))
    chat.join(30)
    loop.close()
    ended = controls()[-1]
    assert (ended["control"], ended["outcome"], ended["cause"]) == ("ended", "incomplete", "timeout")


def test_a_study_with_comparisons_shows_two_replies(texts: Path) -> None:
    flags = [f"{B}.task_config_path={texts}", f"{B}.num_turns=1", f"{B}.comparison=per_turn"]
    made = Preview(flags, "Fixed.", False, Console(file=io.StringIO()))
    try:
        options = made.study.shared.world_opt
        assert options is not None
        human = ScriptedHuman(
            message("One.", "none_all_good"), message("", comparison={"pick": "left", "strength": None})
        )
        world = worlds.make_world(options, [human])
        play(world, until=lambda: bool(human.controls("comparison_done")))
        (shown,) = human.controls("comparison")
        assert {shown["left"]["text"], shown["right"]["text"]} == {"Fixed.", "Another reply: Fixed."}
    finally:
        made.close()

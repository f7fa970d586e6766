"""A preview follows its files, plays the task's own worlds, and keeps nothing."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.exceptions import AgentShutdownError, AgentTimeoutError
from PIL import Image
from rich.console import Console

from model_chat import worlds
from model_chat.bot_agent import BotAgent
from model_chat.configuration.hydra import ROOT
from model_chat.errors import ConfigurationError
from model_chat.images.contexts import ImageContextsWriter
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.preview.agent import PreviewHuman
from model_chat.preview.session import MOST_CONVERSATIONS, Preview
from model_chat.tests.endpoint_server import reply, serving
from model_chat.tests.scripted_human import ScriptedHuman, chat_options, message, play

B = "mephisto.blueprint"
FLOW = """
pages:
  - {id: about, kind: questions, items: [{id: years, kind: number, question: Years}]}
  - {id: chat, kind: chat}
"""


def nobody_listens(packet_type: str, agent_id: str, data: dict[str, Any]) -> None:
    """Sends nothing."""


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
    flags = [f"{B}.left_pane_text_path=no.html", f"{B}.num_turns=0", f"{B}.design_path=no.yaml"]
    with pytest.raises(ConfigurationError) as caught:
        Preview(flags, "Fixed.", False, Console(file=io.StringIO()))
    assert len(caught.value.faults) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_study_with_a_design_is_shown_without_a_condition(tmp_path: Path) -> None:
    design = tmp_path / "design.yaml"
    design.write_text("factors: {model: [large_one, small_one]}\nconversations_per_cell: 5\n", encoding="utf-8")
    flags = [f"{B}.design_path={design}", f"{B}.conversations_needed_string=null"]

    preview = Preview(flags, "Fixed.", False, Console(file=io.StringIO()))
    try:
        assert "large_one" not in str(preview.study.shared.page_config)
    finally:
        preview.close()


def test_the_page_learns_no_answers_and_no_model(preview: Preview) -> None:
    details = str(preview.request_agent({"agent_registration_id": "preview-onboarding"}))
    details += str(preview.study.shared.page_config) + str(preview.state)
    assert "Do you have any pets?" in details
    for secret in ("answers", "explanation", "fixed_response", "model_chat_preview"):
        assert secret not in details


def test_a_page_that_asks_again_gets_the_same_conversation_until_it_starts_over(preview: Preview) -> None:
    def agent_id(worker: str = "preview") -> str:
        return str(preview.request_agent({"agent_registration_id": f"{worker}-chat"})["agent_id"])

    first = agent_id()
    assert agent_id() == first
    assert agent_id("another") != first
    preview.start_over()
    assert agent_id() != first


def test_one_conversation_too_many_ends_the_oldest(preview: Preview) -> None:
    humans = []
    for number in range(MOST_CONVERSATIONS + 1):
        agent_id = preview.request_agent({"agent_registration_id": f"{number}-chat"})["agent_id"]
        humans.append(preview._agents[agent_id])
    assert len(preview._agents) == MOST_CONVERSATIONS
    assert [human._gone.is_set() for human in humans] == [True] + [False] * MOST_CONVERSATIONS
    again = preview.request_agent({"agent_registration_id": "0-chat"})["agent_id"]
    assert again != humans[0].agent_id, "its page gets a new one"


class Onboarded:
    """A page that has passed the preview's onboarding."""

    def __init__(self, preview: Preview, worker: str = "preview") -> None:
        self.preview = preview
        self.registration = f"{worker}-onboarding"

    def agent_id(self) -> str:
        return str(self.preview.request_agent({"agent_registration_id": self.registration})["agent_id"])

    @property
    def sees_onboarding(self) -> bool:
        return self.agent_id().startswith("onboarding")

    def passes(self) -> None:
        agent_id = self.agent_id()
        human = self.preview._agents[agent_id]
        config = self.preview.study.shared.onboarding_world_opt.config
        answers = {"message_id": "a", "onboarding_answers": config.right_answers()}
        self.preview.deliver(agent_id, {"update_id": "a", "task_data": answers})
        while human.status != AgentState.STATUS_WAITING:
            time.sleep(0.01)
        assert not str(self.preview.submit_onboarding(agent_id)["agent_id"]).startswith("onboarding")


def test_who_has_passed_onboarding_sees_the_chat_after_a_change_elsewhere(preview: Preview, texts: Path) -> None:
    page = Onboarded(preview)
    assert page.sees_onboarding
    write(texts / "left_pane_text.html", "<p>before it is passed</p>")
    assert preview.look_for_changes()
    assert page.sees_onboarding
    page.passes()
    for name in ("left_pane_text.html", "task_description.html"):
        write(texts / name, "<p>new</p>")
        assert preview.look_for_changes()
        assert not page.sees_onboarding, name
    assert not preview.look_for_changes()
    assert preview.version == 3


def test_a_changed_onboarding_is_shown_again(preview: Preview, texts: Path) -> None:
    page = Onboarded(preview)
    page.passes()
    file = texts / "onboard_task_data.json"
    write(file, file.read_text(encoding="utf-8").replace("Do you have any pets?", "Have you any pets?"))
    preview.look_for_changes()
    assert page.sees_onboarding


def test_another_worker_sees_the_onboarding_though_one_has_passed_it(preview: Preview) -> None:
    page = Onboarded(preview)
    page.passes()
    assert Onboarded(preview, "another").sees_onboarding
    assert not page.sees_onboarding
    preview.start_over()
    assert page.sees_onboarding


def test_the_agent_takes_a_packet_once_and_ends_as_a_workers_does() -> None:
    human = PreviewHuman("1", nobody_listens)
    human.deliver({"update_id": "a", "text": "one"})
    human.deliver({"update_id": "a", "text": "one"})
    human.deliver({"update_id": "b", "text": "two"})
    assert human.receive(time.monotonic() + 60) == {"update_id": "a", "text": "one"}
    assert human.discard_waiting() == [{"update_id": "b", "text": "two"}]
    with pytest.raises(AgentTimeoutError):
        human.receive(time.monotonic())
    human.leave()
    with pytest.raises(AgentShutdownError):
        human.receive(time.monotonic() + 60)


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
    sent: list[tuple[str, str, Any]] = []
    human = PreviewHuman("1", lambda kind, agent_id, data: sent.append((kind, agent_id, data)))
    assert human.send_part(lambda: {"control": "reply_part", "part": 1, "text": "I"})
    ((kind, agent_id, data),) = sent
    assert (kind, agent_id) == ("client_bound_live_update", "1")
    assert data["task_data"] == {"control": "reply_part", "part": 1, "text": "I"}
    assert human.updates == []


def test_a_reply_that_is_held_back_ends_with_the_conversation() -> None:
    human = PreviewHuman("1", nobody_listens)
    until = time.monotonic() + 0.1
    human.wait(until)
    assert time.monotonic() >= until
    waiting = threading.Thread(target=human.wait, args=(time.monotonic() + 60,))
    waiting.start()
    human.leave()
    waiting.join(30)
    assert not waiting.is_alive()


def test_who_runs_out_of_time_sees_what_a_worker_would(preview: Preview) -> None:
    human = PreviewHuman("1", nobody_listens)
    shared = ModelChatSharedState(world_module=worlds, world_opt=chat_options(max_resp_time=1))
    chat = threading.Thread(target=preview._run_chat, args=(shared, human, "1-chat"))
    chat.start()

    def controls() -> list[Any]:
        return [update["task_data"] for update in list(human.updates) if "control" in update["task_data"]]

    while not any(data["control"] == "your_turn" for data in controls()):
        time.sleep(0.01)
    human.deliver(message("I like tea.", "bucket_0"))
    chat.join(30)
    ended = controls()[-1]
    assert (ended["control"], ended["outcome"], ended["cause"]) == ("ended", "incomplete", "timeout")


def test_the_preview_shows_a_study_flow_and_follows_its_file(texts: Path) -> None:
    flow = texts / "study_flow.yaml"
    flags = [f"{B}.task_config_path={texts}", f"{B}.study_flow_path={flow}"]
    preview = Preview(flags, "Fixed.", False, Console(file=io.StringIO()))

    preview.send = nobody_listens

    def first_page(answer: str) -> list[dict[str, Any]]:
        details = preview.request_agent({"agent_registration_id": f"{preview.version}-{answer}-chat"})
        human = preview._agents[details["agent_id"]]
        packet = {"message_id": "m1", "page": "consent", "answers": {"consent": answer}}
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if human.updates and "m1" not in human._delivered:
                human.deliver({"text": "", "update_id": "m1", "task_data": packet})
            if len(human.updates) >= 2:
                break
            time.sleep(0.01)
        return [dict(update["task_data"]) for update in human.updates]

    try:
        asked, done, *_ = first_page("accept")
        assert (asked["page"]["title"], done["control"]) == ("Taking part in this study", "page_done")
        asked, ended = first_page("decline")
        assert (ended["control"], ended["cause"]) == ("ended", "declined")
        write(flow, flow.read_text(encoding="utf-8").replace("Taking part in this study", "Hello"))
        preview.look_for_changes()
        assert preview.version == 1
        asked, *_ = first_page("accept")
        assert asked["page"]["title"] == "Hello"
        write(flow, "pages: []")
        preview.look_for_changes()
        assert preview.version == 1
        assert f"{B}.study_flow_path" in preview.faults[0]
    finally:
        preview.close()


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


def test_finished_conversations_are_shown_as_an_annotator_sees_them(tmp_path: Path) -> None:
    logs = tmp_path / "logs.jsonl"
    logs.write_text(
        '{"messages": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}]}\n', "utf-8"
    )
    made = Preview(["conf=example_annotation", f"{B}.logs_path={logs}"], "Fixed.", False, Console(file=io.StringIO()))
    try:
        for page in ("one", "two"):  # each page is an annotator of its own
            agent_id = made.request_agent({"agent_registration_id": page})["agent_id"]
            human = made._agents[agent_id]
            end = time.monotonic() + 60
            while time.monotonic() < end and not any(update["text"] == "B." for update in human.updates):
                time.sleep(0.01)
            assert [update["text"] for update in human.updates if update["text"]] == ["A?", "B."]
        write(logs, "{")
        assert made.look_for_changes()
        assert "line 1: is no JSON" in made.faults[0]
    finally:
        made.close()


def pages_of(preview: Preview, agent_id: str, until: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """What a page has been sent, once it is so."""
    end = time.monotonic() + 60
    while not until(sent := [dict(update["task_data"]) for update in preview._agents[agent_id].updates]):
        assert time.monotonic() < end, sent
        time.sleep(0.01)
    return sent


@pytest.mark.parametrize("comparison", [None, "per_turn"])
def test_an_image_chat_is_shown_with_its_flow_and_its_image_and_nothing_of_it_is_kept(
    tmp_path: Path, comparison: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW, encoding="utf-8")
    with ImageContextsWriter(tmp_path / "images.parquet") as writer:
        writer.add(Image.new("RGB", (8, 8)), {"text": "A black square."}, {"alt": "a square"})
    given = {
        "image_context_path": tmp_path / "images.parquet",
        "stack_folder": tmp_path / "stack",
        "study_flow_path": tmp_path / "flow.yaml",
        "comparison": comparison,
    }
    flags = [f"{B}.{name}={value or 'null'}" for name, value in given.items()]
    made = Preview(["conf=example_image_chat", *flags], "Fixed.", False, Console(file=io.StringIO()))
    folder = made._folder
    try:
        for page in ("one", "two"):  # there is one image, and each page is a worker of its own
            agent_id = made.request_agent({"agent_registration_id": page})["agent_id"]
            (asked,) = pages_of(made, agent_id, lambda sent: len(sent) == 1)
            assert asked["page"]["items"][0]["question"] == "Years"
            answered = {"message_id": "m1", "page": "about", "answers": {"years": 3}}
            made.deliver(agent_id, {"text": "", "update_id": "m1", "task_data": answered})
            sent = pages_of(made, agent_id, lambda sent: any("image" in data for data in sent))
            (shown,) = [data for data in sent if "image" in data]
            assert (shown["image"][:15], shown["image_alt"]) == ("data:image/png;", "a square")
        write(tmp_path / "flow.yaml", FLOW.replace("Years", "Since when"))
        assert made.look_for_changes()
        agent_id = made.request_agent({"agent_registration_id": "three"})["agent_id"]
        (asked,) = pages_of(made, agent_id, lambda sent: len(sent) == 1)
        assert (made.faults, asked["page"]["items"][0]["question"]) == ((), "Since when")
    finally:
        made.close()
    assert not folder.exists()
    assert not (tmp_path / "stack").exists()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_study_of_whole_chats_shows_both(texts: Path) -> None:
    flags = [f"{B}.task_config_path={texts}", f"{B}.num_turns=1", f"{B}.comparison=paired"]
    made = Preview(flags, "Fixed.", False, Console(file=io.StringIO()))
    try:
        options = made.study.shared.world_opt
        assert options is not None
        done = {"chat_done": True}
        human = ScriptedHuman(
            message("One.", "none_all_good"), message("", "none_all_good", **done),
            message("Two.", "none_all_good"), message("", "none_all_good", **done),
            message("", comparison=[{"pick": "left"}]),
        )  # fmt: skip
        world = worlds.make_world(options, [human])
        play(world, until=lambda: bool(human.controls("comparison_done")))
        assert {line.text for line in world.dialog if line.agent_idx == 1} == {"Fixed.", "Another reply: Fixed."}
    finally:
        made.close()

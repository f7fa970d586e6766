"""The whole configuration, as Hydra composes it, is checked before anything is launched, and every fault said at once."""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from model_chat.errors import ConfigurationError
from model_chat.launch import checks
from model_chat.launch.checked_task import CheckedTask
from model_chat.launch.checks import check_task
from model_chat.model_chat_blueprint import FRONTEND_DIST
from model_chat.router.local_architect import ROUTER_PACKAGES
from model_chat.tests.launch.small_study import B, faults


def test_the_page_and_the_router_are_built_here() -> None:
    assert (FRONTEND_DIST / "index.html").is_file(), "the tests below need the built page: run 'make setup' first"
    assert ROUTER_PACKAGES.is_dir(), "the tests below need the router's packages: run 'make setup' first"


def test_a_good_study_passes_and_nothing_is_made(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    task = check()
    assert task.needed == {"a": 2, "group/b": 3}
    assert {nickname: source.folder for nickname, source in task.sources.items()} == {
        "a": tmp_path / "models/a",
        "group/b": tmp_path / "models/group/b",
    }
    assert task.annotations is not None
    assert task.annotations.values == ("bucket_0", "none_all_good")
    assert task.annotations_text == (tmp_path / "annotations.json").read_text()
    assert task.onboarding is not None
    assert task.onboarding.tries == 2
    assert task.final_rating_questions == ("How good?", "How human?")
    assert (task.task_description, task.left_pane_text) == ("<p>Task</p>", "<p>Pane</p>")
    assert task.world_module.__name__ == "model_chat.worlds"
    assert task.chat_data_folder == tmp_path / "chats"
    assert not task.chat_data_folder.exists()
    assert task.task_name == "model_chat_local"
    assert task.is_live is False


def test_an_extension_of_an_earlier_run_is_wanted_unless_everything_begins_anew(
    check: Callable[..., CheckedTask],
) -> None:
    task = check()
    assert task.extensions is not None
    wanted = {nickname: number + 2 for nickname, number in task.needed.items()}
    task.chat_data_folder.mkdir(parents=True, exist_ok=True)
    task.extensions.save(wanted)
    assert check().needed == wanted
    assert check(**{f"{B}.resume": "false"}).needed == task.needed


def test_without_annotations_there_is_no_onboarding(check: Callable[..., CheckedTask]) -> None:
    task = check(**{f"{B}.annotations_config_path": "''", f"{B}.onboard_task_data_path": "/nowhere"})
    assert (task.annotations, task.annotations_text, task.onboarding) == (None, None, None)


def test_without_a_qualification_there_is_no_onboarding(check: Callable[..., CheckedTask]) -> None:
    task = check(**{f"{B}.onboarding_qualification": "null", f"{B}.onboard_task_data_path": "/nowhere"})
    assert task.annotations is not None
    assert task.onboarding is None


def test_a_design_is_checked_with_everything_else(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    path = tmp_path / "design.yaml"
    flags = {f"{B}.design_path": str(path), f"{B}.conversations_needed_string": "null"}
    path.write_text("factors: {model: [a, group/b], num_turns: [1, 9]}\nconversations_per_cell: 3\n", encoding="utf-8")
    task = check(**flags)
    assert task.needed == {"a": 6, "group/b": 6}
    assert list(task.sources) == ["a", "group/b"]
    assert task.design is not None
    assert task.design.design.total == 12

    (tmp_path / "attention.json").write_text(
        json.dumps({"checks": [{"turn": 2, "text": "Please answer yes.", "expect": ["yes"]}]}), encoding="utf-8"
    )
    attention = {f"{B}.attention_checks_path": f"{tmp_path}/attention.json"}
    assert any("turn 2 never comes" in fault for fault in faults(check, **flags, **attention))
    path.write_text("factors: {model: [a, c], prompt: {x: X., y: Y.}}\nconversations_per_cell: 3\n", encoding="utf-8")
    found = faults(check, **flags, **{f"{B}.max_resp_time": "0"})
    assert any(fault.startswith(f"{B}.design_path: there is no model 'c'") for fault in found)
    assert any("max_resp_time" in fault for fault in found)
    path.write_text(
        "factors: {model: [a, group/b], prompt: {x: X., y: Y.}}\nconversations_per_cell: 3\n", encoding="utf-8"
    )
    assert [fault.split("and '")[1].split("'")[0] for fault in faults(check, **flags)] == ["a", "group/b"]


@pytest.mark.parametrize(
    "name",
    [
        "num_turns",
        "max_resp_time",
        "max_onboard_time",
        "max_page_time",
        "max_message_length",
        "max_concurrent_responses",
        "max_batch_size",
        "max_model_response_time",
    ],
)
def test_numbers_below_one_are_refused(check: Callable[..., CheckedTask], name: str) -> None:
    for value in ("0", "-5"):
        assert faults(check, **{f"{B}.{name}": value}) == [
            f"{B}.{name}: {value} is too small; give a whole number of at least 1."
        ]


def test_the_pace_of_replies_is_checked_with_everything_else(check: Callable[..., CheckedTask]) -> None:
    first, rate = f"{B}.reply_first_seconds", f"{B}.reply_chars_per_second"
    check(**{f"{B}.stream_replies": "true", first: "2", rate: "30"})
    said = faults(check, **{first: "-2", rate: "0.1", f"{B}.num_turns": "0"})
    assert [fault.partition(":")[0] for fault in said] == [f"{B}.num_turns", first, rate]
    for value in ("nan", "inf"):
        said = faults(check, **{first: value, rate: value})
        assert said == [f"{flag}: '{value}' is not a finite number; give another." for flag in (first, rate)]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, None),
        ({"reply_format": "markdown"}, None),
        ({"reply_format": "markdown", "reply_links": "true"}, None),
        ({"reply_format": "html"}, "reply_format: 'html' is not available; give text or markdown."),
        ({"reply_format": "Markdown", "reply_links": "true"}, "reply_format: 'Markdown' is not available; "),
        ({"reply_links": "true"}, "reply_links: only Markdown replies have links, and reply_format is 'text'; "),
    ],
)
def test_the_format_of_replies_is_checked(
    check: Callable[..., CheckedTask], given: dict[str, str], fault: str | None
) -> None:
    flags = {f"{B}.{name}": value for name, value in given.items()}
    if fault is None:
        check(**flags)
        return
    (found,) = faults(check, **flags)
    assert found.startswith(f"{B}.{fault}")


def test_faults_of_a_study_flow_are_said_with_all_others(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("pages:\n  - {id: a, kind: consent}\n  - {id: b, kind: chats}\n", encoding="utf-8")
    found = faults(check, **{f"{B}.study_flow_path": str(path), f"{B}.num_turns": "0"})
    assert [fault.partition(f"'{path}', ")[2] or fault for fault in found] == [
        f"{B}.num_turns: 0 is too small; give a whole number of at least 1.",
        "line 1: there is no page of the kind chat; add '- {id: chat, kind: chat}' where the chat comes.",
        "line 2: 'text' is missing; add it.",
        "line 3: there is no kind of page 'chats'; give one of consent, questions, chat, text.",
    ]
    (missing,) = faults(check, **{f"{B}.study_flow_path": f"{path}s"})
    assert missing == f"{B}.study_flow_path: the file '{path}s' does not exist; give the path of a file."


def test_a_study_without_a_flow_has_none_and_one_with_it_has_it(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    assert check().study_flow is None
    path = tmp_path / "flow.yaml"
    path.write_text("pages: [{id: chat, kind: chat}]", encoding="utf-8")
    flow = check(**{f"{B}.study_flow_path": str(path)}).study_flow
    assert flow is not None
    assert [page.id for page in flow.pages] == ["chat"]


def test_counts_of_how_messages_are_written_need_consent_and_the_fault_comes_with_all_others(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    assert check(**{f"{B}.record_authenticity": "false"}).study_flow is None
    found = faults(check, **{f"{B}.record_authenticity": "true", f"{B}.num_turns": "0"})
    assert [fault.split(": ")[0] for fault in sorted(found)] == [f"{B}.num_turns", f"{B}.record_authenticity"]
    path = tmp_path / "flow.yaml"
    path.write_text("pages: [{id: yes, kind: consent, text: Please.}, {id: chat, kind: chat}]", encoding="utf-8")
    flow = check(**{f"{B}.record_authenticity": "true", f"{B}.study_flow_path": str(path)}).study_flow
    assert flow is not None


@pytest.mark.parametrize(
    ("flag", "value", "fault"),
    [
        (
            "annotations_config_path",
            "/nowhere/a.json",
            "the file '/nowhere/a.json' does not exist; give the path of a file.",
        ),
        (
            "onboard_task_data_path",
            "/nowhere/o.json",
            "the file '/nowhere/o.json' does not exist; give the path of a file.",
        ),
        (
            "task_description_file",
            "/nowhere/t.html",
            "the file '/nowhere/t.html' does not exist; give the path of a file.",
        ),
        (
            "left_pane_text_path",
            "/nowhere/l.html",
            "the file '/nowhere/l.html' does not exist; give the path of a file.",
        ),
        ("world_file", "/nowhere/w.py", "the file '/nowhere/w.py' does not exist; give the path of a world module."),
        ("annotation_question", "' '", "is empty; say what the boxes are about."),
        ("final_rating_question", "'A?||B?'", "'A?||B?' has an empty question; separate questions by one |."),
        ("final_rating_question", "''", "'' has an empty question; separate questions by one |."),
        (
            "conversation_start_mode",
            "hello",
            "'hello' is neither 'hi' nor a ParlAI task with a ContextGenerator; use 'hi', 'blended_skill_talk', or the name "
            "of such a task (for instance model_chat.tasks.small_talk).",
        ),
        (
            "conversations_needed_string",
            "null",
            "says which models to talk to and is empty; write it as nickname:count,nickname:count, for instance "
            "demo/smollm2:10.",
        ),
    ],
)
def test_a_wrong_flag_is_said_in_one_sentence(
    check: Callable[..., CheckedTask], flag: str, value: str, fault: str
) -> None:
    assert faults(check, **{f"{B}.{flag}": value}) == [f"{B}.{flag}: {fault}"]


@pytest.mark.parametrize("below", ["", "/x", "/x/y"])
def test_a_folder_that_cannot_be_made_is_said(check: Callable[..., CheckedTask], tmp_path: Path, below: str) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    assert faults(check, **{f"{B}.chat_data_folder": f"{tmp_path}/taken{below}"}) == [
        f"{B}.chat_data_folder: '{tmp_path}/taken{below}' can't be used, for '{tmp_path}/taken' is a file; give a folder."
    ]


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").is_dir(), reason="needs a folder that nobody may write to")
def test_a_folder_that_cannot_be_written_to_is_said(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    (fault,) = faults(check, **{f"{B}.chat_data_folder": "/proc/chats"})
    assert fault.startswith(f"{B}.chat_data_folder: '/proc/chats' can't be written to (")


@pytest.mark.parametrize("value", ["''", "'  '"])
def test_an_empty_folder_is_not_the_one_that_somebody_stands_in(check: Callable[..., CheckedTask], value: str) -> None:
    assert faults(check, **{f"{B}.chat_data_folder": value}) == [f"{B}.chat_data_folder: is empty; give a folder."]


def test_a_number_is_finite(check: Callable[..., CheckedTask]) -> None:
    for value in ("nan", "inf"):
        assert faults(check, **{"mephisto.task.task_reward": value}) == [
            f"mephisto.task.task_reward: '{value}' is not a finite number; give another."
        ]


def test_an_architect_that_serves_no_page_is_refused(check: Callable[..., CheckedTask], shipped: DictConfig) -> None:
    cfg = copy.deepcopy(shipped)
    cfg.mephisto.architect._architect_type = "mock"
    with pytest.raises(ConfigurationError) as error:
        check_task(cfg)
    assert (
        "mephisto.architect: 'mock' serves no page, it is for Mephisto's own tests; choose mephisto/architect=local."
        in error.value.faults
    )


def test_another_router_is_refused(check: Callable[..., CheckedTask]) -> None:
    assert faults(check, **{"mephisto.architect.server_type": "flask"}) == [
        "mephisto.architect.server_type: 'flask' is not available, for only the router that ships knows the worker's page; "
        "give node."
    ]


def test_the_mock_provider_takes_no_requester(check: Callable[..., CheckedTask]) -> None:
    (fault,) = faults(check, **{"mephisto.provider.requester_name": "me"})
    assert fault.startswith(
        "mephisto.provider.requester_name: the provider mock pays nobody and has no requester 'me'; "
    )


def test_what_workers_see_may_not_be_empty(check: Callable[..., CheckedTask]) -> None:
    found = faults(
        check,
        **{f"mephisto.task.{name}": "''" for name in ("task_name", "task_title", "task_description", "task_tags")},
    )
    assert found == [
        f"mephisto.task.{name}: is empty; workers see it, or data are counted by it."
        for name in ("task_name", "task_title", "task_description", "task_tags")
    ]
    assert faults(check, **{"mephisto.task.task_reward": "-0.5"}) == [
        "mephisto.task.task_reward: -0.5 is less than nothing; give US dollars."
    ]


def test_a_taken_port_is_said(check: Callable[..., CheckedTask]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (fault,) = faults(check, **{"mephisto.architect.port": str(port)})
    assert fault.startswith(f"mephisto.architect.port: {port} can't be used (Address already in use); try ")


def test_faults_of_the_public_address_the_metrics_and_the_dashboard_are_said_with_all_others(
    check: Callable[..., CheckedTask],
) -> None:
    changes = {
        "mephisto.architect.public_url": "http://study.example.org/?q",
        "mephisto.architect.bind_address": "0.0.0.0",
        f"{B}.metrics_port": "0",
        f"{B}.dashboard_port": "0",
        f"{B}.dashboard_host": "0.0.0.0",
        f"{B}.num_turns": "0",
    }
    assert [fault.split(":")[0] for fault in faults(check, **changes)] == [
        f"{B}.num_turns",
        f"{B}.metrics_port",
        f"{B}.dashboard_password_env",
        "mephisto.architect.public_url",
        "mephisto.architect.public_url",
        "mephisto.architect.trusted_proxies",
    ]
    assert check(**{"mephisto.architect.public_url": "https://study.example.org/pets/"}).needed


def test_what_is_not_installed_is_said(
    check: Callable[..., CheckedTask], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checks, "ROUTER_PACKAGES", tmp_path / "nowhere")
    monkeypatch.setattr(checks, "FRONTEND_DIST", tmp_path / "nowhere")
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    assert faults(check) == [
        "mephisto.architect: there is no 'node' on the PATH; install Node.js 20 or newer.",
        "mephisto.architect: the router's packages are not installed; run 'make setup' once.",
        "The worker's page is not built; run 'make setup' once.",
    ]


def test_all_faults_are_said_together(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text('{"config": {"a": {"name": "A", "x": 1}}, "y": 2}', encoding="utf-8")
    (tmp_path / "world.py").write_text("def make_world():\n    pass\n", encoding="utf-8")
    found = faults(
        check,
        **{
            f"{B}.num_turns": "0",
            f"{B}.max_resp_time": "0",
            f"{B}.conversations_needed_string": "'a:0,nobody:3'",
            f"{B}.conversation_start_mode": "hello",
            f"{B}.final_rating_question": "'|'",
            f"{B}.task_description_file": "/nowhere/t",
            f"{B}.left_pane_text_path": "/nowhere/l",
            f"{B}.world_file": f"{tmp_path}/world.py",
            f"{B}.chat_data_folder": f"{tmp_path}/task.html",
            "mephisto.task.task_reward": "-1",
            "mephisto.architect.port": "http",
        },
    )
    places = [fault.split(": ")[0].removeprefix(f"{B}.") for fault in found]
    assert places == [
        "num_turns",
        "max_resp_time",
        "conversations_needed_string",
        "conversation_start_mode",
        "annotations_config_path",
        "annotations_config_path",
        "final_rating_question",
        "task_description_file",
        "left_pane_text_path",
        "world_file",
        "chat_data_folder",
        "mephisto.task.task_reward",
        "mephisto.architect.port",
    ]

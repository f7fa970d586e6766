"""The whole configuration, as Hydra composes it, is checked before anything is launched, and every fault said at once."""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from model_chat.configuration.hydra import ROOT, register
from model_chat.configuration.task_names import full_task_name
from model_chat.configuration.world_file import load_world
from model_chat.errors import ConfigurationError
from model_chat.launch import checks
from model_chat.launch.checked_task import CheckedTask
from model_chat.launch.checks import check_task
from model_chat.model_chat_blueprint import FRONTEND_DIST
from model_chat.router.local_architect import ROUTER_PACKAGES

B = "mephisto.blueprint"
# Section 4 of the behaviour specification: what belongs to text chat.
DEFAULTS: dict[str, Any] = {
    "base_model_folder": f"{ROOT}/models",
    "model_opt_path": None,
    "conversations_needed_string": None,
    "num_turns": 6,
    "max_resp_time": 180,
    "max_onboard_time": 300,
    "random_seed": 42,
    "context_seed": None,
    "max_concurrent_responses": 1,
    "task_model_parallel": True,
    "annotations_config_path": "",
    "task_config_path": f"{ROOT}/task_config",
    "task_description_file": f"{ROOT}/task_config/task_description.html",
    "left_pane_text_path": f"{ROOT}/task_config/left_pane_text.html",
    "onboard_task_data_path": f"{ROOT}/task_config/onboard_task_data.json",
    "check_acceptability": False,
    "conversation_start_mode": "hi",
    "include_persona": False,
    "override_opt": {},
    "onboarding_qualification": None,
    "allowed_worker_qualification": None,
    "world_file": f"{ROOT}/worlds.py",
}
BARE = """
defaults:
  - /mephisto/blueprint: model_chat_blueprint
  - /mephisto/architect: local
  - /mephisto/provider: mock
"""

Compose = Callable[..., DictConfig]


@pytest.fixture
def compose_cfg() -> Iterator[Compose]:
    """Compose as ``run.py`` does, with overrides."""
    GlobalHydra.instance().clear()
    name = register("example")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield lambda *overrides: compose(name, overrides=list(overrides))


@pytest.fixture
def study(tmp_path: Path) -> dict[str, str]:
    """Flags of a small study whose files are all in order."""
    for nickname in ("a", "group/b"):
        folder = tmp_path / "models" / nickname
        folder.mkdir(parents=True)
        (folder / "model.opt").write_text('{"model": "fixed_response"}', encoding="utf-8")
    (tmp_path / "annotations.json").write_text(
        '{"config": {"bucket_0": {"name": "Zero"}, "none_all_good": {"name": "None"}}}', encoding="utf-8"
    )
    (tmp_path / "onboarding.json").write_text(
        json.dumps(
            {
                "min_correct": 1,
                "max_incorrect": 0,
                "max_failures_allowed": 1,
                "dialog": [[{"agent_idx": 1, "text": "Hello.", "answers": ["bucket_0"]}]],
            }
        ),
        encoding="utf-8",
    )
    (tmp_path / "task.html").write_text("<p>Task</p>", encoding="utf-8")
    (tmp_path / "pane.html").write_text("<p>Pane</p>", encoding="utf-8")
    return {
        f"{B}.conversations_needed_string": "'a:2,group/b:3'",
        f"{B}.base_model_folder": f"{tmp_path}/models",
        f"{B}.annotations_config_path": f"{tmp_path}/annotations.json",
        f"{B}.onboard_task_data_path": f"{tmp_path}/onboarding.json",
        f"{B}.onboarding_qualification": "passed",
        f"{B}.task_description_file": f"{tmp_path}/task.html",
        f"{B}.left_pane_text_path": f"{tmp_path}/pane.html",
        f"{B}.chat_data_folder": f"{tmp_path}/chats",
        f"{B}.final_rating_question": "'How good?|How human?'",
        "mephisto.architect.port": "0",
    }


@pytest.fixture(scope="module")
def shipped() -> DictConfig:
    """The shipped configuration, composed once: composing takes most of the time."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(register("example"))


@pytest.fixture
def check(shipped: DictConfig, study: dict[str, str]) -> Callable[..., CheckedTask]:
    """Check the small study with some flags changed."""

    def run(**changes: str) -> CheckedTask:
        flags = OmegaConf.from_dotlist([f"{key}={value}" for key, value in {**study, **changes}.items()])
        return check_task(OmegaConf.merge(shipped, flags))  # type: ignore[arg-type]  # a DictConfig, merged into one

    return run


def faults(call: Callable[..., Any], **changes: str) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        call(**changes)
    return list(error.value.faults)


def test_the_page_and_the_router_are_built_here() -> None:
    assert (FRONTEND_DIST / "index.html").is_file(), "the tests below need the built page: run 'make setup' first"
    assert ROUTER_PACKAGES.is_dir(), "the tests below need the router's packages: run 'make setup' first"


# --- composition ---


def test_every_flag_has_its_default(compose_cfg: Compose, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "bare.yaml").write_text(f"# @package _global_{BARE}", encoding="utf-8")
    cfg = compose_cfg("conf=bare", f"hydra.searchpath=[{tmp_path}]")
    args = OmegaConf.to_container(cfg.mephisto.blueprint, resolve=True)
    assert {key: args[key] for key in DEFAULTS} == DEFAULTS
    assert args["_blueprint_type"] == "model_chat_blueprint"
    assert OmegaConf.is_missing(cfg.mephisto.blueprint, "chat_data_folder")
    assert args["annotation_question"]
    assert args["final_rating_question"]
    assert "|" not in args["final_rating_question"]
    assert cfg.monitoring_log_rate == 30
    assert cfg.mturk.worker_blocklist_paths is None
    assert len(cfg.current_time) == len("20240101_000000")


def test_the_shipped_configuration_composes(compose_cfg: Compose) -> None:
    cfg = compose_cfg()
    assert cfg.mephisto.blueprint._blueprint_type == "model_chat_blueprint"
    assert cfg.mephisto.architect._architect_type == "local"
    assert cfg.mephisto.provider._provider_type == "mock"


def test_a_configuration_of_the_requesters_own_folder_is_found(compose_cfg: Compose, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    text = f"# @package _global_{BARE}\nmephisto:\n  blueprint:\n    num_turns: 9\n"
    (tmp_path / "conf" / "mine.yaml").write_text(text, encoding="utf-8")
    cfg = compose_cfg("conf=mine", f"hydra.searchpath=[{tmp_path}]", f"{B}.max_resp_time=7")
    assert cfg.mephisto.blueprint.num_turns == 9
    assert cfg.mephisto.blueprint.max_resp_time == 7


@pytest.mark.parametrize("override", [f"{B}.num_turn=4", "conf=nowhere", f"{B}.num_turns=many"])
def test_a_typo_is_an_error_of_hydra(compose_cfg: Compose, override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        compose_cfg(override)


# --- a study that holds together ---


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


def test_models_may_come_from_an_option_file_alone_or_beside_the_folder(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    opts = tmp_path / "opts.yaml"
    opts.write_text('x: "--model fixed_response"\n', encoding="utf-8")
    both = check(**{f"{B}.model_opt_path": str(opts), f"{B}.conversations_needed_string": "'a:1,x:1'"})
    assert (both.sources["a"].flags, both.sources["x"].flags) == (None, "--model fixed_response")
    alone = check(
        **{
            f"{B}.model_opt_path": str(opts),
            f"{B}.conversations_needed_string": "'x:1'",
            f"{B}.base_model_folder": f"{tmp_path}/nowhere",
        }
    )
    assert list(alone.sources) == ["x"]


# --- faults ---


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


def test_a_limit_of_what_models_cost_needs_an_amount_and_the_prices(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    limit = f"{B}.max_model_spend_usd"
    assert check().max_model_spend_usd is None
    assert check(**{limit: "5"}).max_model_spend_usd == 5.0, "models of this machine cost nothing"
    (fault,) = faults(check, **{limit: "0"})
    assert fault.startswith(f"{limit}: 0.0 is no amount of money")
    opts = tmp_path / "opts.yaml"
    opts.write_text("x: {base_url: http://127.0.0.1:9/v1, endpoint_model: y}\n", encoding="utf-8")
    (fault,) = faults(
        check, **{limit: "5", f"{B}.model_opt_path": str(opts), f"{B}.conversations_needed_string": "'x:1'"}
    )
    assert fault.startswith(f"{limit}: the endpoint model 'x' has no usd_per_million_input_tokens")


def test_models_that_are_not_there_are_said_with_those_that_are(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    assert faults(check, **{f"{B}.conversations_needed_string": "'a:1,c:2'"}) == [
        f"{B}.conversations_needed_string: there is no model 'c' in {B}.base_model_folder={tmp_path}/models; there: a, "
        "group/b."
    ]


def test_an_opt_that_is_none_is_said_before_the_launch(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    (tmp_path / "models/a/model.opt").write_text("{}", encoding="utf-8")
    assert faults(check) == [
        f"{B}.base_model_folder: '{tmp_path}/models/a/model.opt' names no agent; add \"model\", as ParlAI writes it when it "
        "saves a model."
    ]


def test_no_place_for_models_is_said(check: Callable[..., CheckedTask]) -> None:
    assert faults(check, **{f"{B}.base_model_folder": "null"}) == [
        f"{B}.base_model_folder: is empty, and so is {B}.model_opt_path; give at least one of them."
    ]


def test_a_model_in_both_places_is_said(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    (tmp_path / "opts.yaml").write_text('a: "--model fixed_response"\n', encoding="utf-8")
    assert faults(check, **{f"{B}.model_opt_path": f"{tmp_path}/opts.yaml"}) == [
        f"{B}.model_opt_path: 'a' is in {tmp_path}/models, too; rename it in one of the two."
    ]


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


def test_missing_values_are_all_named(compose_cfg: Compose, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "bare.yaml").write_text(f"# @package _global_{BARE}", encoding="utf-8")
    cfg = compose_cfg("conf=bare", f"hydra.searchpath=[{tmp_path}]")
    with pytest.raises(ConfigurationError) as error:
        check_task(cfg)
    missing = [fault for fault in error.value.faults if "has no value" in fault]
    assert f"{B}.chat_data_folder: has no value; give one, such as {B}.chat_data_folder=…" in missing
    assert any(fault.startswith("mephisto.task.task_title: ") for fault in missing)
    assert not any("block_qualification" in fault for fault in missing)


def test_a_reference_to_nothing_is_said(compose_cfg: Compose) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_task(compose_cfg(f"{B}.chat_data_folder=${{no_such_flag}}/x"))
    assert error.value.faults == (
        f"{B}.chat_data_folder: Interpolation key 'no_such_flag' not found; correct what it refers to.",
    )


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


# --- names that keep data apart ---


@pytest.mark.parametrize(
    ("architect", "provider", "name"),
    [
        ("local", "mock", "study_local"),
        ("local", "mturk_sandbox", "study_local"),
        ("heroku", "mturk_sandbox", "study_sandbox"),
        ("heroku", "mturk", "study"),
        ("ec2", "mturk_sandbox", "study_sandbox"),
    ],
)
def test_the_task_name_says_where_data_come_from(architect: str, provider: str, name: str) -> None:
    cfg = OmegaConf.create(
        {
            "mephisto": {
                "task": {"task_name": "study"},
                "architect": {"_architect_type": architect},
                "provider": {"_provider_type": provider},
            }
        }
    )
    assert full_task_name(cfg) == name


# --- world files ---

OWN_WORLD = "from model_chat.worlds import *\nfrom model_chat.worlds import make_world, get_world_params\nOWN = True\n"


def world_fault(path: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        load_world(f"{B}.world_file", path)
    return "\n".join(error.value.faults)


def test_a_world_of_the_requesters_own_is_imported(tmp_path: Path) -> None:
    (tmp_path / "my_world.py").write_text(OWN_WORLD, encoding="utf-8")
    module = load_world("flag", f"{tmp_path}/my_world.py")
    assert module.OWN is True
    assert module.get_world_params() == {"agent_count": 1}


def test_a_world_without_an_onboarding_of_its_own_has_the_shipped_one(tmp_path: Path) -> None:
    from model_chat import worlds

    least = "from model_chat.worlds import get_world_params, make_world"
    (tmp_path / "plain_world.py").write_text(least, encoding="utf-8")
    module = load_world("flag", f"{tmp_path}/plain_world.py")
    assert module.make_onboarding_world is worlds.make_onboarding_world
    assert module.validate_onboarding is worlds.validate_onboarding
    (tmp_path / "full_world.py").write_text(f"{least}\nmake_onboarding_world = print\n", encoding="utf-8")
    assert load_world("flag", f"{tmp_path}/full_world.py").make_onboarding_world is print


def test_the_shipped_world_is_there_once() -> None:
    from model_chat import worlds

    assert load_world("flag", f"{ROOT}/worlds.py") is worlds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import nowhere_at_all\n", "can't be imported: ModuleNotFoundError: No module named 'nowhere_at_all'."),
        ("def (:\n", "can't be imported: SyntaxError: "),
        ("raise RuntimeError('boom')\n", "can't be imported: RuntimeError: boom."),
        ("raise SystemExit(3)\n", "can't be imported: SystemExit: 3."),
    ],
)
def test_a_world_that_cannot_be_imported_is_said(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "broken_world.py"
    path.write_text(text, encoding="utf-8")
    assert world_fault(str(path)).startswith(f"{B}.world_file: '{path}' {problem}")


def test_each_function_that_a_world_lacks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "empty_world.py"
    path.write_text("make_world = 5\n", encoding="utf-8")
    assert world_fault(str(path)).split("\n") == [
        f"{B}.world_file: '{path}' has no function '{function}'; see docs/worlds.md."
        for function in ("make_world", "get_world_params")
    ]


def test_a_world_that_is_no_python_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "world.txt"
    path.write_text(OWN_WORLD, encoding="utf-8")
    assert world_fault(str(path)) == f"{B}.world_file: '{path}' is no Python file."


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        ("1 / 0", "fails: ZeroDivisionError"),
        ("exit('x')", "fails: SystemExit"),
        ("{}", "fails: KeyError"),
        ("None", "fails: TypeError"),
        ("{'agent_count': 0}", "gives agent_count 0"),
        ("{'agent_count': True}", "gives agent_count True"),
        ("{'agent_count': '1'}", "gives agent_count '1'"),
    ],
)
def test_what_a_world_file_says_of_itself_is_checked_before_the_launch(tmp_path: Path, returns: str, said: str) -> None:
    file = tmp_path / "odd_params.py"
    file.write_text(f"from model_chat.worlds import make_world\ndef get_world_params():\n    return {returns}\n")
    with pytest.raises(ConfigurationError) as error:
        load_world("mephisto.blueprint.world_file", str(file))
    (fault,) = error.value.faults
    assert fault.startswith(f"mephisto.blueprint.world_file: get_world_params of '{file}' {said}")
    assert fault.endswith('let it return {"agent_count": 1}.')


# --- comparisons ---


def test_pairs_are_counted_as_pairs_and_their_models_loaded_once(check: Callable[..., CheckedTask]) -> None:
    task = check(
        **{
            f"{B}.comparison": "per_turn",
            f"{B}.comparison_allow_self": "true",
            f"{B}.conversations_needed_string": "'a|group/b:2,a|a:1'",
        }
    )
    assert task.needed == {"a|group/b": 2, "a|a": 1}
    assert list(task.sources) == ["a", "group/b"]


@pytest.mark.parametrize(
    ("needed", "comparison", "said"),
    [
        ("'a:1'", "per_turn", ["'a' is not a pair of models"]),
        ("'a|group/b|a:1'", "per_turn", ["'a|group/b|a' is not a pair of models"]),
        ("'a|:1'", "per_turn", ["'a|' is not a pair of models"]),
        ("'a|a:1'", "per_turn", ["'a|a' compares a model with itself"]),
        ("'a|group/b:1,group/b|a:1'", "per_turn", ["'group/b|a' and 'a|group/b' are one pair"]),
        ("'a|nobody:1'", "per_turn", ["there is no model 'nobody'"]),
        ("'a:1'", "paired", ["'a' is not a pair of models; with comparison=paired"]),
        ("'a|a:1'", "paired", ["'a|a' compares a model with itself"]),
        ("'a|group/b:1'", "null", ["'a|group/b' is a pair of models, and nothing is compared"]),
        ("'a|nobody:1'", "null", ["'a|nobody' is a pair of models", "there is no model 'nobody'"]),
        ("'a:1,a|nobody:1'", "per_turn", ["'a' is not a pair", "there is no model 'nobody'"]),
    ],
)
def test_pairs_that_are_none_are_said_before_the_launch(
    check: Callable[..., CheckedTask], needed: str, comparison: str, said: list[str]
) -> None:
    found = faults(check, **{f"{B}.conversations_needed_string": needed, f"{B}.comparison": comparison})
    assert len(found) == len(said)
    for fault, text in zip(found, said, strict=True):
        assert fault.startswith(f"{B}.conversations_needed_string: ")
        assert text in fault


def test_all_faults_of_comparison_flags_are_said_at_once(check: Callable[..., CheckedTask]) -> None:
    pairs = {f"{B}.conversations_needed_string": "'a|group/b:1'", f"{B}.comparison": "per_turn"}
    found = faults(
        check,
        **{**pairs, f"{B}.comparison": "parallel"},
        **{f"{B}.comparison_{name}": "4" for name in ("points", "ties", "continue", "boxes")},
        **{f"{B}.stream_replies": "true"},
    )
    assert [fault.split(": ")[0].removeprefix(f"{B}.") for fault in found] == [
        "comparison", "comparison_points", "comparison_ties", "comparison_continue",
        "comparison_boxes", "stream_replies",
    ]  # fmt: skip
    paired = {**pairs, f"{B}.comparison": "paired"}
    assert check(**paired)
    (fault,) = faults(check, **paired, **{f"{B}.comparison_continue": "random"})
    assert fault.startswith(f"{B}.comparison_continue: 'random' has no effect with {B}.comparison=paired")
    both = {f"{B}.comparison_boxes": "both"}
    assert check(**pairs, **both)
    (fault,) = faults(check, **paired, **both)
    assert fault.startswith(f"{B}.comparison_boxes: 'both' has no effect with {B}.comparison=paired")
    (fault,) = faults(check, **pairs, **both, **{f"{B}.annotations_config_path": "''"})
    assert fault.startswith(f"{B}.comparison_boxes: 'both' needs boxes, and {B}.annotations_config_path is not set")
    (fault,) = faults(check, **pairs, **{f"{B}.comparison_points": "5", f"{B}.comparison_ties": "none"})
    assert fault.startswith(f"{B}.comparison_ties: 'none' allows no tie")
    streamed = {**pairs, f"{B}.stream_replies": "true"}
    for pace in ("first_seconds", "chars_per_second"):
        (fault,) = faults(check, **streamed, **{f"{B}.reply_{pace}": "5"})
        assert fault.startswith(f"{B}.stream_replies: ")
    assert check(**streamed, **{f"{B}.reply_first_seconds": "2", f"{B}.reply_chars_per_second": "50"})

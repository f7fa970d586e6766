"""What Hydra composes of the shipped configuration, and what of it has no value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from model_chat.configuration.hydra import ROOT
from model_chat.configuration.task_names import full_task_name
from model_chat.errors import ConfigurationError
from model_chat.launch.checks import check_task
from model_chat.tests.launch.small_study import BARE, B, Compose

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

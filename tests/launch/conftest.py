"""A small study whose files are all in order, and its check with some flags changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from model_chat.configuration.hydra import ROOT, register
from model_chat.launch.checked_task import CheckedTask
from model_chat.launch.checks import check_task
from model_chat.tests.launch.small_study import B, Compose


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


@pytest.fixture(scope="session")
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

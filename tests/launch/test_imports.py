"""What a launch imports: a study pays for the features that it uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CODE = """
import gc, json, sys
from contextlib import suppress
import model_chat.launch.task_run
found = {"collections": gc.get_stats()[2]["collections"], "enabled": gc.isenabled(), "frozen": gc.get_freeze_count()}
from model_chat.errors import ConfigurationError
from model_chat.launch.checks import check_task
from model_chat.launch.command_line import compose_config
flags = {"chat_data_folder": sys.argv[1], "conversations_needed_string": "model:1"}
with suppress(ConfigurationError):  # whatever else is wrong, all checks are made
    check_task(compose_config("example", [f"mephisto.blueprint.{name}={value!r}" for name, value in flags.items()]))
print(json.dumps({**found, "modules": list(sys.modules)}))
"""
UNUSED = {
    "a dashboard": ("uvicorn", "starlette", "model_chat.dashboard.link", "model_chat.launch.dashboard"),
    "images": ("PIL", "pyarrow", "model_chat.images", "model_chat.worlds_image_chat"),
    "models": ("torch", "transformers", "httpx", "ray"),
    "Prolific": ("model_chat.crowd.prolific", "model_chat.crowd.prolific_api", "model_chat.crowd.adapters"),
    "a study flow": ("model_chat.configuration.study_items", "model_chat.conversation.study_flow"),
    "finished conversations": ("model_chat.annotating", "model_chat.records.conversation_logs"),
    "results": ("pandas", "model_chat.analysis", "model_chat.exports"),
}


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("conversations")
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(folder)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


@pytest.mark.parametrize("feature", UNUSED)
def test_a_plain_text_chat_is_checked_without_what_only_others_need(launch: dict[str, Any], feature: str) -> None:
    assert "model_chat.worlds" in launch["modules"]
    assert not {name for name in UNUSED[feature] if name in launch["modules"]}


def test_nothing_is_searched_for_garbage_while_the_program_is_imported(launch: dict[str, Any]) -> None:
    assert launch["collections"] == 0
    assert launch["enabled"]
    assert launch["frozen"] > 10_000

"""A requester's own files lie in the working copy, or, with an installed wheel, where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from model_chat.configuration import hydra as hydra_module
from model_chat.configuration import places
from model_chat.configuration.hydra import ROOT, register
from model_chat.configuration.places import command_of, is_checkout, set_up_command, work_dir


def test_a_working_copy_is_its_own_place_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_checkout()
    assert work_dir() == ROOT
    assert set_up_command() == "make setup"


def test_an_installed_package_takes_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages/model_chat"
    installed.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_checkout(installed)
    assert work_dir(installed) == tmp_path


def test_commands_are_said_as_they_are_typed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command_of("scripts/preview.py") == "python scripts/preview.py"
    monkeypatch.setattr(places, "is_checkout", lambda: False)
    assert command_of("run.py") == "python -m model_chat.run"
    assert command_of("analysis/compile_results.py") == "python -m model_chat.analysis.compile_results"
    assert set_up_command() == "python -m model_chat.scripts.setup_env"


def test_conf_files_of_ones_own_are_offered_beside_the_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    text = (ROOT / "conf/example.yaml").read_text(encoding="utf-8")
    (tmp_path / "conf/my_places_study.yaml").write_text(text.replace("num_turns: 6", "num_turns: 2"), encoding="utf-8")
    monkeypatch.setattr(hydra_module, "work_dir", lambda: tmp_path)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(register("example"), overrides=["conf=my_places_study"])
        shipped = compose(register("example"))
    GlobalHydra.instance().clear()
    assert cfg.mephisto.blueprint.num_turns == 2
    assert cfg.mephisto.blueprint.chat_data_folder == f"{tmp_path}/data/conversations"
    assert cfg.mephisto.blueprint.base_model_folder == f"{tmp_path}/models"
    assert cfg.mephisto.blueprint.world_file == f"{ROOT}/worlds.py"
    assert shipped.mephisto.blueprint.num_turns == 6

"""Making the demo's image models, with little effort: how well they see is measured in benchmarks/."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model_chat.scripts import make_image_demo
from model_chat.scripts.make_image_demo import Effort, main
from model_chat.tasks.shapes.scenes import draw, make_scene

NICKNAME = "demo/shapes_b"


@pytest.fixture
def little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_image_demo, "EFFORTS", {NICKNAME: Effort(pictures=64, epochs=1, steps=3)})
    monkeypatch.setitem(make_image_demo._SETTINGS, "shapes_pictures", 20)


@pytest.mark.usefixtures("little_effort")
def test_a_model_is_made_in_the_base_folders_layout_and_loads_from_anywhere(tmp_path: Path) -> None:
    from parlai.core.agents import create_agent_from_model_file

    target = tmp_path / "models" / NICKNAME
    target.mkdir(parents=True)
    (target / "left over").touch()
    assert main(["--base-model-folder", str(tmp_path / "models"), "--threads", "1"]) == 0
    assert sorted(path.name for path in target.iterdir()) == ["model", "model.dict", "model.dict.opt", "model.opt"]
    assert [path.name for path in target.parent.iterdir()] == ["shapes_b"], "nothing is left of the making"
    opt = json.loads((target / "model.opt").read_text(encoding="utf-8"))
    assert opt["model"] == "model_chat.agents.image_seq:ImageSeqAgent"
    assert opt["image_mode"] == "raw"
    assert ".making_" not in (target / "model.opt").read_text(encoding="utf-8")

    elsewhere = tmp_path / "elsewhere"
    shutil.move(target, elsewhere)
    agent = create_agent_from_model_file(str(elsewhere / "model"), {"skip_generation": False, "no_cuda": True})
    agent.observe({"text": "hi!", "image": draw(make_scene("test", 0)), "episode_done": False})
    assert agent.act()["text"]


@pytest.mark.usefixtures("little_effort")
def test_the_same_seed_makes_the_same_eyes() -> None:
    weights = []
    for _ in range(2):
        with make_image_demo._seeded(3, threads=1):
            eyes = make_image_demo.train_eyes(64, 1)
        weights.append({name: value.tolist() for name, value in eyes.state_dict().items()})
    assert weights[0] == weights[1]


def test_no_other_model_is_made() -> None:
    with pytest.raises(SystemExit):
        main(["--only", "demo/another"])

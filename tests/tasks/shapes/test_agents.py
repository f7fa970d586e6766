"""The task as ParlAI sees it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from PIL import Image

from model_chat.tests import preloaded


def acts(task: str, datatype: str, **more: Any) -> list[Any]:
    from parlai.agents.fixed_response.fixed_response import FixedResponseAgent
    from parlai.core.worlds import create_task
    from parlai.scripts.display_data import setup_args

    import model_chat.tasks.shapes.agents  # noqa: F401  # makes the short name known

    opt = setup_args().parse_kwargs(task=task, datatype=datatype, **more)
    opt["fixed_response"] = None
    world = create_task(opt, FixedResponseAgent(opt))
    found = []
    while not world.epoch_done():
        world.parley()
        found.append(world.get_acts()[0])
    return found


@pytest.mark.parametrize("name", ["model_chat.tasks.shapes", "model_chat.tasks.shapes.agents", "shapes"])
def test_the_task_is_found_under_each_spelling(name: str) -> None:
    found = acts(name, "valid")
    assert len(found) == 150 * 5
    assert all(isinstance(act["image"], Image.Image) for act in found)
    assert [act["episode_done"] for act in found[:6]] == [False] * 4 + [True, False]
    assert found[0]["image"] is found[4]["image"], "one drawing for the five turns about it"
    assert found[0]["image_id"] == "shapes_valid_00000"
    assert found[0]["eval_labels"][0].startswith("I see ")


def test_display_data_shows_it_without_our_scripts() -> None:
    done = preloaded.run(
        [
            sys.executable,
            "-c",
            "import model_chat; from parlai.scripts.display_data import DisplayData;"
            "DisplayData.main('-t', 'model_chat.tasks.shapes', '-n', '3')",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "I see " in done.stdout


def test_the_number_of_training_pictures_and_the_seed_are_flags() -> None:
    few = acts("shapes:caption", "train:ordered", shapes_pictures=7)
    assert [act["image_id"] for act in few] == [f"shapes_train_{number:05d}" for number in range(7)]
    assert all(act["text"] == "" and act["episode_done"] for act in few)
    other = acts("model_chat.tasks.shapes:CaptionTeacher", "train:ordered", shapes_pictures=7, shapes_seed=5)
    assert [act["labels"] for act in other] != [act["labels"] for act in few]


def test_no_picture_is_drawn_where_none_is_wanted() -> None:
    assert all("image" not in act for act in acts("shapes:caption", "test", image_mode="no_image_model"))


def test_pictures_as_text() -> None:
    found = acts("shapes:caption", "test", image_mode="ascii")
    assert all(isinstance(act["image"], str) and act["image"].count("\n") > 10 for act in found)


def test_the_pictures_alone_do_not_cost_parlais_import() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, model_chat.tasks.shapes.scenes as s; s.draw(s.make_scene('test', 1));"
            "assert not [m for m in sys.modules if m.split('.')[0] in ('parlai', 'torch')]",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""The configuration of image chat is checked before anything is launched, and every fault said at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from model_chat.configuration.hydra import ROOT, register
from model_chat.errors import ConfigurationError
from model_chat.images.contexts import ImageContextsWriter
from model_chat.images.stack import ImageStack
from model_chat.launch.checked_task import CheckedTask
from model_chat.launch.checks import check_task
from model_chat.records.extensions import NUM_CONVERSATIONS

B = "mephisto.blueprint"
DEFAULTS: dict[str, Any] = {
    "num_conversations": 10,
    "evals_per_image_model_combo": 1,
    "image_context_path": f"{ROOT}/data/image_contexts.parquet",
    "stack_on_model_change": "stretch",
    "model_opt_path": f"{ROOT}/task_config/image_model_opts.yaml",
    "base_model_folder": None,
    "image_models": None,
    "world_file": f"{ROOT}/worlds_image_chat.py",
    "task_description_file": f"{ROOT}/task_config/image_task_description.html",
    "left_pane_text_path": f"{ROOT}/task_config/image_left_pane_text.html",
    "num_turns": 6,
    "random_seed": 42,
}
BARE = """
defaults:
  - /mephisto/blueprint: model_image_chat_blueprint
  - /mephisto/architect: local
  - /mephisto/provider: mock
"""


@pytest.fixture(scope="module")
def shipped() -> DictConfig:
    """What ``run_image_chat.py`` runs without a flag."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(register("example_image_chat"))


@pytest.fixture
def study(tmp_path: Path) -> dict[str, str]:
    """Flags of a small study whose files are all in order."""
    for nickname in ("a", "b"):
        (tmp_path / "models" / nickname).mkdir(parents=True)
        (tmp_path / "models" / nickname / "model.opt").write_text('{"model": "fixed_response"}', encoding="utf-8")
    (tmp_path / "opts.yaml").write_text('c: "--model fixed_response"\n', encoding="utf-8")
    with ImageContextsWriter(tmp_path / "images.parquet") as writer:
        for number in range(3):
            writer.add(Image.new("RGB", (8, 8), (number, 0, 0)), {}, {})
    return {
        f"{B}.base_model_folder": f"{tmp_path}/models",
        f"{B}.image_models": "null",
        f"{B}.image_context_path": f"{tmp_path}/images.parquet",
        f"{B}.stack_folder": f"{tmp_path}/stack",
        f"{B}.chat_data_folder": f"{tmp_path}/chats",
        "mephisto.architect.port": "0",
    }


@pytest.fixture
def check(shipped: DictConfig, study: dict[str, str]) -> Callable[..., CheckedTask]:
    """Check the small study with some flags changed."""

    def run(**changes: str) -> CheckedTask:
        merged = {**study, **{f"{B}.{name}": value for name, value in changes.items()}}
        flags = OmegaConf.from_dotlist([f"{key}={value}" for key, value in merged.items()])
        return check_task(OmegaConf.merge(shipped, flags))  # type: ignore[arg-type]  # a DictConfig, merged into one

    return run


def faults(check: Callable[..., CheckedTask], **changes: str) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        check(**changes)
    return list(error.value.faults)


def test_every_flag_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "bare.yaml").write_text("# @package _global_\n" + BARE, encoding="utf-8")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(register("example"), overrides=[f"hydra.searchpath=[{tmp_path}]", "conf=bare"])
    assert {name: cfg.mephisto.blueprint[name] for name in DEFAULTS} == DEFAULTS
    assert OmegaConf.is_missing(cfg.mephisto.blueprint, "stack_folder")


def test_an_extension_of_an_earlier_run_is_wanted(check: Callable[..., CheckedTask]) -> None:
    task = check()
    assert task.images is not None
    assert task.extensions is not None
    task.chat_data_folder.mkdir(parents=True, exist_ok=True)
    task.extensions.save({NUM_CONVERSATIONS: 12})
    again = check().images
    assert again is not None
    assert (task.images.num_conversations, again.num_conversations) == (10, 12)


def test_a_study_in_order_is_taken(check: Callable[..., CheckedTask], tmp_path: Path) -> None:
    task = check(evals_per_image_model_combo="2")
    assert task.images is not None
    assert len(task.images.contexts) == 3
    assert task.images.stack_folder == tmp_path / "stack"
    assert task.needed == {"a": 6, "b": 6}
    assert task.task_name == "model_image_chat_local"
    assert task.world_module.__name__ == "model_chat.worlds_image_chat"


@pytest.mark.parametrize(
    "flags, models",
    [
        ({}, ["a", "b"]),
        ({"image_models": "'b'"}, ["b"]),
        ({"model_opt_path": "opts.yaml"}, ["a", "b", "c"]),
        ({"model_opt_path": "opts.yaml", "base_model_folder": "null"}, ["c"]),
        ({"model_opt_path": "opts.yaml", "image_models": "'c, a'"}, ["a", "c"]),
    ],
)
def test_models_come_from_the_folder_the_yaml_file_or_both(
    check: Callable[..., CheckedTask], tmp_path: Path, flags: dict[str, str], models: list[str]
) -> None:
    if "model_opt_path" in flags:
        flags = {**flags, "model_opt_path": f"{tmp_path}/opts.yaml"}
    assert sorted(check(**flags).sources) == models


@pytest.mark.parametrize(
    "flags, said",
    [
        ({"num_conversations": "0"}, "num_conversations: 0 is too small"),
        ({"evals_per_image_model_combo": "0"}, "evals_per_image_model_combo: 0 is too small"),
        ({"image_models": "'a,,b'"}, "empty or a repeated nickname"),
        ({"image_models": "''"}, "empty or a repeated nickname"),
        ({"image_models": "'\"a'"}, "image_models: the quotation marks of"),
        ({"image_models": "'\"a\",z'"}, "image_models: there is no model 'z'"),
        ({"image_models": "'a,a'"}, "empty or a repeated nickname"),
        ({"image_models": "'z'"}, "image_models: there is no model 'z'"),
        ({"image_models": "'a|b'"}, "'a|b' is a pair of models, and nothing is compared"),
        ({"image_models": "'a|z'", "comparison": "per_turn"}, "image_models: there is no model 'z'"),
        ({"image_models": "'a'", "comparison": "per_turn"}, "'a' is not a pair of models"),
        ({"comparison": "per_turn"}, "image_models: is not set, and names the pairs"),
        ({"base_model_folder": "null"}, "base_model_folder: is empty"),
        ({"image_context_path": "nowhere.parquet"}, "make it with: python scripts/save_image_contexts.py"),
        ({"stack_folder": "/proc/stack"}, "stack_folder: '/proc/stack' can't be written to"),
        ({"stack_on_model_change": "ask"}, "give 'stretch' or 'stop'"),
    ],
)
def test_a_fault_is_said_with_its_flag_and_remedy(
    check: Callable[..., CheckedTask], flags: dict[str, str], said: str
) -> None:
    (sentence,) = faults(check, **flags)
    assert said in sentence


def test_all_faults_are_said_together(check: Callable[..., CheckedTask]) -> None:
    found = faults(check, num_conversations="0", num_turns="0", image_context_path="nowhere", image_models="'z'")
    assert len(found) == 4


def test_a_stack_of_other_models_or_images_is_found_before_the_launch(
    check: Callable[..., CheckedTask], tmp_path: Path
) -> None:
    ImageStack(3, ["a"], 1, tmp_path / "stack").close()
    check()
    (sentence,) = faults(check, stack_on_model_change="stop")
    assert "stack_on_model_change=stretch" in sentence
    ImageStack(4, ["a"], 1, tmp_path / "other").close()
    (sentence,) = faults(check, stack_folder=f"{tmp_path}/other")
    assert "4 images" in sentence


def test_pairs_take_the_place_of_models_in_the_stack(check: Callable[..., CheckedTask]) -> None:
    task = check(image_models="'a|b,b|b'", comparison="per_turn", comparison_allow_self="true")
    assert task.images is not None
    assert task.images.combos == ("a|b", "b|b")
    assert task.needed == {"a|b": 3, "b|b": 3}
    assert sorted(task.sources) == ["a", "b"]


# --- with a design ---

DESIGN = (
    "factors: {model: [a, b], num_turns: [1, 2]}\nwithin: [num_turns]\nbetween: [model]\nconversations_per_cell: %d\n"
)


@pytest.fixture
def with_design(check: Callable[..., CheckedTask], tmp_path: Path) -> Callable[..., CheckedTask]:
    """Check the small study, of three images, with a design."""

    def run(text: str, **changes: str) -> CheckedTask:
        (tmp_path / "design.yaml").write_text(text, encoding="utf-8")
        return check(design_path=f"{tmp_path}/design.yaml", **changes)

    return run


def faults_of(run: Callable[..., CheckedTask], text: str, **changes: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        run(text, **changes)
    return [fault for fault in refused.value.faults if "webpage" not in fault and "page is not built" not in fault]


def test_the_factor_model_takes_the_place_of_the_image_models(with_design: Callable[..., CheckedTask]) -> None:
    task = with_design(DESIGN % 1)
    assert task.design is not None and task.images is not None
    assert (task.design.model, task.images.combos, sorted(task.sources)) == (None, ("a", "b"), ["a", "b"])
    assert with_design(DESIGN % 1, image_models="'b,a'", num_conversations="4").design is not None
    (fault,) = faults_of(with_design, DESIGN % 1, image_models="c")
    assert "image_models: 'c' is not what mephisto.blueprint.design_path asks for, which is a,b; leave it out" in fault


def test_without_the_factor_model_one_model_is_needed(with_design: Callable[..., CheckedTask]) -> None:
    text = "factors: {num_turns: [1, 2]}\nconversations_per_cell: 1\n"
    task = with_design(text, image_models="b")
    assert task.design is not None and task.design.model == "b"
    (fault,) = faults_of(with_design, text, image_models="'a,b'")
    assert "image_models: there are 2 (a, b), and the design" in fault


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        (
            DESIGN % 2,
            {},
            [
                "'a', and 3 images have room for 3; raise mephisto.blueprint.evals_per_image_model_combo to 2",
                "with 'b'",
            ],
        ),
        (DESIGN % 2, {"evals_per_image_model_combo": "2"}, []),
        (
            DESIGN % 1,
            {"num_conversations": "5"},
            ["num_conversations: 5 is not what", "which is 4; leave the flag out."][:1],
        ),
        (
            "factors: {model: [a, b], include_persona: [true, false]}\nconversations_per_cell: 1\n",
            {},
            ["'include_persona' is a flag of text chat"],
        ),
        (
            "factors: {model: [a, b], num_turns: [1, 2]}\nwithin: [model, num_turns]\nconversations_per_cell: 1\n",
            {},
            ["a worker goes through 4 conditions, each with an image that is new to them, and there are 3 images"],
        ),
        (
            "factors: {model: [a, z], prompt: {x: Be x., y: Be y.}}\nconversations_per_cell: 1\n",
            {},
            ["design_path: there is no model 'z'"],
        ),
        (
            "factors: {model: [a, b], prompt: {x: Be x., y: Be y.}}\nconversations_per_cell: 1\n",
            {},
            ["needs models with a system prompt, and 'a' is none", "and 'b' is none"],
        ),
        (
            "factors: {modle: [a, b]}\nconversations_per_cell: 1\n",
            {"stack_on_model_change": "stop", "image_context_path": "/nowhere"},
            ["'modle' can't differ", "/nowhere"],
        ),
        (
            "factors: {model: [a|b, b|a]}\nconversations_per_cell: 1\n",
            {},
            ["'a|b' is a pair of models, and nothing is compared", "'b|a' is a pair"],
        ),
    ],
)
def test_a_design_that_does_not_fit_the_images_is_refused(
    with_design: Callable[..., CheckedTask], text: str, changes: dict[str, str], said: list[str]
) -> None:
    if not said:
        assert with_design(text, **changes).design is not None
        return
    faults = faults_of(with_design, text, **changes)
    assert len(faults) == len(said), faults
    assert all(any(sentence in fault for fault in faults) for sentence in said), faults


@pytest.mark.parametrize("method", ["per_turn", "paired"])
def test_pairs_are_conditions_of_an_image_chat(
    with_design: Callable[..., CheckedTask], tmp_path: Path, method: str
) -> None:
    more = {"model_opt_path": f"{tmp_path}/opts.yaml"}
    task = with_design("factors: {model: [a|b, a|c]}\nconversations_per_cell: 3\n", comparison=method, **more)
    assert task.images is not None
    assert (task.images.combos, sorted(task.sources)) == (("a|b", "a|c"), ["a", "b", "c"])

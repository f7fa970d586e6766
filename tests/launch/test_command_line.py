"""What a requester reads when a flag is wrong, and when they ask for help or for the configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from model_chat.configuration.diagnosis import word_faults
from model_chat.configuration.exit_codes import MEANINGS as EXIT_MEANINGS
from model_chat.configuration.exit_codes import ExitCode
from model_chat.configuration.flags import all_flags, nearest_flag
from model_chat.configuration.help import FURTHER, GROUPS, config_text, help_text
from model_chat.configuration.hydra import ROOT, register
from model_chat.errors import ConfigurationError
from model_chat.launch.command_line import Action, compose_config, read_arguments
from model_chat.model_chat_blueprint import BLUEPRINT_TYPE
from model_chat.tests import preloaded

B = "mephisto.blueprint"


def composed(*overrides: str, config_dir: Path = ROOT / "conf") -> DictConfig:
    GlobalHydra.instance().clear()
    name = register("example")
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        return compose(name, overrides=list(overrides))


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (f"{B}.num_turn=3", f"{B}.num_turn: there is no such flag; did you mean {B}.num_turns?"),
        ("num_turns=3", f"num_turns: there is no such flag; did you mean {B}.num_turns?"),
        (
            "mephisto.tasks.task_reward=1",
            "mephisto.tasks.task_reward: there is no such flag; did you mean mephisto.task.task_reward?",
        ),
        (
            f"{B}.override_opt.datatype=valid",
            f"{B}.override_opt.datatype: is open for keys of your own; to add one, write +{B}.override_opt.datatype=valid",
        ),
        ("qqqq=1", "qqqq: there is no such flag; see --help for what there is."),
        ("conf=exampel", "conf=exampel: there is no such file; did you mean conf=example?"),
        (
            "mephisto/provider=mturc",
            "mephisto/provider=mturc: there is no such file; did you mean mephisto/provider=mturk?",
        ),
        (f"{B}.num_turns=many", f"{B}.num_turns: 'many' is not a whole number; give a whole number."),
        ("mephisto.task.task_reward=much", "mephisto.task.task_reward: 'much' is not a number; give a number."),
        (f"{B}.include_persona=maybe", f"{B}.include_persona: 'maybe' is not true or false; give true or false."),
        (
            f"{B}.conversations_needed_string=a:1,b:2",
            f"{B}.conversations_needed_string=a:1,b:2: with a comma it could be several values; put it in quotes: "
            f"'{B}.conversations_needed_string=\"a:1,b:2\"'",
        ),
        ("num_turns", "num_turns: has no value; write flag=value, and see --help for the flags."),
        (
            "mephisto.task.task_title=Hi: (you",
            "mephisto.task.task_title=Hi: (you: can't be read; put quotes around a value with signs in it: "
            "'mephisto.task.task_title=\"Hi: (you\"'",
        ),
    ],
)
def test_a_wrong_flag_is_one_sentence_with_the_nearest_right_one(override: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose_config("example", [override])
    assert caught.value.faults == (sentence,)


def test_what_the_remedy_for_a_comma_says_is_taken() -> None:
    cfg = composed(f'{B}.conversations_needed_string="a:1,b:2"')
    assert cfg.mephisto.blueprint.conversations_needed_string == "a:1,b:2"


def test_a_flag_added_with_a_plus_must_exist_too(tmp_path: Path) -> None:
    composed()
    assert list(word_faults([f"+{B}.num_turn=1", "+port=3001", "conf=example"]).values()) == [
        f"+{B}.num_turn: there is no such flag; did you mean {B}.num_turns?",
        "+port: there is no such flag; did you mean mephisto.architect.port?",
    ]
    # What ParlAI's options are is not ours to know; a group of files is no flag.
    assert word_faults([f"+{B}.override_opt.datatype=valid", "+mephisto/architect=local", "+hydra.verbose=true"]) == {}


@pytest.mark.parametrize(
    ("arguments", "action", "left"),
    [
        ([], Action.RUN, []),
        (["a=1", "--help"], Action.HELP, ["a=1"]),
        (["-h", "conf=b"], Action.HELP, ["conf=b"]),
        (["-c", "job", "a=1"], Action.CONFIG, ["a=1"]),
        (["--cfg=job"], Action.CONFIG, []),
        (["-c", "hydra"], Action.RUN, ["--cfg=hydra"]),
        (["-c", "job", "--resolve"], Action.RUN, ["--resolve", "--cfg=job"]),
    ],
)
def test_help_and_configuration_are_ours_and_the_rest_is_hydras(
    arguments: list[str], action: Action, left: list[str]
) -> None:
    line = read_arguments(arguments)
    assert (line.action, line.for_hydra) == (action, left)


@pytest.mark.parametrize("option", ["--config-dir=FOLDER", "--config-dir FOLDER", "-cd FOLDER"])
def test_a_copy_of_a_shipped_file_is_found_in_another_folder_as_it_is(option: str, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    text = (ROOT / "conf/example.yaml").read_text(encoding="utf-8")
    (tmp_path / "conf/copied.yaml").write_text(text.replace("num_turns: 6", "num_turns: 2"), encoding="utf-8")
    cfg = compose_config("example", [*option.replace("FOLDER", str(tmp_path)).split(), "conf=copied"])
    assert cfg.mephisto.blueprint.num_turns == 2


def test_what_else_is_for_hydra_in_that_folder_is_found_too(tmp_path: Path) -> None:
    # Beside it anything may lie: the original's task folder holds lists of models, data, files that are no YAML at all.
    (tmp_path / "conf").mkdir()
    text = (ROOT / "conf/example.yaml").read_text(encoding="utf-8")
    (tmp_path / "conf/mine.yaml").write_text(text.replace("num_turns: 6", "num_turns: 2"), encoding="utf-8")
    for name, content in {
        "task_config/models.yaml": "a: '--model x'",
        "broken.yaml": "a: [1",
        "list.yaml": "- 1",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "mephisto/task").mkdir(parents=True)
    (tmp_path / "mephisto/task/cheap.yaml").write_text("task_reward: 0.07\n", encoding="utf-8")
    cfg = compose_config("example", ["conf=mine", "--config-dir", str(tmp_path), "+mephisto/task=cheap"])
    assert (cfg.mephisto.blueprint.num_turns, cfg.mephisto.task.task_reward) == (2, 0.07)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config-dri", "x"], "--config-dri: there is no such option; did you mean --config-dir?"),
        (["--num-turns", "4"], f"--num-turns: flags have no dashes here; write {B}.num_turns=4"),
        (["--port=3001"], "--port: flags have no dashes here; write mephisto.architect.port=3001"),
        (["--zzzzzz"], "--zzzzzz: there is no such option; see --help for what there is."),
    ],
)
def test_an_option_that_is_none_is_said_with_what_to_write(arguments: list[str], sentence: str) -> None:
    composed()
    with pytest.raises(ConfigurationError) as caught:
        read_arguments(arguments)
    assert caught.value.faults == (sentence,)


def test_suggestions_are_flags_that_exist() -> None:
    cfg = composed()
    for flag in all_flags():
        if not flag.startswith(("mephisto.architect.", "mephisto.provider.")) and "image" not in flag:
            assert OmegaConf.select(cfg, flag.rpartition(".")[0] or flag, throw_on_missing=False) is not None, flag
    assert nearest_flag("base_model_foldr") == f"{B}.base_model_folder"


def test_every_flag_that_help_sorts_into_a_group_exists() -> None:
    assert {flag for flags in GROUPS.values() for flag in flags} - set(all_flags()) == set()


def test_help_shows_examples_groups_meanings_and_the_values_in_force() -> None:
    text = help_text(composed(f"{B}.num_turns=4"), "run.py", "Collect.")
    assert text.startswith("Collect.\n\nusage: python run.py ")
    headings = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert headings[2:-1] == [
        "Examples",
        *(group for group in GROUPS if group not in ("The images", "Participants of a panel")),
        FURTHER,
        "Options",
        "Exit codes",
    ]
    assert f"  {B}.num_turns=4\n      Exchanges before the final rating.\n" in text
    for code in ExitCode:
        assert f"\n  {code.value:<5}{EXIT_MEANINGS[code].split(';')[0][:40]}" in text
    # None of our own flags is left without a meaning, whoever adds it.
    lines = text.splitlines()
    bare = [line for line, after in pairwise(lines) if line.startswith(f"  {B}.") and after[:3] != "   "]
    assert bare == []


def test_help_for_image_chat_shows_what_image_chat_has() -> None:
    text = help_text(composed("conf=example_image_chat"), "run_image_chat.py", "Collect.")
    assert "\nThe images\n  mephisto.blueprint.image_context_path=" in text
    assert "conversations_needed_string" not in text
    further = text.partition(f"\n{FURTHER}\n")[2]
    assert [line for line in further.splitlines() if line.startswith(f"  {B}.") and "tips_location" not in line] == []


def test_the_printed_configuration_is_the_configuration_with_comments() -> None:
    cfg = composed("mephisto.task.task_title='Chat: \"hello\" # 1'", f"+{B}.override_opt={{a: 1, b: [x, y]}}")
    text = config_text(cfg)
    assert yaml.safe_load(text) == OmegaConf.to_container(cfg)
    assert "    # Exchanges before the final rating.\n    num_turns: 6\n" in text


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(tmp_path), "COLUMNS": "200"}


def test_the_command_says_it_in_one_line_and_launches_nothing(home: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        f"# @package _global_\ndefaults:\n  - /mephisto/blueprint: {BLUEPRINT_TYPE}\n  - /mephisto/architect: local\n"
        "  - /mephisto/provider: mock\nmephisto:\n  blueprint:\n    num_trns: 3\n",
        encoding="utf-8",
    )
    (tmp_path / "conf" / "conf").mkdir()
    (folder / "mine.yaml").rename(folder / "conf" / "mine.yaml")
    done = preloaded.run(
        [sys.executable, str(ROOT / "run.py"), f"--config-dir={folder}", "conf=mine"],
        env=home,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"✗ {B}.num_trns: there is no such flag (line 8 of {folder}/conf/mine.yaml); did you mean {B}.num_turns?\n"
        f"✗ {B}.chat_data_folder: has no value; give one, such as {B}.chat_data_folder=…\n"
    )
    assert done.stderr.endswith("\nNothing was launched.\n")
    assert f"✗ {B}.num_turns:" not in done.stderr

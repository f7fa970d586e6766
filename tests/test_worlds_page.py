"""docs/worlds.md: its example is a world file that runs, and its methods are there to be overridden."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from model_chat import worlds
from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.configuration.world_file import load_world
from model_chat.quality.acceptability import AcceptabilityChecker
from model_chat.quality.blocks import BlockReason
from model_chat.tests.scripted_human import BUCKETS, ScriptedHuman, chat_options, message, play, rating
from model_chat.worlds import OnboardingOptions

PAGE = (Path(__file__).resolve().parents[1] / "docs/worlds.md").read_text(encoding="utf-8")


@pytest.fixture
def world_file(tmp_path: Path) -> ModuleType:
    (example,) = re.findall(r"<!-- example: world -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "my_world.py").write_text(example, encoding="utf-8")
    return load_world("mephisto.blueprint.world_file", str(tmp_path / "my_world.py"))


@pytest.mark.parametrize(
    ("second", "violations"), [("What do you do all day?", ""), ("I sleep most of the day.", "asked_nothing")]
)
def test_the_examples_conversation_is_held_checked_and_recorded(
    world_file: ModuleType, second: str, violations: str
) -> None:
    human = ScriptedHuman(
        message("I like to drink tea.", "bucket_0"), message(second, "bucket_1"), rating(4, ticks="none_all_good")
    )
    options = chat_options(["Hello.", "Oh.", "I see."], acceptability=AcceptabilityChecker(lambda text: False))
    world = world_file.make_world(options, [human])
    play(world)
    record = world.get_custom_task_data()
    assert record["status"] == "complete"
    assert record["acceptability_violations"] == [violations]
    assert record["additional_context"] == "11 words"
    assert world.block_reasons() == ([(BlockReason.ACCEPTABILITY, violations)] if violations else [])


@pytest.mark.parametrize(("second", "passed"), [("none_all_good", True), ("bucket_1", False)])
def test_the_examples_onboarding_forgives_nothing(world_file: ModuleType, second: str, passed: bool) -> None:
    config = OnboardingConfig.model_validate(
        {
            "min_correct": 1,
            "max_incorrect": 1,
            "max_failures_allowed": 0,
            "dialog": [
                [{"agent_idx": 1, "text": "Zero.", "answers": ["bucket_0"]}],
                [{"agent_idx": 1, "text": "Fine.", "answers": ["none_all_good"]}],
            ],
        }
    )
    sheet = message("", onboarding_answers=[[["bucket_0"]], [[second]]])
    human = ScriptedHuman(sheet)
    world = world_file.make_onboarding_world(OnboardingOptions(config, BUCKETS, 100), human)
    play(world)
    assert world.passed is passed
    # The shipped rule of the same file would have let both through, and says what is validated.
    state = {"outputs": {"messages": [{"WORLD_DATA": world.prep_save_data([human])}]}}
    assert world_file.validate_onboarding(state) is passed


def test_what_the_page_says_can_be_changed_is_there() -> None:
    table = PAGE.partition("## Methods to override")[2].partition("##")[0]
    named = re.findall(r"^\| `(\w+)\.(\w+)(?:\((.*?)\))?`", table, flags=re.MULTILINE)
    assert len(named) == 8
    for class_name, name, parameters in named:
        member = inspect.getattr_static(getattr(worlds, class_name), name)
        if isinstance(member, property):
            assert parameters == ""
        else:
            assert [p for p in inspect.signature(member).parameters if p != "self"] == [
                p for p in parameters.split(", ") if p
            ]
    asked = PAGE.partition("## What the task runner asks of a world")[2]
    for name in re.findall(r"`(\w+)(?:\(.*?\))?`(?=[,|\s]*.*\|)", asked.partition("A worker who leaves")[0]):
        assert hasattr(worlds.ModelChatWorld, name) or name in ("completion", "custom_data", "Completion"), name

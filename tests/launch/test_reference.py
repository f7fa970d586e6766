"""docs/configuration.md is complete and up to date."""

from __future__ import annotations

import dataclasses
import re

import pytest

from model_chat.configuration.flags import all_flags
from model_chat.launch.reference import reference
from model_chat.model_chat_blueprint import ModelChatBlueprintArgs, ModelImageChatBlueprintArgs
from model_chat.scripts.write_reference import PAGE

NOT_FOR_REQUESTERS = {"mephisto.architect.should_run_server"}  # of Mephisto's mock architect, for its own tests


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """Flag -> the other cells of its row."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(
        r"^\| `([\w.]+)` \| (.*) \|$", text.partition("## What the shipped files")[0], flags=re.MULTILINE
    )
    return {flag: re.split(r" (?<!\\)\| ", rest) for flag, rest in found}


def test_the_page_is_what_the_dataclasses_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run python scripts/write_reference.py"


def test_every_flag_that_a_run_can_have_is_documented_with_type_default_and_meaning(rows: dict[str, list[str]]) -> None:
    assert set(all_flags()) - NOT_FOR_REQUESTERS - set(rows) == set()
    assert {flag: cells for flag, cells in rows.items() if len(cells) != 3 or not all(cells)} == {}


def test_every_field_of_both_blueprints_is_on_the_page(rows: dict[str, list[str]]) -> None:
    for arguments in (ModelChatBlueprintArgs, ModelImageChatBlueprintArgs):
        names = {item.name for item in dataclasses.fields(arguments) if not item.name.startswith("_")}
        assert {name for name in names if f"mephisto.blueprint.{name}" not in rows} == set()


def test_nothing_on_the_page_is_of_this_machine(rows: dict[str, list[str]]) -> None:
    assert rows["mephisto.blueprint.offensive_words_path"][1] == "`${task_dir}/quality/offensive_words.txt`"
    assert rows["mephisto.blueprint.num_turns"] == ["whole number", "`6`", "Exchanges before the final rating."]
    assert rows["mephisto.blueprint.base_model_folder"][1] == "text chat: `${task_dir}/models`; image chat: unset"
    assert rows["mephisto.blueprint.chat_data_folder"][1] == "to be given"

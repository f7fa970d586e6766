"""Faults of a configuration in which finished conversations are annotated: all at once, before anything is launched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.hydra import ROOT
from model_chat.errors import ConfigurationError
from model_chat.launch.checks import check_task
from model_chat.launch.command_line import compose_config

B = "mephisto.blueprint"
GOOD: dict[str, Any] = {
    "messages": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B"}],
    "model": "m",
}
LONGER: dict[str, Any] = {"messages": GOOD["messages"] * 3, "model": "n"}


def checked(tmp_path: Path, *overrides: str, lines: tuple[Any, ...] = (GOOD, LONGER)) -> Any:
    logs = tmp_path / "logs.jsonl"
    logs.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    flags = (f"{B}.logs_path={logs}", f"{B}.chat_data_folder={tmp_path}/annotations", f"mephisto.datapath={tmp_path}/m")
    return check_task(compose_config("example", ["conf=example_annotation", *flags, *overrides]))


def faults(tmp_path: Path, *overrides: str, lines: tuple[Any, ...] = (GOOD, LONGER)) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        checked(tmp_path, *overrides, lines=lines)
    return list(caught.value.faults)


def checks(tmp_path: Path, *entries: dict[str, Any]) -> str:
    path = tmp_path / "checks.json"
    path.write_text(json.dumps({"checks": entries}), "utf-8")
    return f"{B}.attention_checks_path={path}"


def test_the_shipped_configuration_needs_conversations_alone(tmp_path: Path) -> None:
    task = checked(tmp_path)
    assert task.needed == {"m": 3, "n": 3}
    assert task.sources == {}
    assert task.logs.most_replies == 3


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        f"{B}.annotators_per_conversation=0",
        f"{B}.conversations_per_worker=-1",
        f"{B}.comparison=per_turn",
        f"{B}.check_acceptability=true",
        f"{B}.final_rating_question='|'",
        checks(tmp_path, {"turn": 1, "text": "Say yes.", "expect": ["yes"]}),
        lines=("{", GOOD, "[]"),
    )
    flags = [fault.split(":")[0].removeprefix(f"{B}.") for fault in found]
    assert flags == [
        "annotators_per_conversation",
        "conversations_per_worker",
        "comparison",
        "check_acceptability",
        "logs_path",
        "logs_path",
        "final_rating_question",
        "attention_checks_path",
    ]
    assert "line 1: is no JSON" in found[4]
    assert "line 3: is no JSON object" in found[5]


def test_without_a_path_the_flag_is_named(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, f"{B}.logs_path=nowhere.jsonl")
    assert found.startswith(f"{B}.logs_path: '") and "does not exist" in found


@pytest.mark.parametrize(("turn", "comes"), [(1, True), (2, True), (3, False)])
def test_an_attention_check_has_to_come_between_two_replies(tmp_path: Path, turn: int, comes: bool) -> None:
    flag = checks(tmp_path, {"turn": turn, "text": "Tick the last box.", "bucket": "none_all_good"})
    if comes:
        assert checked(tmp_path, flag).attention is not None
    else:
        (found,) = faults(tmp_path, flag)
        assert found == (
            f"{B}.attention_checks_path: turn 3 never comes; no conversation of {B}.logs_path has a reply after its reply 3."
        )


def test_attention_checks_do_not_depend_on_the_flag_that_chats_have(tmp_path: Path) -> None:
    flag = checks(tmp_path, {"turn": 2, "text": "Tick the last box.", "bucket": "none_all_good"})
    assert checked(tmp_path, flag, f"{B}.num_turns=1").attention is not None


def test_the_shipped_texts_are_there() -> None:
    for name in ("annotation_task_description.html", "annotation_left_pane_text.html"):
        assert (ROOT / "task_config" / name).is_file()


def test_the_shipped_boxes_have_the_keys_of_those_of_text_chat_and_other_words() -> None:
    of_chat, of_annotation = (
        json.loads((ROOT / "task_config" / name).read_text(encoding="utf-8"))["config"]
        for name in ("annotations_config.json", "annotation_annotations_config.json")
    )
    assert list(of_annotation) == list(of_chat)
    words = json.dumps(of_annotation)
    assert " you " not in words.lower().replace("you need not look anything up: tick this only if you notice it.", "")

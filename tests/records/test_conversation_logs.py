"""Reading finished conversations that are to be annotated: four formats, and all faults at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.analysis.measures import item_digests
from model_chat.errors import ConfigurationError
from model_chat.records.conversation_logs import UNKNOWN_MODEL, LoggedConversation, read_logs
from model_chat.records.reading import parse_conversation
from model_chat.scripts import export
from model_chat.tests.analysis.conftest import saver
from model_chat.tests.analysis.test_compared_parts import paired

OPENAI = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [{"type": "text", "text": "Good "}, {"type": "text", "text": "day."}]},
        {"role": "user", "content": "Bye"},
    ],
    "model": "gpt-x",
    "id": 7,
}
SHAREGPT = {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day."}]}
PARLAI = {
    "dialog": [
        [{"id": "context", "text": "your persona: I sail."}],
        [{"id": "localHuman", "text": "Hello"}, {"id": "Transformer", "text": "Good day."}],
    ],
    "metadata": {"model": "blender"},
}
OWN: dict[str, Any] = {
    "dialog": [
        {"agent_idx": 0, "text": "Hi!", "id": "Speaker 1", "fake_start": True},
        {"agent_idx": 1, "text": "Good day.", "id": "Speaker 2", "problem_data": {"rude": True}, "final_rating": "2"},
    ],
    "workers": ["w1"],
    "hit_ids": ["1"],
    "assignment_ids": ["1"],
    "task_description": {"model_nickname": "mine", "model_opt": {"beam": 3}},
    "personas": [["I cook."], ["I sail."]],
    "additional_context": "Sea",
    "status": "complete",
}


def read(folder: Path, *lines: Any) -> list[LoggedConversation]:
    path = folder / "logs.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return read_logs("logs_path", path)


def faults(folder: Path, *lines: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, *lines)
    return [fault.split("logs.jsonl', ")[-1] for fault in caught.value.faults]


def said(logged: LoggedConversation) -> list[tuple[int, str, bool]]:
    return [(line.agent_idx, line.text, line.fake_start) for line in logged.dialog]


def test_each_format_is_told_by_its_keys(tmp_path: Path) -> None:
    openai, sharegpt, parlai, own = read(tmp_path, OPENAI, SHAREGPT, "", PARLAI, OWN)
    for logged in (openai, sharegpt, parlai):
        assert said(logged) == [(0, "Hello", False), (1, "Good day.", False)]
    assert said(own) == [(0, "Hi!", True), (1, "Good day.", False)]
    assert [logged.model_nickname for logged in (openai, sharegpt, parlai, own)] == [
        "gpt-x",
        UNKNOWN_MODEL,
        "blender",
        "mine",
    ]
    assert [logged.id for logged in (openai, sharegpt, parlai, own)] == ["7", *(f"logs.jsonl:{n}" for n in (2, 4, 5))]
    assert own.worker_id == "w1"
    assert own.model_opt == {"beam": 3}
    assert own.replies == 1


def test_an_annotation_of_an_own_record_is_about_the_same_items_as_the_record(tmp_path: Path) -> None:
    """Whatever the analysis matches live and later judgements by has to be taken over."""
    (own,) = read(tmp_path, OWN)
    again = {
        **OWN,
        **own.context,
        "workers": ["annotator"],
        "dialog": [{"agent_idx": line.agent_idx, "text": line.text, "id": ""} for line in own.dialog],
    }
    assert item_digests(parse_conversation(again)) == item_digests(parse_conversation(OWN))


def test_our_own_export_says_whose_it_is_and_what_was_only_shown(tmp_path: Path) -> None:
    line = {
        "messages": [
            {"role": "system", "content": "x"},
            {"role": "user", "content": "Seed"},
            {"role": "assistant", "content": "Seed, too"},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Good day."},
        ],
        "metadata": {"id": "abc", "model": "mine", "worker": "w9", "shown_as_said": [1, 2]},
    }
    (logged,) = read(tmp_path, line)
    assert said(logged) == [(0, "Seed", True), (1, "Seed, too", True), (0, "Hello", False), (1, "Good day.", False)]
    assert (logged.id, logged.model_nickname, logged.worker_id, logged.replies) == ("abc", "mine", "w9", 1)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ({"text": "x"}, "has none of the known keys"),
        ({**OPENAI, **SHAREGPT}, "has 'messages' and 'conversations'"),
        ({"messages": []}, "'messages' is no list of messages, or is empty"),
        ({"messages": "x"}, "'messages' is no list of messages, or is empty"),
        ({"messages": ["x"]}, "message 1 is no object with 'role' and 'content'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 'message 1 has role "tool"'),
        ({"messages": [{"content": "x"}]}, "message 1 has no 'role'"),
        ({"messages": [{"role": 1, "content": "x"}]}, "message 1 has role 1;"),
        ({"conversations": [{"value": "x"}]}, "message 1 has no 'from'"),
        ({"messages": [{"role": "assistant", "content": None}]}, "message 1 has no text"),
        ({"messages": [{"role": "assistant", "content": " \u200b"}]}, "message 1 has no text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "message 1 has parts that are no text"),
        ({"messages": [{"role": "user", "content": "x"}]}, "holds no reply of a model"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, 'message 1 has from "function_call"'),
        ({"conversations": ["x"]}, "message 1 is no object with 'from' and 'value'"),
        ({"dialog": [["x"]]}, "exchange 1 is no list of acts"),
        ({"dialog": [[{"id": "a", "text": "x"}] * 3]}, "exchange 1 has 3 acts"),
        ({"dialog": [[{"id": "a", "text": "x"}, {"id": "b"}]]}, "exchange 1 has no text"),
        ({"dialog": [[{"id": ["context"], "text": "x"}, {"id": {}, "text": ""}]]}, "exchange 1 has no text"),
        ({**OPENAI, "id": "x" * 301}, "'id' has 301 characters; give at most 300"),
        ({**OPENAI, "model": "x" * 301}, "'model' has 301 characters"),
        (
            {"messages": [{"role": "assistant", "content": "x" * 200_001}]},
            "message 1 has 200,001 characters; nobody can judge more than 200,000",
        ),
        ({**OWN, "dialog": [{**OWN["dialog"][0], "text": "x" * 200_001}]}, "utterance 1 has 200,001 characters"),
        ("[" * 2000, "is no JSON (depth limit exceeded"),
        ({"dialog": [{"agent_idx": 1, "text": "x"}]}, "`task_description.model_nickname` is missing"),
        ({**OWN, "dialog": [{**OWN["dialog"][0], "text": " "}]}, "utterance 1 has no text"),
        ({**OWN, "status": "incomplete"}, "the conversation is incomplete"),
        ({**OWN, "image_idx": 3}, "is about an image"),
        ({**OWN, "simulated": {"model": "m", "persona": None}}, "a model played the person (simulated); leave it out"),
        ({**OWN, "judged_conversation": {"id": "a", "sha256": "0" * 64}}, "is an annotation of another conversation"),
    ],
)
def test_what_is_no_conversation_to_annotate_is_named_with_its_line(tmp_path: Path, line: Any, fault: str) -> None:
    (found,) = faults(tmp_path, SHAREGPT, line)
    assert found.startswith(f"line 2: {fault}")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            {"messages": [{"role": "user", "content": ""}, {"role": "tool"}, {"role": "assistant", "content": "x"}, 7]},
            'message 1 has no text; message 2 has role "tool"; a conversation to judge has people and models only; '
            "message 4 is no object with 'role' and 'content'.",
        ),
        (
            {"conversations": [{"from": "human", "value": 1}, {"from": "gpt", "value": "x"}, {"from": "gpt"}]},
            "message 1 has no text; message 3 has no text.",
        ),
        (
            {"dialog": [["x"], [{"text": "x"}, {"text": "x"}], [{"text": "x"}, {"text": " "}], [{"text": ""}]]},
            "exchange 1 is no list of acts with 'id' and 'text'; exchange 3 has no text; exchange 4 has no text.",
        ),
        (
            {"messages": [{"role": "user"}] * 7},
            "message 1 has no text; message 2 has no text; message 3 has no text; and 4 more.",
        ),
        (
            {**OWN, "dialog": [{**OWN["dialog"][0], "text": " "}, OWN["dialog"][1], {**OWN["dialog"][1], "text": ""}]},
            "utterance 1 has no text; utterance 3 has no text.",
        ),
    ],
)
def test_a_line_with_several_faults_names_them_together(tmp_path: Path, line: Any, told: str) -> None:
    (found,) = faults(tmp_path, line)
    assert found == f"line 1: {told}"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    text = json.dumps({"messages": [{"role": "user", "content": "é"}]}, ensure_ascii=False)
    path = tmp_path / "logs.jsonl"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ConfigurationError) as caught:
        read_logs("logs_path", path)
    assert str(caught.value) == f"logs_path: '{path}', line 1: is not UTF-8; save the file as UTF-8."


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    path = tmp_path / "logs.jsonl"
    path.write_bytes(b"\r\n".join(json.dumps(line).encode() for line in (OPENAI, PARLAI, "")[:2]) + b"\r\n\r\n")
    assert len(read_logs("logs_path", path)) == 2


def test_all_faults_are_said_at_once_and_many_are_counted(tmp_path: Path) -> None:
    found = faults(tmp_path, *["{"] * 23, SHAREGPT, "[]")
    assert len(found) == 21
    assert found[0].startswith("line 1: ")
    assert found[-1].endswith("4 more conversations have faults.")


def test_the_same_conversation_or_id_twice_is_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, SHAREGPT, OPENAI, SHAREGPT, {**SHAREGPT, "id": 7, "model": "b"}) == [
        "line 3: is the same conversation as line 1; leave one of them out.",
        "line 4: has the same id '7' as line 2; give each conversation its own.",
    ]


def test_the_same_words_of_another_model_are_another_conversation(tmp_path: Path) -> None:
    assert len({logged.sha256 for logged in read(tmp_path, SHAREGPT, {**SHAREGPT, "model": "b"})}) == 2


def test_a_folder_holds_what_a_run_has_saved(tmp_path: Path) -> None:
    day = tmp_path / "2026_11_28"
    day.mkdir()
    records = {
        "a": OWN,
        "b": {**OWN, "status": "incomplete"},
        "c": {**OWN, "judged_conversation": {"id": "a", "sha256": "0" * 64}},
        "e": {**OWN, "simulated": {"model": "m", "persona": None}},
    }
    for name, record in records.items():
        (day / f"20261128_120000_{name}_sandbox.json").write_text(json.dumps(record), "utf-8")
    assert [logged.id for logged in read_logs("logs_path", tmp_path)] == ["20261128_120000_a_sandbox"]
    (day / "20261128_120000_d_sandbox.json").write_text("{", "utf-8")
    with pytest.raises(ConfigurationError, match=r"20261128_120000_d_sandbox.json': it is no JSON"):
        read_logs("logs_path", tmp_path)


def test_two_chats_that_were_compared_are_annotated_as_they_are_exported(tmp_path: Path) -> None:
    """They are two conversations of two models: one after the other they would look like one that forgets everything."""
    folder = tmp_path / "results"
    write = saver(tmp_path)
    write(paired())
    with pytest.raises(
        ConfigurationError, match=r"holds two chats that were compared; give an export \(scripts/export.py"
    ):
        read_logs("logs_path", folder)
    exported = ["--results-folders", str(folder), "--output", str(tmp_path / "out"), "--format", "openai"]
    assert export.main(exported) == 0
    first, second = read_logs("logs_path", tmp_path / "out" / "openai.jsonl")
    assert [(logged.model_nickname, logged.replies, logged.worker_id) for logged in (first, second)] == [
        ("b", 2, "w2"),
        ("a", 2, "w2"),
    ]


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_logs("logs_path", tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="holds no finished conversation"):
        read(tmp_path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert len(read(tmp_path, *(f"\ufeff{json.dumps(line)}" for line in (SHAREGPT, OPENAI)))) == 2, (
        "of files that were joined"
    )

"""Deleting what a worker wrote: copies of exports, deidentified or converted, and what can't be recognised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.exports.identities import Identities, read_salt
from model_chat.records.conversation_logs import LogLine
from model_chat.records.forget_words import Words, lines_of
from model_chat.records.writing import save_conversation
from model_chat.scripts import export
from model_chat.tests.analysis.test_compared_parts import per_turn
from model_chat.tests.records.test_forget_annotations import HARMLESS, SECRET, WHO, Study, command


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = Study(tmp_path)
    for path in made.chats.glob("*/*.json"):  # both name each other
        path.write_text(path.read_text().replace(SECRET, f"{SECRET} I am {WHO}, worker-2."))
    return made


def exported(study: Study, *flags: str, kind: str = "openai", change: Callable[[Any], Any] = lambda line: line) -> Path:
    """A file of an export, whose lines may be changed; the salt is where it is by default."""
    output = study.folder / "out"
    given = ["--results-folders", str(study.chats), "--output", str(output), "--format", kind, *flags]
    assert export.main(given) == 0
    path = output / f"{kind}.jsonl"
    if path.exists():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(change(line)) + "\n" for line in lines))
    return path


def without_salt(study: Study) -> None:
    (study.folder / "config" / "model-chat" / "export_salt").unlink()


def without_ids(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name in ("messages", "conversations")}


def in_other_words(line: dict[str, Any]) -> dict[str, Any]:
    """A line whose replies were edited."""
    for message in line["messages"]:
        message["content"] = message["content"] + ("" if message["role"] == "user" else " (edited)")
    return line


def spaced(line: dict[str, Any]) -> dict[str, Any]:
    """A line that another tool has written: further white space, and no ids."""
    for key, text in (("messages", "content"), ("conversations", "value")):
        for message in line.get(key, ()):
            message[text] = f" {message[text]}\n".replace(" ", "\u00a0 ")
    return without_ids(line)


@pytest.mark.parametrize("kind", ["openai", "sharegpt"])
@pytest.mark.parametrize("change", [without_ids, spaced])
def test_a_deidentified_copy_is_recognised_by_its_words_without_salt_and_ids(
    study: Study, kind: str, change: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    study.logs = exported(study, "--deidentify", kind=kind, change=change)
    assert "anon-" in study.logs.read_text()
    without_salt(study)
    study.annotate()
    assert len(study.saved()) == 2
    assert command(study, "--delete", "--also", str(study.logs)) == 0, "nothing was left that may be theirs"
    assert "hold" not in capsys.readouterr().out
    assert [path for path in study.mentions("hedgehogs") if "out/" not in path] == []
    assert "hedgehogs" not in study.logs.read_text()
    (kept,) = study.saved()
    assert HARMLESS in " ".join(kept["dialog"][2]["text"].split())
    assert sum(bool(line) for line in study.logs.read_text().splitlines()) == 1, "the other's line stays"


def test_with_the_salt_a_copy_in_other_words_is_recognised_by_the_id_that_the_export_gave(
    study: Study, tmp_path: Path
) -> None:
    salt = tmp_path / "own_salt"
    study.logs = exported(study, "--deidentify", "--salt-file", str(salt), change=in_other_words)
    study.annotate()
    study.annotate(whole=False)
    study.logs.unlink()
    assert command(study, "--delete", "--salt-file", str(salt)) == 0
    assert study.mentions("hedgehogs") == []
    assert len(study.saved()) == 2


def test_the_id_of_an_export_that_is_not_deidentified_is_enough(study: Study) -> None:
    study.logs = exported(
        study, change=lambda line: {**in_other_words(line), "metadata": {"id": line["metadata"]["id"]}}
    )
    study.annotate()
    assert command(study, "--delete") == 0
    assert study.mentions("hedgehogs") == []
    assert len(study.saved()) == 1


def test_the_pseudonym_goes_from_a_file_that_is_kept(study: Study) -> None:
    path = exported(study, "--deidentify", change=in_other_words)
    pseudonym = Identities(read_salt(study.folder / "config" / "model-chat" / "export_salt"), ()).pseudonym(WHO)
    before = path.read_text()
    assert json.dumps(pseudonym) in before
    assert command(study, "--also", str(path)) == 0
    assert json.dumps(pseudonym) not in path.read_text()
    assert path.read_text().count("hedgehogs") == before.count("hedgehogs")


def test_what_is_not_recognised_and_holds_a_message_of_theirs_is_named(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.logs = exported(study, "--deidentify", change=lambda line: without_ids(in_other_words(line)))
    without_salt(study)
    study.annotate()
    study.annotate(whole=False, recorded=False)
    before = [path for path in study.mentions("hedgehogs") if not path.startswith(("chats", "mephisto"))]
    assert len(before) == 2
    assert command(study, "--delete", "--also", str(study.logs)) == 1
    told = capsys.readouterr().out
    (annotation,) = [path for path in study.annotations.glob("*/*.json") if "hedgehogs" in path.read_text()]
    assert f"'{annotation}' holds a message of theirs" in told
    number = next(at for at, line in enumerate(study.logs.read_text().splitlines(), 1) if "hedgehogs" in line)
    assert f"'{study.logs}' (lines {number}) holds a message of theirs" in told
    assert told.count("holds a message of theirs") == 1 + 1 + 2, "the states of both annotators too"
    assert "no folder or file" not in told, "the other's copies are those of a file that was searched"
    assert [path for path in study.mentions("hedgehogs") if not path.startswith(("chats", "mephisto"))] == before


def test_annotations_and_judgments_of_what_nobody_knows_are_counted(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study.folder / "logs.jsonl"
    path.write_text(
        json.dumps({"messages": [{"role": "user", "content": "Yes"}, {"role": "assistant", "content": "No"}]})
    )
    study.logs = path
    study.annotate()
    judged = study.folder / "judged"
    judged.mkdir()
    (judged / "judgments.jsonl").write_text(json.dumps({"conversation": "f" * 16, "prompt_sha256": "0" * 64}) + "\n")
    path.unlink()
    assert command(study, "--delete", "--also", str(judged), "--also", str(study.annotations)) == 1
    told = " ".join(capsys.readouterr().out.split())
    (saved,) = study.annotations.glob("*/*.json")
    assert f"1 annotations in '{saved.parent}' of conversations that are in no folder or file" in told
    assert f"1 judgments in '{judged / 'judgments.jsonl'}' of conversations" in told


def test_the_lines_of_a_folder_of_exports_go_and_its_other_formats_are_named(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(study)
    exported(study, kind="csv")
    save_conversation(study.chats, per_turn(worker=WHO), live=False)
    exported(study, "--overwrite", kind="trl-preference")
    assert command(study, "--delete", "--also", str(path.parent)) == 1
    told = capsys.readouterr().out
    assert "hedgehogs" not in path.read_text()
    assert HARMLESS in path.read_text()
    assert f"'{path.parent}' holds exports (csv, openai, trl-preference)" in told
    assert f"'{path.parent / 'trl-preference.jsonl'}' (lines 1" in told


def test_a_file_of_another_kind_is_said_not_to_have_been_searched(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(study, kind="csv")
    path = study.folder / "out" / "csv.csv"
    assert command(study, "--delete", "--also", str(path)) == 1
    assert f"'{path}' is no file of JSON Lines and was not searched" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [None, (), ("--deidentify",)])
def test_annotations_of_a_conversation_of_two_compared_models_go(study: Study, flags: tuple[str, ...] | None) -> None:
    save_conversation(study.chats, per_turn(worker=WHO), live=False)
    if flags is not None:
        study.logs = exported(study, *flags, change=without_ids)
    study.annotate()
    assert len(study.saved()) == 3
    assert command(study, "--delete") == 0
    assert [record["dialog"][2]["text"] for record in study.saved()] == [HARMLESS]


def test_a_salt_that_is_missing_is_named_with_all_other_faults(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(study, "--delete", "--salt-file", "/nowhere/salt", "--also", "/nowhere/else") == 2
    told = capsys.readouterr().err
    assert "--salt-file: '/nowhere/salt' does not exist" in told
    assert "--also: '/nowhere/else' does not exist" in told


def dialog(*texts: str) -> list[LogLine]:
    return [LogLine(at % 2, text) for at, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("copy", "is_theirs"),
    [
        ("Is 12345678 + 1 more?", True),
        ("Is 87654321 + 1 more?", False),
        ("Is anon-0123456789abcdef + 1 more?", True),
        ("Is anon-0123456789abcdef + 2 more?", False),
        ("Is anon-0123456789abcde + 1 more?", False),
    ],
)
def test_only_a_pseudonym_may_differ(copy: str, is_theirs: bool) -> None:
    words = Words()
    words.take(dialog("Is 12345678 + 1 more?", "No."), is_theirs=True)
    assert words.is_theirs(lines_of(dialog(copy, "No."))) is is_theirs


def test_a_short_message_and_one_that_others_wrote_point_to_nobody() -> None:
    words = Words()
    words.take(dialog("I have a very old dog at home.", "No.", "Why?", "Yes."), is_theirs=True)
    assert words.shares(["x", "I  have a very old dog at home."])
    assert not words.shares(["Why?"])
    words.take(dialog("I have a very old dog at home.", "So?"), is_theirs=False)
    assert not words.shares(["I have a very old dog at home."])

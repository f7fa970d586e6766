"""The command for files of texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_chat.configuration.exit_codes import ExitCode
from model_chat.configuration.worker_texts import ENGLISH_FILE
from model_chat.scripts.texts import main


def test_a_template_has_every_english_text_and_is_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "he.json"
    assert main(["template", "he", str(file)]) == ExitCode.DONE
    data = json.loads(file.read_text(encoding="utf-8"))
    assert (data["language"], data["direction"]) == ("he", "rtl")
    assert (data["page"], data["server"]) == (ENGLISH_FILE["page"], ENGLISH_FILE["server"])
    capsys.readouterr()
    assert main(["check", str(file)]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "as in English" in said and "page.composer.send" in said, "what was not translated yet"


def test_a_template_of_a_language_that_ships_is_its_file(tmp_path: Path) -> None:
    file = tmp_path / "de.json"
    assert main(["template", "de", str(file)]) == ExitCode.DONE
    assert json.loads(file.read_text(encoding="utf-8"))["page"]["close"] == "Schließen"


@pytest.mark.parametrize("language", ["dutch", "nl_NL", ""])
def test_no_template_without_a_language_tag(tmp_path: Path, language: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["template", language, str(tmp_path / "x.json")]) == ExitCode.CONFIGURATION
    assert "is no language tag" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_template_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nl.json"
    file.write_text("mine", encoding="utf-8")
    assert main(["template", "nl", str(file)]) == ExitCode.CONFIGURATION
    assert "exists; name another" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "mine"
    assert main(["template", "nl", str(tmp_path / "none" / "nl.json")]) == ExitCode.CONFIGURATION
    assert "can't be written" in capsys.readouterr().err


def test_check_names_every_fault_and_everything_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nl.json"
    data = json.loads(json.dumps({**ENGLISH_FILE, "language": "nl"}))
    del data["page"]["close"], data["server"]["messages"]["wait"]
    data["page"]["header"]["turns"] = "Beurt {x}"
    file.write_text(json.dumps(data, indent=1), encoding="utf-8")
    assert main(["check", str(file)]) == ExitCode.CONFIGURATION
    said = capsys.readouterr().out
    for part in ("'page.close' is missing", "'server.messages.wait' is missing", "place {x}", "lacks the place {done}"):
        assert part in said
    assert said.count("✗") == 5, "three faults of one text, two that are missing"


def test_a_few_texts_over_a_language_that_ships_lack_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.json"
    file.write_text('{"language": "de", "page": {"close": "Zu"}}', encoding="utf-8")
    assert main(["check", str(file)]) == ExitCode.DONE
    assert "those that ship for 'de'" in capsys.readouterr().out


def test_without_a_name_the_languages_that_ship_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "✓ de: in order." in said
    assert "de: translated by a machine" in said


def test_a_file_that_is_not_there_keeps_no_other_from_being_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "no.json"), "de"]) == ExitCode.CONFIGURATION
    said = capsys.readouterr().out
    assert "does not exist" in said and "✓ de: in order." in said

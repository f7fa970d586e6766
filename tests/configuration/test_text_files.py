"""Files of texts for workers, and what is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.text_files import RIGHT_TO_LEFT, check_texts, load_texts
from model_chat.configuration.worker_texts import ENGLISH_FILE, read_shipped, shipped_languages
from model_chat.errors import ConfigurationError

LANGUAGE, PATH = "mephisto.blueprint.language", "mephisto.blueprint.texts_path"


def faults_of(text: str) -> list[str]:
    checked = check_texts("file", "own.json", text)
    assert all(fault.startswith("file: 'own.json', line ") for fault in checked.faults)
    return [fault.removeprefix("file: 'own.json', line ") for fault in checked.faults]


def test_all_faults_of_a_file_are_named_at_once_with_their_lines() -> None:
    text = """{
  "language": "de",
  "direction": "down",
  "page": {
    "close": "",
    "yousaid": "Sie:",
    "header": {"turns": "Runde {done} von {al}", "turnsLeft": {"one": "eine", "plenty": "viele"}},
    "composer": "Senden",
    "annotation": {"about": "Was heißt { name}?"},
    "log": {"label": {"other": "Gespräch"}}
  },
  "server": {"messages": {"wait": 3}},
  "footnote": "x"
}"""
    assert sorted(faults_of(text)) == sorted(
        [
            "3: 'direction' is 'down'; it is ltr or rtl.",
            "13: unknown key 'footnote'; remove it.",
            "6: unknown key 'page.yousaid'; did you mean page.youSaid?",
            "5: 'page.close' is empty; write a text, or remove the key to have the English one.",
            "7: 'page.header.turns' has the place {al}, for which there is no value; its places: {all}, {done}.",
            "7: 'page.header.turns' lacks the place {all}.",
            "7: 'page.header.turnsLeft.plenty' is no plural form; there are zero, one, two, few, many, other.",
            "7: 'page.header.turnsLeft' lacks the form 'other', which every language has.",
            "10: 'page.log.label' has several forms, and is one text.",
            "9: 'page.annotation.about' has a brace that belongs to no place; places are written {name}.",
            "9: 'page.annotation.about' lacks the place {name}.",
            "8: 'page.composer' is one value; it has the keys label, placeholder, send, keys, keysWithBoxes, counter.",
            "12: 'server.messages.wait' is no text.",
        ]
    )


@pytest.mark.parametrize(
    ("form", "text", "fault"),
    [
        ("one", "ein Zeichen zu lang", None),
        ("two", "zwei", None),
        ("other", "Zeichen zu lang", "'page.block.too_long.other' lacks the place {count}."),
    ],
)
def test_a_form_for_one_number_may_say_it_in_words(form: str, text: str, fault: str | None) -> None:
    forms = {"other": "{count} zu lang", form: text}
    found = faults_of(json.dumps({"language": "de", "page": {"block": {"too_long": forms}}}))
    assert found == ([] if fault is None else [f"1: {fault}"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "is no JSON object"),
        ("{", "is not valid JSON"),
        ('{"language": "de",\n"language": "de"}', "line 2: duplicate key 'language'"),
    ],
)
def test_what_is_no_file_of_texts_is_one_sentence(text: str, fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        check_texts("file", "own.json", text)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"page": {"close": "Zu"}}, "'language' is missing"),
        ({"language": 3, "page": {}}, "'language' is no text."),
        ({"language": "German", "page": {}}, "give a language tag such as de or pt-BR"),
        ({"language": "de", "thousands": "comma", "page": {}}, "give the character that separates"),
        ({"language": "de"}, "has no texts; they are below 'page' and 'server'."),
        ({"language": "de", "page": ["Zu"]}, "'page' is one value"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(data: dict[str, Any], fault: str) -> None:
    assert any(fault in found for found in faults_of(json.dumps(data)))


def test_the_languages_that_ship_are_whole_and_in_order() -> None:
    assert shipped_languages() == ["ar", "de", "en", "es", "fr", "zh"]
    for language in shipped_languages():
        data = read_shipped(language)
        checked = check_texts("file", language, json.dumps(data, ensure_ascii=False))
        assert (checked.faults, checked.missing) == ((), ()), language
        assert data["language"] == language
        assert data["direction"] == ("rtl" if language in RIGHT_TO_LEFT else "ltr")
        if language != "en":
            assert len(checked.untranslated) < 12, "the rest would be in English unnoticed"


def test_a_language_needs_texts() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_texts("nl", "")
    (fault,) = raised.value.faults
    assert fault.startswith(f"{LANGUAGE}: 'nl' has no texts that ship; choose one of ar, de, en, es, fr, zh")
    assert "texts.py template nl" in fault


@pytest.mark.parametrize("language", ["../../conf/example", "", "de_DE", "deutsch", "de\n"])
def test_what_is_no_language_tag_is_refused(language: str) -> None:
    with pytest.raises(ConfigurationError, match="is no language tag"):
        load_texts(language, "")


def test_a_file_for_another_language_is_refused_with_its_other_faults(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text('{"language": "nl", "page": {"shut": "Dicht"}}', encoding="utf-8")
    with pytest.raises(ConfigurationError) as raised:
        load_texts("xx", str(path))
    assert [fault.partition(": ")[0] for fault in raised.value.faults] == [PATH, PATH]
    assert "for the language 'nl', and mephisto.blueprint.language is 'xx'" in raised.value.faults[1]


def test_a_missing_file_is_refused_beside_a_wrong_tag(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_texts("de_DE", str(tmp_path / "no.json"))
    assert len(raised.value.faults) == 2
    assert f"{PATH}: the file" in raised.value.faults[1]


@pytest.mark.parametrize(("tag", "direction"), [("he", "rtl"), ("fa-IR", "rtl"), ("nl", "ltr")])
def test_the_direction_is_that_of_the_language_unless_the_file_says_it(
    tmp_path: Path, tag: str, direction: str
) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"language": tag, "page": {"close": "x"}}), encoding="utf-8")
    assert load_texts(tag, str(path)).direction == direction
    other = "ltr" if direction == "rtl" else "rtl"
    path.write_text(json.dumps({"language": tag, "direction": other, "page": {"close": "x"}}), encoding="utf-8")
    assert load_texts(tag, str(path)).direction == other


def test_the_language_of_the_conversation_may_be_another(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"language": "de", "conversation_language": "en", "page": {}}), encoding="utf-8")
    assert load_texts("de", str(path)).conversation_language == "en"


def test_english_can_be_changed_and_lacks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"language": "en", "page": {"composer": {"send": "Say it"}}}), encoding="utf-8")
    texts = load_texts("en", str(path))
    assert texts.page is not None
    assert texts.page["composer"]["send"] == "Say it"
    assert texts.missing == ()
    assert ENGLISH_FILE["page"]["composer"]["send"] == "Send"

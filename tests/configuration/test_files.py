"""Reading what flags point to: each fault is one sentence with flag, file, place and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.annotations import load_annotations, parse_annotations
from model_chat.configuration.files import expand, parse_json, read_text
from model_chat.configuration.yaml_files import read_yaml
from model_chat.errors import ConfigurationError

FLAG = "mephisto.blueprint.some_path"


def read_json(flag: str, path: str) -> Any:
    return parse_json(flag, path, read_text(flag, path))


def faults_of(call: Any, *args: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        call(*args)
    assert str(error.value) == "\n".join(error.value.faults)
    return list(error.value.faults)


def test_no_fault_is_no_error() -> None:
    ConfigurationError.raise_if([])
    with pytest.raises(ConfigurationError) as error:
        ConfigurationError.raise_if(f"fault {number}" for number in range(2))
    assert error.value.faults == ("fault 0", "fault 1")


def test_paths_may_hold_home_and_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STUDY", "one")
    assert expand("~/$STUDY/x") == tmp_path / "one" / "x"


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_text(FLAG, str(file)) == '{"a": 1}'
    assert read_json(FLAG, str(file)) == {"a": 1}
    assert read_yaml(FLAG, str(file)).content == {"a": 1}


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert faults_of(read_text, FLAG, f"{tmp_path}/no.json") == [
        f"{FLAG}: the file '{tmp_path}/no.json' does not exist; give the path of a file."
    ]
    assert faults_of(read_text, FLAG, str(tmp_path)) == [
        f"{FLAG}: the file '{tmp_path}' is a folder; give the path of a file."
    ]
    latin = tmp_path / "latin.txt"
    latin.write_bytes("na\u00efve".encode("latin-1"))
    assert faults_of(read_text, FLAG, str(latin)) == [
        f"{FLAG}: '{latin}' is not UTF-8 text (byte 2); save it as UTF-8."
    ]


def test_permissions_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    file.touch()

    def refuse(*args: Any, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert faults_of(read_text, FLAG, str(file)) == [
        f"{FLAG}: '{file}' can't be read (Permission denied); check its permissions."
    ]


def test_broken_json_is_said_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_text('{\n  "a": 1,\n  oops\n}', encoding="utf-8")
    assert faults_of(read_json, FLAG, str(file)) == [
        f"{FLAG}: '{file}' is not valid JSON: line 3, column 3: Expecting property name enclosed in double quotes."
    ]
    file.write_text("", encoding="utf-8")
    assert faults_of(read_json, FLAG, str(file)) == [
        f"{FLAG}: '{file}' is not valid JSON: line 1, column 1: Expecting value."
    ]


def test_json_nested_beyond_reason_is_said(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    for text in ("[" * 100_000, '{"a": 1, "a": 2, "b": ' + "[" * 100_000):
        file.write_text(text, encoding="utf-8")
        assert faults_of(read_json, FLAG, str(file)) == [
            f"{FLAG}: '{file}' is not valid JSON: it is nested too deeply."
        ]


@pytest.mark.parametrize("text", ["9" * 5000, '{"a": -' + "1" * 5000 + "}", '{"a": 1, "a": ' + "1" * 5000 + "}"])
def test_a_number_of_thousands_of_digits_is_said(tmp_path: Path, text: str) -> None:
    file = tmp_path / "f.json"
    file.write_text(text, encoding="utf-8")
    fault = f"{FLAG}: '{file}' is not valid JSON: a number has thousands of digits."
    assert faults_of(read_json, FLAG, str(file)) == [fault]


def test_broken_yaml_is_said_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("a: 1\nb: [1,\n", encoding="utf-8")
    (fault,) = faults_of(read_yaml, FLAG, str(file))
    assert fault.startswith(f"{FLAG}: '{file}' is not valid YAML: line 3, column 1: ")


def test_yaml_can_make_no_python_objects(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("a: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    (fault,) = faults_of(read_yaml, FLAG, str(file))
    assert "could not determine a constructor" in fault


def test_a_key_that_stands_twice_is_said_with_the_line_of_the_second(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_text(
        '{"config": {\n  "a": {"name": "A",\n        "name": "B"},\n  "b": {"name": "C"}\n}}', encoding="utf-8"
    )
    assert faults_of(read_json, FLAG, str(file)) == [
        f"{FLAG}: '{file}', line 3: duplicate key 'name'; remove or rename one."
    ]


# --- annotation buckets ---

MAPPING = """{
  "config": {
    "bucket_0": {"name": "Bucket 0", "description": "the first"},
    "none_all_good": {"name": "None", "description": ""}
  },
  "show_line_breaks": true
}"""
LIST_IN_CONFIG = """{
  "config": [
    {"value": "bucket_0", "name": "Bucket 0", "description": "the first"},
    {"value": "none_all_good", "name": "None", "description": ""}
  ],
  "show_line_breaks": true
}"""
BARE_LIST = """[
  {"value": "bucket_0", "name": "Bucket 0", "description": "the first"},
  {"value": "none_all_good", "name": "None"}
]"""


@pytest.mark.parametrize(("text", "line_breaks"), [(MAPPING, True), (LIST_IN_CONFIG, True), (BARE_LIST, False)])
def test_all_forms_of_buckets_are_read_alike(text: str, line_breaks: bool, tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(text, encoding="utf-8")
    config, kept = load_annotations(FLAG, str(file))
    assert kept == text, "the text itself is saved with each conversation"
    assert config.values == ("bucket_0", "none_all_good")
    assert config.for_page("Which apply?") == {
        "question": "Which apply?",
        "show_line_breaks": line_breaks,
        "buckets": [
            {"value": "bucket_0", "name": "Bucket 0", "description": "the first"},
            {"value": "none_all_good", "name": "None", "description": ""},
        ],
    }


def test_a_bucket_that_is_called_like_a_column_of_the_results_is_refused_before_anybody_ticks_it(
    tmp_path: Path,
) -> None:
    names = ("part", "fine", "odd", "odd_share", "human_words", "final_rating_2_mean")
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"config": {name: {"name": name} for name in names}}))
    assert faults_of(load_annotations, FLAG, str(path)) == [
        f"{FLAG}: '{path}' has the bucket '{name}', which is the name of a column of the results; rename the bucket."
        for name in ("part", "odd_share", "human_words", "final_rating_2_mean")
    ]


def bucket_faults(text: str) -> list[str]:
    return [fault.removeprefix(f"{FLAG}: 'a.json', ") for fault in faults_of(parse_annotations, FLAG, "a.json", text)]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            '{"config": {\n"a": {"name": "A"},\n"b": {"name": "B",\n"colour": "red"}\n}}',
            ["line 4: unknown key 'config.b.colour'; remove it or correct its spelling."],
        ),
        (
            '{"config": {\n"a": {"name": "A"},\n"b": {"description": "B"}\n}}',
            ["line 3: 'config.b.name' is missing; add it."],
        ),
        (
            '[\n{"value": "a", "name": "A"},\n{"value": "b"}\n]',
            ["line 3: '1.name' is missing; add it."],
        ),
        (
            '{"config": {\n"a": {"name": "A"},\n"b": {"name":\n 5}\n}}',
            ["line 3: 'config.b.name': Input should be a valid string."],
        ),
        (
            '{"config": {\n"a": {"name": ""}\n}}',
            ["line 2: 'config.a.name': String should have at least 1 character."],
        ),
        ('{\n"config": {}}', ["line 2: 'config': List should have at least 1 item after validation, not 0."]),
        ("[]", ["line 1: 'config': List should have at least 1 item after validation, not 0."]),
        ('{\n"show_line_breaks": true}', ["line 1: 'config' is missing; add it."]),
        (
            '{"config": {"a": {"name": "A"}},\n"show_linebreaks": true}',
            ["line 2: unknown key 'show_linebreaks'; remove it or correct its spelling."],
        ),
        (
            '{"config": {"a": {"name": "A"}},\n\n"show_line_breaks": "perhaps"}',
            ["line 3: 'show_line_breaks': Input should be a valid boolean, unable to interpret input."],
        ),
        (
            '[\n{"value": "a", "name": "A"},\n{"value": "b", "name": "B"},\n{"value": "a", "name": "C"}\n]',
            ["line 4: '2': duplicate bucket 'a'; remove or rename one."],
        ),
        (
            '{"config": {"a": {"name": "A"},\n"b": {"name": "B"},\n"a": {"name": "C"}}}',
            ["line 3: duplicate key 'a'; remove or rename one."],
        ),
        (
            '{"config": {\n"a": "A",\n"b": {"name": "B"}}}',
            ["line 2: 'config.a': Input should be a valid dictionary or instance of Bucket."],
        ),
        (
            '{"config": {\n"a": {"nam": "A"},\n"b": {"name": 7}\n},\n"colour": 1}',
            [
                "line 2: 'config.a.name' is missing; add it.",
                "line 2: unknown key 'config.a.nam'; remove it or correct its spelling.",
                "line 3: 'config.b.name': Input should be a valid string.",
                "line 5: unknown key 'colour'; remove it or correct its spelling.",
            ],
        ),
    ],
)
def test_every_fault_of_a_buckets_file_is_said_with_its_line(text: str, faults: list[str]) -> None:
    assert bucket_faults(text) == faults


@pytest.mark.parametrize("text", ['"text"', "5", "null", "true"])
def test_a_buckets_file_of_another_kind_is_said(text: str) -> None:
    (fault,) = bucket_faults(text)
    assert fault.startswith("line 1: 'the file': Input should be a valid dictionary")

"""Which models there are, and how many conversations are wanted with each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from model_chat.errors import ConfigurationError
from model_chat.serving.catalogue import (
    ModelSource,
    choose_sources,
    models_in_folder,
    models_in_opt_file,
    opt_faults,
    parse_conversations_needed,
)

FLAG = "mephisto.blueprint.some_flag"
QUOTING = (
    'write an entry with a comma as in csv, for instance "one, two",three, and a quotation mark within quotation marks '
    "twice"
)
EXAMPLE = "write it as nickname:count,nickname:count, for instance demo/smollm2:10"


def make(folder: Path, opt: str | bytes = '{"model": "fixed_response"}') -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.opt").write_bytes(opt.encode() if isinstance(opt, str) else opt)
    return folder


def faults_of(call: Any, *args: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        call(*args)
    return list(error.value.faults)


# --- folder ---


def test_every_folder_with_an_opt_is_a_model_however_deep(tmp_path: Path) -> None:
    base = tmp_path / "models"
    make(base / "b")
    make(base / "a" / "x" / "y")
    make(base / "a")
    (base / "empty").mkdir()
    (base / "model.opt").write_text("{}", encoding="utf-8")  # the base folder itself has no nickname
    found = models_in_folder(FLAG, str(base))
    assert list(found) == ["a", "a/x/y", "b"]
    assert found["a/x/y"] == ModelSource("a/x/y", folder=base / "a/x/y")
    assert found["a/x/y"].model_file == str(base / "a/x/y/model")


def test_models_may_be_linked_in_and_paths_may_hold_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = make(tmp_path / "big disk" / "weights")
    base = tmp_path / "models"
    base.mkdir()
    (base / "linked").symlink_to(disk, target_is_directory=True)
    monkeypatch.setenv("MODELS", str(base))
    assert list(models_in_folder(FLAG, "$MODELS")) == ["linked"]


def test_links_that_lead_back_have_an_end(tmp_path: Path) -> None:
    base = tmp_path / "models"
    make(base / "mine")
    for number in range(3):
        (base / f"up{number}").symlink_to(base, target_is_directory=True)
        (base / "mine" / f"up{number}").symlink_to(base, target_is_directory=True)
    (base / "itself").symlink_to(base / "itself")
    assert list(models_in_folder(FLAG, str(base))) == ["mine"]


def test_a_model_that_is_linked_under_a_second_name_has_both(tmp_path: Path) -> None:
    base = tmp_path / "models"
    make(base / "mine")
    (base / "again").symlink_to(base / "mine", target_is_directory=True)
    assert list(models_in_folder(FLAG, str(base))) == ["again", "mine"]


def test_what_is_no_file_is_no_opt(tmp_path: Path) -> None:
    (tmp_path / "models" / "pipe").mkdir(parents=True)
    os.mkfifo(tmp_path / "models" / "pipe" / "model.opt")
    assert models_in_folder(FLAG, str(tmp_path / "models")) == {}


def test_no_base_folder_is_said_with_the_remedy(tmp_path: Path) -> None:
    assert faults_of(models_in_folder, FLAG, f"{tmp_path}/nowhere") == [
        f"{FLAG}: the folder '{tmp_path}/nowhere' does not exist; create it with one folder a model, each holding a "
        "'model.opt', or run scripts/make_demo_models.py for the demo models."
    ]


def test_a_good_opt_has_no_fault(tmp_path: Path) -> None:
    assert opt_faults(FLAG, ModelSource("m", folder=make(tmp_path / "m"))) == []
    assert opt_faults(FLAG, ModelSource("m", flags="--model x")) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"model": "x",\n oops}', "is not valid JSON: line 2, column 2: "),
        ("[" * 9999, "is not valid JSON (maximum recursion depth exceeded"),
        ('{"model": ' + "9" * 5000 + "}", "is not valid JSON (Exceeds the limit"),
        (b"\x80\x04\x95pickle", "is not UTF-8 text (a pickled opt of an old ParlAI?); save it as JSON."),
        ("[]", 'names no agent; add "model", as ParlAI writes it when it saves a model.'),
        ("{}", 'names no agent; add "model", as ParlAI writes it when it saves a model.'),
        ('{"model": 7}', 'names no agent; add "model", as ParlAI writes it when it saves a model.'),
    ],
)
def test_an_opt_that_is_none_is_said_without_loading_it(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    source = ModelSource("m", folder=make(tmp_path / "m", content))
    (fault,) = opt_faults(FLAG, source)
    assert fault.startswith(f"{FLAG}: '{tmp_path}/m/model.opt' {sentence}")
    assert source.is_endpoint is False


def test_an_opt_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    (folder / "model.opt").mkdir(parents=True)
    assert opt_faults(FLAG, ModelSource("m", folder=folder)) == [
        f"{FLAG}: '{folder}/model.opt' can't be read (Is a directory); check its permissions."
    ]


# --- option file ---


def test_an_option_file_maps_nicknames_to_flags(tmp_path: Path) -> None:
    file = tmp_path / "opts.yaml"
    file.write_text('a/b: "--model x"\nc: >\n  --model y\n  --z 1\n', encoding="utf-8")
    found = models_in_opt_file(FLAG, str(file))
    assert found == {
        "a/b": ModelSource("a/b", flags="--model x"),
        "c": ModelSource("c", flags="--model y --z 1\n"),
    }
    assert found["c"].model_file is None


@pytest.mark.parametrize(
    "nickname", ["3.10", "2024_05", "007", "1:30", "no", "null", "~", "2026-11-27", "1e5", "on", "0x1F"]
)
def test_a_nickname_is_what_is_written(tmp_path: Path, nickname: str) -> None:
    file = tmp_path / "opts.yaml"
    file.write_text(f"{nickname}: --model x\n", encoding="utf-8")
    assert list(models_in_opt_file(FLAG, str(file))) == [nickname]


def test_a_nickname_that_is_there_twice_is_refused_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "opts.yaml"
    file.write_text("no: --model x\n'no': --model y\n", encoding="utf-8")
    assert faults_of(models_in_opt_file, FLAG, str(file)) == [
        f"{FLAG}: '{file}', line 2: duplicate key 'no'; remove or rename one."
    ]


def test_every_bad_entry_of_an_option_file_is_said(tmp_path: Path) -> None:
    file = tmp_path / "opts.yaml"
    file.write_text("a: 5\nb: [x]\nc: ''\nd: \"--model 'x\"\ngood: --model x\n", encoding="utf-8")
    end = "must be a string of ParlAI flags, or settings of an endpoint, not"
    assert faults_of(models_in_opt_file, FLAG, str(file)) == [
        f"{FLAG}: '{file}': the entry 'a' {end} 5.",
        f"{FLAG}: '{file}': the entry 'b' {end} ['x'].",
        f"{FLAG}: '{file}': the entry 'c' {end} ''.",
        f"{FLAG}: '{file}': the flags of 'd' can't be split (No closing quotation).",
    ]


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just text", "5"])
def test_an_option_file_that_maps_nothing_is_said(tmp_path: Path, content: str) -> None:
    file = tmp_path / "opts.yaml"
    file.write_text(content, encoding="utf-8")
    assert faults_of(models_in_opt_file, FLAG, str(file)) == [
        f"{FLAG}: '{file}' must map each nickname to a string of ParlAI flags, "
        'such as  my_model: "--model-file path/to/model", or to the settings of an endpoint.'
    ]


def test_an_option_file_that_is_no_yaml_is_said_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "opts.yaml"
    file.write_text("a: --model x\nb: [1, 2\n", encoding="utf-8")
    (fault,) = faults_of(models_in_opt_file, FLAG, str(file))
    assert fault.startswith(f"{FLAG}: '{file}' is not valid YAML: line 3, column 1: ")


# --- conversations_needed_string ---


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("a:1", {"a": 1}),
        ("a:1,b:20", {"a": 1, "b": 20}),
        (" a : 1 , b : 2 ", {"a": 1, "b": 2}),
        ("demo/smollm2:10", {"demo/smollm2": 10}),
        ("a:b:3", {"a:b": 3}),
        ("a:007", {"a": 7}),
        ("模型:3", {"模型": 3}),
        ('"small, fast/model:2",b:1', {"small, fast/model": 2, "b": 1}),
    ],
)
def test_nicknames_and_counts_are_read(text: str, needed: dict[str, int]) -> None:
    assert parse_conversations_needed(FLAG, text) == needed


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (None, [f"{FLAG}: says which models to talk to and is empty; {EXAMPLE}."]),
        ("  ", [f"{FLAG}: says which models to talk to and is empty; {EXAMPLE}."]),
        ("a", [f"{FLAG}: 'a' has no nickname and count; {EXAMPLE}."]),
        (":5", [f"{FLAG}: ':5' has no nickname and count; {EXAMPLE}."]),
        ("a:5,", [f"{FLAG}: '' has no nickname and count; {EXAMPLE}."]),
        ("a:0", [f"{FLAG}: the count '0' of 'a' is not a whole number of at least 1."]),
        ("a:-1", [f"{FLAG}: the count '-1' of 'a' is not a whole number of at least 1."]),
        ("a:1.5", [f"{FLAG}: the count '1.5' of 'a' is not a whole number of at least 1."]),
        ("a:", [f"{FLAG}: the count '' of 'a' is not a whole number of at least 1."]),
        ("a:²", [f"{FLAG}: the count '²' of 'a' is not a whole number of at least 1."]),
        ("a:٣", [f"{FLAG}: the count '٣' of 'a' is not a whole number of at least 1."]),
        ("a:1_0", [f"{FLAG}: the count '1_0' of 'a' is not a whole number of at least 1."]),
        ('"a:1', [f"{FLAG}: the quotation marks of \"a:1 don't match; {QUOTING}."]),
        ("a:1,a:2", [f"{FLAG}: duplicate nickname 'a'; give it once, with the sum of the counts."]),
        (
            "a:x,b,c:1,c:1",
            [
                f"{FLAG}: the count 'x' of 'a' is not a whole number of at least 1.",
                f"{FLAG}: 'b' has no nickname and count; {EXAMPLE}.",
                f"{FLAG}: duplicate nickname 'c'; give it once, with the sum of the counts.",
            ],
        ),
    ],
)
def test_every_entry_that_cannot_be_read_is_said(text: str | None, faults: list[str]) -> None:
    assert faults_of(parse_conversations_needed, FLAG, text) == faults


def test_a_count_beyond_all_bounds_is_said() -> None:
    (fault,) = faults_of(parse_conversations_needed, FLAG, "a:" + "9" * 5000)
    assert fault.startswith(f"{FLAG}: the count '9999")
    assert len(fault) < 300


# --- choice ---


def test_each_model_that_is_not_there_is_said_with_those_that_are() -> None:
    available = {name: ModelSource(name, folder=Path(name)) for name in ("a", "b/c")}
    assert choose_sources({"b/c": 1}, available, FLAG, "places") == {"b/c": available["b/c"]}
    assert faults_of(choose_sources, {"x": 1, "a": 1, "y": 1}, available, FLAG, "base=models") == [
        f"{FLAG}: there is no model 'x' in base=models; there: a, b/c.",
        f"{FLAG}: there is no model 'y' in base=models; there: a, b/c.",
    ]
    assert faults_of(choose_sources, {"x": 1}, {}, FLAG, "base=models") == [
        f"{FLAG}: there is no model 'x' in base=models; it holds no model. Put the model there; "
        "'python scripts/make_demo_models.py' makes the demo models."
    ]

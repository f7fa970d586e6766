"""The words of a command line: in any order, with paths that begin with ~, and advice that can be pasted into a shell."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from model_chat.configuration.arguments import as_meant, hydra_quoted, parsed, shell_quoted, split_arguments
from model_chat.errors import ConfigurationError
from model_chat.launch.command_line import compose_config

B = "mephisto.blueprint"
VALUES = [
    "It's a chat", 'say "hi"', "'", '"', "a\\", "a\\'b", 'a\\"b', "x'y\"z", "\\\\", "two\nlines", "$HOME", "`id`", "!!",
    "~/x", "a,b:c", "{a}", "[b]", "a: (b", "é 你 🙂", "", " ", "007", "2024_05", "1e5", "true", "null", "#a", "a=b",
    "-x", "%d", "*",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_a_quoted_value_is_read_as_it_is(value: str) -> None:
    override = parsed(f"key={hydra_quoted(value)}")
    assert override is not None
    assert override.value() == value


@pytest.mark.parametrize("at", range(0, len(VALUES), 4))
def test_what_is_offered_can_be_pasted_into_a_shell(at: int) -> None:
    given = dict(zip(("task_title", "task_description", "task_tags", "task_name"), VALUES[at : at + 4], strict=False))
    said = " ".join(shell_quoted(f"mephisto.task.{name}", value) for name, value in given.items())
    shell = subprocess.run(["bash", "-c", f"printf '%s\\0' {said}"], capture_output=True, check=True)
    typed = shell.stdout.decode().split("\0")[:-1]
    task = compose_config("example", typed).mephisto.task
    assert {name: task[name] for name in given} == given


@pytest.mark.parametrize("value", ["It's a chat", "a, b", "Hi: (you", 'a "b', "a'b\"c", "[x", "{", "a=,'"])
def test_a_refused_value_is_offered_so_that_it_is_taken(value: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        compose_config("example", [f"mephisto.task.task_title={value}"])
    (fault,) = error.value.faults
    offered = fault.partition("quotes around a value with signs in it: ")[2] or fault.partition("put it in quotes: ")[2]
    typed = subprocess.run(["bash", "-c", f"printf '%s' {offered}"], capture_output=True, check=True).stdout.decode()
    assert shlex.split(offered) == [typed]
    assert compose_config("example", [typed]).mephisto.task.task_title == value


@pytest.mark.parametrize("path", ["~/ParlAI/data/models", "~", "~somebody/x", "~/a b", "~/${now:%Y}"])
def test_a_path_may_begin_with_a_tilde(path: str) -> None:
    cfg = compose_config("example", [f"++{B}.base_model_folder={path}", f"{B}.chat_data_folder={path}"])
    assert str(cfg.mephisto.blueprint.base_model_folder).startswith(path.partition("$")[0])
    assert str(cfg.mephisto.blueprint.chat_data_folder).startswith(path.partition("$")[0])


def test_a_list_that_begins_with_a_tilde_is_offered_in_quotes() -> None:
    with pytest.raises(ConfigurationError, match=r"worker_blocklist_paths=~/a,~/b: can't be read; put quotes around"):
        compose_config("example", ["mturk.worker_blocklist_paths=~/a,~/b"])
    cfg = compose_config("example", ['mturk.worker_blocklist_paths="~/a,~/b"'])
    assert cfg.mturk.worker_blocklist_paths == "~/a,~/b"


@pytest.mark.parametrize(
    "words",
    [
        ["a=1", "--config-dir", "D", "b=2"],
        ["a=1", "b=2", "--config-dir=D"],
        ["--config-dir", "D", "a=1", "b=2"],
        ["a=1", "-cd", "D", "b=2"],
        ["a=1", "-cd=D", "b=2"],
        ["a=1", "-cdD", "b=2"],
        ["a=1", "--config-d", "D", "b=2"],
    ],
)
def test_options_may_be_anywhere(words: list[str]) -> None:
    options, overrides = split_arguments(words)
    assert (options.config_dir, overrides) == ("D", ["a=1", "b=2"])


@pytest.mark.parametrize(
    "words", [["--conf", "x"], ["--conf=x"], ["--config-name", "x"], ["--config-name=x"], ["-cn", "x"], ["-cn=x"]]
)
def test_the_name_of_a_file_may_be_given_as_an_option(words: list[str]) -> None:
    assert split_arguments(["a=1", *words, "b=2"])[1] == ["a=1", "conf=x", "b=2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--conf"], "--conf: has no value; give the name of a file under conf/, such as conf=example."),
        (["--conf", "--help"], "--conf: has no value; give the name of a file under conf/, such as conf=example."),
        (["--config-dir"], "--config-dir: has no value; see --help for what it takes."),
        (["--zzz", "--yyy"], "--zzz: there is no such option; see --help for what there is."),
    ],
)
def test_a_wrong_option_is_said_in_a_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        split_arguments(words)
    assert error.value.faults[0] == sentence
    assert len(error.value.faults) == len([word for word in words if word.startswith("--") and word != "--help"])


def test_a_wrong_choice_of_an_option_is_no_usage_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid choice: 'x' .*; see --help"):
        split_arguments(["-c", "x"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words", [["--multirun"], ["-m"], ["hydra.mode=MULTIRUN"], ["--config-path", "x"], ["~conf"], [f"~{B}.num_turns"]]
)
def test_what_makes_no_sense_for_a_run_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        compose_config("example", words)
    assert len(error.value.faults) == 1


@pytest.mark.parametrize("name", ["2024_05", "null", "true", "1e5"])
def test_a_file_may_be_named_like_a_number(tmp_path: Path, name: str) -> None:
    (tmp_path / "conf").mkdir()
    chosen = ("blueprint: model_chat_blueprint", "architect: local", "provider: mock")
    text = "defaults:\n" + "".join(f"- /mephisto/{choice}\n" for choice in chosen)
    (tmp_path / f"conf/{name}.yaml").write_text(text + "mephisto: {blueprint: {num_turns: 2}}", encoding="utf-8")
    spelled = (f"conf={name}", f"conf='{name}'", f"conf={name}.yaml", f"--conf={name}")
    for given in spelled if name == "2024_05" else spelled[:1]:
        assert compose_config("example", [given, "--config-dir", str(tmp_path)]).mephisto.blueprint.num_turns == 2


def test_what_is_no_text_stays_as_it_is() -> None:
    for word in (f"{B}.num_turns=1_0", f"{B}.include_persona=true", f"+{B}.override_opt.a=007", "hydra.x=1", "~a", "a"):
        assert as_meant(word) == word

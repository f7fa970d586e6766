"""People played by models: the personas that are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_chat.errors import ConfigurationError
from model_chat.scripts import simulate_workers
from model_chat.scripts._played_people import Persona, read_personas


def personas(folder: Path, text: str) -> str:
    path = folder / "personas.jsonl"
    path.write_text(text, "utf-8")
    return str(path)


def test_personas_have_an_id_or_their_line(tmp_path: Path) -> None:
    path = personas(tmp_path, '\ufeff{"id": "anna", "persona": "A nurse."}\n\n{"persona": "A cook."}\n')
    assert read_personas(path) == [Persona("anna", "A nurse."), Persona("3", "A cook.")]
    assert read_personas(None) == [Persona(None, "")]


def test_each_line_with_a_fault_is_named(tmp_path: Path) -> None:
    lines = ["{", '"text"', "{}", '{"persona": " "}', '{"persona": "A cook."}', '{"persona": "x", "id": [1]}']
    with pytest.raises(ConfigurationError) as caught:
        read_personas(personas(tmp_path, "\n".join(lines)))
    assert [fault.split("line ")[1].split(":")[0] for fault in caught.value.faults] == ["1", "2", "3", "4", "6"]
    with pytest.raises(ConfigurationError, match="holds no persona"):
        read_personas(personas(tmp_path, "\n"))
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_personas(str(tmp_path / "nowhere"))


def test_a_persona_may_hold_separators_of_lines_that_are_none_of_json(tmp_path: Path) -> None:
    path = personas(tmp_path, '{"id": 7, "persona": "A nurse.\u2028A cook.\x85"}\r\n')
    assert read_personas(path) == [Persona("7", "A nurse.\u2028A cook.\x85")]


def test_two_personas_cannot_have_one_id(tmp_path: Path) -> None:
    lines = ['{"id": "3", "persona": "A nurse."}', '{"id": "anna", "persona": "x"}', '{"persona": "y"}']
    path = personas(tmp_path, "\n".join([*lines, '{"id": "anna", "persona": "z"}']))
    with pytest.raises(ConfigurationError) as caught:
        read_personas(path)
    assert list(caught.value.faults) == [
        f"--personas: '{path}', line 3: has the id '3' of line 1; give each persona its own.",
        f"--personas: '{path}', line 4: has the id 'anna' of line 2; give each persona its own.",
    ]


@pytest.mark.parametrize("name", ['""', '" "', "true", "null", "1.5", "[" * 9999, "9" * 5000])
def test_an_id_of_a_persona_says_something(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="line 1: is no persona"):
        read_personas(personas(tmp_path, f'{{"id": {name}, "persona": "x"}}'))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--personas", "p.jsonl"], "--personas: needs --llm"),
        (["--llm", "nowhere.yaml"], "--llm: "),
    ],
)
def test_nothing_is_simulated_with_a_faulty_flag(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate_workers.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_model_that_is_behind_no_endpoint_plays_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tmp_path / "models.yaml"
    models.write_text('here: "--model fixed_response --fixed-response Hello"\n', "utf-8")
    assert simulate_workers.main(["--llm", str(models)]) == 2
    assert "'here' in" in capsys.readouterr().err

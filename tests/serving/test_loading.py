"""Loading models as requesters have them: from the base folder, and from a file of ParlAI flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_chat.errors import ConfigurationError
from model_chat.serving.catalogue import ModelSource, models_in_folder, models_in_opt_file
from model_chat.serving.loading import load_model

OVERRIDES = {
    "datatype": "valid",
    "encode_candidate_vecs": True,
    "interactive_mode": True,
    "skip_generation": False,
}
AGENTS = "model_chat.tests.parlai_agents"


def make_model(base: Path, nickname: str, opt: dict[str, Any], model_file: bool = False) -> ModelSource:
    folder = base / nickname
    folder.mkdir(parents=True)
    (folder / "model.opt").write_text(json.dumps(opt), encoding="utf-8")
    if model_file:
        (folder / "model").write_bytes(b"weights")
    return models_in_folder("flag", str(base))[nickname]


@pytest.mark.parametrize("model_file", [False, True])
def test_a_model_of_a_nested_folder_is_loaded_with_the_overrides(tmp_path: Path, model_file: bool) -> None:
    saved = {
        "model": "fixed_response",
        "fixed_response": "Indeed.",
        "datatype": "train:stream",
        "skip_generation": True,
    }
    model = load_model(make_model(tmp_path, "deep/er/one", saved, model_file), model_parallel=False)
    assert model.nickname == "deep/er/one"
    assert model.model_file == str(tmp_path / "deep/er/one/model")
    assert {key: model.opt[key] for key in OVERRIDES} == OVERRIDES
    assert model.opt["model_parallel"] is False
    assert model.clone().act()["text"] == "Indeed."
    assert json.loads((tmp_path / "deep/er/one/model.opt").read_text()) == saved, "what the requester saved stays"


def test_an_opt_that_names_only_the_agent_gets_the_agents_defaults(tmp_path: Path) -> None:
    model = load_model(make_model(tmp_path, "hungry", {"model": f"{AGENTS}:HungryAgent"}), model_parallel=True)
    assert model.clone().act()["text"] == "I eat soup."
    assert model.opt["model_parallel"] is True
    own = load_model(
        make_model(tmp_path, "own", {"model": f"{AGENTS}:HungryAgent", "dish": "pasta"}), model_parallel=True
    )
    assert own.clone().act()["text"] == "I eat pasta."


def test_keys_that_no_flag_knows_reach_the_agent(tmp_path: Path) -> None:
    model = load_model(
        make_model(tmp_path, "scripted", {"model": f"{AGENTS}:ScriptedAgent", "script": ["One.", "Two."]}), True
    )
    clone = model.clone()
    assert [clone.act()["text"], clone.act()["text"]] == ["One.", "Two."]
    assert model.clone().act()["text"] == "One.", "each conversation begins anew"


def test_flags_of_an_opt_file_are_parsed_as_a_command_line(tmp_path: Path) -> None:
    file = tmp_path / "opts.yaml"
    file.write_text(
        "plain: \"--model fixed_response --fixed-response 'Well, well.'\"\n"
        f'group/hungry: "-m {AGENTS}:HungryAgent --dish rice"\n',
        encoding="utf-8",
    )
    sources = models_in_opt_file("flag", str(file))
    plain = load_model(sources["plain"], model_parallel=False)
    assert plain.clone().act()["text"] == "Well, well."
    assert {key: plain.opt[key] for key in OVERRIDES} == OVERRIDES
    assert plain.model_file is None
    assert load_model(sources["group/hungry"], False).clone().act()["text"] == "I eat rice."


def fault_of(source: ModelSource) -> str:
    with pytest.raises(ConfigurationError) as error:
        load_model(source, model_parallel=False)
    assert len(error.value.faults) == 1
    return error.value.faults[0]


def test_a_model_that_cannot_be_made_is_said_in_one_sentence(tmp_path: Path) -> None:
    source = make_model(tmp_path, "broken", {"model": f"{AGENTS}:BrokenAgent"})
    assert fault_of(source) == (
        "mephisto.blueprint.conversations_needed_string: the model 'broken' can't be loaded from "
        f"{tmp_path}/broken/model.opt: ValueError: the weights are of the wrong shape."
    )


def test_an_agent_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    fault = fault_of(make_model(tmp_path, "ghost", {"model": "no_such_agent_here"}))
    assert fault.startswith("mephisto.blueprint.conversations_needed_string: the model 'ghost' can't be loaded from ")
    assert "no_such_agent_here" in fault
    assert "\n" not in fault


@pytest.mark.parametrize("flags", ["--no-such-flag 1", "--model fixed_response --beam-size", ""])
def test_wrong_flags_are_said_and_do_not_end_the_process(flags: str) -> None:
    fault = fault_of(ModelSource("m", flags=flags))
    assert fault.startswith(
        f"mephisto.blueprint.conversations_needed_string: the model 'm' can't be loaded from the flags {flags!r}: "
    )


def test_a_model_file_that_is_not_there_is_no_model(tmp_path: Path) -> None:
    fault = fault_of(ModelSource("m", flags=f"--model-file {tmp_path}/nowhere"))
    assert f"{tmp_path}/nowhere" in fault

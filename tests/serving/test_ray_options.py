"""What is said of the flags for Ray, and of machines that lack something; without Ray."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_chat.serving.catalogue import ModelSource
from model_chat.serving.ray_options import RayOptions, serving_faults
from model_chat.serving.ray_replica import ModelRequirement, faults_in, inspect_node, own_search_path, with_faults

B = "mephisto.blueprint"


def flags(**given: Any) -> Any:
    usual = {
        "serving": "ray",
        "ray_address": None,
        "ray_replicas": 1,
        "ray_cpus_per_replica": 1.0,
        "ray_gpus_per_replica": None,
        "ray_start_time": 600,
        "max_concurrent_responses": 2,
        "max_model_response_time": 120,
    }
    return SimpleNamespace(**{**usual, **given})


@pytest.fixture
def with_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.usefixtures("with_ray")
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"serving": "local", "ray_replicas": 9},
        {"ray_address": "auto"},
        {"ray_address": "10.0.0.1:6379"},
        {"ray_address": "[fe80::1]:6379", "ray_replicas": 2},
        {"ray_cpus_per_replica": 0.5, "ray_gpus_per_replica": 0.25},
        {"ray_cpus_per_replica": 4, "ray_gpus_per_replica": 2},
    ],
)
def test_what_ray_can_do_is_taken(given: dict[str, Any]) -> None:
    assert serving_faults(flags(**given)) == []


@pytest.mark.usefixtures("with_ray")
@pytest.mark.parametrize(
    ("given", "begins", "remedy"),
    [
        ({"serving": "cloud"}, f"{B}.serving: 'cloud' is neither local", "give one of them"),
        ({"ray_address": "ray://head:10001"}, f"{B}.ray_address: 'ray://head:10001' is no", "without ray://"),
        ({"ray_address": "head"}, f"{B}.ray_address: 'head' is no", "host:port"),
        ({"ray_replicas": 3}, f"{B}.ray_replicas: 3 copies", "raise that to 3 or more"),
        ({"ray_cpus_per_replica": 1.5}, f"{B}.ray_cpus_per_replica: 1.5", "whole number"),
        ({"ray_gpus_per_replica": -1.0}, f"{B}.ray_gpus_per_replica: -1", "leave it out"),
    ],
)
def test_what_ray_can_not_do_is_said_in_a_sentence_with_a_remedy(
    given: dict[str, Any], begins: str, remedy: str
) -> None:
    (fault,) = serving_faults(flags(**given))
    assert fault.startswith(begins)
    assert remedy in fault


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    assert serving_faults(flags()) == [
        f"{B}.serving: is ray, and Ray is not installed; install it with: pip install 'model-chat[ray]' (see docs/ray.md), "
        f"or give {B}.serving=local."
    ]
    assert serving_faults(flags(serving="local")) == []


def test_the_time_limit_and_how_many_reply_at_once_are_those_of_every_model() -> None:
    options = RayOptions.of(flags(ray_replicas=2))
    assert (options.time_limit, options.at_once, options.replicas) == (120, 2, 2)


def test_sentences_survive_whatever_is_made_of_an_error() -> None:
    faults = ("a: 'ü' is \"wrong\"; \n fix it.", "b.")
    text = f"Traceback:\\n ...\nRuntimeError: {with_faults(faults)}\n more; {{}}"
    assert faults_in(repr(text)) == faults
    assert faults_in("RuntimeError: no more memory") == ()


def source(folder: Path, agent: str = "model_chat.tests.parlai_agents:WitnessAgent") -> ModelSource:
    place = folder / "group" / "one"
    place.mkdir(parents=True)
    (place / "model.opt").write_text(json.dumps({"model": agent}), encoding="utf-8")
    (place / "model").write_bytes(b"weights")
    return ModelSource("group/one", folder=place)


def look(wanted: ModelRequirement) -> tuple[str, ...]:
    return inspect_node([wanted], (), "flag", must_import=False).faults


def test_a_machine_that_has_all_of_a_model_has_no_fault(tmp_path: Path) -> None:
    found = inspect_node([ModelRequirement.of(source(tmp_path))], (), "flag", must_import=True)
    assert (found.faults, found.takes_batches) == ((), {"group/one": True})


def test_a_machine_that_lacks_files_is_named_with_the_path(tmp_path: Path) -> None:
    wanted = ModelRequirement.of(source(tmp_path))
    folder = wanted.source.folder
    assert folder is not None
    (folder / "model").write_bytes(b"other weights")
    assert f"has another file 'model' ({folder}: 13 bytes instead of 7)" in look(wanted)[0]
    (folder / "model").unlink()
    assert f"lacks the file 'model' ({folder})" in look(wanted)[0]
    shutil.rmtree(folder)
    assert f"flag: the model 'group/one' is not there ({folder}) on the machine " in look(wanted)[0]


@pytest.mark.parametrize("must_import", [True, False])
def test_a_machine_without_the_agent_is_named_with_the_reason(must_import: bool, tmp_path: Path) -> None:
    wanted = ModelRequirement.of(source(tmp_path, agent="no_such_package:Agent"))
    (fault,) = inspect_node([wanted], (), "flag", must_import).faults
    assert "the agent of the model 'group/one' can't be imported" in fault
    assert "ModuleNotFoundError: No module named 'no_such_package'" in fault


@pytest.mark.parametrize(
    ("given", "batches"),
    [
        ("--model model_chat.tests.parlai_agents:WitnessAgent --loud True", True),
        ("-m model_chat.tests.parlai_agents:CountingAgent", False),
        ("--model-file {folder}/group/one/model", True),
    ],
)
def test_models_that_are_given_by_flags_are_looked_at_too(tmp_path: Path, given: str, batches: bool) -> None:
    folder = source(tmp_path).folder
    assert folder is not None
    wanted = ModelRequirement.of(ModelSource("m", flags=given.format(folder=tmp_path)))
    found = inspect_node([wanted], (), "flag", must_import=True)
    assert (found.faults, found.takes_batches) == ((), {"m": batches})


def test_a_requesters_own_folders_are_searched_and_the_installation_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = own_search_path()
    assert path[0] == str(tmp_path.resolve())
    assert not any("site-packages" in folder for folder in path)

"""Several nicknames over the weights of one ParlAI model, as its ``model`` file, or links to it, name them."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from model_chat.serving.catalogue import ModelSource, models_in_folder
from model_chat.serving.loading import LoadedModel, load_model
from model_chat.serving.pool import ModelPool
from model_chat.tests.serving.test_batching import WORDS, generator
from model_chat.tests.serving.test_batching import generator_folder as generator_folder
from model_chat.tests.serving.test_pool import heard


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, generator_folder: Path) -> Path:
    """A base model folder with a saved model, "original"."""
    base = tmp_path_factory.mktemp("models")
    folder = base / "original"
    folder.mkdir()
    agent = generator(generator_folder, "greedy").agent
    agent.opt["dict_file"] = str(folder / "model.dict")
    for file in generator_folder.glob("model.dict*"):
        shutil.copy(file, folder)
    agent.save(str(folder / "model"))
    return base


def opt_of(base: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((base / "original/model.opt").read_text(encoding="utf-8"))
    return found


def character(base: Path, nickname: str, **changes: Any) -> LoadedModel:
    """Load a model whose folder holds links to the weights and dictionary of "original", and a model.opt of its own."""
    folder = base / nickname
    folder.mkdir(exist_ok=True)
    for file in (base / "original").iterdir():
        if file.name != "model.opt" and not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    (folder / "model.opt").write_text(json.dumps({**opt_of(base), **changes}), encoding="utf-8")
    return load_model(models_in_folder("flag", str(base))[nickname], model_parallel=False)


def dialogue(pool: ModelPool, model: LoadedModel, word: str) -> list[str]:
    """Hold a conversation of three exchanges around a word of its own."""
    clone = model.clone()
    said = [f"my secret is {word}", "and what is my secret ?", f"is my secret {word} ?"]
    return [pool.reply(model.nickname, clone, [heard(text)])["text"] for text in said]


def alone(model: LoadedModel, word: str) -> list[str]:
    pool = ModelPool([model], 1, 60, max_batch_size=1)
    said = dialogue(pool, model, word)
    pool.shutdown()
    return said


def test_options_that_do_not_change_the_weights_share_them(base: Path) -> None:
    first = load_model(models_in_folder("flag", str(base))["original"], False)
    beam = character(base, "beam", inference="beam", beam_size=3)
    flags = f"--model-file {base / 'original/model'} --inference topk --topk 3 --temperature 2.0"
    hot = load_model(ModelSource("hot", flags=flags), False)
    assert first.agent.model is beam.agent.model is hot.agent.model
    assert first.weights is beam.weights is hot.weights
    assert beam.agent.beam_size == 3
    assert (hot.agent.temperature, hot.agent.opt["topk"], first.agent.temperature) == (2.0, 3, 1.0)
    assert len({first.batch_group, beam.batch_group, hot.batch_group}) == 3, "a batch decodes in one way"
    assert beam.clone().model is first.agent.model
    assert beam.model_file == str(base / "beam/model")


def test_the_replies_are_those_of_weights_of_its_own(base: Path) -> None:
    expected = {}
    for word in WORDS[:6]:
        expected[word] = alone(
            character(base, "beam", inference="beam", beam_size=3), word
        )  # nothing is shared: no other
    first = load_model(models_in_folder("flag", str(base))["original"], False)
    beam = character(base, "beam", inference="beam", beam_size=3)
    assert beam.agent.model is first.agent.model
    assert {word: alone(beam, word) for word in expected} == expected
    assert {word: alone(first, word) for word in expected} != expected


def test_models_that_decode_alike_are_answered_in_one_batch_and_others_apart(base: Path) -> None:
    first = load_model(models_in_folder("flag", str(base))["original"], False)
    models = [
        first,
        character(base, "short", history_size=1),
        character(base, "beam", inference="beam", beam_size=3),
    ]
    assert models[0].batch_group == models[1].batch_group != models[2].batch_group
    expected = {(model.nickname, word): alone(model, word) for model in models for word in WORDS[:8]}
    sizes: dict[str, list[int]] = {"greedy": [], "beam": []}
    for model in models:

        def counted(seen: Any, model: LoadedModel = model, act: Any = model.agent.batch_act) -> Any:
            sizes[model.opt["inference"]].append(len(seen))
            return act(seen)

        model.agent.batch_act = counted
    pool = ModelPool(models, 2, 60, max_batch_size=16, batch_wait_ms=50)
    with ThreadPoolExecutor(len(expected)) as threads:
        by_name = {model.nickname: model for model in models}
        got = list(threads.map(lambda each: dialogue(pool, by_name[each[0]], each[1]), expected))
    pool.shutdown()
    assert got == list(expected.values())
    assert max(sizes["greedy"]) > 8, "both models in one batch"
    assert max(sizes["beam"]) <= 8
    assert expected[("original", WORDS[0])] != expected[("short", WORDS[0])], "each has its own history"


def test_other_options_are_loaded_apart(base: Path) -> None:
    (base / "words.txt").write_text("word1\n", encoding="utf-8")
    first = load_model(models_in_folder("flag", str(base))["original"], False)
    blocked = character(base, "blocked", beam_block_list_filename=str(base / "words.txt"))
    shorter = character(base, "shorter", truncate=32)
    assert len({id(model.agent.model) for model in (first, blocked, shorter)}) == 3
    assert blocked.agent.beam_block_list.items()
    assert not list(first.agent.beam_block_list.items())


def test_other_weights_are_loaded_apart(base: Path) -> None:
    first = load_model(models_in_folder("flag", str(base))["original"], False)
    copied = base / "copied"
    shutil.copytree(base / "original", copied, dirs_exist_ok=True)
    other = load_model(models_in_folder("flag", str(base))["copied"], False)
    assert other.agent.model is not first.agent.model
    with torch.no_grad():
        for here, there in zip(first.agent.model.parameters(), other.agent.model.parameters(), strict=True):
            assert torch.equal(here, there)


def test_an_agent_that_is_none_of_parlais_own_is_loaded_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.opt").write_text(
            json.dumps({"model": "model_chat.tests.parlai_agents:ScriptedAgent", "script": [name]}), encoding="utf-8"
        )
        (tmp_path / name / "model").write_bytes(b"weights")
    models = [load_model(source, False) for source in models_in_folder("flag", str(tmp_path)).values()]
    assert [model.clone().act()["text"] for model in models] == ["one", "two"]
    assert [model.weights for model in models] == ["one", "two"]

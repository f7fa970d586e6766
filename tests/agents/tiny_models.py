"""Tiny language models with random weights and a chat template, saved as Hugging Face saves its own."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from parlai.core.agents import create_agent
from parlai.core.params import ParlaiParser
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

if TYPE_CHECKING:  # it takes seconds, and each process that runs tests imports this module
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

AGENT = "model_chat.agents.hugging_face:HuggingFaceChatAgent"
TURN_END, TURN_START, TEXT_END = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
MARKS = [TURN_END, TURN_START, TEXT_END]
LETTERS = string.ascii_letters + string.digits + " .,:;!?'-()<>/|_\n\""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
) + CHATML


def tokenizer(template: str | None = CHATML, eos: str = TURN_END) -> PreTrainedTokenizerFast:
    """One token a character, one for "qz" (GGUF files must have a merge), and three marks; ``<|im_end|>`` has the id 0."""
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: at for at, token in enumerate([*MARKS, *LETTERS, "qz"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("q", "z")]))
    backend.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=eos,
        pad_token=TEXT_END,
        additional_special_tokens=[TURN_START, TURN_END],
    )
    made.chat_template = template
    return made


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, as tokenizers have for letters that they know no word of, and the marks."""
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate([*MARKS, *letters])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=TURN_END, additional_special_tokens=[TURN_START, TURN_END]
    )
    made.chat_template = CHATML
    return made


def llama(seed: int = 0, context: int = 4096, **changes: Any) -> LlamaForCausalLM:
    """A Llama of two layers whose large random weights make its choices depend on all that it has read."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": len(MARKS) + len(LETTERS) + 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "initializer_range": 0.5,
        "bos_token_id": 1,
        "eos_token_id": 0,
    }
    config = LlamaConfig(**{**sizes, **changes})
    return LlamaForCausalLM(config).eval()


def save(
    folder: Path, model: LlamaForCausalLM | None = None, template: str | None = CHATML, eos: str = TURN_END
) -> Path:
    """Save a model with its tokenizer in ``folder``, which is returned."""
    made = tokenizer(template, eos)
    model = llama() if model is None else model
    model.generation_config.eos_token_id = made.eos_token_id
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def mute() -> LlamaForCausalLM:
    """A model that ends every reply at once: all logits are 0, and the mark of a turn's end is the first of them."""
    model = llama()
    torch.nn.init.zeros_(model.lm_head.weight)
    return model


def talkative() -> LlamaForCausalLM:
    """A model that never falls silent: marks and blanks are far behind the likeliest letter, whatever it has read."""
    model = llama()
    silent = [*range(len(MARKS)), *(len(MARKS) + LETTERS.index(blank) for blank in " \n")]
    with torch.no_grad():
        model.lm_head.weight[silent] = 0.0
    return model


def write_gguf(path: Path, model: LlamaForCausalLM, template: str = CHATML) -> None:
    """Write a model as the GGUF file that llama.cpp's converter would make of it."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    byte_names = [letter.replace(" ", "Ġ").replace("\n", "Ċ") for letter in LETTERS]
    writer.add_token_list([*MARKS, *byte_names, "qz"])
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(LETTERS) + 1))
    writer.add_token_merges(["q z"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template(template)
    for name, weights in model.state_dict().items():
        array = weights.float().numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp pairs the dimensions of rotary embeddings differently
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape).copy()
        writer.add_tensor(_gguf_name(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    pairs = {
        "model.embed_tokens": "token_embd",
        "model.layers": "blk",
        "model.norm": "output_norm",
        "lm_head": "output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for theirs, ours in pairs.items():
        name = name.replace(theirs, ours)
    return name


def agent(folder: Path, **opt: Any) -> Any:
    """The agent of a model that was saved in a folder."""
    made = ParlaiParser(True, True).parse_args(["--model", AGENT])
    made.update({"hf_model": str(folder), "system_prompt": "Be kind.", **opt})
    return create_agent(made)

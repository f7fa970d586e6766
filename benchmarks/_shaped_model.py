"""A ParlAI generator with the size of BlenderBot 90M and random weights: the same work, without a download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NICKNAME = "random/blender_90m"
WORDS = 54_940
"""BlenderBot 90M knows 54,944 tokens; four of them are ParlAI's own."""
REPLY_TOKENS = 20
SHAPE: dict[str, Any] = {
    "model": "transformer/generator",
    "n_layers": 8,
    "n_heads": 16,
    "embedding_size": 512,
    "ffn_size": 2048,
    "n_positions": 512,
    "variant": "xlm",
    "activation": "gelu",
    "learn_positional_embeddings": True,
    "embeddings_scale": True,
    "output_scaling": 1.0,
    "dict_tokenizer": "space",
    "dict_lower": True,
    "text_truncate": 512,
    "label_truncate": REPLY_TOKENS,
    "history_size": 20,
    "inference": "greedy",
    "beam_size": 1,
    "beam_min_length": REPLY_TOKENS,
    "skip_generation": False,
}


def make_blender_90m(base_model_folder: Path) -> None:
    """Make the model as ``<folder>/random/blender_90m``; its replies are words at random, of about 20 tokens each."""
    import torch
    from parlai.core.agents import create_agent
    from parlai.core.opt import Opt

    folder = base_model_folder / NICKNAME
    folder.mkdir(parents=True)
    lines = [f"{token}\t1000000000" for token in ("__null__", "__start__", "__end__", "__unk__")]
    lines += [f"word{number}\t{WORDS - number}" for number in range(WORDS)]
    dictionary = folder / "model.dict"
    dictionary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    agent = create_agent(Opt({**SHAPE, "dict_file": str(dictionary), "no_cuda": True, "interactive_mode": True}))
    agent.save(str(folder / "model"))
    (folder / "model.opt").write_text(json.dumps(SHAPE), encoding="utf-8")

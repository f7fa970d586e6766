"""Check that a Hugging Face model's files are complete: ``transformers`` fills missing weights with random numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

_SHOWN = 3
_AGAIN = "copy or download all of its files again"
_FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
"""``safetensors``' names of the number formats that weights can be read from as they are."""


def weight_faults(model: Any, info: Mapping[str, Any], folder: Path | None) -> list[str]:
    """Say what keeps the weights from being those that ``config.json`` describes.

    Args:
        model: loaded with ``ignore_mismatched_sizes=True``.
        info: what ``from_pretrained`` returned as its loading information. Weights that are tied to others are not missing.
        folder: where the safetensors files are, or None for a model from elsewhere.

    Returns:
        the end of a sentence each.
    """
    faults = []
    missing = sorted(map(str, info.get("missing_keys") or ()))
    if missing:
        faults.append(f"the files lack {_listed(missing)}, and random numbers would take their place; {_AGAIN}")
    shapes = [
        f"{name} ({'×'.join(map(str, in_file))} instead of {'×'.join(map(str, wanted))})"
        for name, in_file, wanted in sorted(info.get("mismatched_keys") or ())
    ]
    if shapes:
        faults.append(f"the files have other sizes than config.json says: {_listed(shapes)}; {_AGAIN}")
    left_over = _further_layers(info.get("unexpected_keys") or (), [name for name, _ in model.named_parameters()])
    if left_over:
        faults.append(f"config.json has fewer layers than the files, which also hold {_listed(left_over)}; {_AGAIN}")
    architectures = getattr(model.config, "architectures", None) or []
    if architectures and all(name.endswith("ForMaskedLM") for name in architectures):
        faults.append(f"it fills gaps in a text and can't continue one ({', '.join(architectures)}); take a chat model")
    if folder is not None and getattr(model.config, "quantization_config", None) is None:
        whole = _not_floating(folder, {name for name, _ in model.named_parameters()})
        if whole:
            faults.append(
                f"the files hold {_listed(whole)}, which is quantized, and config.json doesn't say how; {_AGAIN}"
            )
    return faults


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _further_layers(unexpected: Collection[str], own: Collection[str]) -> list[str]:
    """The weights that are like the model's own but for a layer's number."""
    patterns = {re.sub(r"\d+", "#", name) for name in own if re.search(r"\d", name)}
    return sorted(name for name in map(str, unexpected) if re.sub(r"\d+", "#", name) in patterns)


def _not_floating(folder: Path, own: Collection[str]) -> list[str]:
    """The weights that the files in a folder hold as whole numbers or in eight bits."""
    from safetensors import safe_open

    found = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 (safetensors' file is no mapping)
                if name in own:
                    number_format = weights.get_slice(name).get_dtype()
                    if number_format not in _FLOATING:
                        found.append(f"{name} as {number_format}")
    return sorted(found)

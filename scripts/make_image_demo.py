"""Train the small image models of the demo, on the pictures of ``model_chat.tasks.shapes``.

Usage: ``python scripts/make_image_demo.py [--base-model-folder models] [--only demo/shapes_a]``

Two models, so that there is something to compare: ``demo/shapes_a`` is trained in under three minutes on two idle cores,
``demo/shapes_b`` on a fraction of that, and sees worse for it. Nothing is downloaded. First the eyes learn to name what is
in single cells of many pictures, then the rest learns to talk about what they see. The number of steps is fixed and
everything random is seeded, so that the same machine makes the same models however busy it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_chat import compat as compat  # the patches, before ParlAI is imported
from model_chat.configuration.exit_codes import exit_with
from model_chat.configuration.places import work_dir

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Effort:
    """How much a model is trained."""

    pictures: int
    """Pictures that the eyes learn from."""
    epochs: int
    """How often they see each."""
    steps: int
    """Training steps of the dialogues, each of ``BATCH`` turns."""


EFFORTS = {"demo/shapes_a": Effort(4_000, 6, 1_000), "demo/shapes_b": Effort(1_000, 4, 600)}
"""Nickname -> how much it is trained."""

BATCH = 32
EYES_BATCH = 64
SEED = 7

MODEL_FILES = ("model", "model.opt", "model.dict", "model.dict.opt")

_SETTINGS: dict[str, Any] = {
    "task": "model_chat.tasks.shapes",
    "model": "model_chat.agents.image_seq:ImageSeqAgent",
    "image_mode": "raw",
    "shapes_pictures": 1_000,
    "batchsize": BATCH,
    # What the model is
    "image_side": 60,
    "image_grid": 3,
    "image_channels": 16,
    "freeze_eyes": True,
    "embedding_size": 96,
    "n_heads": 4,
    "ffn_size": 192,
    "n_encoder_layers": 1,
    "n_decoder_layers": 2,
    "n_positions": 64,
    "variant": "prelayernorm",
    "activation": "gelu",
    "dict_tokenizer": "re",
    "dict_lower": True,
    # Each question can be answered from the picture alone: the model sees the last message only.
    "history_size": 1,
    "text_truncate": 48,
    "label_truncate": 32,
    # How it learns
    "optimizer": "adam",
    "learningrate": 2e-3,
    "lr_scheduler": "linear",
    "warmup_updates": 50,
    "gradient_clip": 1.0,
    "skip_generation": True,
    # ParlAI evaluates at the end whether asked or not; benchmarks/image_demo_accuracy.py does that better.
    "short_final_eval": True,
    "validation_max_exs": BATCH,
    "validation_every_n_secs": -1,
    "log_every_n_secs": 20,
    "no_cuda": True,
}


def make_image_demo(base_folder: Path, nickname: str, threads: int = 2) -> Path:
    """Train one model, and put it in the base folder when it is complete.

    Args:
        base_folder: the folder of models; the model comes to ``<base_folder>/<nickname>``.
        nickname: a key of ``EFFORTS``.

    Returns:
        the path of the model's file; beside it are ``model.opt``, ``model.dict`` and ``model.dict.opt``.

    Raises:
        KeyError: there is no such demo model.
        OSError: it could not be written.
    """
    from parlai.scripts.train_model import TrainModel

    effort = EFFORTS[nickname]
    target = base_folder / nickname
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making_") as scratch, _seeded(SEED, threads):
        start = time.perf_counter()
        eyes_file = Path(scratch) / "eyes.pt"
        torch.save(train_eyes(effort.pictures, effort.epochs).state_dict(), eyes_file)
        logger.info("trained the eyes of %s in %.0f s", nickname, time.perf_counter() - start)
        TrainModel.main(
            **_SETTINGS,
            eyes_file=str(eyes_file),
            max_train_steps=effort.steps,
            model_file=str(Path(scratch) / "model"),
            dict_file=str(Path(scratch) / "model.dict"),
        )
        logger.info("trained %s in %.0f s", nickname, time.perf_counter() - start)
        made = Path(scratch) / "made"
        made.mkdir()
        for name in MODEL_FILES:
            shutil.copyfile(Path(scratch) / name, made / name)
        _forget_scratch(made / "model.opt")
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    return target / "model"


def train_eyes(pictures: int, epochs: int) -> Any:
    """Teach eyes to name the colour and the shape in each cell of a picture.

    Half of each batch is shown in colours mixed at random, and only its shapes are asked for: so a shape is learned
    whatever its colour, and the combinations that no training picture has are no surprise.

    Args:
        epochs: how often each is seen.

    Returns:
        an ``Eyes`` module with the settings of the demo.
    """
    from model_chat.agents.image_seq import Eyes, cells_of, naming_loss, pixels_of
    from model_chat.tasks.shapes.scenes import draw, make_scene

    side, grid = _SETTINGS["image_side"], _SETTINGS["image_grid"]
    scenes = [make_scene("train", number) for number in range(pictures)]
    pixels = torch.stack([pixels_of(draw(scene), side) for scene in scenes])
    things = [[(thing.colour, thing.shape, thing.x, thing.y) for thing in scene.things] for scene in scenes]
    colours, shapes = cells_of(things, grid)
    eyes = Eyes(_SETTINGS["image_channels"], grid)
    optimizer = torch.optim.AdamW(eyes.parameters(), lr=4e-3, weight_decay=0.01)
    steps = epochs * (pictures // EYES_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    half = EYES_BATCH // 2
    for step in range(steps):
        if step % (pictures // EYES_BATCH) == 0:
            order = torch.randperm(pictures)
        first = step % (pictures // EYES_BATCH) * EYES_BATCH
        chosen = order[first : first + EYES_BATCH]
        seen, wanted_colours, wanted_shapes = pixels[chosen], colours[chosen], shapes[chosen]
        if random.random() < 0.5:  # every shape is its own mirror image
            seen, wanted_colours, wanted_shapes = seen.flip(3), wanted_colours.flip(2), wanted_shapes.flip(2)
        seen = torch.roll(seen, (random.randint(-2, 2), random.randint(-2, 2)), (2, 3))
        mixed = torch.einsum("bij,bjhw->bihw", torch.randn(half, 3, 3) * 0.7, seen[:half])
        colour, shape = eyes(torch.cat([mixed + torch.randn(half, 3, 1, 1) * 0.3, seen[half:]]))
        loss = naming_loss(colour[half:], shape[half:], wanted_colours[half:], wanted_shapes[half:])
        loss = loss + torch.nn.functional.cross_entropy(shape[:half], wanted_shapes[:half])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return eyes


def _forget_scratch(opt_file: Path) -> None:
    """Take the paths of the training out of a model's options: what they name is gone, or is found beside the model."""
    opt = json.loads(opt_file.read_text(encoding="utf-8"))
    opt.update(eyes_file=None, model_file=None, dict_file=None)
    opt.pop("override", None)
    opt_file.write_text(json.dumps(opt, indent=4), encoding="utf-8")


@contextlib.contextmanager
def _seeded(seed: int, threads: int) -> Iterator[None]:
    """Fix everything random, and torch's threads, for the time of the training."""
    before = torch.get_num_threads()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Train the demo's image models.")
    parser.add_argument("--base-model-folder", type=Path, default=work_dir() / "models", help="default: %(default)s")
    parser.add_argument("--only", choices=sorted(EFFORTS), help="one model alone")
    parser.add_argument("--threads", type=int, default=2, help="threads that torch may use")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for nickname in EFFORTS:
        if args.only in (None, nickname):
            print(make_image_demo(args.base_model_folder.expanduser(), nickname, args.threads))
    return 0


if __name__ == "__main__":
    exit_with(main)

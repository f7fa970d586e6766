"""Save images, with what their ParlAI task says about them, for human+model image chat.

Takes every argument of ``parlai display_data``, for instance::

    python scripts/save_image_contexts.py --task model_chat.tasks.shapes --datatype test --num-examples 10

``--num-examples`` counts *different* images: one that has been seen before (the same pixels, however they are encoded) is
passed over. The file is described in ``docs/image-stack.md``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from zipfile import ZipFile

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from model_chat.compat.terminal import print_plain
from model_chat.configuration.exit_codes import exit_with, reports_faults
from model_chat.configuration.places import work_dir
from model_chat.errors import ConfigurationError
from model_chat.images.contexts import ImageContextsWriter
from model_chat.images.pictures import MAX_SIDE, UnreadablePictureError, content_hash, fit, read_picture, upright_rgb

logger = logging.getLogger(__name__)

DEFAULT_PATH = work_dir() / "data" / "image_contexts.parquet"

_ACTS_WITHOUT_IMAGE = 1_000
"""A task that has shown no image in so many acts is taken for one without images."""


@dataclass(frozen=True)
class Unreadable:
    """Stands in an act for an image that could not be loaded."""

    path: str
    reason: str


@dataclass
class Outcome:
    """What became of the walk through a task."""

    wanted: int
    saved: int = 0
    repeated: int = 0
    """Acts about an image that was saved before."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images that could not be used -> the reason."""
    ran_out: bool = False
    """The data ended before ``wanted`` images were found."""


def make_parser() -> Any:
    """Return ParlAI's own parser of ``display_data`` with our arguments added."""
    from parlai.scripts.display_data import setup_args

    import model_chat.tasks.shapes.agents  # noqa: F401  # so that --task shapes is known

    parser = setup_args()
    parser.description = "Save different images of a ParlAI task with their context, for image chat."
    group = parser.add_argument_group("Image contexts")
    group.add_argument("--image-context-path", type=str, default=str(DEFAULT_PATH), help="Parquet file to write")
    group.add_argument(
        "--image-max-side", type=int, default=MAX_SIDE, help="pixels; larger images are scaled down to it (0: never)"
    )
    return parser


@contextlib.contextmanager
def tolerant_image_loading() -> Iterator[None]:
    """Let ParlAI's image loader read any picture, upright, and hand on what it can't read as :class:`Unreadable`.

    As it is, the loader ignores EXIF orientation, clips 16-bit greys to white and fills transparency with whatever colour
    is behind it; and a picture that it can't read ends its background thread, after which the teacher waits for ever.
    """
    from parlai.core.image_featurizers import ImageLoader
    from parlai.utils.io import PathManager

    def load(self: Any, path: Any) -> Any:
        name = str(path)
        try:
            if ".zip" in name:
                archive, inside = self._breakup_zip_filename(name)
                with PathManager.open(archive, "rb") as file, ZipFile(file) as opened:
                    return read_picture(opened.read(inside))
            with PathManager.open(name, "rb") as file:
                return read_picture(file.read())
        except UnreadablePictureError as error:
            return Unreadable(name, str(error))
        except Exception as error:  # whatever it is, it must not end ParlAI's loading thread
            return Unreadable(name, f"{type(error).__name__}: {error}")

    original = ImageLoader.load
    ImageLoader.load = load
    try:
        yield
    finally:
        ImageLoader.load = original


def save_image_contexts(opt: Any) -> Outcome:
    """Walk through the task of ``opt`` and save its images.

    Raises:
        ConfigurationError: an argument can't be used, the task can't be loaded, or it gave no image.
    """
    console = Console(stderr=True, emoji=False)
    faults = []
    if not opt.get("task"):
        faults.append("--task: name the ParlAI task whose images are to be saved, for instance --task image_chat.")
    if opt["num_examples"] < 1:
        faults.append(f"--num-examples {opt['num_examples']}: give 1 or more.")
    if opt["image_max_side"] < 0:
        faults.append(f"--image-max-side {opt['image_max_side']}: give 0 (never scale) or a number of pixels.")
    if opt.get("batchsize", 1) > 1:
        faults.append(f"--batchsize {opt['batchsize']}: images are saved one by one; leave it at 1.")
    ConfigurationError.raise_if(faults)

    opt = opt.copy()
    if "train" in opt["datatype"] and "ordered" not in opt["datatype"]:
        opt["datatype"] += ":ordered"  # in random order the data would never end
    if opt.get("image_mode") != "raw":
        console.print(
            f"--image-mode {opt.get('image_mode')}: the images themselves are saved; "
            "each model makes the features it wants of them when it chats.",
            markup=False,
        )
        opt["image_mode"] = "raw"

    with tolerant_image_loading():
        world = _make_world(opt)
        with ImageContextsWriter(opt["image_context_path"]) as writer:
            outcome = _walk(world, opt, writer, console)
            if not outcome.saved:
                raise ConfigurationError(_no_images(opt, outcome))
    return outcome


def _make_world(opt: Any) -> Any:
    from parlai.agents.fixed_response.fixed_response import FixedResponseAgent
    from parlai.core.worlds import create_task

    opt["fixed_response"] = None
    try:
        return create_task(opt, FixedResponseAgent(opt))
    except (ImportError, AttributeError, OSError) as error:
        raise ConfigurationError(
            f"--task {opt['task']}: it can't be loaded ({type(error).__name__}: {error}); check its name and its data."
        ) from error


def _walk(world: Any, opt: Any, writer: ImageContextsWriter, console: Console) -> Outcome:
    outcome = Outcome(wanted=opt["num_examples"])
    seen: set[str] = set()
    acts = 0
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
    with progress:
        bar = progress.add_task("images", total=outcome.wanted, note="")
        while outcome.saved < outcome.wanted:
            if world.epoch_done():
                outcome.ran_out = True
                break
            world.parley()
            act = world.get_acts()[0]
            acts += 1
            if acts >= _ACTS_WITHOUT_IMAGE and not outcome.saved and not outcome.skipped:
                break
            if act.get("image") is None:
                continue
            try:
                original = _picture(act["image"])
            except UnreadablePictureError as error:
                name = act["image"].path if isinstance(act["image"], Unreadable) else act.get("image_id", f"act {acts}")
                if name not in outcome.skipped:  # an episode shows its image in every act
                    outcome.skipped[str(name)] = str(error)
                    print_plain(console, f"Skipped {name}: {error}")
                continue
            image = fit(original, opt["image_max_side"])
            digest = content_hash(image)
            if digest in seen:
                outcome.repeated += 1
                progress.update(bar, note=f"{outcome.repeated:,} repeats passed over")
                continue
            seen.add(digest)
            writer.add(
                image,
                act,
                {
                    "task": opt["task"],
                    "datatype": opt["datatype"],
                    "example_idx": acts - 1,
                    "image_id": None if act.get("image_id") is None else str(act["image_id"]),
                    "original_width": original.width,
                    "original_height": original.height,
                },
            )
            outcome.saved += 1
            progress.advance(bar)
    return outcome


def _picture(found: Any) -> Image.Image:
    """Return what an act holds as an upright RGB picture.

    Raises:
        UnreadablePictureError: it is none.
    """
    if isinstance(found, Unreadable):
        raise UnreadablePictureError(found.reason)
    if isinstance(found, Image.Image):
        try:
            found.load()
            return upright_rgb(found)
        except OSError as error:  # opened, but not read before: only now is it seen to be truncated
            raise UnreadablePictureError(str(error)) from error
    if isinstance(found, bytes):
        return read_picture(found)
    if isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.ndim in (2, 3):
        try:
            return upright_rgb(Image.fromarray(found))
        except (TypeError, ValueError) as error:
            raise UnreadablePictureError(str(error)) from error
    raise UnreadablePictureError(f"it comes as {type(found).__name__}, which is no picture")


def _no_images(opt: Any, outcome: Outcome) -> str:
    if outcome.skipped:
        number, first = len(outcome.skipped), ": ".join(next(iter(outcome.skipped.items())))
        return f"--task {opt['task']}: none of its {number:,} images can be read; the first: {first}"
    return (
        f"--task {opt['task']}: it gave no image (none of its acts has the field 'image'); name a task with images, "
        "and check that its images are where its arguments say."
    )


def describe(outcome: Outcome, path: str) -> str:
    """Return what is to be said at the end."""
    lines = [f"Saved {outcome.saved:,} different images to {path}."]
    if outcome.ran_out:
        lines.append(f"That is all: the data ran out before the {outcome.wanted:,} that --num-examples asks for.")
    if outcome.repeated:
        lines.append(f"Passed over {outcome.repeated:,} repeats of images saved before.")
    if outcome.skipped:
        lines.append(f"Skipped {len(outcome.skipped):,} images that can't be used (named above).")
    return "\n".join(lines)


@reports_faults
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 2 with the reason on standard error."""
    opt = make_parser().parse_args(None if arguments is None else list(arguments))
    print(describe(save_image_contexts(opt), opt["image_context_path"]))
    return 0


if __name__ == "__main__":
    exit_with(main)

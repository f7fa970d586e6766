"""Launching an image chat: images in the models' formats, and the stack, in addition to text chat."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from model_chat.errors import ConfigurationError, collecting
from model_chat.images.design_quota import ImageDesignQuota
from model_chat.images.inputs import ImageInput, check_takes_images
from model_chat.images.quota import ImageQuota
from model_chat.images.stack import ImageStack
from model_chat.launch.checked_task import CheckedImages
from model_chat.records.extensions import Extensions
from model_chat.records.mephisto_database import list_agents
from model_chat.records.reading import Source, UnreadableError, list_files, read_conversation
from model_chat.records.schema import Completion
from model_chat.serving.model import ServedModel
from model_chat.worlds_image_chat import ImageChatOptions

logger = logging.getLogger(__name__)


def make_image_options(
    images: CheckedImages,
    models: Iterable[ServedModel],
    seed: int,
    console: Console,
    common: Mapping[str, Any],
    design: Mapping[str, Any] | None = None,
    extensions: Extensions | None = None,
) -> ImageChatOptions:
    """Try the models on an image, and open the stack.

    Args:
        common: the arguments of :class:`~model_chat.worlds.ChatOptions` that text chat and image chat share.
        design: those of :class:`~model_chat.images.design_quota.ImageDesignQuota` beside the stack; None without a design.

    Raises:
        ConfigurationError: models that take no images, a sentence each; or a stack, or draws of earlier runs, that can't
            be used.
    """
    faults: list[str] = []
    inputs: dict[str, ImageInput] = {}
    for model in models:
        with console.status(Text(f"Showing {model.nickname} an image…")), collecting(faults):
            inputs[model.nickname] = ImageInput(model, images.contexts)
            check_takes_images(model, inputs[model.nickname])
    ConfigurationError.raise_if(faults)
    stack = ImageStack(
        num_images=len(images.contexts),
        models=images.combos,
        evals_per_image_model_combo=images.evals_per_image_model_combo,
        stack_folder=images.stack_folder,
        rng=seed,
        on_model_change=images.on_model_change,
        images_id=images.contexts.fingerprint,
    )
    quota = ImageDesignQuota(stack, **design) if design else ImageQuota(stack, images.num_conversations, extensions)
    return ImageChatOptions(**common, quota=quota, images=images.contexts, inputs=inputs)


def reconcile_stack(
    quota: ImageQuota | ImageDesignQuota, chat_data_folder: Path, database: Path, task_name: str
) -> None:
    """Bring the stack in line with what an earlier run, which was killed, has saved; before the first draw.

    Args:
        database: Mephisto's, which may not be there yet.

    Raises:
        ConfigurationError: the stack has not enough places left for the design.
    """
    if quota.left_in_flight():
        quota.settle(_saved_places(_sources(chat_data_folder, database, task_name), task_name))
    if isinstance(quota, ImageDesignQuota):
        quota.check_room()


def _sources(chat_data_folder: Path, database: Path, task_name: str) -> Iterator[Source]:
    if chat_data_folder.is_dir():
        yield from list_files([chat_data_folder]).sources
    if database.is_file():
        try:
            yield from list_agents(database, task_name)
        except ConfigurationError as error:  # the task's first run
            logger.debug("%s", error)


def _saved_places(sources: Iterable[Source], task_name: str) -> set[tuple[int, str, str]]:
    """Return image, model and worker of a task's conversations that are saved as complete; older files name no task."""
    found = set()
    for source in sources:
        try:
            chat = read_conversation(source)
        except UnreadableError as error:
            logger.debug("%s can't be read: %s", source.name, error)
            continue
        if chat.raw.get("task_name") not in (None, task_name):
            continue
        if chat.image_idx is not None and chat.status is Completion.COMPLETE:
            found.add((chat.image_idx, chat.model_nickname, chat.worker_id))
    return found

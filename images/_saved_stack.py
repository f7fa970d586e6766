"""A stack's folder: reading ``stack.json`` and ``stack.journal``, their faults, and the lock on them."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from model_chat.configuration.comparison import pair_key
from model_chat.errors import ConfigurationError
from model_chat.images._journal import Change, DamagedJournalError, Header, Journal, Place, Verb, read_journal
from model_chat.records.locks import STACK_LOCK, LockedError, hold
from model_chat.records.writing import replace_file

logger = logging.getLogger(__name__)

STACK_FILE = "stack.json"
JOURNAL_FILE = "stack.journal"
LOCK_FILE = STACK_LOCK

FOLDER_FLAG = "mephisto.blueprint.stack_folder"
CHANGE_FLAG = "mephisto.blueprint.stack_on_model_change"

Places = dict[str, list[str]]
"""One image's entry in ``stack.json``: model -> the workers who hold a place with it."""


@dataclass
class SavedStack:
    """What the two files of a stack say together."""

    places: list[Places]
    in_flight: dict[Place, None] = field(default_factory=dict)
    seen: dict[str, set[int]] = field(default_factory=dict)
    images_id: str | None = None

    @property
    def models(self) -> list[str]:
        """The models' nicknames, in the order in which they were saved."""
        return list(self.places[0]) if self.places else []

    def header(self) -> Header:
        """What a journal begins with that stands for this, but for who has seen which image."""
        return Header(
            num_images=len(self.places), models=self.models, images_id=self.images_id, in_flight=list(self.in_flight)
        )


def read_stack(stack_folder: str | os.PathLike[str]) -> list[Places] | None:
    """Read a stack without touching it, also while a run uses it.

    Returns:
        what ``stack.json`` would hold if it were written now; None if there is no stack in the folder.

    Raises:
        ConfigurationError: the stack is damaged.
    """
    saved = read_saved(Path(stack_folder).expanduser())
    return None if saved is None else saved.places


def find_stack_faults(
    num_images: int,
    models: Sequence[str],
    evals_per_image_model_combo: int,
    stack_folder: str | os.PathLike[str],
    on_model_change: str = "stretch",
    images_id: str | None = None,
) -> list[str]:
    """Say what would keep :class:`ImageStack` from opening (but for a run that uses the folder), changing nothing.

    Returns:
        one sentence a fault, each with the flag, the value and the remedy.
    """
    folder = Path(stack_folder).expanduser()
    faults = argument_faults(num_images, models, evals_per_image_model_combo, on_model_change)
    try:
        saved = read_saved(folder)
    except ConfigurationError as error:
        return [*faults, *error.faults]
    except OSError as error:
        return [*faults, f"{FOLDER_FLAG}={folder}: it can't be read ({error}); check its permissions."]
    if saved is not None and not faults:
        faults += saved_faults(saved, folder, num_images, models, images_id, on_model_change)
    return faults


def argument_faults(num_images: int, models: Sequence[str], evals: int, on_model_change: str) -> list[str]:
    """Say what is wrong with what a stack is to be opened with."""
    faults = []
    if num_images < 1:
        faults.append("mephisto.blueprint.image_context_path: it holds no image; make it with save_image_contexts.py.")
    if not models or len(set(models)) != len(models) or not all(isinstance(m, str) and m for m in models):
        faults.append(
            f"The models of the image stack are {list(models)}; give one or more nicknames, all different, none empty."
        )
    if evals < 1:
        faults.append(f"mephisto.blueprint.evals_per_image_model_combo={evals}: give 1 or more.")
    if on_model_change not in ("stretch", "stop"):
        faults.append(f"{CHANGE_FLAG}={on_model_change}: give 'stretch' or 'stop'.")
    return faults


def named_as_saved(saved: SavedStack, models: Sequence[str]) -> tuple[str, ...]:
    """Return today's models with pairs written as the stack has them: ``b|a`` is the pair ``a|b``."""
    names = {pair_key(model): model for model in saved.models}
    return tuple(names.get(pair_key(model), model) for model in models)


def saved_faults(
    saved: SavedStack, folder: Path, num_images: int, models: Sequence[str], images_id: str | None, on_model_change: str
) -> list[str]:
    """Say why a saved stack can't be continued with the current images and models."""
    faults = []
    models = named_as_saved(saved, models)
    remedy = "use the image file that this stack was made with, or name a new folder"
    if len(saved.places) != num_images:
        faults.append(
            f"{FOLDER_FLAG}={folder}: its stack is for {len(saved.places)} images, "
            f"and mephisto.blueprint.image_context_path has {num_images}; {remedy}."
        )
    elif images_id and saved.images_id and images_id != saved.images_id:
        faults.append(
            f"{FOLDER_FLAG}={folder}: its stack is for other images than those of "
            f"mephisto.blueprint.image_context_path; {remedy}."
        )
    if on_model_change == "stop" and set(saved.models) != set(models):
        faults.append(
            f"{FOLDER_FLAG}={folder}: its stack is for the models {sorted(saved.models)}, this run has "
            f"{sorted(models)}; run the same models, name a new folder, or set {CHANGE_FLAG}=stretch."
        )
    return faults


def read_saved(folder: Path) -> SavedStack | None:
    """Read the two files of a stack.

    Raises:
        ConfigurationError: they are damaged.
        OSError: they can't be read.
    """
    # The journal first: should a run write stack.json meanwhile, the old journal upon the new file is still right.
    try:
        header, changes = read_journal(folder / JOURNAL_FILE)
    except DamagedJournalError as error:
        raise ConfigurationError(
            f"{FOLDER_FLAG}={folder}: its {JOURNAL_FILE} is damaged: {error}; restore the folder from a backup, "
            "or name a new folder."
        ) from None
    try:
        raw = (folder / STACK_FILE).read_bytes()
    except FileNotFoundError:
        if header is not None:
            raise ConfigurationError(
                f"{FOLDER_FLAG}={folder}: {STACK_FILE} is gone, but its {JOURNAL_FILE} is there; "
                f"put {STACK_FILE} back, or remove both to start anew."
            ) from None
        return None
    places = _parse_stack(folder, raw)
    if header is None:
        if (folder / JOURNAL_FILE).exists():
            logger.warning(
                "%s: the journal is cut off in its first line, so it is left out: every conversation in %s counts as "
                "finished.",
                folder / JOURNAL_FILE,
                STACK_FILE,
            )
        return SavedStack(places)
    if header.num_images != len(places):
        raise ConfigurationError(
            f"{FOLDER_FLAG}={folder}: {STACK_FILE} has {len(places)} images and its {JOURNAL_FILE} is for "
            f"{header.num_images}: they don't belong together; restore the folder from a backup, or name a new folder."
        )
    saved = SavedStack(
        places,
        in_flight=dict.fromkeys(header.in_flight),
        seen={worker: set(images) for worker, images in header.seen.items()},
        images_id=header.images_id,
    )
    for change in changes:
        _replay(saved, change)
    saved.in_flight = {p: None for p in saved.in_flight if p.worker in saved.places[p.image_idx].get(p.model, ())}
    return saved


def _parse_stack(folder: Path, raw: bytes) -> list[Places]:
    problem = None
    try:
        content: Any = orjson.loads(raw)
    except ValueError as error:
        content, problem = None, f"it is not JSON ({error})"
    if problem is None:
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            problem = "it is not a list of objects, one an image"
        else:
            for image_idx, entry in enumerate(content):
                if entry.keys() != content[0].keys():
                    problem = f"image {image_idx} has other models than image 0"
                    break
                if not all(isinstance(ws, list) and all(isinstance(w, str) for w in ws) for ws in entry.values()):
                    problem = f"image {image_idx} has something other than lists of worker ids"
                    break
    if problem is not None:
        raise ConfigurationError(
            f"{FOLDER_FLAG}={folder}: {STACK_FILE} can't be used: {problem}; restore it from a backup, "
            "or name a new folder."
        )
    places: list[Places] = content
    return places


def _replay(saved: SavedStack, change: Change) -> None:
    """Make a change, whether or not it has been made before."""
    place = change.place
    workers = saved.places[place.image_idx].get(place.model)
    if change.verb is Verb.TAKE:
        saved.in_flight[place] = None
        if workers is not None and place.worker not in workers:
            workers.append(place.worker)
        return
    saved.in_flight.pop(place, None)
    if change.verb is Verb.FINISH:
        return
    if workers is not None and place.worker in workers:
        workers.remove(place.worker)
    if change.verb is Verb.GIVE_BACK:
        saved.seen.setdefault(place.worker, set()).add(place.image_idx)


def load_for(
    folder: Path, num_images: int, models: Sequence[str], images_id: str | None, on_model_change: str
) -> SavedStack | None:
    """Read the saved stack, and make it one of today's models; None where there is none. The caller has the folder.

    Pairs of models keep the name that the stack has (:func:`named_as_saved`).

    Raises:
        ConfigurationError: it is damaged, or can't be continued with the current images and models.
        OSError: it can't be read or written.
    """
    saved = read_saved(folder)
    if saved is None:
        return None
    ConfigurationError.raise_if(saved_faults(saved, folder, num_images, models, images_id, on_model_change))
    models = named_as_saved(saved, models)
    if set(saved.models) == set(models):
        for taken in saved.places:
            for model in models:  # today's order
                taken[model] = taken.pop(model)
        return saved
    return _stretch(saved, folder, models)


def _stretch(saved: SavedStack, folder: Path, models: Sequence[str]) -> SavedStack:
    backup = _backup_path(folder)
    merged = orjson.dumps(saved.places)
    replace_file(backup, merged)
    kept = [model for model in models if model in saved.models]
    dropped = [model for model in saved.models if model not in models]
    logger.warning(
        "%s: the saved stack has the models %s, today's are %s: kept %s, new and empty %s, left out %s; backup: %s",
        folder / STACK_FILE,
        saved.models,
        list(models),
        kept,
        [model for model in models if model not in kept],
        dropped,
        backup,
    )
    # First the journal's changes go into stack.json as it is, then the memory of who saw which image with a model
    # that goes is made durable; only then may the caller write a stack.json without those models.
    old = saved.header()
    replace_file(folder / STACK_FILE, merged)
    for image_idx, taken in enumerate(saved.places):
        for model in dropped:
            for worker in taken[model]:
                saved.seen.setdefault(worker, set()).add(image_idx)
    old.seen = {worker: sorted(images) for worker, images in saved.seen.items()}
    Journal(folder / JOURNAL_FILE, old).close()
    saved.places = [{model: taken.get(model, []) for model in models} for taken in saved.places]
    return saved


def _backup_path(folder: Path) -> Path:
    """Return a name for a copy of ``stack.json`` that nothing has yet."""
    stem = f"stack.backup_{time.strftime('%Y%m%d_%H%M%S')}"
    number = 0
    while (path := folder / (f"{stem}_{number}.json" if number else f"{stem}.json")).exists():
        number += 1
    return path


def stack_files(folder: Path) -> tuple[Path, ...]:
    """Return the files that a stack keeps in its folder."""
    return tuple(folder / name for name in (STACK_FILE, JOURNAL_FILE, LOCK_FILE))


def lock_folder(folder: Path) -> ExitStack:
    """Take the folder for this run, until what is returned is closed or the process ends, however it ends.

    Raises:
        ConfigurationError: another run has it, it can't be made or written, or files can't be locked there.
    """
    held = ExitStack()
    note = f"process {os.getpid()} on {socket.gethostname()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(hold(folder / LOCK_FILE, alone=True, required=True, note=note))
    except LockedError as error:
        owner = f" ({error.holder})" if error.holder else ""
        raise ConfigurationError(
            f"{FOLDER_FLAG}={folder}: another run{owner} is using it; wait for its end or name another folder."
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise ConfigurationError(
                f"{FOLDER_FLAG}={folder}: files can't be locked there; name a folder on a local disk."
            ) from None
        raise ConfigurationError(
            f"{FOLDER_FLAG}={folder}: it can't be made or written ({error}); name a folder you may write to."
        ) from None
    return held

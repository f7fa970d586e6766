"""The image stack: which worker talks about which image with which model, so that the rules of image chat always hold.

The rules (``docs/image-stack.md`` has them in full):

* no worker gets an image twice, with any model;
* no (image, model) is held by more than ``evals_per_image_model_combo`` conversations, finished and running together;
* images are filled in order: a worker gets the first image that they have not had and that still needs a conversation;
* the model is drawn uniformly among those that the image still needs.

On disk the stack is ``stack.json`` (a list, one entry an image, of ``{model: [worker, ...]}``) and ``stack.journal``,
the changes since ``stack.json`` was last written. A draw is on disk before it is returned.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import orjson

from model_chat.errors import ConfigurationError
from model_chat.images._files import write_whole
from model_chat.images._journal import Change, Header, Journal, Place, Verb
from model_chat.images._saved_stack import (
    FOLDER_FLAG,
    JOURNAL_FILE,
    OWNER_FILE,
    STACK_FILE,
    Places,
    SavedStack,
    argument_faults,
    backup_path,
    find_stack_faults,
    lock_folder,
    read_saved,
    read_stack,
    saved_faults,
)

__all__ = ["Draw", "ImageStack", "Place", "Progress", "StackWriteError", "find_stack_faults", "read_stack"]

logger = logging.getLogger(__name__)

OnModelChange = Literal["stretch", "stop"]

_BLOCK = 4096
"""Images in one bit mask. Combining 4,096 bits takes about 0.1 µs, so 100,000 images are 25 such steps at worst."""


class StackWriteError(OSError):
    """A change of the stack could not be put on disk, and was not made. It may be tried again."""


class Draw(NamedTuple):
    """What a worker gets.

    ``image_idx`` and ``model`` are None exactly when ``no_more_work``: nothing that the rules allow is left for them.
    """

    image_idx: int | None
    model: str | None
    no_more_work: bool


class Progress(NamedTuple):
    """Numbers of conversations, of a model or of an image."""

    finished: int
    in_flight: int
    needed: int
    """Places that are still free."""


_NO_MORE_WORK = Draw(None, None, True)


class ImageStack:
    """The stack of one run, kept in its folder, which no other run can use meanwhile.

    Thread-safe. ``_lock`` owns everything in memory and is held for microseconds (longer only while ``stack.json`` is
    composed). The files belong to the one thread that has the turn (``_take_turn``); it takes ``_lock`` inside its
    turn, never the other way round, and writes the changes of everybody who waits: one sync serves them all (group
    commit).

    Use it as a context manager, or call :meth:`close`.

    Args:
        num_images: how many images there are.
        models: the models' nicknames; their order means nothing.
        evals_per_image_model_combo: conversations wanted for each (image, model).
        stack_folder: where the stack lives; made when missing. ``~`` is expanded.
        rng: draws the models; a number seeds one.
        on_model_change: what to do when the saved stack has other models: ``stretch`` keeps a backup and the workers of
            the models that stay, and starts the new ones empty; ``stop`` raises.
        images_id: names the very images (``ImageContexts.fingerprint``), so that a folder made for other images is
            refused even where their number is the same; None: not checked.
        compact_after: changes after which ``stack.json`` is written anew; None: 100, or ``num_images`` if that is more.

    Raises:
        ConfigurationError: a value can't be used; the folder is in use, can't be written, or holds a stack for another
            number of images, for other images or for other models (with ``stop``), or one that is damaged.
    """

    def __init__(
        self,
        num_images: int,
        models: Sequence[str],
        evals_per_image_model_combo: int,
        stack_folder: str | os.PathLike[str],
        rng: random.Random | int | None = None,
        on_model_change: OnModelChange = "stretch",
        images_id: str | None = None,
        compact_after: int | None = None,
    ) -> None:
        ConfigurationError.raise_if(argument_faults(num_images, models, evals_per_image_model_combo, on_model_change))
        self.num_images = num_images
        self.models = tuple(models)
        self.evals_per_image_model_combo = evals_per_image_model_combo
        self.folder = Path(stack_folder).expanduser()
        self._rng = rng if isinstance(rng, random.Random) else random.Random(rng)
        self._images_id = images_id
        self._compact_after = max(100, num_images) if compact_after is None else compact_after
        self._lock = threading.Lock()
        self._turn = threading.Condition()  # owns _turn_is_taken and the outcome of every ticket
        self._turn_is_taken = False
        self._waiting: list[_Ticket] = []
        self._closed = False

        self._folder_lock = lock_folder(self.folder)
        try:
            saved = self._load(on_model_change)
            self._fill_memory(saved)
            write_whole(self.folder / STACK_FILE, self._stack_json())
            self._journal = Journal(self.folder / JOURNAL_FILE, self._header())
        except OSError as error:
            self._folder_lock.release()
            raise ConfigurationError(
                f"{FOLDER_FLAG}={self.folder}: the stack can't be read or written ({error}); "
                "check the folder's permissions and the disk's free space, or name another folder."
            ) from error
        except BaseException:
            self._folder_lock.release()
            raise

    # What a run does with it

    def get_next_image(self, worker: str) -> Draw:
        """Give the worker a place; it is on disk when this returns.

        Args:
            worker: the worker's id, a non-empty string.

        Returns:
            the image's index and the model's nickname, or ``Draw(None, None, True)``: nothing is left for this worker.

        Raises:
            StackWriteError: the place could not be put on disk; it is free again.
            ValueError: ``worker`` is no usable id.
        """
        _check_worker(worker)
        with self._lock:
            self._check_open()
            place = self._reserve(worker)
            if place is None:
                return _NO_MORE_WORK
            ticket = self._submit([Change(Verb.TAKE, place)])
        self._commit(ticket)
        return Draw(place.image_idx, place.model, False)

    def finish(self, worker: str, image_idx: int, model: str) -> bool:
        """Note that the conversation is complete, so that :meth:`settle` leaves it its place after a crash.

        Call it once the conversation itself is saved.

        Returns:
            False, and nothing changed, if the worker has no running conversation there.

        Raises:
            StackWriteError: the note could not be put on disk.
        """
        place = Place(image_idx, model, worker)
        with self._lock:
            self._check_open()
            if place not in self._in_flight:
                return False
            ticket = self._submit([Change(Verb.FINISH, place)])
        self._commit(ticket)
        return True

    def remove_worker(self, worker: str, image_idx: int, model: str, *, seen: bool = True) -> bool:
        """Give the place back: the conversation was not finished (or is discarded). It is free once this returns.

        Args:
            worker: who held it.
            image_idx: the image.
            model: the model's nickname.
            seen: whether the worker has seen the image. If so, it is never offered to them again.

        Returns:
            False, and nothing changed, if the worker holds no such place (any more).

        Raises:
            StackWriteError: the change could not be put on disk; the place is still held.
        """
        place = Place(image_idx, model, worker)
        with self._lock:
            self._check_open()
            if place in self._being_freed or not self._holds(place):
                return False
            self._being_freed.add(place)
            # On disk first, free afterwards: else the next holder could be on disk beside this one.
            ticket = self._submit([Change(Verb.GIVE_BACK if seen else Verb.GIVE_BACK_UNSEEN, place)])
        self._commit(ticket)
        return True

    def in_flight(self) -> list[Place]:
        """Return the places of conversations that have neither finished nor given them back, oldest first.

        Right after opening these are what an earlier run left behind when it was killed.
        """
        with self._lock:
            return list(self._in_flight)

    def settle(self, finished: Iterable[tuple[int, str, str]]) -> list[Place]:
        """Sort out, before the first draw, what an earlier run that was killed has left in flight.

        Args:
            finished: ``(image_idx, model, worker)`` of the conversations that are saved as complete.

        Returns:
            the places that were given back, because their conversation is not among ``finished``.

        Raises:
            StackWriteError: nothing has changed.
        """
        done = set(finished)
        with self._lock:
            self._check_open()
            kept = [place for place in self._in_flight if place in done]
            given_back = [place for place in self._in_flight if place not in done]
            changes = [Change(Verb.FINISH, place) for place in kept]
            changes += [Change(Verb.GIVE_BACK, place) for place in given_back]
            if not changes:
                return []
            self._being_freed.update(given_back)
            ticket = self._submit(changes)
        self._commit(ticket)
        return given_back

    # What a run wants to know

    @property
    def is_done(self) -> bool:
        """Whether every (image, model) has all its conversations, finished or running."""
        return self.places_left == 0

    @property
    def places_left(self) -> int:
        """How many places are free."""
        with self._lock:
            return self._places_left

    @property
    def full_images(self) -> int:
        """How many images have no free place."""
        with self._lock:
            return self.num_images - sum(block.bit_count() for block in self._open)

    def outlook(self, worker: str) -> tuple[bool, bool]:
        """Say what there is for a worker, changing nothing.

        Returns:
            whether there is a place for them now, and whether one that others hold could become free for them.
        """
        _check_worker(worker)
        with self._lock:
            had = self._had.get(worker, {})
            now = self._next_image_for(worker) is not None
            later = any(
                not had.get(place.image_idx // _BLOCK, 0) >> place.image_idx % _BLOCK & 1 for place in self._in_flight
            )
        return now, later

    def places(self) -> list[Places]:
        """Return a copy of the stack in the form of ``stack.json``."""
        with self._lock:
            return [
                {model: list(taken.get(model, ())) if taken else [] for model in self.models} for taken in self._places
            ]

    def progress_by_model(self) -> dict[str, Progress]:
        """Return the numbers of each model over all images."""
        with self._lock:
            total = dict.fromkeys(self.models, 0)
            free = dict.fromkeys(self.models, self.num_images * self.evals_per_image_model_combo)
            for taken in self._places:
                for model, workers in (taken or {}).items():
                    total[model] += len(workers)
                    free[model] -= min(len(workers), self.evals_per_image_model_combo)
            running = dict.fromkeys(self.models, 0)
            for place in self._in_flight:
                running[place.model] += 1
        return {model: Progress(total[model] - running[model], running[model], free[model]) for model in self.models}

    def progress_by_image(self) -> list[Progress]:
        """Return the numbers of each image over all models, in the images' order."""
        wanted = self.evals_per_image_model_combo
        with self._lock:
            running = [0] * self.num_images
            for place in self._in_flight:
                running[place.image_idx] += 1
            return [
                Progress(
                    finished=sum(len(workers) for workers in (taken or {}).values()) - running[image_idx],
                    in_flight=running[image_idx],
                    needed=sum(max(0, wanted - len((taken or {}).get(model, ()))) for model in self.models),
                )
                for image_idx, taken in enumerate(self._places)
            ]

    # Its life

    def close(self) -> None:
        """Write ``stack.json``, and let other runs use the folder. Closing twice is no error."""
        self._take_turn()
        try:
            with self._lock:
                if self._closed:
                    return
                self._closed = True
            try:
                # Changes that are still waiting belong to threads that the caller left running: theirs to lose.
                self._compact()
            except OSError as error:
                logger.warning("%s could not be written (%s); the journal beside it holds the rest.", STACK_FILE, error)
            finally:
                self._journal.close()
                with suppress(OSError):
                    (self.folder / OWNER_FILE).unlink(missing_ok=True)
                self._folder_lock.release()
        finally:
            self._end_turn()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("The image stack is closed.")

    # In memory; every method from here to the next heading is called with _lock held (or before any thread knows us)

    def _fill_memory(self, saved: SavedStack | None) -> None:
        wanted = self.evals_per_image_model_combo
        self._places: list[Places | None] = [None] * self.num_images
        # Bit i of mask b: image b * _BLOCK + i still needs a conversation.
        self._open = [(1 << min(_BLOCK, self.num_images - start)) - 1 for start in range(0, self.num_images, _BLOCK)]
        self._first_open_block = 0
        # Worker -> block -> the same for the images that they have had.
        self._had: dict[str, dict[int, int]] = {}
        # Worker -> (block, how many times the past had been reopened): before it was nothing for them, back then.
        self._looked_up_to: dict[str, tuple[int, int]] = {}
        self._times_reopened = 0
        self._places_left = self.num_images * len(self.models) * wanted
        self._in_flight: dict[Place, None] = {}
        self._being_freed: set[Place] = set()
        # Worker -> images they saw but hold no place of: kept on disk in the journal's header.
        self._seen: dict[str, set[int]] = {}
        if saved is None:
            return
        for image_idx, taken in enumerate(saved.places):
            if not any(taken.values()):
                continue
            self._places[image_idx] = taken
            for workers in taken.values():
                self._places_left -= min(len(workers), wanted)
                for worker in workers:
                    self._mark_had(worker, image_idx)
            if all(len(taken[model]) >= wanted for model in self.models):
                self._open[image_idx // _BLOCK] &= ~(1 << image_idx % _BLOCK)
        for worker, images in saved.seen.items():
            self._seen[worker] = set(images)
            for image_idx in images:
                self._mark_had(worker, image_idx)
        self._in_flight = {place: None for place in saved.in_flight if self._holds(place)}

    def _mark_had(self, worker: str, image_idx: int) -> None:
        had = self._had.setdefault(worker, {})
        had[image_idx // _BLOCK] = had.get(image_idx // _BLOCK, 0) | 1 << image_idx % _BLOCK

    def _holds(self, place: Place) -> bool:
        if not 0 <= place.image_idx < self.num_images:
            return False
        taken = self._places[place.image_idx]
        return taken is not None and place.worker in taken.get(place.model, ())

    def _reserve(self, worker: str) -> Place | None:
        image_idx = self._next_image_for(worker)
        if image_idx is None:
            return None
        taken = self._places[image_idx]
        if taken is None:
            taken = self._places[image_idx] = {model: [] for model in self.models}
        wanted = self.evals_per_image_model_combo
        needed = [model for model in self.models if len(taken[model]) < wanted]
        model = needed[0] if len(needed) == 1 else self._rng.choice(needed)
        taken[model].append(worker)
        self._places_left -= 1
        self._mark_had(worker, image_idx)
        if len(needed) == 1 and len(taken[model]) >= wanted:
            self._open[image_idx // _BLOCK] ^= 1 << image_idx % _BLOCK
        place = Place(image_idx, model, worker)
        self._in_flight[place] = None
        return place

    def _next_image_for(self, worker: str) -> int | None:
        blocks = len(self._open)
        while self._first_open_block < blocks and not self._open[self._first_open_block]:
            self._first_open_block += 1
        had = self._had.get(worker, {})
        looked_up_to, times_reopened = self._looked_up_to.get(worker, (0, 0))
        start = self._first_open_block
        if times_reopened == self._times_reopened:
            start = max(start, looked_up_to)
        found, block = 0, blocks
        for block in range(start, blocks):
            found = self._open[block] & ~had.get(block, 0)
            if found:
                break
        if had:  # a worker without any image has nothing worth remembering
            self._looked_up_to[worker] = (block, self._times_reopened)
        if not found:
            return None
        return block * _BLOCK + (found & -found).bit_length() - 1

    def _free(self, place: Place, seen: bool) -> None:
        image_idx, model, worker = place
        taken = self._places[image_idx]
        if taken is None or worker not in taken[model]:
            return
        taken[model].remove(worker)
        self._in_flight.pop(place, None)
        if len(taken[model]) < self.evals_per_image_model_combo:  # a stack from elsewhere can be over the limit
            self._places_left += 1
            block, bit = image_idx // _BLOCK, 1 << image_idx % _BLOCK
            if not self._open[block] & bit:
                self._open[block] |= bit
                self._reopened(block)
        if seen:
            self._seen.setdefault(worker, set()).add(image_idx)
        elif not any(worker in workers for workers in taken.values()):
            self._had[worker][image_idx // _BLOCK] &= ~(1 << image_idx % _BLOCK)
            self._reopened(image_idx // _BLOCK)

    def _reopened(self, block: int) -> None:
        self._times_reopened += 1
        self._first_open_block = min(self._first_open_block, block)

    def _submit(self, changes: list[Change]) -> _Ticket:
        ticket = _Ticket(changes)
        self._waiting.append(ticket)
        return ticket

    def _conclude(self, change: Change, written: bool) -> None:
        """Bring memory in line with how the writing of a change went.

        A place is taken in memory first and on disk after, and given back the other way round: so it is never free in
        one of the two while another worker could hold it in the other.
        """
        verb, place = change
        if verb is Verb.TAKE:
            if not written:
                self._free(place, seen=False)
        elif verb is Verb.FINISH:
            if written:
                self._in_flight.pop(place, None)
        else:
            self._being_freed.discard(place)
            if written:
                self._free(place, seen=verb is Verb.GIVE_BACK)

    def _stack_json(self) -> bytes:
        untouched: Places = {model: [] for model in self.models}
        return orjson.dumps([untouched if taken is None else taken for taken in self._places])

    def _header(self) -> Header:
        return Header(
            num_images=self.num_images,
            models=list(self.models),
            images_id=self._images_id,
            in_flight=list(self._in_flight),
            seen={worker: sorted(images) for worker, images in self._seen.items()},
        )

    # On disk

    def _commit(self, ticket: _Ticket) -> None:
        """Return once the ticket's changes are on disk.

        Raises:
            StackWriteError: they are not.
        """
        if self._take_turn(unless=ticket):
            try:
                self._write_waiting()
            finally:
                self._end_turn()
        if ticket.error is not None:
            raise StackWriteError(
                f"The image stack in {self.folder} could not be written ({ticket.error}); nothing was changed."
            ) from ticket.error

    def _take_turn(self, unless: _Ticket | None = None) -> bool:
        """Wait for the turn, and take it; or come away without it (False) once somebody has settled ``unless``."""
        with self._turn:
            while self._turn_is_taken and not (unless and unless.settled):
                self._turn.wait()
            if unless and unless.settled:
                return False
            self._turn_is_taken = True
        return True

    def _end_turn(self) -> None:
        with self._turn:
            self._turn_is_taken = False
            self._turn.notify_all()

    def _write_waiting(self) -> None:
        """Write the changes of everybody who waits, with one sync. Called with the turn."""
        with self._lock:
            batch, self._waiting = self._waiting, []
        error: BaseException | None = None
        try:
            if self._closed:
                raise OSError("the stack was closed meanwhile")
            self._journal.append([change for ticket in batch for change in ticket.changes])
        except BaseException as failure:
            error = failure
            if not isinstance(failure, OSError):  # Ctrl-C: for this thread alone, but nobody's change was written
                raise
        finally:
            with self._lock:
                for ticket in batch:
                    for change in ticket.changes:
                        self._conclude(change, written=error is None)
            with self._turn:
                for ticket in batch:
                    ticket.error, ticket.settled = error, True
                self._turn.notify_all()  # they need not wait for a compaction
        if error is None and self._journal.changes >= self._compact_after:
            try:
                self._compact()
            except OSError as failure:
                # Nothing is lost: the journal has it all. The next attempt comes with the next change.
                logger.warning("%s could not be written anew (%s).", self.folder / STACK_FILE, failure)

    def _compact(self) -> None:
        """Write ``stack.json`` and start a new journal. Called with the turn.

        The order matters: the old journal upon the new ``stack.json`` gives the same stack again (every change sets a
        state), while the new journal upon the old ``stack.json`` would lose changes.
        """
        with self._lock:
            content, header = self._stack_json(), self._header()
        write_whole(self.folder / STACK_FILE, content)
        old, self._journal = self._journal, Journal(self.folder / JOURNAL_FILE, header)
        old.close()

    def _load(self, on_model_change: OnModelChange) -> SavedStack | None:
        """Read the saved stack, and make it one of today's models. Called before any thread knows us."""
        saved = read_saved(self.folder)
        if saved is None:
            return None
        ConfigurationError.raise_if(
            saved_faults(saved, self.folder, self.num_images, self.models, self._images_id, on_model_change)
        )
        self._images_id = self._images_id or saved.images_id
        if set(saved.models) == set(self.models):
            for taken in saved.places:
                for model in self.models:  # today's order
                    taken[model] = taken.pop(model)
            return saved
        return self._stretch(saved)

    def _stretch(self, saved: SavedStack) -> SavedStack:
        backup = backup_path(self.folder)
        merged = orjson.dumps(saved.places)
        write_whole(backup, merged)
        kept = [model for model in self.models if model in saved.models]
        dropped = [model for model in saved.models if model not in self.models]
        logger.warning(
            "%s: the saved stack has the models %s, today's are %s: kept %s, new and empty %s, left out %s; backup: %s",
            self.folder / STACK_FILE,
            saved.models,
            list(self.models),
            kept,
            [model for model in self.models if model not in kept],
            dropped,
            backup,
        )
        # First the journal's changes go into stack.json as it is, then the memory of who saw which image with a model
        # that goes is made durable; only then may the caller write a stack.json without those models.
        old = saved.header()
        write_whole(self.folder / STACK_FILE, merged)
        for image_idx, taken in enumerate(saved.places):
            for model in dropped:
                for worker in taken[model]:
                    saved.seen.setdefault(worker, set()).add(image_idx)
        old.seen = {worker: sorted(images) for worker, images in saved.seen.items()}
        Journal(self.folder / JOURNAL_FILE, old).close()
        saved.places = [{model: taken.get(model, []) for model in self.models} for taken in saved.places]
        return saved


class _Ticket:
    """Changes that wait to be written, and how that went. ``settled`` and ``error`` belong to ``_turn``."""

    __slots__ = ("changes", "error", "settled")

    def __init__(self, changes: list[Change]) -> None:
        self.changes = changes
        self.settled = False
        self.error: BaseException | None = None


def _check_worker(worker: str) -> None:
    if not isinstance(worker, str) or not worker:
        raise ValueError(f"A worker's id is a non-empty string, not {worker!r}.")
    worker.encode()  # UnicodeEncodeError, which is a ValueError, for what no file could hold

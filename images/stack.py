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
from pathlib import Path
from typing import Literal, NamedTuple, Self

from model_chat.errors import ConfigurationError, ModelChatError
from model_chat.images._bookkeeping import Bookkeeping, Progress
from model_chat.images._journal import Change, Header, Journal, Place, Verb
from model_chat.images._saved_stack import (
    FOLDER_FLAG,
    JOURNAL_FILE,
    STACK_FILE,
    Places,
    argument_faults,
    find_stack_faults,
    load_for,
    lock_folder,
    named_as_saved,
    read_stack,
    stack_files,
)
from model_chat.records.writing import replace_file

__all__ = [
    "Draw",
    "ImageStack",
    "Place",
    "Progress",
    "StackWriteError",
    "find_stack_faults",
    "read_stack",
    "stack_files",
]

logger = logging.getLogger(__name__)

OnModelChange = Literal["stretch", "stop"]


class StackWriteError(ModelChatError, OSError):
    """A change of the stack could not be put on disk, and was not made. It may be tried again."""


class Draw(NamedTuple):
    """What a worker gets.

    ``image_idx`` and ``model`` are None exactly when ``no_more_work``: nothing that the rules allow is left for them.
    """

    image_idx: int | None
    model: str | None
    no_more_work: bool


_NO_MORE_WORK = Draw(None, None, True)


class ImageStack:
    """The stack of one run, kept in its folder, which no other run can use meanwhile.

    Thread-safe. ``_lock`` owns what is in memory (``_books``, ``_waiting``) and is held for microseconds (longer only
    while ``stack.json`` is composed). The files belong to the one thread that has the turn (``_take_turn``); it takes
    ``_lock`` inside its turn, never the other way round, and writes the changes of everybody who waits: one sync serves
    them all (group commit).

    Use it as a context manager, or call :meth:`close`.

    Args:
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
        self._images_id = images_id
        self._compact_after = max(100, num_images) if compact_after is None else compact_after
        self._lock = threading.Lock()
        self._turn = threading.Condition()  # owns _turn_is_taken and the outcome of every ticket
        self._turn_is_taken = False
        self._waiting: list[_Ticket] = []
        self._closed = False

        self._folder_lock = lock_folder(self.folder)
        try:
            saved = load_for(self.folder, num_images, self.models, images_id, on_model_change)
            if saved is not None:
                self.models = named_as_saved(saved, self.models)
                self._images_id = images_id or saved.images_id
            draws = rng if isinstance(rng, random.Random) else random.Random(rng)
            self._books = Bookkeeping(num_images, self.models, evals_per_image_model_combo, draws, saved)
            replace_file(self.folder / STACK_FILE, self._books.stack_json())
            self._journal = Journal(self.folder / JOURNAL_FILE, self._header())
        except OSError as error:
            self._folder_lock.close()
            raise ConfigurationError(
                f"{FOLDER_FLAG}={self.folder}: the stack can't be read or written ({error}); "
                "check the folder's permissions and the disk's free space, or name another folder."
            ) from error
        except BaseException:
            self._folder_lock.close()
            raise

    # What a run does with it

    def get_next_image(self, worker: str, model: str | None = None) -> Draw:
        """Give the worker a place; it is on disk when this returns.

        Args:
            model: with which model, of a study whose design says so; None: one is drawn.

        Returns:
            the image's index and the model's nickname, or ``Draw(None, None, True)``: nothing is left for this worker.

        Raises:
            StackWriteError: the place could not be put on disk; it is free again.
            ValueError: ``worker`` is no usable id.
        """
        _check_worker(worker)
        with self._lock:
            self._check_open()
            place = self._books.reserve(worker, model)
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
            if place not in self._books.in_flight:
                return False
            ticket = self._submit([Change(Verb.FINISH, place)])
        self._commit(ticket)
        return True

    def remove_worker(self, worker: str, image_idx: int, model: str, *, seen: bool = True) -> bool:
        """Give the place back: the conversation was not finished (or is discarded). It is free once this returns.

        Args:
            seen: whether the worker has seen the image. If so, it is never offered to them again.

        Returns:
            False, and nothing changed, if the worker holds no such place (any more).

        Raises:
            StackWriteError: the change could not be put on disk; the place is still held.
        """
        place = Place(image_idx, model, worker)
        with self._lock:
            self._check_open()
            if place in self._books.being_freed or not self._books.holds(place):
                return False
            self._books.being_freed.add(place)
            # On disk first, free afterwards: else the next holder could be on disk beside this one.
            ticket = self._submit([Change(Verb.GIVE_BACK if seen else Verb.GIVE_BACK_UNSEEN, place)])
        self._commit(ticket)
        return True

    def in_flight(self) -> list[Place]:
        """Return the places of conversations that have neither finished nor given them back, oldest first.

        Right after opening these are what an earlier run left behind when it was killed.
        """
        with self._lock:
            return list(self._books.in_flight)

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
            kept = [place for place in self._books.in_flight if place in done]
            given_back = [place for place in self._books.in_flight if place not in done]
            changes = [Change(Verb.FINISH, place) for place in kept]
            changes += [Change(Verb.GIVE_BACK, place) for place in given_back]
            if not changes:
                return []
            self._books.being_freed.update(given_back)
            ticket = self._submit(changes)
        self._commit(ticket)
        return given_back

    # What a run wants to know

    @property
    def full_images(self) -> int:
        """How many images have no free place."""
        with self._lock:
            return self._books.full_images()

    def outlook(self, worker: str, model: str | None = None) -> tuple[bool, bool]:
        """Say what there is for a worker, with one model or with any, changing nothing.

        Returns:
            whether there is a place for them now, and whether one that others hold could become free for them.
        """
        _check_worker(worker)
        with self._lock:
            return self._books.outlook(worker, model)

    def places(self) -> list[Places]:
        """Return a copy of the stack in the form of ``stack.json``."""
        with self._lock:
            return [
                {model: list(taken.get(model, ())) if taken else [] for model in self.models}
                for taken in self._books.places
            ]

    def progress_by_model(self) -> dict[str, Progress]:
        """Return the numbers of each model over all images."""
        with self._lock:
            return self._books.progress_by_model()

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
                self._folder_lock.close()
        finally:
            self._end_turn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("The image stack is closed.")

    # On disk

    def _submit(self, changes: list[Change]) -> _Ticket:
        """Queue changes for the next sync. Called with ``_lock`` held."""
        ticket = _Ticket(changes)
        self._waiting.append(ticket)
        return ticket

    def _header(self) -> Header:
        """What the journal begins with. Called with ``_lock`` held, or before any thread knows us."""
        return Header(
            num_images=self.num_images,
            models=list(self.models),
            images_id=self._images_id,
            in_flight=list(self._books.in_flight),
            seen={worker: sorted(images) for worker, images in self._books.seen.items()},
        )

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
        except BaseException as failure:  # the threads that wait for this write must hear how it ended
            error = failure
            if not isinstance(failure, OSError):  # Ctrl-C: for this thread alone, but nobody's change was written
                raise
        finally:
            with self._lock:
                for ticket in batch:
                    for change in ticket.changes:
                        self._books.conclude(change, written=error is None)
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
            content, header = self._books.stack_json(), self._header()
        replace_file(self.folder / STACK_FILE, content)
        old, self._journal = self._journal, Journal(self.folder / JOURNAL_FILE, header)
        old.close()


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

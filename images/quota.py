"""The image stack as a quota for worlds, progress and the run: reservations that are completed or released."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from model_chat.conversation.quota import ModelCount, Reservation
from model_chat.conversation.quota import Outlook as Outlook
from model_chat.images.stack import ImageStack, StackWriteError

logger = logging.getLogger(__name__)


@dataclass
class ImageReservation(Reservation):
    """A conversation's place in the stack.

    Attributes:
        seen: whether the worker has been shown the image; if so, it is never offered to them again.
    """

    image_idx: int = field(kw_only=True)
    worker: str = field(kw_only=True)
    seen: bool = field(default=False, kw_only=True)


class ImageQuota:
    """Gives out the places of a stack until enough conversations are collected.

    A change that can't be written (full disk) is made up for with the next one; should the run end before, ``settle`` of
    the next run makes up for it. ``_lock`` guards the counts and what is to be made up for; it is never held while the
    stack writes.

    Args:
        stack: owned from here on; :meth:`close` closes it.
        conversations: wanted in all, those included that the stack has already; at most what the stack has room for.
    """

    def __init__(self, stack: ImageStack, conversations: int) -> None:
        self._stack = stack
        self._conversations = conversations
        self._lock = threading.Lock()
        self._taking = 0  # draws that are on their way
        self._in_flight: Counter[str] = Counter()
        self._collected: Counter[tuple[int, str]] = Counter()
        self._to_write: list[tuple[Callable[[], bool], str]] = []
        self._count()

    def _count(self) -> None:
        """Count what the stack holds, before the first draw."""
        progress = self._stack.progress_by_model()
        self._done = Counter({nickname: of_model.finished for nickname, of_model in progress.items()})
        self._room = sum(map(sum, progress.values()))
        self._wanted = max(min(self._conversations, self._room), self._done.total())

    def take(self, worker: str) -> ImageReservation | None:
        """Take a place for a worker.

        Args:
            worker: the platform's id of the worker, as it is saved.

        Returns:
            the place; None when there is nothing that the rules allow, or enough is collected or being collected.

        Raises:
            StackWriteError: the place could not be put on disk, and is free again.
        """
        self._make_up()
        with self._lock:
            if self._done.total() + self._in_flight.total() + self._taking >= self._wanted:
                return None
            self._taking += 1
        model = None
        try:
            image_idx, model, _ = self._stack.get_next_image(worker)
        finally:
            with self._lock:  # in one step: at no moment does the draw count neither as under way nor as in flight
                self._taking -= 1
                if model is not None:
                    self._in_flight[model] += 1
        if image_idx is None or model is None:
            return None
        return ImageReservation(model, self._end, image_idx=image_idx, worker=worker)

    def outlook(self, worker: str) -> Outlook:
        """Say what there is for a worker; takes nothing."""
        with self._lock:
            room = self._wanted - self._done.total()
            free = room - self._in_flight.total() - self._taking
        now, later = self._stack.outlook(worker)
        if now and free > 0:
            return Outlook.WORK
        return Outlook.LATER if (now or later) and room > 0 else Outlook.NOTHING

    def _end(self, place: ImageReservation, collected: bool) -> None:
        with self._lock:
            if place.is_ended:
                return
            place.is_ended = True
            self._in_flight[place.nickname] -= 1
            if collected:
                self._done[place.nickname] += 1
                self._collected[place.image_idx, place.nickname] += 1
        of = (place.worker, place.image_idx, place.nickname)
        if collected:
            self._write(lambda: self._stack.finish(*of), f"the finished conversation of {place}")
            self._log_collected(place.image_idx)
        else:
            self._write(lambda: self._stack.remove_worker(*of, seen=place.seen), f"the place given back by {place}")

    def _write(self, change: Callable[[], bool], what: str) -> None:
        try:
            change()
        except (StackWriteError, RuntimeError) as error:  # RuntimeError: the run has ended, and the stack is closed
            logger.error("The stack could not take in %s (%s); it will be made up for.", what, error)
            with self._lock:
                self._to_write.append((change, what))

    def _make_up(self) -> None:
        if not self._to_write:
            return
        with self._lock:
            waiting, self._to_write = self._to_write, []
        for change, what in waiting:
            self._write(change, what)

    def counts(self) -> list[ModelCount]:
        """Return how far each model is; ``needed`` is what the stack has room for."""
        room = self._stack.num_images * self._stack.evals_per_image_model_combo
        with self._lock:
            return [
                ModelCount(nickname, self._done[nickname], self._in_flight[nickname], max(room, self._done[nickname]))
                for nickname in self._stack.models
            ]

    def remaining(self) -> int:
        """Return how many conversations are still wanted, those in flight included."""
        with self._lock:
            return max(0, self._wanted - self._done.total())

    def wanted(self) -> int:
        """Return how many conversations are wanted in all; never more than the stack has room for."""
        with self._lock:
            return self._wanted

    def extend(self, more: int) -> int:
        """Want so many more conversations in all, as far as the stack has room; return how many more that are.

        0 where everything is collected: the run is then ending.
        """
        with self._lock:
            before = self._wanted
            if self._done.total() >= before:
                return 0
            self._wanted = max(before, min(before + more, self._room))
            return self._wanted - before

    def run_statistics(self) -> dict[str, dict[str, int]]:
        """Return how many conversations this run has collected, per model and per image."""
        by_model: Counter[str] = Counter(dict.fromkeys(self._stack.models, 0))
        by_image: Counter[str] = Counter()
        with self._lock:
            for (image_idx, nickname), count in sorted(self._collected.items()):
                by_model[nickname] += count
                by_image[str(image_idx)] += count
        return {"by_model": dict(by_model), "by_image": dict(by_image)}

    def _log_collected(self, image_idx: int) -> None:
        """Log what the run has collected with each model, and about one image: all images would be a long line."""
        with self._lock:
            by_model = dict.fromkeys(self._stack.models, 0)
            for (_, nickname), count in self._collected.items():
                by_model[nickname] += count
            of_image = {nickname: self._collected[image_idx, nickname] for nickname in self._stack.models}
        logger.info("run_statistics: by model %s; image %d: %s", by_model, image_idx, of_image)

    def notes(self) -> list[str]:
        """Return how many images have no free place."""
        return [f"images: {self._stack.full_images} of {self._stack.num_images} given out in full"]

    def left_in_flight(self) -> bool:
        """Whether a run that was killed has left conversations in flight; before the first draw."""
        return bool(self._stack.in_flight())

    def settle(self, finished: Iterable[tuple[int, str, str]]) -> None:
        """Sort out what a run that was killed has left in flight (``ImageStack.settle``); before the first draw.

        Args:
            finished: ``(image_idx, model, worker)`` of the conversations that are saved as complete.
        """
        given_back = self._stack.settle(finished)
        if given_back:
            logger.info("%d conversations of an earlier run were not finished; their places are free.", len(given_back))
        self._count()

    def close(self) -> None:
        """Make up for what could not be written, say what the run has collected, and close the stack."""
        self._make_up()
        if self._collected:
            logger.info("run_statistics: %s", self.run_statistics())
        self._stack.close()

"""How conversations end in the stack: what could not be written is made up for, and what was collected is counted."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable

from model_chat.conversation.quota import Reservation
from model_chat.images.stack import ImageStack, StackWriteError

logger = logging.getLogger(__name__)


class StackAccount:
    """The ends of a run's conversations, in its stack.

    A change that can't be written (full disk) is made up for with the next one; should the run end before, ``settle`` of
    the next run makes up for it. ``_lock`` guards the counts and what is to be made up for; it is never held while the
    stack writes.

    Args:
        stack: the stack.
    """

    def __init__(self, stack: ImageStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._collected: Counter[tuple[int, str]] = Counter()
        self._to_write: list[tuple[Callable[[], bool], str]] = []

    def end(self, reservation: Reservation[int], collected: bool) -> None:
        """Write the end of a conversation; of one that is complete, log what the run has collected about its image."""
        image_idx, nickname, seen = reservation.subject, reservation.nickname, reservation.seen
        of = (reservation.worker, image_idx, nickname)
        if not collected:
            self._write(lambda: self._stack.remove_worker(*of, seen=seen), f"the release of {reservation}")
            return
        with self._lock:
            self._collected[image_idx, nickname] += 1
        self._write(lambda: self._stack.finish(*of), f"the finished conversation of {reservation}")
        self._log_collected(image_idx)

    def _write(self, change: Callable[[], bool], what: str) -> None:
        try:
            change()
        except (StackWriteError, RuntimeError) as error:  # RuntimeError: the run has ended, and the stack is closed
            logger.error("The stack could not take in %s (%s); it will be made up for.", what, error)
            with self._lock:
                self._to_write.append((change, what))

    def make_up(self) -> None:
        """Try once more what could not be written before."""
        if not self._to_write:
            return
        with self._lock:
            waiting, self._to_write = self._to_write, []
        for change, what in waiting:
            self._write(change, what)

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

    def close(self) -> None:
        """Make up for what could not be written, say what the run has collected, and close the stack."""
        self.make_up()
        if self._collected:
            logger.info("run_statistics: %s", self.run_statistics())
        self._stack.close()

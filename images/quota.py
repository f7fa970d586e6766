"""The image stack as a quota for worlds, progress and the run: reservations that are completed or released."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from model_chat.conversation.quota import ModelCount, Reservation
from model_chat.conversation.quota import Outlook as Outlook
from model_chat.images._account import StackAccount
from model_chat.images.stack import ImageStack
from model_chat.records.extensions import NUM_CONVERSATIONS, Extensions


class ImageQuota:
    """Gives out the conversations of a stack until enough conversations are collected.

    ``_lock`` guards the counts; it is never held while the stack writes, but while an extension is kept.

    Args:
        stack: owned from here on; :meth:`close` closes it.
        conversations: wanted in all, those included that the stack has already; at most what the stack has room for.
        extensions: where it is kept how many are wanted once they are extended; None: for this run only.
    """

    def __init__(self, stack: ImageStack, conversations: int, extensions: Extensions | None = None) -> None:
        self._extensions = extensions
        self._stack = stack
        self._conversations = conversations
        self._account = StackAccount(stack)
        self._lock = threading.Lock()
        self._taking = 0  # draws that are on their way
        self._in_flight: Counter[str] = Counter()
        self._count()

    def _count(self) -> None:
        """Count what the stack holds, before the first draw."""
        progress = self._stack.progress_by_model()
        self._done = Counter({nickname: of_model.finished for nickname, of_model in progress.items()})
        self._room = sum(map(sum, progress.values()))
        self._wanted = max(min(self._conversations, self._room), self._done.total())

    def take(self, worker: str) -> Reservation[int] | None:
        """Reserve a conversation for a worker.

        Args:
            worker: the platform's id of the worker, as it is saved.

        Returns:
            the reservation, whose subject is the image's index; None when there is nothing that the rules allow, or enough
            is collected or being collected.

        Raises:
            StackWriteError: it could not be put on disk, and does not count.
        """
        self._account.make_up()
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
        return Reservation(model, worker, image_idx, self._end)

    def outlook(self, worker: str) -> Outlook:
        """Say what there is for a worker; takes nothing."""
        with self._lock:
            room = self._wanted - self._done.total()
            free = room - self._in_flight.total() - self._taking
        now, later = self._stack.outlook(worker)
        if now and free > 0:
            return Outlook.WORK
        return Outlook.LATER if (now or later) and room > 0 else Outlook.NOTHING

    def _end(self, reservation: Reservation[int], collected: bool) -> None:
        with self._lock:
            if reservation.is_ended:
                return
            reservation.is_ended = True
            self._in_flight[reservation.nickname] -= 1
            self._done[reservation.nickname] += collected
        self._account.end(reservation, collected)

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

        Raises:
            OSError: it can't be kept for later runs; nothing has changed.
        """
        with self._lock:
            before = self._wanted
            wanted = max(before, min(before + more, self._room))
            if self._done.total() >= before or wanted == before:
                return 0
            if self._extensions is not None:
                self._extensions.save({NUM_CONVERSATIONS: wanted})
            self._wanted = wanted
            return wanted - before

    def run_statistics(self) -> dict[str, dict[str, int]]:
        """Return how many conversations this run has collected, per model and per image."""
        return self._account.run_statistics()

    def notes(self) -> list[str]:
        """Return how many images have no free place."""
        return self._account.notes()

    def left_in_flight(self) -> bool:
        """Whether a run that was killed has left conversations in flight; before the first draw."""
        return self._account.left_in_flight()

    def settle(self, finished: Iterable[tuple[int, str, str]]) -> None:
        """Sort out what a run that was killed has left in flight (``ImageStack.settle``); before the first draw.

        Args:
            finished: ``(image_idx, model, worker)`` of the conversations that are saved as complete.
        """
        self._account.settle(finished)
        self._count()

    def close(self) -> None:
        """Make up for what could not be written, say what the run has collected, and close the stack."""
        self._account.close()

"""The quota: which model the next conversation is with."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, Self, TypeVar

from model_chat.errors import ModelChatError
from model_chat.records.extensions import Extensions

if TYPE_CHECKING:
    from model_chat.conversation.design_quota import Condition

Subject = TypeVar("Subject")


class Outlook(Enum):
    """What there is for a worker."""

    WORK = "work"
    """A conversation that they may have now."""
    LATER = "later"
    """Nothing now, but something that others hold, and may give back."""
    NOTHING = "nothing"
    """Nothing, whatever others do."""


class ModelCount(NamedTuple):
    """How far the collection for one model is."""

    nickname: str
    done: int
    in_flight: int
    needed: int


class NoReservationLeftError(ModelChatError, RuntimeError):
    """Every model has all the conversations it needs, or the models have cost what they may."""


@dataclass
class Reservation(Generic[Subject]):
    """One conversation that is reserved in a quota: then either completed or released, once.

    Attributes:
        nickname: of the model, or the pair of models.
        worker: the platform's id of whoever has it.
        subject: what the conversation is about: the index of an image, a finished conversation that is annotated, or None.
        end: the quota's method that counts the conversation as collected (True) or lets another one have it (False), unless
            ``is_ended``, which it guards by its lock.
        condition: by the study's design; None without one.
        seen: whether the worker has been shown the image; if so, it is never offered to them again.
    """

    nickname: str
    worker: str
    subject: Subject
    end: Callable[[Reservation[Subject], bool], None] = field(repr=False)
    condition: Condition | None = None
    seen: bool = False
    is_ended: bool = field(default=False, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        """Release it if an exception leaves the block."""
        if kind is not None:
            self.release()

    def complete(self) -> None:
        """Count the conversation, which is saved, as collected."""
        self.end(self, True)

    def release(self) -> None:
        """Let another conversation have it."""
        self.end(self, False)


class Quota(Protocol):
    """What is still to be collected; text chat counts models, image chat images and models. Thread-safe."""

    def take(self, worker: str) -> Reservation[Any] | None:
        """Reserve a conversation for this worker; None when there is none."""

    def counts(self) -> list[ModelCount]:
        """Return how far each model is."""

    def remaining(self) -> int:
        """Return how many conversations are still wanted, those in flight included."""

    def wanted(self) -> int:
        """Return how many conversations are wanted in all, those that are done included."""

    def extend(self, more: int) -> int:
        """Want so many more conversations with each model; return how many that are in all.

        0 where that is not possible, or where everything is collected: the run is then ending.

        Raises:
            OSError: it can't be kept for later runs; nothing has changed.
        """

    def notes(self) -> list[str]:
        """Return what else is to be said about how far the collection is, in a few words each."""

    def close(self) -> None:
        """Let go of files that are held."""


class ConversationQuota:
    """Conversations needed, in flight and done for each model.

    Conversations in flight count as taken, so that workers who arrive at once never get more than is needed. The quota is
    the owner of these counts; ``_lock`` guards them.

    Args:
        needed: nickname -> conversations wanted in all.
        done: nickname -> conversations collected before (by earlier runs of the task).
        seed: of the random choice among models that are needed equally.
        extensions: where it is kept how many are wanted once they are extended; None: for this run only.
    """

    def __init__(
        self,
        needed: Mapping[str, int],
        done: Mapping[str, int] | None = None,
        seed: int = 42,
        extensions: Extensions | None = None,
    ) -> None:
        self._extensions = extensions
        self._lock = threading.Lock()
        self._needed = dict(needed)
        self._done = {nickname: (done or {}).get(nickname, 0) for nickname in needed}
        self._in_flight = dict.fromkeys(needed, 0)
        self._rng = random.Random(seed)

    def take(self, worker: str = "") -> Reservation[None] | None:
        """Reserve a conversation with the model that needs most; ties are broken at random.

        Returns:
            the reservation, or None when every model has all it needs, conversations in flight included.
        """
        with self._lock:
            missing = {
                nickname: needed - self._done[nickname] - self._in_flight[nickname]
                for nickname, needed in self._needed.items()
            }
            most = max(missing.values(), default=0)
            if most <= 0:
                return None
            nickname = self._rng.choice([name for name, count in missing.items() if count == most])
            self._in_flight[nickname] += 1
            return Reservation(nickname, worker, None, self._end)

    def _end(self, reservation: Reservation[None], collected: bool) -> None:
        with self._lock:
            if reservation.is_ended:
                return
            reservation.is_ended = True
            self._in_flight[reservation.nickname] -= 1
            self._done[reservation.nickname] += collected

    def counts(self) -> list[ModelCount]:
        """Return how far each model is, in the order in which they were given."""
        with self._lock:
            return [
                ModelCount(nickname, self._done[nickname], self._in_flight[nickname], needed)
                for nickname, needed in self._needed.items()
            ]

    def extend(self, more: int) -> int:
        """Want so many more conversations with each model; see :class:`Quota`."""
        with self._lock:
            if all(self._done[nickname] >= needed for nickname, needed in self._needed.items()):
                return 0
            wanted = {nickname: needed + more for nickname, needed in self._needed.items()}
            if self._extensions is not None:
                self._extensions.save(wanted)
            self._needed = wanted
            return more * len(self._needed)

    def remaining(self) -> int:
        """Return how many conversations are still wanted in all, those in flight included."""
        with self._lock:
            return sum(max(0, needed - self._done[nickname]) for nickname, needed in self._needed.items())

    def wanted(self) -> int:
        """Return how many conversations are wanted in all."""
        with self._lock:
            return sum(self._needed.values())

    def notes(self) -> list[str]:
        """Return nothing: the counts say it all."""
        return []

    def close(self) -> None:
        """Nothing is held."""

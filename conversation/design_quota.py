"""The quota of a design: cells in place of models, and every draw on disk before it counts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from model_chat.configuration.study_design import MODEL, PROMPT, Cell, StudyDesign
from model_chat.conversation.allocation import Allocation, AllocationError, Entry, Event, replay
from model_chat.conversation.quota import ModelCount, Outlook, Reservation
from model_chat.errors import ConfigurationError
from model_chat.records.journal import ALLOCATION_NAME as ALLOCATION_NAME
from model_chat.records.journal import Journal, read_journal

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Condition:
    """The condition of one conversation.

    Attributes:
        number: of the conversation in ``allocation.jsonl``.
    """

    cell: Cell
    number: int
    quota: DesignQuota = field(repr=False)

    @property
    def prompt(self) -> str | None:
        """What is added to the model's system prompt; None where that is no factor."""
        text = self.quota.design.value(self.cell, PROMPT)
        return None if text is None else str(text)

    @property
    def flags(self) -> dict[str, Any]:
        """Flags of the run that this conversation has other values of."""
        return self.quota.design.flag_values(self.cell)


class DesignQuota:
    """Gives out the cells of a design (:class:`~model_chat.conversation.quota.Quota`).

    ``_lock`` guards the allocation and its journal: a draw is made, put on disk and counted under it. An ending that can't
    be written (full disk) counts at once and is written with the next event; should the run die before, the records tell how
    the conversation ended (:meth:`~model_chat.conversation.allocation.Allocation.reconcile`).

    Args:
        path: of ``allocation.jsonl``; nothing is written before the first draw.
        task_name: in full; the file may hold other tasks' events, too.
        model: of every conversation, where the model is no factor.
        finished: worker, conditions and stratum of each complete conversation in the records; none with ``resume`` off.
        resume: whether what earlier runs collected counts.

    Raises:
        ConfigurationError: the file was made by another design, or is damaged.
    """

    def __init__(
        self,
        design: StudyDesign,
        path: Path,
        task_name: str,
        model: str | None = None,
        finished: Iterable[tuple[str, int, str | None]] = (),
        resume: bool = True,
    ) -> None:
        self.design = design
        self._task_name = task_name
        self._model = model
        self._lock = threading.Lock()
        self._journal = Journal(path)
        self._state = self._earlier(path) if resume else Allocation(design)
        self._to_write: list[Entry] = []
        start = self._state.start(resume)
        self._state.apply(start)
        self._to_write.append(start)
        for entry in self._state.reconcile(finished):
            self._state.apply(entry)
            self._to_write.append(entry)

    def _earlier(self, path: Path) -> Allocation:
        """What earlier runs of the task have given out."""
        entries = [entry for entry in read_journal(path) if entry.get("task") == self._task_name]
        starts = [
            at for at, entry in enumerate(entries) if entry.get("event") == Event.START and not entry.get("resume")
        ]
        entries = entries[starts[-1] :] if starts else entries
        made_by = [entry.get("design") for entry in entries if entry.get("event") == Event.START]
        if any(one != self.design.fingerprint() for one in made_by):
            raise ConfigurationError(
                f"mephisto.blueprint.design_path: '{self._task_name}' has begun with other factors, levels, orders or "
                f"another seed ('{path}'); restore the design, or give another mephisto.task.task_name."
            )
        try:
            return replay(self.design, entries)
        except AllocationError as error:
            raise ConfigurationError(
                f"mephisto.blueprint.design_path: '{path}' is damaged: {error}. Restore it from a copy, or move it away: "
                "what is collected counts all the same."
            ) from None

    def take(self, worker: str = "") -> Reservation[Any] | None:
        """Reserve a conversation in the cell that comes next for a worker.

        Returns:
            the reservation; None when there is none for this worker now.

        Raises:
            OSError: the draw could not be put on disk, and does not count.
        """
        with self._lock:
            self._make_up()
            entries = self._state.take(worker, partial(self._has_now, worker))
            if not entries:
                return None
            reservation = self._reserve(worker, entries[-1])
            try:
                self._write(entries)
            except BaseException:
                self._release(reservation, collected=False)
                raise
            for entry in entries:
                self._state.apply(entry)
            return reservation

    # --- what else a conversation takes beside its cell; called under the lock ---

    def _has_now(self, worker: str, cell: int) -> bool:
        """Whether there is what else a worker's conversation in a cell takes."""
        del worker, cell
        return True

    def _may_have_later(self, worker: str, cell: int) -> bool:
        """Whether there is such, or may be when others give it back."""
        del worker, cell
        return True

    def _reserve(self, worker: str, taken: Entry) -> Reservation[Any]:
        """Make the reservation of an event ``take`` that is about to be written; may add to the event."""
        return self._reservation(worker, None, taken)

    def _reservation(self, worker: str, subject: Any, taken: Entry) -> Reservation[Any]:
        condition = Condition(self.design.cells[taken["cell"]], taken["number"], self)
        return Reservation(self._model_of(taken["cell"]), worker, subject, self._settle, condition)

    def _model_of(self, cell: int) -> str:
        return str(self.design.value(self.design.cells[cell], MODEL) or self._model)

    def _release(self, reservation: Reservation[Any], collected: bool) -> None:
        """Let go of what else the conversation took."""

    def _make_up(self) -> None:
        """Try once more what could not be written elsewhere."""

    def _write(self, entries: list[Entry]) -> None:
        """Put events on disk, after those that could not be written before."""
        lines = [{"task": self._task_name, **entry} for entry in [*self._to_write, *entries]]
        self._journal.append(lines, durable=True)
        self._to_write.clear()

    def _settle(self, reservation: Reservation[Any], collected: bool) -> None:
        with self._lock:
            if reservation.is_ended or reservation.condition is None:
                return
            reservation.is_ended = True
            self._release(reservation, collected)
            event = Event.FINISH if collected else Event.LEAVE
            entry: Entry = {"event": event.value, "number": reservation.condition.number}
            self._state.apply(entry)
            try:
                self._write([entry])
            except OSError as error:
                logger.error("The end of a conversation can't be written to %s (%s)", self._journal.path, error)
                self._to_write.append(entry)

    def enter_stratum(self, reservation: Reservation[Any], answer: str) -> bool:
        """Count a conversation for the stratum of an answer; return False if it is full, or not wanted.

        The caller then ends the conversation with :data:`~model_chat.conversation.allocation.SCREENED_OUT`, and releases
        the reservation.

        Raises:
            OSError: it could not be put on disk.
        """
        with self._lock:
            if reservation.is_ended or reservation.condition is None:  # what is written now could not be replayed
                return False
            entries = self._state.enter_stratum(reservation.condition.number, answer)
            if entries:
                self._write(entries)
                self._state.apply(entries[0])
            return bool(entries)

    def outlook(self, worker: str) -> Outlook:
        """Say what there is for a worker; takes nothing."""
        with self._lock:
            now, later = self._state.may_come(
                worker, partial(self._has_now, worker), partial(self._may_have_later, worker)
            )
        return Outlook.WORK if now else Outlook.LATER if later else Outlook.NOTHING

    def counts(self) -> list[ModelCount]:
        """Return how far each cell is; ``nickname`` is the cell's conditions."""
        with self._lock:
            return [
                ModelCount(
                    cell.label,
                    self._state.done[cell.index],
                    self._state.in_flight[cell.index],
                    self.design.conversations_per_cell,
                )
                for cell in self.design.cells
            ]

    def remaining(self) -> int:
        """Return how many conversations are still wanted in all, those in flight included."""
        with self._lock:
            return sum(max(0, self.design.conversations_per_cell - done) for done in self._state.done)

    def wanted(self) -> int:
        """Return how many conversations are wanted in all."""
        return self.design.total

    def extend(self, more: int) -> int:
        """Want no more: how many a cell needs is part of the design, by which every draw can be recomputed."""
        del more
        return 0

    def notes(self) -> list[str]:
        """Return how far the strata are."""
        strata = self.design.strata
        if strata is None:
            return []
        with self._lock:
            done = dict(self._state.strata_done)
        return [
            f"{strata.item} {answer}: {done.get(answer, 0)} of {wanted}" for answer, wanted in strata.counts.items()
        ]

    def close(self) -> None:
        """Write what could not be written before, and close the file."""
        with self._lock:
            if self._to_write and self._journal.path.exists():
                try:
                    self._write([])
                except OSError as error:  # the records tell the next run
                    logger.error("%s can't be written (%s)", self._journal.path, error)
            self._journal.close()

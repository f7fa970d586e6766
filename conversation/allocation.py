"""Who gets which condition: cells fill evenly, a worker's sequence is fixed on arrival, and every draw can be recomputed.

:class:`Allocation` is what the events of an ``allocation.jsonl`` add up to. It makes no draw that the design's seed and the
events before it don't determine: no clock, no random state of its own. :mod:`model_chat.conversation.design_quota` locks it,
and puts each event on disk before it counts.

A worker who arrives gets the sequence whose first condition has the fewest conversations, finished and in flight; among
those, the sequence that fewest workers go through; among those, one is drawn. No cell is ever given to more conversations
than it still needs: so each ends with exactly as many as it needs, whoever leaves.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from model_chat.configuration.study_design import Cell, Order, StudyDesign
from model_chat.conversation.latin_squares import williams_square
from model_chat.errors import ModelChatError

Entry = dict[str, Any]
"""One event, JSON types only."""
SCREENED_OUT = "screened_out"
"""The ending of a worker whose stratum is full."""


def anything(cell: int) -> bool:
    """Allow a conversation in any cell."""
    del cell
    return True


class Event(StrEnum):
    """What happens to an allocation."""

    START = "start"
    """A run begins: ``design`` is the fingerprint, ``conversations_per_cell`` as wanted from now on; with ``resume`` false,
    everything before it is forgotten."""
    ARRIVE = "arrive"
    """A worker came for the first time, and got ``sequence`` (cells)."""
    TAKE = "take"
    """Conversation ``number`` of a worker began, in ``cell``."""
    STRATUM = "stratum"
    """The worker of conversation ``number`` gave ``answer`` to the item of the strata."""
    FINISH = "finish"
    """Conversation ``number`` is complete."""
    LEAVE = "leave"
    """Conversation ``number`` ended before; its place is free."""
    COUNT = "count"
    """The records of an earlier run have ``by`` more (or fewer) complete conversations of a worker in a cell."""


class AllocationError(ModelChatError, ValueError):
    """Events that this design can't have made; the message says which."""


@dataclass
class WorkerState:
    """What is known of one worker.

    Attributes:
        sequence: cells, in the order of the conversations.
        finished, in_flight: cell -> conversations.
        answers: cell -> to the item of the strata, in finished conversations.
    """

    sequence: tuple[int, ...]
    finished: Counter[int] = field(default_factory=Counter)
    in_flight: Counter[int] = field(default_factory=Counter)
    answers: dict[int, list[str]] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether any conversation counts, or may come to count."""
        return bool(self.finished.total() or self.in_flight.total())


@dataclass
class Taken:
    """A conversation that is in flight."""

    worker: str
    cell: int
    answer: str | None = None


class Allocation:
    """The state of a design. Not thread-safe; its owner locks."""

    def __init__(self, design: StudyDesign) -> None:
        self.design = design
        self._groups = [tuple(cell.index for cell in group) for group in design.groups()]
        self._rows = [list(self._rows_of(group)) for group in self._groups]
        self.fingerprint: str | None = None
        """Of the design of the last start."""
        self.per_cell = design.conversations_per_cell
        """Conversations wanted of each cell, by the last start."""
        self._forget()

    def _forget(self) -> None:
        """Be as before the first event."""
        self.done = [0] * len(self.design.cells)
        self.in_flight = [0] * len(self.design.cells)
        self.workers: dict[str, WorkerState] = {}
        self.taken: dict[int, Taken] = {}
        self.strata_done: Counter[str] = Counter()
        self.strata_in_flight: Counter[str] = Counter()
        self._next_number = 0
        self._arrivals = 0
        self._used: Counter[tuple[int, ...]] = Counter()

    def _rows_of(self, group: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """The sequences through the cells of a group; none where each is drawn."""
        if self.design.order is Order.LATIN_SQUARE:
            for row in williams_square(len(group)):
                yield tuple(group[at] for at in row)
        elif self.design.order is Order.FIXED:
            yield group

    # --- what may happen next ---

    def has_room(self, cell: int) -> bool:
        """Whether a cell needs one more conversation, those in flight counted as done."""
        return self.done[cell] + self.in_flight[cell] < self.per_cell

    def next_cell(self, worker: str, allows: Callable[[int], bool] = anything) -> int | None:
        """Return the cell of a known worker's next conversation; None when there is none now.

        Args:
            allows: whether there is what else a conversation in a cell takes, such as an image.
        """
        state = self.workers[worker]
        return next((cell for cell in self._open(state) if self.has_room(cell) and allows(cell)), None)

    def _open(self, state: WorkerState) -> Iterator[int]:
        """Cells of the sequence that the worker has not yet had; without within factors, the only one again and again."""
        for cell in state.sequence:
            if not self.design.within or not (state.finished[cell] or state.in_flight[cell]):
                yield cell

    def may_come(
        self, worker: str, allows: Callable[[int], bool] = anything, may_allow: Callable[[int], bool] = anything
    ) -> tuple[bool, bool]:
        """Return whether there is something for a worker now, and whether there may be later, as for all who are new.

        Args:
            allows: see :meth:`next_cell`.
            may_allow: the same, for later.
        """
        state = self.workers.get(worker)
        cells = range(len(self.done)) if state is None else list(self._open(state))
        now = any(self.has_room(cell) and allows(cell) for cell in cells)
        if state is not None and self.design.within:  # one that is in flight may be given back
            cells = [cell for cell in state.sequence if not state.finished[cell]]
        later = any(self.done[cell] < self.per_cell and may_allow(cell) for cell in cells)
        return now, now or later or state is None

    def draw(self) -> tuple[int, ...] | None:
        """Draw the sequence of a worker who comes for the first time; None when every cell is given out."""
        rng = random.Random(f"{self.design.seed}|{self._arrivals}")
        candidates: list[tuple[int, int, tuple[int, ...]]] = []
        for group, rows in zip(self._groups, self._rows, strict=True):
            for row in rows or self._shuffled(group, rng):
                first = next((cell for cell in row if self.has_room(cell)), None)
                if first is not None:
                    candidates.append((self.done[first] + self.in_flight[first], self._used[row], row))
        if not candidates:
            return None
        best = min(candidates)[:2]
        return rng.choice([row for *score, row in candidates if tuple(score) == best])

    @staticmethod
    def _shuffled(group: tuple[int, ...], rng: random.Random) -> Iterator[tuple[int, ...]]:
        """A random order of the cells of a group for each that may come first."""
        for first in group:
            rest = [cell for cell in group if cell != first]
            rng.shuffle(rest)
            yield (first, *rest)

    def start(self, resume: bool) -> Entry:
        """Return the event by which a run begins."""
        return {
            "event": Event.START.value,
            "design": self.design.fingerprint(),
            "conversations_per_cell": self.design.conversations_per_cell,
            "resume": resume,
        }

    def take(self, worker: str, allows: Callable[[int], bool] = anything) -> list[Entry]:
        """Return the events by which a worker gets a conversation; none when there is nothing for them.

        Args:
            allows: see :meth:`next_cell`.
        """
        entries: list[Entry] = []
        state = self.workers.get(worker)
        if state is None:
            sequence = self.draw()
            if sequence is None:
                return []
            entries.append({"event": Event.ARRIVE.value, "worker_id": worker, "sequence": list(sequence)})
            cell = next((cell for cell in sequence if self.has_room(cell) and allows(cell)), None)
        else:
            cell = self.next_cell(worker, allows)
        if cell is None:
            return []
        taken = {"number": self._next_number, "worker_id": worker, "cell": cell}
        conditions = self.design.cells[cell].conditions
        return [*entries, {"event": Event.TAKE.value, **taken, "conditions": conditions}]

    def enter_stratum(self, number: int, answer: str) -> list[Entry]:
        """Return the event by which a conversation counts for a stratum; none when it is full, or there is no such."""
        strata = self.design.strata
        wanted = 0 if strata is None else strata.counts.get(answer, 0)
        if self.strata_done[answer] + self.strata_in_flight[answer] >= wanted:
            return []
        return [{"event": Event.STRATUM.value, "number": number, "answer": answer}]

    def reconcile(self, finished: Iterable[tuple[str, int, str | None]]) -> list[Entry]:
        """Return the events that bring the state in line with what is saved, before the first draw of a run.

        Args:
            finished: worker, cell and stratum of each complete conversation in the records.
        """
        entries: list[Entry] = []
        saved: Counter[tuple[str, int]] = Counter()
        answers: dict[tuple[str, int], list[str | None]] = {}
        for worker, cell, answer in finished:
            saved[worker, cell] += 1
            answers.setdefault((worker, cell), []).append(answer)
        known = Counter(
            {(worker, cell): count for worker, state in self.workers.items() for cell, count in state.finished.items()}
        )
        for number, taken in sorted(self.taken.items()):
            key = taken.worker, taken.cell
            is_saved = saved[key] > known[key]
            known[key] += is_saved
            entries.append({"event": (Event.FINISH if is_saved else Event.LEAVE).value, "number": number})
        for worker, cell in sorted(saved.keys() | known.keys()):
            by = saved[worker, cell] - known[worker, cell]
            if by:
                entry: Entry = {"event": Event.COUNT.value, "worker_id": worker, "cell": cell, "by": by}
                if by > 0 and self.design.strata is not None:
                    entry["answers"] = answers[worker, cell][-by:]
                entries.append(entry)
        return entries

    # --- what has happened ---

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Take one event into account.

        Raises:
            AllocationError: this design, and the events before it, can't have led to it.
        """
        try:
            self._apply(entry)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise AllocationError(f"the entry {dict(entry)} does not fit ({error!r:.200})") from None

    def _apply(self, entry: Mapping[str, Any]) -> None:
        event = Event(entry["event"])
        if event is Event.START:
            if not entry["resume"]:
                self._forget()
            self.fingerprint, self.per_cell = entry["design"], _whole(entry["conversations_per_cell"])
        elif event is Event.ARRIVE:
            sequence = tuple(self._cell(cell) for cell in entry["sequence"])
            if not sequence or entry["worker_id"] in self.workers:
                raise ValueError("no sequence, or a second one")
            self.workers[entry["worker_id"]] = WorkerState(sequence)
            self._arrivals += 1
        elif event is Event.TAKE:
            self._take(_whole(entry["number"]), entry["worker_id"], self._cell(entry["cell"]))
        elif event is Event.STRATUM:
            if self.taken[entry["number"]].answer is not None:
                raise ValueError("the conversation has a stratum")
            self.taken[entry["number"]].answer = entry["answer"]
            self.strata_in_flight[entry["answer"]] += 1
        elif event is Event.COUNT:
            self._count(entry)
        else:
            self._settle(entry["number"], event is Event.FINISH)

    def _cell(self, cell: Any) -> int:
        if _whole(cell) >= len(self.done):
            raise ValueError(f"there is no cell {cell}")
        return int(cell)

    def _take(self, number: int, worker: str, cell: int) -> None:
        state = self.workers[worker]
        if number < self._next_number:
            raise ValueError(f"the number {number} is given already")
        with self._counting(state):
            state.in_flight[cell] += 1
        self.in_flight[cell] += 1
        self.taken[number] = Taken(worker, cell)
        self._next_number = number + 1

    def _settle(self, number: int, finished: bool) -> None:
        taken = self.taken.pop(number)
        state = self.workers[taken.worker]
        with self._counting(state):
            state.in_flight[taken.cell] -= 1
            state.finished[taken.cell] += finished
        self.in_flight[taken.cell] -= 1
        self.done[taken.cell] += finished
        if taken.answer is not None:
            self.strata_in_flight[taken.answer] -= 1
            if finished:
                self._keep_answer(state, taken.cell, taken.answer)

    def _count(self, entry: Mapping[str, Any]) -> None:
        cell, by = self._cell(entry["cell"]), entry["by"]
        state = self.workers.setdefault(entry["worker_id"], WorkerState(self._sequence_with(cell)))
        with self._counting(state):
            state.finished[cell] += by
        self.done[cell] += by
        for answer in entry.get("answers", ()):
            if answer is not None:
                self._keep_answer(state, cell, answer)
        for _ in range(min(-by, len(state.answers.get(cell, ())))):  # rejected: its stratum has room again
            self.strata_done[state.answers[cell].pop()] -= 1

    def _keep_answer(self, state: WorkerState, cell: int, answer: str) -> None:
        state.answers.setdefault(cell, []).append(answer)
        self.strata_done[answer] += 1

    def _sequence_with(self, cell: int) -> tuple[int, ...]:
        """A sequence for a worker of whom only the records know."""
        group = next(group for group in self._groups if cell in group)
        return (cell, *(other for other in group if other != cell)) if self.design.within else (cell,)

    @contextmanager
    def _counting(self, state: WorkerState) -> Iterator[None]:
        """Keep count, around a change, of how many active workers go through each sequence."""
        was = state.is_active
        yield
        self._used[state.sequence] += state.is_active - was


def _whole(value: Any) -> int:
    """A number that a file holds.

    Raises:
        ValueError: it is no whole number of at least 0.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is no whole number of at least 0")
    return value


def replay(design: StudyDesign, entries: Iterable[Mapping[str, Any]], check_draws: bool = False) -> Allocation:
    """Return the state that events add up to.

    Args:
        check_draws: whether each sequence is drawn again, and compared.

    Raises:
        AllocationError: they were not made by this design.
    """
    state = Allocation(design)
    for entry in entries:
        if check_draws and entry.get("event") == Event.ARRIVE:
            drawn = state.draw()
            if drawn is None or list(drawn) != entry["sequence"]:
                raise AllocationError(f"the entry {dict(entry)} is not what the seed {design.seed} draws ({drawn})")
        state.apply(entry)
    return state


def cell_of(design: StudyDesign, conditions: Mapping[str, str] | None) -> Cell | None:
    """Return the cell of saved conditions; None where the design has no such."""
    return next((cell for cell in design.cells if cell.conditions == conditions), None)

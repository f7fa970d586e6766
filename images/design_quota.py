"""The quota of an image chat with a design: each conversation is reserved in a cell and in the stack, or in neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from model_chat.configuration.study_design import StudyDesign
from model_chat.conversation.allocation import Entry
from model_chat.conversation.design_quota import DesignQuota
from model_chat.conversation.quota import Reservation
from model_chat.errors import ConfigurationError
from model_chat.images._account import StackAccount
from model_chat.images.stack import ImageStack


class ImageDesignQuota(DesignQuota):
    """Gives out the cells of a design, each with the next image of the stack for its model.

    Both are reserved and released under the one lock of :class:`DesignQuota`. The stack comes first in both directions: a
    cell that needs conversations never lacks an image for somebody new. A worker for whom the model of a cell has no new
    image goes on to the next cell of their sequence.

    Args:
        stack: owned from here on; :meth:`close` closes it.
        design, path, task_name, model, finished, resume: see :class:`DesignQuota`.

    Raises:
        ConfigurationError: as for :class:`DesignQuota`; the stack is closed.
    """

    def __init__(
        self,
        stack: ImageStack,
        design: StudyDesign,
        path: Path,
        task_name: str,
        model: str | None = None,
        finished: Iterable[tuple[str, int, str | None]] = (),
        resume: bool = True,
    ) -> None:
        self._stack = stack
        self._account = StackAccount(stack)
        try:
            super().__init__(design, path, task_name, model, finished, resume)
        except BaseException:
            stack.close()
            raise

    def _has_now(self, worker: str, cell: int) -> bool:
        return self._stack.outlook(worker, self._model_of(cell))[0]

    def _may_have_later(self, worker: str, cell: int) -> bool:
        return any(self._stack.outlook(worker, self._model_of(cell)))

    def _make_up(self) -> None:
        self._account.make_up()

    def _reserve(self, worker: str, taken: Entry) -> Reservation[int]:
        """Reserve the image in the stack, which is on disk when this returns; the event names the image."""
        cell = self.design.cells[taken["cell"]]
        draw = self._stack.get_next_image(worker, self._model_of(cell.index))
        if draw.image_idx is None or draw.model is None:
            raise RuntimeError(f"the stack has no image for '{worker}' and {cell.label}, though it said so")
        taken["image_idx"] = draw.image_idx
        return self._reservation(worker, draw.image_idx, taken)

    def _release(self, reservation: Reservation[int], collected: bool) -> None:
        self._account.end(reservation, collected)

    def check_room(self) -> None:
        """Check, before the first draw, that the stack has room for every conversation that is wanted.

        Raises:
            ConfigurationError: one sentence for each model that has too little; the quota is closed.
        """
        missing: Counter[str] = Counter()
        for cell in self.design.cells:
            missing[self._model_of(cell.index)] += max(
                0, self.design.conversations_per_cell - self._state.done[cell.index]
            )
        free = {nickname: progress.needed for nickname, progress in self._stack.progress_by_model().items()}
        faults = [
            f"mephisto.blueprint.design_path: asks for {count} more conversations with '{nickname}', and the stack in "
            f"{self._stack.folder} has places for {free[nickname]}; raise "
            "mephisto.blueprint.evals_per_image_model_combo, or add images."
            for nickname, count in missing.items()
            if count > free[nickname]
        ]
        if faults:
            self.close()
            raise ConfigurationError(*faults)

    def notes(self) -> list[str]:
        """Return how far the strata are, and how many images have no free place."""
        return [*super().notes(), *self._account.notes()]

    def left_in_flight(self) -> bool:
        """Whether a run that was killed has left conversations in flight in the stack; before the first draw."""
        return self._account.left_in_flight()

    def settle(self, finished: Iterable[tuple[int, str, str]]) -> None:
        """Sort out what a run that was killed has left in flight in the stack; before the first draw.

        Args:
            finished: ``(image_idx, model, worker)`` of the conversations that are saved as complete.
        """
        self._account.settle(finished)

    def run_statistics(self) -> dict[str, dict[str, int]]:
        """Return how many conversations this run has collected, per model and per image."""
        return self._account.run_statistics()

    def close(self) -> None:
        """Write what could not be written before, and close the file and the stack."""
        super().close()
        self._account.close()

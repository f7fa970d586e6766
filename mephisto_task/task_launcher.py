"""Offers units: Mephisto's launcher, with replacements that keep to the limits of the run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import mephisto.operations.task_launcher as mephisto_launcher
from mephisto.data_model.assignment import InitializationData
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.operations.task_launcher import TaskLauncher

if TYPE_CHECKING:
    from mephisto.abstractions.database import MephistoDB
    from mephisto.data_model.task_run import TaskRun
    from mephisto.data_model.unit import Unit

logger = logging.getLogger(__name__)

ON_OFFER = (AssignmentState.LAUNCHED, AssignmentState.ASSIGNED)


class TaskUnitLauncher(TaskLauncher):
    """Launches the units of a run, at most ``max_num_concurrent_units`` at the same time, replacements included.

    Mephisto's own launches a replacement at once, whatever is on offer, and its thread can end at the very moment at which
    a unit is added. ``_lock`` guards ``unlaunched_units``, ``keep_launching_units`` and ``finished_generators``.

    Args:
        max_num_concurrent_units: most units on offer or worked on at the same time; 0: any number.
        most_units: units that may be launched in all, for so many are paid for; None: any number.
    """

    def __init__(
        self,
        db: MephistoDB,
        task_run: TaskRun,
        assignment_data: Iterable[InitializationData],
        max_num_concurrent_units: int = 0,
        most_units: int | None = None,
    ) -> None:
        super().__init__(db, task_run, list(assignment_data), max_num_concurrent_units)
        self.most_units = most_units
        self._lock = threading.RLock()

    def stop_launching(self) -> None:
        """Put nothing on offer any more, in place of a conversation that broke down either."""
        with self._lock:
            self.keep_launching_units = False

    def replace(self) -> bool:
        """Offer one more unit, as soon as the limits allow it.

        Returns:
            False when the run is ending, or has launched all units that are paid for.
        """
        with self._lock:
            if not self.keep_launching_units or (self.most_units is not None and len(self.units) >= self.most_units):
                return False
            self._create_single_assignment(InitializationData(shared={}, unit_data=[{}]))
            if self.finished_generators and self.launch_url is not None:
                self.launch_units(self.launch_url)
        return True

    def launch_units(self, url: str) -> None:
        """Begin to launch what is not launched yet."""
        with self._lock:
            self.finished_generators = False
            super().launch_units(url)

    def _launch_limited_units(self, url: str) -> None:
        """Launch units until none is left; the thread's work."""
        while True:
            for unit in self._next_units():
                try:
                    unit.launch(url)
                except Exception:  # of the crowd platform, whose errors have no common ancestor
                    logger.exception("Unit %s can't be put on offer", unit.db_id)
            with self._lock:
                if not self.keep_launching_units or not self.unlaunched_units:
                    self.finished_generators = True
                    return
            time.sleep(mephisto_launcher.UNIT_GENERATOR_WAIT_SECONDS)

    def _next_units(self) -> list[Unit]:
        """Take the units that may be launched now."""
        # Only the launching thread, of which there is one at a time, uses the launched units: a crowd platform is asked for
        # the status of each, which takes too long for the lock.
        if self.max_num_concurrent_units:
            self.launched_units = {
                db_id: unit for db_id, unit in self.launched_units.items() if unit.get_status() in ON_OFFER
            }
        with self._lock:
            if not self.keep_launching_units:
                return []
            free = len(self.unlaunched_units)
            if self.max_num_concurrent_units:
                free = max(0, self.max_num_concurrent_units - len(self.launched_units))
            units = list(self.unlaunched_units.values())[:free]
            for unit in units:
                del self.unlaunched_units[unit.db_id]
                self.launched_units[unit.db_id] = unit
        return units

"""Mephisto's operator, with progress, stop signals and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import mephisto.operations.task_launcher as mephisto_launcher
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.operations.operator import Operator

from model_chat.configuration.redaction import keep_secrets_out
from model_chat.mephisto_task.client_io import BoundedClientIO
from model_chat.mephisto_task.stopping import END_ON_PLATFORM_SECONDS, StopRequest
from model_chat.mephisto_task.task_database import is_over, open_units
from model_chat.mephisto_task.task_launcher import TaskUnitLauncher
from model_chat.mephisto_task.worker_pool import TaskWorkerPool
from model_chat.quality.blocks import bind_to_platform, prepare_qualifications
from model_chat.records.participation import PANELS

if TYPE_CHECKING:
    from mephisto.abstractions.architect import Architect
    from mephisto.abstractions.blueprint import Blueprint, SharedTaskState
    from mephisto.abstractions.crowd_provider import CrowdProvider
    from mephisto.abstractions.database import MephistoDB
    from mephisto.data_model.task_run import TaskRun
    from mephisto.operations.datatypes import LiveTaskRun
    from omegaconf import DictConfig

    from model_chat.mephisto_task.live_run import TaskLiveRun
    from model_chat.mephisto_task.shared_state import ModelChatSharedState

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.5
FULL_CHECK_SECONDS = 10.0
"""How often Mephisto's own, costly test for completion is made; the cheap one is made at every tick."""
STOP_STEP_SECONDS = 6.0
"""How long one step of stopping may take before the next one begins."""
STEP_SECONDS = 0.02
"""How often a step is looked at."""
NOT_BEGUN = (AssignmentState.CREATED, AssignmentState.LAUNCHED)
"""Statuses of units that nobody works on."""

LOOK_SECONDS, LOOK_ON_PLATFORM_SECONDS = 1, 5
"""How often units are looked at, if only so many are offered at once (``max_num_concurrent_units``).

One that was given back is offered again after so long, and the launching thread lingers for as long at the end. On a crowd
platform each look is a request for each unit on offer, and its requests are rationed.
"""


class TaskOperator(Operator):
    """Runs one task until it is complete or stopped, and ends everything that it started.

    Args:
        closing: what to close, last of all, when the run has ended.
    """

    is_shutdown: bool

    def __init__(self, db: MephistoDB, closing: ExitStack | None = None) -> None:
        super().__init__(db)
        self._closing = closing or ExitStack()

    async def _track_and_kill_runs(self) -> None:
        """Mephisto would end a finished run from here, unseen by us; :meth:`run_until` does instead."""

    def _create_live_task_run(
        self,
        run_config: DictConfig,
        shared_state: SharedTaskState,
        task_run: TaskRun,
        architect_class: type[Architect],
        blueprint_class: type[Blueprint],
        provider_class: type[CrowdProvider],
    ) -> LiveTaskRun:
        """Put a run together whose refusals say why, and whose qualifications are the requester's own."""
        prepare_qualifications(self.db, run_config.blueprint, shared_state)
        live_run = super()._create_live_task_run(
            run_config, shared_state, task_run, architect_class, blueprint_class, provider_class
        )
        live_run.client_io = BoundedClientIO(self.db)
        live_run.client_io.register_run(live_run)
        live_run.worker_pool = TaskWorkerPool(self.db)
        live_run.worker_pool.register_run(live_run)
        shared = cast("ModelChatSharedState", shared_state)
        for part in (live_run.client_io, live_run.worker_pool):
            part.endings, part.arrivals = shared.endings, shared.arrivals
        live_run.client_io.texts = shared.texts
        live_run.task_launcher = TaskUnitLauncher(
            self.db,
            task_run,
            live_run.blueprint.get_initialization_data(),
            run_config.task.max_num_concurrent_units,
            shared.most_units,
        )
        bind_to_platform(task_run.get_requester(), shared_state.qualifications)
        return live_run

    def launch_task_run_or_die(self, run_config: DictConfig, shared_state: SharedTaskState | None = None) -> str | None:
        """Launch a task; the database, which keeps its configuration, gets none of the secrets in it."""
        keep_secrets_out(self.db)
        is_free = offers_nothing_outside(run_config.provider._provider_type)
        mephisto_launcher.UNIT_GENERATOR_WAIT_SECONDS = LOOK_SECONDS if is_free else LOOK_ON_PLATFORM_SECONDS
        return super().launch_task_run_or_die(run_config, shared_state)

    @property
    def live_run(self) -> TaskLiveRun:
        """The run that was launched."""
        return next(iter(self._runs()))

    def run_until(
        self,
        done: Callable[[], bool],
        tick: Callable[[], None],
        stop: StopRequest,
        grace_seconds: float,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """Serve workers until ``done()``, or Mephisto finds the run complete, or it can't continue, or it is to stop.

        When it is to stop, or no further conversation is to begin, no new workers are admitted, and open conversations may
        finish.

        Args:
            done: cheap; asked at every tick.
            tick: called at every tick (twice a second), to show progress.
            grace_seconds: how long conversations may continue after the first stop signal; the second ends them.
            is_full: whether no further conversation is to begin; cheap, asked at every tick.
        """

        async def serve() -> None:
            await self._watch(lambda: done() or is_full(), tick, stop)
            if is_full() and not stop.requested:
                await self._let_finish(tick, stop)
            if stop.requested:
                await self._let_finish(tick, stop, grace_seconds)
            tick()

        asyncio.set_event_loop(self._event_loop)
        self._event_loop.run_until_complete(serve())

    def linger(self, seconds: float, tick: Callable[[], None], stop: StopRequest) -> None:
        """Go on answering pages when everything is collected, until the time is up or the run is to stop."""

        async def answer() -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not stop.requested and not _is_unreachable(self.live_run):
                tick()
                await asyncio.sleep(TICK_SECONDS)

        self._event_loop.run_until_complete(answer())

    async def _watch(self, done: Callable[[], bool], tick: Callable[[], None], stop: StopRequest) -> None:
        live_run = self.live_run
        patience = live_run.task_run.get_task_args().no_submission_patience
        next_full_check = time.monotonic() + FULL_CHECK_SECONDS
        while not stop.requested and not done():
            tick()
            if _is_unreachable(live_run):
                return
            if live_run.worker_pool.is_paused:  # by the requester, whose patience it is
                live_run.client_io.last_submission_time = time.time()
            if time.time() - live_run.client_io.last_submission_time > patience:
                logger.error(
                    "Nobody has submitted for %d s (mephisto.task.no_submission_patience); the run ends.", patience
                )
                return
            if time.monotonic() >= next_full_check:
                live_run.task_run.update_completion_progress(task_launcher=live_run.task_launcher)
                if live_run.task_launcher.finished_generators and is_over(self.db, live_run.task_run.db_id):
                    live_run.task_run.get_is_completed()  # writes it down
                    return
                next_full_check = time.monotonic() + FULL_CHECK_SECONDS
            await asyncio.sleep(TICK_SECONDS)

    async def _let_finish(
        self, tick: Callable[[], None], stop: StopRequest, grace_seconds: float | None = None
    ) -> None:
        """Admit no new workers; wait until open conversations are over, or are to be ended.

        Args:
            grace_seconds: how long to wait; None: until the requester wants the run to stop.
        """
        live_run = self.live_run
        runner, pool = live_run.task_runner, live_run.worker_pool
        end = None if grace_seconds is None else time.monotonic() + grace_seconds
        live_run.task_launcher.stop_launching()
        pool.close()
        runner.stop_onboardings()
        while pool.arriving and not stop.at_once:  # let in a moment ago: their conversations are about to begin
            await asyncio.sleep(STEP_SECONDS)
        expiring = partial(_expire_units, live_run, NOT_BEGUN)
        threading.Thread(target=expiring, name="stop: expire units", daemon=True).start()
        if not runner.running_units:
            return
        left = len(runner.running_units)
        if grace_seconds is None:
            logger.warning(
                "No new workers are admitted. %d open conversations may finish; Ctrl-C limits how long.", left
            )
        else:
            logger.warning(
                "Stopping: no new workers are admitted. %d open conversations may finish, for at most %g s "
                "(mephisto.blueprint.stop_grace_time); Ctrl-C again ends them now.",
                left,
                grace_seconds,
            )

        def is_to_end() -> bool:
            return stop.requested if end is None else stop.at_once or time.monotonic() >= end

        while runner.running_units and not is_to_end() and not _is_unreachable(live_run):
            tick()
            await asyncio.sleep(TICK_SECONDS)

    def stop(self) -> None:
        """Expire what is still offered, end open conversations, and stop threads, sockets and the router.

        Every step is tried whatever became of the ones before. A second call does nothing. Conversations end first: their
        pages are told as long as there is a router.
        """
        if self.is_shutdown:
            return
        self.is_shutdown = True
        for live_run in self._runs():
            # First of all: nothing new is offered, in place of a broken conversation either.
            live_run.task_launcher.stop_launching()
            live_run.worker_pool.close()
            if not is_local(live_run):  # before their units count as done, for then the platform would offer them again
                threading.Thread(target=partial(_expire_units, live_run), name="stop: take down", daemon=True).start()
            self._step("end conversations", live_run.task_runner.shutdown)
            self._step("expire units", partial(_expire_units, live_run), self.expire_seconds)
            self._step("end assignments", live_run.task_launcher.shutdown)
            self._step("forget workers", live_run.worker_pool.shutdown)
            self._step("close connections", live_run.client_io.shutdown)
            self._step("stop the router", live_run.architect.shutdown)
        self._task_runs_tracked.clear()
        self._step("end the event loop", self._close_loop)
        self._closing.close()

    @property
    def expire_seconds(self) -> float:
        """How long units may take to expire: on a crowd platform each is a request, and what is left can be accepted."""
        return max((END_ON_PLATFORM_SECONDS for run in self._runs() if not is_local(run)), default=STOP_STEP_SECONDS)

    def _runs(self) -> list[TaskLiveRun]:
        return cast("list[TaskLiveRun]", list(self._task_runs_tracked.values()))

    def _step(self, what: str, action: Callable[[], Any], seconds: float = STOP_STEP_SECONDS) -> None:
        """Do one step of stopping in a thread of its own, while the event loop runs: agents' statuses go through it."""
        failure: list[BaseException] = []

        def guarded() -> None:
            try:
                action()
            except BaseException as error:  # it is logged below, and the next step of stopping is done
                failure.append(error)

        if action == self._close_loop:
            guarded()
        else:
            thread = threading.Thread(target=guarded, name=f"stop: {what}", daemon=True)
            thread.start()
            end = time.monotonic() + seconds
            while thread.is_alive() and time.monotonic() < end:
                self._event_loop.run_until_complete(asyncio.sleep(STEP_SECONDS))
            if thread.is_alive():
                logger.warning("Stopping: '%s' takes longer than %g s; continuing", what, seconds)
        for error in failure:
            logger.error("Stopping: '%s' failed: %r", what, error)

    def _close_loop(self) -> None:
        loop = self._event_loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def is_local(live_run: LiveTaskRun) -> bool:
    """Whether nothing outside of this machine has to be ended: no work on a crowd platform, no hosted server."""
    return offers_nothing_outside(live_run.provider.PROVIDER_TYPE) and live_run.architect.ARCHITECT_TYPE in (
        "local",
        "mock",
    )


def offers_nothing_outside(provider_type: str) -> bool:
    """Whether units of a provider are on offer in Mephisto's database only, so that no platform has to be asked for them."""
    return provider_type == "mock" or provider_type in PANELS


def _is_unreachable(live_run: LiveTaskRun) -> bool:
    """Whether no page can be reached any more; logs it."""
    if not live_run.force_shutdown and not _is_router_lost(live_run):
        return False
    logger.error("The connection to the router is lost for good; the run ends.")
    return True


def _is_router_lost(live_run: LiveTaskRun) -> bool:
    """Whether the router is gone for good, or a connection to it has ended for a reason that Mephisto doesn't retry."""
    tasks = (getattr(channel, "_socket_task", None) for channel in live_run.client_io.channels.values())
    return getattr(live_run.architect, "is_lost", False) or any(task is not None and task.done() for task in tasks)


def _expire_units(live_run: LiveTaskRun, statuses: Collection[str] = AssignmentState.incomplete()) -> None:
    """Expire the units that nobody has finished, of the given statuses."""
    for unit in open_units(live_run.task_run.db, live_run.task_run.db_id):
        if unit.db_status not in statuses:
            continue
        try:
            unit.expire()
        except Exception:  # any crowd provider's error; the other units are expired all the same
            logger.exception("Unit %s can't be expired; look it up on the crowd platform", unit.db_id)

"""Runs the worlds of a task inside Mephisto, and handles every way in which they can end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions.blueprint import TaskRunner
from mephisto.abstractions.blueprints.mixins.onboarding_required import OnboardingRequired
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.data_model.exceptions import (
    AbsentAgentError,
    AgentDisconnectedError,
    AgentReturnedError,
    AgentShutdownError,
    AgentTimeoutError,
)
from omegaconf import OmegaConf

from model_chat.configuration.worker_texts import worker_text
from model_chat.conversation.human_agent import HumanAgent
from model_chat.crowd.identity import check_worker
from model_chat.crowd.platform import take_down
from model_chat.mephisto_task.agent_state import state_of
from model_chat.mephisto_task.design_workers import has_condition_for, has_nothing_for, has_open_cells
from model_chat.mephisto_task.saving import finish_state, save_in_all
from model_chat.mephisto_task.worker_pool import TaskWorkerPool
from model_chat.mephisto_task.world_endings import ANYTHING, ending_of, guarded
from model_chat.quality import no_more_work
from model_chat.quality.blocks import block_for_conduct, name_of, platform_id
from model_chat.quality.failures import MOST_WORKERS_IN_A_ROW, Failures
from model_chat.quality.onboarding import keep_result
from model_chat.records.participation import EndingKind
from model_chat.records.schema import Completion, Simulated
from model_chat.records.writing import save_conversation
from model_chat.serving.model import StoppedError
from model_chat.worlds import NoReservationLeftError

if TYPE_CHECKING:
    from mephisto.data_model.agent import Agent, OnboardingAgent
    from mephisto.data_model.task_run import TaskRun
    from mephisto.data_model.unit import Unit
    from mephisto.data_model.worker import Worker
    from omegaconf import DictConfig

    from model_chat.conversation.world import ConversationWorld, OnboardingWorld
    from model_chat.mephisto_task.shared_state import ModelChatSharedState

logger = logging.getLogger(__name__)

NO_MORE_WORK = worker_text("chat.no_more_work")
TECHNICAL_PROBLEM = worker_text("chat.technical")

REASONS: dict[type[AbsentAgentError], str] = {
    AgentTimeoutError: "timeout: the worker took longer than mephisto.blueprint.max_resp_time",
    AgentDisconnectedError: "disconnected: the worker's page went away",
    AgentReturnedError: "returned: the worker gave the work back",
}
STOPPED = "stopped: the run was stopped during the conversation"
STUDY_STOPPED = worker_text("chat.study_stopped")
ONBOARDING_STOPPED = worker_text("chat.practice_stopped")
NOT_TAKING_PART = worker_text("chat.not_taking_part")
ENOUGH_OF_A_KIND = worker_text("chat.enough_of_a_kind")
TIME_IS_UP = worker_text("chat.time_is_up")
CONFIRM_SECONDS = 30
"""How long the page of a panel's participant is waited for to say that it shows the ending, which is kept in any case."""
HAND_IN_SECONDS = 120
"""How long a worker who has run out of time may take to hand in, before somebody else gets the conversation."""


class ModelChatTaskRunner(TaskRunner):
    """Runs onboarding and conversation worlds.

    It differs from Mephisto's own chat runner in what workers are protected from: the world is made once, its data go to
    the agent's state and never to the page, and whatever happens in a world, the worker is told and can submit.
    """

    def __init__(self, task_run: TaskRun, args: DictConfig, shared_state: ModelChatSharedState) -> None:
        super().__init__(task_run, args, shared_state)
        self.shared_state: ModelChatSharedState = shared_state
        self.is_concurrent = shared_state.require_world_module().get_world_params()["agent_count"] > 1
        # OmegaConf takes its time: what every worker needs is read once.
        self._submission_timeout: int | None = OmegaConf.select(args, "task.submission_timeout")
        self._block_name = name_of(args.blueprint, "block_qualification")
        self._is_stopping = False
        self.awaiting_hand_in: set[str] = set()
        """Units whose workers have run out of time and may hand in what there is."""
        self.failures = Failures()

    def readmit(self, worker: Worker) -> None:
        """Let a worker in who had seen everything that another study has; called on arrival, before who may is checked."""
        if has_nothing_for(self.shared_state.world_opt, worker):
            return
        no_more_work.readmit(worker, self._block_name)

    def filter_units_for_worker(self, units: list[Unit], worker: Worker) -> list[Unit]:
        """Return the units; called by Mephisto.

        There are none for a worker whose conversations broke down again and again, for anybody once the models have cost
        what they may, and for a worker who has no condition of the study's design now.
        """
        spend = self.shared_state.spend
        is_full = spend is not None and spend.is_reached()
        if is_full or self.failures.too_many_of(platform_id(worker)):
            return []
        return units if has_condition_for(self.shared_state.world_opt, worker, self._block_name) else []

    def get_init_data_for_agent(self, agent: Agent) -> dict[str, Any] | None:
        """Return what a page needs to show its conversation: all updates so far; the same again after a reload."""
        if agent.state.get_init_state() is None:
            assignment = agent.get_unit().get_assignment()
            agent.state.set_init_state(assignment.get_assignment_data().shared)
        return state_of(agent).get_init_state()

    # --- onboarding ---

    def execute_onboarding(
        self, onboarding_agent: OnboardingAgent, cleanup_after: Callable[[], Awaitable[None]]
    ) -> None:
        """Run an onboarding in a thread of its own."""
        _make_state(onboarding_agent)
        super().execute_onboarding(onboarding_agent, cleanup_after)

    def run_onboarding(self, agent: OnboardingAgent) -> None:
        """Run one worker's onboarding to its end.

        A worker who fails for good is disqualified here and now, whether or not their page says anything further: no
        thread waits for it, and a reload finds the qualification.
        """
        shared = self.shared_state
        human = HumanAgent(agent, shared.endings, shared.texts)
        world: OnboardingWorld | None = None
        kept: bool | None = None

        def keep(passed: bool) -> None:
            nonlocal kept
            kept = passed
            self._keep_onboarding_result(agent, passed)

        human.keep_onboarding_result = keep
        try:
            world = shared.require_world_module().make_onboarding_world(
                shared.onboarding_world_opt, human, initialization_data=shared.onboarding_data
            )
            while not world.episode_done() and agent.get_agent_id() in self.running_onboardings:
                world.parley()
            passed = bool(world.passed)
            if kept is not passed:  # a researcher's own world may tell the page in another way
                keep(passed)
            state_of(agent).record_world_data(world.prep_save_data([human]), at_once=False)
            if passed:
                self._await_submit(agent)
            else:
                agent.update_status(AgentState.STATUS_REJECTED)
        except AbsentAgentError as absent:
            guarded(world, "abandon")
            if isinstance(absent, AgentShutdownError):
                tell_end(human, EndingKind.NO_WORK, "stopped", ONBOARDING_STOPPED)
            elif isinstance(absent, AgentTimeoutError):
                agent.update_status(AgentState.STATUS_TIMEOUT)
            raise
        except ANYTHING:  # the world's own code
            guarded(world, "abandon")
            logger.exception("An onboarding broke down; the worker is asked to come back later")
            human.keep_onboarding_result = None
            human.control("onboarding_failed", reason=worker_text("onboarding.technical"), ending=None)
            agent.update_status(AgentState.STATUS_DISCONNECT)
        finally:
            guarded(world, "shutdown")
            finish_state(agent)

    def _keep_onboarding_result(self, agent: OnboardingAgent, passed: bool) -> None:
        """Write down how an onboarding ended, whatever becomes of the page: a worker who fails is disqualified."""
        qualification = self.args.blueprint.onboarding_qualification
        failed = OnboardingRequired.get_failed_qual(qualification)
        keep_result(agent.get_worker(), qualification, failed, passed)
        if passed:
            agent.update_status(AgentState.STATUS_WAITING)

    def _await_submit(self, agent: Agent | OnboardingAgent, most: int | None = None) -> None:
        """Wait until the page has submitted, at most ``mephisto.task.submission_timeout`` seconds, or ``most`` if it
        is given.

        Raises:
            AbsentAgentError: the worker left, or took too long.
        """
        if not agent.await_submit(timeout=None):
            agent.await_submit(timeout=most or self._submission_timeout)

    def cleanup_onboarding(self, agent: OnboardingAgent) -> None:
        """Nothing is left to clean up: :meth:`run_onboarding` frees everything itself."""

    # --- conversations ---

    def execute_unit(self, unit: Unit, agent: Agent) -> None:
        """Run a conversation in a thread of its own."""
        _make_state(agent)
        super().execute_unit(unit, agent)

    def run_unit(self, unit: Unit, agent: Agent) -> None:
        """Run one conversation to its end, save it, and wait for the worker to submit."""
        human = HumanAgent(agent, self.shared_state.endings, self.shared_state.texts)
        try:
            self._hold(unit, agent, human)
        except AbsentAgentError:
            finish_state(agent)
            raise
        except ANYTHING:  # what comes before or after a conversation: the database, or a crowd platform
            logger.exception("The end of a conversation has failed; the worker can submit")
            tell_end(human, EndingKind.MODEL_FAILED, "error", TECHNICAL_PROBLEM)
        self._close(agent)

    def _hold(self, unit: Unit, agent: Agent, human: HumanAgent) -> None:
        """Make the world of a conversation and run it to its end."""
        shared = self.shared_state
        try:
            world = shared.require_world_module().make_world(
                shared.world_opt, [human], initialization_data=unit.get_assignment_data()
            )
        except NoReservationLeftError:
            self.end_without_reservation(unit, agent, human)
        except ANYTHING:  # the world's own code
            logger.exception("A conversation could not be started")
            self.failures.failed(human.worker_id)
            self._launch_replacement()
            tell_end(human, EndingKind.MODEL_FAILED, "error", TECHNICAL_PROBLEM)
        else:
            self._run_world(world, unit, agent, human)

    def end_without_reservation(self, unit: Unit, agent: Agent, human: HumanAgent) -> None:
        """Tell a worker for whom nothing can be reserved that there is nothing to do."""
        if has_open_cells(self.shared_state.world_opt):  # it was somebody else's a moment ago, who may leave
            self._launch_replacement()
        else:
            logger.warning("A unit was offered though no further conversation is to begin")
        tell_end(human, EndingKind.NO_WORK, "no_work", NO_MORE_WORK)

    def _run_world(self, world: ConversationWorld, unit: Unit, agent: Agent, human: HumanAgent) -> None:
        """Hold a conversation, save it once, count it once, and tell the worker how it ended."""
        broken = False
        try:
            try:
                self._talk(world, agent, human)
            except (AgentShutdownError, StoppedError):
                self._end_incomplete(world, agent, human, STOPPED, EndingKind.INCOMPLETE)
                tell_end(human, EndingKind.INCOMPLETE, "stopped", STUDY_STOPPED)
                return
            except AbsentAgentError as absent:
                # Who has left is told nothing.
                timed_out = isinstance(absent, AgentTimeoutError)
                reason = REASONS.get(type(absent), "left: the worker went away")
                self._end_incomplete(world, agent, human, reason, EndingKind.TIMED_OUT if timed_out else None)
                if not timed_out:
                    raise
                self._let_hand_in(world, unit, agent, human)
                return
            except ANYTHING as error:  # the world's own code
                logger.exception("A conversation broke down; the worker can submit what there is")
                guarded(world, "abandon", f"error: {error!r}")
                broken = True
            kind = ending_of(world, broken)
            collected = self._save(world, agent, human, kind)
            if kind is EndingKind.COMPLETE and not collected:  # not saved, though the participant has done their part
                kind = EndingKind.MODEL_FAILED
            # From here on the conversation is saved. Whatever fails now, it is neither saved nor counted again.
            guarded(world, "settle", collected)
            declined = getattr(world, "ending_kind", None) is EndingKind.DECLINED
            if collected:
                self.failures.collected(human.worker_id)
            else:
                if declined:
                    self._count_declined()
                elif kind is not EndingKind.SCREENED_OUT:  # neither of the two speaks against the worker
                    self.failures.failed(human.worker_id)
                self._launch_replacement()
            block_for_conduct(world, agent, self._block_name, on_platform=False)
            if broken and not collected:
                tell_end(human, kind, "error", TECHNICAL_PROBLEM)
            elif declined:
                tell_end(human, kind, EndingKind.DECLINED.value, NOT_TAKING_PART)
            elif kind is EndingKind.SCREENED_OUT:
                tell_end(human, kind, "no_work", ENOUGH_OF_A_KIND)
            else:
                outcome = Completion.COMPLETE if collected else Completion.INCOMPLETE
                human.conclude("ended", kind, outcome=outcome.value, reason="", task_done=True)
            block_for_conduct(world, agent, self._block_name, on_platform=True)
        finally:
            guarded(world, "shutdown")

    def _count_declined(self) -> None:
        options = getattr(self.shared_state.world_opt, "study_flow", None)
        if options is not None:
            options.declined.add()

    def _talk(self, world: ConversationWorld, agent: Agent, human: HumanAgent) -> None:
        """Run a conversation to its end.

        Raises:
            AbsentAgentError: the worker left, or took too long.
            StoppedError: the run is ending.
        """
        world.parley()  # what it opens with belongs to the record; no worker can have said anything before
        known = None
        while not world.episode_done():
            version = getattr(world, "head_version", 0)  # a researcher's own world may have none
            if version != known:
                state_of(agent).record_head(self._record(world, human))
                known = version
            if self._is_stopping:
                raise StoppedError("The run has been stopped.")
            world.parley()

    def _end_incomplete(
        self, world: ConversationWorld, agent: Agent, human: HumanAgent, reason: str, kind: EndingKind | None
    ) -> None:
        """End a conversation as incomplete, keep what there is of it, and release its reservation."""
        guarded(world, "abandon", reason)
        collected = self._save(world, agent, human, kind)
        guarded(world, "settle", collected)

    def _let_hand_in(self, world: ConversationWorld, unit: Unit, agent: Agent, human: HumanAgent) -> None:
        """Let a worker who has run out of time hand in what there is; somebody else gets a conversation meanwhile.

        A panel's participant hands nothing in: they are told how their part ends.

        Raises:
            AgentTimeoutError: there is nothing, or they don't hand it in: the unit is not paid for.
        """
        on_panel = self.shared_state.endings is not None
        if on_panel or world.is_worth_keeping:
            tell_end(human, EndingKind.TIMED_OUT, "timeout", TIME_IS_UP)
        if not world.is_worth_keeping:
            agent.update_status(AgentState.STATUS_TIMEOUT)
            raise AgentTimeoutError(None, agent.db_id)
        replaced = self._launch_replacement()
        self.awaiting_hand_in.add(unit.db_id)
        try:
            if on_panel:
                raise AgentTimeoutError(None, agent.db_id)
            agent.await_submit(timeout=min(HAND_IN_SECONDS, self._submission_timeout or HAND_IN_SECONDS))
        except AgentTimeoutError:
            agent.update_status(AgentState.STATUS_TIMEOUT)
            if replaced:  # else the unit itself is offered again
                take_down(unit)
                unit.set_db_status(AssignmentState.EXPIRED)
            raise
        finally:
            self.awaiting_hand_in.discard(unit.db_id)

    @property
    def is_idle(self) -> bool:
        """Whether no conversation is open; workers who may still submit are not waited for."""
        return set(self.running_units) <= self.awaiting_hand_in

    def _save(self, world: ConversationWorld, agent: Agent, human: HumanAgent, kind: EndingKind | None) -> bool:
        """Save a conversation in both places, with the ending that its participant will be told.

        Returns:
            whether a complete conversation is safe in at least one of them, and thus collected.
        """
        try:
            complete = world.completion is Completion.COMPLETE
            if not complete and not world.is_worth_keeping:
                state_of(agent).head = None  # there is nothing to recover
                if getattr(world, "keeps_nothing", False):
                    state_of(agent).forget()
                return False
            world_data = world.prep_save_data([human])
            world_data["custom_data"] = self._record(world, human, world_data, kind)
        except ANYTHING:  # the world's own code
            logger.exception("A conversation's data could not be put together")
            return False
        shared = self.shared_state
        is_safe = save_in_all(
            {
                f"mephisto.blueprint.chat_data_folder '{shared.chat_data_folder}'": lambda: save_conversation(
                    shared.chat_data_folder, world_data["custom_data"], shared.is_live
                ),
                "Mephisto's data folder": lambda: state_of(agent).record_world_data(world_data),
            }
        )
        return complete and is_safe

    def _record(
        self,
        world: ConversationWorld,
        human: HumanAgent,
        world_data: dict[str, Any] | None = None,
        kind: EndingKind | None = None,
    ) -> dict[str, Any]:
        """A world's conversation as it is saved now, under the name of the task that it counts for."""
        custom_data = (world_data or world.prep_save_data([human]))["custom_data"]
        participation = human.ending(kind).participation()
        simulated = self._simulated(human)
        return {
            **custom_data,
            "task_name": self.task_run.get_task().task_name,
            "participation": participation,
            "simulated": None if simulated is None else simulated.model_dump(),
        }

    def _simulated(self, human: HumanAgent) -> Simulated | None:
        """Which model plays the worker; None for people."""
        live_run = self.shared_state.live_run
        pool = None if live_run is None else live_run.worker_pool
        return pool.simulated(human.worker_id) if isinstance(pool, TaskWorkerPool) else None

    def _launch_replacement(self) -> bool:
        """Offer one more unit, since one is used up (and paid for) without a conversation that counts.

        Returns:
            whether one is offered, at once or as soon as the limits of the run allow it.
        """
        live_run = self.shared_state.live_run
        if live_run is None:
            return False
        if self.failures.too_many():
            logger.error(
                "The conversations of more than %d workers in a row broke down; no more are offered in their place. See the "
                "errors above, repair the cause, and start the task again: it continues where it is.",
                MOST_WORKERS_IN_A_ROW,
            )
            return False
        try:
            offered: bool = live_run.task_launcher.replace()
        except Exception:  # the database, or a crowd platform, whose errors have no common ancestor
            logger.exception("No unit could be offered in the place of a conversation that doesn't count")
            return False
        if not offered and not self._is_stopping:
            logger.warning(
                "No conversation is offered in place of one that is used up: the run is ending, or has offered all that "
                "were paid for. To collect the rest, start the task again when the run is over."
            )
        return offered

    def _close(self, agent: Agent) -> None:
        """Wait for the worker to submit; one who closes the page instead has done the work all the same.

        A panel's participant submits by seeing the ending: the page does it by itself, so that the run lasts until then.
        """
        on_panel = self.shared_state.endings is not None
        try:
            self._await_submit(agent, CONFIRM_SECONDS if on_panel else None)
        except AbsentAgentError:
            logger.info("The worker of %s has finished but not pressed submit; the work counts", agent)
        finish_state(agent)
        agent.update_status(AgentState.STATUS_COMPLETED)
        agent.mark_done()
        check_worker(agent, self._block_name)
        # Mephisto keeps every agent for the whole run; what was said is on disk, and read again should the page come back.
        agent.hide_state()

    def _launch_and_run_unit(self, unit: Unit, agent: Agent) -> None:
        """Run a unit in its thread, from beginning to end."""
        try:
            super()._launch_and_run_unit(unit, agent)
        finally:
            live_run = self.shared_state.live_run
            if live_run is not None and isinstance(live_run.worker_pool, TaskWorkerPool):
                live_run.worker_pool.retire(agent)

    def stop_onboardings(self) -> None:
        """End open onboardings: those workers would get no conversation."""
        for running in list(self.running_onboardings.values()):
            if running.onboarding_agent.db_status != AgentState.STATUS_WAITING:  # else passed, which is yet to be noted
                running.onboarding_agent.shutdown()

    def shutdown(self) -> None:
        """End everything that is open, and wait until it has ended; every worker is told that the study was stopped."""
        self._is_stopping = True
        for unit in list(self.running_units.values()):
            unit.agent.shutdown()
        for onboarding in list(self.running_onboardings.values()):
            onboarding.onboarding_agent.shutdown()
        # After that: who waits for a reply is to find the agent shut down, and does not wait for the page to submit.
        if self.shared_state.world_opt is not None:
            self.shared_state.world_opt.models.interrupt()
        super().shutdown()

    def cleanup_unit(self, unit: Unit) -> None:
        """Nothing is left to clean up: :meth:`run_unit` frees everything itself."""


def tell_end(human: HumanAgent, kind: EndingKind, cause: str, reason: str) -> None:
    """Tell a page that its part is over before its end, and why (docs/protocol.md, section 2).

    Args:
        kind: the ending that a panel's participant is told.
    """
    outcome = Completion.INCOMPLETE.value
    human.conclude("ended", kind, outcome=outcome, cause=cause, reason=reason, task_done=True)


def _make_state(agent: Agent | OnboardingAgent) -> None:
    """Let Mephisto make an agent's state before a second thread asks for it: it is made on demand, and without a lock."""
    _ = agent.state

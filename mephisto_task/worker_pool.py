"""Assigns units to workers: Mephisto's worker pool for tasks in which a unit is one worker's conversation."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions.blueprints.mixins.onboarding_required import OnboardingRequired
from mephisto.abstractions.blueprints.mixins.screen_task_required import ScreenTaskRequired
from mephisto.abstractions.blueprints.mixins.use_gold_unit import UseGoldUnit
from mephisto.abstractions.database import EntryAlreadyExistsException
from mephisto.data_model.agent import OnboardingAgent
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.operations.datatypes import WorkerFailureReasons
from mephisto.operations.worker_pool import AgentDetails, OnboardingInfo, WorkerPool
from mephisto.utils.qualifications import worker_is_qualified

from model_chat.crowd.arrivals import Arrival, ArrivalRefusedError, NewVisitorError
from model_chat.mephisto_task.retired_agents import KEPT, RetiredAgents
from model_chat.mephisto_task.task_database import launched_units
from model_chat.quality.blocks import canonical_id, find_participant
from model_chat.quality.onboarding import keep_result
from model_chat.quality.refusals import TEXTS, Refusal, units_of
from model_chat.records.schema import Simulated

if TYPE_CHECKING:
    from mephisto.abstractions.database import MephistoDB
    from mephisto.data_model.agent import Agent
    from mephisto.data_model.packet import Packet
    from mephisto.data_model.unit import Unit
    from mephisto.data_model.worker import Worker

    from model_chat.crowd.arrivals import ArrivalChecker
    from model_chat.crowd.endings import Endings
    from model_chat.mephisto_task.live_run import TaskLiveRun

logger = logging.getLogger(__name__)

ARRIVING_AT_ONCE = 4
"""Workers who are let in at the same time. More would only take turns; with one, all would wait for a crowd platform that
is slow to answer one of them."""
FINISHING_SECONDS = 2.0
"""At most, and hardly ever: saving a conversation takes milliseconds, unless the disk is in trouble."""


UNPAID = "mock"
"""The provider whose workers are nobody's participants: models may play them."""


class TaskWorkerPool(WorkerPool):
    """Mephisto's worker pool, which lets one worker in after the other instead of everybody step by step.

    In Mephisto's own, letting a worker in is a dozen small steps, half of them on the event loop, that take turns with
    those of everybody who comes at the same time, and each looks at all units of the run, twice. Here the whole of it is one
    call in a thread of the pool's own, first come first served; it asks the database for the next free units only, and
    the event loop stays free for those who are chatting.

    Blueprints with screening or gold units, and worlds of several workers, are served by Mephisto's own ways.
    """

    def __init__(self, db: MephistoDB) -> None:
        super().__init__(db)
        self.endings: Endings | None = None
        """What participants of a panel are told at the end; None for providers that are no panel."""
        self.arrivals: ArrivalChecker | None = None
        """Who comes with which address; None likewise."""
        self._threads = ThreadPoolExecutor(ARRIVING_AT_ONCE, thread_name_prefix="arrivals")
        self._retired = RetiredAgents(db)
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
        """Each worker's lock, and how many hold it or wait for it; of the event loop alone."""
        self._practised: dict[str, dict[str, Any]] = {}
        self._simulated: dict[str, Simulated] = {}
        """Onboarding agents -> what their page came with; of the event loop alone, but for new entries."""
        self.is_closed = False
        """Whether no new workers are admitted any more, since the run is ending."""
        self.is_paused = False
        """Whether nobody new is let in for now (dashboard); who is in onboarding still gets a conversation."""
        self.arriving = 0
        """How many workers are being let in just now; of the event loop alone."""

    def get_live_run(self) -> TaskLiveRun:
        """Return the run that the pool is registered for."""
        return cast("TaskLiveRun", super().get_live_run())

    @property
    def _is_simple(self) -> bool:
        live_run = self.get_live_run()
        return not live_run.task_runner.is_concurrent and not isinstance(
            live_run.blueprint, ScreenTaskRequired | UseGoldUnit
        )

    @cached_property
    def _limits(self) -> tuple[int, int]:
        """Units that one worker may have at once, and in all; 0: any number."""
        args = self.get_live_run().task_run.get_task_args()
        return int(args.allowed_concurrent or 0), int(args.maximum_units_per_worker or 0)

    def simulated(self, worker_name: str) -> Simulated | None:
        """Return which model plays a worker; None for people."""
        return self._simulated.get(worker_name)

    def _admits_simulated(self, ids: dict[str, Any], request_id: str) -> bool:
        """Whether a request for work is of a person, or of a model where nobody is paid; note which model, or refuse it."""
        if ids.get("simulated") is None:
            return True
        mark = Simulated.of(ids["simulated"])
        if mark is None or self.get_live_run().provider.PROVIDER_TYPE != UNPAID:
            self._refuse(request_id, Refusal.SIMULATED)
            return False
        self._simulated[canonical_id(UNPAID, ids["worker_name"])] = mark
        return True

    async def register_worker(self, crowd_data: dict[str, Any], request_id: str) -> None:
        """Let a worker in whose page asks for work, or tell them why not."""
        if not self._admits_simulated(crowd_data, request_id):
            return
        if not self._is_simple and not self.is_closed and not self.is_paused:
            await super().register_worker(crowd_data, request_id)
            return
        provider_type = self.get_live_run().provider.PROVIDER_TYPE
        name = canonical_id(provider_type, crowd_data["worker_name"])
        if not name:
            self._refuse(request_id, Refusal.NO_ID)
            return
        crowd_data = {**crowd_data, "worker_name": name}
        async with self._turn_of(name):
            told = None if self.endings is None else await self._in_thread(self._told_ending, crowd_data)
            if told is not None:
                self._refuse(request_id, Refusal.ENDED, ending=told)
                self._let_go_of(crowd_data["agent_registration_id"])
                return
            # The page may have asked twice: loaded again, or sent again.
            known = self.get_live_run().client_io.agents_by_registration_id.get(crowd_data["agent_registration_id"])
            if known is not None and not self._is_done_with_onboarding(known) and not self._may_begin_anew(known):
                await self.reconnect_agent(known, request_id)
                return
            await self._in_turn(lambda: self._admit(crowd_data, request_id), request_id)

    async def register_arrival(self, packet: Packet, request_id: str) -> None:
        """Find out which participant of a panel has come, and let them in or on; or tell their page what to do.

        A participant has one registration, whatever tab, browser or session they come with: it leads to their conversation.
        """
        arrivals, ids = self.arrivals, packet.data["provider_data"]
        if not self._admits_simulated(ids, request_id):
            return
        if arrivals is None:  # a page of an earlier run
            self._refuse(request_id, Refusal.NO_ID)
            return
        try:
            arrival = await self._in_thread(arrivals.identify, ids.get("query"), ids.get("visitor"))
        except NewVisitorError as new:
            self._send_answer(request_id, AgentDetails(), visitor=new.visitor)
            return
        except ArrivalRefusedError as refused:
            self._refuse(request_id, refused.refusal)
            return
        except Exception:  # the store's disk
            logger.exception("Nobody could find out who has come")
            self._refuse(request_id, Refusal.TECHNICAL)
            return
        if self.endings is not None:
            self.endings.arrived(arrival)
        provider_type = self.get_live_run().provider.PROVIDER_TYPE
        crowd_data = {
            "worker_name": arrival.participant,
            "agent_registration_id": f"{provider_type}:{arrival.participant}",
            "assignment_id": arrival.session or arrival.participant,
            "provider_type": provider_type,
            "study": arrival.study,
            "session": arrival.session,
        }
        packet.data["provider_data"] = crowd_data
        await self.register_worker(crowd_data, request_id)

    async def _in_thread(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Do what may wait, for the disk or the network, in a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, action, *arguments)

    def _told_ending(self, crowd_data: dict[str, Any]) -> dict[str, Any] | None:
        """What a panel's participant was told at the end of their part; None while it goes on."""
        if self.endings is None:
            return None
        arrival = Arrival(crowd_data["worker_name"], crowd_data.get("study"), crowd_data.get("session"))
        ending = self.endings.find(arrival)
        return None if ending is None else ending.packet()

    def _let_go_of(self, registration_id: str) -> None:
        """Wait no longer for the page of a participant who has been told their ending now."""
        agent = self.agents.get(self.get_live_run().client_io.agents_by_registration_id.get(registration_id, ""))
        if agent is not None and not agent.did_submit.is_set():
            agent.handle_submit({})

    def _may_begin_anew(self, agent_id: str) -> bool:
        """Whether the part of a panel's participant is over, who was told no ending for this session."""
        if self.endings is None:
            return False
        agent = self.get_agent_for_id(agent_id)
        return agent is None or agent.db_status in AgentState.complete()

    async def reconnect_agent(self, agent_id: str, request_id: str) -> None:
        """Answer a page that comes back; one that has passed onboarding and got no unit asks for one."""
        if self._is_simple and self._is_done_with_onboarding(agent_id):
            await self.register_worker(self._practised[agent_id], request_id)
        else:
            await super().reconnect_agent(agent_id, request_id)

    def _is_done_with_onboarding(self, agent_id: str) -> bool:
        agent = self.final_onboardings.get(agent_id)
        return agent is not None and agent_id in self._practised and agent.db_status == AgentState.STATUS_APPROVED

    async def register_agent_from_onboarding(self, onboarding_agent: OnboardingAgent) -> None:
        """Give a unit to a worker who has handed in their onboarding, or tell them why not."""
        if not self._is_simple and not self.is_closed:
            await super().register_agent_from_onboarding(onboarding_agent)
            return
        info = self.onboarding_infos.get(onboarding_agent.get_agent_id())
        if info is None:
            logger.warning("%s has handed in an onboarding that nobody knows of", onboarding_agent)
            return
        async with self._turn_of(info.crowd_data["worker_name"]):
            await self._in_turn(lambda: self._admit_from_onboarding(onboarding_agent, info), info.request_id)

    async def hand_in_again(self, onboarding_id: str, request_id: str) -> None:
        """Answer a page that hands in an onboarding which another tab has handed in already."""
        crowd_data = self._practised.get(onboarding_id)
        if crowd_data is None:
            self._answer(request_id, failure_reason=WorkerFailureReasons.TASK_MISSING)
        else:
            await self.register_worker(crowd_data, request_id)

    @asynccontextmanager
    async def _turn_of(self, name: str) -> AsyncIterator[None]:
        """Hold a worker's lock: what a worker may have is checked and given to one of their pages at a time.

        It is a lock of the event loop, so that one worker's many requests don't occupy the threads that let in everybody.
        """
        lock, users = self._turns.get(name, (asyncio.Lock(), 0))
        self._turns[name] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            users = self._turns[name][1] - 1
            if users:
                self._turns[name] = lock, users
            else:
                del self._turns[name]

    async def _in_turn(self, admit: Callable[[], None], request_id: str) -> None:
        """Do what lets a worker in, or not, in a thread of the pool; if it fails, its page is told."""
        if self.is_shutdown:  # the run is over, and its router the next to go
            return
        self.arriving += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, admit)
        except (Exception, SystemExit):  # a database, a crowd platform, or a researcher's own code
            logger.exception("A worker could not be let in")
            with suppress(KeyError):  # it has been answered before that
                self._refuse(request_id, Refusal.TECHNICAL)
        finally:
            self.arriving -= 1

    def close(self) -> None:
        """Admit no new workers from now on; pages of workers who were admitted can still come back.

        Those who are being let in at this moment (:attr:`arriving`) still may be.
        """
        self.is_closed = True

    def retire(self, agent: Agent) -> None:
        """Let go of an agent whose part is over; its page may still come back."""
        self._retired.add(agent)
        self.agents.pop(agent.get_agent_id(), None)

    def get_agent_for_id(self, agent_id: str) -> Agent | OnboardingAgent | None:
        """Return an agent of the run, whether or not its part is over."""
        return super().get_agent_for_id(agent_id) or self._retired.get(agent_id, self.get_live_run())

    def handle_updated_agent_status(self, status_map: dict[str, str]) -> None:
        """Take note of who has left, among those whose part isn't over."""
        active = (self.agents, self.onboarding_agents)
        super().handle_updated_agent_status(
            {agent_id: status for agent_id, status in status_map.items() if any(agent_id in those for those in active)}
        )

    # --- in a thread of the pool ---

    def _answer(self, request_id: str, **details: Any) -> None:
        """Answer a page's request for work."""
        self.get_live_run().client_io.enqueue_agent_details(request_id, AgentDetails(**details).to_dict())

    def _refuse(self, request_id: str, refusal: Refusal, **details: Any) -> None:
        """Answer a page's request for work with a reason that only the pool knows."""
        ending = details.pop("ending", None)
        more = {} if ending is None else {"ending": ending}
        answer = AgentDetails(**details, failure_reason=TEXTS[refusal])
        self._send_answer(request_id, answer, refusal=refusal.value, **more)

    def _send_answer(self, request_id: str, answer: AgentDetails, **more: Any) -> None:
        self.get_live_run().client_io.enqueue_agent_details(request_id, {**answer.to_dict(), **more})

    def _admit(self, crowd_data: dict[str, Any], request_id: str) -> None:
        live_run = self.get_live_run()
        if self.is_closed:
            self._answer(request_id, failure_reason=WorkerFailureReasons.NO_AVAILABLE_UNITS)
            return
        if self.is_paused:  # no ending, which a panel's participant would keep: they may come again
            self._refuse(request_id, Refusal.PAUSED)
            return
        worker = self._find_or_make_worker(crowd_data)
        live_run.task_runner.readmit(worker)
        if not worker_is_qualified(worker, live_run.qualifications):
            self._answer(request_id, failure_reason=WorkerFailureReasons.NOT_QUALIFIED)
            return
        if not self._may_have_another(worker) or next(self._free_units(worker), None) is None:
            self._answer(request_id, worker_id=worker.db_id, failure_reason=WorkerFailureReasons.NO_AVAILABLE_UNITS)
            return
        blueprint = live_run.blueprint
        if isinstance(blueprint, OnboardingRequired) and blueprint.onboarding_qualification_name is not None:
            granted = worker.get_granted_qualification(blueprint.onboarding_qualification_name)
            if granted is None and self._is_practising(worker):
                self._refuse(request_id, Refusal.PRACTISING, worker_id=worker.db_id)
                return
            if granted is None:
                self._begin_onboarding(blueprint, crowd_data, worker, request_id)
                return
            if not granted.value:
                self._answer(request_id, worker_id=worker.db_id, failure_reason=WorkerFailureReasons.NOT_QUALIFIED)
                return
        self._give_unit(crowd_data, worker, request_id)

    def _find_or_make_worker(self, crowd_data: dict[str, Any]) -> Worker:
        provider = self.get_live_run().provider
        name = crowd_data["worker_name"]
        found = find_participant(self.db, provider.PROVIDER_TYPE, name)
        if found is not None:
            return found
        try:
            return provider.WorkerClass.new_from_provider_data(self.db, crowd_data)
        except EntryAlreadyExistsException:  # another run with the same database was faster
            found = find_participant(self.db, provider.PROVIDER_TYPE, name)
            if found is None:
                raise
            return found

    def _is_practising(self, worker: Worker) -> bool:
        """Whether a worker has an onboarding open."""
        return any(agent.worker_id == worker.db_id for agent in list(self.onboarding_agents.values()))

    def _may_have_another(self, worker: Worker) -> bool:
        """Whether the task's limits on the units of one worker, at once and in all, allow another."""
        at_once, in_all = self._limits
        if not at_once and not in_all:
            return True
        self._let_finish(worker)
        active, done = units_of(worker, self.get_live_run().task_run)
        return not (at_once and active >= at_once) and not (in_all and active + done >= in_all)

    def _let_finish(self, worker: Worker) -> None:
        """Wait until what a worker has handed in counts as done: those who come again at once are faster than that."""
        end = time.monotonic() + FINISHING_SECONDS
        for agent in list(self.agents.values()):
            if agent.worker_id == worker.db_id and agent.did_submit.is_set():
                while agent.db_status not in AgentState.complete() and time.monotonic() < end:
                    time.sleep(0.01)

    def _free_units(self, worker: Worker) -> Iterator[Unit]:
        """The units on offer that a worker may have, oldest first."""
        live_run = self.get_live_run()
        may_do = live_run.blueprint.shared_state.worker_can_do_unit
        for units in launched_units(self.db, live_run.task_run.db_id):
            allowed = [unit for unit in units if unit.db_status == AssignmentState.LAUNCHED and may_do(worker, unit)]
            yield from live_run.task_runner.filter_units_for_worker(allowed, worker)

    def _begin_onboarding(
        self, blueprint: OnboardingRequired, crowd_data: dict[str, Any], worker: Worker, request_id: str
    ) -> None:
        live_run = self.get_live_run()
        data = blueprint.get_onboarding_data(worker.db_id)
        agent = OnboardingAgent.new(self.db, worker, live_run.task_run)
        agent_id = agent.get_agent_id()
        live_run.client_io.associate_agent_with_registration(agent_id, request_id, crowd_data["agent_registration_id"])
        agent.state.set_init_state(data)
        agent.set_live_run(live_run)
        self.onboarding_agents[agent_id] = agent
        self.onboarding_infos[agent_id] = OnboardingInfo(crowd_data=crowd_data, request_id=request_id)
        self._practised[agent_id] = crowd_data

        async def retire() -> None:
            self.final_onboardings[agent_id] = agent
            del self.onboarding_agents[agent_id]
            self._retired.add(agent)
            while len(self.final_onboardings) > KEPT:
                oldest = next(iter(self.final_onboardings))
                del self.final_onboardings[oldest]
                self._practised.pop(oldest, None)
            del self.onboarding_infos[agent_id]

        self._answer(request_id, worker_id=worker.db_id, agent_id=agent_id, init_task_data=data)
        try:
            live_run.task_runner.execute_onboarding(agent, retire)
        except Exception:  # no thread can be started, say
            for table in (self.onboarding_agents, self.onboarding_infos, self._practised):
                table.pop(agent_id, None)
            agent.update_status(AgentState.STATUS_DISCONNECT)  # its page is told
            raise

    def _admit_from_onboarding(self, onboarding_agent: OnboardingAgent, info: OnboardingInfo) -> None:
        blueprint = self.get_live_run().blueprint
        worker = onboarding_agent.get_worker()
        if not isinstance(blueprint, OnboardingRequired) or blueprint.onboarding_qualification_name is None:
            raise RuntimeError(f"{onboarding_agent} has handed in an onboarding, of a task that has none.")
        qualification = blueprint.onboarding_qualification_name
        passed = worker.is_qualified(qualification) or bool(blueprint.validate_onboarding(worker, onboarding_agent))
        keep_result(worker, qualification, blueprint.get_failed_qual(qualification), passed)
        if not passed:
            onboarding_agent.update_status(AgentState.STATUS_REJECTED)
            self._answer(info.request_id, failure_reason=WorkerFailureReasons.NOT_QUALIFIED)
            return
        onboarding_agent.update_status(AgentState.STATUS_APPROVED)
        if self._may_have_another(worker):
            self._give_unit(info.crowd_data, worker, info.request_id)
        else:
            self._answer(info.request_id, failure_reason=WorkerFailureReasons.NOT_QUALIFIED)

    def _give_unit(self, crowd_data: dict[str, Any], worker: Worker, request_id: str) -> None:
        live_run = self.get_live_run()
        if self.is_closed:
            self._answer(request_id, worker_id=worker.db_id, failure_reason=WorkerFailureReasons.NO_AVAILABLE_UNITS)
            return
        unit = next(filter(live_run.task_run.reserve_unit, self._free_units(worker)), None)
        if unit is None:
            self._answer(request_id, worker_id=worker.db_id, failure_reason=WorkerFailureReasons.NO_AVAILABLE_UNITS)
            return
        try:
            agent = live_run.provider.AgentClass.new_from_provider_data(self.db, worker, unit, crowd_data)
            agent.set_live_run(live_run)
            data = live_run.task_runner.get_init_data_for_agent(agent)
        except Exception:  # whatever it is, the unit is given to the next worker
            unit.clear_assigned_agent()
            raise
        agent_id = agent.get_agent_id()
        live_run.client_io.associate_agent_with_registration(agent_id, request_id, crowd_data["agent_registration_id"])
        self.agents[agent_id] = agent
        self._answer(request_id, worker_id=worker.db_id, agent_id=agent_id, init_task_data=data)
        try:
            live_run.task_runner.execute_unit(unit, agent)
        except Exception:  # no thread can be started, say
            del self.agents[agent_id]
            agent.update_status(AgentState.STATUS_DISCONNECT)  # its page is told
            unit.clear_assigned_agent()
            raise

    def shutdown(self) -> None:
        """Let nobody in any more."""
        super().shutdown()
        self._threads.shutdown(wait=False, cancel_futures=True)

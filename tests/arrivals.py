"""What stands around a worker pool, for tests: the database is real, what the pool tells others to do is written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mephisto.abstractions.blueprints.mixins.onboarding_required import OnboardingRequired
from mephisto.operations.datatypes import LoopWrapper
from omegaconf import OmegaConf

from model_chat.mephisto_task.worker_pool import TaskWorkerPool
from model_chat.tests.mephisto_run import PASSED, Run


class DeskBlueprint(OnboardingRequired):
    """A blueprint, as far as the pool asks it; whether a worker passes is said by its desk."""

    def __init__(self, desk: Desk, onboarding: bool) -> None:
        self.desk = desk
        self.use_onboarding = onboarding
        self.onboarding_qualification_name = PASSED if onboarding else None
        self.shared_state = SimpleNamespace(worker_can_do_unit=lambda worker, unit: True)

    def get_onboarding_data(self, worker_id: str) -> dict[str, Any]:
        return {"task_data": "onboarding"}

    def validate_onboarding(self, worker: Any, onboarding_agent: Any) -> bool:
        return self.desk.passes


class Desk:
    """What stands around the pool: the run's database is real, what the pool tells others to do is written down."""

    def __init__(self, folder: Path, onboarding: bool = False, **task_args: Any) -> None:
        self.run = Run(folder)
        self.run.task_run.args = OmegaConf.create(
            {"task": {"allowed_concurrent": 0, "maximum_units_per_worker": 0, **task_args}}
        )
        self.answers: dict[str, dict[str, Any]] = {}
        self.chats: list[tuple[Any, Any]] = []
        self.onboardings: list[tuple[Any, Callable[[], Any]]] = []
        self.asked_again: list[tuple[str, str]] = []
        for name in (PASSED, f"{PASSED}-failed"):
            self.run.db.make_qualification(name)
        self.passes = True
        provider = self.run.task_run.get_provider()
        client_io = SimpleNamespace(
            agents_by_registration_id={},
            associate_agent_with_registration=self._associate,
            enqueue_agent_details=self._enqueue,
            is_shutdown=True,
        )
        blueprint = DeskBlueprint(self, onboarding)
        runner = SimpleNamespace(
            is_concurrent=False,
            readmit=lambda worker: None,
            filter_units_for_worker=lambda units, worker: units,
            get_init_data_for_agent=lambda agent: {"task_data": "chat"},
            execute_unit=lambda unit, agent: self.chats.append((unit, agent)),
            execute_onboarding=lambda agent, retire: self.onboardings.append((agent, retire)),
        )
        self.live_run: Any = SimpleNamespace(
            provider=provider,
            qualifications=[],
            client_io=client_io,
            blueprint=blueprint,
            task_run=self.run.task_run,
            task_runner=runner,
        )
        self.pool = TaskWorkerPool(self.run.db)
        self.pool.register_run(self.live_run)

    def _associate(self, agent_id: str, request_id: str, registration_id: str) -> None:
        self.live_run.client_io.agents_by_registration_id[registration_id] = agent_id

    def _enqueue(self, request_id: str, details: dict[str, Any]) -> None:
        if request_id in self.answers:
            raise KeyError(request_id)  # as Mephisto's, which has forgotten the request by then
        self.answers[request_id] = details

    async def come(self, name: str, visit: str = "1", **more: Any) -> dict[str, Any]:
        """A worker's page asks for work; return the answer."""
        request = f"request of {name}-{visit}-{len(self.answers)}"
        self.live_run.loop_wrap = LoopWrapper(asyncio.get_running_loop())
        crowd_data = {"worker_name": name, "agent_registration_id": f"{name}-{visit}", **more}
        await self.pool.register_worker(crowd_data, request)
        return self.answers.get(request, {})

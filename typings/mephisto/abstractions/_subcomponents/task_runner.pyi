from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

from mephisto.abstractions.blueprint import SharedTaskState
from mephisto.data_model.agent import Agent, OnboardingAgent
from mephisto.data_model.task_run import TaskRun
from mephisto.data_model.unit import Unit
from mephisto.data_model.worker import Worker
from omegaconf import DictConfig

@dataclass
class RunningUnit:
    unit: Unit
    agent: Agent
    thread: Thread

@dataclass
class RunningOnboarding:
    onboarding_agent: OnboardingAgent
    thread: Thread

class TaskRunner(ABC):
    args: DictConfig
    shared_state: SharedTaskState
    task_run: TaskRun
    running_units: dict[str, RunningUnit]
    running_onboardings: dict[str, RunningOnboarding]
    is_concurrent: bool
    block_qualification: str | None

    def __init__(self, task_run: TaskRun, args: DictConfig, shared_state: SharedTaskState) -> None: ...
    def execute_onboarding(
        self, onboarding_agent: OnboardingAgent, cleanup_after: Callable[[], Awaitable[None]]
    ) -> None: ...
    def _launch_and_run_unit(self, unit: Unit, agent: Agent) -> None: ...
    def execute_unit(self, unit: Unit, agent: Agent) -> None: ...
    @abstractmethod
    def get_init_data_for_agent(self, agent: Agent) -> Any: ...
    def filter_units_for_worker(self, units: list[Unit], worker: Worker) -> list[Unit]: ...
    def shutdown(self) -> None: ...
    def run_onboarding(self, agent: OnboardingAgent) -> None: ...
    def cleanup_onboarding(self, agent: OnboardingAgent) -> None: ...
    def run_unit(self, unit: Unit, agent: Agent) -> None: ...
    def cleanup_unit(self, unit: Unit) -> None: ...

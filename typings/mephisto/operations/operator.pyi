import asyncio

from mephisto.abstractions.architect import Architect
from mephisto.abstractions.blueprint import Blueprint, SharedTaskState
from mephisto.abstractions.crowd_provider import CrowdProvider
from mephisto.abstractions.database import MephistoDB
from mephisto.data_model.task_run import TaskRun
from mephisto.operations.datatypes import LiveTaskRun
from omegaconf import DictConfig

class Operator:
    db: MephistoDB
    is_shutdown: bool
    _task_runs_tracked: dict[str, LiveTaskRun]
    _event_loop: asyncio.AbstractEventLoop

    def __init__(self, db: MephistoDB) -> None: ...
    def _create_live_task_run(
        self,
        run_config: DictConfig,
        shared_state: SharedTaskState,
        task_run: TaskRun,
        architect_class: type[Architect],
        blueprint_class: type[Blueprint],
        provider_class: type[CrowdProvider],
    ) -> LiveTaskRun: ...
    async def _track_and_kill_runs(self) -> None: ...
    def launch_task_run_or_die(
        self, run_config: DictConfig, shared_state: SharedTaskState | None = None
    ) -> str | None: ...
    def force_shutdown(self, timeout: int = 5) -> None: ...
    def shutdown(self, skip_input: bool = True) -> None: ...

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from mephisto.abstractions.architect import Architect
from mephisto.abstractions.blueprint import Blueprint, TaskRunner
from mephisto.abstractions.crowd_provider import CrowdProvider
from mephisto.data_model.task_run import TaskRun
from mephisto.operations.client_io_handler import ClientIOHandler
from mephisto.operations.task_launcher import TaskLauncher
from mephisto.operations.worker_pool import WorkerPool

class LoopWrapper:
    loop: asyncio.AbstractEventLoop

    def __init__(self, event_loop: asyncio.AbstractEventLoop) -> None: ...
    def execute_coro(self, coro: Coroutine[Any, Any, Any]) -> None: ...

@dataclass
class LiveTaskRun:
    task_run: TaskRun
    architect: Architect
    blueprint: Blueprint
    provider: CrowdProvider
    qualifications: list[dict[str, Any]]
    task_runner: TaskRunner
    task_launcher: TaskLauncher
    client_io: ClientIOHandler
    worker_pool: WorkerPool
    loop_wrap: LoopWrapper
    force_shutdown: bool = ...

    def shutdown(self) -> None: ...

class WorkerFailureReasons:
    NOT_QUALIFIED: str
    NO_AVAILABLE_UNITS: str
    TASK_MISSING: str

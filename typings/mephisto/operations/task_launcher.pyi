from collections.abc import Iterable

from mephisto.abstractions.database import MephistoDB
from mephisto.data_model.assignment import (
    InitializationData,
)
from mephisto.data_model.task_run import TaskRun
from mephisto.data_model.unit import (
    Unit,
)

UNIT_GENERATOR_WAIT_SECONDS: int

class TaskLauncher:
    db: MephistoDB
    task_run: TaskRun
    units: list[Unit]
    provider_type: str
    max_num_concurrent_units: int
    launched_units: dict[str, Unit]
    unlaunched_units: dict[str, Unit]
    launch_url: str | None
    keep_launching_units: bool
    finished_generators: bool

    def __init__(
        self,
        db: MephistoDB,
        task_run: TaskRun,
        assignment_data_iterator: Iterable[InitializationData],
        max_num_concurrent_units: int = 0,
    ) -> None: ...
    def _create_single_assignment(self, assignment_data: InitializationData) -> None: ...
    def launch_units(self, url: str) -> None: ...
    def shutdown(self) -> None: ...

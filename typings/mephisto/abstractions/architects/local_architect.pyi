import subprocess
from dataclasses import dataclass

from mephisto.abstractions.architect import Architect, ArchitectArgs
from mephisto.abstractions.blueprint import SharedTaskState
from mephisto.abstractions.database import MephistoDB
from mephisto.data_model.task_run import TaskRun
from omegaconf import DictConfig

@dataclass
class LocalArchitectArgs(ArchitectArgs):
    hostname: str = ...
    port: str = ...

class LocalArchitect(Architect):
    task_run: TaskRun
    build_dir: str
    task_run_id: str
    server_process_pid: int | None
    server_process: subprocess.Popen[bytes] | None
    server_dir: str | None
    running_dir: str | None
    hostname: str | None
    port: str | None
    server_type: str
    server_source_path: str | None

    def __init__(
        self, db: MephistoDB, args: DictConfig, shared_state: SharedTaskState, task_run: TaskRun, build_dir_root: str
    ) -> None: ...
    def _get_socket_urls(self) -> list[str]: ...
    def download_file(self, target_filename: str, save_dir: str) -> None: ...
    def prepare(self) -> str: ...
    def deploy(self) -> str: ...
    def cleanup(self) -> None: ...
    def shutdown(self) -> None: ...

from abc import ABC, abstractmethod

from mephisto.data_model.task_run import TaskRun
from omegaconf import DictConfig

class TaskBuilder(ABC):
    args: DictConfig
    task_run: TaskRun

    def __init__(self, task_run: TaskRun, args: DictConfig) -> None: ...
    @abstractmethod
    def build_in_dir(self, build_dir: str) -> None: ...

"""Mephisto's running task as :class:`~model_chat.mephisto_task.task_operator.TaskOperator` puts it together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mephisto.operations.datatypes import LiveTaskRun

if TYPE_CHECKING:
    from model_chat.mephisto_task.client_io import BoundedClientIO
    from model_chat.mephisto_task.task_launcher import TaskUnitLauncher
    from model_chat.mephisto_task.task_runner import ModelChatTaskRunner
    from model_chat.mephisto_task.worker_pool import TaskWorkerPool


class TaskLiveRun(LiveTaskRun):
    """The types of the parts that are ours. Mephisto makes the object itself, so that no instance of this class exists."""

    task_runner: ModelChatTaskRunner
    task_launcher: TaskUnitLauncher
    client_io: BoundedClientIO
    worker_pool: TaskWorkerPool

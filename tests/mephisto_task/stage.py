"""A task runner with one agent whose page the test plays."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions._subcomponents.task_runner import RunningUnit

from model_chat import worlds
from model_chat.conversation.quota import ModelCount
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.tests.mephisto_run import Page, Run, arrive
from model_chat.tests.scripted_human import chat_options, message, rating


class Launcher:
    """Stands for Mephisto's launcher, which only a running task has: counts the units it is asked for."""

    def __init__(self) -> None:
        self.keep_launching_units = True
        self.units: list[Any] = []

    def replace(self) -> bool:
        if self.keep_launching_units:
            self.units.append("a unit")
        return self.keep_launching_units


class Stage:
    """A runner, its shared state, and one agent with a page that answers every request properly."""

    def __init__(self, run: Run, folder: Path, *script: str, **changes: Any) -> None:
        self.options = chat_options(list(script), **changes)
        self.shared = ModelChatSharedState(
            world_module=worlds, world_opt=self.options, chat_data_folder=folder, units=1
        )
        self.launcher = Launcher()
        self.shared.live_run = type("LiveRun", (), {"task_launcher": self.launcher, "worker_pool": None})()
        self.runner = run.runner(self.shared)
        self.agent = run.agent()
        self.unit = self.agent.get_unit()
        self.folder = folder
        self.submits = True
        self.sent = 0
        self.leave_at: int | None = None

    def react(self, update: dict[str, Any]) -> None:
        data = update["task_data"]
        if data.get("control") == "your_turn":
            if self.sent == self.leave_at:
                self.agent.update_status(AgentState.STATUS_DISCONNECT)
                return
            self.sent += 1
            arrive(
                self.agent, rating(4, ticks="bucket_0") if data["ask"] == "final_rating" else message("Hi.", "bucket_1")
            )
        elif data.get("control") == "ended" and self.submits:
            self.agent.handle_submit({})

    def run(self) -> None:
        self.runner.running_units[self.unit.db_id] = RunningUnit(self.unit, self.agent, threading.current_thread())
        self.agent.update_status(AgentState.STATUS_IN_TASK)
        with Page(self.agent, self.react):
            self.runner.run_unit(self.unit, self.agent)

    def controls(self, name: str) -> list[dict[str, Any]]:
        updates = [update["task_data"] for update in self.agent.state.messages if "task_data" in update]
        return [data for data in updates if data.get("control") == name]

    def files(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.rglob("*.json"))]

    def recorded(self) -> list[dict[str, Any]]:
        messages = type(self.agent.state)(self.agent).messages
        return [found["WORLD_DATA"]["custom_data"] for found in messages if "WORLD_DATA" in found]

    def count(self) -> ModelCount:
        return self.options.quota.counts()[0]


def fail(*args: Any, **kwargs: Any) -> Any:
    raise OSError(28, "No space left on device")

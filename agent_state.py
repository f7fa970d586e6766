"""What Mephisto keeps of a worker's part in a task."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

from mephisto.abstractions.blueprints.parlai_chat.parlai_chat_agent_state import ParlAIChatAgentState

from model_chat.human_agent import ServerUpdate
from model_chat.records.writing import replace_file

WORLD_DATA_ID = "SUBMIT_WORLD_DATA"
FINAL_CHAT_DATA = "final_chat_data"


class ModelChatAgentState(ParlAIChatAgentState):  # type: ignore[misc]  # mephisto has no types
    """A chat state that records what the server said, and hides from the page what workers must not know.

    Mephisto records every packet of a page as it comes, and sends the whole record back when the page reconnects. Here
    a packet counts only once the world has taken it and said it back, and the world's data stay on the server.

    The world's thread and Mephisto's event loop (a submission, a tip) both change and save the state: ``_lock`` guards it.
    Mephisto would write its files in place, so that two threads, or a killed process, leave half a file.
    """

    def __init__(self, agent: Any) -> None:
        self._lock = threading.RLock()
        self._written: dict[Path, bytes] = {}
        super().__init__(agent)

    def save_data(self, durable: bool = False) -> None:
        """Save state and metadata, each file whole.

        Args:
            durable: whether they have to survive a power cut; they survive the process's death in any case.

        Raises:
            OSError: a file can't be written; the one before is left as it is.
        """
        with self._lock:
            for name, data in (
                (self._get_expected_data_file(), self.get_data()),
                (self._get_metadata_path(), dataclasses.asdict(self.metadata)),
            ):
                path, text = Path(name), json.dumps(data).encode()
                if durable or self._written.get(path) != text:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    replace_file(path, text, durable)
                    self._written[path] = text

    def update_submit(self, submit_data: dict[str, Any]) -> None:
        """Record what the page submitted at the end."""
        with self._lock:
            super().update_submit(submit_data)

    def update_metadata(self, property_name: str, property_value: Any) -> None:
        """Record a tip or feedback."""
        with self._lock:
            super().update_metadata(property_name, property_value)

    def update_data(self, live_update: dict[str, Any]) -> None:
        """Record an update that the server made; what comes from a page passes by unrecorded."""
        if isinstance(live_update, ServerUpdate):
            with self._lock:
                self.messages.append(dict(live_update))
                self.save_data()

    def record_world_data(self, world_data: dict[str, Any]) -> None:
        """Keep the result of a world, once, as analysis expects it.

        Args:
            world_data: what the world's ``prep_save_data`` returned; its ``custom_data`` is the saved conversation.
        """
        with self._lock:
            self.messages.append({"id": "Coordinator", "text": "", FINAL_CHAT_DATA: world_data.get("custom_data")})
            self.messages.append({"id": WORLD_DATA_ID, "text": "", "WORLD_DATA": world_data})
            self.save_data(durable=True)

    def get_init_state(self) -> dict[str, Any] | None:
        """What a page gets when it (re)connects: the updates it has been sent, and never the world's data."""
        if self.init_data is None:
            return None
        return {
            "task_data": self.init_data,
            "past_live_updates": [
                message for message in self.messages if "WORLD_DATA" not in message and FINAL_CHAT_DATA not in message
            ],
        }

    def get_parsed_data(self) -> dict[str, Any]:
        """The state as Mephisto's review and data tools expect it."""
        world_data = next((message["WORLD_DATA"] for message in self.messages if "WORLD_DATA" in message), None)
        names = (message.get("task_data", {}).get("agent_display_name") for message in self.messages)
        return {
            "agent_name": next((name for name in names if name), None),
            "initial_data": self.init_data,
            "messages": [message for message in self.messages if "WORLD_DATA" not in message],
            "save_data": world_data,
            "final_submission": self.final_submission,
        }

    def get_task_start(self) -> float:
        """When the first message was sent, epoch seconds; 0 if there is none."""
        return next((message["timestamp"] for message in self.messages if "timestamp" in message), 0.0)

    def get_task_end(self) -> float:
        """When the last message was sent, epoch seconds; 0 if there is none."""
        return next((message["timestamp"] for message in reversed(self.messages) if "timestamp" in message), 0.0)

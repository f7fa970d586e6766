"""Mephisto's state of one worker's part in a task."""

from __future__ import annotations

import json
import logging
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from mephisto.abstractions.blueprints.parlai_chat.parlai_chat_agent_state import ParlAIChatAgentState

from model_chat.conversation.human_agent import ServerUpdate
from model_chat.records.journal import JOURNAL_NAME, Journal, read_journal
from model_chat.records.writing import replace_file

if TYPE_CHECKING:
    from mephisto.data_model.agent import Agent, OnboardingAgent

logger = logging.getLogger(__name__)

WORLD_DATA_ID = "SUBMIT_WORLD_DATA"
FINAL_CHAT_DATA = "final_chat_data"
UNRECORDED = "image"
"""The key of ``task_data`` that is kept in memory only: a picture is not to be in every file of a run. Which one it was is
saved with the conversation."""
HEAD = "record_head"
"""Key of what a recovery needs; no page gets it."""
GENERATIONS = "record_generations"
"""Key of how the model's replies were made, update id -> what is known, until they are recorded; no page gets it."""
GENERATION = "generation"
"""Key, in the journal, of the same for the update of its line."""
REFUSED = "refused"
"""The control of an update that refuses what a page sent. A page can cause any number of them, so only the last
:data:`KEPT_REFUSALS` are kept, in memory: a page that missed one sends its message again, and is refused again."""
KEPT_REFUSALS = 5
SUBMISSION = "final_submission"
"""Key, in the journal, of what the page submitted at the end."""
STATE_NAME = "state.json"


class ModelChatAgentState(ParlAIChatAgentState):
    """A chat state that records what the server said, and hides from the page what workers must not know.

    Mephisto records every packet of a page as it comes, and sends the whole record back when the page reconnects. Here
    a packet counts only once the world has taken it and said it back, and the world's data stay on the server.

    What is said is appended to a journal (:mod:`model_chat.records.journal`), and a worker's message is on disk before the
    page is told that it has arrived. The state is written whole when it matters: with the world's result, when the part is
    over, and when a run is recovered. The journal then goes.

    The world's thread and Mephisto's event loop (a submission, a tip) both change and save the state: ``_lock`` guards it.
    Mephisto would write its files in place, so that two threads, or a killed process, leave half a file.
    """

    messages: list[dict[str, Any]]
    init_data: Any
    final_submission: dict[str, Any] | None

    def __init__(self, agent: Agent | OnboardingAgent) -> None:
        self._lock = threading.RLock()
        self._written: dict[Path, bytes] = {}
        self._is_finished = False
        self._has_to_last = False
        self._unrecorded: dict[str, Any] = {}
        self._journal: Journal | None = None
        self._journal_holds_turns = False
        self._unwritten: list[dict[str, Any]] = []
        self.head: dict[str, Any] | None = None
        self.generations: dict[str, dict[str, Any]] = {}
        super().__init__(agent)

    def _load_data(self) -> None:
        path = self._folder / STATE_NAME
        # The journal first: it goes once the state holds what it held.
        entries = read_journal(path.parent / JOURNAL_NAME)
        if entries:
            self._journal, self._journal_holds_turns = Journal(path.parent / JOURNAL_NAME), True
        self.messages, self.final_submission, self.init_data = [], None, None
        if path.exists():
            try:
                outputs = _checked_state(json.loads(path.read_bytes()))["outputs"]
                head, generations = outputs.get(HEAD), outputs.get(GENERATIONS)
                super()._load_data()
                self.head = head if isinstance(head, dict) else None
                self.generations = generations if isinstance(generations, dict) else {}
            except (ValueError, RecursionError, KeyError, TypeError) as fault:
                _set_aside(path, fault)
                self.messages, self.final_submission, self.init_data = [], None, None
        known = {message["update_id"] for message in self.messages if "update_id" in message}
        for entry in entries:
            message = entry.get("message")
            if _is_update(message) and message["update_id"] not in known:
                self.messages.append(message)
            if _is_update(message) and isinstance(entry.get(GENERATION), dict) and not self.is_recorded:
                self.generations[message["update_id"]] = entry[GENERATION]
            if isinstance(entry.get(HEAD), dict) and not self.is_recorded:
                self.head = entry[HEAD]
            if isinstance(entry.get(SUBMISSION), dict):
                self.final_submission = entry[SUBMISSION]

    def load_metadata(self) -> None:
        """Load the file of metadata; one that is damaged is set aside, for it holds nothing that is needed."""
        try:
            super().load_metadata()
        except (ValueError, RecursionError, TypeError) as fault:
            _set_aside(Path(self._get_metadata_path()), fault)
            super().load_metadata()

    @cached_property
    def _folder(self) -> Path:
        return Path(self.agent.get_data_dir())

    def get_data(self) -> dict[str, Any]:
        """The state as it is written whole."""
        outputs = {"messages": self.messages, "final_submission": self.final_submission}
        if self.head is not None:
            outputs[HEAD] = self.head
        if self.generations:
            outputs[GENERATIONS] = self.generations
        return {"outputs": outputs, "inputs": self.init_data, "metadata": dict(vars(self.metadata))}

    def set_init_state(self, data: Any) -> bool:
        """Set, once, what the page is shown at first; return whether it was set now. It is written with what follows."""
        with self._lock:
            if self.init_data is not None:
                return False
            self.metadata.task_start = time.time()
            self.init_data = data
            return True

    @property
    def is_recorded(self) -> bool:
        """Whether the result of the world has been kept."""
        return any("WORLD_DATA" in message for message in self.messages)

    @property
    def recorded(self) -> dict[str, Any] | None:
        """The conversation that has been kept, or None."""
        return next(
            (message["WORLD_DATA"].get("custom_data") for message in self.messages if "WORLD_DATA" in message), None
        )

    def record_head(self, head: dict[str, Any]) -> None:
        """Keep, until the result of the world is there, what a recovery needs beside the messages.

        Args:
            head: the conversation as it would be saved, without utterances.
        """
        with self._lock:
            self.head = head
            self._append({HEAD: head}, durable=False)

    def forget(self) -> None:
        """Remove all that was said: whoever declines to take part leaves nothing behind.

        Raises:
            OSError: the state can't be written; nothing is said to have been removed then.
        """
        with self._lock:
            self.messages, self.head, self.generations = [], None, {}
            self._unrecorded.clear()
            self._unwritten.clear()
            self._journal_holds_turns = False
            self.save_data(durable=True)

    def _append(self, entry: dict[str, Any], durable: bool) -> None:
        """Append to the journal, along with what could not be written before.

        Raises:
            OSError: ``durable``, and it can't be written.
        """
        if self._journal is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(self._folder / JOURNAL_NAME)
        try:
            self._journal.append([*self._unwritten, entry], durable)
        except OSError as error:
            if durable:
                raise
            logger.error("%s can't be written (%s); tried again with the next message", self._journal.path, error)
            self._unwritten.append(entry)
        else:
            self._unwritten = []
            self._journal_holds_turns |= durable

    def save_data(self, durable: bool = False) -> None:
        """Save state and metadata, each file whole.

        Args:
            durable: whether they have to survive a power cut; they survive the process's death in any case.

        Raises:
            OSError: a file can't be written; the one before is left as it is.
        """
        with self._lock:
            # What is safe from a power cut stays so: the file that takes its place has to be on disk before its name is.
            self._has_to_last = durable = durable or self._has_to_last
            self._folder.mkdir(parents=True, exist_ok=True)
            files = {self._folder / STATE_NAME: self.get_data()}
            if self.metadata.tips or self.metadata.feedback:  # the rest of it is in the state, too
                files[Path(self._get_metadata_path())] = dict(vars(self.metadata))
            for path, data in files.items():
                text = json.dumps(data).encode()
                if durable or self._written.get(path) != text:
                    replace_file(path, text, durable)
                    self._written[path] = text
            self._unwritten = []
            # As long as the result is not recorded, the journal shows the next start that there is something to recover.
            if self.head is None and (durable or not self._journal_holds_turns):
                self._journal_holds_turns = False
                if self._journal is not None:
                    self._journal.remove()
                    self._journal = None

    def finish(self) -> None:
        """Write the state whole and close what is open, once nothing more will be said or handed in.

        Raises:
            OSError: the state can't be written; the journal stays.
        """
        with self._lock:
            self._is_finished = True
            try:
                self.save_data(durable=self._journal_holds_turns)
            finally:
                if self._journal is not None:
                    self._journal.close()

    def update_submit(self, submit_data: dict[str, Any]) -> None:
        """Record what the page submitted at the end; only the first time counts."""
        with self._lock:
            if self.final_submission is not None:
                return
            self.metadata.task_end = time.time()
            self.final_submission = submit_data
            if self._is_finished:
                self.save_data()
            else:
                self._append({SUBMISSION: submit_data}, durable=False)

    def update_metadata(self, property_name: str, property_value: Any) -> None:
        """Record a tip or feedback."""
        with self._lock:
            super().update_metadata(property_name, property_value)

    def update_data(self, live_update: dict[str, Any]) -> None:
        """Record an update that the server made; what comes from a page passes by unrecorded.

        Raises:
            OSError: it says that a worker's message has arrived, and can't be written.
        """
        if isinstance(live_update, ServerUpdate):
            message = dict(live_update)
            with self._lock:
                if _is_refusal(message):
                    self._keep_refusal(message)
                    return
                if UNRECORDED in message.get("task_data", {}):
                    task_data = dict(message["task_data"])
                    self._unrecorded[message["update_id"]] = task_data.pop(UNRECORDED)
                    message["task_data"] = task_data
                entry: dict[str, Any] = {"message": message}
                if live_update.generation is not None:
                    self.generations[message["update_id"]] = entry[GENERATION] = live_update.generation
                self._append(entry, durable=live_update.acknowledges)
                self.messages.append(message)

    def _keep_refusal(self, refusal: dict[str, Any]) -> None:
        """Keep a refusal in place of the oldest. The list is a new one, since a page that comes back may be reading it."""
        earlier = [message for message in self.messages if _is_refusal(message)]
        gone = earlier[0] if len(earlier) >= KEPT_REFUSALS else None
        self.messages = [*(message for message in self.messages if message is not gone), refusal]

    def record_world_data(self, world_data: dict[str, Any], at_once: bool = True) -> None:
        """Keep the result of a world, once, as analysis expects it.

        Args:
            world_data: what the world's ``prep_save_data`` returned; its ``custom_data`` is the saved conversation.
            at_once: whether it has to be on disk when this returns; else it is from :meth:`finish` on.

        Raises:
            OSError: it can't be written; nothing is recorded.
            TypeError, ValueError: it is not JSON; nothing is recorded.
        """
        if not at_once:
            json.dumps(world_data)  # what is not JSON would keep the state from ever being written
        with self._lock:
            before, head, generations = list(self.messages), self.head, self.generations
            self.messages.append({"id": "Coordinator", "text": "", FINAL_CHAT_DATA: world_data.get("custom_data")})
            self.messages.append({"id": WORLD_DATA_ID, "text": "", "WORLD_DATA": world_data})
            self.head, self.generations = None, {}
            if not at_once:
                return
            try:
                self.save_data(durable=True)
            except BaseException:
                # What is not on disk is not recorded.
                self.messages[:], self.head, self.generations = before, head, generations
                raise

    def get_init_state(self) -> dict[str, Any] | None:
        """What a page gets when it (re)connects: the updates it has been sent, and never the world's data."""
        if self.init_data is None:
            return None
        return {
            "task_data": self.init_data,
            "past_live_updates": [
                self._whole(message)
                for message in self.messages
                if "WORLD_DATA" not in message and FINAL_CHAT_DATA not in message
            ],
        }

    def _whole(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message with what of it is kept in memory only."""
        unrecorded = self._unrecorded.get(message.get("update_id", ""))
        if unrecorded is None:
            return message
        return {**message, "task_data": {**message["task_data"], UNRECORDED: unrecorded}}

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


def state_of(agent: Agent | OnboardingAgent) -> ModelChatAgentState:
    """Return an agent's state as what it is: the blueprints name this class to Mephisto, which declares its base only."""
    return cast("ModelChatAgentState", agent.state)


def _is_refusal(message: dict[str, Any]) -> bool:
    return (message.get("task_data") or {}).get("control") == REFUSED


def _checked_state(state: Any) -> dict[str, Any]:
    """A state as :meth:`ModelChatAgentState.get_data` makes it.

    Raises:
        ValueError: it is none.
    """
    outputs = state.get("outputs") if isinstance(state, dict) else None
    messages = outputs.get("messages") if isinstance(outputs, dict) else None
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and isinstance(message.get("WORLD_DATA", {}), dict) for message in messages
    ):
        raise ValueError("it holds no list of messages")
    return dict(state)


def _set_aside(path: Path, fault: Exception) -> None:
    """Keep a damaged file under another name, where nothing overwrites it."""
    number = 0
    while (aside := path.with_name(f"{path.name}.damaged{number or ''}")).exists():
        number += 1
    path.rename(aside)
    logger.warning("%s can't be read (%s) and is left out; it is kept as %s", path, fault, aside.name)


def _is_update(message: Any) -> TypeGuard[dict[str, Any]]:
    """Whether what a journal holds is an update as :class:`ServerUpdate` makes them."""
    return (
        isinstance(message, dict)
        and isinstance(message.get("update_id"), str)
        and isinstance(message.get("task_data", {}), dict)
    )

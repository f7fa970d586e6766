"""The state behind the preview's page: its study, and the conversations with it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.exceptions import AbsentAgentError, AgentTimeoutError
from rich.console import Console

from model_chat.compat.terminal import print_plain
from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.errors import ConfigurationError
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.mephisto_task.task_runner import NOT_TAKING_PART, TECHNICAL_PROBLEM, TIME_IS_UP, tell_end
from model_chat.preview.agent import PreviewHuman
from model_chat.preview.study import Study, state_of, watched_files
from model_chat.records.participation import EndingKind
from model_chat.serving.model import StoppedError

logger = logging.getLogger(__name__)

MOST_CONVERSATIONS = 20
"""At the same time; each is a thread. One more ends the oldest."""


class Preview:
    """Everything behind the page: the agents of the operator (:class:`~model_chat.preview.operator.Agents`).

    The operator's thread asks and delivers, the main thread looks for changes, and worlds run in threads of their own;
    ``_lock`` guards who takes part.

    Args:
        overrides, reply, onboarding, model: see :class:`Study`.

    Raises:
        ConfigurationError: the study has a fault.
    """

    def __init__(
        self, overrides: Sequence[str], reply: str, onboarding: bool, console: Console, model: str | None = None
    ) -> None:
        self._arguments = (list(overrides), reply, onboarding)
        self._model = model
        self._console = console
        self._folder = Path(tempfile.mkdtemp(prefix="model_chat_preview_"))
        self.send: Callable[[str, str, dict[str, Any]], None] = lambda *packet: None
        """Sends a packet to the router: the operator's, once there is one."""
        self._lock = threading.RLock()
        self._numbers = count(1)
        self._agents: dict[str, PreviewHuman] = {}
        self._by_registration: dict[str, PreviewHuman] = {}
        self._failed: set[str] = set()
        self._passed: set[str] = set()
        self._chats: list[threading.Thread] = []
        self.version = 0
        self.faults: tuple[str, ...] = ()
        try:
            self.study = Study(*self._arguments, self._folder, console, model)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._state = state_of(watched_files(self.study.cfg))

    def close(self) -> None:
        """End open conversations, and remove what was written."""
        self.start_over()
        self.study.close(self._chats)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def state(self) -> dict[str, Any]:
        """What the page's bar shows: the version of the study, its faults, and the parts that can be looked at."""
        parts = ["chat", "onboarding", ""] if self.study.has_onboarding else ["chat", ""]
        return {"version": self.version, "faults": list(self.faults), "parts": parts}

    def look_for_changes(self) -> bool:
        """Read the study anew if one of its files has changed; with a fault in them, the one before stays.

        Returns:
            whether there is something new to be shown.
        """
        state = state_of(watched_files(self.study.cfg))
        if state == self._state:
            return False
        self._state = state
        try:
            study = Study(*self._arguments, self._folder, self._console, self._model)
        except ConfigurationError as error:
            self.faults = error.faults
            for text in error.faults:
                print_plain(self._console, f"✗ {text}")
            return True
        self.faults = ()
        self._state = state_of(watched_files(study.cfg))  # the files may be others now
        with self._lock:
            before, self.study = self.study, study
            chats, self._chats = self._chats, []
            passed = self._passed if _onboarding_of(before) == _onboarding_of(study) else set()
            self.start_over()
            self._passed = passed  # who has passed is not asked again because of a change elsewhere
        before.close(chats)
        self._console.print("The files have changed; the page starts over.")
        return True

    def start_over(self) -> None:
        """Forget every conversation; pages reload when they see the new version."""
        with self._lock:
            self.version += 1
            for human in self._agents.values():
                human.leave()
            self._agents.clear()
            self._by_registration.clear()
            self._failed.clear()
            self._passed = set()

    def request_agent(self, provider_data: Any) -> dict[str, Any]:
        """Answer a page that wants to take part, the same again after a reload."""
        registration = str(provider_data.get("agent_registration_id")) if isinstance(provider_data, dict) else ""
        with self._lock:
            if registration in self._failed:
                return _no_agent(
                    "You did not pass onboarding. In a real run you would not be let in again; here, start over."
                )
            human = self._by_registration.get(registration)
            if human is None:
                asks = not registration.endswith("-chat") and registration not in self._passed
                human = self._begin(registration, onboarding=self.study.has_onboarding and asks)
            return self._details(human)

    def submit_onboarding(self, agent_id: str) -> dict[str, Any]:
        """Continue from a passed onboarding to the chat."""
        with self._lock:
            for registration, human in self._by_registration.items():
                if human.agent_id == agent_id:
                    if human.status != AgentState.STATUS_WAITING:
                        return self._details(human)
                    self._passed.add(registration)
                    return self._details(self._begin(registration, onboarding=False))
        return _no_agent("The preview has started over; reload the page.")

    def deliver(self, agent_id: str, update: Any) -> None:
        """Hand a packet of a page to its conversation."""
        human = self._agents.get(agent_id)
        if human is not None:
            human.deliver(update)

    def _begin(self, registration: str, onboarding: bool) -> PreviewHuman:
        number = next(self._numbers)
        agent_id = f"onboarding_{number}" if onboarding else str(number)
        human = PreviewHuman(agent_id, lambda *packet: self.send(*packet), self.study.shared.texts)
        while len(self._agents) >= MOST_CONVERSATIONS:
            oldest = self._agents.pop(next(iter(self._agents)))
            self._by_registration = {who: human for who, human in self._by_registration.items() if human is not oldest}
            oldest.leave()
        self._agents[human.agent_id] = self._by_registration[registration] = human
        target = self._run_onboarding if onboarding else self._run_chat
        chat = threading.Thread(target=target, args=(self.study.shared, human, registration), daemon=True)
        chat.start()
        self._chats = [*(thread for thread in self._chats if thread.is_alive()), chat]
        return human

    def _details(self, human: PreviewHuman) -> dict[str, Any]:
        task_data = self.study.shared.onboarding_data if human.agent_id.startswith("onboarding") else {}
        started = {"task_data": task_data, "past_live_updates": list(human.updates)}
        return {"worker_id": human.worker_id, "agent_id": human.agent_id, "init_task_data": started}

    def _run_onboarding(self, shared: ModelChatSharedState, human: PreviewHuman, registration: str) -> None:
        world = shared.require_world_module().make_onboarding_world(
            shared.onboarding_world_opt, human, initialization_data=shared.onboarding_data
        )
        try:
            while not world.episode_done():
                world.parley()
        except AbsentAgentError as absent:
            _end_absent(human, absent)
        except Exception:  # the world may be the lab's own
            logger.exception("The onboarding broke down")
            human.control("onboarding_failed", reason="The onboarding's world has raised an error; see the terminal.")
        else:
            if world.passed:
                human.set_status(AgentState.STATUS_WAITING)
            else:
                with self._lock:
                    self._failed.add(registration)
        finally:
            world.shutdown()

    def _run_chat(self, shared: ModelChatSharedState, human: PreviewHuman, registration: str) -> None:
        try:
            world = shared.require_world_module().make_world(shared.world_opt, [human], initialization_data=None)
            try:
                try:
                    while not world.episode_done():
                        world.parley()
                except AgentTimeoutError:
                    if not world.is_worth_keeping:
                        raise
                    world.abandon("timeout")
                    tell_end(human, EndingKind.TIMED_OUT, "timeout", TIME_IS_UP)
                    return
                world.prep_save_data(
                    [human]
                )  # what a world of one's own adds to the record is tried, too; it goes nowhere
                if getattr(world, "ending_kind", None) is EndingKind.DECLINED:
                    tell_end(human, EndingKind.DECLINED, EndingKind.DECLINED.value, NOT_TAKING_PART)
                    return
                human.control("ended", outcome=world.completion.value, reason="", task_done=True)
            finally:
                world.settle(collected=False)
                world.shutdown()
        except AbsentAgentError as absent:
            _end_absent(human, absent)
        except StoppedError:
            logger.debug("A conversation ends, for the page starts over")
        except Exception:  # the world may be the lab's own
            logger.exception("The conversation broke down")
            human.control("ended", outcome="incomplete", reason=TECHNICAL_PROBLEM, task_done=True)


def _onboarding_of(study: Study) -> OnboardingConfig | None:
    """Return the dialogues, their answers, and what passes; None without onboarding."""
    options = study.shared.onboarding_world_opt
    return None if options is None else options.config


def _end_absent(human: PreviewHuman, absent: AbsentAgentError) -> None:
    if isinstance(absent, AgentTimeoutError):
        human.set_status(AgentState.STATUS_TIMEOUT)


def _no_agent(reason: str) -> dict[str, Any]:
    return {"agent_id": None, "failure_reason": reason}

"""The state behind the preview's page: its study, and the conversations with it."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.exceptions import AbsentAgentError, AgentTimeoutError
from rich.console import Console

from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.conversation.study_flow import DECLINED
from model_chat.errors import ConfigurationError
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.mephisto_task.task_runner import NOT_TAKING_PART, TECHNICAL_PROBLEM, TIME_IS_UP, tell_end
from model_chat.preview.seat import PreviewHuman
from model_chat.preview.study import Study, state_of, watched_files
from model_chat.serving.model import StoppedError

logger = logging.getLogger(__name__)

MOST_CONVERSATIONS = 20
"""At the same time; each is a thread."""
LONGEST_ID = 256


class Preview:
    """Everything behind the page. Belongs to the server's loop; worlds run in threads of their own.

    Args:
        overrides, reply, onboarding, model: see :class:`Study`.
        console: where faults are said.

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
        self._numbers = count(1)
        self._agents: dict[str, PreviewHuman] = {}
        self._by_registration: dict[str, PreviewHuman] = {}
        self._failed: set[str] = set()
        self._passed: set[str] = set()
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
        self.study.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def look_for_changes(self) -> None:
        """Read the study anew if one of its files has changed; with a fault in them, the one before stays."""
        state = state_of(watched_files(self.study.cfg))
        if state == self._state:
            return
        self._state = state
        try:
            study = Study(*self._arguments, self._folder, self._console, self._model)
        except ConfigurationError as error:
            self.faults = error.faults
            for text in error.faults:
                self._console.print(f"✗ {text}", highlight=False, soft_wrap=True, markup=False)
            return
        self.faults = ()
        before, self.study = self.study, study
        self._state = state_of(watched_files(study.cfg))  # the files may be others now
        passed = self._passed if _onboarding_of(before) == _onboarding_of(study) else set()
        self.start_over()
        self._passed = passed  # who has passed is not asked again because of a change elsewhere
        before.close()
        self._console.print("The files have changed; the page starts over.")

    def start_over(self) -> None:
        """Forget every conversation; pages reload when they see the new version."""
        self.version += 1
        for human in self._agents.values():
            human.leave()
        self._agents.clear()
        self._by_registration.clear()
        self._failed.clear()
        self._passed = set()

    def repeat_onboarding(self) -> None:
        """Forget who has passed or failed onboarding, and the conversations after it; those without one continue."""
        for registration in [name for name in self._by_registration if not _wants_chat(name)]:
            human = self._by_registration.pop(registration)
            self._agents.pop(human.agent_id, None)
            human.leave()
        self._failed.clear()
        self._passed = set()

    def request_agent(self, provider_data: Any) -> dict[str, Any]:
        """Answer a page that wants to take part, the same again after a reload."""
        registration = str(provider_data.get("agent_registration_id")) if isinstance(provider_data, dict) else ""
        if len(registration) > LONGEST_ID:
            return _no_agent("The address of this page names somebody whose id is too long.")
        if registration in self._failed:
            return _no_agent(
                "You did not pass onboarding. In a real run you would not be let in again; here, start over."
            )
        human = self._by_registration.get(registration)
        if human is None and len(self._agents) >= MOST_CONVERSATIONS:
            return _no_agent(f"There are {MOST_CONVERSATIONS} conversations with this preview; start over.")
        if human is None:
            asks = not _wants_chat(registration) and registration not in self._passed
            human = self._begin(registration, onboarding=self.study.has_onboarding and asks)
        return self._details(human)

    def submit_onboarding(self, agent_id: Any) -> dict[str, Any]:
        """Continue from a passed onboarding to the chat."""
        for registration, human in self._by_registration.items():
            if human.agent_id == agent_id:
                if human.status != AgentState.STATUS_WAITING:
                    return self._details(human)
                self._passed.add(registration)
                return self._details(self._begin(registration, onboarding=False))
        return _no_agent("The preview has started over; reload the page.")

    def agent(self, agent_id: Any) -> PreviewHuman | None:
        """Return the human side of a conversation by its agent id."""
        return self._agents.get(str(agent_id))

    def _begin(self, registration: str, onboarding: bool) -> PreviewHuman:
        number = next(self._numbers)
        human = PreviewHuman(f"onboarding_{number}" if onboarding else str(number), asyncio.get_running_loop())
        self._agents[human.agent_id] = self._by_registration[registration] = human
        target = self._run_onboarding if onboarding else self._run_chat
        threading.Thread(target=target, args=(self.study.shared, human, registration), daemon=True).start()
        return human

    def _details(self, human: PreviewHuman) -> dict[str, Any]:
        task_data = self.study.shared.onboarding_data if human.agent_id.startswith("onboarding") else {}
        started = {"task_data": task_data, "past_live_updates": list(human.updates)}
        return {"data": {"worker_id": human.worker_id, "agent_id": human.agent_id, "init_task_data": started}}

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
                    tell_end(human, "timeout", TIME_IS_UP)
                    return
                world.prep_save_data(
                    [human]
                )  # what a world of one's own adds to the record is tried, too; it goes nowhere
                if getattr(world, "ending", None) == DECLINED:
                    tell_end(human, DECLINED, NOT_TAKING_PART)
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


def _wants_chat(registration: str) -> bool:
    """Whether a page has asked for the chat without onboarding."""
    return registration.endswith("-chat")


def _onboarding_of(study: Study) -> OnboardingConfig | None:
    """Return the dialogues, their answers, and what passes; None without onboarding."""
    options = study.shared.onboarding_world_opt
    return None if options is None else options.config


def _end_absent(human: PreviewHuman, absent: AbsentAgentError) -> None:
    if isinstance(absent, AgentTimeoutError):
        human.set_status(AgentState.STATUS_TIMEOUT)


def _no_agent(reason: str) -> dict[str, Any]:
    return {"data": {"agent_id": None, "failure_reason": reason}}

"""The onboarding before a worker's first conversation: they annotate dialogues whose right answers are known.

A researcher changes the criterion by overriding :meth:`ModelChatOnboardWorld.check_onboarding_answers` in a world file of
their own (docs/onboarding.md), which imports all this from :mod:`model_chat.worlds`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.configuration.worker_texts import worker_text
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.incoming import RefusedError, message_id_of
from model_chat.quality.onboarding import (
    OnboardingOutcome,
    OnboardingStatistics,
    OnboardingTries,
    grade,
    read_answers,
    wrong_replies,
)


@dataclass(frozen=True)
class OnboardingOptions:
    """What all onboardings of a run share.

    Attributes:
        max_onboard_time: seconds for all tries together.
        tries: used by each worker, whatever tab or connection they come from.
    """

    config: OnboardingConfig
    annotations: AnnotationsConfig
    max_onboard_time: int
    statistics: OnboardingStatistics = field(default_factory=OnboardingStatistics)
    tries: OnboardingTries = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tries", OnboardingTries(self.config.tries))


class ModelChatOnboardWorld:
    """A worker annotates the onboarding dialogues until they pass or have no try left."""

    def __init__(self, options: OnboardingOptions, human: HumanAgent) -> None:
        self.options = options
        self.human = human
        self.outcome: OnboardingOutcome | None = None
        self._deadline: float | None = None
        self._graded: set[str] = set()

    def check_onboarding_answers(self, worker_answers: list[list[list[str] | None]]) -> bool:
        """Decide whether a worker passes. Override this to change the selection criterion.

        For each dialogue, exactly the right set of boxes is one correct answer and anything else one incorrect answer;
        passing takes at least ``min_correct`` and at most ``max_incorrect`` of ``onboard_task_data.json``.

        Args:
            worker_answers: one list a dialogue, one entry an utterance: the ticked buckets, None for a human's utterance.
                Shapes and bucket names have been checked.
        """
        config = self.options.config
        correct, incorrect = grade(worker_answers, config.right_answers())
        return correct >= config.min_correct and incorrect <= config.max_incorrect

    def parley(self) -> None:
        """Wait for one answer sheet and grade it.

        Raises:
            AbsentAgentError: Mephisto's exceptions for a worker who left or took too long.
        """
        if self._deadline is None:
            self._deadline = time.monotonic() + self.options.max_onboard_time
            self.options.statistics.started()
            tries, worker_id = self.options.tries, self.human.worker_id
            if tries.has_passed(worker_id):  # in another tab
                self._pass()
                return
            at_start = tries.left(worker_id)
            if at_start == 0:  # the last one was used up in another tab
                self._fail()
                return
            self.human.control("onboarding_start", tries_left=at_start, seconds=self.options.max_onboard_time)
        packet = self.human.receive(self._deadline)
        message_id = message_id_of(packet)
        if message_id is not None and message_id in self._graded:
            return  # sent again by a page that had lost its connection: graded once
        try:
            answers = read_answers(packet, self.options.config, self.options.annotations)
        except RefusedError as refused:
            self.human.control("refused", message_id=message_id, code=refused.code, reason=refused.reason)
            return
        if message_id is not None:
            self._graded.add(message_id)
        passed, left_now = self.options.tries.take(self.human.worker_id, lambda: self.check_onboarding_answers(answers))
        if passed:
            self._pass()
        elif left_now == 0:
            self._fail()
        else:
            self.human.control(
                "onboarding_retry",
                tries_left=left_now,
                reason=worker_text("onboarding.retry", tries=left_now),
                explanations=self.options.config.explanations(),
                wrong=[
                    {"dialog_idx": dialog_idx, "utterance_idx": utterance_idx}
                    for dialog_idx, utterance_idx in wrong_replies(answers, self.options.config.right_answers())
                ],
            )

    def _pass(self) -> None:
        self._end(OnboardingOutcome.PASSED)
        self.human.control("onboarding_passed")

    def _fail(self) -> None:
        self._end(OnboardingOutcome.FAILED)
        self.human.control("onboarding_failed", reason=worker_text("onboarding.failed"))

    def _end(self, outcome: OnboardingOutcome) -> None:
        self.outcome = outcome
        self.options.statistics.ended(outcome)

    def episode_done(self) -> bool:
        """Whether the worker has passed or failed for good."""
        return self.outcome is not None

    @property
    def passed(self) -> bool:
        """Whether the worker has passed."""
        return self.outcome is OnboardingOutcome.PASSED

    def prep_save_data(self, agents: Sequence[Any]) -> dict[str, Any]:
        """What Mephisto's database keeps of the onboarding; :func:`validate_onboarding` reads it."""
        return {
            "custom_data": {
                "onboarding_outcome": None if self.outcome is None else self.outcome.value,
                "tries_used": self.options.config.tries - self.options.tries.left(self.human.worker_id),
            }
        }

    def abandon(self) -> None:
        """Count the worker as having left; nothing happens after the end."""
        if self.outcome is None:
            self._end(OnboardingOutcome.LEFT)

    def shutdown(self) -> None:
        """Nothing is held that would have to be freed."""


def make_onboarding_world(
    opt: OnboardingOptions, agent: HumanAgent, initialization_data: Any = None
) -> ModelChatOnboardWorld:
    """Make the world of one worker's onboarding."""
    return ModelChatOnboardWorld(opt, agent)


def validate_onboarding(data: dict[str, Any]) -> bool:
    """Whether the recorded onboarding was passed.

    Args:
        data: what the onboarding agent's state holds (``AgentState.get_data()``).
    """
    messages = data.get("outputs", {}).get("messages", [])
    for message in reversed(messages):
        if "WORLD_DATA" in message:
            outcome = message["WORLD_DATA"].get("custom_data", {}).get("onboarding_outcome")
            return bool(outcome == OnboardingOutcome.PASSED.value)
    return False

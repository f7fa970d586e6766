"""What the task runner asks of a world and of a world file's module.

A researcher's world file (docs/worlds.md) need not subclass anything: whatever has these members can be run.
:class:`model_chat.worlds.ModelChatWorld` and
:class:`~model_chat.conversation.onboarding_world.ModelChatOnboardWorld` are the shipped ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from model_chat.conversation.human_agent import HumanAgent
from model_chat.quality.blocks import BlockReason
from model_chat.records.schema import Completion


class OnboardingWorld(Protocol):
    """One worker's onboarding."""

    @property
    def passed(self) -> bool:
        """Whether the worker has passed; asked when the onboarding is over."""

    def parley(self) -> None:
        """Do one step."""

    def episode_done(self) -> bool:
        """Whether the onboarding is over."""

    def prep_save_data(self, agents: Sequence[HumanAgent]) -> dict[str, Any]:
        """What Mephisto's database keeps."""

    def abandon(self) -> None:
        """The worker has left, or the onboarding broke down."""

    def shutdown(self) -> None:
        """Free what is held; called last, in every case."""


class ConversationWorld(Protocol):
    """One conversation between a worker and a model.

    What follows a study flow has two more attributes, which the task runner looks for (docs/worlds.md):
    ``keeps_nothing`` and ``head_version``.
    """

    @property
    def completion(self) -> Completion:
        """Whether the conversation is complete."""

    @property
    def is_worth_keeping(self) -> bool:
        """Whether an incomplete conversation is saved."""

    def parley(self) -> None:
        """Do one step; the first one opens the conversation, and takes nothing from the worker."""

    def episode_done(self) -> bool:
        """Whether the conversation is over."""

    def prep_save_data(self, agents: Sequence[HumanAgent]) -> dict[str, Any]:
        """What is saved; its ``custom_data`` is the conversation (:class:`model_chat.records.schema.Conversation`)."""

    def block_reasons(self) -> list[tuple[BlockReason, str]]:
        """Why the worker is to get no further conversations, each with a detail for the log."""

    def abandon(self, reason: str) -> None:
        """End the conversation as incomplete."""

    def settle(self, collected: bool) -> None:
        """Count the conversation as collected, or release its reservation; called once."""

    def shutdown(self) -> None:
        """Free what is held; called last, in every case."""


class WorldModule(Protocol):
    """The module of ``mephisto.blueprint.world_file``, with the shipped onboarding where it has none of its own.

    ``opt`` is what :mod:`model_chat.launch.task_run` makes: `ChatOptions` in text chat, `ImageChatOptions` in image chat,
    `OnboardingOptions` for the onboarding. Which of them a module takes is its own choice, so that here it is `Any`.
    """

    def get_world_params(self) -> dict[str, Any]:
        """``agent_count``: workers in one conversation."""

    def make_world(self, opt: Any, agents: Sequence[HumanAgent], initialization_data: Any = None) -> ConversationWorld:
        """Make the world of one conversation.

        Raises:
            NoReservationLeftError: there is nothing for this worker.
        """

    def make_onboarding_world(self, opt: Any, agent: HumanAgent, initialization_data: Any = None) -> OnboardingWorld:
        """Make the world of one worker's onboarding."""

    def validate_onboarding(self, data: dict[str, Any]) -> bool:
        """Whether the recorded onboarding was passed; ``data`` is what the onboarding agent's state holds."""

"""State that all conversations of a run share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mephisto.abstractions.blueprint import SharedTaskState
from mephisto.abstractions.blueprints.mixins.onboarding_required import OnboardingSharedState

from model_chat.configuration.worker_texts import Texts
from model_chat.crowd.arrivals import ArrivalChecker
from model_chat.crowd.endings import Endings
from model_chat.serving.spend import ModelSpend

if TYPE_CHECKING:
    from model_chat.conversation.onboarding_world import OnboardingOptions
    from model_chat.conversation.world import WorldModule
    from model_chat.mephisto_task.live_run import TaskLiveRun
    from model_chat.worlds import ChatOptions


@dataclass
class ModelChatSharedState(OnboardingSharedState, SharedTaskState):
    """What all conversations of a run share; filled by :mod:`model_chat.launch.task_run` before the launch.

    Attributes:
        world_opt: passed to ``make_world``.
        onboarding_world_opt: passed to ``make_onboarding_world``; None without onboarding.
        page_config: what the page is told (``task_config.json``).
        live_run: Mephisto's running task, once there is one.
        most_units: how many may be offered in all, replacements included; None: any number.
        spend: what the models cost; None where nobody counts it.
        endings: what participants of a panel are told at the end; None for providers that are no panel.
        arrivals: who comes with which address; None likewise.
    """

    world_module: WorldModule | None = None
    world_opt: ChatOptions | None = None
    onboarding_world_opt: OnboardingOptions | None = None
    page_config: dict[str, Any] = field(default_factory=dict)
    chat_data_folder: Path = Path()
    is_live: bool = False
    live_run: TaskLiveRun | None = None
    units: int = 0
    most_units: int | None = None
    spend: ModelSpend | None = None
    endings: Endings | None = None
    arrivals: ArrivalChecker | None = None
    texts: Texts = field(default_factory=Texts)

    def require_world_module(self) -> WorldModule:
        """Return :attr:`world_module`.

        Raises:
            RuntimeError: it is not set: Mephisto made this shared state itself.
        """
        if self.world_module is None:
            raise RuntimeError("The shared state has no world module; model_chat.launch.task_run makes one that has.")
        return self.world_module

    def onboarding_counts(self) -> dict[str, int]:
        """Return how many onboardings began and how they ended."""
        options = self.onboarding_world_opt
        return {} if options is None else options.statistics.counts()

    def onboarding_text(self) -> str:
        """Return the same for the requester to read; "" where there is no onboarding."""
        return ", ".join(f"{number} {what}" for what, number in self.onboarding_counts().items())

"""State that all conversations of a run share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mephisto.abstractions.blueprint import SharedTaskState
from mephisto.abstractions.blueprints.mixins.onboarding_required import OnboardingSharedState

from model_chat.serving.spend import ModelSpend


@dataclass
class ModelChatSharedState(OnboardingSharedState, SharedTaskState):  # type: ignore[misc]  # mephisto has no types
    """What all conversations of a run share; filled by :mod:`model_chat.launch.task_run` before the launch.

    Attributes:
        world_module: the module of ``world_file``.
        world_opt: passed to ``make_world``.
        onboarding_world_opt: passed to ``make_onboarding_world``; None without onboarding.
        page_config: what the page is told (``task_config.json``).
        chat_data_folder: where conversations are saved.
        is_live: whether real crowd work is paid for.
        live_run: Mephisto's running task, once there is one.
        units: how many conversations to offer.
        most_units: how many may be offered in all, replacements included; None: any number.
        spend: what the models cost; None where nobody counts it.
    """

    world_module: Any = None
    world_opt: Any = None
    onboarding_world_opt: Any = None
    page_config: dict[str, Any] = field(default_factory=dict)
    chat_data_folder: Path = Path()
    is_live: bool = False
    live_run: Any = None
    units: int = 0
    most_units: int | None = None
    spend: ModelSpend | None = None

    def onboarding_counts(self) -> dict[str, int]:
        """Return how many onboardings began and how they ended."""
        statistics = getattr(self.onboarding_world_opt, "statistics", None)
        return {} if statistics is None else statistics.counts()

    def onboarding_text(self) -> str:
        """Return the same for the requester to read; "" where there is no onboarding."""
        return ", ".join(f"{number} {what}" for what, number in self.onboarding_counts().items())

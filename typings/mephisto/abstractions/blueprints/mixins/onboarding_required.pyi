from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mephisto.abstractions.blueprint import BlueprintMixin
from mephisto.data_model.agent import OnboardingAgent
from mephisto.data_model.worker import Worker

@dataclass
class OnboardingSharedState:
    onboarding_data: dict[str, Any] = ...
    validate_onboarding: Callable[[Any], bool] = ...

class OnboardingRequired(BlueprintMixin):
    @staticmethod
    def get_failed_qual(qual_name: str) -> str: ...
    onboarding_qualification_name: str | None
    onboarding_data: dict[str, Any]
    use_onboarding: bool

    def get_onboarding_data(self, worker_id: str) -> dict[str, Any]: ...
    def validate_onboarding(self, worker: Worker, onboarding_agent: OnboardingAgent) -> bool: ...

"""What Prolific's API is asked with and answers, as far as this project uses it; amounts are whole pence or cents.

The fields are those of Prolific's OpenAPI document (https://docs.prolific.com/api-reference); further ones are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class RejectionCategory(StrEnum):
    """Why a submission is rejected; Prolific takes no other."""

    TOO_QUICKLY = "TOO_QUICKLY"
    TOO_SLOWLY = "TOO_SLOWLY"
    FAILED_INSTRUCTIONS = "FAILED_INSTRUCTIONS"
    INCOMP_LONGITUDINAL = "INCOMP_LONGITUDINAL"
    FAILED_CHECK = "FAILED_CHECK"
    LOW_EFFORT = "LOW_EFFORT"
    MALINGERING = "MALINGERING"
    NO_CODE = "NO_CODE"
    BAD_CODE = "BAD_CODE"
    NO_DATA = "NO_DATA"
    UNSUPP_DEVICE = "UNSUPP_DEVICE"
    OTHER = "OTHER"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Study(_Answer):
    """A study; amounts are in pence or cents of its currency."""

    id: str
    status: str
    reward: int = Field(ge=0)
    total_available_places: int = Field(ge=0)
    places_taken: int | None = None
    estimated_completion_time: float | None = None
    """Minutes."""
    currency_code: str | None = None
    presentment_currency_code: str | None = None

    @property
    def currency(self) -> str | None:
        """The code of its currency, None where Prolific does not say."""
        return self.currency_code or self.presentment_currency_code or None


class Submission(_Answer):
    """A submission, as a list has it. A status may be one that is not documented."""

    id: str
    participant_id: str
    status: str
    started_at: str | None = None
    completed_at: str | None = None


class SubmissionDetail(_Answer):
    """A submission by itself; ``bonus_payments`` are those already paid, in pence or cents."""

    id: str
    status: str
    study_id: str
    participant: str | None = None
    bonus_payments: list[float] = Field(default_factory=list)


class BulkBonus(_Answer):
    """Bonuses that are set up and not paid yet, in pence or cents."""

    id: str = Field(min_length=1)
    total_amount: float = Field(ge=0)
    """With fees and VAT."""
    amount: float | None = None
    """What the participants get."""


class Balance(_Answer):
    """What a workspace has, in pence or cents."""

    currency_code: str
    available_balance: int


class Submissions(_Answer):
    """A page of a study's submissions."""

    results: list[Submission]


@dataclass(frozen=True)
class BonusLine:
    """One line of a bulk bonus: a submission's (or participant's) id, and pence or cents."""

    recipient: str
    cents: int

    def as_csv(self) -> str:
        """Return the line as Prolific reads it: a decimal amount of the study's currency."""
        return f"{self.recipient},{self.cents // 100}.{self.cents % 100:02d}"

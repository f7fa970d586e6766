"""Where a participant came from and what they were told at the end: `participation` of a saved conversation."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

PANELS = ("prolific", "connect", "sona", "panel", "link")
"""Providers whose participants come by an address and are told an ending."""


class EndingKind(StrEnum):
    """How a participant's part ended. The values are the keys of `mephisto.provider.codes`."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    SCREENED_OUT = "screened_out"
    DECLINED = "declined"
    NO_WORK = "no_work"
    MODEL_FAILED = "model_failed"
    TIMED_OUT = "timed_out"
    BLOCKED = "blocked"


class Participation(BaseModel):
    """One participant's part. `code` is None where the ending has none, or before the participant was told one."""

    model_config = ConfigDict(extra="forbid")

    provider: str
    """`mephisto/provider`."""
    participant: str
    """As in `workers`."""
    study: str | None = None
    """The panel's id of the study, where the address gave one."""
    session: str | None = None
    """The panel's id of this participation (on Prolific: the submission)."""
    ending: EndingKind | None = None
    """None for a conversation that was cut off before its participant was told anything."""
    code: str | None = None

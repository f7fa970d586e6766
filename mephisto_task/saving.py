"""Saving a conversation in two places, of which one may fail, and an agent's state."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from model_chat.mephisto_task.agent_state import state_of

if TYPE_CHECKING:
    from mephisto.data_model.agent import Agent, OnboardingAgent

logger = logging.getLogger(__name__)

SAVING_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 0.0)
"""Seconds after each attempt to save a conversation: it outlasts a disk that is full for a quarter of a minute."""


def save_in_all(places: Mapping[str, Callable[[], object]]) -> bool:
    """Save a conversation in each place, repeatedly where it fails; return whether it is safe in at least one.

    Args:
        places: name for the log -> what saves it there.
    """
    left = dict(places)
    safe = False
    for pause in SAVING_PAUSES:
        for place, save in list(left.items()):
            try:
                save()
            except Exception as error:  # whatever fails in one place, the other one is written
                logger.error("A conversation can't be written to %s (%s); check the disk", place, error)
            else:
                safe = True
                del left[place]
        if not left or (safe and pause > 1):  # safe in one place, it waits for the other only for a moment
            break
        time.sleep(pause)
    return safe


def finish_state(agent: Agent | OnboardingAgent) -> None:
    """Write an agent's state whole, now that nothing more is said."""
    try:
        state_of(agent).finish()
    except OSError as error:
        logger.error(
            "The state of %s can't be written (%s); its journal stays, and the next start reads it", agent, error
        )

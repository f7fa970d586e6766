"""The end of a world, which may be a researcher's own: whatever it raises then is logged, and ends nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from model_chat.records.participation import EndingKind
from model_chat.records.schema import Completion

if TYPE_CHECKING:
    from model_chat.conversation.world import ConversationWorld, OnboardingWorld

logger = logging.getLogger(__name__)

ANYTHING = (Exception, SystemExit)
"""What a world may raise, which may be a researcher's own; ParlAI ends the program over a faulty option."""


def ending_of(world: ConversationWorld, broken: bool) -> EndingKind:
    """How a conversation has ended that ran to its end, or broke down; a world may say it itself (``ending_kind``)."""
    try:
        if world.completion is Completion.COMPLETE:
            return EndingKind.COMPLETE
        of_world = getattr(world, "ending_kind", None)
        if not broken:
            return EndingKind(of_world) if of_world in list(EndingKind) else EndingKind.INCOMPLETE
    except ANYTHING:  # the world's own code
        logger.exception("How a conversation has ended could not be asked of its world")
    return EndingKind.MODEL_FAILED


def abandon(world: ConversationWorld, reason: str) -> None:
    """End a conversation that does not run to its end; the reason is for the record."""
    guarded("abandon", lambda: world.abandon(reason))


def abandon_onboarding(world: OnboardingWorld | None) -> None:
    """End an onboarding that does not run to its end; None: its world could not be made."""
    if world is not None:
        guarded("abandon", lambda: world.abandon())


def shut_down_onboarding(world: OnboardingWorld | None) -> None:
    """Let the world of an onboarding free what it holds; None: it could not be made."""
    if world is not None:
        guarded("shutdown", lambda: world.shutdown())


def guarded(method: str, call: Callable[[], None]) -> None:
    """Call a method of a world at its end; what it raises is logged, since the world may be a researcher's own.

    Args:
        call: looks the method up, too: a researcher's world may lack it.
    """
    try:
        call()
    except ANYTHING:  # the world's own code
        logger.exception("'%s' of a world has failed", method)

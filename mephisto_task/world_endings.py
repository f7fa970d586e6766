"""The end of a world, which may be a researcher's own: whatever it raises then is logged, and ends nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from model_chat.records.participation import EndingKind
from model_chat.records.schema import Completion

if TYPE_CHECKING:
    from model_chat.conversation.world import ConversationWorld

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


def guarded(world: object | None, method: str, *arguments: object) -> None:
    """Call a method of a world at its end; what it raises is logged, since the world may be a researcher's own.

    Args:
        world: None where it could not be made: there is nothing to call.
        method: one that the world may lack, too.
    """
    if world is None:
        return
    try:
        getattr(world, method)(*arguments)
    except ANYTHING:  # the world's own code
        logger.exception("'%s' of a world has failed", method)

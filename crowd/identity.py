"""Identity of a worker according to the crowd platform, because the address of the page can be edited."""

from __future__ import annotations

import logging
import time
from typing import Any

from model_chat.crowd.platform import mturk_client, submitter
from model_chat.quality.blocks import BlockReason, canonical_id, find_worker, platform_id, soft_block

logger = logging.getLogger(__name__)

PAUSES = (2.0, 5.0)
"""Seconds before each question: MTurk's own form arrives after ours."""


def check_worker(agent: Any, block_qualification: str | None) -> bool:
    """Compare the worker as whom a page came with the one who has handed the work in on the platform; never raises.

    MTurk names the worker only once the work is handed in. Somebody else than the page said is soft-blocked under their own
    id, and the requester is told; the worker whose id was used is left alone.

    Args:
        block_qualification: the block qualification's name; None: the requester is told, and that is all.

    Returns:
        False if the platform says that it was somebody else.
    """
    try:
        if mturk_client(agent) is None:
            return True
        actual = None
        for pause in PAUSES:
            time.sleep(pause)
            actual = submitter(agent)
            if actual is not None:
                break
        return actual is None or _is_same(agent, actual, block_qualification)
    except Exception:  # the conversation is saved, and its worker has gone: nothing may come of a fault here
        logger.exception("Who handed in %s could not be checked", agent)
        return True


def _is_same(agent: Any, actual: str, block_qualification: str | None) -> bool:
    worker = agent.get_worker()
    claimed, actual = platform_id(worker), canonical_id(worker.provider_type, actual)
    if canonical_id(worker.provider_type, claimed) == actual:
        return True
    logger.error(
        "Agent %s: its page said that it was worker %s, and MTurk says that worker %s has handed it in. Its record names "
        "the former; look at it before you approve it.",
        agent.db_id,
        claimed,
        actual,
    )
    impostor = find_worker(worker.db, worker.provider_type, actual) or type(worker).new(worker.db, actual)
    soft_block(impostor, block_qualification, BlockReason.FALSE_ID, f"came as {claimed}")
    return False

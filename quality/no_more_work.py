"""The block qualification of a worker who has seen all images of a study: not a violation, and not permanent.

Such a worker gets the block qualification of the study with a value of its own, in Mephisto's database alone. Other studies
may use the same qualification, and the study itself may get more images or models. So it is looked at again whenever the
worker arrives somewhere, and taken back unless there is still nothing for them there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mephisto.utils.qualifications import find_or_create_qualification

from model_chat.quality.blocks import (
    BLOCKED,
    NOTHING_LEFT,
    BlockReason,
    block_reasons,
    has_no_more_work,
    is_blocked,
    mark,
    unmark,
)

if TYPE_CHECKING:
    from mephisto.data_model.worker import Worker

logger = logging.getLogger(__name__)


def note_no_more_work(worker: Worker, qualification: str | None) -> None:
    """Let a worker get no further units until :func:`readmit` finds work for them.

    Args:
        worker: of any provider. One who is blocked for another reason stays so.
        qualification: the block qualification's name; without one nothing happens.
    """
    if not qualification or is_blocked(worker, qualification):
        return
    find_or_create_qualification(worker.db, qualification)
    mark(worker, qualification, BlockReason.NO_MORE_WORK)
    worker.grant_qualification(qualification, NOTHING_LEFT, skip_crowd=True)
    logger.info("Worker %s has seen everything that this study has for them", worker.worker_name)


def readmit(worker: Worker, qualification: str | None) -> None:
    """Take back what :func:`note_no_more_work` did; a block for another reason stays.

    Earlier versions told the crowd platform, which then is told of this, too.
    """
    if not qualification or not has_no_more_work(worker, qualification):
        return
    granted = worker.get_granted_qualification(qualification)
    unmark(worker, qualification, BlockReason.NO_MORE_WORK)
    if granted is not None and granted.value == NOTHING_LEFT:
        worker.db.revoke_qualification(granted.qualification_id, worker.db_id)
    else:
        worker.revoke_qualification(qualification)
    # A violation may have come in between: it marks its reason before it grants the qualification.
    if block_reasons(worker, qualification):
        worker.grant_qualification(qualification, BLOCKED, skip_crowd=True)

"""Which workers a run has something for: a condition of the study's design, or a finished conversation to annotate.

Without either, it has something for everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_chat.conversation.annotation_quota import AnnotationQuota
from model_chat.conversation.design_quota import DesignQuota
from model_chat.conversation.quota import Outlook
from model_chat.quality.blocks import platform_id
from model_chat.quality.no_more_work import note_no_more_work

if TYPE_CHECKING:
    from mephisto.data_model.worker import Worker


def _quota_of(world_opt: Any) -> DesignQuota | AnnotationQuota | None:
    quota = getattr(world_opt, "quota", None)
    return quota if isinstance(quota, DesignQuota | AnnotationQuota) else None


def has_nothing_for(world_opt: Any, worker: Worker) -> bool:
    """Whether a worker has gone through all conditions, or annotated all conversations, that there are for them."""
    quota = _quota_of(world_opt)
    return quota is not None and quota.outlook(platform_id(worker)) is Outlook.NOTHING


def has_condition_for(world_opt: Any, worker: Worker, qualification: str | None) -> bool:
    """Whether a worker can have a conversation now; one for whom there is nothing for good is noted as such."""
    quota = _quota_of(world_opt)
    if quota is None:
        return True
    outlook = quota.outlook(platform_id(worker))
    if outlook is Outlook.NOTHING:
        note_no_more_work(worker, qualification)
    return outlook is Outlook.WORK


def has_open_cells(world_opt: Any) -> bool:
    """Whether a cell of the design, or an annotation, is still open; False where neither is counted."""
    quota = _quota_of(world_opt)
    return quota is not None and quota.remaining() > 0

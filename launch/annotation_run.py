"""Launching the annotation of finished conversations: what earlier runs have collected, and who was given what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from model_chat.annotating.worlds import AnnotationOptions
from model_chat.conversation.annotation_quota import AnnotationQuota
from model_chat.launch.annotation_checks import CheckedLogs
from model_chat.launch.checked_task import CheckedTask
from model_chat.records.collected import find_saved
from model_chat.records.journal import ALLOCATION_NAME


def make_annotation_options(
    logs: CheckedLogs, cfg: DictConfig, task: CheckedTask, database: Path, common: Mapping[str, Any]
) -> AnnotationOptions:
    """Put together what all annotations share.

    Args:
        common: the arguments of :class:`~model_chat.worlds.ChatOptions` that all kinds of tasks share.
    """
    args = cfg.mephisto.blueprint
    kept = [
        (saved.worker_id, saved.judged, saved.complete and args.resume)
        for saved in find_saved(task.chat_data_folder, database, task.task_name)
        if saved.judged is not None
    ]
    quota = AnnotationQuota(
        logs.conversations,
        logs.annotators,
        logs.per_worker,
        task.chat_data_folder / ALLOCATION_NAME,
        task.task_name,
        kept,
        args.random_seed,
    )
    return AnnotationOptions(**common, quota=quota)

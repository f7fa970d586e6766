"""The quota of a run, with a design, without, or of annotations, and the file that draws are written to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from model_chat.configuration.study_design import StudyDesign, load_study_design
from model_chat.conversation.allocation import cell_of
from model_chat.conversation.annotation_quota import AnnotationQuota
from model_chat.conversation.design_quota import DesignQuota
from model_chat.conversation.quota import ConversationQuota, Quota
from model_chat.launch.annotation_checks import CheckedLogs
from model_chat.launch.checked_task import CheckedTask
from model_chat.launch.design_checks import FLAG, CheckedDesign
from model_chat.records.collected import SavedConversation, find_saved
from model_chat.records.journal import ALLOCATION_NAME
from model_chat.records.locks import hold, hold_or_refuse


def make_quota(cfg: DictConfig, task: CheckedTask, database: Path, done: Mapping[str, int]) -> Quota:
    """Make the quota of a text chat.

    Args:
        done: conversations that were collected with each model before.

    Raises:
        ConfigurationError: the draws of earlier runs were made by another design, or their file is damaged.
    """
    if task.design is None:
        return ConversationQuota(task.needed, done, cfg.mephisto.blueprint.random_seed, task.extensions)
    return DesignQuota(**design_arguments(cfg, task, task.design, database))


def make_annotation_quota(logs: CheckedLogs, args: Any, task: CheckedTask, database: Path) -> AnnotationQuota:
    """Make the quota of finished conversations that are annotated, with what earlier runs have collected.

    Args:
        args: the flags below ``mephisto.blueprint``.
    """
    kept = [
        (saved.worker_id, saved.judged, saved.complete and args.resume)
        for saved in find_saved(task.chat_data_folder, database, task.task_name)
        if saved.judged is not None
    ]
    path = task.chat_data_folder / ALLOCATION_NAME
    return AnnotationQuota(
        logs.conversations, logs.annotators, logs.per_worker, path, task.task_name, kept, args.random_seed
    )


def design_arguments(cfg: DictConfig, task: CheckedTask, checked: CheckedDesign, database: Path) -> dict[str, Any]:
    """Return the arguments of :class:`~model_chat.conversation.design_quota.DesignQuota`."""
    resume = bool(cfg.mephisto.blueprint.resume)
    finished: list[tuple[str, int, str | None]] = []
    for kept in find_saved(task.chat_data_folder, database, task.task_name) if resume else ():
        cell = cell_of(checked.design, kept.conditions) if kept.complete else None
        if cell is not None:
            finished.append((kept.worker_id, cell.index, stratum_of(checked.design, kept)))
    return {
        "design": checked.design,
        "path": task.chat_data_folder / ALLOCATION_NAME,
        "task_name": task.task_name,
        "model": checked.model,
        "finished": finished,
        "resume": resume,
    }


def stratum_of(design: StudyDesign, saved: SavedConversation) -> str | None:
    """Return the answer for whose stratum a saved conversation counts; None without strata, or without the answer."""
    return None if design.strata is None else saved.answers.get(design.strata.item)


def conversations_left(design_path: str, saved: Iterable[SavedConversation]) -> int:
    """Return how many conversations the cells of a design still need.

    Raises:
        ConfigurationError: the file has faults.
    """
    design = load_study_design(FLAG, design_path)
    found = (cell_of(design, kept.conditions) for kept in saved if kept.complete)
    done = Counter(cell.index for cell in found if cell is not None)
    return sum(max(0, design.conversations_per_cell - done[cell.index]) for cell in design.cells)


def hold_allocation(folder: Path) -> AbstractContextManager[object]:
    """Keep other tasks from writing their draws to the same file meanwhile.

    Raises:
        ConfigurationError: another task writes there.
    """
    return hold_or_refuse(
        hold(folder / ALLOCATION_NAME, alone=True),
        f"mephisto.blueprint.chat_data_folder: another task with a design is running in '{folder}'; give another folder, or "
        "start again when it is over.",
    )

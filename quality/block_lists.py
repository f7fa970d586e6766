"""Block lists: files of worker ids that are soft-blocked when a task is launched."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from model_chat.configuration.lists import read_ids, split_list
from model_chat.errors import ConfigurationError, collecting
from model_chat.quality.blocks import (
    BlockReason,
    bind_to_platform,
    canonical_id,
    find_worker,
    is_blocked,
    name_of,
    soft_block,
)
from model_chat.records.worker_ids import normalise_worker_id

logger = logging.getLogger(__name__)

FLAG = "mturk.worker_blocklist_paths"


def read_block_lists(paths: str | None) -> list[str]:
    """Return the worker ids of all files, each once, in order.

    Args:
        paths: a list of files (:func:`model_chat.configuration.lists.split_list`); None or "" for no list. The files are
            read by :func:`model_chat.configuration.lists.read_ids`.

    Raises:
        ConfigurationError: naming every file that can't be read and every line that is no worker id.
    """
    ids: dict[str, None] = {}
    faults: list[str] = []
    for path in split_list(FLAG, paths):
        with collecting(faults):
            ids.update(dict.fromkeys(map(normalise_worker_id, read_ids(FLAG, path, "worker id"))))
    ConfigurationError.raise_if(faults)
    return list(ids)


def block_workers(db: Any, cfg: Any, ids: Sequence[str]) -> None:
    """Soft-block the listed workers of a task that is about to be launched."""
    qualification = name_of(cfg.mephisto.blueprint, "block_qualification")
    if not ids or qualification is None:
        return
    provider = cfg.mephisto.provider
    requester = db.find_requesters(requester_name=provider.requester_name)[0]
    bind_to_platform(requester, [{"qualification_name": qualification}])
    block_listed(db, provider._provider_type, qualification, ids)


def block_listed(db: Any, provider_type: str, qualification: str, ids: Sequence[str]) -> list[str]:
    """Soft-block every listed worker who is not blocked yet, known to Mephisto or not.

    Returns:
        the ids that Mephisto had never seen. They are blocked all the same (the worker may come yet), and named in a
        warning, since a mistyped id looks like this.
    """
    from mephisto.operations.registry import get_crowd_provider_from_type

    unknown = []
    for worker_id in ids:
        worker = find_worker(db, provider_type, worker_id)
        if worker is None:
            unknown.append(worker_id)
            worker = get_crowd_provider_from_type(provider_type).WorkerClass.new(
                db, canonical_id(provider_type, worker_id)
            )
        if not is_blocked(worker, qualification):
            soft_block(worker, qualification, BlockReason.LISTED)
    if unknown:
        logger.warning(
            "%s: %d of %d workers have never taken part here: %s. They are blocked all the same; check them for typing "
            "errors.",
            FLAG,
            len(unknown),
            len(ids),
            ", ".join(unknown),
        )
    return unknown

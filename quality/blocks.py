"""Soft blocks: the qualification that keeps a worker out of a task, why they have it, and what they are told.

The block itself is Mephisto's qualification ``mephisto.blueprint.block_qualification`` with the value 1, on the crowd
platform too where there is one. Why it was given is kept beside it in Mephisto's database, as a second qualification of
which the platform learns nothing: ``<block qualification>: <reason>``.
"""

from __future__ import annotations

import logging
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from mephisto.data_model.qualification import QUAL_EXISTS
from mephisto.utils.qualifications import find_or_create_qualification, make_qualification_dict

from model_chat.records.participation import PANELS
from model_chat.records.schema import AttentionResult, Completion
from model_chat.records.worker_ids import normalise_worker_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mephisto.data_model.agent import Agent
    from mephisto.data_model.worker import Worker

    from model_chat.quality.attention import AttentionConfig

logger = logging.getLogger(__name__)

BLOCKED = 1
"""The value of the block qualification."""
NOTHING_LEFT = 2
"""Its value for a worker who has done nothing wrong and seen everything (:mod:`model_chat.quality.no_more_work`)."""
SANDBOX_SUFFIX = "_sandbox"
"""What Mephisto adds to the names of workers and qualifications in the sandbox, and to workers of its mock provider."""


UPPER_CASE_IDS = frozenset({"mturk", "mturk_sandbox"})
"""Providers whose ids are of capital letters and digits: how somebody types one makes no other worker of it."""


_HEX_ID = re.compile(r"[0-9A-Fa-f]{24}")
"""Prolific's ids, of which case is no part either."""


class BlockReason(StrEnum):
    """Why a worker is blocked."""

    ACCEPTABILITY = "acceptability"
    ATTENTION = "attention"
    NO_MORE_WORK = "no_more_work"
    LISTED = "listed"
    BY_HAND = "by_hand"
    FALSE_ID = "false_id"


def soft_block(
    worker: Worker, qualification: str | None, reason: BlockReason, detail: str = "", on_platform: bool = True
) -> bool:
    """Keep a worker from every further unit of the tasks that use this block qualification; current conversations continue.

    Args:
        qualification: the block qualification's name; without one nothing happens.
        reason: what the worker will be told (see :mod:`model_chat.quality.refusals`).
        on_platform: False: only here, where it takes no time; a second call tells the platform.

    Returns:
        whether the worker is blocked, on the crowd platform too if it was to be told.
    """
    if not qualification:
        return False
    find_or_create_qualification(worker.db, qualification)
    mark(worker, qualification, reason)
    if not on_platform:
        worker.grant_qualification(qualification, BLOCKED, skip_crowd=True)
        return True
    done = bool(worker.grant_qualification(qualification, BLOCKED))
    if done:
        logger.info("Worker %r is blocked by '%s': %s %s", worker.worker_name, qualification, reason, detail)
    else:
        logger.error(
            "Worker %r is blocked here by '%s' (%s), but the crowd platform did not take it; see the error above, and try "
            "again with scripts/manage_workers.py block.",
            worker.worker_name,
            qualification,
            reason,
        )
    return done


class ReportsConduct(Protocol):
    """A world, as far as it says why its worker is to be blocked."""

    def block_reasons(self) -> list[tuple[BlockReason, str]]:
        """Each reason with a detail for the log."""


def conduct_reasons(
    violations: str | None, attention: AttentionConfig | None, results: Sequence[AttentionResult]
) -> list[tuple[BlockReason, str]]:
    """Return why the worker of a complete conversation is to be blocked, each reason with a detail for the log.

    Args:
        violations: comma-separated names of failed acceptability checks; "" or None for none.
    """
    reasons = [(BlockReason.ACCEPTABILITY, violations)] if violations else []
    if attention is not None and attention.too_many_failed(results):
        reasons.append((BlockReason.ATTENTION, f"{sum(not result.passed for result in results)} failed"))
    return reasons


def block_for_conduct(world: ReportsConduct, agent: Agent, qualification: str | None, on_platform: bool) -> None:
    """Soft-block a worker for what they did in a conversation that is over and saved; never raises.

    Args:
        qualification: the block qualification's name, or None: then a violation is on record only.
        on_platform: False before the worker is told that the conversation is over, so that none who is quick gets another
            one; True afterwards, so that none waits for the crowd platform.
    """
    try:
        for reason, detail in world.block_reasons():
            soft_block(agent.get_worker(), qualification, reason, detail, on_platform)
    except (Exception, SystemExit):  # block_reasons() may be a researcher's own
        logger.exception("A worker could not be blocked; see scripts/manage_workers.py block")


def block_for_record(
    worker: Worker, saved: Mapping[str, Any], qualification: str | None, attention: AttentionConfig | None
) -> None:
    """Soft-block a worker for what a saved conversation holds, whose run died before it could; never raises.

    Args:
        saved: the conversation; only a complete one speaks against a worker.
    """
    try:
        if saved.get("status") != Completion.COMPLETE:
            return
        violations = next(iter(saved.get("acceptability_violations") or ()), None)
        checks = [AttentionResult(**check) for check in saved.get("attention_checks") or ()]
        for reason, detail in conduct_reasons(violations, attention, checks):
            soft_block(worker, qualification, reason, f"{detail}, in a conversation of an earlier run")
    except Exception:  # the record may be damaged, and the platform may fail; neither may end the recovery
        logger.exception("Worker %s could not be blocked; see scripts/manage_workers.py block", worker.worker_name)


def prepare_qualifications(db: Any, args: Any, shared_state: Any) -> None:
    """Make the qualifications of a task known to Mephisto, and let in only workers who may; called before the launch.

    Mephisto itself adds the block qualification and that of a failed onboarding to what it asks of workers, but makes
    neither, and skips a qualification that it does not know.

    Args:
        shared_state: the run's; ``qualifications`` is added to.
    """
    onboarding = name_of(args, "onboarding_qualification")
    allowed = name_of(args, "allowed_worker_qualification")
    for name in (name_of(args, "block_qualification"), onboarding, onboarding and f"{onboarding}-failed", allowed):
        if name:
            find_or_create_qualification(db, name)
    if allowed is not None:
        shared_state.qualifications.append(make_qualification_dict(allowed, QUAL_EXISTS, None))


def bind_to_platform(requester: Any, qualifications: list[dict[str, Any]]) -> None:
    """Tie each qualification to the requester's own one on MTurk; nothing happens for providers that have none.

    Without it Mephisto looks them up by name among everybody's, where another requester's of the same name may be found,
    and grants those that it does not know yet through whichever requester was registered last.

    Args:
        qualifications: Mephisto's dictionaries; each gets its ``QualificationTypeId``.
    """
    datastore = getattr(requester, "datastore", None)
    if datastore is None or not hasattr(datastore, "get_qualification_mapping"):
        return
    suffix = SANDBOX_SUFFIX if requester.is_sandbox() else ""
    for qualification in qualifications:
        name = f"{qualification['qualification_name']}{suffix}"
        if datastore.get_qualification_mapping(name) is None:
            requester._create_new_mturk_qualification(name)
        qualification["QualificationTypeId"] = datastore.get_qualification_mapping(name)["mturk_qualification_id"]


def unblock(worker: Worker, qualification: str) -> bool:
    """Take a block back, with its reasons.

    Returns:
        whether there was one and it is gone, on the crowd platform too.
    """
    for reason in BlockReason:
        unmark(worker, qualification, reason)
    return bool(worker.revoke_qualification(qualification))


def is_blocked(worker: Worker, qualification: str | None) -> bool:
    """Whether a worker has the block qualification, and not only since they have seen everything."""
    if not qualification or worker.get_granted_qualification(qualification) is None:
        return False
    return not has_no_more_work(worker, qualification)


def has_no_more_work(worker: Worker, qualification: str | None) -> bool:
    """Whether a worker has the block qualification for nothing but having seen everything."""
    if not qualification or worker.get_granted_qualification(qualification) is None:
        return False
    return block_reasons(worker, qualification) == [BlockReason.NO_MORE_WORK]


def block_reasons(worker: Worker, qualification: str) -> list[BlockReason]:
    """Return why a worker is blocked; empty for a block that was not made here."""
    return [reason for reason in BlockReason if worker.get_granted_qualification(_marker(qualification, reason))]


def mark(worker: Worker, qualification: str, reason: BlockReason) -> None:
    """Note in Mephisto's database why a worker has the block qualification."""
    marker = _marker(qualification, reason)
    find_or_create_qualification(worker.db, marker)
    worker.grant_qualification(marker, BLOCKED, skip_crowd=True)


def unmark(worker: Worker, qualification: str, reason: BlockReason) -> None:
    """Forget one reason of a block; the platform knows nothing of it."""
    marker = worker.get_granted_qualification(_marker(qualification, reason))
    if marker is not None:
        worker.db.revoke_qualification(marker.qualification_id, worker.db_id)


def make_qualification(db: Any, name: str) -> None:
    """Make a qualification known to Mephisto; one that it knows stays as it is."""
    find_or_create_qualification(db, name)


def name_of(args: Any, flag: str) -> str | None:
    """Return the name of a qualification that a flag below ``mephisto.blueprint`` gives, None where it is not set."""
    name = args.get(flag, None)  # None for "???", too
    return str(name) if name else None


def _marker(qualification: str, reason: BlockReason) -> str:
    return f"{qualification}: {reason}"


def find_worker(db: Any, provider_type: str, platform_id: str) -> Worker | None:
    """Find a worker by the crowd platform's own id, or by Mephisto's name.

    Args:
        provider_type: ``mock``, ``mturk``, ``mturk_sandbox``, ….
        platform_id: as saved in ``workers`` of a conversation, or in another spelling of it (:func:`canonical_id`).
    """
    return find_participant(db, provider_type, platform_id) or _find_by_name(db, provider_type, platform_id)


def find_participant(db: Any, provider_type: str, platform_id: str) -> Worker | None:
    """Find a worker by the crowd platform's own id alone, in whatever spelling; arguments as for :func:`find_worker`."""
    canonical = canonical_id(provider_type, platform_id)
    found = _find_by_name(db, provider_type, _mephisto_name(provider_type, canonical))
    if found is None and canonical and provider_type in PANELS:
        found = _find_by_name(db, provider_type, name_beside_others(provider_type, canonical))
    if found is not None or not canonical:
        return found
    earlier = _earlier_spellings(db, provider_type).get(canonical)
    if earlier is None:
        return None
    from mephisto.data_model.worker import Worker

    worker: Worker = Worker.get(db, earlier)
    return worker


def name_beside_others(provider_type: str, participant: str) -> str:
    """Return Mephisto's name of a panel's participant where another provider has a worker of that name already.

    Mephisto's names of workers are unique over all providers.
    """
    return f"{provider_type}:{participant}"


def _find_by_name(db: Any, provider_type: str, name: str) -> Worker | None:
    found = db.find_workers(worker_name=name, provider_type=provider_type)
    worker: Worker | None = found[0] if found else None
    return worker


def canonical_id(provider_type: str, worker_id: str) -> str:
    """Return a worker's id in the one spelling under which workers are looked up, limited, blocked and recorded.

    Args:
        provider_type: says whether upper and lower case are the same.

    Returns:
        the id; "" where nothing of it can be seen.
    """
    spelled = normalise_worker_id(worker_id)
    if provider_type == "prolific" and _HEX_ID.fullmatch(spelled):
        return spelled.lower()
    return spelled.upper() if provider_type in UPPER_CASE_IDS else spelled


_spellings: WeakKeyDictionary[Any, dict[str, dict[str, str]]] = WeakKeyDictionary()
"""Of each open database: provider -> canonical id -> Mephisto's id of the first worker kept under another spelling."""


def _earlier_spellings(db: Any, provider_type: str) -> dict[str, str]:
    """The workers whom a version without :func:`canonical_id` took in under another spelling; read once for a database."""
    of_db = _spellings.setdefault(db, {})
    if provider_type not in of_db:
        with db.table_access_condition:
            rows = (
                db._get_connection()
                .execute(
                    "SELECT worker_id, worker_name FROM workers WHERE provider_type = ? ORDER BY worker_id",
                    (provider_type,),
                )
                .fetchall()
            )
        suffix = _mephisto_name(provider_type, "")
        found: dict[str, str] = {}
        for row in rows:
            own_id = str(row["worker_name"]).removesuffix(suffix)
            canonical = canonical_id(provider_type, own_id)
            if canonical != own_id:
                found.setdefault(canonical, str(row["worker_id"]))
        of_db[provider_type] = found
    return of_db[provider_type]


def _mephisto_name(provider_type: str, platform_id: str) -> str:
    from mephisto.operations.registry import get_crowd_provider_from_type

    is_sandbox = get_crowd_provider_from_type(provider_type).is_sandbox()
    return f"{platform_id}{SANDBOX_SUFFIX}" if is_sandbox else platform_id


def platform_id(worker: Worker) -> str:
    """Return the crowd platform's own id of a worker; where there is no platform, the name that they came with.

    Mephisto gives workers of its mock provider and of MTurk's sandbox the suffix ``_sandbox``, once.
    """
    of_mturk = getattr(worker, "get_mturk_worker_id", None)
    if callable(of_mturk):
        return str(of_mturk())
    name: str = worker.worker_name
    if worker.provider_type in PANELS:
        return name.removeprefix(name_beside_others(worker.provider_type, ""))
    return name.removesuffix(SANDBOX_SUFFIX) if worker.provider_type == "mock" else name

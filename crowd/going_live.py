"""Checks before work is offered on MTurk (docs/mturk.md)."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from omegaconf import OmegaConf

from model_chat.compat.terminal import print_plain
from model_chat.configuration.comparison import PAIRED
from model_chat.crowd.money import fee_cents, to_minor, total_cents, written
from model_chat.crowd.panel_launch import announce_cost
from model_chat.errors import ConfigurationError

logger = logging.getLogger(__name__)

MTURK, SANDBOX = "mturk", "mturk_sandbox"
LIMITS = {"task_title": 128, "task_description": 2000, "task_tags": 1000}
"""Characters that MTurk allows."""
SHORTEST_LIFETIME, LONGEST_LIFETIME = 30, 31_536_000
"""Seconds for which MTurk keeps a HIT open."""
PERCENT_APPROVED, HITS_APPROVED, LOCALE = "000000000000000000L0", "00000000000000000040", "00000000000000000071"
"""MTurk's own qualification types."""
REGISTER = "python scripts/mephisto_cli.py register"
GUARDED = "DiscoverPreviewAndAccept"
CLOSING = (
    "AWS announced that Mechanical Turk closes for good on 30 September 2026 (MTurk API reference, page Welcome, as read on "
    "27 November 2026). If it does not answer, see docs/going-live.md for where participants come from instead."
)
LONG_REPLY = 1500
"""Characters (300 tokens): a long reply, which its pace makes later."""
GRACE_SECONDS = 120
"""For reading the description, loading the page, being without a connection for a moment, and handing in."""


def is_on_mturk(cfg: Any) -> bool:
    """Whether work is offered on MTurk or in its sandbox."""
    return cfg.mephisto.provider._provider_type in (MTURK, SANDBOX)


def configuration_faults(cfg: Any, attention_checks: int = 0) -> list[str]:
    """Find what MTurk would refuse, or what would cost workers their pay; asks nobody.

    Args:
        cfg: the whole configuration; missing values are allowed and found.
    """
    if not is_on_mturk(cfg):
        return []
    task, blueprint, provider = cfg.mephisto.task, cfg.mephisto.blueprint, cfg.mephisto.provider._provider_type
    faults = []
    if not _given(cfg, "mephisto.provider.requester_name"):
        faults.append(
            f"mephisto.provider.requester_name: is not set; give the name that you registered ({REGISTER} {provider})."
        )
    faults += _architect_faults(cfg, provider)
    try:
        if to_minor(task.task_reward) < 1:
            faults.append("mephisto.task.task_reward: MTurk pays at least one cent; give US dollars, such as 0.50.")
    except ValueError as error:
        faults.append(f"mephisto.task.task_reward: {error}; MTurk pays whole cents, such as 0.50.")
    for name, most in LIMITS.items():
        if len(str(task[name] or "")) > most:
            faults.append(
                f"mephisto.task.{name}: has {len(str(task[name])):,} characters, MTurk allows {most:,}; shorten it."
            )
    needed = longest_seconds(blueprint, attention_checks)
    if task.assignment_duration_in_seconds < needed:
        faults.append(
            f"mephisto.task.assignment_duration_in_seconds: {task.assignment_duration_in_seconds} is less than the "
            f"{needed} s that a worker may take, from onboarding to handing in, all turns, attention checks, replies of the "
            f"model and extensions included: MTurk would end the work before it can be handed in; give at least {needed}."
        )
    if not SHORTEST_LIFETIME <= task.task_lifetime_in_seconds <= LONGEST_LIFETIME:
        faults.append(
            f"mephisto.task.task_lifetime_in_seconds: {task.task_lifetime_in_seconds} is refused by MTurk; give "
            f"{SHORTEST_LIFETIME} to {LONGEST_LIFETIME}."
        )
    faults += _requirement_faults(cfg.mturk)
    return faults


def longest_seconds(blueprint: Any, attention_checks: int) -> int:
    """Return how many seconds a worker may take from accepting to handing in, if they use up every limit.

    That is onboarding; each page of the study flow; a turn for each message, each comparison, each attention check and the
    final rating, each as long as it can be made; the model's replies, that to an opening included, long ones where they have
    a pace; and :data:`GRACE_SECONDS`.
    """
    from model_chat.configuration.study_flow import pages_around_chat

    onboarding = blueprint.max_onboard_time if blueprint.onboarding_qualification else 0
    comparison = blueprint.get("comparison", None)
    chats = 2 if comparison == PAIRED else 1
    # Two chats are closed one by one, and compared in place of the final rating.
    judgements = chats if comparison == PAIRED else blueprint.num_turns if comparison else 0
    worker_turns = blueprint.num_turns * chats + judgements + 1 + attention_checks
    times = 1 + int(blueprint.get("time_extensions", 0) or 0)
    turn = blueprint.max_resp_time * times
    pages = pages_around_chat(blueprint.get("study_flow_path") or "") * (blueprint.get("max_page_time") or 0) * times
    replies = (blueprint.num_turns + 1) * chats
    pace = float(blueprint.get("reply_chars_per_second", 0) or 0)
    held_back = float(blueprint.get("reply_first_seconds", 0) or 0) + (LONG_REPLY / pace if pace > 0 else 0.0)
    reply = blueprint.max_model_response_time + held_back
    return int(onboarding + pages + worker_turns * turn + math.ceil(replies * reply) + GRACE_SECONDS)


def _given(cfg: Any, key: str) -> bool:
    return bool(OmegaConf.select(cfg, key, default=None, throw_on_missing=False))


def _architect_faults(cfg: Any, provider: str) -> list[str]:
    architect = cfg.mephisto.architect._architect_type
    if architect in ("local", "mock"):
        return [
            f"mephisto.architect: '{architect}' serves the page from this machine, where MTurk's workers can't reach it; "
            f"with the provider {provider} use mephisto/architect=ec2 or mephisto/architect=heroku."
        ]
    faults = []
    if cfg.mephisto.architect.server_type != "node":
        faults.append(
            f"mephisto.architect.server_type: with '{cfg.mephisto.architect.server_type}' Mephisto's own router would be "
            "served, which lets anybody into any conversation; give node."
        )
    return faults + (_ec2_faults(cfg) if architect == "ec2" else [])


def _ec2_faults(cfg: Any) -> list[str]:
    if not _given(cfg, "mephisto.architect.profile_name"):
        return ["mephisto.architect.profile_name: is not set; give the AWS profile that may start EC2 servers."]
    from mephisto.abstractions.architects.ec2.ec2_architect import EC2Architect, url_safe_string
    from mephisto.abstractions.architects.ec2.ec2_helpers import DEFAULT_FALLBACK_FILE

    faults = []
    subdomain = url_safe_string(
        OmegaConf.select(cfg, "mephisto.architect.subdomain", default="", throw_on_missing=False)
    )
    if os.path.exists(EC2Architect._get_detail_path(subdomain)):  # noqa: PTH110 (Mephisto's path is a string)
        faults.append(
            f"mephisto.architect.subdomain: a server of an earlier run still holds '{subdomain}' and costs money; end it "
            "with 'python -c \"import model_chat.compat, "
            "mephisto.abstractions.architects.ec2.cleanup_ec2_server_by_name as ec2; "
            "ec2.main()\"', or give another."
        )
    profile = cfg.mephisto.architect.profile_name
    if not _has_profile(profile):
        faults.append(
            f"mephisto.architect.profile_name: there is no '{profile}' in ~/.aws/credentials; see docs/mturk.md."
        )
    if not os.path.exists(DEFAULT_FALLBACK_FILE):  # noqa: PTH110 (Mephisto's constant is a string)
        faults.append("mephisto.architect: the EC2 fallback server is not set up; see docs/mturk.md, step 3.")
    return faults


def _has_profile(name: str) -> bool:
    from mephisto.abstractions.providers.mturk.mturk_utils import check_aws_credentials

    return bool(check_aws_credentials(name))


def _requirement_faults(flags: Any) -> list[str]:
    faults = []
    if not 0 <= flags.min_percent_approved <= 100:
        faults.append(f"mturk.min_percent_approved: {flags.min_percent_approved} is no percentage; give 0 to 100.")
    if flags.min_hits_approved < 0:
        faults.append(f"mturk.min_hits_approved: {flags.min_hits_approved} is less than none; give 0 or more.")
    faults += [
        f"mturk.allowed_countries: '{country}' is no country; write two-letter codes, such as US,GB."
        for country in _countries(flags)
        if not (len(country) == 2 and country.isascii() and country.isupper())
    ]
    return faults


def _countries(flags: Any) -> list[str]:
    return [part.strip() for part in (flags.allowed_countries or "").split(",") if part.strip()]


def requirements(cfg: Any) -> list[dict[str, Any]]:
    """Return what MTurk itself is to ask of workers: approval rate, experience, country.

    None of it in the sandbox, where nobody has a history.
    """
    flags = cfg.mturk
    if cfg.mephisto.provider._provider_type != MTURK:
        return []
    asked: list[dict[str, Any]] = []
    for type_id, least in ((PERCENT_APPROVED, flags.min_percent_approved), (HITS_APPROVED, flags.min_hits_approved)):
        if least:
            asked.append(
                {"QualificationTypeId": type_id, "Comparator": "GreaterThanOrEqualTo", "IntegerValues": [int(least)]}
            )
    if countries := _countries(flags):
        locales = [{"Country": country} for country in countries]
        asked.append({"QualificationTypeId": LOCALE, "Comparator": "In", "LocaleValues": locales})
    return [{**one, "ActionsGuarded": GUARDED} for one in asked]


def check_before_launch(db: Any, cfg: Any, shared: Any, console: Any) -> None:
    """Check the account and the cost, and put MTurk's own requirements into the run; on a panel, only say the cost.

    Args:
        shared: the run's shared state: ``units`` are offered.

    Raises:
        ConfigurationError: the account can't be used or has too little money, or the cost is not confirmed.
    """
    if not is_on_mturk(cfg):
        announce_cost(cfg, shared.units, console)
        return
    logger.warning(CLOSING)
    shared.mturk_specific_qualifications = requirements(cfg)
    provider, name = cfg.mephisto.provider._provider_type, cfg.mephisto.provider.requester_name
    requester = db.find_requesters(requester_name=name, provider_type=provider)[0]
    flag = "mephisto.provider.requester_name"
    if not requester.is_registered():
        raise ConfigurationError(
            f"{flag}: the keys of '{name}' are not in ~/.aws/credentials on this machine; do '{REGISTER} "
            f"{provider}' again."
        )
    try:
        balance = requester.get_available_budget()
    except (BotoCoreError, ClientError) as error:
        raise ConfigurationError(
            f"{flag}: MTurk does not accept '{name}' ({error}); check the keys and the account."
        ) from error
    confirm_cost(cfg, shared.units, round(balance * 100), console)


def confirm_cost(cfg: Any, units: int, balance_cents: int, console: Any) -> None:
    """Print what the run costs, and continue only if exactly that amount has been confirmed. The sandbox pays nobody.

    Raises:
        ConfigurationError: ``confirm_cost`` is another amount or none, or the account does not hold it.
    """
    reward = to_minor(cfg.mephisto.task.task_reward)
    total = total_cents(units, reward)
    live = cfg.mephisto.provider._provider_type == MTURK
    text = f"{units} units × ({written(reward)} reward + {written(fee_cents(reward))} fee) = {written(total)}"
    print_plain(console, f"Cost: {text}" + ("" if live else "; nothing in the sandbox"))
    if not live:
        return
    amount = f"{total / 100:.2f}"
    try:
        confirmed = to_minor(cfg.confirm_cost) if cfg.confirm_cost else None
    except ValueError as error:
        raise ConfigurationError(
            f"confirm_cost: {error}; to spend {written(total)}, give confirm_cost={amount}."
        ) from None
    if confirmed != total:
        given = "is not set" if confirmed is None else f"{written(confirmed)} is not the cost of this run"
        raise ConfigurationError(f"confirm_cost: {given} ({text}); to spend it, give confirm_cost={amount}.")
    if balance_cents < total:
        raise ConfigurationError(
            f"mephisto.provider.requester_name: the account holds {written(balance_cents)}, the run costs {written(total)}; "
            "add money at requester.mturk.com, or offer fewer conversations."
        )

"""A panel's part of a launch: endings, arrivals, and no code in anything that is kept or shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from model_chat.configuration.redaction import REDACTED, learn_values
from model_chat.crowd.arrivals import ArrivalChecker
from model_chat.crowd.endings import Endings
from model_chat.crowd.panels import Panel, is_panel, link_audience
from model_chat.records.participation import EndingKind

if TYPE_CHECKING:
    from mephisto.abstractions.database import MephistoDB

    from model_chat.crowd.arrivals import ChecksLinks
    from model_chat.crowd.panel_store import PanelStore
    from model_chat.mephisto_task.shared_state import ModelChatSharedState
    from model_chat.mephisto_task.stopping import StopRequest
    from model_chat.mephisto_task.task_operator import TaskOperator

logger = logging.getLogger(__name__)


def open_endings(db: MephistoDB, cfg: DictConfig, task_name: str) -> Endings | None:
    """Return what participants are told at the end; None for providers that are no panel."""
    if not is_panel(cfg):
        return None
    panel = Panel.from_flags(cfg.mephisto.provider)
    one_each = cfg.mephisto.task.maximum_units_per_worker <= 1
    return Endings(panel, _store(db, cfg), task_name, one_each)


def open_panel(db: MephistoDB, cfg: DictConfig, shared: ModelChatSharedState, task_name: str) -> None:
    """Let a run know who comes and what they are told; nothing happens for providers that are no panel.

    The codes are removed from the configuration, which Mephisto keeps in its database and may log.

    Raises:
        ConfigurationError: links are to be checked, and the panel's keys can't be fetched.
    """
    shared.endings = open_endings(db, cfg, task_name)
    if shared.endings is None:
        return
    panel, store, codes = shared.endings.panel, _store(db, cfg), cfg.mephisto.provider.codes
    shared.arrivals = ArrivalChecker(panel, store, _links(cfg, panel, store))
    learn_values(panel.codes.values())
    for kind in EndingKind:
        if codes.get(kind.value, None):
            codes[kind.value] = REDACTED


def let_participants_return(operator: TaskOperator, seconds: int, tick: Callable[[], None], stop: StopRequest) -> None:
    """Keep the page for those who load their last screen again, or come when everything is collected."""
    if seconds:
        logger.info(
            "No further chats are given out. The page stays for %d s (mephisto.provider.linger_seconds), for "
            "participants who "
            "load their last screen again; Ctrl-C ends it now.",
            seconds,
        )
        operator.linger(seconds, tick, stop)


def study_lines(panel: Panel, base: str) -> list[str]:
    """Return what to tell the requester about the study's address."""
    address = panel.study_url(base)
    if panel.provider == "link":
        return [f"  Address for your people: {address}"]
    label = panel.kind.label if panel.provider != "panel" else "the panel"
    lines = [f"  Study address for {label}: {address}"]
    if not panel.kind.placeholders:
        lines.append(f"  The panel must add the participant's id to it as {panel.participant_param}=ID.")
    return lines


def _store(db: MephistoDB, cfg: DictConfig) -> PanelStore:
    from mephisto.operations.registry import get_crowd_provider_from_type

    provider = get_crowd_provider_from_type(cfg.mephisto.provider._provider_type)
    store: PanelStore = provider(db).datastore
    return store


def _links(cfg: DictConfig, panel: Panel, store: PanelStore) -> ChecksLinks | None:
    if not panel.verify_links:
        return None
    from model_chat.crowd.signed_links import LinkSettings, SignedLinks, check_keys

    provider: Any = cfg.mephisto.provider
    settings = LinkSettings(
        keys_url=provider.link_keys_url,
        issuer=provider.link_issuer,
        audience=link_audience(cfg),
        token_param=provider.link_token_param,
        study=provider.link_study or "",
    )
    return SignedLinks(settings, panel, store, check_keys(settings))

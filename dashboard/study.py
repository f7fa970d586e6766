"""What the dashboard knows of a study from its configuration; JSON, for a run passes it to the dashboard's process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from model_chat.configuration.files import expand
from model_chat.configuration.mephisto_data import DATABASE, find_data_folder
from model_chat.configuration.study_design import load_study_design
from model_chat.configuration.task_names import full_task_name
from model_chat.crowd.panel_pay import PanelPay, StudyCost
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import name_of
from model_chat.records.extensions import NUM_CONVERSATIONS, Extensions
from model_chat.serving.catalogue import parse_conversations_needed

BLUEPRINT = "mephisto.blueprint"
Kind = Literal["text", "image", "annotation"]
_KINDS: dict[str, Kind] = {"model_image_chat_blueprint": "image", "model_annotation_blueprint": "annotation"}


class StudyInfo(BaseModel):
    """One study.

    Attributes:
        id: in the dashboard's addresses.
        task_name: in full, with its suffix.
        database: Mephisto's; it may not be there.
        chat_data_folder: of its conversations; it may not be there.
        blind: whether the names of models and conditions are hidden.
        by_cell: whether ``wanted`` names conditions rather than models.
        wanted: model, pair or condition -> conversations; empty in image chat.
        target: conversations in all; None where that is not known.
        reward: hundredths of the currency for a conversation.
        fee_percent: the panel's; None where it is not known.
        min_hourly_wage: below which there is a warning, in the currency; None for none.
        block_qualification: keeps workers out; None without one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    kind: Kind = "text"
    task_name: str
    database: Path
    chat_data_folder: Path
    blind: bool = False
    by_cell: bool = False
    wanted: dict[str, int] = {}
    target: int | None = None
    num_turns: int | None = None
    provider: str = "mock"
    reward: int = 0
    currency: str = "USD"
    fee_percent: float | None = None
    min_hourly_wage: float | None = None
    block_qualification: str | None = None

    @classmethod
    def of(cls, cfg: Any, task_name: str | None = None) -> StudyInfo:
        """Read a study's whole configuration.

        Args:
            task_name: in full; None: what the configuration makes of it.

        Raises:
            ConfigurationError: it names no task, no folder, or a file with faults.
        """
        args, task = cfg.mephisto.blueprint, cfg.mephisto.task
        folder = args.get("chat_data_folder", None)  # None for "???", too
        if not folder or not task.get("task_name", None):
            raise ConfigurationError(f"{BLUEPRINT}.chat_data_folder or mephisto.task.task_name is not set; give both.")
        provider = cfg.mephisto.provider
        pay = PanelPay.of(provider._provider_type, provider)
        kind = _KINDS.get(args._blueprint_type, "text")
        name = task_name or full_task_name(cfg)
        by_cell, wanted, target = _wanted(args, kind, name)
        return cls(
            id=slug(name),
            title=str(task.get("task_title", None) or name),
            kind=kind,
            task_name=name,
            database=find_data_folder(cfg).path / DATABASE,
            chat_data_folder=expand(folder),
            blind=bool(args.get("blind", False)),
            by_cell=by_cell,
            wanted=wanted,
            target=target,
            num_turns=args.get("num_turns", None),
            provider=provider._provider_type,
            reward=max(0, round(float(task.get("task_reward", None) or 0) * 100)),
            currency=pay.currency,
            fee_percent=pay.fee_percent,
            min_hourly_wage=args.get("min_hourly_wage", None),
            block_qualification=name_of(args, "block_qualification"),
        )

    def cost(self, places: int, amount: int | None = None) -> int:
        """Return what so many conversations cost, in hundredths, with the platform's fee where it is known.

        Args:
            amount: hundredths for each, such as a bonus; None: the reward.
        """
        reward = self.reward if amount is None else amount
        cost = StudyCost(places, reward, PanelPay(self.provider, self.fee_percent, self.currency))
        return cost.rewards() + (cost.fee() or 0)


def slug(name: str) -> str:
    """Return a name as a part of an address: letters, digits, ``-`` and ``_``, at least one."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:80] or "study"


def with_own_ids(studies: list[StudyInfo]) -> list[StudyInfo]:
    """Give studies of the same name ids of their own."""
    taken: set[str] = set()
    found = []
    for study in studies:
        number, new = 1, study.id
        while new in taken:
            number += 1
            new = f"{study.id}-{number}"
        taken.add(new)
        found.append(study.model_copy(update={"id": new}))
    return found


def _wanted(args: Any, kind: Kind, task_name: str) -> tuple[bool, dict[str, int], int | None]:
    """How many conversations are wanted of which condition or model, and in all."""

    def extended(configured: dict[str, int]) -> dict[str, int]:
        return Extensions(expand(args.chat_data_folder), task_name, configured, args.get("resume", True)).wanted()

    if args.get("design_path", None):
        design = load_study_design(f"{BLUEPRINT}.design_path", args.design_path)
        each = design.conversations_per_cell
        return True, {cell.label: each for cell in design.cells}, design.total
    if kind == "image":
        return False, {}, extended({NUM_CONVERSATIONS: int(args.num_conversations)})[NUM_CONVERSATIONS]
    if kind != "text":
        return False, {}, None
    text = args.get("conversations_needed_string", None)
    if not text:
        return False, {}, None
    wanted = extended(parse_conversations_needed(f"{BLUEPRINT}.conversations_needed_string", text))
    return False, wanted, sum(wanted.values())

"""Whether a study's design fits the rest of the configuration, before anything is launched."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from omegaconf import DictConfig

from model_chat.agents.endpoint_settings import ENDPOINT_AGENT
from model_chat.configuration.study_design import (
    DIFFERING_FLAGS,
    MODEL,
    PACE_FLAGS,
    PROMPT,
    Factor,
    StudyDesign,
    load_study_design,
)
from model_chat.configuration.study_flow import load_study_flow
from model_chat.configuration.study_items import ChoiceItem
from model_chat.conversation.pacing import delivery_faults
from model_chat.errors import ConfigurationError
from model_chat.serving.catalogue import ModelSource, parse_conversations_needed

BLUEPRINT = "mephisto.blueprint"
FLAG = f"{BLUEPRINT}.design_path"
_NEEDED = f"{BLUEPRINT}.conversations_needed_string"
PROMPTED_AGENTS = frozenset({ENDPOINT_AGENT, "model_chat.agents.hugging_face:HuggingFaceChatAgent"})
"""Agents that have a system prompt."""


@dataclass(frozen=True)
class CheckedDesign:
    """A design that fits the rest of the configuration."""

    design: StudyDesign
    model: str | None


def check_design(args: DictConfig, most_units: int | None) -> tuple[CheckedDesign, dict[str, int], list[str]]:
    """Read the design, and check it against the flags.

    Args:
        most_units: ``mephisto.task.maximum_units_per_worker``; 0 or None: no limit.

    Returns:
        the design; nickname -> conversations; and what does not fit together.

    Raises:
        ConfigurationError: the file has faults, or nothing says which models there are.
    """
    design = load_study_design(FLAG, args.design_path)
    faults = _flag_faults(args, design)
    if most_units and design.within:
        longest = max(len(group) for group in design.groups())
        if longest > most_units:
            faults.append(
                f"{FLAG}: a worker goes through {longest} conditions, and mephisto.task.maximum_units_per_worker="
                f"{most_units} lets them hold fewer conversations; set it to {longest} or 0, or make a within "
                "factor a between factor."
            )
    if design.strata is not None:
        faults += strata_faults(design, items_before_chat(args))
    factor = design.factor(MODEL)
    if factor is None:
        return *_of_one_model(args, design, faults), faults
    needed: Counter[str] = Counter()
    for cell in design.cells:
        needed[str(design.value(cell, MODEL))] += design.conversations_per_cell
    if args.conversations_needed_string:
        said = parse_conversations_needed(_NEEDED, args.conversations_needed_string)
        if said != dict(needed):
            wanted = ",".join(f"{nickname}:{count}" for nickname, count in needed.items())
            faults.append(
                f"{_NEEDED}: '{args.conversations_needed_string}' is not what {FLAG} asks for, which is {wanted}; leave it "
                "out (null), for the factor 'model' takes its place."
            )
    return CheckedDesign(design, None), dict(needed), faults


def _of_one_model(args: DictConfig, design: StudyDesign, faults: list[str]) -> tuple[CheckedDesign, dict[str, int]]:
    needed = parse_conversations_needed(_NEEDED, args.conversations_needed_string)
    if len(needed) != 1:
        faults.append(
            f"{_NEEDED}: names {len(needed)} models, and the design of {FLAG} has no factor 'model'; name one model, or "
            "make 'model' a factor."
        )
    elif sum(needed.values()) != design.total:
        faults.append(
            f"{_NEEDED}: asks for {sum(needed.values())} conversations, and the design of {FLAG} has "
            f"{len(design.cells)} cells of {design.conversations_per_cell}; give {design.total}."
        )
    return CheckedDesign(design, next(iter(needed))), needed


def _flag_faults(args: DictConfig, design: StudyDesign) -> list[str]:
    """Levels that are no values of their flags."""
    faults = []
    for factor in design.factors:
        if factor.name not in DIFFERING_FLAGS:
            continue
        if factor.name in PACE_FLAGS:
            faults += _pace_faults(args, factor)
            continue
        for level, value in factor.levels.items():
            is_switch = isinstance(args[factor.name], bool)
            smallest = 0 if factor.name == "time_extensions" else 1
            if is_switch is not isinstance(value, bool):
                faults.append(
                    f"{FLAG}: '{factor.name}': '{level}' must be {'true or false' if is_switch else 'a number'}."
                )
            elif not is_switch and (not isinstance(value, int) or value < smallest):
                faults.append(f"{FLAG}: '{factor.name}': '{level}' must be a whole number of at least {smallest}.")
    return faults


def _pace_faults(args: DictConfig, factor: Factor) -> list[str]:
    faults = []
    for level, value in factor.levels.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            faults.append(f"{FLAG}: '{factor.name}': '{level}' must be a number.")
            continue
        # The run's other flag may have a fault of its own, which is said where it is.
        both = SimpleNamespace(
            **{**dict.fromkeys(PACE_FLAGS, 0.0), factor.name: value},
            max_model_response_time=args.max_model_response_time,
        )
        faults += [f"{FLAG}: '{factor.name}': '{level}': {fault}" for fault in delivery_faults(BLUEPRINT, both)]
    return faults


def prompt_faults(design: StudyDesign, sources: Mapping[str, ModelSource]) -> list[str]:
    """Models of a design with the factor ``prompt`` that have no system prompt."""
    if design.factor(PROMPT) is None:
        return []
    return [
        f"{FLAG}: the factor 'prompt' needs models with a system prompt, and '{nickname}' is none; such are the models of "
        "model_chat.agents.hugging_face and of endpoints."
        for nickname, source in sources.items()
        if source.agent not in PROMPTED_AGENTS
    ]


def items_before_chat(args: DictConfig) -> Mapping[str, Collection[str] | None]:
    """Return the choices of one option that everybody makes before the chat, with the options; None for any answer."""
    path = args.get("study_flow_path")
    try:
        flow = load_study_flow(f"{BLUEPRINT}.study_flow_path", path) if path else None
    except ConfigurationError:  # which is said with the flow's own faults
        flow = None
    if flow is None:
        return {}
    return {
        item.id: None if item.other else item.options
        for page in flow.pages[: flow.chat_idx]
        if not page.show_if
        for item in page.all_items
        if isinstance(item, ChoiceItem) and not item.many and item.required and not item.show_if
    }


def strata_faults(design: StudyDesign, items: Mapping[str, Collection[str] | None]) -> list[str]:
    """Say what is wrong with the strata of a design.

    Args:
        items: asked before the chat -> their answers, or None where any answer may be given.
    """
    strata = design.strata
    if strata is None:
        return []
    if strata.item not in items:
        known = ", ".join(items) or "none"
        return [f"{FLAG}: 'strata': no item '{strata.item}' is asked of everybody before the chat (items: {known})."]
    answers = items[strata.item]
    return [
        f"{FLAG}: 'strata': '{strata.item}' has no answer '{answer}'; its answers are {', '.join(answers or ())}."
        for answer in strata.counts
        if answers is not None and answer not in answers
    ]


def variant(cfg: DictConfig, design: StudyDesign | None, choose: Callable[[list[int]], int]) -> DictConfig:
    """Return the configuration with one value of each flag that differs between conversations.

    Args:
        cfg: the whole configuration; returned as it is without a design.
        choose: ``min`` or ``max``; true and false are 1 and 0.
    """
    changed = cfg if design is None else copy.deepcopy(cfg)
    for factor in () if design is None else design.factors:
        if factor.name in DIFFERING_FLAGS:
            changed.mephisto.blueprint[factor.name] = choose(list(factor.levels.values()))
    return changed

"""Whether a study's design fits the rest of the configuration, before anything is launched."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from omegaconf import DictConfig, OmegaConf

from model_chat.agents.endpoint_settings import ENDPOINT_AGENT
from model_chat.configuration.comparison import comparison_faults
from model_chat.configuration.study_design import (
    COMPARISON_FLAGS,
    DIFFERING_FLAGS,
    MODEL,
    PACE_FLAGS,
    PROMPT,
    Factor,
    StudyDesign,
    load_study_design,
)
from model_chat.conversation.pacing import delivery_faults
from model_chat.errors import ConfigurationError
from model_chat.launch.checked_task import CheckedImages
from model_chat.serving.catalogue import ModelSource, parse_conversations_needed

BLUEPRINT = "mephisto.blueprint"
FLAG = f"{BLUEPRINT}.design_path"
_NEEDED = f"{BLUEPRINT}.conversations_needed_string"
_IMAGE_MODELS = f"{BLUEPRINT}.image_models"
NUM_CONVERSATIONS = 10
"""Default of ``mephisto.blueprint.num_conversations``, which a design takes the place of."""
_COMPARED = (*PACE_FLAGS, *COMPARISON_FLAGS)
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
    faults = _faults_of_both(args, design, most_units)
    if design.factor(MODEL) is None:
        return *_of_one_model(args, design, faults), faults
    needed = _needed(design)
    if args.conversations_needed_string:
        said = parse_conversations_needed(_NEEDED, args.conversations_needed_string)
        if said != needed:
            wanted = ",".join(f"{nickname}:{count}" for nickname, count in needed.items())
            faults.append(
                f"{_NEEDED}: '{args.conversations_needed_string}' is not what {FLAG} asks for, which is {wanted}; leave it "
                "out (null), for the factor 'model' takes its place."
            )
    return CheckedDesign(design, None), needed, faults


def check_images(
    cfg: DictConfig,
    faults: list[str],
    check_stack: Callable[[list[str] | None], tuple[CheckedImages | None, dict[str, ModelSource]]],
) -> tuple[CheckedImages | None, dict[str, ModelSource], CheckedDesign | None]:
    """Check what only image chat has, and what a design needs of it.

    Args:
        cfg: the whole configuration.
        faults: gets what is found.
        check_stack: checks models, images and stack, with the models that a design names, or with those of the flags.

    Returns:
        what holds together, or None; the models, none if there are faults; and the design, or None.
    """
    args = cfg.mephisto.blueprint
    if not args.design_path:
        return *check_stack(None), None
    try:
        design, named, found = check_image_design(args, cfg.mephisto.task.get("maximum_units_per_worker", None))
    except ConfigurationError as error:
        faults.extend(error.faults)
        if args.comparison is None or args.image_models is not None:  # what else is wrong is said, too
            check_stack(None)
        return None, {}, None
    faults.extend(found)
    images, sources = check_stack(named)
    if images is None:
        return None, sources, CheckedDesign(design, None)
    faults.extend(image_room_faults(design, images.combos, len(images.contexts), images.evals_per_image_model_combo))
    return images, sources, CheckedDesign(design, images.combos[0] if named is None else None)


def check_image_design(args: DictConfig, most_units: int | None) -> tuple[StudyDesign, list[str] | None, list[str]]:
    """Read the design of an image chat, and check it against the flags.

    Args:
        args, most_units: see :func:`check_design`.

    Returns:
        the design; the models, or pairs of them, that it names (None where the model is no factor); and what does not fit
        together. :func:`image_room_faults` checks it against the images.

    Raises:
        ConfigurationError: the file has faults.
    """
    design = load_study_design(FLAG, args.design_path)
    faults = _faults_of_both(args, design, most_units)
    if args.num_conversations not in (design.total, NUM_CONVERSATIONS):
        faults.append(
            f"{BLUEPRINT}.num_conversations: {args.num_conversations} is not what {FLAG} asks for, which is {design.total}; "
            "leave the flag out."
        )
    if design.factor(MODEL) is None:
        return design, None, faults
    named = list(_needed(design))
    if args.image_models is not None:
        said = [part.strip() for part in args.image_models.split(",")]
        if sorted(said) != sorted(named):
            faults.append(
                f"{_IMAGE_MODELS}: '{args.image_models}' is not what {FLAG} asks for, which is {','.join(named)}; leave it "
                "out (null), for the factor 'model' takes its place."
            )
    return design, named, faults


def image_room_faults(design: StudyDesign, combos: Sequence[str], num_images: int, evals: int) -> list[str]:
    """Say where a design needs more than the images of a study have room for.

    Args:
        design: the design.
        combos: what images are talked about with: models, or pairs of them.
        num_images: how many there are.
        evals: conversations about each image with each of ``combos``.
    """
    needed = _needed(design)
    if design.factor(MODEL) is None:
        if len(combos) != 1:
            return [
                f"{_IMAGE_MODELS}: there are {len(combos)} ({', '.join(combos)}), and the design of {FLAG} has no factor "
                "'model'; name one, or make 'model' a factor."
            ]
        needed = {combos[0]: design.total}
    room = num_images * evals
    faults = [
        f"{FLAG}: asks for {count} conversations with '{nickname}', and {num_images} images have room for {room}; raise "
        f"{BLUEPRINT}.evals_per_image_model_combo to {math.ceil(count / num_images)}, or add images."
        for nickname, count in needed.items()
        if count > room
    ]
    longest = max(len(group) for group in design.groups())
    if design.within and longest > num_images:
        faults.append(
            f"{FLAG}: a worker goes through {longest} conditions, each with an image that is new to them, and there are "
            f"{num_images} images; add images, or make a within factor a between factor."
        )
    return faults


def _needed(design: StudyDesign) -> dict[str, int]:
    """Level of the factor ``model`` -> conversations."""
    needed: Counter[str] = Counter()
    for cell in design.cells:
        needed[str(design.value(cell, MODEL))] += design.conversations_per_cell
    return dict(needed)


def _faults_of_both(args: DictConfig, design: StudyDesign, most_units: int | None) -> list[str]:
    """What is checked in text chat and image chat alike."""
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
    return faults


def comparison_faults_of(args: DictConfig, design: StudyDesign | None) -> list[str]:
    """Say what is wrong with the flags of comparisons, with the values that the cells of a design give them.

    Args:
        args: the flags below ``mephisto.blueprint``.
        design: None without.
    """
    names = [factor.name for factor in design.factors if factor.name in _COMPARED] if design is not None else []
    if design is None or not names:
        return comparison_faults(BLUEPRINT, args)
    if args.comparison is None:
        return [
            f"{FLAG}: the factor '{name}' has no effect, for nothing is compared; remove it, or give {BLUEPRINT}.comparison."
            for name in names
            if name in COMPARISON_FLAGS
        ]
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for cell in design.cells:
        levels = tuple((name, cell.conditions[name]) for name in names)
        if levels not in found:
            flags = {
                name: args[name] for name in (*_COMPARED, "comparison", "stream_replies", "annotations_config_path")
            }
            found[levels] = comparison_faults(BLUEPRINT, OmegaConf.create(flags | design.flag_values(cell)))
    everywhere = [fault for fault in next(iter(found.values())) if all(fault in own for own in found.values())]
    return everywhere + [
        f"{FLAG}: with {', '.join(f'{name}={level}' for name, level in levels)}: {fault}"
        for levels, own in found.items()
        for fault in own
        if fault not in everywhere
    ]


def _of_one_model(args: DictConfig, design: StudyDesign, faults: list[str]) -> tuple[CheckedDesign, dict[str, int]]:
    needed = parse_conversations_needed(_NEEDED, args.conversations_needed_string)
    if len(needed) != 1:
        faults.append(
            f"{_NEEDED}: names {len(needed)} models or pairs, and the design of {FLAG} has no factor 'model'; name one, or "
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
        if factor.name == "include_persona" and factor.name not in args:
            faults.append(f"{FLAG}: '{factor.name}' is a flag of text chat; remove the factor.")
            continue
        if factor.name in COMPARISON_FLAGS and factor.name != "comparison_reason":
            continue  # comparison_faults_of says what is available
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
    if not path:
        return {}
    from model_chat.configuration.study_flow import load_study_flow
    from model_chat.configuration.study_items import ChoiceItem

    try:
        flow = load_study_flow(f"{BLUEPRINT}.study_flow_path", path)
    except ConfigurationError:  # which is said with the flow's own faults
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
        if factor.name in DIFFERING_FLAGS and factor.name in changed.mephisto.blueprint:
            changed.mephisto.blueprint[factor.name] = choose(list(factor.levels.values()))
    return changed

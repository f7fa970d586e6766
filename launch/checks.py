"""Check the whole configuration before anything is built, launched or paid for, and report every fault at once."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from model_chat.configuration.annotations import AnnotationsConfig, load_annotations
from model_chat.configuration.authenticity import authenticity_faults
from model_chat.configuration.comparison import models_named, pair_faults
from model_chat.configuration.files import expand, read_text
from model_chat.configuration.lists import split_list
from model_chat.configuration.mephisto_data import data_folder_fault
from model_chat.configuration.onboarding import OnboardingConfig, load_onboarding
from model_chat.configuration.places import set_up_command
from model_chat.configuration.reply_format import reply_format_faults
from model_chat.configuration.task_names import LOCAL, full_task_name, stack_owner_fault, task_name_fault
from model_chat.configuration.text_files import load_texts
from model_chat.configuration.traces import folder_fault
from model_chat.configuration.worker_texts import Texts
from model_chat.configuration.world_file import load_world
from model_chat.conversation.contexts import HI, start_mode_fault
from model_chat.conversation.pacing import delivery_faults
from model_chat.crowd.going_live import configuration_faults, is_on_mturk
from model_chat.crowd.panel_launch import pay_faults
from model_chat.crowd.panels import is_panel, panel_faults
from model_chat.dashboard.settings import dashboard_faults
from model_chat.errors import ConfigurationError, collecting
from model_chat.launch.annotation_checks import (
    CheckedLogs,
    attention_faults,
    check_logs,
    is_annotation,
    number_faults,
    of_longest,
)
from model_chat.launch.checked_task import CheckedImages, CheckedTask
from model_chat.launch.design_checks import (
    CheckedDesign,
    check_design,
    check_images,
    comparison_faults_of,
    prompt_faults,
    variant,
)
from model_chat.launch.metrics import metrics_faults
from model_chat.model_chat_blueprint import FRONTEND_DIST, IMAGE_BLUEPRINT_TYPE
from model_chat.quality.acceptability import AcceptabilityChecker, offensive_matcher
from model_chat.quality.attention import AttentionConfig, load_attention_checks
from model_chat.quality.block_lists import read_block_lists
from model_chat.quality.blocks import name_of
from model_chat.records.extensions import NUM_CONVERSATIONS, Extensions
from model_chat.router.addresses import faults_of_addresses
from model_chat.router.local_architect import ROUTER_PACKAGES, fault_of_port
from model_chat.serving.catalogue import (
    ModelSource,
    choose_sources,
    models_in_folder,
    models_in_opt_file,
    opt_faults,
    parse_conversations_needed,
    spend_faults,
)
from model_chat.serving.ray_options import serving_faults

if TYPE_CHECKING:
    from model_chat.configuration.study_flow import StudyFlow
    from model_chat.conversation.world import WorldModule

P = ParamSpec("P")
T = TypeVar("T")
BLUEPRINT = "mephisto.blueprint"
MOCK_REQUESTER = "MOCK_REQUESTER"
"""Mephisto's own name for the requester of the provider mock, which a launch fills in."""
MTURK = "mturk"
MAY_BE_MISSING = frozenset({f"{BLUEPRINT}.block_qualification"})
TASK_TEXTS = ("task_name", "task_title", "task_description", "task_tags")
SMALLEST: dict[str, int] = {
    "num_turns": 1,
    "max_resp_time": 1,
    "time_extensions": 0,
    "stop_grace_time": 0,
    "max_onboard_time": 1,
    "max_page_time": 1,
    "max_message_length": 1,
    "max_concurrent_responses": 1,
    "max_batch_size": 1,
    "batch_wait_ms": 0,
    "max_model_response_time": 1,
    "ray_replicas": 1,
    "ray_start_time": 1,
}


def _loaded(faults: list[str], load: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return what ``load`` returns; None where it raises a :class:`ConfigurationError`, whose faults are noted."""
    try:
        return load(*args, **kwargs)
    except ConfigurationError as error:
        faults += error.faults
        return None


def check_task(cfg: DictConfig) -> CheckedTask:
    """Check the configuration of a text chat or image chat task.

    Raises:
        ConfigurationError: with one sentence for every fault that can be found without loading a model.
    """
    _check_resolvable(cfg)  # else the rest can't be read
    args = cfg.mephisto.blueprint
    faults = [
        *_too_small(args, SMALLEST),
        *serving_faults(args),
        *delivery_faults(BLUEPRINT, args),
        *reply_format_faults(BLUEPRINT, args),
    ]

    needed: dict[str, int] = {}
    sources: dict[str, ModelSource] = {}
    images: CheckedImages | None = None
    design: CheckedDesign | None = None
    logs: CheckedLogs | None = None
    if is_annotation(cfg):
        faults += number_faults(args)
        logs = _loaded(faults, check_logs, args)
        needed = {} if logs is None else logs.needed
    elif is_image_chat(cfg):
        images, sources, design = check_images(
            cfg, faults, lambda named: _check_stack(args, full_task_name(cfg), faults, named)
        )
        if images is not None:
            needed = dict.fromkeys(images.combos, len(images.contexts) * images.evals_per_image_model_combo)
    else:
        flag = f"{BLUEPRINT}.conversations_needed_string"
        with collecting(faults):
            if args.design_path:
                design, needed, found = check_design(args, cfg.mephisto.task.get("maximum_units_per_worker", None))
                flag = flag if design.model else f"{BLUEPRINT}.design_path"
                faults += found
            else:
                needed = parse_conversations_needed(flag, args.conversations_needed_string)
        mistaken = pair_faults(flag, needed, BLUEPRINT, args)
        faults += mistaken
        # What is a pair by mistake is searched as one: all faults are said at once.
        named = models_named(needed, args.comparison is not None or bool(mistaken))
        sources = _loaded(faults, _find_models, args, named, faults, flag) or {}
        mode_fault = start_mode_fault(f"{BLUEPRINT}.conversation_start_mode", args.conversation_start_mode)
        faults += filter(None, [mode_fault])

    if design is not None:
        faults += prompt_faults(design.design, sources)
    faults += comparison_faults_of(args, None if design is None else design.design)
    faults += spend_faults(f"{BLUEPRINT}.max_model_spend_usd", args.max_model_spend_usd, sources)

    annotations: AnnotationsConfig | None = None
    annotations_text: str | None = None
    onboarding: OnboardingConfig | None = None
    if args.annotations_config_path:
        flag = f"{BLUEPRINT}.annotations_config_path"
        loaded = _loaded(faults, load_annotations, flag, args.annotations_config_path)
        annotations, annotations_text = loaded or (None, None)
        if not args.annotation_question.strip():
            faults.append(f"{BLUEPRINT}.annotation_question: is empty; say what the boxes are about.")
    if annotations is not None and args.onboarding_qualification:
        flag = f"{BLUEPRINT}.onboard_task_data_path"
        onboarding = _loaded(faults, load_onboarding, flag, args.onboard_task_data_path, annotations)
    study_flow: StudyFlow | None = None
    if args.study_flow_path:
        from model_chat.configuration.study_flow import load_study_flow

        study_flow = _loaded(faults, load_study_flow, f"{BLUEPRINT}.study_flow_path", args.study_flow_path)
    faults += authenticity_faults(BLUEPRINT, args, study_flow, writes_messages=not is_annotation(cfg))
    texts = _loaded(faults, load_texts, args.language, args.texts_path) or Texts()
    asked = texts.default("final_rating_question", args.final_rating_question)
    questions = tuple(question.strip() for question in asked.split("|"))
    if not all(questions):
        faults.append(
            f"{BLUEPRINT}.final_rating_question: '{args.final_rating_question}' has an empty question; separate questions "
            f"by one |."
        )
    task_description, left_pane_text = (
        _loaded(faults, read_text, f"{BLUEPRINT}.{name}", args[name]) or ""
        for name in ("task_description_file", "left_pane_text_path")
    )
    world_module = _loaded(faults, load_world, f"{BLUEPRINT}.world_file", args.world_file)
    faults += filter(None, [folder_fault(f"{BLUEPRINT}.chat_data_folder", args.chat_data_folder)])
    shortest, longest = (variant(cfg, None if design is None else design.design, choose) for choose in (min, max))
    if is_annotation(cfg):
        shortest, longest = of_longest(cfg, logs)
    acceptability, attention, block_list = check_quality(shortest, annotations, faults)
    if is_annotation(cfg):
        faults += attention_faults(attention, logs)
    faults += metrics_faults(args, cfg.mephisto.architect)
    faults += dashboard_faults(args, cfg.mephisto.architect)
    faults += _mephisto_faults(longest, 0 if attention is None else len(attention.checks))
    extensions = None
    if args.chat_data_folder and design is None and logs is None:
        configured = needed if images is None else {NUM_CONVERSATIONS: images.num_conversations}
        extensions = Extensions(expand(args.chat_data_folder), full_task_name(cfg), configured, args.resume)
        with collecting(faults):
            wanted = extensions.wanted()
            if images is None:
                needed = wanted
            else:
                images = replace(images, num_conversations=wanted[NUM_CONVERSATIONS])
    ConfigurationError.raise_if(faults)
    return CheckedTask(
        needed=needed,
        sources=sources,
        annotations=annotations,
        annotations_text=annotations_text,
        onboarding=onboarding,
        final_rating_questions=questions,
        task_description=task_description,
        left_pane_text=left_pane_text,
        world_module=cast("WorldModule", world_module),
        chat_data_folder=expand(args.chat_data_folder),
        task_name=full_task_name(cfg),
        is_live=cfg.mephisto.provider._provider_type == MTURK or is_panel(cfg),
        acceptability=acceptability,
        attention=attention,
        block_list=block_list,
        images=images,
        design=design,
        max_model_spend_usd=args.max_model_spend_usd,
        study_flow=study_flow,
        texts=texts,
        logs=logs,
        extensions=extensions,
    )


def _too_small(args: Any, smallest: Mapping[str, int]) -> list[str]:
    return [
        f"{BLUEPRINT}.{name}: {args[name]} is too small; give a whole number of at least {least}."
        for name, least in smallest.items()
        if args[name] < least
    ]


def is_image_chat(cfg: DictConfig) -> bool:
    """Whether the configuration is one of image chat."""
    return bool(cfg.mephisto.blueprint._blueprint_type == IMAGE_BLUEPRINT_TYPE)


def _check_stack(
    args: Any, task_name: str, faults: list[str], named: list[str] | None
) -> tuple[CheckedImages | None, dict[str, ModelSource]]:
    """Check the models, the images, and the stack.

    Args:
        named: the models, or pairs of them, of a design; None: the flags say which.

    Returns:
        what holds together, or None; and the models, none if there are faults.
    """
    faults += _too_small(args, {"num_conversations": 1, "evals_per_image_model_combo": 1})
    flag = f"{BLUEPRINT}.image_models"
    nicknames = named
    if named is not None:
        flag = f"{BLUEPRINT}.design_path"
    elif args.image_models is not None:
        nicknames = _loaded(faults, split_list, flag, args.image_models, keep_empty=True)
        if nicknames is None:
            return None, {}
        if not nicknames or not all(nicknames) or len(set(nicknames)) != len(nicknames):
            faults.append(
                f"{flag}: '{args.image_models}' has an empty or a repeated nickname; write it as nickname,nickname, or "
                "leave it out to talk to all models."
            )
            return None, {}
    is_compared = args.comparison is not None
    if is_compared and nicknames is None:
        faults.append(
            f"{flag}: is not set, and names the pairs that are compared; write it as nickname|nickname,nickname|nickname."
        )
        return None, {}
    mistaken = pair_faults(flag, nicknames or (), BLUEPRINT, args)
    faults += mistaken
    wanted = None if nicknames is None else models_named(nicknames, is_compared or bool(mistaken))
    sources = _loaded(faults, _find_models, args, wanted, faults, flag) or {}
    combos = tuple(nicknames) if nicknames is not None and is_compared else tuple(sources)
    from model_chat.images.contexts import ImageContexts  # a fifth of a second, which text chat need not wait
    from model_chat.images.stack import find_stack_faults

    contexts = _loaded(faults, ImageContexts, args.image_context_path)
    stack_flag = f"{BLUEPRINT}.stack_folder"
    stack_fault = folder_fault(stack_flag, args.stack_folder)
    owner_fault = stack_owner_fault(stack_flag, expand(args.stack_folder), task_name) if stack_fault is None else None
    faults += filter(None, [stack_fault, owner_fault])
    if contexts is None or not sources or stack_fault is not None:
        return None, sources
    faults += find_stack_faults(
        num_images=len(contexts),
        models=list(combos),
        evals_per_image_model_combo=max(1, args.evals_per_image_model_combo),
        stack_folder=args.stack_folder,
        on_model_change=args.stack_on_model_change,
        images_id=contexts.fingerprint,
    )
    images = CheckedImages(
        contexts=contexts,
        combos=combos,
        num_conversations=args.num_conversations,
        evals_per_image_model_combo=args.evals_per_image_model_combo,
        stack_folder=expand(args.stack_folder),
        on_model_change=args.stack_on_model_change,
    )
    return images, sources


def check_quality(
    cfg: DictConfig, annotations: AnnotationsConfig | None, faults: list[str]
) -> tuple[AcceptabilityChecker | None, AttentionConfig | None, tuple[str, ...]]:
    """Check what belongs to quality control, in text chat and image chat alike.

    Returns:
        the checker of what workers write, the attention checks, and the workers to block; None, None and none when unset.
    """
    args = cfg.mephisto.blueprint
    acceptability: AcceptabilityChecker | None = None
    attention: AttentionConfig | None = None
    if args.check_acceptability:
        matcher = _loaded(faults, offensive_matcher, args.offensive_words_path)
        acceptability = None if matcher is None else AcceptabilityChecker(matcher)
    if args.attention_checks_path:
        attention = _loaded(faults, load_attention_checks, args.attention_checks_path, args.num_turns, annotations)
    block_list = _loaded(faults, read_block_lists, cfg.mturk.worker_blocklist_paths) or []
    if block_list and name_of(args, "block_qualification") is None:
        faults.append(
            f"{BLUEPRINT}.block_qualification: is not set, but mturk.worker_blocklist_paths names workers to block; give "
            "the qualification that keeps them out, such as my_study_block."
        )
    return acceptability, attention, tuple(block_list)


def _check_resolvable(cfg: DictConfig) -> None:
    """Find values that are missing or refer to something that isn't there."""
    try:
        missing = sorted(
            key
            for key in OmegaConf.missing_keys(cfg)
            if key.startswith((BLUEPRINT, "mephisto.task")) and key not in MAY_BE_MISSING
        )
        OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        problem = str(error).splitlines()[0].rstrip(".")
        raise ConfigurationError(f"{error.full_key}: {problem}; correct what it refers to.") from None
    ConfigurationError.raise_if(f"{key}: has no value; give one, such as {key}=…" for key in missing)


def _find_models(
    args: DictConfig,
    wanted: Iterable[str] | None,
    faults: list[str],
    flag: str = f"{BLUEPRINT}.conversations_needed_string",
) -> dict[str, ModelSource]:
    """Find where the models come from.

    Args:
        wanted: nicknames; None: all that there are.

    Raises:
        ConfigurationError: there are no models, or some are not there.
    """
    needed = None if wanted is None else list(wanted)
    available: dict[str, ModelSource] = {}
    places = []
    folder_flag, opt_flag = f"{BLUEPRINT}.base_model_folder", f"{BLUEPRINT}.model_opt_path"
    before = len(faults)
    if args.model_opt_path:
        places.append(f"{opt_flag}={args.model_opt_path}")
        available |= _loaded(faults, models_in_opt_file, opt_flag, args.model_opt_path) or {}
    # A run whose models all come from the option file needs no folder of models.
    if args.base_model_folder and not (available and needed is not None and set(needed) <= set(available)):
        places.append(f"{folder_flag}={args.base_model_folder}")
        in_folder = _loaded(faults, models_in_folder, folder_flag, args.base_model_folder) or {}
        faults += [
            f"{opt_flag}: '{nickname}' is in {args.base_model_folder}, too; rename it in one of the two."
            for nickname in sorted(available.keys() & in_folder.keys() & set(in_folder if needed is None else needed))
        ]
        available = {**in_folder, **available}
    if not places:
        raise ConfigurationError(f"{folder_flag}: is empty, and so is {opt_flag}; give at least one of them.")
    if len(faults) > before:
        return {}
    if needed is None and not available:
        raise ConfigurationError(f"{flag}: there is no model in {' or '.join(places)}; put one there.")
    sources = choose_sources(
        dict.fromkeys(available if needed is None else needed), available, flag, " or ".join(places)
    )
    for source in sources.values():
        faults += opt_faults(folder_flag, source)
    return sources


def _mephisto_faults(cfg: DictConfig, attention_checks: int) -> list[str]:
    """Find what is wrong with the flags of Mephisto's task, architect and provider, and with what has to be installed."""
    faults = [*configuration_faults(cfg, attention_checks), *pay_faults(cfg), *panel_faults(cfg)]
    faults += filter(None, [data_folder_fault(cfg)])
    task, architect = cfg.mephisto.task, cfg.mephisto.architect
    faults += [
        f"mephisto.task.{name}: is empty; workers see it, or data are counted by it."
        for name in TASK_TEXTS
        if not task[name].strip()
    ]
    faults += filter(None, [task_name_fault(str(task.task_name or "").strip())])
    if task.task_reward < 0:
        faults.append(f"mephisto.task.task_reward: {task.task_reward} is less than nothing; give US dollars.")
    kind = architect._architect_type
    if kind == "mock" and not is_on_mturk(cfg):  # for which more is wrong with it, and said
        faults.append(
            "mephisto.architect: 'mock' serves no page, it is for Mephisto's own tests; choose mephisto/architect=local."
        )
    elif architect.server_type != "node" and not is_on_mturk(cfg):  # likewise
        faults.append(
            f"mephisto.architect.server_type: '{architect.server_type}' is not available, for only the router that ships "
            "knows the worker's page; give node."
        )
    provider = cfg.mephisto.provider
    name = OmegaConf.select(cfg, "mephisto.provider.requester_name", default=None, throw_on_missing=False)
    if provider._provider_type == "mock" and name not in (None, "", MOCK_REQUESTER):
        faults.append(
            f"mephisto.provider.requester_name: the provider mock pays nobody and has no requester '{name}'; leave the flag "
            "out, or choose mephisto/provider=mturk_sandbox."
        )
    for group in ("task", "blueprint"):
        for key in cfg.mephisto[group]:
            value = cfg.mephisto[group].get(key, None)  # None for "???", too
            if isinstance(value, float) and not math.isfinite(value):
                faults.append(f"mephisto.{group}.{key}: '{value}' is not a finite number; give another.")
    if kind == LOCAL:
        if str(architect.port) != "0":
            faults += filter(None, [fault_of_port(str(architect.port))])
        faults += faults_of_addresses(architect)
        if shutil.which("node", path=os.environ.get("PATH")) is None:
            faults.append("mephisto.architect: there is no 'node' on the PATH; install Node.js 20 or newer.")
        if not ROUTER_PACKAGES.is_dir():
            faults.append(
                f"mephisto.architect: the router's packages are not installed; run '{set_up_command()}' once."
            )
    if not (FRONTEND_DIST / "index.html").is_file():
        faults.append(f"The worker's page is not built; run '{set_up_command()}' once.")
    return faults


def mode_needs_context(args: Any) -> bool:
    """Whether conversations of this configuration have a context."""
    return bool(args.conversation_start_mode != HI or args.include_persona)

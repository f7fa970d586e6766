"""Check the whole configuration before anything is built, launched or paid for, and report every fault at once."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

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
from model_chat.configuration.study_flow import StudyFlow, load_study_flow
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
from model_chat.images.stack import find_stack_faults
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
    from model_chat.conversation.world import WorldModule
    from model_chat.images.contexts import ImageContexts

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


class Faults:
    """Collects sentences, so that all faults are reported together."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, fault: str | None) -> None:
        """Note a fault; None is no fault."""
        if fault is not None:
            self.found.append(fault)

    def collecting(self) -> AbstractContextManager[None]:
        """Note the faults of a :class:`ConfigurationError` raised inside instead of letting it through."""
        return collecting(self.found)


def check_task(cfg: DictConfig) -> CheckedTask:
    """Check the configuration of a text chat or image chat task.

    Raises:
        ConfigurationError: with one sentence for every fault that can be found without loading a model.
    """
    faults = Faults()
    with faults.collecting():
        _check_resolvable(cfg)
    if faults.found:
        raise ConfigurationError(*faults.found)  # the rest can't be read
    args = cfg.mephisto.blueprint
    for name, smallest in SMALLEST.items():
        if args[name] < smallest:
            faults.add(f"{BLUEPRINT}.{name}: {args[name]} is too small; give a whole number of at least {smallest}.")
    for fault in (
        *serving_faults(args),
        *delivery_faults(BLUEPRINT, args),
        *reply_format_faults(BLUEPRINT, args),
    ):
        faults.add(fault)

    needed: dict[str, int] = {}
    sources: dict[str, ModelSource] = {}
    images: CheckedImages | None = None
    design: CheckedDesign | None = None
    logs: CheckedLogs | None = None
    if is_annotation(cfg):
        faults.found += number_faults(args)
        with faults.collecting():
            logs = check_logs(args)
            needed = logs.needed
    elif is_image_chat(cfg):
        images, sources, design = check_images(
            cfg, faults.found, lambda named: _check_stack(args, full_task_name(cfg), faults, named)
        )
        if images is not None:
            needed = dict.fromkeys(images.combos, len(images.contexts) * images.evals_per_image_model_combo)
    else:
        flag = f"{BLUEPRINT}.conversations_needed_string"
        with faults.collecting():
            if args.design_path:
                design, needed, found = check_design(args, cfg.mephisto.task.get("maximum_units_per_worker", None))
                flag = flag if design.model else f"{BLUEPRINT}.design_path"
                faults.found += found
            else:
                needed = parse_conversations_needed(flag, args.conversations_needed_string)
        mistaken = pair_faults(flag, needed, BLUEPRINT, args)
        faults.found += mistaken
        with faults.collecting():
            # What is a pair by mistake is searched as one: all faults are said at once.
            are_pairs = args.comparison is not None or bool(mistaken)
            sources = _find_models(args, models_named(needed, are_pairs), faults, flag)
        faults.add(start_mode_fault(f"{BLUEPRINT}.conversation_start_mode", args.conversation_start_mode))

    if design is not None:
        faults.found += prompt_faults(design.design, sources)
    faults.found += comparison_faults_of(args, None if design is None else design.design)
    for fault in spend_faults(f"{BLUEPRINT}.max_model_spend_usd", args.max_model_spend_usd, sources):
        faults.add(fault)

    annotations: AnnotationsConfig | None = None
    annotations_text: str | None = None
    onboarding: OnboardingConfig | None = None
    if args.annotations_config_path:
        with faults.collecting():
            annotations, annotations_text = load_annotations(
                f"{BLUEPRINT}.annotations_config_path", args.annotations_config_path
            )
        if not args.annotation_question.strip():
            faults.add(f"{BLUEPRINT}.annotation_question: is empty; say what the boxes are about.")
    if annotations is not None and args.onboarding_qualification:
        with faults.collecting():
            onboarding = load_onboarding(
                f"{BLUEPRINT}.onboard_task_data_path", args.onboard_task_data_path, annotations
            )
    study_flow: StudyFlow | None = None
    if args.study_flow_path:
        with faults.collecting():
            study_flow = load_study_flow(f"{BLUEPRINT}.study_flow_path", args.study_flow_path)
    faults.found += authenticity_faults(BLUEPRINT, args, study_flow, writes_messages=not is_annotation(cfg))
    texts = Texts()
    with faults.collecting():
        texts = load_texts(args.language, args.texts_path)
    asked = texts.default("final_rating_question", args.final_rating_question)
    questions = tuple(question.strip() for question in asked.split("|"))
    if not all(questions):
        faults.add(
            f"{BLUEPRINT}.final_rating_question: '{args.final_rating_question}' has an empty question; separate questions "
            f"by one |."
        )
    task_description = left_pane_text = ""
    with faults.collecting():
        task_description = read_text(f"{BLUEPRINT}.task_description_file", args.task_description_file)
    with faults.collecting():
        left_pane_text = read_text(f"{BLUEPRINT}.left_pane_text_path", args.left_pane_text_path)

    world_module: WorldModule | None = None
    with faults.collecting():
        world_module = cast("WorldModule", load_world(f"{BLUEPRINT}.world_file", args.world_file))
    faults.add(folder_fault(f"{BLUEPRINT}.chat_data_folder", args.chat_data_folder))
    shortest, longest = (variant(cfg, None if design is None else design.design, choose) for choose in (min, max))
    if is_annotation(cfg):
        shortest, longest = of_longest(cfg, logs)
    acceptability, attention, block_list = check_quality(shortest, annotations, faults)
    if is_annotation(cfg):
        faults.found += attention_faults(attention, logs)
    faults.found += metrics_faults(args, cfg.mephisto.architect)
    faults.found += dashboard_faults(args, cfg.mephisto.architect)
    _check_mephisto(longest, faults, 0 if attention is None else len(attention.checks))
    ConfigurationError.raise_if(faults.found)
    if world_module is None:
        raise RuntimeError("a world file was neither loaded nor refused")
    return CheckedTask(
        needed=needed,
        sources=sources,
        annotations=annotations,
        annotations_text=annotations_text,
        onboarding=onboarding,
        final_rating_questions=questions,
        task_description=task_description,
        left_pane_text=left_pane_text,
        world_module=world_module,
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
    )


def is_image_chat(cfg: DictConfig) -> bool:
    """Whether the configuration is one of image chat."""
    return bool(cfg.mephisto.blueprint._blueprint_type == IMAGE_BLUEPRINT_TYPE)


def _check_stack(
    args: Any, task_name: str, faults: Faults, named: list[str] | None
) -> tuple[CheckedImages | None, dict[str, ModelSource]]:
    """Check the models, the images, and the stack.

    Args:
        args: the flags below ``mephisto.blueprint``.
        task_name: in full.
        faults: gets what is found.
        named: the models, or pairs of them, of a design; None: the flags say which.

    Returns:
        what holds together, or None; and the models, none if there are faults.
    """
    for name in ("num_conversations", "evals_per_image_model_combo"):
        if args[name] < 1:
            faults.add(f"{BLUEPRINT}.{name}: {args[name]} is too small; give a whole number of at least 1.")
    flag = f"{BLUEPRINT}.image_models"
    nicknames = named
    if named is not None:
        flag = f"{BLUEPRINT}.design_path"
    elif args.image_models is not None:
        try:
            nicknames = split_list(flag, args.image_models, keep_empty=True)
        except ConfigurationError as error:
            faults.found.extend(error.faults)
            return None, {}
        if not nicknames or not all(nicknames) or len(set(nicknames)) != len(nicknames):
            faults.add(
                f"{flag}: '{args.image_models}' has an empty or a repeated nickname; write it as nickname,nickname, or "
                "leave it out to talk to all models."
            )
            return None, {}
    sources: dict[str, ModelSource] = {}
    contexts: ImageContexts | None = None
    is_compared = args.comparison is not None
    if is_compared and nicknames is None:
        faults.add(
            f"{flag}: is unset, and names the pairs that are compared; write it as nickname|nickname,nickname|nickname."
        )
        return None, {}
    mistaken = pair_faults(flag, nicknames or (), BLUEPRINT, args)
    faults.found += mistaken
    with faults.collecting():
        wanted = None if nicknames is None else models_named(nicknames, is_compared or bool(mistaken))
        sources = _find_models(args, wanted, faults, flag)
    combos = tuple(nicknames) if nicknames is not None and is_compared else tuple(sources)
    with faults.collecting():
        from model_chat.images.contexts import ImageContexts  # a fifth of a second, which text chat need not wait

        contexts = ImageContexts(args.image_context_path)
    stack_fault = folder_fault(f"{BLUEPRINT}.stack_folder", args.stack_folder)
    faults.add(stack_fault)
    if stack_fault is None:
        faults.add(stack_owner_fault(f"{BLUEPRINT}.stack_folder", expand(args.stack_folder), task_name))
    if contexts is None or not sources or stack_fault is not None:
        return None, sources
    faults.found += find_stack_faults(
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
    cfg: DictConfig, annotations: AnnotationsConfig | None, faults: Faults
) -> tuple[AcceptabilityChecker | None, AttentionConfig | None, tuple[str, ...]]:
    """Check what belongs to quality control, in text chat and image chat alike.

    Returns:
        the checker of what workers write, the attention checks, and the workers to block; None, None and none when unset.
    """
    args = cfg.mephisto.blueprint
    acceptability: AcceptabilityChecker | None = None
    attention: AttentionConfig | None = None
    block_list: list[str] = []
    if args.check_acceptability:
        with faults.collecting():
            acceptability = AcceptabilityChecker(offensive_matcher(args.offensive_words_path))
    if args.attention_checks_path:
        with faults.collecting():
            attention = load_attention_checks(args.attention_checks_path, args.num_turns, annotations)
    with faults.collecting():
        block_list = read_block_lists(cfg.mturk.worker_blocklist_paths)
    if block_list and name_of(args, "block_qualification") is None:
        faults.add(
            f"{BLUEPRINT}.block_qualification: is unset, but mturk.worker_blocklist_paths names workers to block; give the "
            "qualification that keeps them out, such as my_study_block."
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
    faults: Faults,
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
    before = len(faults.found)
    if args.model_opt_path:
        places.append(f"{opt_flag}={args.model_opt_path}")
        with faults.collecting():
            available.update(models_in_opt_file(opt_flag, args.model_opt_path))
    # A run whose models all come from the option file needs no folder of models.
    if args.base_model_folder and not (available and needed is not None and set(needed) <= set(available)):
        places.append(f"{folder_flag}={args.base_model_folder}")
        with faults.collecting():
            in_folder = models_in_folder(folder_flag, args.base_model_folder)
            for nickname in sorted(available.keys() & in_folder.keys() & set(in_folder if needed is None else needed)):
                faults.add(
                    f"{opt_flag}: '{nickname}' is in {args.base_model_folder}, too; rename it in one of the two."
                )
            available = {**in_folder, **available}
    if not places:
        raise ConfigurationError(f"{folder_flag}: is empty, and so is {opt_flag}; give at least one of them.")
    if len(faults.found) > before:
        return {}
    if needed is None and not available:
        raise ConfigurationError(f"{flag}: there is no model in {' or '.join(places)}; put one there.")
    sources = choose_sources(
        dict.fromkeys(available if needed is None else needed), available, flag, " or ".join(places)
    )
    for source in sources.values():
        for fault in opt_faults(folder_flag, source):
            faults.add(fault)
    return sources


def _check_mephisto(cfg: DictConfig, faults: Faults, attention_checks: int) -> None:
    faults.found += configuration_faults(cfg, attention_checks)
    faults.found += pay_faults(cfg)
    faults.found += panel_faults(cfg)
    faults.add(data_folder_fault(cfg))
    task, architect = cfg.mephisto.task, cfg.mephisto.architect
    for name in TASK_TEXTS:
        if not task[name].strip():
            faults.add(f"mephisto.task.{name}: is empty; workers see it, or data are counted by it.")
    faults.add(task_name_fault(str(task.task_name or "").strip()))
    if task.task_reward < 0:
        faults.add(f"mephisto.task.task_reward: {task.task_reward} is less than nothing; give US dollars.")
    kind = architect._architect_type
    if kind == "mock" and not is_on_mturk(cfg):  # for which more is wrong with it, and said
        faults.add(
            "mephisto.architect: 'mock' serves no page, it is for Mephisto's own tests; choose mephisto/architect=local."
        )
    elif architect.server_type != "node" and not is_on_mturk(cfg):  # likewise
        faults.add(
            f"mephisto.architect.server_type: '{architect.server_type}' is not available, for only the router that ships "
            "knows the worker's page; give node."
        )
    provider = cfg.mephisto.provider
    name = OmegaConf.select(cfg, "mephisto.provider.requester_name", default=None, throw_on_missing=False)
    if provider._provider_type == "mock" and name not in (None, "", MOCK_REQUESTER):
        faults.add(
            f"mephisto.provider.requester_name: the provider mock pays nobody and has no requester '{name}'; leave the flag "
            "out, or choose mephisto/provider=mturk_sandbox."
        )
    for group in ("task", "blueprint"):
        for key in cfg.mephisto[group]:
            value = cfg.mephisto[group].get(key, None)  # None for "???", too
            if isinstance(value, float) and not math.isfinite(value):
                faults.add(f"mephisto.{group}.{key}: '{value}' is not a finite number; give another.")
    if kind == LOCAL:
        if str(architect.port) != "0":
            faults.add(fault_of_port(str(architect.port)))
        faults.found += faults_of_addresses(architect)
        if shutil.which("node", path=os.environ.get("PATH")) is None:
            faults.add("mephisto.architect: there is no 'node' on the PATH; install Node.js 20 or newer.")
        if not ROUTER_PACKAGES.is_dir():
            faults.add(f"mephisto.architect: the router's packages are not installed; run '{set_up_command()}' once.")
    if not (FRONTEND_DIST / "index.html").is_file():
        faults.add(f"The worker's page is not built; run '{set_up_command()}' once.")


def mode_needs_context(args: Any) -> bool:
    """Whether conversations of this configuration have a context."""
    return bool(args.conversation_start_mode != HI or args.include_persona)

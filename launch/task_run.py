"""Launch and run a task: check everything, load the models, offer the work, show progress, stop in order."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from mephisto.data_model.constants.assignment_state import AssignmentState
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.markup import escape

from model_chat.compat.terminal import print_plain
from model_chat.configuration.comparison import ComparisonSettings, counted_as_named
from model_chat.configuration.exit_codes import ExitCode
from model_chat.configuration.help import config_text, help_text
from model_chat.configuration.hydra import ROOT, register
from model_chat.configuration.mephisto_data import find_data_folder, remember_data_folder
from model_chat.configuration.task_names import note_stack_owner
from model_chat.configuration.text_files import language_remarks
from model_chat.conversation.contexts import ContextSource, load_context_source
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.conversation.quota import ConversationQuota, Quota
from model_chat.crowd.going_live import check_before_launch
from model_chat.crowd.panels import is_panel
from model_chat.errors import ConfigurationError
from model_chat.launch.checked_task import CheckedTask
from model_chat.launch.checks import BLUEPRINT, check_task, mode_needs_context
from model_chat.launch.command_line import Action, CannotComposeError, read_arguments, run_hydra_app
from model_chat.launch.design_checks import variant
from model_chat.launch.design_run import design_arguments, hold_allocation, make_annotation_quota, make_quota
from model_chat.launch.logs import adopt_parlai_logger, set_up_logging
from model_chat.launch.metrics import serve_metrics
from model_chat.launch.panel import let_participants_return, open_endings, open_panel
from model_chat.launch.progress import Progress
from model_chat.launch.recovery import hold_task, recover, use_chat_data
from model_chat.mephisto_task.panel_providers import find_or_make_requester
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.mephisto_task.stopping import END_ON_PLATFORM_SECONDS, STOP_SIGNALS, StopRequest, stop_on_signals
from model_chat.mephisto_task.task_database import open_database
from model_chat.mephisto_task.task_operator import TaskOperator, is_local, offers_nothing_outside
from model_chat.quality.block_lists import block_workers
from model_chat.quality.blocks import block_for_record, name_of
from model_chat.records.collected import find_saved
from model_chat.serving.backend import open_pool
from model_chat.serving.model import StoppedError
from model_chat.serving.spend import ModelSpend, dollars
from model_chat.worlds import ChatOptions, OnboardingOptions

logger = logging.getLogger(__name__)

ABOUT = "Collect conversations between workers and models, with each reply annotated and the whole rated."


def main(default_conf: str) -> None:
    """Run a task from the command line."""
    code: int = ExitCode.DONE

    def run(cfg: DictConfig) -> None:
        nonlocal code
        if action is Action.HELP:
            print(help_text(cfg, Path(sys.argv[0]).name, ABOUT), end="")  # noqa: T201  # what the command is asked to print
        elif action is Action.CONFIG:
            print(config_text(cfg), end="")  # noqa: T201  # likewise
        else:
            set_up_logging(cfg.mephisto.log_level, console)
            try:
                code = run_task(cfg, console)
            except ConfigurationError as error:  # here, for Hydra has something to say about what leaves it
                code = _refuse(error, console)
            except (sqlite3.Error, OSError) as error:
                logger.debug("The run failed", exc_info=True)
                code = _give_up(error, cfg, console)
            except Exception:  # whatever it is, its threads must not keep the process
                logger.exception("The run ends with an error of the program; please report it")
                code = ExitCode.FAILED

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, before the run listens to both
    os.umask(0o077)  # what people write, and who they are, is for the requester's account alone
    console = Console(stderr=True, emoji=False)
    try:
        line = read_arguments(sys.argv[1:])
        action = line.action
        name = register(default_conf, line.config_dir)
        # Without a path Hydra would search the whole package. The group `conf` comes from the config store.
        hydra_main = hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name=name)
        run_hydra_app(hydra_main(run), name, line)
    except CannotComposeError as error:
        code = _refuse(error.with_faults_of(check_task) if action is Action.RUN else error, console)
    except ConfigurationError as error:
        code = _refuse(error, console)
    except KeyboardInterrupt:  # before the run listens to signals
        code = ExitCode.INTERRUPTED
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # it is over
    sys.stdout.flush()
    # Models that hang, and libraries' own threads, must not keep a finished run from ending.
    logging.shutdown()
    os._exit(code)


def _refuse(error: ConfigurationError, console: Console) -> int:
    """Say every fault; return the exit code."""
    for fault in error.faults:
        _print_fault(console, fault)
    console.print("Nothing was launched.", highlight=False)
    return ExitCode.CONFIGURATION


def _give_up(error: Exception, cfg: DictConfig, console: Console) -> int:
    """Say that files or the database could not be read or written; return the exit code."""
    of_mephisto, own = find_data_folder(cfg).path, cfg.mephisto.blueprint.chat_data_folder
    remedy = "Make room, or give folders on another disk:" if is_of_disk(error) else "The data are in"
    _print_fault(
        console,
        f"The run can't continue: {' '.join(str(error).split()).rstrip('.')}. {remedy} {of_mephisto} (Mephisto's data), "
        f"{own} (conversations); then start again: what is collected is kept, and the run continues from there.",
    )
    return ExitCode.FAILED


def _print_fault(console: Console, fault: str) -> None:
    console.print(f"[bold red]✗[/] {escape(fault)}", highlight=False, soft_wrap=True)


def is_of_disk(error: Exception) -> bool:
    """Whether an error says that the disk is full, or can't be written to."""
    if isinstance(error, sqlite3.Error):
        return any(words in str(error) for words in ("disk is full", "disk I/O error", "readonly database"))
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def run_task(cfg: DictConfig, console: Console) -> int:
    """Check, launch, and see through one task.

    Returns:
        the exit code (:class:`~model_chat.configuration.exit_codes.ExitCode`).

    Raises:
        ConfigurationError: something the requester gave is not usable; nothing has been launched.
    """
    started = time.monotonic()
    task = check_task(cfg)
    for remark in language_remarks(task.texts):
        logger.warning("%s", remark)
    data_folder = find_data_folder(cfg).path
    with stop_on_signals() as stop, ExitStack() as held:
        stack: tuple[Path, ...] = ()
        if task.images is not None:
            from model_chat.images.stack import stack_files

            stack = stack_files(task.images.stack_folder)
        held.enter_context(hold_task(data_folder, task.task_name, stack))
        operator = open_operator(cfg, task, data_folder)
        with ExitStack() as closing:
            # Models are closed after the operator has ended the conversations with them.
            models = closing.enter_context(ExitStack())
            closing.callback(operator.stop)
            done, spent = resume_earlier_runs(operator.db, cfg, task, data_folder, console)
            counts_models = task.images is None and task.design is None and task.logs is None
            if counts_models and ConversationQuota(task.needed, done).remaining() == 0:
                return _nothing_left(task, console)
            if task.max_model_spend_usd is not None and spent >= task.max_model_spend_usd:
                return _nothing_to_spend(task, spent, console)
            try:
                shared, quota = prepare(cfg, task, console, data_folder, done, models, stop.is_requested, spent)
            except StoppedError:
                return ExitCode.INTERRUPTED
            held.callback(quota.close)
            if stop.is_requested():
                return ExitCode.INTERRUPTED
            if quota.remaining() == 0:
                return _nothing_left(task, console)
            check_before_launch(operator.db, cfg, shared, console)
            open_panel(operator.db, cfg, shared, task.task_name)
            block_workers(operator.db, cfg, task.block_list)
            remember_data_folder(cfg)
            held.enter_context(use_chat_data(task.chat_data_folder))
            if task.design is not None or task.logs is not None:
                held.enter_context(hold_allocation(task.chat_data_folder))
            if task.images is not None:
                note_stack_owner(task.images.stack_folder, task.task_name)
            metrics = closing.enter_context(serve_metrics(cfg.mephisto.blueprint, shared, quota))
            dashboard = None
            if cfg.mephisto.blueprint.dashboard_port is not None:
                from model_chat.launch.dashboard import serve_dashboard

                dashboard = closing.enter_context(serve_dashboard(cfg, shared, quota))
            operator.launch_task_run_or_die(cfg.mephisto, shared)
            if not is_local(operator.live_run):
                stop.end_seconds = END_ON_PLATFORM_SECONDS
            shared.live_run = operator.live_run
            # What has been imported and loaded stays: a collection that looks through all of it halts everybody for 0.1 s.
            gc.freeze()
            closing.callback(gc.unfreeze)
            _wait_for_units(operator, stop)
            progress = Progress(quota, shared, console, cfg.monitoring_log_rate)
            progress.announce(operator.live_run, time.monotonic() - started, task.chat_data_folder)
            if metrics is not None:
                print_plain(console, f"  Metrics:           {metrics}")
            if dashboard is not None:
                print_plain(console, f"  Dashboard:         {dashboard}")
            runner, spend = operator.live_run.task_runner, shared.spend
            with progress:
                operator.run_until(
                    done=lambda: quota.remaining() == 0 and runner.is_idle,
                    tick=progress.tick,
                    stop=stop,
                    grace_seconds=cfg.mephisto.blueprint.stop_grace_time,
                    is_full=lambda: spend is not None and spend.is_reached(),
                )
                interrupted = stop.requested
                if shared.endings is not None and not interrupted:
                    let_participants_return(operator, cfg.mephisto.provider.linger_seconds, progress.tick, stop)
            if interrupted:
                stop.begin_end()
        progress.conclude(task.chat_data_folder, interrupted)
        return exit_code(quota, interrupted)


def exit_code(quota: Quota, interrupted: bool) -> ExitCode:
    """Return what a run that was launched ends with."""
    if interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE if quota.remaining() == 0 else ExitCode.ENDED_BEFORE


def resume_earlier_runs(
    db: Any, cfg: DictConfig, task: CheckedTask, data_folder: Path, console: Console
) -> tuple[dict[str, int], float]:
    """Find what earlier runs of the task have collected, and put in order what one that died has left.

    Returns:
        conversations collected with each model, and US dollars that the models of all saved conversations have cost; none
        if ``mephisto.blueprint.resume`` is off.
    """
    kept = find_saved(task.chat_data_folder, data_folder / "database.db", task.task_name)
    qualification = name_of(cfg.mephisto.blueprint, "block_qualification")
    block = partial(block_for_record, qualification=qualification, attention=task.attention)
    endings = open_endings(db, cfg, task.task_name)
    remember = (lambda saved: None) if endings is None else endings.remember
    recovered = recover(db, task.task_name, kept, task.chat_data_folder, task.is_live, block, remember)
    if recovered.cut_off or recovered.repaired:  # what was cut off has cost something, too
        kept = find_saved(task.chat_data_folder, data_folder / "database.db", task.task_name)
    said = [recovered.sentence()]
    if task.extensions is not None:
        said.append(task.extensions.sentence())
    done = counted_as_named(kept.complete(), task.needed) if cfg.mephisto.blueprint.resume else {}
    if done and task.images is None:
        collected = ", ".join(
            f"{done.get(nickname, 0)} of {needed} {nickname}" for nickname, needed in task.needed.items()
        )
        said.append(f"Continuing with what '{task.task_name}' has collected: {collected}.")
    if kept.unnamed:
        said.append(
            f"{kept.unnamed} older conversations in {task.chat_data_folder} name no task; they stay there, uncounted."
        )
    for sentence in filter(None, said):
        print_plain(console, sentence)
    return done, kept.cost_usd() if cfg.mephisto.blueprint.resume else 0.0


def _nothing_to_spend(task: CheckedTask, spent: float, console: Console) -> int:
    """Say that earlier runs have spent everything; return the exit code."""
    print_plain(
        console,
        f"The models of '{task.task_name}' have cost {dollars(spent)}, and {BLUEPRINT}.max_model_spend_usd is "
        f"{task.max_model_spend_usd:g}; raise it to collect the rest. Nothing was launched.",
    )
    return ExitCode.ENDED_BEFORE


def _nothing_left(task: CheckedTask, console: Console) -> int:
    """Say that everything is collected; return the exit code."""
    more = "conversations_needed_string" if task.images is None else "num_conversations"
    more = f"{BLUEPRINT}.{more}" if task.design is None else "conversations_per_cell of the design"
    more = more if task.logs is None else f"{BLUEPRINT}.annotators_per_conversation"
    print_plain(
        console,
        f"Everything is collected that '{task.task_name}' asks for; for more, raise {more}, or give another "
        "mephisto.task.task_name.",
    )
    return 0


def _wait_for_units(operator: TaskOperator, stop: StopRequest) -> None:
    """Wait until the first worker finds all units on offer, where offering them costs no calls to a crowd platform."""
    launcher = operator.live_run.task_launcher
    if offers_nothing_outside(operator.live_run.provider.PROVIDER_TYPE) and launcher.max_num_concurrent_units == 0:
        while any(unit.db_status == AssignmentState.CREATED for unit in launcher.units) and not stop.requested:
            time.sleep(0.02)


def prepare(
    cfg: DictConfig,
    task: CheckedTask,
    console: Console,
    data_folder: Path,
    done: Mapping[str, int],
    closing: ExitStack,
    stopped: Callable[[], bool],
    spent: float = 0.0,
) -> tuple[ModelChatSharedState, Quota]:
    """Load the models and put together what all conversations share.

    Args:
        closing: gets what ends the models; to be closed when no conversation is open any more.
        spent: US dollars that the models have cost in earlier runs.

    Raises:
        ConfigurationError: models or contexts that can't be loaded, or an image stack that can't be used.
        StoppedError: ``stopped`` became true while models were loaded.
    """
    args = cfg.mephisto.blueprint
    adopt_parlai_logger()
    has_contexts = task.images is None and task.logs is None
    contexts = _load_contexts(_with_any_context(cfg, task), console) if has_contexts else None
    flag = f"{BLUEPRINT}.{'conversations_needed_string' if task.images is None else 'image_models'}"
    pool = open_pool(args, task.sources, flag, lambda what: console.status(escape(what)), stopped)
    closing.callback(pool.shutdown)
    common: dict[str, Any] = {
        "models": pool,
        "num_turns": args.num_turns,
        "max_resp_time": args.max_resp_time,
        "time_extensions": args.time_extensions,
        "max_message_length": args.max_message_length,
        "annotations": task.annotations,
        "annotations_text": task.annotations_text,
        "final_rating_questions": task.final_rating_questions,
        "acceptability": task.acceptability,
        "attention": task.attention,
        "delivery": ReplyDelivery.of(args),
        "comparison": ComparisonSettings.of(args),
        "greeting": task.texts.sentences["defaults.greeting"],
        "record_authenticity": args.record_authenticity,
        "spend": ModelSpend(pool, task.max_model_spend_usd, spent),
    }
    if task.study_flow is not None:
        from model_chat.conversation.study_flow import FlowOptions

        common["study_flow"] = FlowOptions(task.study_flow, args.max_page_time, args.random_seed)
    options: ChatOptions
    if task.images is not None:
        from model_chat.launch.image_task_run import (  # images take a while to import
            make_image_options,
            reconcile_stack,
        )

        database = data_folder / "database.db"
        design = None if task.design is None else design_arguments(cfg, task, task.design, database)
        options = make_image_options(
            task.images, pool.models(), args.random_seed, console, common, design, task.extensions
        )
        reconcile_stack(options.quota, task.chat_data_folder, database, task.task_name)
    elif task.logs is not None:
        from model_chat.annotating.worlds import AnnotationOptions

        options = AnnotationOptions(
            **common, quota=make_annotation_quota(task.logs, args, task, data_folder / "database.db")
        )
    else:
        options = ChatOptions(
            **common,
            quota=make_quota(cfg, task, data_folder / "database.db", done),
            start_mode=args.conversation_start_mode,
            contexts=contexts,
            include_persona=args.include_persona,
        )
    quota = options.quota
    annotation = (
        None
        if task.annotations is None
        else task.annotations.for_page(task.texts.default("annotation_question", args.annotation_question))
    )
    shared = ModelChatSharedState(
        world_module=task.world_module,
        world_opt=options,
        page_config={
            "task_description": task.task_description,
            "left_pane_text": task.left_pane_text,
            "chat_title": cfg.mephisto.task.task_title,
            "annotation": annotation,
            "final_rating_questions": list(task.final_rating_questions),
            "num_turns": args.num_turns,
            "max_resp_time": args.max_resp_time,
            "max_onboard_time": args.max_onboard_time,
            "max_message_length": args.max_message_length,
            "use_onboarding": task.onboarding is not None,
            "block_mobile": args.block_mobile,
            "stream_replies": args.stream_replies,
            "image_chat": task.images is not None,
            "reply_format": args.reply_format,
            "reply_links": args.reply_links,
            "study_flow": task.study_flow is not None,
            "record_authenticity": args.record_authenticity,
            "language": task.texts.language,
            "judging": task.logs is not None,
        },
        chat_data_folder=task.chat_data_folder,
        is_live=task.is_live,
        units=quota.remaining(),
        spend=options.spend,
        texts=task.texts,
        # On MTurk each unit has been paid for; a panel has places, and sends others for those that are given back.
        most_units=quota.remaining() if task.is_live and not is_panel(cfg) else None,
    )
    if task.onboarding is not None and task.annotations is not None:
        shared.onboarding_world_opt = OnboardingOptions(task.onboarding, task.annotations, args.max_onboard_time)
        shared.onboarding_data = {
            "kind": "onboarding",
            "dialogs": task.onboarding.for_page(),
            "annotation": annotation,
        }
    return shared, quota


def _with_any_context(cfg: DictConfig, task: CheckedTask) -> Any:
    """The flags, with contexts if any conversation has one."""
    return variant(cfg, None if task.design is None else task.design.design, max).mephisto.blueprint


def _load_contexts(args: Any, console: Console) -> ContextSource | None:
    """Return where the conversations' contexts come from, None when they have none."""
    if not mode_needs_context(args):
        return None
    with console.status("Loading contexts…"):
        override_opt: Any = OmegaConf.to_container(args.override_opt, resolve=True)
        return load_context_source(
            f"{BLUEPRINT}.conversation_start_mode", args.conversation_start_mode, override_opt, args.context_seed
        )


def open_operator(cfg: DictConfig, task: CheckedTask, data_folder: Path) -> TaskOperator:
    """Open Mephisto's database and complete the configuration from it.

    Raises:
        ConfigurationError: there is no such requester.
    """
    from mephisto.utils.testing import get_mock_requester

    provider = cfg.mephisto.provider
    db, closing = open_database(
        cfg.mephisto.database._database_type, data_folder / "database.db", provider._provider_type
    )
    with open_dict(cfg):
        if provider._provider_type == "mock":
            provider.requester_name = get_mock_requester(db).requester_name
        elif is_panel(cfg):
            provider.requester_name = find_or_make_requester(db, provider._provider_type, provider.requester_name)
        else:
            name = OmegaConf.select(cfg, "mephisto.provider.requester_name", default=None)
            known = [
                requester.requester_name for requester in db.find_requesters(provider_type=provider._provider_type)
            ]
            if name not in known:
                raise ConfigurationError(
                    f"mephisto.provider.requester_name: there is no {provider._provider_type} requester '{name}' "
                    f"(registered: {', '.join(known) or 'none'}); register one with 'python "
                    f"scripts/mephisto_cli.py register {provider._provider_type}'."
                )
        cfg.mephisto.task.task_name = task.task_name
        if task.onboarding is None:
            cfg.mephisto.blueprint.onboarding_qualification = None
    return TaskOperator(db, closing)

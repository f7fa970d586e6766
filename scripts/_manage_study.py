"""The subcommands of manage_workers.py about a whole study: what it costs, and more places on Prolific."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from model_chat.crowd.adapters import reward_of
from model_chat.crowd.money import plain, to_minor
from model_chat.crowd.panel_launch import cost_sentences, pay_faults
from model_chat.crowd.panel_pay import PROLIFIC, PROVIDER, Finished, PanelPay, StudyCost, so_far
from model_chat.crowd.platform import PlatformError
from model_chat.crowd.prolific import open_client
from model_chat.crowd.prolific_api import ProlificClient
from model_chat.crowd.prolific_models import Study
from model_chat.crowd.workers import FINISHED, Task
from model_chat.errors import ConfigurationError
from model_chat.records.schema import Completion
from model_chat.scripts._manage_output import Output

STARTED_AGAIN = frozenset({"PAUSED"})
"""Statuses of a study that has to be started after it got more places."""
CLOSED = frozenset({"COMPLETED", "AWAITING REVIEW"})


def tell_cost(args: argparse.Namespace, out: Output) -> None:
    """Say what is left of a study costs, what its reward is an hour, and what was paid so far.

    Raises:
        ConfigurationError: there is no such study, or its flags are wrong.
    """
    from model_chat.launch.command_line import compose_config
    from model_chat.launch.study import find_study

    if args.conf is None:
        raise ConfigurationError("--conf: is not set; give the name of the study's file in conf/.")
    found = find_study(args.conf)
    cfg = compose_config("example", ["--conf", args.conf])
    provider = cfg.mephisto.provider._provider_type
    pay = PanelPay.of(provider, cfg.mephisto.provider)
    faults, reward = pay_faults(cfg), 0
    try:
        reward = to_minor(cfg.mephisto.task.task_reward, pay.currency)
    except ValueError as error:
        faults = faults or [f"mephisto.task.task_reward: {error}; write it like 1.50."]
    if args.places is not None and args.places < 0:
        faults.append(f"--places: {args.places} is less than none; give 0 or more.")
    ConfigurationError.raise_if(faults)
    places = (
        places_left(cfg, found.chat_data_folder, found.database, found.task_name)
        if args.places is None
        else args.places
    )
    for sentence in cost_sentences(pay, reward, places, args.api_token_env):
        out.say(sentence)
    if found.is_in_database():
        out.say(f"So far: {so_far(pay, finished(Task(found.database, found.task_name)))}.")


def places_left(cfg: Any, chat_data_folder: Path, database: Path, task_name: str) -> int:
    """Return how many conversations a study still needs.

    Args:
        database: Mephisto's; it may not be there.

    Raises:
        ConfigurationError: the configuration does not say how many it needs.
    """
    from model_chat.configuration.comparison import counted_as_named
    from model_chat.launch.annotation_checks import check_logs, is_annotation
    from model_chat.launch.checks import BLUEPRINT, is_image_chat
    from model_chat.launch.design_run import conversations_left
    from model_chat.records.collected import SavedConversations, find_saved
    from model_chat.records.extensions import NUM_CONVERSATIONS, Extensions
    from model_chat.serving.catalogue import parse_conversations_needed

    resumes = cfg.mephisto.blueprint.resume
    saved = find_saved(chat_data_folder, database, task_name) if resumes else SavedConversations()
    done = saved.complete()

    def extended(configured: dict[str, int]) -> dict[str, int]:
        return Extensions(chat_data_folder, task_name, configured, resumes).wanted()

    design_path = cfg.mephisto.blueprint.get("design_path")  # the annotation has none
    if design_path:
        return conversations_left(design_path, saved)
    if is_image_chat(cfg):
        wanted = extended({NUM_CONVERSATIONS: int(cfg.mephisto.blueprint.num_conversations)})
        return max(0, wanted[NUM_CONVERSATIONS] - sum(done.values()))
    if is_annotation(cfg):
        logs = check_logs(cfg.mephisto.blueprint)
        counts = Counter(kept.judged for kept in saved if kept.complete)
        return sum(max(0, logs.annotators - counts[logged.sha256]) for logged in logs.conversations)
    needed = extended(
        parse_conversations_needed(
            f"{BLUEPRINT}.conversations_needed_string", cfg.mephisto.blueprint.conversations_needed_string
        )
    )
    counted = counted_as_named(done, needed)
    return sum(max(0, number - counted.get(nickname, 0)) for nickname, number in needed.items())


def finished(task: Task) -> list[Finished]:
    """Return time and pay of each conversation that is finished and complete."""
    found = []
    for agent in task.agents(FINISHED):
        conversation = task.conversation(agent.db_id)
        if conversation is not None and conversation.status is Completion.COMPLETE:
            found.append(Finished(task.seconds(agent.db_id), reward_of(agent) + task.ledger.cents_paid(agent.db_id)))
    return found


def top_up(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Set how many places a study on Prolific has in all, and start it again where it is paused.

    Raises:
        ConfigurationError: it is not on Prolific, or the cost is not confirmed.
    """
    pay = PanelPay.of(task.provider_type, task.last_run.args.get("provider") or {})
    if task.provider_type != PROLIFIC:
        raise ConfigurationError(
            f"top-up: {pay.name} has no API for it; raise conversations_needed_string, start the run again, and add the "
            "places there yourself."
        )
    study_id = args.study or pay.study_id
    if study_id is None:
        raise ConfigurationError(
            f"--study: is not set, and neither is {PROVIDER}.study_id; give Prolific's id of the study."
        )
    client = open_client(pay, args.api_token_env)
    try:
        _top_up(client, client.study(study_id), pay, args, out)
    except PlatformError as error:
        out.failed(f"{error}.")


def _top_up(client: ProlificClient, study: Study, pay: PanelPay, args: argparse.Namespace, out: Output) -> None:
    currency, places = study.currency or pay.currency, args.places
    if places < study.total_available_places:
        raise ConfigurationError(
            f"--places: the study has {study.total_available_places} places, and can't have fewer; give the number of "
            "places in all, those taken included."
        )
    if study.status in CLOSED and places > study.total_available_places:
        out.say(f"! The study is {study.status} on Prolific, which may refuse more places.")
    more = places - study.total_available_places
    if more:
        cost = StudyCost(more, study.reward, PanelPay(PROLIFIC, pay.fee_percent, currency))
        out.say(f"From {study.total_available_places} places to {places}: {cost.sentence()}.")
        total = cost.rewards() + (cost.fee() or 0)
        if not out.dry_run:
            _confirm(args, total, currency)
            study = client.set_places(study.id, places)
            if study.total_available_places != places:
                raise PlatformError(f"Prolific says that study {study.id} has {study.total_available_places} places")
        out.done(f"study {study.id} has {places} places")
    else:
        out.say(f"study {study.id} has {places} places already")
    if study.status in STARTED_AGAIN:
        if not out.dry_run:
            client.start(study.id)
        out.done(f"study {study.id} started again")


def _confirm(args: argparse.Namespace, total: int, currency: str) -> None:
    try:
        confirmed = None if args.confirm is None else to_minor(args.confirm, currency)
    except ValueError as error:
        raise ConfigurationError(f"--confirm: {error}; write it like 1.50.") from None
    if confirmed != total:
        raise ConfigurationError(
            f"--confirm: nothing was changed; to add the places, repeat the command with --confirm {plain(total)}."
        )


def with_cost(parser: argparse.ArgumentParser) -> None:
    """Declare what ``cost`` takes."""
    parser.add_argument("--places", type=int, help="of the study (default: the conversations that are still missing)")


def with_top_up(parser: argparse.ArgumentParser) -> None:
    """Declare what ``top-up`` takes."""
    parser.add_argument("--places", type=int, required=True, help="in all, those taken included")
    parser.add_argument("--study", metavar="ID", help="Prolific's id (default: that of the task's last run)")
    parser.add_argument("--confirm", help="what the further places cost; without it the cost is only said")

"""What ``--help`` and ``-c job`` of the run scripts print: every flag with its meaning and the value it has now."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from typing_extensions import TypeIs

from model_chat.configuration.exit_codes import MEANINGS as MEANINGS_OF_CODES
from model_chat.records.participation import EndingKind

WIDTH = 110
INDENT = "  "
B, T = "mephisto.blueprint.", "mephisto.task."


def _below(prefix: str, names: str) -> tuple[str, ...]:
    """Return flags with one prefix, whose names are written one after the other."""
    return tuple(prefix + name for name in names.split())


GROUPS: dict[str, tuple[str, ...]] = {
    "Models and how many conversations": _below(
        B,
        "conversations_needed_string design_path num_conversations image_models logs_path "
        "annotators_per_conversation conversations_per_worker resume base_model_folder model_opt_path "
        "task_model_parallel max_concurrent_responses max_batch_size batch_wait_ms max_model_response_time "
        "stream_replies reply_first_seconds reply_chars_per_second comparison comparison_points comparison_ties "
        "comparison_continue comparison_allow_self comparison_reason comparison_boxes max_model_spend_usd random_seed",
    ),
    "Models on a Ray cluster": _below(
        B, "serving ray_address ray_replicas ray_cpus_per_replica ray_gpus_per_replica ray_start_time"
    ),
    "The conversation": _below(
        B,
        "num_turns conversation_start_mode include_persona context_seed override_opt max_resp_time time_extensions "
        "stop_grace_time max_message_length reply_format reply_links world_file",
    ),
    "The images": _below(B, "image_context_path evals_per_image_model_combo stack_folder stack_on_model_change"),
    "Annotation and rating": _below(
        B, "annotations_config_path annotation_question final_rating_question study_flow_path max_page_time"
    ),
    "Texts that workers see": (
        *_below(B, "language texts_path task_config_path task_description_file left_pane_text_path"),
        *_below(T, "task_title task_description task_tags"),
    ),
    "Who may take part, and the quality of what they do": (
        *_below(
            B,
            "onboarding_qualification onboard_task_data_path max_onboard_time allowed_worker_qualification "
            "block_qualification check_acceptability offensive_words_path attention_checks_path record_authenticity "
            "block_mobile",
        ),
        "mturk.worker_blocklist_paths",
        T + "maximum_units_per_worker",
    ),
    "Where data go": (B + "chat_data_folder", T + "task_name", "mephisto.datapath"),
    "Metrics of the running study": _below(B, "metrics_port metrics_host"),
    "The requester's dashboard": _below(
        B, "dashboard_port dashboard_host dashboard_password_env blind min_hourly_wage"
    ),
    "Participants of a panel": (
        *_below("mephisto.provider.", "participant_param study_param session_param completion_url"),
        *_below("mephisto.provider.codes.", " ".join([*EndingKind, "shared"])),
        *_below(
            "mephisto.provider.",
            "linger_seconds verify_links link_audience link_issuer link_keys_url link_token_param link_study "
            "fee_percent currency estimated_minutes api_token_env api_url study_id workspace_id blocked_group "
            "allowed_group",
        ),
    ),
    "Going live on MTurk (announced to close on 30 September 2026, see docs/mturk.md)": (
        "confirm_cost",
        "mephisto.provider.requester_name",
        T + "task_reward",
        *_below("mturk.", "min_percent_approved min_hits_approved allowed_countries"),
        T + "max_num_concurrent_units",
    ),
    "Where and how it runs": (
        *_below("mephisto.architect.", "port hostname bind_address public_url allowed_hosts trusted_proxies"),
        T + "submission_timeout",
        "mephisto.log_level",
        "monitoring_log_rate",
    ),
}
"""Heading -> flags in the order in which a requester needs them; flags not listed here come last."""
FURTHER = "Further flags"
OF_MEPHISTO = "Mephisto's; without effect here"
NO_EFFECT = f"{OF_MEPHISTO}, since the page is built beforehand."
MEANINGS = {
    "task_name": "Conversations are counted by this name: the same name continues, a new one starts afresh.",
    "task_title": "Title of the page, and of the work where the platform lists it.",
    "task_description": "What the platform says about the work in its list.",
    "task_tags": "Comma-separated words by which workers find the task.",
    "task_reward": "US dollars for a conversation.",
    "task_lifetime_in_seconds": "Seconds for which work can be accepted; on MTurk.",
    "assignment_duration_in_seconds": "Seconds from accepting to handing in, for onboarding, turns and replies; on MTurk.",
    "no_submission_patience": "The run ends when nobody has handed in anything for so many seconds.",
    "allowed_concurrent": "Most conversations of one worker at the same time; 0: no limit.",
    "maximum_units_per_worker": "Most conversations of one worker in all runs of this task_name; 0: no limit.",
    "max_num_concurrent_units": "Maximum of conversations offered or open at the same time; 0: no limit.",
    "submission_timeout": "Seconds that a worker has for handing in after the last rating.",
    "post_install_script": NO_EFFECT,
    "force_rebuild": NO_EFFECT,
    "tips_location": f"{OF_MEPHISTO}, since workers are shown no tips.",
    "requester_name": "Who pays, as registered with 'scripts/mephisto_cli.py register'; mock and panels need none.",
    "port": "Port of the worker's page on this machine; 0: any free one.",
    "hostname": "This machine's name in the links that are printed; the page listens on all of its addresses.",
    "server_type": "The kind of router; node is what model-chat is made for.",
    "server_source_path": "Folder of a router of your own, in place of the one that ships.",
    "instance_type": "EC2's kind of machine for the router.",
    "subdomain": "Where the page is, below your domain; new for each run at the same time.",
    "profile_name": "AWS profile that starts the server.",
    "use_hobby": "Take Heroku's cheapest paid machine.",
    "heroku_team": "Heroku's team that pays.",
    "heroku_app_name": "Name of the app at Heroku.",
    "heroku_config_args": "Environment variables of the app at Heroku.",
}
"""In place of what Mephisto says."""
EXAMPLES = (
    ("The shipped demo", "", "python {script}"),
    ("Another file under conf/", "", "python {script} conf=my_study"),
    ("A flag changed", "", "python {script} mephisto.blueprint.num_turns=4"),
    (
        "Two models of your own (the inner quotes are Hydra's, for : and ,)",
        B + "conversations_needed_string",
        "python {script} mephisto.blueprint.base_model_folder=~/models \\\n"
        "      'mephisto.blueprint.conversations_needed_string=\"blender/blender_90M:10,mine/chat:10\"'",
    ),
    (
        "Two models and images of your own",
        B + "image_context_path",
        "python {script} mephisto.blueprint.base_model_folder=~/models \\\n"
        "      'mephisto.blueprint.image_models=\"mine/a,mine/b\"' mephisto.blueprint.image_context_path=~/images.parquet",
    ),
    ("With onboarding", "", "python {script} mephisto.blueprint.onboarding_qualification=my_study_onboarding"),
    (
        "With participants of Prolific",
        B + "conversations_needed_string",
        "python {script} conf=prolific mephisto.provider.codes.complete=CODE",
    ),
    (
        "With your own people, by a link",
        B + "conversations_needed_string",
        "python {script} conf=link mephisto.provider.codes.complete=CODE",
    ),
)
"""Title, the flag that a command must have for the example to make sense ("": any), command."""


def help_text(cfg: DictConfig, script: str, about: str) -> str:
    """Return what ``--help`` prints."""
    values = dict(_flags(cfg))
    lines = [about, "", f"usage: python {script} [conf=NAME] [flag=value …] [options]", "", "Examples"]
    for title, flag, command in EXAMPLES:
        if not flag or flag in values:
            lines += [f"{INDENT}{title}:", f"{INDENT * 2}{command.format(script=script)}"]
    placed = {flag for flags in GROUPS.values() for flag in flags}
    further = tuple(flag for flag in values if flag not in placed)
    for heading, flags in {**GROUPS, FURTHER: further}.items():
        present = [flag for flag in flags if flag in values]
        if present:
            lines += ["", heading]
        for flag in present:
            value, meaning = values[flag]
            lines.append(f"{INDENT}{flag}={_shown(value)}")
            lines += textwrap.wrap(meaning, WIDTH, initial_indent=INDENT * 3, subsequent_indent=INDENT * 3)
    lines += [
        "",
        "Options",
        f"{INDENT}-h, --help           this text; the values are those of the flags you give beside it",
        f"{INDENT}-c job               print the whole configuration as YAML, with comments, and stop",
        f"{INDENT}--config-dir FOLDER  look for conf/NAME.yaml in this folder, too",
        f"{INDENT}--hydra-help         what else Hydra offers",
        "",
        "Exit codes",
        *exit_code_lines(),
        "",
        "A value written ??? is not set. What is wrong with flags and files is said before anything is launched.",
    ]
    return "\n".join(lines) + "\n"


def exit_code_lines() -> list[str]:
    """Return what a run's exit codes mean, a line or more each."""
    lines: list[str] = []
    for code, meaning in MEANINGS_OF_CODES.items():
        first = f"{INDENT}{code.value:<5}"
        lines += textwrap.wrap(meaning, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
    return lines


def config_text(cfg: DictConfig) -> str:
    """Return the whole configuration as YAML, each flag below a comment that says what it is."""
    return "\n".join(_yaml_lines(cfg, 0)) + "\n"


def _yaml_lines(node: DictConfig, depth: int) -> Iterator[str]:
    pad = INDENT * depth
    meanings = meanings_of(node)
    for key in map(str, node):
        if key in meanings:
            for line in textwrap.wrap(meanings[key], WIDTH - len(pad)):
                yield f"{pad}# {line}"
        child = node._get_node(key)
        if is_branch(child):
            yield f"{pad}{key}:"
            yield from _yaml_lines(child, depth + 1)
        else:
            for line in OmegaConf.to_yaml(OmegaConf.create({key: raw_value(child)})).splitlines():
                yield pad + line


def _flags(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, tuple[Any, str]]]:
    """Yield every flag with its value, references unresolved, and its meaning."""
    meanings = meanings_of(node)
    for key in map(str, node):
        child, name = node._get_node(key), f"{prefix}{key}"
        if is_branch(child):
            yield from _flags(child, f"{name}.")
        elif not key.startswith("_"):
            yield name, (raw_value(child), meanings.get(key, ""))


def meanings_of(node: DictConfig) -> dict[str, str]:
    """Return what each flag of a structured configuration is for, by its name."""
    kind = OmegaConf.get_type(node)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    said = {item.name: MEANINGS.get(item.name) or item.metadata.get("help") for item in fields}
    return {name: " ".join(str(text).split()) for name, text in said.items() if text}


def is_branch(node: Any) -> TypeIs[DictConfig]:
    """Whether a node has flags below it, and is none itself."""
    return isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() and len(node) > 0


def raw_value(node: Any) -> Any:
    """Return the value of a node with its references as they are written."""
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) and not node._is_none() else node._value()


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value == "" else str(value)

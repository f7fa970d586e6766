"""The task's definition for Mephisto: flags, shared state, page, and runners."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mephisto.abstractions.blueprint import Blueprint, BlueprintArgs, TaskBuilder
from mephisto.abstractions.blueprints.mixins.onboarding_required import OnboardingRequired
from mephisto.data_model.assignment import InitializationData
from mephisto.operations.registry import register_mephisto_abstraction
from omegaconf import DictConfig

from model_chat.configuration.flags import flag as _flag
from model_chat.configuration.places import set_up_command
from model_chat.configuration.text_files import load_texts
from model_chat.configuration.worker_texts import ENGLISH, ENGLISH_SENTENCES
from model_chat.errors import ConfigurationError
from model_chat.mephisto_task import panel_providers as panel_providers  # registers them
from model_chat.mephisto_task.agent_state import ModelChatAgentState, state_of
from model_chat.mephisto_task.image_task_runner import ModelImageChatTaskRunner
from model_chat.mephisto_task.shared_state import ModelChatSharedState as ModelChatSharedState
from model_chat.mephisto_task.task_runner import ModelChatTaskRunner
from model_chat.quality.acceptability import SHIPPED_WORDS
from model_chat.router.hosted_architects import TaskEC2Architect as TaskEC2Architect  # registers "ec2" and "heroku"
from model_chat.router.local_architect import (
    TaskLocalArchitect as TaskLocalArchitect,  # registers the architect "local"
)

if TYPE_CHECKING:
    from mephisto.data_model.agent import OnboardingAgent
    from mephisto.data_model.task_run import TaskRun
    from mephisto.data_model.worker import Worker

BLUEPRINT_TYPE = "model_chat_blueprint"
IMAGE_BLUEPRINT_TYPE = "model_image_chat_blueprint"
ANNOTATION_BLUEPRINT_TYPE = "model_annotation_blueprint"
FRONTEND_DIST = Path(__file__).resolve().parent / "frontend" / "dist"


@dataclass
class BaseModelChatBlueprintArgs(BlueprintArgs):
    """Flags under ``mephisto.blueprint`` that text chat and image chat share."""

    # Mephisto declares this one as a string without a value; it can't become optional in a subclass.
    block_qualification: str = _flag("???", "Qualification that keeps a worker out; granted on violations.")
    onboarding_qualification: str | None = _flag(
        None, "Qualification that remembers who passed onboarding; unset: no onboarding."
    )
    allowed_worker_qualification: str | None = _flag(None, "Only workers who have this qualification may take part.")
    world_file: str = _flag("${task_dir}/worlds.py", "Module with make_world and get_world_params.")
    chat_data_folder: str = _flag("???", "Folder for the finished conversations, one JSON file each.")
    resume: bool = _flag(
        True, "Count what the task's name has collected before, and ask for the rest; false: start afresh (text chat)."
    )
    num_turns: int = _flag(6, "Exchanges before the final rating.")
    max_resp_time: int = _flag(180, "Seconds a worker has for one turn.")
    time_extensions: int = _flag(
        1,
        "How many times a worker may ask for as much time again, in each turn; the page offers it 20 s before the end.",
    )
    stop_grace_time: int = _flag(
        600, "Seconds that conversations may continue after the first Ctrl-C or SIGTERM; the second ends them at once."
    )
    max_onboard_time: int = _flag(300, "Seconds a worker has for onboarding.")
    max_message_length: int = _flag(2000, "Longest message of a worker, in characters.")
    reply_format: str = _flag(
        "text",
        "How the page shows the replies of all models: text, or markdown (without HTML, and without images).",
    )
    reply_links: bool = _flag(False, "Whether workers can click the links of Markdown replies.")
    max_concurrent_responses: int = _flag(1, "How many models may generate at once.")
    max_batch_size: int = _flag(16, "Most conversations that a model answers at once, where it can; 1: one by one.")
    batch_wait_ms: int = _flag(
        0, "Milliseconds that a request waits for others to join it; 0: only those join that have come meanwhile."
    )
    max_model_response_time: int = _flag(120, "Seconds a worker waits for a reply before the model counts as failed.")
    stream_replies: bool = _flag(
        False, "Let a reply grow on the page while it is generated; models that can't stream come whole."
    )
    reply_first_seconds: float = _flag(
        0.0, "Seconds from a worker's message to the beginning of the reply, the same for all models; 0: as it comes."
    )
    reply_chars_per_second: float = _flag(
        0.0, "Characters a second by which a reply flows, the same for all models; 0: as it comes."
    )
    comparison: str | None = _flag(
        None,
        "per_turn: two models answer each message, and the worker picks a reply; paired: a chat with one model, one with "
        "the other, then final_rating_question about both (docs/comparisons.md); unset: one model.",
    )
    comparison_points: int = _flag(2, "Points of the scale between the two replies, or chats: 2, 3, 5 or 7.")
    comparison_ties: str = _flag("both", "Further answers: none, tie, both_bad or both.")
    comparison_continue: str = _flag("pick", "Reply that the chat goes on with: pick, or random; per_turn only.")
    comparison_allow_self: bool = _flag(False, "Let a model be compared with itself.")
    comparison_reason: bool = _flag(False, "Let workers say why, in their own words.")
    comparison_boxes: str = _flag(
        "continued",
        "Replies whose boxes are ticked: continued, the one that the chat goes on with, or both; per_turn only.",
    )
    max_model_spend_usd: float | None = _flag(
        None,
        "US dollars that the models of the task may cost, all its runs together; once reached, no new conversation begins. "
        "Needs the prices of each endpoint model; unset: no limit.",
    )
    task_model_parallel: bool = _flag(True, "ParlAI's --model-parallel for all models.")
    serving: str = _flag("local", "Where models run: local (in this process) or ray (on a Ray cluster; docs/ray.md).")
    ray_address: str | None = _flag(
        None,
        "Head of a Ray cluster, host:port, or auto: this machine's; unset: $RAY_ADDRESS, or Ray for this run alone.",
    )
    ray_replicas: int = _flag(1, "With ray: copies of each model.")
    ray_cpus_per_replica: float = _flag(1.0, "With ray: processors for each copy.")
    ray_gpus_per_replica: float | None = _flag(
        None, "With ray: GPUs for each copy, parts included; unset: one if the cluster has any."
    )
    ray_start_time: int = _flag(600, "With ray: seconds that all copies have to be loaded.")
    random_seed: int = _flag(42, "Seed of the choice among models that are needed equally.")
    check_acceptability: bool = _flag(False, "Check the worker's messages when a conversation is complete.")
    offensive_words_path: str = _flag(
        str(SHIPPED_WORDS),
        "Offensive words, one a line, for the acceptability check; 'parlai' downloads ParlAI's list.",
    )
    attention_checks_path: str = _flag("", "JSON file of attention checks; empty: none.")
    annotations_config_path: str = _flag("", "JSON file of the annotation buckets; empty: responses are not annotated.")
    annotation_question: str = _flag(
        ENGLISH_SENTENCES["defaults.annotation_question"],
        "Shown above the boxes of each response.",
    )
    final_rating_question: str = _flag(
        ENGLISH_SENTENCES["defaults.final_rating_question"],
        "Asked at the end, answered 1 to 5; several are separated by |.",
    )
    study_flow_path: str = _flag(
        "",
        "YAML file of the study flow: consent, questions and texts around the chat, and questions about replies; empty: "
        "none (docs/study-flow.md).",
    )
    record_authenticity: bool = _flag(
        False,
        "Count, with the worker's consent, how many characters of each message were pasted, how often they left the page, "
        "and how many keys they pressed: numbers only (docs/authenticity.md). Needs a page of consent in the study flow.",
    )
    max_page_time: int = _flag(600, "With a study flow: seconds a worker has for one page.")
    task_config_path: str = _flag("${task_dir}/task_config", "Folder of the files below.")
    task_description_file: str = _flag(
        "${mephisto.blueprint.task_config_path}/task_description.html", "HTML of the task's description."
    )
    left_pane_text_path: str = _flag(
        "${mephisto.blueprint.task_config_path}/left_pane_text.html", "HTML beside the chat."
    )
    onboard_task_data_path: str = _flag(
        "${mephisto.blueprint.task_config_path}/onboard_task_data.json", "JSON file of the onboarding dialogues."
    )
    language: str = _flag(
        "en", "Language of the page and of what the server tells workers, such as de; see docs/languages.md."
    )
    texts_path: str = _flag(
        "", "JSON file of texts of your own, over those of the language; empty: none (scripts/texts.py checks it)."
    )
    block_mobile: bool = _flag(False, "Ask workers on a phone to come back on a computer.")
    metrics_port: int | None = _flag(
        None, "Port of this machine for the run's metrics at /metrics, as Prometheus reads them; unset: none."
    )
    metrics_host: str = _flag(
        "127.0.0.1",
        "Address of this machine on which the metrics are served, to whoever asks; 0.0.0.0 stands for every network.",
    )
    dashboard_port: int | None = _flag(
        None, "Port of this machine for the requester's dashboard (docs/dashboard.md); 0: any free one; unset: none."
    )
    dashboard_host: str = _flag(
        "127.0.0.1",
        "Address of this machine on which the dashboard is served; any but 127.0.0.1 needs dashboard_password_env.",
    )
    dashboard_password_env: str | None = _flag(
        None,
        "Environment variable with the dashboard's password, or read:VARIABLE,review:VARIABLE,pay:VARIABLE for one a role.",
    )
    blind: bool = _flag(False, "Hide the names of models and conditions on the dashboard.")
    min_hourly_wage: float | None = _flag(
        None, "The dashboard warns when the work pays less an hour, in the reward's currency; unset: never."
    )


@dataclass
class ModelChatBlueprintArgs(BaseModelChatBlueprintArgs):
    """Flags of text chat."""

    _blueprint_type: str = BLUEPRINT_TYPE
    _group: str = field(
        default="ModelChatBlueprint", metadata={"help": "Workers chat with models and annotate their responses."}
    )
    conversations_needed_string: str | None = _flag(
        None, "Conversations to collect: nickname:count,nickname:count; pairs with comparison: a|b:count."
    )
    design_path: str = _flag("", "YAML file of the study's conditions (docs/study-design.md); empty: none.")
    base_model_folder: str | None = _flag("${task_dir}/models", "Folder of models, <nickname>/model.opt and so on.")
    model_opt_path: str | None = _flag(
        None, "YAML file, nickname to a string of ParlAI flags or an endpoint's settings; beside the base folder."
    )
    context_seed: int | None = _flag(None, "Seed of the contexts; unset: different in every run.")
    conversation_start_mode: str = _flag("hi", "hi, blended_skill_talk, or a ParlAI task with a ContextGenerator.")
    include_persona: bool = _flag(False, "Tell the model and the worker a persona.")
    override_opt: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "ParlAI options for the context generator."}
    )


@dataclass
class ModelImageChatBlueprintArgs(BaseModelChatBlueprintArgs):
    """Flags of image chat."""

    _blueprint_type: str = IMAGE_BLUEPRINT_TYPE
    _group: str = field(
        default="ModelImageChatBlueprint",
        metadata={"help": "Workers chat with models about images and annotate their responses."},
    )
    world_file: str = _flag("${task_dir}/worlds_image_chat.py", "Module with make_world and get_world_params.")
    task_description_file: str = _flag(
        "${mephisto.blueprint.task_config_path}/image_task_description.html", "HTML of the task's description."
    )
    left_pane_text_path: str = _flag(
        "${mephisto.blueprint.task_config_path}/image_left_pane_text.html", "HTML beside the chat."
    )
    num_conversations: int = _flag(10, "Conversations to collect in all, those that the stack has already included.")
    evals_per_image_model_combo: int = _flag(1, "Most conversations about each image with each model.")
    image_context_path: str = _flag(
        "${work_dir}/data/image_contexts.parquet", "The images: what scripts/save_image_contexts.py has saved."
    )
    stack_folder: str = _flag("???", "Folder that remembers who has talked about which image with which model.")
    design_path: str = _flag(
        "", "YAML file of the study's conditions (docs/study-design.md), instead of num_conversations; empty: none."
    )
    stack_on_model_change: str = _flag(
        "stretch", "When the stack was made for other models: stretch (a copy is kept) or stop."
    )
    model_opt_path: str | None = _flag(
        "${mephisto.blueprint.task_config_path}/image_model_opts.yaml",
        "YAML file, nickname to a string of ParlAI flags or an endpoint's settings.",
    )
    base_model_folder: str | None = _flag(
        None, "Folder of models, <nickname>/model.opt and so on; beside the YAML file, or instead of it."
    )
    image_models: str | None = _flag(
        None,
        "Comma-separated nicknames of the models to talk to; unset: all of the YAML file and the folder. "
        "With comparison: pairs, a|b,a|c.",
    )


@dataclass
class ModelAnnotationBlueprintArgs(BaseModelChatBlueprintArgs):
    """Flags of the annotation of finished conversations."""

    _blueprint_type: str = ANNOTATION_BLUEPRINT_TYPE
    _group: str = field(
        default="ModelAnnotationBlueprint",
        metadata={"help": "Workers annotate finished conversations, reply by reply."},
    )
    world_file: str = _flag("${task_dir}/annotating/worlds.py", "Module with make_world and get_world_params.")
    task_description_file: str = _flag(
        "${mephisto.blueprint.task_config_path}/annotation_task_description.html", "HTML of the task's description."
    )
    left_pane_text_path: str = _flag(
        "${mephisto.blueprint.task_config_path}/annotation_left_pane_text.html", "HTML beside the chat."
    )
    logs_path: str = _flag(
        "???",
        "Finished conversations to annotate: a file of JSON Lines (OpenAI messages, ShareGPT, ParlAI or own records), or a "
        "folder of own records (docs/agreement.md).",
    )
    annotators_per_conversation: int = _flag(3, "Different workers who annotate each finished conversation.")
    conversations_per_worker: int = _flag(0, "Most finished conversations that one worker annotates; 0: no limit.")


class ModelChatTaskBuilder(TaskBuilder):
    """Copies the built page beside the router's files, in the study's language; runs neither npm nor a bundler."""

    def build_in_dir(self, build_dir: str) -> None:
        """Copy ``frontend/dist`` into ``<build_dir>/static``.

        Raises:
            ConfigurationError: the page has not been built, or its texts can't be read any more.
        """
        if not (FRONTEND_DIST / "index.html").is_file():
            raise ConfigurationError(
                f"The worker's page is not built ({FRONTEND_DIST}); run '{set_up_command()}' once."
            )
        # Mephisto has put wrap_crowd_source.js and task_config.json into the same folder: they stay.
        static = Path(build_dir) / "static"
        # The requester's dashboard is built with it, and is served elsewhere.
        shutil.copytree(FRONTEND_DIST, static, dirs_exist_ok=True, ignore=shutil.ignore_patterns("dashboard*"))
        flags = self.args.blueprint
        texts = load_texts(flags.get("language", ENGLISH), flags.get("texts_path", ""))
        index = static / "index.html"
        index.write_text(texts.put_into(index.read_text(encoding="utf-8")), encoding="utf-8")


@register_mephisto_abstraction()
class ModelChatBlueprint(OnboardingRequired, Blueprint):
    """The task: a worker chats with a model."""

    AgentStateClass: ClassVar[Any] = ModelChatAgentState
    OnboardingAgentStateClass: ClassVar[Any] = ModelChatAgentState
    TaskBuilderClass: ClassVar[Any] = ModelChatTaskBuilder
    TaskRunnerClass: ClassVar[Any] = ModelChatTaskRunner
    ArgsClass: ClassVar[Any] = ModelChatBlueprintArgs
    SharedStateClass: ClassVar[Any] = ModelChatSharedState
    BLUEPRINT_TYPE = BLUEPRINT_TYPE

    def __init__(self, task_run: TaskRun, args: DictConfig, shared_state: ModelChatSharedState) -> None:
        super().__init__(task_run, args, shared_state)
        self.shared_state: ModelChatSharedState = shared_state

    def get_frontend_args(self) -> dict[str, Any]:
        """Return what every worker's page is told (section 1 of docs/protocol.md): nothing about answers or models."""
        return {**super().get_frontend_args(), **self.shared_state.page_config}

    def get_initialization_data(self) -> Iterable[InitializationData]:
        """Return one empty initialisation for each conversation still needed: which model it is with is decided later."""
        return [InitializationData(shared={}, unit_data=[{}]) for _ in range(self.shared_state.units)]

    def get_onboarding_data(self, worker_id: str) -> dict[str, Any]:
        """Return what the page shows for onboarding: the dialogues without their answers, and what was said so far."""
        live_run = self.shared_state.live_run
        agents = [] if live_run is None else list(live_run.worker_pool.onboarding_agents.values())
        said: list[Any] = next(
            (state_of(agent).messages for agent in reversed(agents) if agent.worker_id == worker_id), []
        )
        return {"task_data": self.shared_state.onboarding_data, "past_live_updates": list(said)}

    def validate_onboarding(self, worker: Worker, onboarding_agent: OnboardingAgent) -> bool:
        """Return whether the worker passed, as the onboarding world recorded it."""
        data = onboarding_agent.state.get_data()
        return self.shared_state.require_world_module().validate_onboarding(data)


@register_mephisto_abstraction()
class ModelImageChatBlueprint(ModelChatBlueprint):
    """The task: a worker chats with a model about an image."""

    TaskRunnerClass: ClassVar[Any] = ModelImageChatTaskRunner
    ArgsClass: ClassVar[Any] = ModelImageChatBlueprintArgs
    BLUEPRINT_TYPE = IMAGE_BLUEPRINT_TYPE


@register_mephisto_abstraction()
class ModelAnnotationBlueprint(ModelChatBlueprint):
    """The task: a worker annotates a finished conversation."""

    ArgsClass: ClassVar[Any] = ModelAnnotationBlueprintArgs
    BLUEPRINT_TYPE = ANNOTATION_BLUEPRINT_TYPE

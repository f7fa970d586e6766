"""A task whose configuration has passed all checks: what the checks hand to the launch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.configuration.worker_texts import Texts
from model_chat.quality.acceptability import AcceptabilityChecker
from model_chat.quality.attention import AttentionConfig
from model_chat.records.extensions import Extensions
from model_chat.serving.catalogue import ModelSource

if TYPE_CHECKING:
    from model_chat.configuration.study_flow import StudyFlow
    from model_chat.conversation.world import WorldModule
    from model_chat.images.contexts import ImageContexts
    from model_chat.launch.annotation_checks import CheckedLogs
    from model_chat.launch.design_checks import CheckedDesign


@dataclass(frozen=True)
class CheckedImages:
    """What image chat has beside what text chat has.

    Attributes:
        combos: what an image is talked about with: nicknames of models, or pairs of them.
        evals_per_image_model_combo: most conversations about each image with each model.
    """

    contexts: ImageContexts
    combos: tuple[str, ...]
    num_conversations: int
    evals_per_image_model_combo: int
    stack_folder: Path
    on_model_change: Literal["stretch", "stop"]


@dataclass(frozen=True)
class CheckedTask:
    """A task whose configuration holds together.

    Attributes:
        needed: nickname, or pair -> conversations; in image chat, the most that the images have room for.
        sources: nickname -> where the model comes from.
        annotations, annotations_text: None when responses are not annotated.
        onboarding: None without onboarding.
        final_rating_questions: at least one.
        task_description, left_pane_text: HTML.
        world_module: has ``make_world`` and ``get_world_params``.
        chat_data_folder: exists and can be written to.
        task_name: with the suffix that keeps local, sandbox and live data apart.
        is_live: whether real crowd work is paid for.
        acceptability: None when what workers write is not checked.
        attention: None without attention checks.
        block_list: ids of workers to be soft-blocked.
        images: None in text chat.
        max_model_spend_usd: US dollars that the models may cost; None: no limit.
        study_flow: the pages around the chat; None without.
        design: the study's conditions; None without.
        logs: the finished conversations to be annotated; None where workers chat.
        extensions: what was asked for on the dashboard, in ``needed`` or ``images`` already; None where a study
            can't be extended.
    """

    needed: dict[str, int]
    sources: dict[str, ModelSource]
    annotations: AnnotationsConfig | None
    annotations_text: str | None
    onboarding: OnboardingConfig | None
    final_rating_questions: tuple[str, ...]
    task_description: str
    left_pane_text: str
    world_module: WorldModule
    chat_data_folder: Path
    task_name: str
    is_live: bool
    acceptability: AcceptabilityChecker | None = None
    attention: AttentionConfig | None = None
    block_list: tuple[str, ...] = ()
    images: CheckedImages | None = None
    max_model_spend_usd: float | None = None
    study_flow: StudyFlow | None = None
    texts: Texts = field(default_factory=Texts)
    design: CheckedDesign | None = None
    logs: CheckedLogs | None = None
    extensions: Extensions | None = None

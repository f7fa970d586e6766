"""What all conversations of a run share, and the states that one goes through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.comparison import ComparisonSettings
from model_chat.configuration.worker_texts import ENGLISH_SENTENCES
from model_chat.conversation.contexts import HI, ContextSource
from model_chat.conversation.pacing import AS_IT_COMES, ReplyDelivery
from model_chat.conversation.quota import Quota
from model_chat.quality.acceptability import AcceptabilityChecker
from model_chat.quality.attention import AttentionConfig
from model_chat.serving.pool import ModelPool
from model_chat.serving.spend import ModelSpend

if TYPE_CHECKING:
    from model_chat.conversation.study_flow import FlowOptions

GREETING = ENGLISH_SENTENCES["defaults.greeting"]
"""What the worker is shown to have said in the start mode ``hi``."""


class State(StrEnum):
    """Where a conversation is. It goes START → HUMAN_TURN ⇄ MODEL_TURN → FINAL_RATING → ENDED, or to ENDED at any time.

    With an attention check, ATTENTION_CHECK comes between HUMAN_TURN and MODEL_TURN; where replies are compared, COMPARISON
    comes after MODEL_TURN. Where whole chats are compared, each ends in END_OF_CHAT, and COMPARISON takes the place of
    FINAL_RATING. With a study flow, PAGES_BEFORE comes after START, and PAGES_AFTER before ENDED.
    """

    START = "start"
    PAGES_BEFORE = "pages before the chat"
    HUMAN_TURN = "human turn"
    ATTENTION_CHECK = "attention check"
    MODEL_TURN = "model turn"
    END_OF_CHAT = "end of a chat"
    COMPARISON = "comparison"
    FINAL_RATING = "final rating"
    PAGES_AFTER = "pages after the chat"
    ENDED = "ended"


@dataclass(frozen=True)
class ChatOptions:
    """What all conversations of a run share. Made once, at launch.

    Attributes:
        num_turns: exchanges before the final rating.
        max_resp_time: seconds a worker has for a turn.
        time_extensions: how many times a worker may ask for as many seconds again, in each turn.
        max_message_length: characters.
        annotations: the buckets, or None when responses are not annotated.
        annotations_text: the text of the annotation configuration file, saved with each conversation.
        final_rating_questions: at least one.
        start_mode: ``hi`` or the name of a task.
        contexts: where contexts come from, or None when conversations have none.
        include_persona: whether model and worker are told a persona.
        acceptability: checks what the worker wrote, or None.
        attention: the attention checks, or None.
        spend: what the models may cost, or None.
        study_flow: the pages before and after the chat, and the questions about replies, or None.
        comparison: how two models are compared, or None where there is one.
        record_authenticity: whether the page's counts of how messages were written are kept.
    """

    models: ModelPool
    quota: Quota
    num_turns: int
    max_resp_time: int
    max_message_length: int
    annotations: AnnotationsConfig | None
    annotations_text: str | None
    final_rating_questions: tuple[str, ...]
    start_mode: str = HI
    contexts: ContextSource | None = None
    include_persona: bool = False
    acceptability: AcceptabilityChecker | None = None
    attention: AttentionConfig | None = None
    time_extensions: int = 0
    spend: ModelSpend | None = None
    delivery: ReplyDelivery = AS_IT_COMES
    study_flow: FlowOptions | None = None
    comparison: ComparisonSettings | None = None
    greeting: str = GREETING
    record_authenticity: bool = False

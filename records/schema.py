"""The schema of one saved conversation (section 2 of the behaviour specification).

One dictionary is saved twice: as a JSON file and in Mephisto's database. :class:`Conversation` is that dictionary as a
type: writing goes through :meth:`Conversation.to_dict`, so that every key is always there, and reading new files through
:meth:`Conversation.from_dict`, so that a typo is found where it is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_chat.records.authenticity import MessageSignals
from model_chat.records.participation import Participation

HUMAN_IDX = 0
"""`agent_idx` of the worker's utterances."""
MODEL_IDX = 1
"""`agent_idx` of the model's utterances."""
HUMAN_ID = "Speaker 1"
MODEL_ID = "Speaker 2"
NONE_ALL_GOOD = "none_all_good"
"""The annotation bucket that says that nothing is wrong; it excludes all others."""
FORGOTTEN_SHA256 = hashlib.sha256(b"").hexdigest()
"""``judged_conversation.sha256`` of an annotation whose conversation was deleted: what the annotator's pay depends on is
left (:mod:`model_chat.records.forget_annotations`)."""
LONGEST_NAME = 100
"""Characters of the names in :class:`Simulated`; the router passes on ids of up to 256."""
RATING_SEPARATOR = "|"
"""Joins the answers to several final rating questions, in the questions' order."""


class Completion(StrEnum):
    """Whether a conversation went all the way to its final rating."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Timing(_Strict):
    """When a human turn happened, by the page's clock (epoch seconds); None where the page could not tell."""

    shown: float | None = None
    first_key: float | None = None
    sent: float | None = None


class Generation(BaseModel):
    """How a model's reply was made, as far as it is known."""

    served_model: str | None = None
    """The name that the endpoint gave."""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds_to_first_token: float | None = None
    seconds: float | None = None
    """From the request for the reply until it was whole, waiting and retries included."""
    retries: int | None = None
    cost_usd: float | None = None
    reasoning: str | None = None
    """What the model wrote for itself, where `keep_reasoning` is set; never shown."""
    paced: bool | None = None
    """Whether the reply kept the pace of the study; None where none was set."""

    def saved(self) -> dict[str, Any]:
        """What is known of the reply, JSON types only, without what is not."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def of(cls, given: object) -> Generation:
        """Take what an agent, or a journal, says of a reply; what is of the wrong type is left out."""
        known = {name: given[name] for name in cls.model_fields if name in given} if isinstance(given, Mapping) else {}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            wrong = {fault["loc"][0] for fault in error.errors()}
            return cls.model_validate({name: value for name, value in known.items() if name not in wrong})


class Utterance(_Strict):
    """One utterance of a dialogue. Optional keys are left out of the saved dictionary when they have no value."""

    agent_idx: int = Field(ge=HUMAN_IDX, le=MODEL_IDX)
    text: str
    id: str
    timestamp: float | None = None
    """When the server took the utterance, epoch seconds."""
    fake_start: bool | None = None
    episode_done: bool | None = None
    message_id: str | None = None
    """The page's own id of a worker's message; the same message never becomes two utterances. Where finished conversations
    are annotated, that of the annotation of a reply."""
    problem_data: dict[str, bool] | None = None
    """Annotation of a model utterance: bucket -> ticked."""
    final_rating: str | None = None
    """On the last model utterance: answers, joined by `|`."""
    timing: Timing | None = None
    generation: Generation | None = None
    """Of model utterances."""
    model_nickname: str | None = None
    """Of model utterances, where two models are compared."""
    chat_idx: Literal[0, 1] | None = None
    """Which of two chats it belongs to, where whole chats are compared."""

    def to_dict(self) -> dict[str, Any]:
        """The utterance as saved: `agent_idx`, `text` and `id` always, the rest only where there is a value."""
        return self.model_dump(mode="json", exclude_none=True)


class AttentionResult(_Strict):
    """One attention check and how the worker answered it; neither is part of `dialog`."""

    turn: int
    """The exchange after whose message of the worker it came, 1-based."""
    text: str
    answer: str
    ticked: list[str] | None = None
    """The boxes that were ticked, or None where there were none to tick."""
    passed: bool


class Pick(StrEnum):
    """How a judgement of two replies ended."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class ComparedReply(_Strict):
    """One side of a comparison."""

    model_nickname: str
    text: str | None = None
    """None where whole conversations were compared."""
    generation: Generation | None = None
    problem_data: dict[str, bool] | None = None
    """Bucket -> ticked, where boxes were ticked for both replies; left out of what is saved where they were not."""
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Comparison(_Strict):
    """One judgement of two replies, or of two conversations."""

    turn_idx: int | None = None
    """The exchange, 0-based; None where whole conversations were compared."""
    question: str | None = None
    """What was asked about two conversations; None for replies."""
    left: ComparedReply
    right: ComparedReply
    pick: Pick
    strength: int | None = None
    """How much better, from 1 up; None where the scale has two points, and for `tie` and `both_bad`."""
    reason: str | None = None
    """In the worker's words, where they were asked."""
    continued_with: Literal["left", "right"] | None = None
    """The reply that the conversation went on with; None where whole conversations were compared."""
    timestamp: float | None = None
    """When the server took the judgement, epoch seconds."""


class Answer(_Strict):
    """One answer to an item of the study flow (docs/study-flow.md)."""

    page: str
    """Id of the page; that of the chat for items of a reply."""
    item: str
    """Id of the item; `consent` on a page of consent."""
    value: Any
    """JSON; which type it has depends on the item's kind."""
    utterance_idx: int | None = None
    """Which utterance of `dialog` it is about; None but for items of a reply."""
    timestamp: float | None = None
    """When the server took it, epoch seconds."""


class TaskDescription(_Strict):
    """What was asked about which model."""

    annotations_config: str | None = None
    """The text of the annotation configuration file, or None when responses were not annotated."""
    model_nickname: str
    """`a|b` where two models are compared."""
    model_file: str | None = None
    """None where two models are compared."""
    model_opt: dict[str, Any] = Field(default_factory=dict)
    """The model's whole opt, JSON-safe, without secrets; where two models are compared, both by nickname."""
    final_rating_question: str | None = None
    """The final rating question(s), joined by `|`; None in older files."""
    study_flow: str | None = None
    """The text of the study flow's file, or None without one."""


class JudgedConversation(_Strict):
    """The finished conversation that a record is an annotation of."""

    id: str
    """Its own in the file of finished conversations, or its place there."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the model's name, the context and the dialogue: what it is counted by."""


class Simulated(_Strict):
    """The model that played the worker, as scripts/simulate_workers.py says; such a conversation is for dry runs."""

    model: str = Field(min_length=1, max_length=LONGEST_NAME)
    """Nickname of its settings."""
    persona: str | None = Field(default=None, max_length=LONGEST_NAME)
    """Id of the persona; None without one."""

    @classmethod
    def of(cls, given: object) -> Simulated | None:
        """Read the JSON text of a request for work; None for what can't be read."""
        try:
            return cls.model_validate_json(given) if isinstance(given, str) else None
        except ValidationError:
            return None


class Conversation(_Strict):
    """One saved conversation. Every key is always saved; a key without a value is null."""

    dialog: list[Utterance]
    workers: list[str]
    bad_workers: list[str] = Field(default_factory=list)
    acceptability_violations: list[str | None] = Field(default=[None])
    hit_ids: list[str | None]
    assignment_ids: list[str | None]
    task_description: TaskDescription
    personas: list[list[str]] | None = None
    """`[the human's persona lines, the model's persona lines]`."""
    context_dataset: str | None = None
    person1_seed_utterance: str | None = None
    person2_seed_utterance: str | None = None
    additional_context: str | None = None
    image_idx: int | None = None
    attention_checks: list[AttentionResult] | None = None
    """In the order in which they came; None when the task has none."""
    authenticity: list[MessageSignals] | None = None
    """Of the worker's messages, in their order, those for which the page sent counts; None when they are not recorded."""
    answers: list[Answer] | None = None
    """Answers to the items of the study flow, in the order in which they came; None without a flow."""
    study_orders: dict[str, Any] | None = None
    """What was shuffled for the worker: page -> `items` (list -> ids) and `options` (item -> texts), in the order shown."""
    status: Completion = Completion.COMPLETE
    reason: str | None = None
    """Why an incomplete conversation ended."""
    failed_generation: Generation | None = None
    """What is known of the reply that the model could not give, its cost among it; the cost alone of two replies that were
    to be compared when the conversation ended."""
    comparisons: list[Comparison] | None = None
    """In the order in which they were made; None when the task has none."""
    conditions: dict[str, str] | None = None
    """Factor of the study's design -> level of this conversation; None without a design."""
    judged_conversation: JudgedConversation | None = None
    """Where a finished conversation was annotated: which one. The dialogue is then the finished one, its human utterances
    marked `fake_start`, and the worker is the annotator; None where the worker talked with the model."""
    simulated: Simulated | None = None
    """Which model played the worker; None for people, and for simulated workers that say what chance gives them."""
    task_name: str | None = None
    """Mephisto's name of the task that the conversation counts for, with its suffix; None in older files."""
    participation: Participation | None = None
    """Where the participant came from and what they were told at the end; None in older files."""

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that is saved, JSON types only.

        Returns:
            dict with every key of this class; the utterances as :meth:`Utterance.to_dict` gives them.
        """
        data = self.model_dump(mode="json", exclude={"dialog"})
        if self.failed_generation is not None:
            data["failed_generation"] = self.failed_generation.saved()
        for saved, comparison in zip(data["comparisons"] or (), self.comparisons or (), strict=True):
            for side, reply in (("left", comparison.left), ("right", comparison.right)):
                saved[side]["generation"] = None if reply.generation is None else reply.generation.saved()
                if reply.problem_data is None:
                    del saved[side]["problem_data"]
        return {"dialog": [utterance.to_dict() for utterance in self.dialog], **data}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Conversation:
        """Read a dictionary that :meth:`to_dict` made.

        Raises:
            pydantic.ValidationError: a key is missing, unknown or of the wrong type.
        """
        return cls.model_validate(data)

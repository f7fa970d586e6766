"""Conversations saved under a task's name, in either record; what is in both is one conversation."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from model_chat.records.mephisto_database import list_agents
from model_chat.records.reading import (
    ReadConversation,
    ReadingReason,
    Source,
    UnreadableError,
    list_files,
    read_conversation,
)
from model_chat.records.schema import Completion

logger = logging.getLogger(__name__)

REJECTED_STATUSES = frozenset({"rejected", "soft_rejected"})
"""What a requester has rejected is collected once more."""


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """One saved conversation.

    Attributes:
        message_ids: the page's ids of what the worker said.
        path: of the file, or None where only the database has it.
        cost_usd: what the model's replies have cost, as far as it is known; US dollars.
        conditions: factor -> level; None without a design.
        answers: item -> answer as text, of a design's conversation; those about replies are not among them.
        judged: sha256 of the finished conversation that was annotated; None where the worker talked with the model.
    """

    nickname: str
    worker_id: str
    assignment_id: str | None
    image_idx: int | None
    complete: bool
    message_ids: frozenset[str]
    path: Path | None
    cost_usd: float = 0.0
    conditions: Mapping[str, str] | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    judged: str | None = None


@dataclass
class SavedConversations:
    """All that is saved under one task's name.

    Attributes:
        by_key: digest -> conversation; a conversation that is in both records has one digest.
        unnamed: number of files in the folder that name no task (written by older versions) and are in no record of this
            task in the database; they are not counted.
    """

    by_key: dict[str, SavedConversation] = field(default_factory=dict)
    unnamed: int = 0

    def __iter__(self) -> Iterator[SavedConversation]:
        return iter(self.by_key.values())

    def complete(self) -> Counter[str]:
        """Return the number of complete conversations with each model."""
        return Counter(kept.nickname for kept in self if kept.complete)

    def cost_usd(self) -> float:
        """Return what the models' replies have cost, those of incomplete conversations included; US dollars."""
        return sum(kept.cost_usd for kept in self)

    def find_file(
        self, assignment_id: str | None, message_ids: frozenset[str], judged: tuple[str, str] | None = None
    ) -> Path | None:
        """Return the file of the conversation in which an assignment's worker sent any of these messages, or None.

        Args:
            judged: sha256 of the finished conversation that was annotated, and the annotator, who has it only once: both
                find the file, too.
        """
        return next(
            (
                kept.path
                for kept in self
                if kept.path is not None
                and kept.assignment_id == assignment_id
                and (kept.message_ids & message_ids or (judged is not None and (kept.judged, kept.worker_id) == judged))
            ),
            None,
        )


def find_saved(chat_data_folder: Path, database: Path | None, task_name: str) -> SavedConversations:
    """Find what is saved under a task's name, in its folder of conversations and in Mephisto's database.

    Files are a task's if they name it. In the database all agents of the task count but those whose work was rejected,
    whose files don't count either. What can't be read is left out; the analysis names it.

    Args:
        chat_data_folder: need not exist.
        database: Mephisto's database file; None, or a file that isn't there, for none.

    Raises:
        ConfigurationError: the database is no Mephisto database, or stays locked.
    """
    kept, rejected, unnamed = SavedConversations(), set[str](), set[str]()
    if chat_data_folder.is_dir():
        for source in list_files([chat_data_folder]).sources:
            found = _read(source)
            if found is None:
                continue
            key, conversation = found
            named = conversation.raw.get("task_name")
            if named == task_name:
                kept.by_key[key] = _kept(conversation, Path(source.path))
            elif named is None:
                unnamed.add(key)
    if database is not None and database.is_file():
        for source in list_agents(database, task_name, flag="mephisto.datapath", unknown_task_ok=True):
            found = _read(source)
            if found is None:
                continue
            key, conversation = found
            unnamed.discard(key)
            if source.status in REJECTED_STATUSES:
                rejected.add(key)
            elif key not in kept.by_key:
                kept.by_key[key] = _kept(conversation, None)
    for key in rejected:
        kept.by_key.pop(key, None)
    kept.unnamed = len(unnamed)
    return kept


def _read(source: Source) -> tuple[str, ReadConversation] | None:
    """A conversation and its digest; None, with a warning that names the source, for what can't be read."""
    try:
        conversation = read_conversation(source)
        return conversation_digest(conversation.raw), conversation
    except UnreadableError as fault:
        # Agents who left early have no conversation: that is no fault.
        level = logging.DEBUG if fault.reason is ReadingReason.NO_CONVERSATION else logging.WARNING
        logger.log(level, "%s is not counted: %s", source.name, fault.detail)
    except RecursionError:
        logger.warning("%s is not counted: it is nested too deeply", source.name)
    return None


def conversation_digest(raw: dict[str, Any]) -> str:
    """The same for both records of one conversation, whoever the worker is said to be (see :mod:`records.forget`).

    Raises:
        RecursionError: it is nested too deeply.
    """
    identity = [raw.get("dialog"), raw.get("assignment_ids")]
    try:
        data = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # a whole number of more than 64 bits, or hundreds of levels
        data = json.dumps(identity, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def message_ids_of(dialog: Any) -> frozenset[str]:
    """Return the page's ids of the messages in a saved dialogue."""
    utterances = dialog if isinstance(dialog, list) else []
    ids = (utterance.get("message_id") for utterance in utterances if isinstance(utterance, dict))
    return frozenset(message_id for message_id in ids if isinstance(message_id, str))


def _kept(conversation: ReadConversation, path: Path | None) -> SavedConversation:
    return SavedConversation(
        nickname=conversation.model_nickname,
        worker_id=conversation.worker_id,
        assignment_id=conversation.assignment_id,
        image_idx=conversation.image_idx,
        complete=conversation.status is Completion.COMPLETE,
        message_ids=message_ids_of(conversation.raw.get("dialog")),
        path=path,
        cost_usd=conversation.cost_usd(),
        conditions=conversation.conditions,
        answers={} if conversation.conditions is None else _answers_of(conversation.raw.get("answers")),
        judged=None if conversation.judged_conversation is None else conversation.judged_conversation.sha256,
    )


def _answers_of(answers: Any) -> dict[str, str]:
    """Return item -> answer as text, of the answers that are about no reply."""
    return {
        answer["item"]: str(answer.get("value"))
        for answer in (answers if isinstance(answers, list) else [])
        if isinstance(answer, dict) and isinstance(answer.get("item"), str) and answer.get("utterance_idx") is None
    }

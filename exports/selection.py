"""Which conversations are exported: read one at a time, with the rules of the analysis, and consent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from model_chat.analysis.collect import sort_out
from model_chat.analysis.exclusions import ExclusionReason
from model_chat.analysis.measures import measure
from model_chat.analysis.parts import parts_of
from model_chat.analysis.rows import RowBuilder
from model_chat.exports.settings import ExportSettings
from model_chat.records.mephisto_database import find_database, list_agents
from model_chat.records.reading import (
    FileListing,
    ReadConversation,
    ReadUtterance,
    Source,
    UnreadableError,
    list_files,
    read_conversation,
)

CONSENT_ITEM, ACCEPTED = "consent", "accept"
"""How a record's `answers` hold that a page of consent was accepted."""
NO_CONSENT = "no_consent"
"""The reason of conversations left out by `--only-consented`."""
ANNOTATION = "annotation"
"""The reason of annotations of finished conversations, which would export those again and again."""
_MOST_DAMAGED = 20


class Consent(StrEnum):
    """What a record holds of the worker's consent."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    NOT_RECORDED = "not_recorded"


@dataclass(frozen=True, slots=True)
class Selected:
    """A conversation that is exported.

    Attributes:
        digest: of its content; tells it from every other.
        chat_idx: 0 or 1 where it is one of two chats that were compared (:func:`chats_of`).
    """

    conversation: ReadConversation
    source: Source
    digest: bytes
    consent: Consent
    chat_idx: int | None = None


def chats_of(selected: Selected) -> list[Selected]:
    """Return a conversation in which two whole chats were compared as two, since neither model knew of the other's chat.

    Any other one is returned as it is. The judgements of both are in each.
    """
    conversation = selected.conversation
    parts, of_utterance = parts_of(conversation)
    if not parts or not parts[0].is_chat:
        return [selected]
    chats = []
    for number, part in enumerate(parts):
        own = [line for line, of in zip(conversation.dialog, of_utterance, strict=True) if of == number]
        chat = conversation.model_copy(update={"dialog": own, "model_nickname": part.model_nickname})
        digest = _digest_of_chat(selected.digest, number)
        chats.append(replace(selected, conversation=chat, digest=digest, chat_idx=number))
    return chats


def _digest_of_chat(digest: bytes, number: int) -> bytes:
    return hashlib.blake2b(digest + bytes([number]), digest_size=len(digest)).digest()


def digests_of(conversation: ReadConversation) -> list[bytes]:
    """Every digest that an export may have made ids of: of the conversation, and of each chat that was compared in it."""
    measures = measure(conversation, (), frozenset(), {})
    chats = [number for number, part in enumerate(measures.parts) if part.is_chat]
    return [measures.digest, *(_digest_of_chat(measures.digest, number) for number in chats)]


class _NoHooks:
    """An export has no columns and rules of a lab's own."""

    extra_columns: Mapping[str, type] = {}

    def reject(self, conversation: ReadConversation) -> str | None:
        return None

    def row_columns(
        self, conversation: ReadConversation, utterance: ReadUtterance | None, turn_idx: int
    ) -> Mapping[str, Any]:
        return {}


class Selection:
    """The conversations of one export.

    Raises:
        ConfigurationError: a folder, database or task does not exist.
    """

    def __init__(self, settings: ExportSettings) -> None:
        self._settings = settings
        reading = settings.reading
        folders = reading.results_folders
        listing = list_files(folders, skip=[settings.output]) if folders else FileListing()
        agents: list[Source] = []
        if reading.task_name:
            agents = list_agents(find_database(reading.database_path), reading.task_name)
        self._sources = [*listing.sources, *agents]
        self._builder = RowBuilder(reading, _NoHooks())
        self.left_out: Counter[str] = Counter()
        """How many conversations were left out, by reason; complete when the iteration is."""
        self.damaged: list[str] = []
        """The first files that could not be read, with the reason."""

    def worker_ids(self) -> set[str]:
        """The ids of all workers that any source names, counted or not; reads every source once."""
        ids = {source.worker_id for source in self._sources if source.worker_id}
        for source in self._sources:
            try:
                conversation = read_conversation(source)
            except UnreadableError:
                continue
            ids.update([conversation.worker_id, *conversation.bad_workers])
            participation = conversation.raw.get("participation")
            participant = participation.get("participant") if isinstance(participation, dict) else None
            if isinstance(participant, str):
                ids.add(participant)
        return ids

    def __iter__(self) -> Iterator[Selected]:
        """Read the conversations in a fixed order: files by name, which begins with the time, then agents by number."""
        self.left_out.clear()
        self.damaged.clear()
        wanted, excluded, refused_contents = sort_out(self._sources, self._builder)
        self.left_out.update(exclusion.reason.value for exclusion in excluded)
        seen: set[bytes] = set()
        for source in wanted:
            selected, reason = self._selected(source, refused_contents, seen)
            if selected is not None:
                yield selected
            else:
                self.left_out[reason] += 1

    def _selected(
        self, source: Source, refused_contents: Mapping[bytes, str], seen: set[bytes]
    ) -> tuple[Selected | None, str]:
        try:
            conversation = read_conversation(source)
            measures = self._builder.measure(conversation, {})
        except UnreadableError as error:
            if len(self.damaged) < _MOST_DAMAGED:
                self.damaged.append(f"{source.name}: {error.detail}")
            return None, error.reason.value
        if conversation.judged_conversation is not None:  # the conversation itself is exported where it was held
            return None, ANNOTATION
        reason, _ = self._builder.early_rejection(conversation)
        if reason is None:
            reason, _ = self._builder.rejection(conversation, measures)
        if reason is None and measures.digest in refused_contents:
            reason = ExclusionReason.MEPHISTO_STATUS
        if reason is None and measures.digest in seen:
            reason = ExclusionReason.DUPLICATE
        if reason is not None:
            return None, reason.value
        seen.add(measures.digest)
        consent = consent_of(conversation, self._settings.consent_pages)
        if self._settings.only_consented and consent is not Consent.ACCEPTED:
            return None, NO_CONSENT
        return Selected(conversation, source, measures.digest, consent), ""


def consent_of(conversation: ReadConversation, pages: frozenset[str] = frozenset()) -> Consent:
    """What a record's `answers` hold of consent.

    It is accepted where every answer to a page of consent is, and there is one; the last answer of a page counts.

    Args:
        pages: the only pages that count, each of which has to be accepted; empty: all pages of consent.
    """
    answers = conversation.raw.get("answers")
    given: dict[str, bool] = {}
    for answer in answers if isinstance(answers, list) else []:
        if isinstance(answer, dict) and answer.get("item") == CONSENT_ITEM:
            given[str(answer.get("page"))] = answer.get("value") == ACCEPTED
    if pages:
        given = {page: accepted for page, accepted in given.items() if page in pages}
    if not all(given.values()):
        return Consent.DECLINED
    return Consent.ACCEPTED if given and given.keys() >= pages else Consent.NOT_RECORDED

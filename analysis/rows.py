"""From one conversation to rows; runs once per conversation, in any process or on any machine.

A :class:`RowBuilder` takes a chunk of sources and gives back a :class:`Chunk`: columns for the conversations that pass
every rule which looks at one conversation alone, and an :class:`Exclusion` for each that does not. Rules that need to
know the others (duplicates, the worker limit) are in :mod:`model_chat.analysis.collect`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from model_chat.analysis.chunks import CONTEXT_TURN, Chunk, ChunkBuilder
from model_chat.analysis.exclusions import Exclusion, ExclusionReason
from model_chat.analysis.generations import generations_of
from model_chat.analysis.measures import Measures, measure
from model_chat.analysis.settings import Settings
from model_chat.errors import ModelChatError
from model_chat.records.reading import ReadConversation, ReadUtterance, Source, UnreadableError, read_conversation
from model_chat.records.schema import Completion


class Hooks(Protocol):
    """What a subclass of the compiler adds (see :class:`model_chat.analysis.compiler.ModelChatResultsCompiler`)."""

    extra_columns: Mapping[str, type]

    def reject(self, conversation: ReadConversation) -> str | None:
        """Say why a conversation does not count, or None."""

    def row_columns(
        self, conversation: ReadConversation, utterance: ReadUtterance | None, turn_idx: int
    ) -> Mapping[str, Any]:
        """Give the values of :attr:`extra_columns` for one row."""


class RowBuilder:
    """Turns chunks of sources into columns; picklable as far as its hooks are."""

    def __init__(self, settings: Settings, hooks: Hooks) -> None:
        self.settings = settings
        self.hooks = hooks
        self._known = frozenset(settings.problem_buckets)

    def __call__(self, sources: Sequence[Source]) -> Chunk:
        """Read and convert ``sources``. One bad file never stops the others."""
        columns = ChunkBuilder(self.settings, self.hooks.extra_columns)
        for source in sources:
            try:
                conversation = read_conversation(source)
                measures = self.measure(conversation, columns.unknown_labels)
            except UnreadableError as error:
                columns.excluded.append(
                    Exclusion(source.name, ExclusionReason(error.reason.value), error.detail, source.worker_id)
                )
                continue
            except Exception as error:  # whatever a file manages to break must not cost the other files
                detail = f"reading failed with {type(error).__name__}: {error}"
                columns.excluded.append(Exclusion(source.name, ExclusionReason.MALFORMED, detail, source.worker_id))
                continue
            generations = generations_of(conversation, measures.digest)
            if generations is not None:
                columns.generations.append(generations)
            reason, detail = self.early_rejection(conversation)
            if reason is not None:
                columns.excluded.append(_excluded(source, conversation, reason, detail))
                continue
            reason, detail = self.rejection(conversation, measures)
            extras: Sequence[Mapping[str, Any]] = ()
            if reason is None and self.hooks.extra_columns:
                try:
                    extras = self._extras(conversation)
                except _HookError as error:
                    reason, detail = ExclusionReason.OWN_RULE, str(error)
            if reason is None:
                columns.add(source, conversation, measures, extras)
            elif self.settings.as_original:
                columns.add_excluded(_excluded(source, conversation, reason, detail), measures.digest)
            else:
                columns.excluded.append(_excluded(source, conversation, reason, detail))
        return columns.chunk()

    def digest(self, source: Source) -> bytes | None:
        """The content of one conversation as a hash that tells duplicates; None when it can't be read."""
        try:
            return self.measure(read_conversation(source), {}).digest
        except Exception:  # as above; nothing is lost, for this source is left out already
            return None

    def measure(self, conversation: ReadConversation, unknown: dict[str, int]) -> Measures:
        """Count one conversation; ``unknown`` counts ticks of other buckets, and is added to.

        Raises:
            UnreadableError: a value that is no tick is where a tick should be.
        """
        settings = self.settings
        return measure(conversation, settings.problem_buckets, self._known, unknown, settings.as_original)

    def early_rejection(self, conversation: ReadConversation) -> tuple[ExclusionReason, str] | tuple[None, str]:
        """The first rule that leaves a conversation out before any limit counts it."""
        settings = self.settings
        if conversation.simulated and not settings.include_simulated:
            return ExclusionReason.SIMULATED, "a model played the worker"
        if conversation.is_forgotten:
            return ExclusionReason.FORGOTTEN, "the conversation that was annotated has been deleted"
        if conversation.status is Completion.INCOMPLETE and not settings.include_incomplete:
            return ExclusionReason.INCOMPLETE, conversation.reason or ""
        for name in _hit_names(conversation) if settings.hit_block_list else ():
            if name in settings.hit_block_list:
                return ExclusionReason.BLOCKED_HIT, name
        return None, ""

    def rejection(
        self, conversation: ReadConversation, measures: Measures
    ) -> tuple[ExclusionReason, str] | tuple[None, str]:
        """The first of the other rules of :class:`ExclusionReason` that a single conversation breaks."""
        settings = self.settings
        if conversation.worker_id in settings.worker_block_list and not settings.as_original:
            return ExclusionReason.BLOCKED_WORKER, conversation.worker_id
        own = _guarded(self.hooks.reject, conversation)
        if own is not None:
            return ExclusionReason.OWN_RULE, own
        if settings.exclude_violations and conversation.acceptability_violation:
            return ExclusionReason.ACCEPTABILITY, conversation.acceptability_violation
        writes = conversation.judged_conversation is None  # an annotator of a finished conversation writes nothing
        if writes and measures.mean_words < settings.min_word_count:
            return ExclusionReason.TOO_SHORT, f"{measures.mean_words:.2f} words a message"
        if settings.filter_uniform_hits and measures.is_uniform:
            return ExclusionReason.UNIFORM_LABELS, f"{len(measures.ticks)} messages with the same labels"
        seconds = measures.median_seconds
        if seconds is not None and seconds < settings.min_seconds_per_message:
            return ExclusionReason.TOO_FAST, f"{seconds:.2f} s a message"
        return None, ""

    def _extras(self, conversation: ReadConversation) -> list[Mapping[str, Any]]:
        turns: list[ReadUtterance | None] = [None, *conversation.dialog]
        try:
            return [
                self._typed(self.hooks.row_columns(conversation, utterance, turn_idx))
                for turn_idx, utterance in enumerate(turns, CONTEXT_TURN)
            ]
        except Exception as error:  # a hook is the lab's own code; its failure on one conversation costs no other
            raise _HookError(f"row_columns failed with {type(error).__name__}: {error}") from error

    def _typed(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        declared = self.hooks.extra_columns
        undeclared = sorted(set(values) - set(declared))
        if undeclared:
            raise KeyError(f"{', '.join(undeclared)} not declared in extra_columns")
        return {name: None if value is None else declared[name](value) for name, value in values.items()}


def _hit_names(conversation: ReadConversation) -> list[str]:
    """The ids of a conversation's HIT; old records have an entry for each side."""
    entries = conversation.raw.get("hit_ids")
    others = entries if isinstance(entries, list) else []
    return list(dict.fromkeys(str(entry) for entry in (conversation.hit_id, *others) if entry))


class _HookError(ModelChatError):
    """A hook failed on one conversation."""


def _guarded(reject: Callable[[ReadConversation], str | None], conversation: ReadConversation) -> str | None:
    try:
        return reject(conversation)
    except Exception as error:  # as for row_columns: the conversation is excluded, counted and named
        return f"reject failed with {type(error).__name__}: {error}"


def _excluded(source: Source, conversation: ReadConversation, reason: ExclusionReason, detail: str) -> Exclusion:
    return Exclusion(
        source=source.name,
        reason=reason,
        detail=detail,
        worker_id=conversation.worker_id,
        hit_id=conversation.hit_id,
        model_nickname=conversation.model_nickname,
    )

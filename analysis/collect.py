"""Read a whole corpus: listing, rules that compare conversations, and the data kept in memory.

Texts go to a spool file on disk as they are read. In memory stays what the statistics need: some 150 bytes a
conversation and 20 bytes a model message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_chat.analysis.answers import Answers
from model_chat.analysis.chunks import CONVERSATION_SCHEMA, TURN_DTYPE, Chunk, utterance_schema
from model_chat.analysis.exclusions import Exclusion, ExclusionReason
from model_chat.analysis.generations import GenerationTotals
from model_chat.analysis.judgements import JUDGEMENT_SCHEMA
from model_chat.analysis.naming import Description, merge
from model_chat.analysis.parallel import run_builder
from model_chat.analysis.parts import PART_SCHEMA, WHOLE
from model_chat.analysis.rows import Hooks, RowBuilder
from model_chat.analysis.settings import NO_LIMIT, Settings
from model_chat.configuration.comparison import pair_key
from model_chat.configuration.lists import unmatched
from model_chat.errors import ConfigurationError
from model_chat.records.mephisto_database import find_database, list_agents
from model_chat.records.reading import Origin, Source, list_files

Progress = Callable[[int, int], None]
"""Told how many sources have been dealt with, and how many there are."""

_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)


@dataclass
class Corpus:
    """All conversations that count.

    Attributes:
        conversations: a row a conversation, see `CONVERSATION_SCHEMA`; the row's number is `conversation_idx`.
        turns: a row an annotated model message, see `TURN_DTYPE`.
        labels: ticks of those messages, one column a bucket.
        excluded: the conversations that do not count, in the order in which they were met.
        other_files: files in the folders that are no conversations by their name.
        unknown_labels: ticks of buckets that are not in `--problem-buckets`, by name.
        unmatched: a sentence for each block list with ids that no conversation has.
        spool: the file with the utterances; :meth:`utterances` reads it.
        judgements: a row a judgement of two replies, see `JUDGEMENT_SCHEMA`; `conversation` is `conversation_idx`.
        parts: of conversations of two compared models, see `PART_SCHEMA`; the same, in order of conversations.
    """

    settings: Settings
    conversations: pa.Table
    turns: np.ndarray
    labels: np.ndarray
    excluded: list[Exclusion]
    sources: int
    other_files: int
    unknown_labels: dict[str, int]
    unmatched: list[str]
    descriptions: Counter[Description]
    spool: Path
    generations: GenerationTotals = field(default_factory=GenerationTotals)
    judgements: pa.Table = field(default_factory=JUDGEMENT_SCHEMA.empty_table)
    parts: pa.Table = field(default_factory=PART_SCHEMA.empty_table)
    answers: Answers = field(default_factory=Answers)

    @property
    def questions(self) -> int:
        """How many final ratings a conversation has (the most that any has)."""
        return int(pc.max(pc.list_value_length(self.conversations["ratings"])).as_py() or 0)

    @property
    def excluded_by_reason(self) -> dict[str, int]:
        """Counts of excluded conversations, in the order of the rules."""
        counts = Counter(exclusion.reason for exclusion in self.excluded)
        return {reason.value: counts[reason] for reason in ExclusionReason if counts[reason]}

    def model_names(self) -> pa.ChunkedArray:
        """Nicknames of all entries: of the conversations, then of the parts.

        ``b|a`` is the pair ``a|b``, and has the name that most conversations have.
        """
        own, parts = self.conversations["model_nickname"], self.parts["model_nickname"]
        if self.parts.num_rows:
            names = own.to_pylist()
            pairs = {names[number] for number in self.parts["conversation"].to_pylist()}
            spelled: dict[frozenset[str] | str, str] = {}
            for name, _ in sorted(Counter(names).items(), key=lambda entry: (-entry[1], entry[0])):
                if name in pairs:
                    spelled.setdefault(pair_key(name), name)
            own = pa.chunked_array([[spelled.get(pair_key(name), name) if name in pairs else name for name in names]])
        return pa.chunked_array([*own.chunks, *parts.chunks], pa.string())

    def first_parts(self) -> np.ndarray:
        """For each conversation the entry that is its first part, if it has any; entries are numbered as above."""
        count = self.conversations.num_rows
        return np.asarray(np.searchsorted(self.parts["conversation"].to_numpy(), np.arange(count)) + count)

    def utterances(self) -> Iterator[pa.RecordBatch]:
        """The utterances of all conversations, in order, a batch at a time; `conversation` is `conversation_idx`."""
        with pa.memory_map(str(self.spool)) as file, pa.ipc.open_stream(file) as reader:
            yield from reader


@dataclass
class _Collector:
    """Holds what the order-dependent rules remember between chunks."""

    settings: Settings
    refused_contents: dict[bytes, str]
    """Content of conversations whose agent has a status that does not count -> that status."""
    seen: set[bytes] = field(default_factory=set)
    of_worker: Counter[str | None] = field(default_factory=Counter)
    kept: int = 0
    answers: Answers = field(default_factory=Answers)

    def take(self, chunk: Chunk) -> Chunk:
        """Apply the rules to a chunk and number what stays: the chunk without the rest, and what these rules left out."""
        limit = self.settings.max_convos_per_worker
        rows = chunk.conversations
        numbers = np.full(rows.num_rows, -1, np.int32)
        excluded: list[Exclusion] = []
        names = [rows[name].to_pylist() for name in ("source", "worker_id", "hit_id", "model_nickname")]
        passed = enumerate(zip(*names, strict=True))
        for digest, exclusion in chunk.candidates:
            if exclusion is None:
                position, (source, worker, hit, model) = next(passed)
            else:
                source, worker = exclusion.source, exclusion.worker_id
                hit, model = exclusion.hit_id, exclusion.model_nickname
            if digest in self.refused_contents:
                reason, detail = ExclusionReason.MEPHISTO_STATUS, self.refused_contents[digest]
            elif digest in self.seen and not self.settings.keep_duplicates:
                reason, detail = ExclusionReason.DUPLICATE, "the same conversation was read before"
            elif limit != NO_LIMIT and self.of_worker[worker] >= limit:
                reason, detail = ExclusionReason.OVER_WORKER_LIMIT, f"the worker's first {limit} count"
            else:
                self.seen.add(digest)
                self.of_worker[worker] += 1
                if exclusion is None:
                    numbers[position] = self.kept
                    self.kept += 1
                else:
                    excluded.append(exclusion)
                continue
            excluded.append(Exclusion(source, reason, detail, worker, hit, model))
        self.answers.add(chunk.answers, chunk.flows, numbers.tolist())
        turns, labels = chunk.turns, chunk.labels
        if (numbers < 0).any():
            rows = rows.filter(pa.array(numbers >= 0))
            stays = numbers[turns["conversation"]] >= 0
            turns, labels = turns[stays], labels[stays]
        turns = turns.copy()
        turns["conversation"] = numbers[turns["conversation"]]
        return replace(
            chunk,
            conversations=rows,
            utterances=renumbered(chunk.utterances, numbers),
            turns=turns,
            labels=labels,
            judgements=renumbered(chunk.judgements, numbers),
            parts=renumbered(chunk.parts, numbers),
            excluded=excluded,
        )


def entries_of(conversation: np.ndarray, part: np.ndarray, first_part: np.ndarray) -> np.ndarray:
    """Numbers of entries (:meth:`Corpus.model_names`): of the part where there is one, else of the conversation.

    Args:
        conversation, part: numbers, one each.
        first_part: :meth:`Corpus.first_parts`.
    """
    return np.where(part == WHOLE, conversation, first_part[conversation] + part)


def renumbered(batch: _Rows, numbers: np.ndarray) -> _Rows:
    """Rows of the conversations that stay (a number of 0 or more), the first column replaced by that number."""
    new = numbers[batch["conversation"].to_numpy()]
    if (new < 0).any():
        batch, new = batch.filter(pa.array(new >= 0)), new[new >= 0]
    return batch.set_column(0, "conversation", pa.array(new, pa.int32()))


def collect(settings: Settings, hooks: Hooks, spool: Path, progress: Progress | None = None) -> Corpus:
    """Read everything that ``settings`` names.

    Args:
        spool: where to keep the utterances; the caller removes it.

    Raises:
        ConfigurationError: a folder, database or task does not exist.
    """
    listing = list_files(settings.results_folders, skip=[settings.output_folder])
    agents: list[Source] = []
    if settings.task_name:
        agents = list_agents(find_database(settings.database_path), settings.task_name)
    builder = RowBuilder(settings, hooks)
    wanted, excluded, refused_contents = sort_out((*listing.sources, *agents), builder)
    collector = _Collector(settings, refused_contents)
    rows: list[pa.RecordBatch] = []
    turns: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    judgements: list[pa.RecordBatch] = []
    parts: list[pa.RecordBatch] = []
    unknown: Counter[str] = Counter()
    generations = GenerationTotals()
    descriptions: Counter[Description] = Counter()
    schema = utterance_schema(settings, hooks.extra_columns)
    done, total = len(excluded), len(excluded) + len(wanted)
    with pa.OSFile(str(spool), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for chunk in run_builder(builder, wanted, settings.processes, settings.dask_scheduler):
            done += chunk.conversations.num_rows + len(chunk.excluded)
            kept = collector.take(chunk)
            writer.write_batch(kept.utterances)
            judgements.append(kept.judgements)
            parts.append(kept.parts)
            rows.append(kept.conversations)
            turns.append(kept.turns)
            labels.append(kept.labels)
            excluded += chunk.excluded
            excluded += kept.excluded
            unknown.update(chunk.unknown_labels)
            generations.add(chunk.generations)
            merge(descriptions, chunk.descriptions)
            if progress is not None:
                progress(done, total)
    conversations = pa.Table.from_batches(rows, CONVERSATION_SCHEMA).combine_chunks()
    corpus = Corpus(
        settings=settings,
        conversations=conversations,
        turns=np.concatenate(turns) if turns else np.zeros(0, TURN_DTYPE),
        labels=np.concatenate(labels) if labels else np.zeros((0, len(settings.problem_buckets)), dtype=bool),
        excluded=excluded,
        sources=total,
        other_files=len(listing.other_files),
        unknown_labels=dict(sorted(unknown.items())),
        unmatched=_unmatched(settings, conversations, excluded, (*listing.sources, *agents)),
        descriptions=descriptions,
        spool=spool,
        generations=generations,
        judgements=pa.Table.from_batches(judgements, JUDGEMENT_SCHEMA).combine_chunks(),
        parts=pa.Table.from_batches(parts, PART_SCHEMA).combine_chunks(),
        answers=collector.answers,
    )
    ConfigurationError.raise_if(_unknown_splits(corpus))
    return corpus


def _unknown_splits(corpus: Corpus) -> list[str]:
    """Name what ``--by`` can't split by."""
    known = corpus.answers.columns() if corpus.settings.by else []
    remedy = f"give one of: {', '.join(known)}" if known else "leave --by out, for none asks anything there"
    return [
        f"--by names '{item}', which no study flow asks before the chat; {remedy}."
        for item in corpus.settings.by
        if item not in known
    ]


def sort_out(sources: Iterable[Source], builder: RowBuilder) -> tuple[list[Source], list[Exclusion], dict[bytes, str]]:
    """Apply the rules that need no look into a conversation.

    Returns:
        what is to be read, what is excluded, and the contents of conversations whose agent has a status that does not count,
        with that status: a file does not know that a reviewer rejected it, its twin in the database does.
    """
    wanted: list[Source] = []
    excluded: list[Exclusion] = []
    refused: list[Source] = []
    for source in sources:
        exclusion = excluded_unread(source, builder.settings)
        if exclusion is None:
            wanted.append(source)
            continue
        excluded.append(exclusion)
        if exclusion.reason is ExclusionReason.MEPHISTO_STATUS:
            refused.append(source)
    reads_files = any(source.origin is Origin.FILE for source in wanted)
    contents = {builder.digest(source): source.status or "none" for source in refused} if reads_files else {}
    return wanted, excluded, {digest: status for digest, status in contents.items() if digest is not None}


def excluded_unread(source: Source, settings: Settings) -> Exclusion | None:
    """Rules that need no look into the conversation."""
    if source.origin is Origin.DATABASE and source.status not in settings.mephisto_statuses:
        return Exclusion(source.name, ExclusionReason.MEPHISTO_STATUS, source.status or "none", source.worker_id)
    if settings.start_date is not None and source.day is not None and source.day < settings.start_date:
        return Exclusion(source.name, ExclusionReason.BEFORE_START_DATE, source.day.isoformat(), source.worker_id)
    if settings.run_type != "all" and source.run_type not in (None, settings.run_type):
        return Exclusion(source.name, ExclusionReason.OTHER_RUN_TYPE, source.run_type or "", source.worker_id)
    if source.named_incomplete and not settings.include_incomplete:
        return Exclusion(source.name, ExclusionReason.INCOMPLETE, "the file is named incomplete", source.worker_id)
    for name in source.names if settings.hit_block_list else ():
        if name in settings.hit_block_list:
            return Exclusion(source.name, ExclusionReason.BLOCKED_HIT, name, source.worker_id)
    return None


def _unmatched(
    settings: Settings, conversations: pa.Table, excluded: Iterable[Exclusion], sources: Iterable[Source]
) -> list[str]:
    """Name the ids of the block lists that no conversation has, counted or left out."""
    hits, workers = set[str](), set[str]()
    if settings.hit_block_list:
        hits.update(filter(None, conversations["hit_id"].to_pylist()))
        hits.update(entry.hit_id for entry in excluded if entry.hit_id)
        hits.update(entry.detail for entry in excluded if entry.reason is ExclusionReason.BLOCKED_HIT)
        hits.update(name for source in sources for name in source.names)
    if settings.worker_block_list:
        workers.update(conversations["worker_id"].to_pylist())
        workers.update(entry.worker_id for entry in excluded if entry.worker_id)
    return [
        f"{flag} names ids that no conversation has: {missing}."
        for flag, given, known in (
            ("--hit-block-list", settings.hit_block_list, hits),
            ("--worker-block-list", settings.worker_block_list, workers),
        )
        if (missing := unmatched(sorted(given), known))
    ]

"""Remarks that a reader of the numbers must know: printed, saved and shown in the report alike."""

from __future__ import annotations

import numpy as np

from model_chat.analysis.answers import MOST_LEVELS
from model_chat.analysis.arrays import Data
from model_chat.analysis.mixed import disagreements
from model_chat.analysis.summary import Summary
from model_chat.configuration.lists import join_list
from model_chat.records.schema import NONE_ALL_GOOD

FEW_WORKERS = 10
"""Below this, intervals that respect workers are rough (Cameron & Miller 2015, section VI)."""
_MOST_NAMED = 5


def remarks(summary: Summary) -> list[str]:
    """Sentences, most important first; none when there is nothing to say."""
    data, settings = summary.data, summary.settings
    corpus = data.corpus
    said: list[str] = []
    count = corpus.conversations.num_rows
    if count == 0:
        return ["No conversation counts: see the exclusions for the reasons.", *corpus.unmatched]
    if settings.as_original:
        said.append(
            "Counted as the original task did (--as-original); docs/moving-from-the-original.md says what that changes."
        )
    said += corpus.unmatched
    if settings.annotated:
        units = summary.units
        bare = int((units.sums_of_conversations(units.annotated) == 0).sum())
        all_units = int(units.is_conversation.sum())
        if bare == all_units:
            said.append(
                "No model message is annotated: use --problem-buckets none if the responses were not annotated at all."
            )
        elif bare:
            said.append(f"{bare:,} of {all_units:,} conversations hold no annotation; bucket shares leave them out.")
        said += _about_problems(data)
        ticked = data.ticks.sum(0)
        never = [b for b, n in zip(settings.problem_buckets, ticked, strict=True) if n == 0 and b != NONE_ALL_GOOD]
        if never and bare < all_units:
            said.append(f"Never ticked: {', '.join(never)}; check the names in --problem-buckets.")
    if corpus.unknown_labels:
        first = list(corpus.unknown_labels.items())[:_MOST_NAMED]
        named = [f"{name} ({times:,} times)" if times > 1 else f"{name} (once)" for name, times in first]
        more = len(corpus.unknown_labels) - len(named)
        tail = f" and {more} more" if more > 0 else ""
        said.append(f"Ticked but not in --problem-buckets, so not counted: {', '.join(named)}{tail}.")
        commas = [name for name in corpus.unknown_labels if "," in name]
        if commas:
            said.append(f"A bucket with a comma is quoted as in csv: {join_list(commas[:1])}.")
    judged = corpus.conversations["judged"]
    annotations = count - judged.null_count
    if annotations:
        conversations = int(summary.units.is_conversation.sum())
        said.append(
            f"{annotations:,} of {count:,} records are annotations of {len(judged.drop_null().unique()):,} finished "
            f"conversations. A conversation counts once ({conversations:,} in all), with the share of those who ticked "
            "a box and the mean of their ratings; intervals are clustered by conversation."
        )
    rated = summary.units.ratings[summary.units.is_conversation & summary.units.is_talk]
    # The comparison of two chats takes the place of the ratings.
    unrated = int((~np.isfinite(rated)).any(1).sum()) if rated.shape[1] else len(rated)
    if unrated:
        said.append(
            f"{unrated:,} of {len(rated):,} conversations lack a final rating; means are over those that have it."
        )
    few = [
        name
        for number, name in enumerate(data.models)
        if not data.is_pair[number]
        and len(np.unique(summary.units.cluster[summary.units.model == number])) < FEW_WORKERS
    ]
    if few:
        clusters = "workers or annotated conversations are behind" if summary.units.merges else "workers talked to"
        said.append(
            f"Fewer than {FEW_WORKERS} {clusters} {', '.join(few[:_MOST_NAMED])}"
            f"{' and others' if len(few) > _MOST_NAMED else ''}: take the intervals as rough."
        )
    violations = int(np.sum([bool(entry) for entry in corpus.conversations["violation"].to_pylist()]))
    if violations:
        said.append(
            f"{violations:,} counted conversations failed an acceptability check; --exclude-violations leaves them out."
        )
    if settings.include_simulated:
        said.append("Workers who were played by a model are counted, as --include-simulated asks; they are no people.")
    if settings.include_incomplete:
        said.append("Conversations that were cut off are counted, as --include-incomplete asks.")
    apart = disagreements(summary.mixed, summary.comparisons)
    if apart:
        pairs = ", ".join(f"{data.names.metric(metric)} ({a} and {b})" for metric, a, b in apart[:_MOST_NAMED])
        said.append(
            f"The mixed models and the clustered estimates disagree on whether these differ: {pairs}"
            f"{' and others' if len(apart) > _MOST_NAMED else ''}; workers with many messages may judge differently."
        )
    if summary.conditions is not None:
        said += summary.conditions.remarks
    if summary.preferences is not None:
        said += summary.preferences.remarks
    if summary.authenticity is not None:
        said += summary.authenticity.remarks
    said += corpus.generations.remarks()
    for item in settings.by:
        column = corpus.answers.column(item, count) or []
        levels, silent = len({level for level in column if level is not None}), column.count(None)
        if levels > MOST_LEVELS:
            said.append(f"{item} has {levels:,} different answers, too many to split by (at most {MOST_LEVELS}).")
        if silent:
            said.append(f"{silent:,} of {count:,} conversations have no answer to {item}; no split counts them.")
    if corpus.other_files:
        said.append(f"{corpus.other_files:,} other files in the results folders are no conversations by their names.")
    return said


def _about_problems(data: Data) -> list[str]:
    """What was taken for a problem where the annotation itself does not say."""
    turns, count = data.corpus.turns, len(data.corpus.turns)
    said = []
    not_offered = int((~turns["offers_good"]).sum())
    unmarked = int((turns["offers_good"] & ~data.good_ticked & ~data.problem_ticked).sum())
    if not_offered:
        meaning = (
            "such a message counts as a problem, as in the original"
            if data.settings.as_original
            else "such a message is a problem if another box is ticked"
        )
        said.append(f"{not_offered:,} of {count:,} annotated messages had no box {NONE_ALL_GOOD}: {meaning}.")
    if unmarked:
        meaning = (
            "they are problems in the table of workers, and leave a conversation clean, as in the original"
            if data.settings.as_original
            else "they count as problems"
        )
        said.append(
            f"{unmarked:,} of {count:,} annotated messages have neither {NONE_ALL_GOOD} nor another of --problem-buckets "
            f"ticked: {meaning}."
        )
    return said

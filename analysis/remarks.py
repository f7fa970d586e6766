"""What a reader of the numbers has to know, in sentences: printed, saved and shown in the report alike."""

from __future__ import annotations

import numpy as np

from model_chat.analysis.summary import Summary, records
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
        return ["No conversation counts: see the exclusions for the reasons."]
    if settings.annotated:
        bare = int((data.annotated == 0).sum())
        if bare == count:
            said.append(
                "No model message is annotated: use --problem-buckets none if the responses were not annotated at all."
            )
        elif bare:
            said.append(f"{bare:,} of {count:,} conversations hold no annotation; bucket shares leave them out.")
        ticked = data.ticks.sum(0)
        never = [b for b, n in zip(settings.problem_buckets, ticked, strict=True) if n == 0 and b != NONE_ALL_GOOD]
        if never and bare < count:
            said.append(f"Never ticked: {', '.join(never)}; check the names in --problem-buckets.")
    if corpus.unknown_labels:
        first = list(corpus.unknown_labels.items())[:_MOST_NAMED]
        named = [f"{name} ({times:,} times)" if times > 1 else f"{name} (once)" for name, times in first]
        more = len(corpus.unknown_labels) - len(named)
        tail = f" and {more} more" if more > 0 else ""
        said.append(f"Ticked but not in --problem-buckets, so not counted: {', '.join(named)}{tail}.")
    unrated = int((~np.isfinite(data.ratings)).any(1).sum()) if data.ratings.shape[1] else count
    if unrated:
        said.append(f"{unrated:,} of {count:,} conversations lack a final rating; means are over those that have it.")
    few = [row.model_nickname for row in records(summary.models) if row.workers < FEW_WORKERS]
    if few:
        said.append(
            f"Fewer than {FEW_WORKERS} workers talked to {', '.join(few[:_MOST_NAMED])}"
            f"{' and others' if len(few) > _MOST_NAMED else ''}: take the intervals as rough."
        )
    violations = int(np.sum([bool(entry) for entry in corpus.conversations["violation"].to_pylist()]))
    if violations:
        said.append(
            f"{violations:,} counted conversations failed an acceptability check; --exclude-violations leaves them out."
        )
    if settings.include_incomplete:
        said.append("Conversations that were cut off are counted, as --include-incomplete asks.")
    if corpus.other_files:
        said.append(f"{corpus.other_files:,} other files in the results folders are no conversations by their names.")
    return said

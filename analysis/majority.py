"""Labels by the majority of those who judged the same reply, and the replies about which they differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from model_chat.analysis.agreement import count_judgments
from model_chat.analysis.arrays import Data
from model_chat.analysis.measures import NOT_SAID
from model_chat.records.schema import MODEL_IDX

MAJORITY_COLUMNS = ("item", "conversation_idx", "turn_idx", "model_nickname", "label", "judges", "ticked", "majority")
ADJUDICATION_COLUMNS = (*MAJORITY_COLUMNS, "text")


def majority_labels(data: Data) -> pd.DataFrame:
    """Return a row for each box of each reply that at least two workers annotated, a worker's first annotation of it each.

    `item` is the hash that tells replies with the same history (:mod:`model_chat.analysis.agreement`), `conversation_idx`
    and `turn_idx` are the first place of it in the results, `majority` is empty where as many ticked the box as did not.
    """
    said = data.corpus.turns["turn_idx"] != NOT_SAID  # others have no place in the results
    turns, labels, entry = data.corpus.turns[said], data.corpus.labels[said], data.entry[said]
    if not len(turns) or not data.settings.annotated:
        return pd.DataFrame(columns=list(MAJORITY_COLUMNS))
    workers = data.worker[turns["conversation"]]
    first_of, places = np.unique(turns["history"], return_index=True)
    frames = []
    for column, label in enumerate(data.settings.problem_buckets):
        ticks = labels[:, column].astype(np.float64)
        counted = count_judgments(ticks, turns["history"], workers)
        if counted is None:
            continue
        judges = counted.counts.sum(1)
        ticked = (counted.counts * counted.domain[None, :]).sum(1).astype(np.int64)
        where = places[np.searchsorted(first_of, counted.items)]
        conversation = turns["conversation"][where]
        majority = pd.array(ticked * 2 > judges, dtype="boolean")
        majority[ticked * 2 == judges] = pd.NA
        frames.append(
            pd.DataFrame(
                {
                    "item": [int(item).to_bytes(8, "big", signed=True).hex() for item in counted.items],
                    "conversation_idx": conversation,
                    "turn_idx": turns["turn_idx"][where],
                    "model_nickname": np.array(data.models, dtype=object)[data.model[entry[where]]],
                    "label": label,
                    "judges": judges,
                    "ticked": ticked,
                    "majority": majority,
                }
            )
        )
    if not frames:
        return pd.DataFrame(columns=list(MAJORITY_COLUMNS))
    found = pd.concat(frames, ignore_index=True)
    return found.sort_values(["conversation_idx", "turn_idx"], kind="stable", ignore_index=True)


def adjudication(data: Data, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the labels on which the workers are divided, with the reply: ties first, then by the size of the minority."""
    divided = labels[(labels["ticked"] > 0) & (labels["ticked"] < labels["judges"])].copy()
    if not len(divided):
        return pd.DataFrame(columns=list(ADJUDICATION_COLUMNS))
    replies = _replies(data)
    texts = dict(
        zip(
            zip(replies["conversation"].to_pylist(), replies["turn_idx"].to_pylist(), strict=True),
            replies["text"].to_pylist(),
            strict=True,
        )
    )
    places = zip(divided["conversation_idx"], divided["turn_idx"], strict=True)
    divided["text"] = [texts[int(conversation), int(turn)] for conversation, turn in places]
    share = divided["ticked"] / divided["judges"]
    order = (share - 0.5).abs().sort_values(kind="stable").index
    return divided.loc[order].reset_index(drop=True)


def annotated_replies(data: Data) -> list[tuple[int, int]]:
    """Record and position in its dialogue of each annotated reply that has one, in the order of the corpus' turns."""
    turns = data.corpus.turns[data.corpus.turns["turn_idx"] != NOT_SAID]
    return list(zip(turns["conversation"].tolist(), turns["turn_idx"].tolist(), strict=True))


def _replies(data: Data) -> pa.Table:
    """Conversation, turn and text of each annotated reply, in the order of the corpus' turns."""
    first = data.settings.problem_buckets[0]
    columns = ["conversation", "turn_idx", "text"]
    batches = [
        batch.filter(pc.and_(pc.equal(batch["agent_idx"], MODEL_IDX), pc.is_valid(batch[first]))).select(columns)
        for batch in data.corpus.utterances()
    ]
    return pa.Table.from_batches(batches)

"""How often the models of a pair won, as a number a conversation: what the conditions of a comparison are compared on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from model_chat.analysis.arrays import Metric
from model_chat.records.schema import Pick

if TYPE_CHECKING:
    from model_chat.analysis.by_conversation import ByConversation

WIN_RATE = "win_rate"


def win_rates(units: ByConversation) -> Iterator[Metric]:
    """Give a metric for each pair of models, and for each question about two chats; none where nothing was compared.

    It is called `win_rate a|b`, the names in order, and with a question `win_rate a|b: <question>`. ``sums`` are the
    judgements that `a` has won, ties and "both bad" as halves; ``totals`` are all judgements, those of a model with itself
    left out.
    """
    table = units.data.corpus.judgements
    if table.num_rows == 0:
        return
    count = int(units.is_conversation.sum())
    where = units.owner[units.of_record[table["conversation"].to_numpy()]]
    questions = [question or "" for question in table["question"].to_pylist()]
    left, right = (table[side].to_pylist() for side in ("left", "right"))
    keys = [(question, *sorted(pair)) for question, *pair in zip(questions, left, right, strict=True)]
    winners = {Pick.LEFT.value: left, Pick.RIGHT.value: right}
    picks = table["pick"].to_pylist()
    scores = np.array(
        [
            float(winners[pick][row] == key[1]) if pick in winners else 0.5
            for row, (pick, key) in enumerate(zip(picks, keys, strict=True))
        ]
    )
    known = sorted(set(keys))
    numbers = {key: number for number, key in enumerate(known)}
    asked = np.array([numbers[key] for key in keys])
    for number, (question, first, second) in enumerate(known):
        if first == second:
            continue
        here = asked == number
        name = f"{WIN_RATE} {first}|{second}" + (f": {question}" if question else "")
        ones = np.ones(int(here.sum()))
        sums, totals = (
            np.asarray(np.bincount(where[here], values, count), dtype=np.float64) for values in (scores[here], ones)
        )
        yield Metric(name, "rate", sums, totals, 0.0)

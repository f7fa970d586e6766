"""The report's section about the items of a study flow."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from model_chat.analysis import charts
from model_chat.analysis.items import MEAN, RATE, texts
from model_chat.analysis.summary import Summary

MOST_TEXTS = 200
"""Of one item; the table of answers has all."""
_WHAT = {
    "scale": "Mean answer.",
    "slider": "Mean position, from 0 to 100.",
    "number": "Mean answer.",
    "choice": "Share of the answers that chose each option.",
    "text": "Mean number of words.",
    "ranking": "Mean rank; 1 is best.",
    "best_worst": "Share of the answers in which an option was best, and worst; score: best less worst, from -1 to 1.",
    "matrix": "Mean answer of each row.",
    "highlight": "Share of the replies in which something was highlighted.",
}


def answer_section(summary: Summary, level: str) -> dict[str, Any] | None:
    """Return what the template of the section shows; None where no conversation has a study flow."""
    data = summary.data
    if not data.corpus.answers or not len(summary.items):
        return None
    written = {(asked.page, asked.item.id): given for asked, given in texts(data)}
    entries: list[dict[str, Any]] = []
    for (page, item), own in summary.items.groupby(["page", "item"], sort=False):
        first = own.iloc[0]
        models = list(dict.fromkeys(own["model_nickname"]))  # of two that were compared, either the models or the pair
        rows = [
            {
                "aspect": aspect or {MEAN: "Mean", RATE: "Share"}[str(measure)],
                "measure": measure,
                "cells": cells.set_index("model_nickname").reindex(models).to_dict("records"),
            }
            for (aspect, measure), cells in own.groupby(["aspect", "measure"], sort=False)
        ]
        given = written.get((str(page), str(item)), [])
        per_model = own.groupby("model_nickname")["answers"].max().reindex(models, fill_value=0)
        entries.append(
            {
                "item": item,
                "models": models,
                "question": first["question"],
                "what": _WHAT[str(first["kind"])],
                "rows": rows,
                "answers": [int(count) for count in per_model],
                # That of a text would show the number of its words, which nobody asks for.
                "chart": None if first["kind"] == "text" else _chart(own, models, level),
                "texts": [
                    {"model": data.models[data.model[data.entry_of(one)]], "text": str(one.value)}
                    for one in given[:MOST_TEXTS]
                ],
                "more_texts": max(0, len(given) - MOST_TEXTS),
            }
        )
    questions = {asked.item.id: asked.item.question for asked in data.corpus.answers.asked()}
    splits = [
        {"by": by, "question": questions.get(str(by), by), "rows": own.to_dict("records")}
        for by, own in summary.splits.groupby("by", sort=False)
    ]
    return {"entries": entries, "splits": splits}


def _chart(own: Any, models: list[str], level: str) -> Markup | None:
    """Dots with intervals for what can be compared on one axis: all shares, or else all means."""
    for measure in (MEAN, RATE):
        drawn = own[(own["measure"] == measure) & own["value"].notna()]
        if len(drawn) and (measure == MEAN or not len(own[own["measure"] == MEAN])):
            return Markup(charts.item_dots(drawn, models, level))
    return None

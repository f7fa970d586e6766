"""The report's section on compared replies, and its charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from model_chat.analysis import charts
from model_chat.analysis.preferences import FORMAT, LENGTH, SIDE, SIDE_RATE, Preferences
from model_chat.analysis.summary import records

_EFFECT_NAMES: Mapping[str, str] = {
    SIDE_RATE: "Share of the left side",
    SIDE: "Left side",
    LENGTH: "Length",
    FORMAT: "Markdown",
}
_CHAT_EFFECT_NAMES: Mapping[str, str] = {**_EFFECT_NAMES, SIDE_RATE: "Share of the first chat", SIDE: "First chat"}
"""Where whole chats were compared, the left one is the one that came first."""
_LEVEL = 0.05


def preference_content(found: Preferences | None, level: str) -> list[dict[str, Any]]:
    """What the section shows, an entry a question.

    Args:
        found: the tables; None where no replies were compared.
        level: of the intervals, as text.
    """
    if found is None:
        return []
    questions = sorted({*found.wins["question"], *found.ranking["question"], *found.effects["question"]})
    return [_of_question(found, str(question), number, level) for number, question in enumerate(questions)]


def preferences_title(found: Preferences | None) -> str:
    """What the section is called: by whether replies were compared, whole chats, or both."""
    questions = set() if found is None else {*found.wins["question"], *found.effects["question"]}
    kinds = {"" if question == "" else "chats" for question in questions}
    return {frozenset({"chats"}): "Compared chats", frozenset({"", "chats"}): "Compared replies and chats"}.get(
        frozenset(kinds), "Compared replies"
    )


def _of_question(found: Preferences, question: str, number: int, level: str) -> dict[str, Any]:
    wins, ranking, effects, curves = (
        table[table["question"] == question] for table in (found.wins, found.ranking, found.effects, found.curves)
    )
    compared = sorted({*wins["model_a"], *wins["model_b"]})
    models = list(ranking["model_nickname"]) or compared
    return {
        "question": question,
        "models": models,
        "ranking": ranking.to_dict("records"),
        "is_controlled": bool(ranking["strength_controlled"].notna().any()),
        "chart": Markup(charts.strength_dots(ranking, level)) if len(ranking) else None,
        "wins": len(wins) > 0,
        "matrix": _matrix(wins, models),
        "both_bad": int(wins["both_bad"].sum()),
        "effects": [
            {**row, "name": (_CHAT_EFFECT_NAMES if question else _EFFECT_NAMES)[row["effect"]]}
            for row in effects.to_dict("records")
        ],
        "has_texts": not effects[effects["effect"].isin([LENGTH, FORMAT])].empty,
        "curves": curves.to_dict("records") if curves["turn_idx"].nunique() > 1 else [],
        "curve_chart": Markup(charts.win_curves(curves, models, level)) if len(curves) else None,
    }


def _matrix(wins: pd.DataFrame, models: Sequence[str]) -> list[tuple[str, list[dict[str, Any] | None]]]:
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in records(wins):
        even, is_found = row.ties + row.both_bad, bool(row.p_holm < _LEVEL)
        cells[row.model_a, row.model_b] = {
            "rate": row.win_rate_a,
            "low": row.low,
            "high": row.high,
            "won": row.wins_a,
            "even": even,
            "lost": row.wins_b,
            "found": is_found,
        }
        cells[row.model_b, row.model_a] = {
            "rate": 1 - row.win_rate_a,
            "low": 1 - row.high,
            "high": 1 - row.low,
            "won": row.wins_b,
            "even": even,
            "lost": row.wins_a,
            "found": is_found,
        }
    return [(a, [cells.get((a, b)) for b in models]) for a in models]

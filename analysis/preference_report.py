"""The report's section on compared replies, and its charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
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
        "chart": Markup(strength_dots(ranking, level, f"strengths-{number}")) if len(ranking) else None,
        "wins": len(wins) > 0,
        "matrix": _matrix(wins, models),
        "both_bad": int(wins["both_bad"].sum()),
        "effects": [
            {**row, "name": (_CHAT_EFFECT_NAMES if question else _EFFECT_NAMES)[row["effect"]]}
            for row in effects.to_dict("records")
        ],
        "has_texts": not effects[effects["effect"].isin([LENGTH, FORMAT])].empty,
        "curves": curves.to_dict("records") if curves["turn_idx"].nunique() > 1 else [],
        "curve_chart": Markup(win_curves(curves, models, level, f"wins-{number}")) if len(curves) else None,
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


def strength_dots(ranking: pd.DataFrame, level: str, name: str) -> str:
    """Draw strengths as dots with intervals, the strongest on top; hollow: controlled for length and format.

    Args:
        ranking: rows of :attr:`Preferences.ranking`, in order.
        level: of the intervals, as text.
        name: of the chart, unique in the page.
    """
    shown = ranking.head(charts.MOST_IN_A_CHART)
    at = np.arange(len(shown), dtype=np.float64)
    is_controlled = shown["strength_controlled"].notna().any()
    with mpl.rc_context(charts.STYLE):
        figure, (axes,) = charts.make_figure(0.8 + 0.42 * len(shown))
        axes.axvline(0, color=charts.MUTED, linewidth=1)
        for suffix, shift, filled in (("", -0.12 * is_controlled, True), ("_controlled", 0.16, False)):
            value = shown["strength" + suffix].to_numpy(float)
            low, high = (shown[end + suffix].to_numpy(float) for end in ("low", "high"))
            axes.hlines(
                at + shift,
                np.where(np.isnan(low), value, low),
                np.where(np.isnan(high), value, high),
                color=charts.SERIES[0],
                linewidth=1.6 if filled else 1.0,
            )
            axes.plot(
                value,
                at + shift,
                "o",
                color=charts.SERIES[0],
                markersize=6,
                markerfacecolor=charts.SERIES[0] if filled else charts.PAPER,
            )
        axes.set_yticks(at, [charts.short(model) for model in shown["model_nickname"]])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel(f"strength (log odds), with {level} interval")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        return charts.as_svg(
            figure, name, f"Dot plot of the strengths of {len(shown)} models; the table has the numbers."
        )


def win_curves(curves: pd.DataFrame, models: Sequence[str], level: str, name: str) -> str:
    """Draw the share of judgements won over exchanges, a line a model with its interval; see :func:`strength_dots`."""
    shown = list(models)[: charts.MOST_IN_A_CHART]
    with mpl.rc_context(charts.STYLE):
        figure, (axes,) = charts.make_figure(2.9)
        axes.axhline(50, color=charts.MUTED, linewidth=1)
        for i, model in enumerate(shown):
            own = curves[curves["model_nickname"] == model]
            exchange = own["turn_idx"] + 1
            axes.fill_between(
                exchange, own["low"] * 100, own["high"] * 100, color=charts.SERIES[i], alpha=0.14, linewidth=0
            )
            axes.plot(
                exchange,
                own["win_rate"] * 100,
                color=charts.SERIES[i],
                marker=charts.MARKERS[i],
                markersize=4,
                linewidth=1.5,
                label=charts.short(model),
            )
        last = int(curves["turn_idx"].max()) + 1
        axes.set_xlim(0.7, last + 0.3)
        axes.set_ylim(0, 100)
        axes.set_xticks(range(1, last + 1, max(1, last // 8)))
        axes.set_xlabel("exchange")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}%")
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.4)
        return charts.as_svg(figure, name, f"Lines of the share of judgements won by exchange, with {level} intervals.")

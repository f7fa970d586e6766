"""The report's charts. Every chart also comes as a table beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from model_chat.analysis.drawing import (
    GRID,
    LINE,
    MUTED,
    SERIES,
    WIDTH,
    Drawing,
    Panel,
    label,
    legend_height,
    numbers,
    round_numbers,
    short,
    width_of,
)

MOST_IN_A_CHART = len(SERIES)
_FOOT = 34
"""Below a panel: the numbers of its axis, and its title."""


def bucket_dots(estimates: pd.DataFrame, models: Sequence[str], level: str, call: Callable[[str], str]) -> str:
    """Dot plot of rates with intervals: a row a bucket, a mark a model.

    Args:
        estimates: :func:`model_chat.analysis.tables.estimates`.
        models: in order; the first eight are drawn.
    """
    rates = estimates[estimates["kind"] == "rate"]
    metrics = list(dict.fromkeys(rates["metric"]))
    shown = list(models)[:MOST_IN_A_CHART]
    highest = float(rates["high"].fillna(rates["value"]).max()) * 105
    drawing = _dots(
        rates.rename(columns={"metric": "row"}),
        {metric: label(call(metric)) for metric in metrics},
        shown,
        (0.0, max(5.0, min(100.0, highest))),
        100.0,
        f"percent, with {level} interval",
    )
    return drawing.svg(f"Dot plot of {len(metrics)} rates for {len(shown)} models; the table has the numbers.")


def item_dots(items: pd.DataFrame, models: Sequence[str], level: str) -> str:
    """Dot plot of one item: a row an aspect, a mark a model, each with its interval.

    Args:
        items: rows of :func:`model_chat.analysis.items.items` with one measure.
        models: in order; the first eight are drawn.
    """
    aspects = list(dict.fromkeys(items["aspect"]))
    scale = 100.0 if (items["measure"] == "rate").all() else 1.0
    shown = list(models)[:MOST_IN_A_CHART]
    ends = items[["value", "low", "high"]].to_numpy(float) * scale
    known = ends[~pd.isna(ends)]
    margin = 0.05 * (known.max() - known.min()) or 0.5
    drawing = _dots(
        items.rename(columns={"aspect": "row"}),
        {aspect: label(aspect) for aspect in aspects},
        shown,
        (float(known.min() - margin), float(known.max() + margin)),
        scale,
        f"{'percent' if scale > 1 else 'mean'}, with {level} interval",
    )
    return drawing.svg(f"Dot plot of {items['question'].iloc[0]} for {len(shown)} models; the table has the numbers.")


def _dots(
    values: pd.DataFrame,
    rows: dict[str, str],
    models: Sequence[str],
    across: tuple[float, float],
    scale: float,
    title: str,
) -> Drawing:
    """Draw a row for each of ``rows`` (value of the column `row` -> label), with a mark and an interval a model."""
    names = [short(model) for model in models]
    head, left = legend_height(names) + 4, max(map(width_of, rows.values()), default=0.0) + 10
    height = max(11.5 * len(models) + 16, 29.0) * len(rows)
    drawing = Drawing(head + height + _FOOT)
    drawing.legend(names)
    panel = Panel(drawing, left, head, WIDTH - left - 10, height, across, (len(rows) - 0.5, -0.5))
    panel.x_axis(numbers(round_numbers(*across)), title)
    panel.y_axis(dict(enumerate(rows.values())), has_lines=False)
    for boundary in range(1, len(rows)):
        drawing.line(panel.at([(across[0], boundary - 0.5), (across[1], boundary - 0.5)]), GRID)
    for number, model in enumerate(models):
        own = values[values["model_nickname"] == model].set_index("row").reindex(list(rows))
        offset = 0.54 * number / (len(models) - 1) - 0.27 if len(models) > 1 else 0.0
        for row, (value, low, high) in enumerate((own[["value", "low", "high"]].to_numpy(float) * scale).tolist()):
            panel.interval(low, high, row + offset, SERIES[number])
            if math.isfinite(value):
                drawing.dot(panel.x(value), panel.y(row + offset), number)
    return drawing


def rating_bars(ratings: pd.DataFrame, models: Sequence[str], question: str, asked: str) -> str:
    """Distribution of a rating: a panel a model, the same scale in all.

    Args:
        ratings: :func:`model_chat.analysis.tables.ratings`.
        models: in order; the first eight are drawn.
    """
    own = ratings[ratings["question"] == question].set_index("model_nickname")
    shown = list(models)[:MOST_IN_A_CHART]
    columns = min(4, len(shown))
    shares = {}
    for model in shown:
        counts = own.loc[model, [f"rated_{value}" for value in range(1, 6)]].to_numpy(float)
        shares[model] = (counts / max(counts.sum(), 1) * 100).tolist()
    top = max(10.0, *(max(share) for share in shares.values())) * 1.15
    tall, wide, left = 128.0, (WIDTH - 34) / columns, 34.0
    drawing = Drawing(tall * -(-len(shown) // columns))
    for number, model in enumerate(shown):
        row, column = divmod(number, columns)
        panel = Panel(
            drawing, left + column * wide, row * tall + 30, wide - 14, tall - 52, (0.4, 5.6), (0.0, top)
        )  # fmt: skip
        panel.y_axis(
            numbers(round_numbers(0, top, 5), "%") if not column else dict.fromkeys(round_numbers(0, top, 5), "")
        )
        panel.x_axis(numbers(range(1, 6)), has_lines=False)
        for value, share in enumerate(shares[model], 1):
            edges = (value - 0.36, 0), (value - 0.36, share), (value + 0.36, share), (value + 0.36, 0)
            drawing.area(panel.at(edges), SERIES[number])
            drawing.text(panel.x(value), panel.y(share) - 2.5, f"{share:.0f}", "middle", 8)
        mean = own["mean"].to_dict()[model]
        title = f"{short(model, 22)}\nmean {mean:.2f}" if math.isfinite(mean) else short(model, 22)
        drawing.text(panel.left, panel.top - 18, title, size=9)
    return drawing.svg(f"Bar charts of how often each answer to “{asked}” was given, one for each model.")


def turn_curves(
    turns: pd.DataFrame, models: Sequence[str], buckets: Sequence[str], level: str, call: Callable[[str], str]
) -> str:
    """Bucket rate over exchange: a panel a bucket, a line a model with its interval; see :func:`bucket_dots`."""
    shown = list(models)[:MOST_IN_A_CHART]
    names = [short(model) for model in shown]
    columns = min(3, max(len(buckets), 1))
    head, tall, wide = legend_height(names) + 2, 138.0, WIDTH / columns
    drawing = Drawing(head + tall * -(-len(buckets) // columns) + 14)
    drawing.legend(names)
    last = int(turns["exchange"].max())
    for number, bucket in enumerate(buckets):
        here = turns[turns["bucket"] == bucket]
        row, column = divmod(number, columns)
        highest = float(here[["rate", "high"]].max().max()) * 100
        top = min(max(highest * 1.05, 5.0), 102.0)  # a rate of 0 throughout has a scale, too
        panel = Panel(
            drawing, column * wide + 34, head + row * tall + 20, wide - 46, tall - 42, (0.7, last + 0.3), (0.0, top)
        )  # fmt: skip
        panel.y_axis(numbers(round_numbers(0, top), "%"))
        panel.x_axis(numbers(range(1, last + 1, max(1, last // 8))))
        drawing.text(panel.left, panel.top - 6, label(call(bucket), int(wide / 5.4)).split("\n")[0], size=9)
        for i, model in enumerate(shown):
            own = here[here["model_nickname"] == model]
            percent = (own[["rate", "low", "high"]].to_numpy(float) * 100).T.tolist()
            panel.curve(own["exchange"].tolist(), percent, i)
    drawing.text(WIDTH / 2, drawing.height - 3, "exchange", "middle")
    return drawing.svg(f"Lines of {len(buckets)} bucket rates over the exchanges, with {level} intervals, by model.")


def worker_dots(quality: pd.DataFrame) -> str:
    """Workers as dots: how many conversations, and how far their ratings lie from other workers'."""
    known = quality[quality["mean_deviation"].notna()]
    counts, deviations = known["conversations"].tolist(), known["mean_deviation"].tolist()
    margin = 0.05 * (max(deviations) - min(deviations)) or 0.5
    drawing = Drawing(200 + _FOOT)
    across = min(counts) - 0.5, max(counts) + 0.5
    panel = Panel(drawing, 44, 20, WIDTH - 54, 180, across, (min(deviations) - margin, max(deviations) + margin))
    # Whole numbers, one at least, also where all workers have the same count.
    panel.x_axis(numbers(round_numbers(*across, 9, whole=True)), "conversations")
    panel.y_axis(numbers(round_numbers(*panel.upwards)))
    drawing.text(0, LINE, "mean deviation of ratings")
    if panel.upwards[0] < 0 < panel.upwards[1]:
        drawing.line(panel.at([(across[0], 0), (across[1], 0)]), MUTED, 1)
    for count, deviation in zip(counts, deviations, strict=True):
        drawing.dot(panel.x(count), panel.y(deviation), 0, 2.4, opacity=0.65)
    return drawing.svg(
        f"{len(known)} workers by number of conversations and mean deviation of their ratings from other workers'."
    )


def strength_dots(ranking: pd.DataFrame, level: str) -> str:
    """Strengths as dots with intervals, the strongest on top; hollow: controlled for length and format.

    Args:
        ranking: rows of :attr:`model_chat.analysis.preferences.Preferences.ranking`, in order.
    """
    shown = ranking.head(MOST_IN_A_CHART)
    names = [short(model) for model in shown["model_nickname"]]
    ends = shown[[f"{name}{suffix}" for name in ("strength", "low", "high") for suffix in ("", "_controlled")]]
    known = [value for value in ends.to_numpy(float).ravel().tolist() if math.isfinite(value)]
    margin = 0.05 * (max(*known, 0.0) - min(*known, 0.0)) or 0.5
    across = min(*known, 0.0) - margin, max(*known, 0.0) + margin
    left, height = max(map(width_of, names)) + 10, 30.0 * len(names)
    drawing = Drawing(8 + height + _FOOT)
    panel = Panel(drawing, left, 8, WIDTH - left - 10, height, across, (len(names) - 0.5, -0.5))
    panel.x_axis(numbers(round_numbers(*across)), f"strength (log odds), with {level} interval")
    panel.y_axis(dict(enumerate(names)), has_lines=False)
    drawing.line(panel.at([(0, -0.5), (0, len(names) - 0.5)]), MUTED, 1)
    is_controlled = shown["strength_controlled"].notna().any()
    for suffix, shift, filled in (("", -0.12 * is_controlled, True), ("_controlled", 0.16, False)):
        own = shown[[f"{name}{suffix}" for name in ("strength", "low", "high")]].to_numpy(float).tolist()
        for row, (value, low, high) in enumerate(own):
            panel.interval(low, high, row + shift, SERIES[0], 1.6 if filled else 1.0)
            if math.isfinite(value):
                drawing.dot(panel.x(value), panel.y(row + shift), 0, 3, hollow=not filled)
    return drawing.svg(f"Dot plot of the strengths of {len(names)} models; the table has the numbers.")


def win_curves(curves: pd.DataFrame, models: Sequence[str], level: str) -> str:
    """Share of judgements won over exchanges, a line a model with its interval."""
    names = [short(model) for model in models[:MOST_IN_A_CHART]]
    head, last = legend_height(names) + 4, int(curves["turn_idx"].max()) + 1
    drawing = Drawing(head + 150 + _FOOT)
    drawing.legend(names)
    panel = Panel(drawing, 36, head, WIDTH - 46, 150, (0.7, last + 0.3), (0.0, 100.0))
    panel.y_axis(numbers(range(0, 101, 20), "%"))
    panel.x_axis(numbers(range(1, last + 1, max(1, last // 8))), "exchange")
    drawing.line(panel.at([(panel.across[0], 50), (panel.across[1], 50)]), MUTED, 1)
    for number, model in enumerate(models[:MOST_IN_A_CHART]):
        own = curves[curves["model_nickname"] == model]
        percent = (own[["win_rate", "low", "high"]].to_numpy(float) * 100).T.tolist()
        panel.curve((own["turn_idx"] + 1).tolist(), percent, number)
    return drawing.svg(f"Lines of the share of judgements won by exchange, with {level} intervals.")

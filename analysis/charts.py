"""The report's charts: matplotlib drawings as SVG that takes its colours from the page's style sheet.

Matplotlib writes plain hex colours. Each colour drawn here stands for a CSS variable and is replaced by it afterwards,
so that dark mode and print change a chart like the rest of the page. Text stays text: it is scaled, searched and read
aloud by the page's own means. Every chart also comes as a table beside it.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c")
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES)},
}
MARKERS = "osD^vP*X"
"""A shape a model as well as a colour: colour alone tells nothing to some readers, and nothing in a grey print."""
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
}
_WIDTH = 7.4
"""Inches, at 72 points each: about the width of the page's text."""
MOST_IN_A_CHART = len(SERIES)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def make_figure(height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Make a figure as wide as the page's text and ``height`` inches high, with its axes, row by row."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def as_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an inline SVG with a text for those who do not see it.

    Args:
        name: unique in the page; its ids begin with it.
    """
    buffer = io.StringIO()
    canvas: Any = FigureCanvasSVG(figure)  # matplotlib's stubs leave its printing methods out
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser draws the letters, in a font that has them; matplotlib only measures them.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font", UserWarning)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r"(url\(#|href=\"#)", lambda match: f"{match[1]}{name}-", svg)
    svg = svg.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"font: (?:[\w.]+ )*([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    width = re.search(r'width="([\d.]+)pt"', svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    label = _attribute(description)
    style = f'style="max-width: {float(width[1]) / 72:.2f}in"' if width else ""
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{label}" {style}', 1)


def _attribute(text: str) -> str:
    return _visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _visible(text: str) -> str:
    """The text without control characters, which no SVG may contain; white space becomes one space."""
    return _CONTROL.sub("", " ".join(text.split()))


def short(name: str, most: int = 28) -> str:
    """A name that fits an axis: its end tells models apart better than its beginning.

    Dollar signs are escaped, since matplotlib would read text between two of them as mathematics.
    """
    name = _visible(name)
    shown = name if len(name) <= most else "…" + name[-(most - 1) :]
    return shown.replace("$", r"\$")


def label(name: str, width: int = 26) -> str:
    """A sentence or a name on at most two lines, for an axis or a title."""
    return "\n".join(textwrap.wrap(_visible(name), width, max_lines=2, placeholder=" …")).replace("$", r"\$")


def bucket_dots(estimates: pd.DataFrame, models: Sequence[str], level: str, call: Callable[[str], str]) -> str:
    """Dot plot of rates with intervals: a row a bucket, a mark a model.

    Args:
        estimates: :func:`model_chat.analysis.tables.estimates`.
        models: in order; the first eight are drawn.
    """
    rates = estimates[estimates["kind"] == "rate"]
    metrics = list(dict.fromkeys(rates["metric"]))
    shown = list(models)[:MOST_IN_A_CHART]
    with mpl.rc_context(STYLE):
        row = max(0.16 * len(shown) + 0.22, 0.4)
        figure, (axes,) = make_figure(0.9 + row * len(metrics) + 0.2 * ((len(shown) + 1) // 2))
        offsets = np.linspace(-0.27, 0.27, len(shown)) if len(shown) > 1 else np.zeros(1)
        for i, model in enumerate(shown):
            own = rates[rates["model_nickname"] == model].set_index("metric").reindex(metrics)
            value, low, high = (own[name].to_numpy(float) * 100 for name in ("value", "low", "high"))
            at = np.arange(len(metrics)) + offsets[i]
            axes.hlines(at, np.nan_to_num(low, nan=-1), np.nan_to_num(high, nan=-1), color=SERIES[i], linewidth=1.6)
            axes.plot(value, at, MARKERS[i], color=SERIES[i], markersize=5.5, label=short(model), clip_on=False)
        for boundary in np.arange(len(metrics) - 1) + 0.5:
            axes.axhline(boundary, color=GRID, linewidth=0.8)
        axes.set_yticks(range(len(metrics)), [label(call(metric)) for metric in metrics])
        axes.set_ylim(len(metrics) - 0.5, -0.5)
        axes.set_xlim(0, max(5.0, min(100.0, float(np.nanmax(rates["high"].fillna(rates["value"]))) * 105)))
        axes.set_xlabel(f"percent, with {level} interval")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.4)
        return as_svg(
            figure, "rates", f"Dot plot of {len(metrics)} rates for {len(shown)} models; the table has the numbers."
        )


def item_dots(items: pd.DataFrame, models: Sequence[str], level: str, name: str) -> str:
    """Dot plot of one item: a row an aspect, a mark a model, each with its interval.

    Args:
        items: rows of :func:`model_chat.analysis.items.items` with one measure.
        models: in order; the first eight are drawn.
    """
    aspects = list(dict.fromkeys(items["aspect"]))
    scale = 100.0 if (items["measure"] == "rate").all() else 1.0
    shown = list(models)[:MOST_IN_A_CHART]
    with mpl.rc_context(STYLE):
        row = max(0.16 * len(shown) + 0.22, 0.4)
        figure, (axes,) = make_figure(0.9 + row * len(aspects) + 0.2 * ((len(shown) + 1) // 2))
        offsets = np.linspace(-0.27, 0.27, len(shown)) if len(shown) > 1 else np.zeros(1)
        for i, model in enumerate(shown):
            own = items[items["model_nickname"] == model].set_index("aspect").reindex(aspects)
            value, low, high = (own[column].to_numpy(float) * scale for column in ("value", "low", "high"))
            at = np.arange(len(aspects)) + offsets[i]
            known = np.isfinite(low) & np.isfinite(high)
            axes.hlines(at[known], low[known], high[known], color=SERIES[i], linewidth=1.6)
            axes.plot(value, at, MARKERS[i], color=SERIES[i], markersize=5.5, label=short(model), clip_on=False)
        axes.set_yticks(range(len(aspects)), [label(aspect) for aspect in aspects])
        axes.set_ylim(len(aspects) - 0.5, -0.5)
        axes.set_xlabel(f"{'percent' if scale > 1 else 'mean'}, with {level} interval")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.4)
        asked = items["question"].iloc[0]
        return as_svg(figure, name, f"Dot plot of {asked} for {len(shown)} models; the table has the numbers.")


def rating_bars(ratings: pd.DataFrame, models: Sequence[str], question: str, asked: str) -> str:
    """Distribution of a rating: a panel a model, the same scale in all.

    Args:
        ratings: :func:`model_chat.analysis.tables.ratings`.
        models: in order; the first eight are drawn.
    """
    own = ratings[ratings["question"] == question].set_index("model_nickname")
    shown = list(models)[:MOST_IN_A_CHART]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    with mpl.rc_context(STYLE):
        figure, panels = make_figure(1.75 * rows + 0.2, columns, rows)
        shares = {}
        for model in shown:
            counts = own.loc[model, [f"rated_{value}" for value in range(1, 6)]].to_numpy(float)
            shares[model] = counts / max(counts.sum(), 1) * 100
        top = max(10.0, *(share.max() for share in shares.values())) * 1.15
        for i, axes in enumerate(panels):
            if i >= len(shown):
                axes.set_axis_off()
                continue
            model = shown[i]
            axes.bar(range(1, 6), shares[model], color=SERIES[i], width=0.72)
            for value, share in enumerate(shares[model], 1):
                axes.annotate(
                    f"{share:.0f}", (value, share), (0, 2), textcoords="offset points", ha="center", fontsize=8
                )
            mean = own["mean"].to_dict()[model]
            title = f"{short(model, 22)}\nmean {mean:.2f}" if np.isfinite(mean) else short(model, 22)
            axes.set_title(title, fontsize=9, loc="left")
            axes.set_ylim(0, top)
            axes.set_xticks(range(1, 6))
            axes.tick_params(axis="x", length=0)
            axes.grid(visible=False, axis="x")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}%")
            if i % columns:
                axes.set_yticklabels([])
        name = f"ratings-{re.sub(r'[^a-z0-9]', '-', question)}"
        return as_svg(figure, name, f"Bar charts of how often each answer to “{asked}” was given, one for each model.")


def turn_curves(
    turns: pd.DataFrame, models: Sequence[str], buckets: Sequence[str], level: str, call: Callable[[str], str]
) -> str:
    """Bucket rate over exchange: a panel a bucket, a line a model with its interval; see :func:`bucket_dots`."""
    shown = list(models)[:MOST_IN_A_CHART]
    columns = min(3, max(len(buckets), 1))
    rows = -(-len(buckets) // columns)
    with mpl.rc_context(STYLE):
        figure, panels = make_figure(1.9 * rows + 0.3 + 0.2 * ((len(shown) + 1) // 2), columns, rows)
        last = int(turns["exchange"].max())
        for i, axes in enumerate(panels):
            if i >= len(buckets):
                axes.set_axis_off()
                continue
            here = turns[turns["bucket"] == buckets[i]]
            for j, model in enumerate(shown):
                own = here[here["model_nickname"] == model]
                axes.fill_between(
                    own["exchange"], own["low"] * 100, own["high"] * 100, color=SERIES[j], alpha=0.14, linewidth=0
                )
                axes.plot(
                    own["exchange"],
                    own["rate"] * 100,
                    color=SERIES[j],
                    marker=MARKERS[j],
                    markersize=4,
                    linewidth=1.5,
                    label=short(model) if i == 0 else "_",
                )
            axes.set_title(label(call(buckets[i]), 34), fontsize=9, loc="left")
            highest = here[["rate", "high"]].max().max() * 100
            axes.set_ylim(0, min(max(highest * 1.05, 5.0), 102.0))  # a rate of 0 throughout has a scale, too
            axes.set_xlim(0.7, last + 0.3)
            axes.set_xticks(range(1, last + 1, max(1, last // 8)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}%")
        figure.supxlabel("exchange", fontsize=10, color=INK)
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.4)
        return as_svg(
            figure,
            "turns",
            f"Lines of {len(buckets)} bucket rates over the exchanges, with {level} intervals, by model.",
        )


def worker_dots(quality: pd.DataFrame) -> str:
    """Workers as dots: how many conversations, and how far their ratings lie from other workers'."""
    known = quality[quality["mean_deviation"].notna()]
    with mpl.rc_context(STYLE):
        figure, (axes,) = make_figure(2.9)
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.scatter(known["conversations"], known["mean_deviation"], s=22, color=SERIES[0], alpha=0.65, linewidths=0)
        axes.set_xlabel("conversations")
        axes.set_ylabel("mean deviation of ratings")
        # A whole number at each end and one at least in between, also where all workers have the same count.
        axes.set_xlim(known["conversations"].min() - 0.5, known["conversations"].max() + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return as_svg(
            figure,
            "workers",
            f"{len(known)} workers by number of conversations and mean deviation of their ratings from other workers'.",
        )

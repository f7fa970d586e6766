"""Console output of the analysis: rich tables in a terminal, plain aligned text everywhere else."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich import box, markup
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model_chat.analysis.arrays import rating_columns
from model_chat.analysis.remarks import remarks
from model_chat.analysis.summary import Summary, records
from model_chat.analysis.tables import CLEAN_FIELDS

_MODELS_ACROSS = 4
_ROWS_SHOWN = 10
_PLAIN_WIDTH = 10_000
"""Columns a line of plain text may have: it goes to files and pipes, where cutting would lose numbers."""
_SMALLEST_P = 0.001
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), " ")

Row = Sequence[str]


def console() -> Console:
    """Where the command prints: as wide as the terminal, or without colour, frames and wrapping."""
    shown = Console(highlight=False, emoji=False)
    return shown if shown.is_terminal else Console(highlight=False, emoji=False, width=_PLAIN_WIDTH, no_color=True)


@contextlib.contextmanager
def reading_progress() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar while conversations are read; None where nobody watches (no terminal)."""
    watched = Console(stderr=True, emoji=False)
    if not watched.is_terminal:
        yield None
        return
    with Progress(console=watched, transient=True) as bar:
        task = bar.add_task("Reading conversations", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if done >= total:
                bar.update(task, description="Computing", total=None)

        yield show


def escape(text: str) -> str:
    """A text as it is, on one line: names and ids hold what people have typed, terminal sequences and markup too."""
    return markup.escape(text.translate(_CONTROLS))


_GENERATION_COLUMNS = {
    "model_nickname": "model",
    "replies": "replies",
    "seconds_median": "seconds",
    "seconds_p95": "p95",
    "first_token_median": "first token",
    "completion_tokens": "tokens",
    "retries": "retries",
    "failures": "failures",
    "cost_usd": "US dollars",
}
_RANKING_COLUMNS = {
    "model_nickname": "model",
    "strength": "strength",
    "low": "low",
    "high": "high",
    "rank_low": "best rank",
    "rank_high": "worst rank",
    "judgements": "judgements",
    "workers": "workers",
}
_EFFECT_COLUMNS = {
    "factor": "factor",
    "metric": "metric",
    "level_a": "level",
    "level_b": "less level",
    "value": "difference",
    "low": "low",
    "high": "high",
    "p": "p",
    "workers": "workers",
}
_SIGNAL_COLUMNS = {
    "worker_id": "worker",
    "messages": "messages",
    "pasted_share": "pasted share",
    "times_away_per_message": "times away a message",
    "keys_per_character": "keys a character",
    "above": "above",
}
_JUDGE_COLUMNS = {
    "judge": "judge",
    "judged": "judged",
    "judgments": "pairs",
    "raw": "agreement",
    "kappa": "kappa",
    "alpha": "alpha",
    "person_alpha": "alpha of people",
    "judge_rate": "judge's rate or mean",
    "person_rate": "people's rate or mean",
}


def print_summary(summary: Summary, files: Mapping[str, Path]) -> None:
    """Print everything a person wants to see at once."""
    out = console()
    corpus = summary.data.corpus
    kept = corpus.conversations.num_rows
    out.print(
        f"{corpus.sources:,} conversations found, {kept:,} counted, {len(corpus.excluded):,} left out.",
        style="bold" if out.is_terminal else "",
    )
    if corpus.excluded:
        rows = [[reason, f"{count:,}"] for reason, count in corpus.excluded_by_reason.items()]
        print_table(out, "Left out", ["reason", "conversations"], rows)
    names = list(summary.models["model_nickname"]) if kept else []
    for start in range(0, len(names), _MODELS_ACROSS):
        here = names[start : start + _MODELS_ACROSS]
        print_table(out, "Per model", ["", *here], model_rows(summary, here))
    if len(summary.generations):
        print_frame(out, "How replies were made", summary.generations, _GENERATION_COLUMNS)
    for start in range(0, len(names) if len(summary.items) else 0, _MODELS_ACROSS):
        here = names[start : start + _MODELS_ACROSS]
        print_table(out, "Questions of the study", ["item", "", *here], item_rows(summary, here))
    if len(summary.comparisons):
        differences = comparison_rows(summary)
        print_table(out, "Differences between models", _COMPARISON_HEAD, differences[:_ROWS_SHOWN])
        left = len(differences) - _ROWS_SHOWN
        if left > 0:
            out.print(f"… and {left} more in the file.")
        out.print(WHICH_P)
    if summary.conditions is not None:
        print_frame(out, "Main effects of the conditions", summary.conditions.effects, _EFFECT_COLUMNS)
    compared = summary.preferences
    if compared is not None and len(compared.ranking):
        print_frame(out, "Ranking of compared replies", compared.ranking, _RANKING_COLUMNS)
    workers = summary.workers
    if summary.settings.as_original:
        workers = workers[~workers["worker_id"].isin(summary.settings.worker_block_list)]
    if len(workers):
        print_frame(out, "Workers, most problems first", workers.head(_ROWS_SHOWN))
        left = len(workers) - _ROWS_SHOWN
        if left > 0:
            out.print(f"… and {left} more in the file.")
    signals = summary.authenticity
    if signals is not None:
        above = signals.workers[signals.workers["above"] != ""].head(_ROWS_SHOWN)
        print_frame(out, "Workers above a threshold of authenticity signals", above, _SIGNAL_COLUMNS)
    judges = summary.judges
    if judges is not None:
        overall = judges.table[judges.table["by"] == "all"]
        print_frame(out, "Judges beside people", overall, _JUDGE_COLUMNS)
    for sentence in [*remarks(summary), *(judges.remarks if judges is not None else [])]:
        out.print(f"Note: {escape(sentence)}")
    for name, path in files.items():
        out.print(f"{name}: {escape(str(path))}")


def model_rows(summary: Summary, models: Sequence[str]) -> list[list[str]]:
    """The per-model statistics, a row a quantity, a column a model."""
    frame = summary.models.set_index("model_nickname").loc[list(models)]
    rows: list[list[str]] = []
    printed: set[str | None] = set()

    def add(label: str, column: str, share: str | None = None) -> None:
        cells = [_cell(value) for value in frame[column].tolist()]
        if share:
            shares = frame[share].tolist()
            cells = [f"{cell} ({_percent(value)})" for cell, value in zip(cells, shares, strict=True)]
        printed.update({column, share})
        rows.append([label, *cells])

    add("conversations", "conversations")
    if "annotations" in frame.columns:
        add("annotations of them", "annotations")
    add("workers", "workers")
    for bucket in summary.settings.problem_buckets:
        add(bucket, bucket, f"{bucket}_share")
    if summary.settings.annotated:
        add("clean conversations", *CLEAN_FIELDS)
    add("model utterances (total)", "model_utterances")
    if summary.settings.annotated:
        add("annotated utterances", "annotated_utterances")
    add("human utterances", "human_utterances")
    add("human words", "human_words")
    add("words per utterance", "words_per_utterance")
    add("human questions", "human_questions")
    add("questions per utterance", "questions_per_utterance")
    for rating in rating_columns(summary.data.ratings.shape[1]):
        add(f"{rating}: mean", f"{rating}_mean")
        add(f"{rating}: ratings", f"{rating}_count")
    for own in frame.columns:  # what a subclass has added
        if own not in printed:
            add(str(own), str(own))
    return rows


def item_rows(summary: Summary, models: Sequence[str]) -> list[list[str]]:
    """The items of the study flow, a row an aspect, a column a model; the mean or the share, with its interval."""
    rows = []
    for (_, item, aspect, measure), own in summary.items.groupby(["page", "item", "aspect", "measure"], sort=False):
        show = _percent if measure == "rate" else _cell
        cells = []
        for row in records(own.set_index("model_nickname").reindex(list(models))):
            interval = f" ({show(row.low)} to {show(row.high)})" if math.isfinite(row.low) else ""
            cells.append(f"{show(row.value)}{interval}")
        rows.append([str(item), str(aspect), *cells])
    return rows


WHICH_P = (
    "Interval and p: one test of each difference by itself. p (Holm): corrected over all pairs of models on a metric, so it "
    "can be large beside an interval without 0."
)
_COMPARISON_HEAD = ("metric", "models", "difference", "interval", "p", "p (Holm)", "effect size")


def comparison_rows(summary: Summary) -> list[list[str]]:
    """Differences that could be computed, a row a metric and pair."""
    rows = []
    for row in records(summary.comparisons):
        if not math.isfinite(row.difference):
            continue  # nothing was annotated or rated on one side
        show = _percent if row.kind == "rate" else _cell
        rows.append(
            [
                row.metric,
                f"{row.model_a} - {row.model_b}",
                show(row.difference),
                f"{show(row.low)} to {show(row.high)}" if math.isfinite(row.low) else "–",
                p_text(row.p),
                p_text(row.p_holm),
                _cell(row.effect_size),
            ]
        )
    return rows


def p_text(value: float) -> str:
    """A p value with three decimals, or as below 0.001."""
    if not math.isfinite(value):
        return "–"
    return "<0.001" if value < _SMALLEST_P else f"{value:.3f}"


def _percent(value: object) -> str:
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        return "–"
    return f"{float(value):z.1%}"


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is pd.NA or not isinstance(value, numbers.Real) or not math.isfinite(value):
        return "–"
    number = float(value)
    return f"{number:,.0f}" if isinstance(value, numbers.Integral) else f"{number:z,.2f}"


def print_frame(out: Console, title: str, frame: pd.DataFrame, headings: Mapping[str, str] | None = None) -> None:
    """Print columns of a frame, each under its heading; None: all, under their own names."""
    shown = frame if headings is None else frame[list(headings)].rename(columns=headings)
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False, name=None)]
    print_table(out, title, list(shown.columns), rows)


def print_table(out: Console, title: str, columns: Row, rows: Sequence[Row]) -> None:
    """Print a table; its first column is text, the others are numbers."""
    if not out.is_terminal:
        out.print(f"\n{escape(title)}")
        widths = [max(len(str(row[i])) for row in (columns, *rows)) for i in range(len(columns))]
        for row in (columns, *rows):
            cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
            out.print(escape("  ".join(cells).rstrip()))
        out.print()
        return
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)

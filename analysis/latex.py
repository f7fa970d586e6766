"""Tables to paste into a paper: LaTeX with booktabs, every text escaped."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Sequence
from pathlib import Path

from model_chat.analysis.summary import Summary, records
from model_chat.records.writing import whole_file

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # at the beginning of a row it would be an option of the command before it, and so would a star
        "*": "{*}",
        **dict.fromkeys(map(chr, (*range(32), 127)), " "),
    }
)
_SMALLEST_P = 0.001


def escape(text: str) -> str:
    """``text`` so that LaTeX prints it as it is."""
    return re.sub("-(?=-)", "-{}", text.translate(_ESCAPES))  # two hyphens would be printed as a dash


def number(value: object, digits: int = 2) -> str:
    """A number with that many decimals and a real minus; a dash where there is none."""
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        return "--"
    if isinstance(value, numbers.Integral):
        return str(value)
    shown = f"{float(value):z.{digits}f}"
    return f"${shown}$" if shown.startswith("-") else shown


def p_value(value: float) -> str:
    """A p value as journals want it: three decimals, or below 0.001."""
    if not math.isfinite(value):
        return "--"
    return r"$<0.001$" if value < _SMALLEST_P else f"{value:.3f}"


def with_interval(value: float, low: float, high: float, scale: float = 1.0, digits: int = 2) -> str:
    """`value [low, high]`."""
    if not math.isfinite(value):
        return "--"
    point = number(value * scale, digits)
    if not (math.isfinite(low) and math.isfinite(high)):
        return point
    return f"{point} [{number(low * scale, digits)}, {number(high * scale, digits)}]"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str, label: str, source: str) -> str:
    """A floating table; cells are LaTeX already, columns and caption are plain text."""
    heads = " & ".join(escape(column) for column in columns)
    layout = "l" + "r" * (len(columns) - 1)
    body = "\n".join("    " + " & ".join(row) + r" \\" for row in rows)
    return (
        f"% From {source}. Needs \\usepackage{{booktabs}}.\n"
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{escape(caption)}}}\n  \\label{{tab:{label}}}\n"
        f"  \\begin{{tabular}}{{{layout}}}\n    \\toprule\n    {heads} \\\\\n    \\midrule\n"
        f"{body}\n    \\bottomrule\n  \\end{{tabular}}\n\\end{{table}}\n"
    )


def write_tables(folder: Path, summary: Summary, source: str) -> list[Path]:
    """Write the tables as `models.tex`, `buckets.tex` and so on, as far as there is data.

    Args:
        folder: made when missing; tables of an earlier run are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    level, clusters = f"{summary.settings.confidence:.0%}", summary.units.clustered_by
    texts: dict[str, str | None] = {"models": _models(summary, source)}

    def add(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str, label: str = "") -> None:
        texts[name] = table(heads, rows, caption, label or name, source) if rows else None

    rates = summary.estimates[summary.estimates["kind"] == "rate"]
    metrics = list(dict.fromkeys(rates["metric"]))
    rows = []
    for name, own in rates.groupby("model_nickname", sort=False):
        cells = {row.metric: with_interval(row.value, row.low, row.high, 100, 1) for row in records(own)}
        rows.append([escape(str(name)), *(cells.get(metric, "--") for metric in metrics)])
    about = f"Rates in percent with {level} intervals (Korn-Graubard, clustered by {clusters})."
    add("buckets", ["Model", *metrics], rows, about, "bucket-rates")
    rows = [
        [
            escape(row.model_nickname),
            escape(row.question),
            str(row.ratings),
            with_interval(row.mean, row.low, row.high),
            with_interval(row.z_mean, row.z_low, row.z_high),
        ]
        for row in records(summary.ratings)
    ]
    about = f"Final ratings (1 to 5) with {level} intervals clustered by {clusters}."
    add("ratings", ["Model", "Question", "Ratings", "Mean", "Standardised per worker"], rows, about)
    rows = [
        [
            escape(row.metric),
            f"{escape(row.model_a)} -- {escape(row.model_b)}",
            with_interval(row.difference, row.low, row.high, 100 if row.kind == "rate" else 1, 2),
            p_value(row.p),
            p_value(row.p_holm),
            number(row.effect_size),
        ]
        for row in records(summary.comparisons)
    ]
    about = (
        f"Differences (rates: percentage points) with {level} intervals; p and interval from one test (by permutation, "
        "for large data clustered t), p (Holm) corrected over all pairs of models on a metric; effect size: Cohen's h "
        "(rates), Hedges' g (ratings)."
    )
    add("comparisons", ["Metric", "Models", "Difference", "p", "p (Holm)", "Effect size"], rows, about)
    rows = [
        [
            escape(row.judged),
            str(row.items),
            str(row.judgments),
            number(row.raw),
            number(row.nominal) if math.isfinite(row.ordinal) else with_interval(row.nominal, row.low, row.high),
            with_interval(row.ordinal, row.low, row.high) if math.isfinite(row.ordinal) else number(row.ordinal),
            number(row.interval),
        ]
        for row in records(summary.agreement[summary.agreement["items"] > 0])
    ]
    about = "Agreement where items were judged more than once: raw, and Krippendorff's alpha."
    add("agreement", ["Judged", "Items", "Judgments", "Raw", "Nominal", "Ordinal", "Interval"], rows, about)
    rows = [
        [
            escape(row.item),
            escape(row.aspect),
            escape(row.model_nickname),
            with_interval(row.value, row.low, row.high, *((100, 1) if row.measure == "rate" else (1, 2))),
            str(row.answers),
        ]
        for row in records(summary.items)
    ]
    about = f"Questions of the study (shares in percent) with {level} intervals clustered by {clusters}."
    add("items", ["Item", "Aspect", "Model", "Value", "Answers"], rows, about)
    written = []
    for name, text in texts.items():
        path = folder / f"{name}.tex"
        if text is None:
            path.unlink(missing_ok=True)  # an earlier run's table would not belong to these numbers
            continue
        with whole_file(path, private=False) as file:
            file.write(text.encode())
        written.append(path)
    return written


def _models(summary: Summary, source: str) -> str:
    frame = summary.models
    columns = ["Model", "Conversations", "Workers", "Model messages", "Words a message"]
    names = ["conversations", "workers", "model_utterances", "words_per_utterance"]
    if summary.settings.annotated:
        columns.append("Clean (%)")
    rows = []
    for row in frame.to_dict("records"):
        cells = [escape(str(row["model_nickname"])), *(number(row[name]) for name in names)]
        if summary.settings.annotated:
            cells.append(number(row["clean_share"] * 100, 1))
        rows.append(cells)
    return table(columns, rows, "Conversations collected per model.", "models", source)

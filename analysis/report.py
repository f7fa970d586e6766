"""The HTML report: one file that needs no network, readable in light, dark, on paper and by a screen reader."""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from model_chat.analysis import charts
from model_chat.analysis.arrays import CLEAN, Data
from model_chat.analysis.authenticity_report import authenticity_content
from model_chat.analysis.chunks import CONTEXT_TURN
from model_chat.analysis.collect import Corpus
from model_chat.analysis.conditions import condition_content
from model_chat.analysis.console import p_text
from model_chat.analysis.exclusions import ExclusionReason
from model_chat.analysis.parts import WHOLE
from model_chat.analysis.preference_report import preference_content, preferences_title
from model_chat.analysis.remarks import remarks
from model_chat.analysis.settings import NO_LIMIT
from model_chat.analysis.summary import Summary, records
from model_chat.configuration.comparison import SIDES
from model_chat.records.schema import NONE_ALL_GOOD
from model_chat.records.writing import whole_file

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_ROWS_SHOWN = 25
"""Rows of the worker and exclusion tables; the files have all."""
_CONVENTIONAL_LEVEL = 0.05

REASONS: Mapping[ExclusionReason, str] = {
    ExclusionReason.BEFORE_START_DATE: "collected before the start date",
    ExclusionReason.OTHER_RUN_TYPE: "of the other run type (live or sandbox)",
    ExclusionReason.MEPHISTO_STATUS: "not completed or approved, by Mephisto's status",
    ExclusionReason.UNREADABLE: "file could not be opened",
    ExclusionReason.MALFORMED: "malformed",
    ExclusionReason.NO_CONVERSATION: "no conversation in the record",
    ExclusionReason.INCOMPLETE: "incomplete (cut off)",
    ExclusionReason.BLOCKED_HIT: "HIT is on the block list",
    ExclusionReason.BLOCKED_WORKER: "worker is on the block list",
    ExclusionReason.OWN_RULE: "own rule",
    ExclusionReason.ACCEPTABILITY: "failed an acceptability check",
    ExclusionReason.SIMULATED: "played by a model",
    ExclusionReason.TOO_SHORT: "human messages too short",
    ExclusionReason.UNIFORM_LABELS: "all messages labelled alike",
    ExclusionReason.TOO_FAST: "answered too fast",
    ExclusionReason.DUPLICATE: "saved twice (counted once)",
    ExclusionReason.OVER_WORKER_LIMIT: "over the limit per worker",
}


def write_report(path: Path, summary: Summary, files: Mapping[str, Path]) -> None:
    """Write the report."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "number": _number,
        "p": p_text,
        "interval": _interval,
        "breakable": _breakable,
        "called": summary.data.names.metric,
    }
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content = environment.get_template("report.html.j2").render(
        **_content(summary, files),
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=digest,
    )
    with whole_file(path, private=False) as file:
        file.write(content.encode("utf-8", "replace"))


def _content(summary: Summary, files: Mapping[str, Path]) -> dict[str, Any]:
    data, settings = summary.data, summary.settings
    corpus = data.corpus
    level = f"{settings.confidence:.0%}"
    models = [*_named(data, pairs=False), *_named(data, pairs=True)]
    buckets = list(settings.problem_buckets)
    conversations = browsable(summary)
    matrices = _matrices(summary, models)
    days = [day for day in corpus.conversations["day"].to_pylist() if day is not None]
    return {
        "made": f"{datetime.datetime.now():%d %B %Y, %H:%M}".lstrip("0"),
        "title": settings.task_name or data.names.title(_folder_names(settings.results_folders)),
        "level": level,
        "units": int(summary.units.is_conversation.sum()),
        "clustered_by": summary.units.clustered_by,
        "settings": settings,
        "models": models,
        "shown_models": [model for model in models if model in set(summary.models["model_nickname"])],
        "has_pair_rows": any(name in set(summary.models["model_nickname"]) for name in _named(data, pairs=True)),
        "model_count": len(_named(data, pairs=False)),
        "buckets": buckets,
        "found": corpus.sources,
        "counted": corpus.conversations.num_rows,
        "excluded": len(corpus.excluded),
        "reasons": [
            (REASONS[ExclusionReason(reason)], reason, count) for reason, count in corpus.excluded_by_reason.items()
        ],
        "excluded_file": files["excluded"].name if "excluded" in files else None,
        "workers": len(data.workers),
        "utterances": int(data.column("human_utterances").sum() + data.column("model_utterances").sum()),
        "first_day": min(days) if days else None,
        "last_day": max(days) if days else None,
        "remarks": remarks(summary),
        "model_table": summary.models.to_dict("records"),
        "estimates": _by_model(summary.estimates),
        "metrics": [metric.name for metric in data.metrics],
        "kinds": {metric.name: metric.kind for metric in data.metrics},
        "generations": summary.generations.astype(object).where(summary.generations.notna(), None).to_dict("records"),
        "ratings": summary.ratings.to_dict("records"),
        "rating_names": data.rating_names if data.ratings.shape[1] else [],
        "matrices": matrices,
        "comparisons": summary.comparisons.to_dict("records"),
        "families": sorted({matrix["pairs"] for matrix in matrices}),
        "divided": len(summary.adjudication),
        "agreement": [
            {**row, "is_ordered": row["kind"] == "rating" or math.isfinite(row["ordinal"])}
            for row in summary.agreement.to_dict("records")
            if row["items"] > 0
        ],
        "judges": [] if summary.judges is None else summary.judges.table.to_dict("records"),
        "judge_remarks": [] if summary.judges is None else summary.judges.remarks,
        "worker_rows": _worker_rows(summary),
        "more_workers": max(0, len(summary.workers) - _ROWS_SHOWN),
        "authenticity": authenticity_content(summary),
        "preferences": preference_content(summary.preferences, level),
        "preferences_title": preferences_title(summary.preferences),
        "conditions": condition_content(summary.conditions),
        "mixed": summary.mixed[summary.mixed["about"] == "difference"].to_dict("records"),
        "sequential": [] if summary.sequential is None else summary.sequential.to_dict("records"),
        "charts": _charts(summary, models, buckets, level),
        "answers": _answer_section(summary, level),
        "turns": summary.turns.to_dict("records"),
        "conversations": len(conversations),
        "conversation_data": _embedded(
            {
                "buckets": [{"key": bucket, "name": data.names.metric(bucket)} for bucket in buckets],
                "good": NONE_ALL_GOOD,
                "conversations": conversations,
            }
        ),
        "named": [bucket for bucket in buckets if bucket in data.names.buckets],
        "smallest_p": 1 / (settings.permutations + 1),
        "methods": sorted(set(summary.comparisons["test"])),
        "browse_models": sorted({model for entry in conversations for model in entry["models"]}),
        "browse_workers": sorted({entry["worker"] for entry in conversations}),
        "files": {name: path.name for name, path in files.items() if name != "report"},
    }


def _named(data: Data, pairs: bool) -> list[str]:
    """The models, or the pairs of models whose replies were compared."""
    return [name for name, is_pair in zip(data.models, data.is_pair, strict=True) if is_pair == pairs]


def _with_rows(models: Sequence[str], table: pd.DataFrame) -> list[str]:
    """Those of the models that a table has rows of."""
    known = set(table["model_nickname"])
    return [model for model in models if model in known]


def _answer_section(summary: Summary, level: str) -> dict[str, Any] | None:
    if not summary.data.corpus.answers:
        return None
    from model_chat.analysis.answer_report import answer_section  # as in the summary

    return answer_section(summary, level)


def _folder_names(folders: Sequence[str]) -> str:
    """What the folders are called, `.` and `..` too."""
    return ", ".join(Path(folder).resolve().name or folder for folder in folders)


def _charts(summary: Summary, models: Sequence[str], buckets: Sequence[str], level: str) -> dict[str, Any]:
    drawn: dict[str, Any] = {"rates": None, "ratings": {}, "turns": None, "workers": None}
    if not models:
        return drawn
    estimates, call = summary.estimates, summary.data.names.metric
    rates = estimates[estimates["kind"] == "rate"]
    if len(rates) and estimates["value"].notna().any():
        drawn["rates"] = Markup(charts.bucket_dots(rates, _with_rows(models, rates), level, call))
    for question in summary.data.rating_names if len(summary.ratings) else []:
        rated = _with_rows(models, summary.ratings[summary.ratings["question"] == question])
        drawn["ratings"][question] = Markup(charts.rating_bars(summary.ratings, rated, question, call(question)))
    if len(summary.turns):
        drawn["turns"] = Markup(
            charts.turn_curves(summary.turns, _with_rows(models, summary.turns), buckets, level, call)
        )
    if summary.quality["mean_deviation"].notna().sum() > 1:
        drawn["workers"] = Markup(charts.worker_dots(summary.quality))
    return drawn


def _by_model(estimates: pd.DataFrame) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in records(estimates):
        found.setdefault(row.model_nickname, {})[row.metric] = row
    return found


def _matrices(summary: Summary, models: Sequence[str]) -> list[dict[str, Any]]:
    """For each metric a square of differences, row less column."""
    matrices = []
    # The outcomes of a whole conversation first: they are what most readers come for.
    order = sorted(summary.data.metrics, key=lambda metric: (metric.kind != "rating", metric.name != CLEAN))
    for metric in order:
        own = summary.comparisons[summary.comparisons["metric"] == metric.name]
        cells: dict[tuple[str, str], dict[str, Any]] = {}
        for row in records(own):
            found = bool(row.p_holm < _CONVENTIONAL_LEVEL)
            cells[row.model_a, row.model_b] = {"difference": row.difference, "p": row.p_holm, "found": found}
            cells[row.model_b, row.model_a] = {"difference": -row.difference, "p": row.p_holm, "found": found}
        if cells:
            shown = [model for model in models if any(model in pair for pair in cells)]
            rows = [(a, [cells.get((a, b)) for b in shown]) for a in shown]
            facts = {"metric": metric.name, "kind": metric.kind, "models": shown, "pairs": len(cells) // 2}
            matrices.append({**facts, "rows": rows})
    return matrices


def _worker_rows(summary: Summary) -> list[dict[str, Any]]:
    both = summary.workers.merge(summary.quality.drop(columns="conversations"), on="worker_id")
    return [
        dict(zip(both.columns, row, strict=True)) for row in both.head(_ROWS_SHOWN).itertuples(index=False, name=None)
    ]


def browsable(summary: Summary) -> list[dict[str, Any]]:
    """The conversations to browse: all, or a seeded sample of `--report-conversations`.

    Returns:
        Plain data: `idx`, `model`, `models` (what it can be found by), `worker`, `hit`, `ratings`, `context`, `turns` with
        `agent`, `text`, `ticks` (numbers of ticked buckets, or null where nothing was annotated) and, where models were
        compared, `model` (whose reply or chat it is), `chat` (0 or 1, of two chats) and `compared`; judgements of whole
        conversations are in the conversation's own `compared`.
    """
    corpus, settings = summary.data.corpus, summary.settings
    count = corpus.conversations.num_rows
    most = settings.report_conversations
    if most == NO_LIMIT or most >= count:
        chosen = np.arange(count)
    else:
        chosen = np.sort(np.random.default_rng(settings.seed).choice(count, most, replace=False))
    wanted = set(chosen.tolist())
    table = corpus.conversations.take(chosen) if count else corpus.conversations
    entries: dict[int, dict[str, Any]] = {}
    for number, row in zip(chosen.tolist(), table.to_pylist(), strict=True):
        entries[number] = {
            "idx": number,
            "model": row["model_nickname"],
            "models": [row["model_nickname"]],
            "worker": row["worker_id"],
            "hit": row["hit_id"],
            "ratings": row["ratings"],
            "context": "",
            "turns": [],
        }
    compared = _comparisons(corpus, wanted, settings.problem_buckets)
    parts: dict[int, list[dict[str, Any]]] = {}
    for row in _of_wanted(corpus.parts, wanted):
        own = parts.setdefault(row["conversation"], [])
        own.append({"model": row["model_nickname"]} | ({"chat": len(own)} if row["is_chat"] else {}))
    for number, own in parts.items():
        entries[number]["models"] = list(dict.fromkeys([entries[number]["model"], *(part["model"] for part in own)]))
    if not wanted:
        return []
    mask = np.zeros(count, dtype=bool)
    mask[chosen] = True
    for batch in corpus.utterances():
        here = mask[batch["conversation"].to_numpy()]
        if not here.any():
            continue
        for row in batch.filter(here).to_pylist():
            entry = entries[row["conversation"]]
            if row["turn_idx"] == CONTEXT_TURN:
                entry["context"] = row["text"]
                continue
            ticks = None
            values = [row[bucket] for bucket in settings.problem_buckets]
            if values and values[0] is not None:
                ticks = [i for i, value in enumerate(values) if value]
            turn = {"agent": row["agent_idx"], "text": row["text"], "ticks": ticks}
            if row["part"] != WHOLE:
                turn |= parts[row["conversation"]][row["part"]]
            waiting = compared.get(row["conversation"], [])
            judged = next((one for one in waiting if one["utterance"] == row["turn_idx"]), None)
            if judged is not None and judged[judged["continued"] or "left"]["text"] == row["text"]:
                waiting.remove(judged)
                turn["compared"] = judged
            entry["turns"].append(turn)
    for number, rest in compared.items():
        entries[number]["compared"] = rest  # those of whole conversations, and those whose reply was not found
    return list(entries.values())


def _comparisons(corpus: Corpus, wanted: set[int], buckets: Sequence[str]) -> dict[int, list[dict[str, Any]]]:
    """The judgements of two replies in the conversations to browse, in order, as plain data."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in _of_wanted(corpus.judgements, wanted):
        found.setdefault(row["conversation"], []).append(
            {
                "utterance": row["utterance_idx"],
                "question": row["question"],
                **{
                    side: {
                        "model": row[side],
                        "text": row[f"{side}_text"],
                        "ticks": [i for i, bucket in enumerate(buckets) if bucket in (row[f"{side}_ticked"] or ())],
                    }
                    for side in SIDES
                },
                "pick": row["pick"],
                "strength": row["strength"],
                "reason": row["reason"],
                "continued": row["continued_with"],
            }
        )
    return found


def _of_wanted(table: pa.Table, wanted: set[int]) -> list[dict[str, Any]]:
    """The rows of the conversations to browse; most tables have many more."""
    rows: list[dict[str, Any]] = table.filter(
        pc.is_in(table["conversation"], pa.array(sorted(wanted), pa.int32()))
    ).to_pylist()
    return rows


def _embedded(content: object) -> Markup:
    """JSON that can stand inside a script element: it cannot end the element or begin a comment."""
    text = orjson.dumps(content).decode()
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(safe.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _percent(value: object, digits: int = 1) -> str:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return _minus(f"{value * 100:z.{digits}f}%")


def _number(value: object, digits: int = 2) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int | np.integer):
        return _minus(f"{int(value):,}")
    return _minus(f"{value:z,.{digits}f}") if isinstance(value, float) else str(value)


def _interval(row: Any, kind: str) -> str:
    """`[low, high]`, or nothing where there is none."""
    low, high = (row["low"], row["high"]) if isinstance(row, dict) else (row.low, row.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if kind == "rate":
        return _minus(f"[{low * 100:z.1f}, {high * 100:z.1f}]")
    return _minus(f"[{low:z.2f}, {high:z.2f}]")


def _breakable(name: str) -> Markup:
    """A name that may be broken after its slashes, underscores and dashes."""
    parts = re.split(r"(?<=[/_.-])", name)
    return Markup("<wbr>").join(escape(part) for part in parts)


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")

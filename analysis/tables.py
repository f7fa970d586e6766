"""The tables of the analysis, one function each."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from model_chat.analysis.agreement import agreement as agreement_of
from model_chat.analysis.agreement import count_judgments
from model_chat.analysis.alpha_interval import alpha_interval
from model_chat.analysis.arrays import RATING_BOUNDS, Data, Metric
from model_chat.analysis.by_conversation import ByConversation
from model_chat.analysis.comparison import cliffs_delta, cohens_h, difference, hedges_g, holm, power_to_compare
from model_chat.analysis.estimates import Estimate, Floats, bootstrap, cluster_sums, mean, rate, standardise_per_worker
from model_chat.analysis.frames import columns
from model_chat.analysis.permutation import compare_models
from model_chat.analysis.settings import Settings
from model_chat.analysis.worker_quality import worker_quality

CLEAN_FIELDS = ("clean_conversations", "clean_share")
LARGEST_DIFFERENCE = {"rate": 1.0, "rating": RATING_BOUNDS[1] - RATING_BOUNDS[0]}
"""Between two models, by a metric's kind."""
_RATING_VALUES = (1, 2, 3, 4, 5)
_MOST_EXCHANGES = 50
"""Exchanges that the by-turn table follows; beyond, there are hardly ever enough conversations left for a curve."""


def _or_none(count: float, is_known: bool) -> object:
    return count if is_known else pd.NA


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def models(units: ByConversation) -> pd.DataFrame:
    """A row a model: the counts, shares and means that are printed.

    Where replies were compared there is a row of each pair, too, after those of the models: what belongs to no single model
    (the worker's messages, the final ratings, clean conversations) is there, and empty in the models' own rows if they never
    talked alone.

    Where finished conversations were annotated, `annotations` says how many records these are, and counts of buckets and of
    clean conversations are sums of the shares of those who annotated, which need not be whole.
    """
    data = units.data
    words, questions = data.column("human_words"), data.column("human_questions")
    human, model_messages = data.column("human_utterances"), data.column("model_utterances")
    rows = []
    for number, name in sorted(enumerate(data.models), key=lambda entry: bool(data.is_pair[entry[0]])):
        own, here = (data.model == number) & data.is_talk, (units.model == number) & units.is_talk
        if not own.any():  # a pair whose whole chats were compared
            continue
        row: dict[str, object] = {"model_nickname": name, "conversations": int(here.sum())}
        if units.merges:
            row["annotations"] = int((own & data.is_annotation).sum())
        row |= {
            "workers": len(np.unique(data.worker[own])),
            "model_utterances": _or_none(int(model_messages[units.row[here]].sum()), not data.is_pair[number]),
            "annotated_utterances": _or_none(int(units.annotated[here].sum()), not data.is_pair[number]),
        }
        for i, bucket in enumerate(data.settings.problem_buckets):
            ticked = float(units.ticks[here, i].sum())
            row[bucket] = _or_none(ticked if units.merges else int(ticked), not data.is_pair[number])
            row[f"{bucket}_share"] = _ratio(ticked, units.annotated[here].sum())
        if data.settings.annotated:
            clean = units.clean[here]
            found, judged = float(np.nansum(clean)), int(np.isfinite(clean).sum())
            row[CLEAN_FIELDS[0]] = _or_none(found if units.merges else int(found), data.has_row(number, judged))
            row[CLEAN_FIELDS[1]] = _ratio(found, judged)
        said = int(human[own].sum())
        has_human = data.has_row(number, said)
        row |= {
            "human_utterances": _or_none(said, has_human),
            "human_words": _or_none(int(words[own].sum()), has_human),
            "words_per_utterance": _ratio(words[own].sum(), said),
            "human_questions": _or_none(int(questions[own].sum()), has_human),
            "questions_per_utterance": _ratio(questions[own].sum(), said),
        }
        for i, rating in enumerate(data.rating_names):
            given = units.ratings[here, i] if units.ratings.shape[1] else np.zeros(0)
            known = given[np.isfinite(given)]
            row[f"{rating}_count"] = _or_none(len(known), data.has_row(number, len(known)))
            row[f"{rating}_mean"] = float(known.mean()) if len(known) else float("nan")
        rows.append(row)
    if not rows:
        return pd.DataFrame(columns=["model_nickname", "conversations"])
    frame = pd.DataFrame(rows)
    missing = [name for name in frame.columns if any(row[name] is pd.NA for row in rows)]
    # Shares of annotators add up to counts that need not be whole.
    shares = {name for name in missing if any(isinstance(row[name], float) for row in rows)}
    return frame.astype({name: "Float64" if name in shares else "Int64" for name in missing})


def workers(data: Data) -> pd.DataFrame:
    """`worker_id`, `conversations`, `problems_found`, `avg_problems_per_convo`, most first."""
    count = len(data.workers)
    conversations = np.bincount(data.worker[: data.count], minlength=count)
    found = np.asarray(np.bincount(data.worker, data.problems, count), dtype=np.float64)
    frame = pd.DataFrame({"worker_id": pd.Series(data.workers, dtype=str), "conversations": conversations})
    frame["problems_found"] = pd.Series(found).astype("Int64") if data.settings.annotated else pd.NA
    frame["avg_problems_per_convo"] = found / np.maximum(conversations, 1)
    order = ["avg_problems_per_convo", "problems_found", "worker_id"]
    return frame.sort_values(order, ascending=[False, False, True]).reset_index(drop=True)


_ESTIMATE_COLUMNS = columns(
    "model_nickname metric kind value se low high bootstrap_se bootstrap_low bootstrap_high total workers"
)


def estimates(units: ByConversation) -> pd.DataFrame:
    """A row a model and metric: value, clustered error, interval, bootstrap; `workers` are the clusters."""
    settings = units.data.settings
    rows: list[dict[str, object]] = []
    for number, name in enumerate(units.data.models):
        own = units.model == number
        clusters = units.cluster[own]
        # A model's chance hangs on its own name only: adding a model changes nothing for the others.
        rng = np.random.default_rng([settings.seed, *name.encode()])
        for kind in ("rate", "rating"):
            metrics = [
                metric
                for metric in units.metrics
                if metric.kind == kind and units.data.has_row(number, metric.totals[own].sum())
            ]
            if not metrics:
                continue
            sums = cluster_sums(np.stack([m.sums[own] for m in metrics], axis=1), clusters)
            totals = cluster_sums(np.stack([m.totals[own] for m in metrics], axis=1), clusters)
            boots = bootstrap(sums, totals, rng, settings.bootstrap, settings.confidence, logit=kind == "rate")
            for i, (metric, boot) in enumerate(zip(metrics, boots, strict=True)):
                estimate = metric.estimate(sums[:, i], totals[:, i], settings.confidence)
                names = {"model_nickname": name, "metric": metric.name, "kind": kind}
                resampled = {f"bootstrap_{part}": value for part, value in asdict(boot).items()}
                counts = {"total": estimate.total, "workers": estimate.clusters}
                rows.append({**names, **estimate.interval(), **resampled, **counts})
    return pd.DataFrame(rows, columns=_ESTIMATE_COLUMNS)


_RATING_COLUMNS = [
    *columns("model_nickname question ratings"),
    *(f"rated_{value}" for value in _RATING_VALUES),
    *columns("mean low high z_ratings z_mean z_low z_high"),
]


def ratings(units: ByConversation) -> pd.DataFrame:
    """A row a model and question: distribution of ratings, mean over conversations, and the same standardised per worker."""
    data = units.data
    rows: list[dict[str, object]] = []
    confidence = data.settings.confidence
    for i in range(data.ratings.shape[1]):
        question = data.rating_names[i]
        values = data.ratings[:, i]
        standard = standardise_per_worker(values, data.worker)
        for number, name in enumerate(data.models):
            given = values[(data.model == number) & np.isfinite(values)]
            if not data.has_row(number, len(given)):
                continue
            estimate = _mean_of(units, number, values, confidence, RATING_BOUNDS)
            scaled = _mean_of(units, number, standard, confidence, None)
            row: dict[str, object] = {"model_nickname": name, "question": question, "ratings": len(given)}
            row |= {f"rated_{value}": int((given == value).sum()) for value in _RATING_VALUES}
            row |= {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
            row |= {"z_ratings": scaled.total, "z_mean": scaled.value, "z_low": scaled.low, "z_high": scaled.high}
            rows.append(row)
    return pd.DataFrame(rows, columns=_RATING_COLUMNS)


def _mean_of(
    units: ByConversation, model: int, values: Floats, confidence: float, bounds: tuple[float, float] | None
) -> Estimate:
    averages = units.average(values)
    own = (units.model == model) & np.isfinite(averages)
    clusters = units.cluster[own]
    sums = cluster_sums(averages[own], clusters)
    totals = cluster_sums(np.ones(int(own.sum())), clusters)
    return mean(sums, totals, confidence, bounds)


_COMPARISON_COLUMNS = columns(
    "metric kind model_a model_b value_a value_b difference low high p p_holm test effect effect_size cliffs_delta "
    "detectable needed more_a more_b"
)


def comparisons(units: ByConversation) -> pd.DataFrame:
    """A row a metric and pair of models: difference, interval, p, effect size, power."""
    names = units.data.models
    settings = units.data.settings
    rows: list[dict[str, object]] = []
    for a, b in units.data.pairs_to_compare():
        pair = (units.model == a) | (units.model == b)
        is_a = units.model[pair] == a
        clusters = units.cluster[pair]
        metrics = [metric for metric in units.metrics if units.has_rows(a, b, metric.totals)]
        if not metrics:
            continue
        sums = np.stack([metric.sums[pair] for metric in metrics], axis=1)
        totals = np.stack([metric.totals[pair] for metric in metrics], axis=1)
        name_a, name_b = names[a], names[b]
        rng = np.random.default_rng([settings.seed, *name_a.encode(), 0, *name_b.encode()])
        bounds = [LARGEST_DIFFERENCE[metric.kind] for metric in metrics]
        tests = compare_models(sums, totals, is_a, clusters, rng, bounds, settings.permutations, settings.confidence)
        for i, (metric, test) in enumerate(zip(metrics, tests, strict=True)):
            rows.append(
                _comparison(metric, sums[:, i], totals[:, i], is_a, clusters, settings)
                | {"model_a": name_a, "model_b": name_b}
                | {"low": test.low, "high": test.high, "p": test.p, "test": test.method.value}
            )
    frame = pd.DataFrame(rows, columns=_COMPARISON_COLUMNS)
    # One family: all pairs of models on one metric.
    for metric_name in frame["metric"].unique():
        family = frame["metric"] == metric_name
        frame.loc[family, "p_holm"] = holm(frame.loc[family, "p"].to_list())
    frame["p_holm"] = frame["p_holm"].astype(np.float64)
    order = {metric.name: i for i, metric in enumerate(units.metrics)}
    return frame.sort_values("metric", key=lambda names: names.map(order), kind="stable").reset_index(drop=True)


def _comparison(
    metric: Metric,
    sums: Floats,
    totals: Floats,
    is_a: NDArray[np.bool_],
    clusters: NDArray[np.int64],
    settings: Settings,
) -> dict[str, object]:
    confidence = settings.confidence
    gap = difference(sums, totals, is_a, clusters, confidence)
    sides = []
    for side in (is_a, ~is_a):
        by_worker = cluster_sums(np.stack([sums[side], totals[side]], axis=1), clusters[side])
        sides.append(metric.estimate(by_worker[:, 0], by_worker[:, 1], confidence))
    value_a, value_b = sides
    power = power_to_compare(
        value_a,
        value_b,
        int((totals[is_a] > 0).sum()),
        int((totals[~is_a] > 0).sum()),
        metric.wanted_difference,
        confidence,
        settings.power,
    )
    if metric.kind == "rate":
        effect, size, delta = "Cohen's h", cohens_h(value_a.value, value_b.value), float("nan")
    else:
        given = totals > 0
        own, other = sums[is_a & given], sums[~is_a & given]
        effect, size = "Hedges' g", hedges_g(own, other)
        delta = cliffs_delta(own, other)
    return {
        "metric": metric.name,
        "kind": metric.kind,
        "value_a": value_a.value,
        "value_b": value_b.value,
        "difference": gap.value,
        "effect": effect,
        "effect_size": size,
        "cliffs_delta": delta,
        **asdict(power),
    }


_TURN_COLUMNS = columns("model_nickname bucket exchange messages rate low high")


def turns(units: ByConversation) -> pd.DataFrame:
    """A row a model, bucket and exchange (from 1), with its rate: does a model get worse during a conversation?"""
    data, replies = units.data, units.replies
    rows: list[dict[str, object]] = []
    turn_model, turn_cluster = units.model[replies.conversation], units.cluster[replies.conversation]
    for number, name in enumerate(data.models):
        own = turn_model == number
        exchanges, workers, ticked = replies.exchange[own], turn_cluster[own], replies.ticks[own]
        for exchange in range(min(int(exchanges.max(initial=-1)) + 1, _MOST_EXCHANGES)):
            here = exchanges == exchange
            if not here.any():
                continue
            totals = cluster_sums(np.ones(int(here.sum())), workers[here])
            sums = cluster_sums(ticked[here], workers[here])
            for i, bucket in enumerate(data.settings.problem_buckets):
                estimate = rate(sums[:, i], totals, data.settings.confidence)
                where = {"model_nickname": name, "bucket": bucket, "exchange": exchange + 1}
                found = {"rate": estimate.value, "low": estimate.low, "high": estimate.high}
                rows.append({**where, "messages": estimate.total, **found})
    return pd.DataFrame(rows, columns=_TURN_COLUMNS)


_AGREEMENT_COLUMNS = columns("judged kind items judgments raw nominal ordinal interval conversations low high")


def agreement(data: Data) -> pd.DataFrame:
    """A row a bucket or final rating, and a row an aspect of an item of the study flow that was judged more than once.

    `low` and `high` are the ends of the interval of the nominal alpha for a bucket or a share, of the ordinal one else, from
    a bootstrap over `conversations` (:mod:`model_chat.analysis.alpha_interval`).
    """
    turns = data.corpus.turns
    rows: list[dict[str, object]] = []
    dialogs = np.asarray(data.corpus.conversations["dialog_hash"].to_numpy(), dtype=np.int64)
    of_turns = turns["history"], data.worker[turns["conversation"]], dialogs[turns["conversation"]]
    for i, bucket in enumerate(data.settings.problem_buckets):
        ticked = data.corpus.labels[:, i].astype(np.float64)
        rows.append(_agreement_row(data.settings, bucket, "bucket", ticked, *of_turns, ordered=False))
    of_conversations = dialogs, data.worker[: data.count], dialogs
    for name, given in zip(data.rating_names, data.ratings[: data.count].T, strict=False):  # without ratings, one name
        rows.append(_agreement_row(data.settings, name, "rating", given, *of_conversations, ordered=True))
    if data.corpus.answers:
        from model_chat.analysis.observations import item_observations  # the kinds of items, only where there are any

        for seen in item_observations(data):
            about = seen.values, seen.items, data.worker[seen.records], dialogs[seen.records]
            row = _agreement_row(data.settings, seen.name, seen.kind, *about, ordered=seen.is_ordered)
            if row["items"]:
                rows.append(row)
    return pd.DataFrame(rows, columns=_AGREEMENT_COLUMNS)


def _agreement_row(
    settings: Settings,
    judged: str,
    kind: str,
    values: Floats,
    items: NDArray[np.int64],
    workers: NDArray[np.int64],
    dialogs: NDArray[np.int64],
    ordered: bool,
) -> dict[str, object]:
    found = agreement_of(values, items, workers, ordered)
    counted = count_judgments(values, items, workers)
    # What conversations have in common, such as a greeting, belongs to one of them, whichever file is read first.
    order = np.lexsort((dialogs, items))
    known, first = np.unique(items[order], return_index=True)
    owners = dialogs[order][first]
    of_items = owners if counted is None else owners[np.searchsorted(known, counted.items)]
    level = "ordinal" if ordered else "nominal"
    interval = alpha_interval(counted, of_items, level, settings.confidence, settings.seed, settings.bootstrap)
    return {"judged": judged, "kind": kind, **asdict(found), **asdict(interval)}


def quality(data: Data) -> pd.DataFrame:
    """A row a worker: signs of inattention."""
    words, human = data.conversation_column("human_words"), data.conversation_column("human_utterances")
    with np.errstate(invalid="ignore"):
        per_message = words / human
    return worker_quality(
        workers=data.worker[: data.count],
        worker_names=np.array(data.workers, dtype=object),
        models=data.model[: data.count],
        ratings=data.ratings[: data.count],
        seconds=data.conversation_column("median_seconds"),
        words_per_message=per_message,
        turn_workers=data.worker[data.corpus.turns["conversation"]],
        labels=data.corpus.labels,
    )

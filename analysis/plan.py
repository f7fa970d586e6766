"""Power before launch: how often a study of a given size would find a difference, and how large it has to be.

Variance is split as in :mod:`model_chat.analysis.mixed`: between workers, between a worker's conversations, and within a
conversation; and optionally between workers' preferences for a model. The difference is tested as the analysis tests it, by
Student's t with workers less two degrees of freedom (comparisons: less one), so power is that of the noncentral t
distribution (Cohen 1988, "Statistical Power Analysis", chapter 2; Snijders & Bosker 2012, "Multilevel Analysis", chapter 11,
for the errors of nested designs).
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy import special, stats

from model_chat.analysis.frames import columns
from model_chat.configuration.yaml_files import read_yaml
from model_chat.errors import ConfigurationError

COLUMNS = columns("measure kind difference workers conversations se power workers_needed detectable")
MOST_WORKERS = 100_000
"""Workers up to which the number that is needed is looked for."""
LARGEST = 1e9
"""Of a spread or a difference; nothing is rated on a longer scale."""
MOST_COUNTED = 1_000_000
"""Conversations of a worker, and messages or judgements of a conversation."""
_CERTAIN = 8.0
"""Standard errors beyond the critical value at which a difference is found for certain."""
_Spread = Annotated[float, Field(ge=0, le=LARGEST)]
_Count = Annotated[int, Field(ge=1, le=MOST_COUNTED)]
_Share = Annotated[float, Field(gt=0, lt=1)]


class Design(StrEnum):
    """Who talks with which model."""

    WITHIN = "within"
    """Each worker talks with both, in half of the conversations each."""
    BETWEEN = "between"
    """Each worker talks with one of the two."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Nested(_Strict):
    name: Annotated[str, Field(min_length=1)]
    sd_worker: _Spread | None = None
    """Between workers, in the measure's own unit; None: from the pilot."""
    sd_conversation: _Spread | None = None
    """Between a worker's conversations; None: from the pilot, else 0."""
    sd_preference: _Spread = 0.0
    """Between workers, of what a model gains or loses with them."""


class Rate(_Nested):
    """A share of messages that get a label, or of conversations without a problem (``messages`` 1)."""

    kind: Literal["rate"]
    value: _Share
    """Of the first model."""
    difference: Annotated[float, Field(gt=0, lt=1)]
    messages: _Count = 1
    """Judged in a conversation."""


class Rating(_Nested):
    """A mean of one number a conversation, such as a final rating."""

    kind: Literal["rating"]
    difference: Annotated[float, Field(gt=0, le=LARGEST)]
    sd_residual: Annotated[float, Field(gt=0, le=LARGEST)] | None = None
    """Between a worker's ratings of one model; None: from the pilot."""


class Comparison(_Strict):
    """A share of judgements won, ties as a half, against one half."""

    kind: Literal["comparison"]
    name: Annotated[str, Field(min_length=1)]
    value: _Share
    """The share that the better model wins, above one half."""
    ties: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of judgements that are ties."""
    judgements: _Count = 1
    """In a conversation."""
    sd_worker: _Spread | None = None
    """Between workers' shares; None: from the pilot."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if not 0.5 < self.value <= 1 - self.ties / 2:
            raise ValueError(f"value is {self.value}; it has to be above 0.5 and at most 1 less half of ties")
        return self


class Plan(_Strict):
    """What is planned.

    Attributes:
        conversations_per_worker: of each worker, over both models; even in a design `within`.
        pilot: a `statistics_*.json` of an earlier study, for the spreads that are not given.
    """

    workers: Annotated[list[Annotated[int, Field(ge=4, le=MOST_WORKERS)]], Field(min_length=1)]
    conversations_per_worker: _Count = 1
    design: Design = Design.BETWEEN
    measures: Annotated[list[Annotated[Rate | Rating | Comparison, Field(discriminator="kind")]], Field(min_length=1)]
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    power: _Share = 0.8
    pilot: str | None = None

    @model_validator(mode="after")
    def _is_even(self) -> Self:
        if self.design is Design.WITHIN and self.conversations_per_worker % 2:
            raise ValueError(
                f"conversations_per_worker is {self.conversations_per_worker}; it has to be even where each worker "
                "talks with both models (design: within)"
            )
        return self


def read_plan(path: str) -> Plan:
    """Read a plan and fill in the spreads of its pilot.

    Args:
        path: the YAML file of `--plan`; a relative ``pilot`` is looked for beside it.

    Raises:
        ConfigurationError: with a sentence for every fault.
    """
    file = read_yaml("--plan", path)
    try:
        plan = Plan.model_validate(file.content)
    except ValidationError as error:
        raise ConfigurationError(*(_sentence(path, fault, file.lines) for fault in error.errors())) from None
    pilot = None if plan.pilot is None else _pilot(Path(path).parent / Path(plan.pilot).expanduser())
    faults: list[str] = []
    measures = [_filled(measure, pilot, path, faults) for measure in plan.measures]
    ConfigurationError.raise_if(faults)
    return plan.model_copy(update={"measures": measures})


def _sentence(path: str, fault: Any, lines: Mapping[str, int]) -> str:
    place = [str(part) for part in fault["loc"] if part not in ("rate", "rating", "comparison")]
    where = f", line {lines[place[0]]}" if place and place[0] in lines else ""
    what = fault["msg"].removeprefix("Value error, ")
    return f"--plan: '{path}'{where}, {'.'.join(place) or 'the plan'}: {what[:1].lower()}{what[1:]}."


def _pilot(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"--plan: pilot is '{path}', which can't be read ({error}); give a statistics_*.json of compile_results.py."
        ) from None
    if not isinstance(found, dict) or not {"mixed", "wins"} & set(found):
        raise ConfigurationError(
            f"--plan: pilot is '{path}', which is no statistics_*.json with the key mixed or wins."
        )
    return found


def _filled(
    measure: Rate | Rating | Comparison, pilot: Mapping[str, Any] | None, path: str, faults: list[str]
) -> Rate | Rating | Comparison:
    """Take what a measure leaves open from the pilot."""
    try:
        known = _of_pilot(measure, pilot or {})
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        faults.append(
            f"--plan: '{path}', measure '{measure.name}': the pilot is damaged ({error!r}); give a statistics_*.json of "
            "compile_results.py as it was written."
        )
        return measure
    wanted = [name for name in ("sd_worker", "sd_residual") if getattr(measure, name, 0.0) is None]
    missing = [name for name in wanted if known.get(name) is None]
    if missing:
        reason = f"and the pilot has no measure '{measure.name}'" if pilot is not None else "and there is no pilot"
        faults.append(f"--plan: '{path}', measure '{measure.name}': {' and '.join(missing)} is not given, {reason}.")
    open_ones = {
        name for name in ("sd_worker", "sd_residual", "sd_conversation") if getattr(measure, name, 0.0) is None
    }
    return measure.model_copy(update={name: known.get(name) or 0.0 for name in open_ones})


def _of_pilot(measure: Rate | Rating | Comparison, pilot: Mapping[str, Any]) -> dict[str, float | None]:
    if isinstance(measure, Comparison):
        for row in pilot.get("wins", []):
            if row["se"] and row["workers"] and row["workers"] > 1:
                return {"sd_worker": _spread(_worker_spread(row))}
        return {}
    for row in pilot.get("mixed", []):
        if row["metric"] == measure.name:
            return {name: _spread(row[name]) for name in ("sd_worker", "sd_conversation", "sd_residual")}
    return {}


def _spread(value: Any) -> float | None:
    """A spread of a pilot; None where it has none.

    Raises:
        ValueError: it is no spread.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise ValueError(f"{value!r:.40} is no standard deviation")
    return float(value)


def _worker_spread(row: Mapping[str, Any]) -> float:
    """Standard deviation of workers' shares, from the error that is clustered by worker, by the method of moments."""
    even = row["ties"] + row["both_bad"]
    judgements = row["wins_a"] + row["wins_b"] + even
    single = _variance_of_a_judgement(row["win_rate_a"], even / judgements)
    each = judgements / row["workers"]
    of_worker = row["se"] ** 2 * row["workers"]  # = σ² + (single - σ²)/each
    return math.sqrt(max((of_worker - single / each) / (1 - 1 / each), 0.0)) if each > 1 else 0.0


def _variance_of_a_judgement(value: float, ties: float) -> float:
    """Of a score of 1 for a win, 1/2 for a tie, 0 for a loss, whose mean is ``value``."""
    return value - ties / 4 - value**2


def _single_variance(measure: Rate | Rating | Comparison, plan: Plan) -> tuple[float, float, float]:
    """Effect, the error's square with one worker, and the degrees of freedom that are lost.

    With ``W`` workers the square of the error is that with one worker, divided by ``W``.
    """
    each = plan.conversations_per_worker
    if isinstance(measure, Comparison):
        spread = (measure.sd_worker or 0.0) ** 2
        single = _variance_of_a_judgement(measure.value, measure.ties)
        return measure.value - 0.5, spread + max(single - spread, 0.0) / (measure.judgements * each), 1
    worker, conversation = (measure.sd_worker or 0.0) ** 2, (measure.sd_conversation or 0.0) ** 2
    preference = measure.sd_preference**2
    if isinstance(measure, Rate):
        middle = min(max(measure.value + measure.difference / 2, 0.01), 0.99)
        residual = max(middle * (1 - middle) - worker - conversation, 0.0)
        one = conversation + residual / measure.messages
    else:
        one = conversation + (measure.sd_residual or 0.0) ** 2
    if plan.design is Design.WITHIN:
        return measure.difference, 2 * (preference + one / (each / 2)), 2
    return measure.difference, 4 * (worker + preference + one / each), 2


def power_of(effect: float, variance: float, workers: int, lost: float, confidence: float) -> float:
    """Chance to find ``effect`` in a two-sided t test with ``workers`` - ``lost`` degrees of freedom."""
    freedom = max(workers - lost, 1.0)
    if variance <= 0:
        return 1.0
    critical = float(special.stdtrit(freedom, (1 + confidence) / 2))
    shift = effect / math.sqrt(variance / workers)
    if shift > critical + _CERTAIN:
        return 1.0  # SciPy's noncentral t is NaN far out
    return float(stats.nct.sf(critical, freedom, shift) + np.nan_to_num(stats.nct.cdf(-critical, freedom, shift)))


def planned(plan: Plan) -> pd.DataFrame:
    """A row a measure and number of workers.

    Returns:
        `difference` (comparisons: the share won less one half), `workers`, `conversations` (of all of them), `se`, `power`,
        `workers_needed` for the wanted power (empty above :data:`MOST_WORKERS`), and `detectable`, the smallest difference
        that would be found with it.
    """
    rows = []
    for measure in plan.measures:
        effect, variance, lost = _single_variance(measure, plan)
        needed = _needed(effect, variance, lost, plan)
        for workers in sorted(set(plan.workers)):
            se = math.sqrt(variance / workers)
            reach = float(
                special.stdtrit(workers - lost, (1 + plan.confidence) / 2) + special.stdtrit(workers - lost, plan.power)
            )
            rows.append(
                {
                    "measure": measure.name,
                    "kind": measure.kind,
                    "difference": effect,
                    "workers": workers,
                    "conversations": workers * plan.conversations_per_worker,
                    "se": se,
                    "power": power_of(effect, variance, workers, lost, plan.confidence),
                    "workers_needed": needed,
                    "detectable": reach * se,
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS).astype({"workers_needed": "Int64"})


def _needed(effect: float, variance: float, lost: float, plan: Plan) -> int | None:
    """The smallest number of workers with the wanted power; even between workers, for half of them get each model."""
    candidates = range(4, MOST_WORKERS + 1)
    at = bisect.bisect_left(
        candidates, plan.power, key=lambda workers: power_of(effect, variance, workers, lost, plan.confidence)
    )
    if at == len(candidates):
        return None
    needed = candidates[at]
    return needed + (needed % 2 if plan.design is Design.BETWEEN else 0)


def lines_of(plan: Plan, table: pd.DataFrame) -> Iterator[str]:
    """Say what the plan takes for given, in sentences."""
    who = {
        Design.WITHIN: "each worker talks with both models, in half of the conversations each",
        Design.BETWEEN: "half of the workers talk with each model",
    }[plan.design]
    yield (
        f"{plan.conversations_per_worker} conversation{'s' if plan.conversations_per_worker > 1 else ''} a worker; {who}; "
        f"two-sided tests at {1 - plan.confidence:.2g}; workers needed and detectable are for {plan.power:.0%} power."
    )
    hopeless = [name for name, needed in zip(table["measure"], table["workers_needed"], strict=True) if needed is pd.NA]
    for name in dict.fromkeys(hopeless):
        yield f"{name}: even {MOST_WORKERS:,} workers would not be enough."
    for measure in plan.measures:
        if isinstance(measure, Rate | Rating) and measure.sd_preference == 0 and plan.design is Design.WITHIN:
            yield f"{measure.name}: sd_preference is 0, so workers are taken to agree on which model is better."


def columns_of(table: pd.DataFrame) -> tuple[Sequence[str], list[list[str]]]:
    """Head and rows for printing."""
    head = ("measure", "difference", "workers", "conversations", "power", "workers needed", "detectable")
    rows = [
        [
            str(row["measure"]),
            f"{row['difference']:.3g}",
            f"{row['workers']:,}",
            f"{row['conversations']:,}",
            f"{row['power']:.0%}",
            "–" if row["workers_needed"] is pd.NA else f"{row['workers_needed']:,}",
            f"{row['detectable']:.3g}",
        ]
        for row in table.to_dict("records")
    ]
    return head, rows

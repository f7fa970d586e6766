"""What models cost, and the limit of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model_chat.serving.catalogue import ModelSource, spend_faults
from model_chat.serving.spend import ModelSpend, dollars

FLAG = "mephisto.blueprint.max_model_spend_usd"
PRICED = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 0}


class Pool:
    """Counts what it is told to have spent."""

    def __init__(self, **spent: float) -> None:
        self.spent = spent

    def spent_usd(self) -> Mapping[str, float]:
        return self.spent


def spend(limit: float | None, earlier: float = 0.0, **spent: float) -> ModelSpend:
    return ModelSpend(Pool(**spent), limit, earlier)  # type: ignore[arg-type]  # all that is asked of a pool


def test_earlier_runs_and_all_models_of_this_one_count() -> None:
    assert spend(None, 1.5, a=0.25, b=0.25).total() == 2.0


@pytest.mark.parametrize(
    ("limit", "earlier", "now", "reached"),
    [(None, 100.0, 100.0, False), (2.0, 1.0, 0.5, False), (2.0, 1.0, 1.0, True), (2.0, 3.0, 0.0, True)],
)
def test_the_limit_is_reached_by_the_sum(limit: float | None, earlier: float, now: float, reached: bool) -> None:
    assert spend(limit, earlier, a=now).is_reached() is reached


def test_it_is_said_where_there_is_something_to_say() -> None:
    assert spend(None).text() == ""
    assert spend(None, a=0.0012).text() == "models: $0.0012 spent"
    assert spend(5.0).text() == "models: $0.00 of $5.00 spent"
    assert dollars(1234.5) == "$1,234.50"


def source(nickname: str, **settings: Any) -> ModelSource:
    return ModelSource(nickname, endpoint={"base_url": "https://h/v1", "endpoint_model": "x", **settings})


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_an_amount_of_money(limit: float) -> None:
    (fault,) = spend_faults(FLAG, limit, {})
    assert fault.startswith(f"{FLAG}: {limit} is no amount of money")


def test_a_limit_needs_the_prices_of_every_endpoint_and_of_no_other_model(tmp_path: Path) -> None:
    sources = {
        "local": ModelSource("local", flags="--model fixed_response"),
        "priced": source("priced", **PRICED),
        "bare": source("bare"),
        "half": source("half", usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=None),
        "flags": ModelSource("flags", flags="--model model_chat.agents.endpoint:EndpointAgent --base-url https://h/v1"),
    }
    faults = spend_faults(FLAG, 5.0, sources)
    assert [fault.split("'")[1] for fault in faults] == ["bare", "half", "flags"]
    assert "no usd_per_million_input_tokens and no usd_per_million_output_tokens" in faults[0]
    assert "has no usd_per_million_output_tokens, so" in faults[1]
    assert spend_faults(FLAG, None, sources) == []

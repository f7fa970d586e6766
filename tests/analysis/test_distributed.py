"""On a Dask cluster the same reader gives the same tables."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest

from model_chat.errors import ConfigurationError

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None,
    reason="Dask is not installed: pip install 'model-chat[scale]' (or the dev group of requirements.lock), then run again",
)
TABLES = ("models", "workers", "estimates", "ratings", "comparisons", "turns", "agreement", "quality")


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """Dask sets variables for its workers, such as OMP_NUM_THREADS, and leaves them in this process."""
    with mock.patch.dict(os.environ):
        yield


@needs_dask
@pytest.mark.slow
def test_a_local_cluster_gives_the_same_tables(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for number in range(1600):  # four chunks
        labels = [["rude"] if number % 3 else [], ["odd"] if number % 5 else []]
        save(
            make(
                worker=f"w{number % 41}",
                hit=f"h{number}",
                labels=labels,
                model="ab"[number % 2],
                rating=str(1 + number % 5),
            )
        )
    save("broken")
    here, cluster = compiler(), compiler(dask_scheduler="local")
    pd.testing.assert_frame_equal(here.compile_results(), cluster.compile_results())
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(here.summary, name), getattr(cluster.summary, name))
    assert here.summary.data.corpus.excluded == cluster.summary.data.corpus.excluded


@needs_dask
@pytest.mark.slow
def test_a_running_scheduler_is_used_by_its_address(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    from dask.distributed import LocalCluster

    save(make())
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        assert len(compiler(dask_scheduler=cluster.scheduler_address).compile_results()) == 3


def test_without_dask_one_sentence_says_what_to_install(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    save(make())
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(ConfigurationError, match=r"Dask is not installed; pip install 'model-chat\[scale\]'"):
        compiler(dask_scheduler="local").compile_results()

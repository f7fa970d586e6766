"""Run the row builder over many chunks: in this process, on several, or on a Dask cluster, in one order of results.

Whatever runs it, results come back in the order of the chunks and only a few chunks are on the way at a time, so the
tables are the same and memory does not grow with the corpus.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol

from model_chat.analysis.chunks import Chunk
from model_chat.analysis.rows import RowBuilder
from model_chat.errors import ConfigurationError
from model_chat.records.reading import Source

logger = logging.getLogger(__name__)

CHUNK_SIZE = 500
"""Conversations a chunk: large enough that a chunk's fixed costs vanish, small enough for 20 MB on the way."""
_WORTH_PROCESSES = 2_000
"""Conversations from which starting processes (0.1 s) pays."""
_WINDOW_PER_WORKER = 2
LOCAL_CLUSTER = "local"


class _Result(Protocol):
    """What both kinds of futures have."""

    def result(self) -> Chunk:
        """Wait for the chunk."""


def chunked(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Cut ``sources`` into lists of at most :data:`CHUNK_SIZE`."""
    for start in range(0, len(sources), CHUNK_SIZE):
        yield list(sources[start : start + CHUNK_SIZE])


def run_builder(
    builder: RowBuilder, sources: Sequence[Source], processes: int = 0, dask_scheduler: str | None = None
) -> Iterator[Chunk]:
    """Apply ``builder`` to all ``sources``, in order.

    Args:
        sources: in the order that decides ties.
        processes: 1 reads in this process, more on that many, 0 chooses.
        dask_scheduler: a Dask scheduler's address, or `local`; takes the place of ``processes``.

    Raises:
        ConfigurationError: Dask is asked for and not installed, or its scheduler does not answer.
    """
    if dask_scheduler:
        return _on_dask(builder, sources, dask_scheduler)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = processes or (cores if len(sources) >= _WORTH_PROCESSES else 1)
    if wanted <= 1:
        return (builder(chunk) for chunk in chunked(sources))
    return _on_processes(builder, sources, wanted)


_builder: RowBuilder | None = None
"""The builder of a worker process, set once by the pool's initializer; never used in the main process."""


def _set_builder(builder: RowBuilder) -> None:
    global _builder
    _builder = builder


def _build(chunk: Sequence[Source]) -> Chunk:
    if _builder is None:
        raise RuntimeError("the worker process has no row builder")
    return _builder(chunk)


def _on_processes(builder: RowBuilder, sources: Sequence[Source], processes: int) -> Generator[Chunk]:
    # fork hands the compiler over as it is (a subclass defined in the user's script need not be importable) and starts
    # in milliseconds; elsewhere than on Linux it is unsafe with the system's own threads.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(processes, context, _set_builder, (builder,)) as pool:
        yield from _windowed(lambda chunk: pool.submit(_build, chunk), chunked(sources), _WINDOW_PER_WORKER * processes)


def _on_dask(builder: RowBuilder, sources: Sequence[Source], address: str) -> Generator[Chunk]:
    try:
        distributed = importlib.import_module("dask.distributed")
    except ImportError as error:
        raise ConfigurationError(
            f"--dask-scheduler is '{address}' but Dask is not installed; pip install 'model-chat[scale]' brings it."
        ) from error
    with contextlib.ExitStack() as stack:
        target: Any = address
        if address == LOCAL_CLUSTER:
            # No dashboard: it would listen on a port that nobody asked for.
            target = stack.enter_context(distributed.LocalCluster(threads_per_worker=1, dashboard_address=None))
        try:
            client = stack.enter_context(distributed.Client(target, timeout="20s"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"--dask-scheduler is '{address}', which does not answer ({error}); give the address of a running "
                "scheduler as tcp://host:8786, or local."
            ) from error
        shared = client.scatter(builder, broadcast=True, hash=False)
        workers = max(1, sum(client.nthreads().values()))
        logger.info("reading on %d Dask worker threads", workers)
        yield from _windowed(
            lambda chunk: client.submit(RowBuilder.__call__, shared, chunk, pure=False),
            chunked(sources),
            _WINDOW_PER_WORKER * workers,
        )


def _windowed(
    submit: Callable[[list[Source]], _Result], chunks: Iterable[list[Source]], window: int
) -> Generator[Chunk]:
    """Submit chunks so that at most ``window`` are on the way, and give results in order."""
    pending: deque[_Result] = deque()
    for chunk in chunks:
        pending.append(submit(chunk))
        if len(pending) >= window:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()

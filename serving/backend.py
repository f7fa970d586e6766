"""Chooses where models run: ``mephisto.blueprint.serving``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from model_chat.errors import ConfigurationError, collecting
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import load_model
from model_chat.serving.model import ServedModel, StoppedError
from model_chat.serving.pool import ModelPool
from model_chat.serving.ray_options import RAY, RayOptions

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
"""How often it is looked whether the requester wants the run to end."""


def open_pool(
    args: Any,
    sources: Mapping[str, ModelSource],
    flag: str,
    status: Callable[[str], AbstractContextManager[Any]],
    stopped: Callable[[], bool] = lambda: False,
) -> ModelPool:
    """Load all models of a run, wherever they run.

    Args:
        sources: nickname -> where the model comes from.

    Raises:
        ConfigurationError: a model can't be loaded, or the machines for it are not available.
        StoppedError: ``stopped`` became true; nothing is left running.
    """
    close: Callable[[], None] | None = None
    loading = _Loading(args.task_model_parallel, flag, status, stopped)
    endpoints = {nickname: source for nickname, source in sources.items() if source.is_endpoint}
    sources = {nickname: source for nickname, source in sources.items() if nickname not in endpoints}
    models = loading.endpoints(endpoints)
    if args.serving == RAY and sources:
        from model_chat.serving.ray_serving import ModelsOnRay

        with status(f"Loading {', '.join(sources)} on Ray…"):
            on_ray = ModelsOnRay(sources, args.task_model_parallel, flag, RayOptions.of(args), stopped)
        models += on_ray.models
        close = on_ray.close
    else:
        models += loading.here(sources)
    return ModelPool(
        models,
        args.max_concurrent_responses,
        args.max_model_response_time,
        max_batch_size=args.max_batch_size,
        batch_wait_ms=args.batch_wait_ms,
        close=close,
    )


@dataclass(frozen=True)
class _Loading:
    """How the models of a run are loaded into this process."""

    model_parallel: bool
    flag: str
    status: Callable[[str], AbstractContextManager[Any]]
    stopped: Callable[[], bool]

    def here(self, sources: Mapping[str, ModelSource]) -> list[ServedModel]:
        """Load models into this process; those that name the same weights share them.

        Raises:
            ConfigurationError: models can't be loaded; a sentence for each.
            StoppedError: ``stopped`` became true.
        """
        models: list[ServedModel] = []
        faults: list[str] = []
        for nickname, source in sources.items():
            if self.stopped():
                raise StoppedError
            with collecting(faults), self.status(f"Loading {nickname}…"):
                models.append(load_model(source, self.model_parallel, self.flag))
        ConfigurationError.raise_if(faults)
        for nicknames in sharing(models):
            logger.info(shared_sentence(nicknames))
        return models

    def endpoints(self, sources: Mapping[str, ModelSource]) -> list[ServedModel]:
        """Make the models behind endpoints, and ask each for a first reply, all at the same time.

        Raises:
            ConfigurationError: a model can't reply; a sentence for each.
            StoppedError: ``stopped`` became true.
        """
        if not sources:
            return []
        models: list[ServedModel] = []
        faults: list[str] = []
        for source in sources.values():
            with collecting(faults):
                models.append(load_model(source, self.model_parallel, self.flag))
        ConfigurationError.raise_if(faults)
        threads = ThreadPoolExecutor(len(models), thread_name_prefix="first replies")
        try:
            with self.status(f"Asking {', '.join(sources)} for a first reply…"):
                probes = {threads.submit(model.probe): model.nickname for model in models}
                waiting = set(probes)
                while waiting and not self.stopped():
                    waiting = wait(waiting, timeout=LOOK_SECONDS).not_done
        finally:
            threads.shutdown(wait=False)  # a request that is under way ends by itself
        if waiting:
            raise StoppedError
        for probe, nickname in probes.items():
            try:
                probe.result()
            except ConfigurationError as error:
                faults += [f"{self.flag}: the model '{nickname}': {fault}" for fault in error.faults]
        ConfigurationError.raise_if(faults)
        return models


def sharing(models: Iterable[ServedModel]) -> list[list[str]]:
    """Return the nicknames of models that share weights, a list for each set of weights that has more than one."""
    sets: dict[Hashable, list[str]] = {}
    for model in models:
        sets.setdefault(model.weights, []).append(model.nickname)
    return [nicknames for nicknames in sets.values() if len(nicknames) > 1]


def shared_sentence(nicknames: Sequence[str]) -> str:
    """Say which models share weights."""
    return f"{', '.join(nicknames)} share one set of weights."

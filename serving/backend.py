"""Chooses where models run: ``mephisto.blueprint.serving``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import load_model
from model_chat.serving.model import ServedModel, StoppedError
from model_chat.serving.pool import ModelPool
from model_chat.serving.ray_options import RAY, RayOptions

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
        args: the flags under ``mephisto.blueprint``, checked.
        sources: nickname -> where the model comes from.
        flag: the one that names the models, for error messages.
        status: shows what takes time.
        stopped: whether the requester wants the run to end.

    Raises:
        ConfigurationError: a model can't be loaded, or the machines for it are not available.
        StoppedError: ``stopped`` became true; nothing is left running.
    """
    models: list[ServedModel] = []
    close: Callable[[], None] | None = None
    endpoints = {nickname: source for nickname, source in sources.items() if source.is_endpoint}
    sources = {nickname: source for nickname, source in sources.items() if nickname not in endpoints}
    models.extend(_open_endpoints(endpoints, args.task_model_parallel, flag, status, stopped))
    if args.serving == RAY and sources:
        from model_chat.serving.ray_serving import ModelsOnRay

        with status(f"Loading {', '.join(sources)} on Ray…"):
            on_ray = ModelsOnRay(sources, args.task_model_parallel, flag, RayOptions.of(args), stopped)
        models.extend(on_ray.models)
        close = on_ray.close
    else:
        for nickname, source in sources.items():
            if stopped():
                raise StoppedError
            with status(f"Loading {nickname}…"):
                models.append(load_model(source, args.task_model_parallel, flag))
    return ModelPool(
        models,
        args.max_concurrent_responses,
        args.max_model_response_time,
        max_batch_size=args.max_batch_size,
        batch_wait_ms=args.batch_wait_ms,
        close=close,
    )


def _open_endpoints(
    sources: Mapping[str, ModelSource],
    model_parallel: bool,
    flag: str,
    status: Callable[[str], AbstractContextManager[Any]],
    stopped: Callable[[], bool],
) -> list[ServedModel]:
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
        try:
            models.append(load_model(source, model_parallel, flag))
        except ConfigurationError as error:
            faults += error.faults
    ConfigurationError.raise_if(faults)
    threads = ThreadPoolExecutor(len(models), thread_name_prefix="first replies")
    try:
        with status(f"Asking {', '.join(sources)} for a first reply…"):
            probes = {threads.submit(model.probe): model.nickname for model in models}
            waiting = set(probes)
            while waiting and not stopped():
                waiting = wait(waiting, timeout=LOOK_SECONDS).not_done
    finally:
        threads.shutdown(wait=False)  # a request that is under way ends by itself
    if waiting:
        raise StoppedError
    for probe, nickname in probes.items():
        try:
            probe.result()
        except ConfigurationError as error:
            faults += [f"{flag}: the model '{nickname}': {fault}" for fault in error.faults]
    ConfigurationError.raise_if(faults)
    return models

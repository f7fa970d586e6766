"""The one place where it is decided where models run: ``mephisto.blueprint.serving``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import load_model
from model_chat.serving.model import ServedModel, StoppedError
from model_chat.serving.pool import ModelPool
from model_chat.serving.ray_options import RAY, RayOptions


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
        ConfigurationError: a model can't be loaded, or the machines for it can't be had.
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
    models: list[ServedModel] = [load_model(source, model_parallel, flag) for source in sources.values()]
    faults: list[str] = []
    with status(f"Asking {', '.join(sources)} for a first reply…"), ThreadPoolExecutor(len(models)) as threads:
        probes = {model.nickname: threads.submit(model.probe) for model in models}
        for nickname, probe in probes.items():
            try:
                probe.result()
            except ConfigurationError as error:
                faults += [f"{flag}: the model '{nickname}': {fault}" for fault in error.faults]
    if stopped():
        raise StoppedError
    ConfigurationError.raise_if(faults)
    return models
